"""Ordering on the device against NumPy: stable, NaN greatest, short rows and long ones."""

import numpy as np
import pytest

import ferrox as fx

NAMES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def there(x):
    return fx.tensor(x).cuda()


def values(rng, shape, dtype, distinct=0):
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if "int" in dtype:
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        small = rng.integers(max(info.min, -3), 4, shape).astype(dtype)
        return np.where(rng.random(shape) < 0.5, x, small)
    x = np.where(rng.random(shape) < 0.5, rng.standard_normal(shape) * 100, rng.integers(-3, 4, shape)).astype(dtype)
    special = rng.choice(np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0], dtype), shape)
    return np.where(rng.random(shape) < 0.2, special, x)


def order(x, axis=-1, descending=False):
    """The stable order; NaN is greatest, so first where descending."""
    if not descending:
        return np.argsort(x, axis, kind="stable")
    back = np.flip(x, axis)
    n = x.shape[axis]
    return n - 1 - np.flip(np.argsort(back, axis, kind="stable"), axis)


def same(got, expected):
    got = got.cpu().numpy()
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)
    if got.dtype.kind == "f":  # zeros keep their sign
        np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(expected[expected == 0]))


def check(x, axis, descending):
    expected = order(x, axis, descending)
    found = fx.sort(there(x), axis, descending)
    same(found.indices, expected)
    same(found.values, np.take_along_axis(x, expected, axis))
    same(fx.argsort(there(x), axis, descending), expected)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", NAMES)
def test_sort(dtype, descending):
    rng = np.random.default_rng(0)
    for shape, axis in (((1,), 0), ((7,), 0), ((300,), 0), ((5, 33), 1), ((33, 5), 0), ((3, 17, 4), 1), ((0, 4), 1),
                        ((4, 0), 1), ((70, 2), 1), ((2048,), 0)):  # fmt: skip
        check(values(rng, shape, dtype), axis, descending)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", NAMES)
def test_sort_of_long_rows(dtype, descending):
    rng = np.random.default_rng(1)
    check(values(rng, (2049,), dtype), 0, descending)
    check(values(rng, (2, 4200), dtype), 1, descending)


def test_sort_over_many_tiles_and_strides():
    rng = np.random.default_rng(2)
    check(values(rng, (20001,), "float32"), 0, False)
    x = values(rng, (2100, 3), "int32")
    check(x, 0, True)
    found = fx.sort(there(x).t(), 1)
    same(found.values, np.sort(x.T, 1))
    bf = there(values(rng, (500,), "float32")).to(fx.bfloat16)
    expected = bf.float().cpu().numpy()
    same(fx.sort(bf).indices, order(expected))
    assert fx.sort(fx.tensor(3.0).cuda()).values.item() == 3.0


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("largest", [False, True])
def test_topk(dtype, largest):
    rng = np.random.default_rng(3)
    for shape, axis, k in (((9,), 0, 4), ((6, 40), 1, 7), ((40, 6), 0, 40), ((3, 2500), 1, 20), ((2500, 2), 0, 5),
                           ((5000,), 0, 5000), ((4, 5), 1, 0), ((3, 2500), 1, 1)):  # fmt: skip
        x = values(rng, shape, dtype)
        expected = np.take(order(x, axis, largest), np.arange(k), axis)
        found = fx.topk(there(x), k, axis, largest)
        same(found.indices, expected)
        same(found.values, np.take_along_axis(x, expected, axis))


def test_topk_of_many():
    rng = np.random.default_rng(4)
    x = rng.integers(0, 500, 20000).astype("f4")
    found = fx.topk(there(x), 2300)  # the selected are sorted by radix passes themselves
    expected = order(x, 0, True)[:2300]
    same(found.indices, expected)
    same(found.values, x[expected])


@pytest.mark.parametrize("dtype", NAMES)
def test_kthvalue(dtype):
    rng = np.random.default_rng(5)
    for shape, axis in (((9,), 0), ((6, 40), 1), ((40, 6), 0), ((2, 2500), 1), ((2500, 2), 0)):
        x = values(rng, shape, dtype)
        n = shape[axis]
        for k in (1, n // 2, n):
            expected = np.take(order(x, axis), [k - 1], axis)
            for keep in (False, True):
                found = fx.kthvalue(there(x), k, axis, keep)
                picked = np.take_along_axis(x, expected, axis)
                same(found.indices, expected if keep else expected.squeeze(axis))
                same(found.values, picked if keep else picked.squeeze(axis))


def test_gradients():
    rng = np.random.default_rng(6)
    x, g = rng.standard_normal((4, 30)), rng.standard_normal((4, 30))
    for pick, at in ((lambda a: fx.sort(a, 1).values, order(x, 1)),
                     (lambda a: fx.topk(a, 5, 1).values, order(x, 1, True)[:, :5]),
                     (lambda a: fx.kthvalue(a, 3, 1, True).values, order(x, 1)[:, 2:3])):  # fmt: skip
        a = there(x).requires_grad_()
        pick(a).backward(there(g[:, : at.shape[1]].copy()))
        expected = np.zeros_like(x)
        np.put_along_axis(expected, at, g[:, : at.shape[1]], 1)
        same(a.grad, expected)


@pytest.mark.parametrize("dtype", NAMES[1:])
def test_searchsorted(dtype):
    rng = np.random.default_rng(7)
    row = np.sort(rng.integers(0, 50, 40)).astype(dtype)
    v = rng.integers(0, 60, (5, 9)).astype(dtype)
    for side in ("left", "right"):
        same(fx.searchsorted(there(row), there(v), side=side), np.searchsorted(row, v, side))
        same(fx.searchsorted(there(row), there(v).t(), side=side), np.searchsorted(row, v.T, side))
        rows = np.sort(rng.integers(0, 50, (5, 30)), 1).astype(dtype)
        expected = np.stack([np.searchsorted(rows[k], v[k], side) for k in range(5)])
        same(fx.searchsorted(there(rows), there(v), side=side), expected)
    same(fx.searchsorted(there(row[:0]), there(v)), np.zeros((5, 9), "i8"))
    same(fx.bucketize(there(v), there(row)), np.searchsorted(row, v))


def test_searchsorted_puts_nan_where_pytorch_does():
    torch = pytest.importorskip("torch")
    row, v = np.array([1.0, 2.0, np.nan]), np.array([0.0, 1.0, np.nan, np.inf])
    for right in (False, True):
        expected = torch.searchsorted(torch.tensor(row), torch.tensor(v), right=right).numpy()
        same(fx.searchsorted(there(row), there(v), right=right), expected)
