"""Transformations of functions, against `torch.func` and `torch.autograd.functional`."""

import pytest
from peers import torch

import ferrox as fx


def _same(ours, theirs):
    if isinstance(theirs, torch.Tensor):
        fx.testing.assert_close(ours.tolist(), theirs.tolist(), rtol=1e-9, atol=1e-9)
        assert tuple(ours.shape) == tuple(theirs.shape) and ours.requires_grad == theirs.requires_grad
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            _same(ours[key], theirs[key])
    elif isinstance(theirs, (tuple, list)):
        assert type(ours) is type(theirs) and len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=False):
            _same(a, b)
    else:
        assert ours == theirs


def _both(program):
    _same(program(fx, fx.func), program(torch, torch.func))


def _x(m, *values):
    return m.tensor(values or (0.3, -0.7, 1.2), dtype=m.float64)


def _scalar(x, w=None):
    return (x * x * x).sum() * (1.0 if w is None else w)


PROGRAMS = {
    "grad": lambda m, f: f.grad(_scalar)(_x(m)),
    "argnums": lambda m, f: f.grad(lambda x, w: (x * w).sum(), argnums=(1, 0))(_x(m), _x(m, 1.0, 2.0, 3.0)),
    "negative argnum": lambda m, f: f.grad(lambda x, w: (x * w * w).sum(), argnums=-1)(_x(m), _x(m, 1.0, 2.0, 3.0)),
    "one in a tuple": lambda m, f: f.grad(_scalar, argnums=(0,))(_x(m)),
    "has_aux": lambda m, f: f.grad(lambda x: (_scalar(x), {"double": x * 2}), has_aux=True)(_x(m)),
    "grad_and_value": lambda m, f: f.grad_and_value(_scalar)(_x(m)),
    "grad_and_value aux": lambda m, f: f.grad_and_value(lambda x: (_scalar(x), x * 2), has_aux=True)(_x(m)),
    "dict": lambda m, f: f.grad(lambda p: (p["w"] * p["b"][0]).sum())({"w": _x(m), "b": [_x(m, 1.0, 2.0, 3.0)]}),
    "nested": lambda m, f: f.grad(f.grad(f.grad(lambda x: x ** 5)))(_x(m, 2.0)[0]),
    "closed over": lambda m, f: f.grad(lambda x: f.grad(lambda y: x * y * y)(x))(_x(m, 3.0)[0]),
    "constant": lambda m, f: f.grad(lambda x: x.detach().sum())(_x(m)),
    "vjp": lambda m, f: f.vjp(lambda x: x.exp(), _x(m))[1](_x(m, 1.0, 2.0, 3.0)),
    "vjp value": lambda m, f: f.vjp(lambda x: x.exp(), _x(m))[0],
    "vjp two": lambda m, f: f.vjp(lambda x, y: (x * y, x + y), _x(m), _x(m))[1]((_x(m), _x(m, 1.0, 2.0, 3.0))),
    "vjp aux": lambda m, f: f.vjp(lambda x: (x.exp(), x), _x(m), has_aux=True)[2],
    "jvp": lambda m, f: f.jvp(lambda x: x.exp() * x.sum(), (_x(m),), (_x(m, 1.0, 2.0, 3.0),)),
    "jvp two": lambda m, f: f.jvp(lambda x, y: (x * y).sum(), (_x(m), _x(m)), (_x(m, 1.0, 2.0, 3.0), _x(m))),
    "jacrev": lambda m, f: f.jacrev(lambda x: m.outer(x, x.exp()))(_x(m)),
    "jacfwd": lambda m, f: f.jacfwd(lambda x: m.outer(x, x.exp()))(_x(m)),
    "jacrev two": lambda m, f: f.jacrev(lambda x, y: x * y.sum(), argnums=(0, 1))(_x(m), _x(m, 1.0, 2.0)),
    "jacfwd two": lambda m, f: f.jacfwd(lambda x, y: x * y.sum(), argnums=(0, 1))(_x(m), _x(m, 1.0, 2.0)),
    "jacrev nest": lambda m, f: f.jacrev(lambda p: {"s": p["a"] * 2, "t": p["a"].sum()})({"a": _x(m)}),
    "jacrev aux": lambda m, f: f.jacrev(lambda x: (x * x, x), has_aux=True)(_x(m)),
    "hessian": lambda m, f: f.hessian(lambda x: (x * x).prod() + x.exp().sum())(_x(m)),
    "hessian two": lambda m, f: f.hessian(lambda x, y: (x * y * y).sum(), argnums=(0, 1))(_x(m), _x(m, 1.0, 2.0, 3.0)),
    "jacobian of gradient": lambda m, f: f.jacfwd(f.grad(lambda x: (x.sin() * x).sum()))(_x(m)),
    "under no_grad": lambda m, f: _under_no_grad(m, f),
}


def _under_no_grad(m, f):
    with m.no_grad():
        return f.grad(_scalar)(_x(m))


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_torch_func(name):
    _both(PROGRAMS[name])


