"""Optimisers against PyTorch's, step by step."""

import copy
import math
import pickle

import pytest
from peers import torch

import ferrox as fx

SHAPES = [(3, 4), (4,), (), (2, 0)]


def pair_of_params(seed=0, dtype="float64"):
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(shape, generator=generator, dtype=getattr(torch, dtype)) for shape in SHAPES]
    theirs = [torch.nn.Parameter(value.clone()) for value in values]
    ours = [
        fx.nn.Parameter(fx.tensor(value.tolist(), dtype=getattr(fx, dtype)).reshape(value.shape)) for value in values
    ]
    return ours, theirs


def set_grads(ours, theirs, seed, skip=()):
    generator = torch.Generator().manual_seed(1000 + seed)
    for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        grad = torch.randn(other.shape, generator=generator, dtype=other.dtype)
        if i in skip:
            mine.grad = other.grad = None
        else:
            other.grad = grad
            mine.grad = fx.tensor(grad.tolist(), dtype=mine.dtype).reshape(grad.shape)


def assert_equal(ours, theirs, rtol=1e-12):
    for mine, other in zip(ours, theirs, strict=True):
        a, b = torch.tensor(mine.tolist(), dtype=other.dtype).reshape(other.shape), other.detach()
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.3, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.7), "eps": 1e-3, "weight_decay": 0.2}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.1}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.2, "amsgrad": True}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_same_as_torch(name, options):
    ours, theirs = pair_of_params()
    mine = getattr(fx.optim, name)(ours, **options)
    other = getattr(torch.optim, name)(theirs, **options)
    for step in range(8):
        set_grads(ours, theirs, step)
        mine.step()
        other.step()
        assert_equal(ours, theirs)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradients_that_come_and_go(name, options):
    ours, theirs = pair_of_params()
    mine = getattr(fx.optim, name)(ours, **options)
    other = getattr(torch.optim, name)(theirs, **options)
    for step, skip in enumerate([(0,), (), (1, 2), (0, 1, 2, 3), (), (3,), ()]):
        set_grads(ours, theirs, step, skip)
        mine.step()
        other.step()
        assert_equal(ours, theirs)
    for p, q in zip(ours, theirs, strict=True):
        assert sorted(mine.state[p]) == sorted(other.state[q])
        if "step" in other.state[q]:
            assert float(mine.state[p]["step"]) == float(other.state[q]["step"])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_state_dict_moves_both_ways(name, options):
    ours, theirs = pair_of_params()
    mine = getattr(fx.optim, name)(ours, **options)
    other = getattr(torch.optim, name)(theirs, **options)
    for step in range(3):
        set_grads(ours, theirs, step)
        mine.step()
        other.step()
    state, reference = mine.state_dict(), other.state_dict()
    assert state["state"].keys() == reference["state"].keys()
    assert state["param_groups"] == reference["param_groups"]
    for index, entry in reference["state"].items():
        assert state["state"][index].keys() == entry.keys()

    fresh, _ = pair_of_params()
    for p, q in zip(fresh, ours, strict=True):
        p.data = q.detach().clone()
    again = getattr(fx.optim, name)(fresh, lr=7.0)
    again.load_state_dict(copy.deepcopy(state))
    assert again.param_groups[0]["lr"] == mine.param_groups[0]["lr"]
    for step in range(3, 6):
        set_grads(fresh, theirs, step)
        again.step()
        other.step()
        assert_equal(fresh, theirs)


def test_loading_copies_the_tensors():
    ours, theirs = pair_of_params()
    first = fx.optim.Adam(ours)
    set_grads(ours, theirs, 0)
    first.step()
    state = first.state_dict()
    before = state["state"][0]["exp_avg"].tolist()
    others, _ = pair_of_params()
    second = fx.optim.Adam(others)
    second.load_state_dict(state)
    set_grads(others, theirs, 1)
    second.step()
    assert state["state"][0]["exp_avg"].tolist() == before


def test_hyperparameters_may_change_between_steps():
    ours, theirs = pair_of_params()
    mine, other = fx.optim.SGD(ours, lr=0.1), torch.optim.SGD(theirs, lr=0.1)
    changes = [{}, {"lr": 0.5}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"nesterov": True}, {"momentum": 0.5}]
    for step, change in enumerate(changes):
        mine.param_groups[0].update(change)
        other.param_groups[0].update(change)
        set_grads(ours, theirs, step)
        mine.step()
        other.step()
        assert_equal(ours, theirs)


