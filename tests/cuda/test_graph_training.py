"""Training steps as captured graphs, optimisers within, and callables made of graphs."""

import warnings

import numpy as np
import pytest

import ferrox as fx
from ferrox import nn
from ferrox.nn import functional

from .graphs import captured, nothing_is_left, warm  # noqa: F401

pytestmark = pytest.mark.usefixtures("cached")


def model_and_step(kind, seed=0, dropout=0.0, **options):
    fx.manual_seed(seed)
    layers = [nn.Linear(6, 16), nn.ReLU(), nn.LayerNorm(16), nn.Dropout(dropout), nn.Linear(16, 4)]
    model = nn.Sequential(*layers).cuda()
    optimiser = kind(model.parameters(), **options)
    x, target = fx.zeros(8, 6, device="cuda"), fx.zeros(8, dtype=fx.int64, device="cuda")

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(model(x), target)
        loss.backward()
        optimiser.step()
        return loss

    return model, optimiser, x, target, step


def batches(n):
    rng = np.random.default_rng(4)
    return [(rng.standard_normal((8, 6), "f4"), rng.integers(0, 4, 8)) for _ in range(n)]


OPTIMISERS = [
    (fx.optim.SGD, {"lr": 0.1}),
    (fx.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (fx.optim.Adam, {"lr": 0.01, "capturable": True}),
    (fx.optim.Adam, {"lr": 0.01, "capturable": True, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    (fx.optim.AdamW, {"lr": 0.01, "capturable": True, "weight_decay": 0.1}),
]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind, options", OPTIMISERS)
def test_training_step_equals_eager(kind, options, dropout):
    data = batches(6)
    eager = {key: value for key, value in options.items() if key != "capturable"}
    model, _, x, target, step = model_and_step(kind, dropout=dropout, **eager)
    losses = []
    for a, b in data:
        x.copy_(fx.from_numpy(a))
        target.copy_(fx.from_numpy(b))
        losses.append(step().item())
    weights = [p.detach().cpu().numpy() for p in model.parameters()]

    model, optimiser, x, target, step = model_and_step(kind, dropout=dropout, **options)
    x.copy_(fx.from_numpy(data[0][0]))
    target.copy_(fx.from_numpy(data[0][1]))
    got = []
    warm(lambda: got.append(step().item()))
    graph, loss = captured(step)
    for a, b in data[1:]:
        x.copy_(fx.from_numpy(a))
        target.copy_(fx.from_numpy(b))
        graph.replay()
        got.append(loss.item())
    np.testing.assert_allclose(got, losses, rtol=1e-6)
    for p, q in zip(model.parameters(), weights, strict=True):
        np.testing.assert_allclose(p.detach().cpu().numpy(), q, rtol=2e-6, atol=1e-7)
    for state in optimiser.state.values():
        if "step" in state:
            assert state["step"].is_cuda and state["step"].item() == 6
    graph.replay()  # reading the state has not cut the graph off from it
    for state in optimiser.state.values():
        assert "step" not in state or state["step"].item() == 7


def test_capturable_adam_as_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape).astype("f4") for shape in [(3, 5), (70,), (), (131, 67)]]
    theirs = [torch.from_numpy(np.array(p)).requires_grad_() for p in start]
    mine = [nn.Parameter(fx.tensor(p, device="cuda")) for p in start]
    lr = fx.tensor(0.05, device="cuda")
    there = torch.optim.AdamW(theirs, lr=0.05, foreach=False, weight_decay=0.1)
    here = fx.optim.AdamW(mine, lr=lr, weight_decay=0.1, capturable=True)
    grads = [fx.zeros_like(p.detach()) for p in mine]
    for p, g in zip(mine, grads, strict=True):
        p.grad = g
    graph = None
    for k in range(5):
        for p, g in zip(theirs, grads, strict=True):
            fresh = rng.standard_normal(tuple(p.shape)).astype("f4")
            p.grad = torch.from_numpy(np.array(fresh))
            g.copy_(fx.tensor(fresh))
        if k == 3:  # the learning rate is read at every replay
            lr.fill_(0.2)
            there.param_groups[0]["lr"] = 0.2
        there.step()
        if k == 0:
            here.step()
            graph, _ = captured(here.step)
        else:
            graph.replay()
    for p, q in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(p.detach().cpu().numpy(), q.detach().numpy(), rtol=3e-6, atol=3e-6)


def test_capturable_adam_with_gaps_and_other_dtypes():
    for dtype in (fx.float64, fx.float16):
        found = []
        for capturable in (False, True):
            fx.manual_seed(1)
            base = fx.randn(6, 8).to("cuda", dtype)
            p = nn.Parameter(base.t()[::2])
            optimiser = fx.optim.Adam([p], lr=0.1, capturable=capturable)
            for k in range(3):
                p.grad = fx.full_like(p.detach(), 0.5 + k)
                optimiser.step()
            found.append(p.detach().cpu().double().numpy())
        np.testing.assert_allclose(*found, rtol=1e-12 if dtype == fx.float64 else 1e-3)


def test_capturable_on_the_cpu_is_as_without():
    found = []
    for capturable in (False, True):
        p = nn.Parameter(fx.ones(3))
        optimiser = fx.optim.Adam([p], capturable=capturable)
        for _ in range(2):
            p.grad = fx.ones(3)
            optimiser.step()
        found.append(p.tolist())
    assert found[0] == found[1]


def test_capturable_state_dict_goes_on():
    _, optimiser, _, _, step = model_and_step(fx.optim.Adam, capturable=True)
    for _ in range(3):
        step()
    saved = optimiser.state_dict()
    model, other, _, _, _ = model_and_step(fx.optim.Adam, capturable=True)
    other.load_state_dict(saved)
    for p in model.parameters():
        p.grad = fx.ones_like(p.detach())
    other.step()
    counts = [state["step"] for state in other.state.values()]
    assert {count.item() for count in counts} == {4.0}
    assert {state["step"].item() for state in optimiser.state.values()} == {3.0}


def test_a_parameter_that_gets_a_gradient_later_counts_for_itself():
    first, second = (nn.Parameter(fx.ones(2, device="cuda")) for _ in range(2))
    optimiser = fx.optim.Adam([first, second], capturable=True)
    for given in [(first, second), (first,), (first, second)]:
        optimiser.zero_grad()
        for p in given:
            p.grad = fx.ones(2, device="cuda")
        optimiser.step()
    assert optimiser.state[first]["step"].item() == 3 and optimiser.state[second]["step"].item() == 2


def test_adam_needs_capturable():
    _, _, _, _, step = model_and_step(fx.optim.Adam)
    warm(step)
    with pytest.raises(RuntimeError, match=r"capture of step\(\) for an instance of Adam but .* capturable is False"):
        captured(step)


@pytest.mark.parametrize("kind, options", [OPTIMISERS[1], OPTIMISERS[2]])
def test_the_first_step_must_come_before_the_capture(kind, options):
    _, _, _, _, step = model_and_step(kind, **options)
    with pytest.raises(RuntimeError, match="call step\\(\\) once for the same parameters before the capture"):
        captured(step)
    warm(step)
    graph, loss = captured(step)
    graph.replay()
    assert np.isfinite(loss.item())


def test_lr_scheduler_with_a_tensor():
    p = nn.Parameter(fx.ones(2, device="cuda"))
    optimiser = fx.optim.Adam([p], lr=fx.tensor(0.1, device="cuda"), capturable=True)
    schedule = fx.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
    p.grad = fx.ones(2, device="cuda")
    optimiser.step()
    graph, _ = captured(optimiser.step)
    seen = [p.tolist()[0]]
    for _ in range(2):
        schedule.step()
        graph.replay()
        seen.append(p.tolist()[0])
    np.testing.assert_allclose(np.diff(seen), [-0.05, -0.025], rtol=1e-4)


# ---- callables made of graphs

def test_graphed_callables_train_as_eager():
    def train(graphed):
        fx.manual_seed(0)
        first = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.2)).cuda()
        second = nn.Linear(8, 2).cuda()
        optimiser = fx.optim.Adam([*first.parameters(), *second.parameters()], lr=0.05)
        if graphed:
            sample = fx.zeros(4, 5, device="cuda"), fx.zeros(4, 8, device="cuda", requires_grad=True)
            first, second = fx.cuda.make_graphed_callables((first, second), tuple((each,) for each in sample))
        fx.cuda.manual_seed(9)
        losses = []
        for k in range(4):
            x = fx.tensor(np.random.default_rng(k).standard_normal((4, 5)), dtype=fx.float32).cuda()
            optimiser.zero_grad()
            hidden = first(x)
            loss = second(hidden if k % 2 else hidden * 1).square().mean()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        first.eval()
        return losses, second(first(x)).detach().cpu().numpy()

    losses, outputs = train(False)
    got, made = train(True)
    np.testing.assert_allclose(got, losses, rtol=1e-6)
    np.testing.assert_allclose(made, outputs, rtol=1e-5)


def test_graphed_function_of_nested_tensors():
    def function(pair, scale):
        return {"sum": pair[0] * scale + pair[1], "count": (pair[0] > 0).sum()}

    sample = ((fx.ones(3, device="cuda", requires_grad=True), fx.ones(3, device="cuda")), fx.ones(1, device="cuda"))
    graphed = fx.cuda.make_graphed_callables(function, sample)
    a = fx.tensor([1.0, -2.0, 3.0], device="cuda").requires_grad_()
    made = graphed((a, fx.full((3,), 10.0, device="cuda")), fx.full((1,), 4.0, device="cuda"))
    assert made["sum"].tolist() == [14.0, 2.0, 22.0] and made["count"].item() == 2
    (made["sum"] * fx.tensor([1.0, 2.0, 3.0], device="cuda")).sum().backward()
    assert a.grad.tolist() == [4.0, 8.0, 12.0]
    with pytest.raises(RuntimeError, match="shapes and dtypes of the sample"):
        graphed((fx.ones(4, device="cuda"), a), a)


def test_a_capture_that_is_not_empty_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph, y = captured(lambda: fx.zeros(3, device="cuda"))
    graph.replay()
    assert y.tolist() == [0.0] * 3
