"""What an optimiser is given: hyperparameters, groups, gradients and loaded state, fitting or not."""

import math

import pytest

import ferrox as fx

ALL = ["SGD", "Adam", "AdamW"]
OPTIONS = {"SGD": {"lr": 0.125, "momentum": 0.5}, "Adam": {"lr": 0.125, "amsgrad": True}, "AdamW": {"lr": 0.125}}
ROLES = {"SGD": ["momentum_buffer"], "Adam": ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
         "AdamW": ["exp_avg", "exp_avg_sq"]}  # fmt: skip


def parameter(*shape, dtype=fx.float32, seed=0):
    p = fx.nn.Parameter(fx.ones(shape or (3,), dtype=dtype))
    p.grad = fx.full_like(p.detach(), 0.5)
    return p


def build(name, params, **options):
    return getattr(fx.optim, name)(params, **{**OPTIONS[name], **options})


# ---- loaded state


@pytest.mark.parametrize("dtype", ["int8", "int64", "float64", "float16", "uint8"])
@pytest.mark.parametrize("name", ALL)
def test_loaded_state_is_cast_to_the_parameters_dtype(name, dtype):
    p = parameter()
    optimizer = build(name, [p])
    optimizer.step()
    state = optimizer.state_dict()
    for role in ROLES[name]:
        state["state"][0][role] = fx.tensor([1, 2, 3], dtype=getattr(fx, dtype))
    steps = state["state"][0].get("step")
    expected = parameter()
    exact = build(name, [expected])
    for role in ROLES[name]:
        exact.state[expected][role] = fx.tensor([1.0, 2.0, 3.0])
    if steps is not None:
        exact.state[expected]["step"] = steps.clone()
    p = parameter()
    optimizer = build(name, [p])
    optimizer.load_state_dict(state)
    assert {optimizer.state[p][role].dtype for role in ROLES[name]} == {fx.float32}
    if steps is not None:
        assert optimizer.state[p]["step"].dtype == fx.float32
    optimizer.step()
    exact.step()
    assert p.tolist() == expected.tolist()


@pytest.mark.parametrize("step", [3, 3.0, fx.tensor(3.0), fx.tensor(3)])
def test_counts_of_steps_of_every_kind(step):
    p, q = parameter(), parameter()
    one, two = build("Adam", [p]), build("Adam", [q])
    for _ in range(3):
        one.step()
    state = one.state_dict()
    state["state"][0]["step"] = step
    with fx.no_grad():
        q.copy_(p)
    two.load_state_dict(state)
    one.step()
    two.step()
    assert p.tolist() == q.tolist()
    assert float(two.state[q]["step"]) == 4.0


@pytest.mark.parametrize("name", ALL)
def test_state_of_another_shape_is_named_and_nothing_taken(name):
    first, second = parameter(2), parameter(3, 2)
    optimizer = build(name, [("w", first), ("b", second)])
    optimizer.step()
    for role in ROLES[name]:
        for shape in ((2, 3), (6,), (3, 2, 1), ()):
            state = optimizer.state_dict()
            state["state"] = {key: dict(value) for key, value in state["state"].items()}
            state["state"][1][role] = fx.ones(shape)
            before = [p.tolist() for p in (first, second)]
            with pytest.raises(ValueError, match=rf"\[{name}\] the {role} of parameter 1 \(b\) does not fit it: "
                                                 rf"expected shape \(3, 2\), got \({str(shape)[1:-1]}\)"):
                optimizer.load_state_dict(state)
            other = build(name, [("w", first), ("b", second)])
            other.state[second][role] = fx.ones(shape)
            if name != "SGD":
                other.state[second]["step"] = 1
            with pytest.raises(ValueError, match=f"the {role} of parameter 1"):
                other.step()
            assert [p.tolist() for p in (first, second)] == before
    optimizer.step()