def test_state_written_by_the_user_counts():
    ours, theirs = pair_of_params()
    mine, other = fx.optim.Adam(ours, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    for step in range(2):
        set_grads(ours, theirs, step)
        mine.step()
        other.step()
    mine.state[ours[0]]["exp_avg"] = fx.zeros_like(ours[0].detach())
    other.state[theirs[0]]["exp_avg"] = torch.zeros_like(theirs[0])
    mine.state[ours[1]]["step"].fill_(20.0)
    other.state[theirs[1]]["step"].fill_(20.0)
    for step in range(2, 5):
        set_grads(ours, theirs, step)
        mine.step()
        other.step()
        assert_equal(ours, theirs)
    assert [float(mine.state[p]["step"]) for p in ours] == [5.0, 23.0, 5.0, 5.0]


def test_parameter_groups():
    ours, theirs = pair_of_params()
    mine = fx.optim.SGD([{"params": ours[:1], "lr": 0.5}, {"params": ours[1:3], "momentum": 0.9}], lr=0.1)
    other = torch.optim.SGD([{"params": theirs[:1], "lr": 0.5}, {"params": theirs[1:3], "momentum": 0.9}], lr=0.1)
    for step in range(4):
        if step == 2:
            mine.add_param_group({"params": ours[3]})
            other.add_param_group({"params": theirs[3]})
        set_grads(ours, theirs, step)
        mine.step()
        other.step()
        assert_equal(ours, theirs)
    assert repr(mine) == repr(other)


def test_mixed_dtypes_in_a_group():
    p, q = fx.nn.Parameter(fx.ones(2, dtype=fx.float64)), fx.nn.Parameter(fx.ones(2, dtype=fx.float32))
    optimizer = fx.optim.Adam([p, q], lr=0.5)
    for _ in range(2):
        p.grad, q.grad = fx.ones_like(p.detach()), fx.ones_like(q.detach())
        optimizer.step()
    assert p.tolist() == pytest.approx([0.0, 0.0], abs=1e-7)
    assert q.tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    assert optimizer.state[q]["exp_avg"].dtype == fx.float32


def test_closure_and_zero_grad():
    p = fx.nn.Parameter(fx.ones(2))
    optimizer = fx.optim.SGD([p], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with fx.no_grad():
        assert optimizer.step(closure).item() == 2.0
    assert p.tolist() == [0.5, 0.5]
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert p.grad is None


def test_step_hooks():
    p = fx.nn.Parameter(fx.ones(1))
    p.grad = fx.ones(1)
    optimizer = fx.optim.SGD([p], lr=0.25)
    calls = []
    pre = optimizer.register_step_pre_hook(lambda opt, args, kwargs: calls.append(("pre", p.item())))
    optimizer.register_step_post_hook(lambda opt, args, kwargs: calls.append(("post", p.item())))
    optimizer.step()
    pre.remove()
    optimizer.step()
    assert calls == [("pre", 1.0), ("post", 0.75), ("post", 0.5)]


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("lr", [-1.0, math.nan, math.inf])
def test_bad_learning_rates(name, lr):
    p = fx.nn.Parameter(fx.ones(1))
    with pytest.raises(ValueError, match=f"Invalid learning rate: {lr}"):
        getattr(fx.optim, name)([p], lr=lr)
    with pytest.raises(ValueError, match=f"Invalid learning rate: {lr}"):
        getattr(fx.optim, name)([{"params": [p], "lr": lr}])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"momentum": -0.1}, "Invalid momentum value: -0.1"),
        ("SGD", {"weight_decay": math.nan}, "Invalid weight_decay value: nan"),
        ("SGD", {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "Nesterov momentum requires"),
        ("Adam", {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
        ("Adam", {"betas": (0.9, math.nan)}, "Invalid beta parameter at index 1: nan"),
        ("Adam", {"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
        ("AdamW", {"weight_decay": math.inf}, "Invalid weight_decay value: inf"),
    ],
)
def test_bad_hyperparameters(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(fx.optim, name)([fx.nn.Parameter(fx.ones(1))], lr=0.1, **options)


def test_bad_parameters():
    p = fx.nn.Parameter(fx.ones(1))
    with pytest.raises(ValueError, match="empty parameter list"):
        fx.optim.SGD([])
    with pytest.raises(TypeError, match="iterable of Tensors or dicts"):
        fx.optim.SGD(p)
    with pytest.raises(TypeError, match="can only optimize Tensors"):
        fx.optim.SGD([1.0])
    with pytest.raises(ValueError, match="can't optimize a non-leaf Tensor"):
        fx.optim.SGD([p * 2])
    with pytest.raises(ValueError, match="more than one parameter group"):
        fx.optim.SGD([{"params": [p]}, {"params": [p]}])
    with pytest.raises(TypeError, match="ordered collections"):
        fx.optim.SGD([{"params": {p}}])
    optimizer = fx.optim.SGD([p])
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict({"state": {}, "param_groups": []})
    with pytest.raises(ValueError, match="doesn't match the size"):
        optimizer.load_state_dict({"state": {}, "param_groups": [{"params": [0, 1]}]})


def test_copy_and_pickle():
    p = fx.nn.Parameter(fx.ones(2))
    optimizer = fx.optim.Adam([p], lr=0.1)
    p.grad = fx.ones(2)
    optimizer.step()
    for clone in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        q = clone.param_groups[0]["params"][0]
        q.grad = fx.ones(2)
        clone.step()
        assert float(clone.state[q]["step"]) == 2.0
        assert float(optimizer.state[p]["step"]) == 1.0
        assert q.tolist() != p.tolist()


def test_own_optimizer():
    class Sign(fx.optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def step(self):
            with fx.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        state = self.state[p]
                        state["step"] = state.get("step", 0) + 1
                        p.sub_(group["lr"] * p.grad.sign())

    p = fx.nn.Parameter(fx.ones(2))
    p.grad = fx.tensor([2.0, -3.0])
    optimizer = Sign([p], 0.5)
    optimizer.step()
    assert p.tolist() == [0.5, 1.5]
    assert optimizer.state_dict()["state"] == {0: {"step": 1}}
