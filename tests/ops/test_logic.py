"""Bounds, choosing and closeness, against PyTorch."""

import math

from against_torch import check, every_dtype, fx_of, raises_alike, same
from peers import torch

import ferrox as fx

torch.manual_seed(0)
NAN, INF = math.nan, math.inf
SPECIAL = torch.tensor(
    [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 1.5, 2.5, -1.5, 20.0, -20.0, 100.0, -100.0, 1e-05, 1e+20,
     -1e+20, INF, -INF, NAN],
    dtype=torch.float64,
)


def r(*shape, low=-2.0, high=2.0):
    return torch.rand(shape, dtype=torch.float64) * (high - low) + low


def test_clamp():
    a, low, high = r(3, 4), r(4, low=-1, high=0.5), r(3, 1, low=-0.5, high=1)
    for bounds in ((-0.5, 0.5), (None, 0.5), (-0.5, None), (1, -1), (low, high), (None, high), (low, None)):
        check(
            lambda lib, x, *b, low=bounds[0], high=bounds[1]: lib.clamp(
                x, fx_of(low) if lib is fx else low, fx_of(high) if lib is fx else high
            ),
            a,
        )
    check("clamp", a, low, high)
    check("clamp", SPECIAL, -1, 2.0, order=1)
    check("clip", SPECIAL, -1.0, order=1)
    for x in every_dtype(torch.arange(6)):
        if x.dtype != torch.bool:
            check("clamp", x, 1, 3, gradients=False)
            check("clamp", x, 0.5, 3.5, gradients=False)
    check("clamp", torch.tensor([2**62 + 1, -5]), -(2**62) - 1, 2**62 + 3)
    raises_alike("clamp", a, match="At least one of 'min' or 'max' must not be None")


def test_where_and_masked_fill():
    a, b, mask = r(3, 4), r(4), r(3, 1) > 0
    check(lambda lib, m, x, y: lib.where(m, x, y), mask, a, b)
    check(lambda lib, m, x: lib.where(m, x, 3.0), mask, a)
    check(lambda lib, m, x: lib.where(m, 0, x), mask, a)
    check(lambda lib, m, x, y: x.where(m, y), mask, a, b)
    check(lambda lib, m: lib.where(m, 1, 2.5), mask)
    check(lambda lib, m: lib.where(m, 1, 2), mask)
    for x in every_dtype(torch.arange(4)):
        for y in every_dtype(torch.arange(4)):
            check(lambda lib, m, x, y: lib.where(m, x, y), mask, x, y, gradients=False)
        check(lambda lib, m, x: x.masked_fill(m, 1), mask, x, gradients=False)
    check(lambda lib, m, x: x.masked_fill(m, -9.0), mask, a)
    check(lambda lib, m, x, v: x.masked_fill(m, v), mask, a, r())
    check(lambda lib, m, x: x.masked_fill(m, -9.0), mask, r(4))
    raises_alike(lambda lib, m, x: lib.where(m, x, x), a, a, match="where expected condition to be a boolean tensor")
    raises_alike(lambda lib, m, x: x.masked_fill(m, 1), torch.tensor([1, 2]), r(2))
    raises_alike(
        lambda lib, m, x, v: x.masked_fill(m, v), mask, a, r(2), match="only supports a 0-dimensional value tensor"
    )
    same(fx.where(fx.tensor([[True, False], [True, True]])), torch.where(torch.tensor([[True, False], [True, True]])))


def test_closeness():
    a = SPECIAL
    b = torch.cat([a[:10] + 1e-9, a[10:] * (1 + 1e-6)])
    for equal_nan in (False, True):
        for rtol, atol in ((1e-5, 1e-8), (0.0, 0.0), (1e-7, 0.0)):
            same(fx.isclose(fx_of(a), fx_of(b), rtol, atol, equal_nan), torch.isclose(a, b, rtol, atol, equal_nan))
            assert fx.allclose(fx_of(a), fx_of(b), rtol, atol, equal_nan) == torch.allclose(a, b, rtol, atol, equal_nan)
    same(fx.isclose(fx.tensor([1, 5]), fx.tensor([1, 6])), torch.tensor([True, False]))
    raises_alike("isclose", torch.tensor([1]), torch.tensor([1.0]))
    raises_alike("isclose", torch.tensor([1]), torch.tensor([1]), -1.0)
    assert fx.equal(fx_of(a[:5]), fx_of(a[:5])) and not fx.equal(fx_of(a), fx_of(a))
    assert not fx.equal(fx.zeros(2), fx.zeros(3)) and fx.equal(fx.zeros(0), fx.zeros(0))
