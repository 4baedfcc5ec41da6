"""Indices that repeat: the last value is written, and it alone has a gradient."""

import numpy as np
import pytest

import ferrox as fx

rng = np.random.default_rng(20)


def tensor(*shape):
    return fx.from_numpy(rng.standard_normal(shape)).requires_grad_()


def assigned(x, key, value):
    y = x * 1
    y[key] = value
    return y


# name: (function of x and the value, shape of x, shape of the value)
WRITES = {
    "index_fill": (lambda x, v: x.index_fill(0, fx.tensor([0, 0, 2]), v), (4, 3), ()),
    "index_fill, negative": (lambda x, v: x.index_fill(1, fx.tensor([0, -3, 2]), v), (4, 3), ()),
    "index_fill of a vector": (lambda x, v: x.index_fill(0, fx.tensor([1, 1]), v), (4,), ()),
    "index_copy": (lambda x, v: x.index_copy(0, fx.tensor([0, 2, 0]), v), (4, 3), (3, 3)),
    "index_copy, last": (lambda x, v: x.index_copy(1, fx.tensor([2, 2]), v), (4, 3), (4, 2)),
    "scatter": (lambda x, v: x.scatter(0, fx.tensor([[0, 1], [0, 1], [2, 1]]), v), (4, 3), (3, 2)),
    "scatter, last": (lambda x, v: x.scatter(1, fx.tensor([[0, 0, 2, 2], [1, 1, 1, 1]]), v), (4, 3), (2, 4)),
    "scatter of a vector": (lambda x, v: x.scatter(0, fx.tensor([3, 3, 0]), v), (4,), (3,)),
    "scatter of one number": (lambda x, v: x.scatter(0, fx.tensor([3, 3, 0]), v.expand(3)), (4,), ()),
    "index_put": (lambda x, v: x.index_put((fx.tensor([0, 2, 0]),), v), (4, 3), (3, 3)),
    "index_put, broadcast": (lambda x, v: x.index_put((fx.tensor([0, 2, 0, -4]),), v), (4, 3), ()),
    "index_put, two": (lambda x, v: x.index_put((fx.tensor([0, 2, 0]), fx.tensor([1, 1, -2])), v), (4, 3), (3,)),
    "setitem": (lambda x, v: assigned(x, [0, 0], v), (4, 3), (2, 3)),
    "setitem, broadcast": (lambda x, v: assigned(x, [0, 0], v), (4, 3), (3,)),
    "setitem, middle": (lambda x, v: assigned(x, (slice(None), [1, 1, 0]), v), (2, 3, 4), (2, 3, 4)),
    "setitem, apart": (lambda x, v: assigned(x, ([1, 1], slice(None), [0, 0]), v), (2, 3, 4), (2, 3)),
    "masked_scatter": (lambda x, v: x.masked_scatter(fx.tensor([True, False, True]), v), (2, 3), (5,)),
}


@pytest.mark.parametrize("name", WRITES)
def test_gradient_goes_to_the_value_that_stays(name):
    """The function is affine: its slopes are differences of its values."""
    function, shape, value_shape = WRITES[name]
    x, v = tensor(*shape), tensor(*value_shape)
    y = function(x, v)
    weight = fx.from_numpy(rng.standard_normal(tuple(y.shape)))
    dx, dv = fx.autograd.grad((y * weight).sum(), (x, v))
    base = (y * weight).sum().item()
    for tensor_, grad in ((x, dx), (v, dv)):
        for k in range(tensor_.numel()):
            moved = tensor_.detach().clone()
            moved.view(-1)[k] += 1
            args = (moved, v.detach()) if tensor_ is x else (x.detach(), moved)
            slope = (function(*args) * weight).sum().item() - base
            assert abs(grad.reshape(-1)[k].item() - slope) < 1e-10
    assert fx.autograd.gradcheck(function, (x, v)) and fx.autograd.gradgradcheck(function, (x, v))


def test_many_repeats():
    index = fx.from_numpy(rng.integers(0, 50, 4000))
    x, v = tensor(50, 2), tensor(4000, 2)
    (dv,) = fx.autograd.grad(x.index_put((index,), v).sum(), v)
    last = {int(k): i for i, k in enumerate(index.tolist())}
    expected = np.zeros((4000, 2))
    expected[list(last.values())] = 1
    np.testing.assert_array_equal(dv.numpy(), expected)
