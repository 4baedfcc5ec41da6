import math

import numpy as np
import pytest
from against_torch import check, every_dtype, fx_of, layouts, numbers, raises_alike, same
from peers import torch

import ferrox as fx

torch.manual_seed(2)
NAN = math.nan


def r(*shape):
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"])
def test_shapes(name):
    for shape in ((), (1,), (0,), (5,), (3, 4), (2, 3, 4), (2, 0, 3), (4, 1)):
        x = r(*shape)
        for dim in range(-max(x.ndim, 1), max(x.ndim, 1)):
            check(name, x, dim)


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"])
def test_dtypes_and_layouts(name):
    for x in every_dtype(torch.randint(0, 3, (6, 4))):
        if name == "logcumsumexp" and not x.is_floating_point():
            continue
        for each in layouts(x):
            for dim in (0, -1):
                check(name, each, dim, gradients=False, rtol=2e-2 if x.dtype == torch.bfloat16 else None)


def test_dtype_argument_and_in_place():
    x = torch.tensor([1, 2, 3], dtype=torch.int32)
    for name in ("cumsum", "cumprod"):
        check(lambda lib, x, name=name: getattr(lib, name)(x, 0, dtype=lib.float32), x)
        check(lambda lib, x, name=name: getattr(x * 1, name + "_")(0), r(4))


@pytest.mark.parametrize("zeros", [[], [1], [1, 3], [0, 2, 3], [0, 1, 2, 3, 4]])
def test_products_with_zeros_to_the_second_order(zeros):
    x = r(5)
    x[zeros] = 0
    check("cumprod", x, 0)
    check("prod", x)
    check("prod", x.reshape(1, 5), 1)
    y = torch.stack([x, r(5)])
    check("prod", y)
    check("prod", y, 0)
    check("cumprod", y, 1)


def test_third_derivative_of_a_product():
    x = fx_of(torch.tensor([0.0, 2.0, 0.0, 5.0], dtype=torch.float64)).requires_grad_()
    first, = fx.autograd.grad([fx.prod(x)], [x], create_graph=True)
    second, = fx.autograd.grad([first[0]], [x], create_graph=True)
    third, = fx.autograd.grad([second[2]], [x])
    np.testing.assert_array_equal(third.numpy(), [0, 5, 0, 2])


def test_product_over_several_dims():
    x = r(2, 3, 4)
    x[0, 1, 2] = 0
    got = fx_of(x).requires_grad_()
    its = x.clone().requires_grad_()
    mine, theirs = fx.prod(got, (0, 2)), its.prod(2).prod(0)
    same(mine, theirs)
    w = r(3)
    g, = fx.autograd.grad([mine], [got], [fx_of(w)], create_graph=True)
    h, = torch.autograd.grad(theirs, its, w, create_graph=True)
    same(g, h, 1e-9)
    v = r(2, 3, 4)
    same(fx.autograd.grad([g], [got], [fx_of(v)])[0], torch.autograd.grad(h, its, v)[0], 1e-9)


def test_prod_shapes_and_dtypes():
    for shape in ((), (1,), (0,), (5,), (3, 4), (2, 0, 3)):
        x = r(*shape)
        check("prod", x)
        for dim in range(x.ndim):
            check(lambda lib, x, dim=dim: lib.prod(x, dim, True), x)
    for x in every_dtype(torch.randint(0, 3, (4, 3))):
        check("prod", x, gradients=False)
        check("prod", x, 1, gradients=False)


@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_ties_and_nan(name):
    check(name, torch.tensor([1.0, 3.0, 3.0, 2.0, 3.0, 1.0, 1.0], dtype=torch.float64), 0)
    check(name, torch.tensor([1.0, NAN, 0.0, 5.0, NAN, -7.0], dtype=torch.float64), 0)
    assert getattr(fx, name)(fx_of(r(3)), 0)._fields == ("values", "indices")


def test_logcumsumexp_is_stable():
    x = torch.tensor([-math.inf, 700.0, 710.0, -800.0, 710.0], dtype=torch.float64)
    check("logcumsumexp", x, 0, gradients=False)
    check("logcumsumexp", x[1:], 0, order=1)
    check("logcumsumexp", torch.linspace(-30, 30, 9, dtype=torch.float64), 0)


def test_diff():
    x = r(5, 4)
    for n in (0, 1, 2, 5):
        for dim in (0, 1):
            check("diff", x, n, dim)
    check(lambda lib, x, a, b: lib.diff(x, dim=1, prepend=a, append=b), x, r(5, 2), r(5, 1))
    check("diff", torch.tensor([True, False, False, True]))
    check("diff", torch.tensor([3, 9, 4]))
    raises_alike("diff", torch.tensor(1.0), match="diff expects input to be at least one-dimensional")


def test_trapezoids():
    y = r(4, 5)
    at = torch.tensor([0.0, 0.5, 2.0, 2.5, 4.0], dtype=torch.float64)
    for name in ("trapezoid", "cumulative_trapezoid"):
        check(name, y)
        check(name, y, at)
        check(lambda lib, y, name=name: getattr(lib, name)(y, dx=0.3, dim=0), y)
        check(lambda lib, y, x, name=name: getattr(lib, name)(y, x, dim=0), y, at[:4])
        check(name, y, r(4, 5))
    raises_alike("trapezoid", y, at[:3], match="There must be one `x` value for each sample point")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("reverse", [False, True])
def test_linear_scan(dtype, reverse):
    """The recurrence of the gradient of cumprod, through that gradient: r[k] = g[k] + x[k + 1] r[k + 1]."""
    x, g = r(3, 7, 40).to(dtype), r(3, 7, 40).to(dtype)
    for dim in range(3):
        for each in (x, x.transpose(0, 2)):
            w = g if each is x else g.transpose(0, 2)
            got = fx_of(each).requires_grad_()
            its = each.double().requires_grad_()
            mine = fx.cumprod(got, dim)
            theirs = torch.cumprod(its, dim)
            a, = fx.autograd.grad([mine], [got], [fx_of(w)])
            b, = torch.autograd.grad(theirs, its, w.double())
            rtol = {torch.float16: 2e-2, torch.bfloat16: 2e-1, torch.float32: 1e-5}.get(dtype, 1e-10)
            scale = b.abs().amax(dim, True).numpy() + 1
            error = np.abs(numbers(a) - b.numpy()) / scale
            assert error.max() < rtol