@pytest.mark.parametrize("name", ALL)
def test_state_put_in_by_hand_has_to_fit(name):
    p = parameter()
    for wrong, said in ((fx.ones(3, dtype=fx.int8), "expected dtype float32, got int8"),
                        (fx.ones(3, dtype=fx.float64), "expected dtype float32, got float64"),
                        ([1.0, 2.0, 3.0], "expected shape \\(3,\\), got list")):  # fmt: skip
        optimizer = build(name, [p])
        optimizer.state[p][ROLES[name][0]] = wrong
        with pytest.raises(ValueError, match=rf"\[{name}\] the {ROLES[name][0]} of parameter 0 .*{said}"):
            optimizer.step()
    assert p.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ALL)
def test_a_parameter_that_changes_under_the_optimiser(name):
    one, two = parameter(), parameter()
    optimizer = build(name, [one, two])
    optimizer.step()
    before = one.tolist()
    two.data = two.data.double()
    with pytest.raises(ValueError, match="the gradient of parameter 1 does not fit it: expected dtype float64, got"):
        optimizer.step()
    two.grad = fx.ones(3, dtype=fx.float64)
    with pytest.raises(ValueError, match=f"the {ROLES[name][0]} of parameter 1 .* expected dtype float64, got float32"):
        optimizer.step()
    assert one.tolist() == before
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    assert one.tolist() != before
    assert optimizer.state[two][ROLES[name][0]].dtype == fx.float64


@pytest.mark.parametrize("name", ALL)
def test_state_and_pytorch_both_ways(name):
    torch = pytest.importorskip("torch")

    def theirs():
        p = torch.nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3))
        return p, getattr(torch.optim, name)([p], **OPTIONS[name])

    def ours():
        p = fx.nn.Parameter(fx.linspace(-1, 1, 6).reshape(2, 3))
        return p, build(name, [p])

    def train(p, optimizer, lib, steps):
        for k in steps:
            p.grad = lib.full((2, 3), 0.25 * (k + 1))
            optimizer.step()

    (p, mine), (q, other) = ours(), theirs()
    train(p, mine, fx, range(3))
    train(q, other, torch, range(3))
    # Theirs into ours, tensors and all.
    again = fx.nn.Parameter(fx.from_dlpack(q.detach()).clone())
    taken = build(name, [again], lr=9.0)
    taken.load_state_dict(other.state_dict())
    assert taken.param_groups[0]["lr"] == 0.125
    # Ours into theirs.
    state = mine.state_dict()
    back = torch.nn.Parameter(torch.from_dlpack(p.detach()).clone())
    given = getattr(torch.optim, name)([back], lr=9.0)
    # PyTorch does not copy what it loads.
    entries = {
        k: {role: torch.from_dlpack(t).clone() for role, t in entry.items()} for k, entry in state["state"].items()
    }
    given.load_state_dict({"state": entries, "param_groups": state["param_groups"]})
    for each, optimizer, lib in ((p, mine, fx), (q, other, torch), (again, taken, fx), (back, given, torch)):
        train(each, optimizer, lib, range(3, 6))
    for each in (q, again, back):
        assert each.reshape(-1).tolist() == pytest.approx(p.reshape(-1).tolist(), rel=1e-6)


# ---- what a constructor is given


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lr": "fast"}, TypeError, "Invalid learning rate: expected a number, got str"),
        ({"lr": None}, TypeError, "Invalid learning rate: expected a number, got NoneType"),
        ({"lr": fx.ones(2)}, ValueError, "Tensor lr must be 1-element"),
        ({"weight_decay": "x"}, TypeError, "Invalid weight_decay value: expected a number, got str"),
        ({"foreach": True, "fused": True}, RuntimeError, "`fused` and `foreach` cannot be `True` together"),
        ({"differentiable": True}, ValueError, r"\] differentiable=True is not supported"),
    ],
)
@pytest.mark.parametrize("name", ALL)
def test_bad_hyperparameters(name, options, error, message):
    with pytest.raises(error, match=message):
        getattr(fx.optim, name)([parameter()], **options)


def test_betas_are_a_pair():
    for betas in (0.9, (0.9,), (0.9, 0.99, 0.999), None):
        with pytest.raises(ValueError, match="Invalid betas: expected a pair of numbers"):
            fx.optim.Adam([parameter()], betas=betas)