def test_results_are_differentiable_with_respect_to_what_is_closed_over():
    for m, f in ((fx, fx.func), (torch, torch.func)):
        w = m.tensor([1.0, 2.0, 3.0], dtype=m.float64, requires_grad=True)
        g = f.grad(lambda x, w=w: (x * x * w * w).sum())(_x(m))
        g.sum().backward()
        fx.testing.assert_close(w.grad.tolist(), (4.0 * _x(m) * w.detach()).tolist(), rtol=1e-12, atol=1e-12)


def test_inputs_that_require_grad_are_reached():
    for m, f in ((fx, fx.func), (torch, torch.func)):
        x = _x(m).requires_grad_()
        f.grad(_scalar)(x).sum().backward()
        fx.testing.assert_close(x.grad.tolist(), (6.0 * x.detach()).tolist(), rtol=1e-12, atol=1e-12)


def test_value_and_grad_and_hvp():
    value, g = fx.func.value_and_grad(_scalar)(_x(fx, 2.0))
    assert value.item() == 8.0 and g.tolist() == [12.0]
    (value, aux), g = fx.func.value_and_grad(lambda x: (_scalar(x), "aux"), has_aux=True)(_x(fx, 2.0))
    assert (value.item(), aux) == (8.0, "aux")
    assert fx.func.hvp(_scalar, (_x(fx, 2.0),), (_x(fx, 3.0),)).tolist() == [36.0]
    a, b = fx.func.hvp(lambda x, y: (x * y).sum(), (_x(fx, 2.0), _x(fx, 5.0)), (_x(fx, 3.0), _x(fx, 7.0)))
    assert a.tolist() == [7.0] and b.tolist() == [3.0]


def test_a_vjp_may_be_used_often():
    y, back = fx.func.vjp(lambda x: x.exp(), _x(fx))
    first, second = back(fx.ones_like(y)), back(fx.ones_like(y) * 2.0)
    fx.testing.assert_close(second[0], first[0] * 2.0)


@pytest.mark.parametrize("call, error", [
    (lambda f, x: f.grad(lambda x: x * 2)(x), RuntimeError),
    (lambda f, x: f.grad(lambda x: 3.0)(x), RuntimeError),
    (lambda f, x: f.grad(_scalar, argnums=2)(x), RuntimeError),
    (lambda f, x: f.grad(lambda x: x.sum(), has_aux=True)(x), RuntimeError),
    (lambda f, x: f.jvp(lambda x: x, x, x), (TypeError, RuntimeError)),
])
def test_misuse(call, error):
    with pytest.raises(error):
        call(fx.func, _x(fx))


FUNCTIONAL = {
    "jacobian": lambda m, f: f.jacobian(lambda x: x.exp() * x.sum(), _x(m)),
    "jacobian two": lambda m, f: f.jacobian(lambda x, y: (x * y.sum(), y * 2), (_x(m), _x(m, 1.0, 2.0))),
    "jacobian graph": lambda m, f: f.jacobian(lambda x: x * x, _x(m).requires_grad_(), create_graph=True),
    "hessian": lambda m, f: f.hessian(lambda x: x.exp().prod(), _x(m)),
    "hessian two": lambda m, f: f.hessian(lambda x, y: (x * y * y).sum(), (_x(m), _x(m, 1.0, 2.0, 3.0))),
    "vjp": lambda m, f: f.vjp(lambda x: x.exp(), _x(m), _x(m, 1.0, 2.0, 3.0)),
    "vjp scalar": lambda m, f: f.vjp(lambda x: x.exp().sum(), _x(m)),
    "jvp": lambda m, f: f.jvp(lambda x: x.exp() * x.sum(), _x(m), _x(m, 1.0, 2.0, 3.0)),
    "hvp": lambda m, f: f.hvp(lambda x: x.exp().prod(), _x(m), _x(m, 1.0, 2.0, 3.0)),
    "vhp": lambda m, f: f.vhp(lambda x, y: (x * y * y).sum(), (_x(m), _x(m)), (_x(m, 1.0, 2.0, 3.0), _x(m))),
    "unused": lambda m, f: f.jacobian(lambda x, y: x * 2, (_x(m), _x(m, 1.0, 2.0))),
}


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_as_torch_autograd_functional(name):
    _same(FUNCTIONAL[name](fx, fx.autograd.functional), FUNCTIONAL[name](torch, torch.autograd.functional))


def test_strict():
    for m in (fx, torch):
        with pytest.raises(RuntimeError, match="independent of"):
            m.autograd.functional.jacobian(lambda x, y: x * 2, (_x(m), _x(m)), strict=True)


def test_functional_call():
    nn = pytest.importorskip("ferrox.nn")
    model = nn.Linear(3, 2)
    values = {name: p.detach() * 0.0 + 1.0 for name, p in model.named_parameters()}
    before = {name: p.tolist() for name, p in model.named_parameters()}
    x = fx.tensor([[1.0, 2.0, 3.0]])
    assert fx.func.functional_call(model, values, x).tolist() == [[7.0, 7.0]]
    g = fx.func.grad(lambda p: fx.func.functional_call(model, p, (x,)).sum())(values)
    assert g["weight"].tolist() == [[1.0, 2.0, 3.0]] * 2 and g["bias"].tolist() == [1.0, 1.0]
    assert {name: p.tolist() for name, p in model.named_parameters()} == before