@pytest.mark.parametrize("name", ALL)
def test_bad_groups_are_named_and_left_out(name):
    optimizer = build(name, [parameter()])
    for group, error, message in (
        ({"lr": 0.1}, KeyError, rf"\[{name}\] a parameter group needs the key 'params', got a dict of 'lr'"),
        ({}, KeyError, "got a dict of nothing"),
        ({"params": [parameter()], "lr": math.nan}, ValueError, "Invalid learning rate: nan"),
        ({"params": optimizer.param_groups[0]["params"]}, ValueError, "more than one parameter group"),
        ({"params": [parameter() * 2]}, ValueError, "non-leaf"),
        ({"params": [3]}, TypeError, "one of the params is builtins.int"),
        ([parameter()], TypeError, "param_group must be a dict"),
    ):
        with pytest.raises(error, match=message):
            optimizer.add_param_group(group)
        assert len(optimizer.param_groups) == 1
    for params in (None, 3, {"w": parameter()}, parameter()):
        with pytest.raises(TypeError, match=r"iterable of Tensors or dicts, but got \w+: pass model.parameters\(\)"):
            build(name, params)
    optimizer.add_param_group({"params": parameter(2)})
    optimizer.step()
    assert [group["params"][0].tolist() != [1.0] * n for group, n in zip(optimizer.param_groups, (3, 2), strict=True)]


@pytest.mark.parametrize("name", ALL)
def test_groups_that_lack_keys_get_the_defaults(name):
    optimizer = build(name, [parameter()])
    optimizer.step()
    state = optimizer.state_dict()
    state["param_groups"] = [{"params": [0], "lr": 0.5}]
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[0]["maximize"] is False
    optimizer.step()


@pytest.mark.parametrize("name", ALL)
def test_rates_in_tensors(name):
    p, q = parameter(), parameter()
    lr = fx.tensor([0.25])
    one, two = build(name, [p], lr=lr), build(name, [q], lr=0.25)
    for k in range(4):
        one.step()
        two.step()
        assert p.tolist() == q.tolist()
        lr.fill_(0.5**k)
        two.param_groups[0]["lr"] = 0.5**k


# ---- gradients


def owners():
    model = fx.nn.Linear(2, 2)
    return [(model.parameters, model.zero_grad),
            (model.parameters, fx.optim.SGD(model.parameters(), lr=0.1).zero_grad)]  # fmt: skip


@pytest.mark.parametrize("which", [0, 1], ids=["module", "optimiser"])
def test_zeroing_is_in_place(which):
    parameters, zero_grad = owners()[which]
    flat = fx.ones(6)
    weight, bias = parameters()
    weight.grad, bias.grad = flat[:4].view(2, 2), flat[4:]
    held = weight.grad
    zero_grad(set_to_none=False)
    assert weight.grad is held
    assert flat.tolist() == [0.0] * 6
    (weight.sum() * 3).backward()
    assert flat.tolist() == [3.0] * 4 + [0.0] * 2
    zero_grad()
    assert weight.grad is None
    assert flat.tolist() == [3.0] * 4 + [0.0] * 2


@pytest.mark.parametrize("which", [0, 1], ids=["module", "optimiser"])
def test_zeroing_lets_go_of_a_graph(which):
    parameters, zero_grad = owners()[which]
    weight, _ = parameters()
    (weight**3).sum().backward(create_graph=True)
    assert weight.grad.grad_fn is not None
    zero_grad(set_to_none=False)
    assert weight.grad.grad_fn is None
    assert not weight.grad.requires_grad
    assert not weight.grad.any()


@pytest.mark.parametrize("name", ALL)
def test_closures(name):
    p = fx.nn.Parameter(fx.tensor([2.0]))
    optimizer = build(name, [p])
    calls = []

    def closure():
        assert fx.is_grad_enabled()
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        calls.append(loss.item())
        return loss

    with fx.no_grad():
        loss = optimizer.step(closure)
    assert (loss.item(), calls) == (4.0, [4.0])
    assert p.item() < 2.0

    def broken():
        raise KeyError("no data")

    before = p.item()
    with pytest.raises(KeyError, match="no data"):
        optimizer.step(broken)
    assert p.item() == before
    assert optimizer.step(lambda: 1.5) == 1.5
