"""Masks, counts and runs on the device, against NumPy."""

import numpy as np
import pytest

import ferrox as fx
from ferrox._core.door.backend import run_kernel

NAMES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


class OnDevice:
    """A device tensor as run_kernel wants its arrays."""

    def __init__(self, tensor):
        self.tensor = tensor
        size = tensor.element_size()
        self.__array_interface__ = {
            "shape": tuple(tensor.shape), "typestr": np.dtype(tensor.dtype.name).str,
            "data": (tensor.data_ptr(), False), "strides": tuple(step * size for step in tensor.stride()), "version": 3,
        }  # fmt: skip


def there(x):
    return fx.tensor(np.ascontiguousarray(x)).cuda()


def values(rng, shape, dtype):
    if dtype == "bool":
        return rng.random(shape) < 0.5
    x = np.where(rng.random(shape) < 0.5, 0, rng.integers(1, 9, shape)).astype(dtype)
    return np.where(rng.random(shape) < 0.1, np.array(-0.0, dtype), x) if x.dtype.kind == "f" else x


def same(got, expected):
    got = got.cpu().numpy()
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


def call(name, out, inputs, params=(), dtype="int64"):
    run_kernel(name, [OnDevice(x) for x in (out, *inputs)], 1, params, dtype, device_type=1)
    return out


@pytest.mark.parametrize("dtype", NAMES)
def test_nonzero(dtype):
    rng = np.random.default_rng(0)
    for shape in ((1,), (50,), (5, 7), (3, 4, 5), (5000,), (0, 3), (2, 1500)):
        x = values(rng, shape, dtype)
        same(fx.nonzero(there(x)), np.argwhere(x))
        total = call("count_true", fx.zeros((), dtype=fx.int64, device="cuda"), [there(x)])
        assert total.item() == np.count_nonzero(x)
    same(fx.nonzero(there(x).t()), np.argwhere(x.T))
    same(fx.nonzero(fx.zeros(4100, device="cuda")), np.zeros((0, 1), "i8"))
    assert fx.nonzero(fx.tensor(2.0).cuda()).shape == (1, 0)


def test_nonzero_of_many_tiles():
    x = np.zeros(600_001, bool)  # more tiles than a warp adds up
    x[::977] = x[-1] = True
    same(fx.nonzero(there(x)), np.argwhere(x))


@pytest.mark.parametrize("dtype", NAMES)
def test_masks(dtype):
    rng = np.random.default_rng(1)
    for shape in ((50,), (5, 7), (2, 2500)):
        x, mask = values(rng, shape, dtype), rng.random(shape) < 0.4
        same(fx.masked_select(there(x), there(mask)), x[mask])
        out = fx.zeros(int(mask.sum()), dtype=getattr(fx, dtype), device="cuda")
        same(call("masked_select", out, [there(x), there(mask)], dtype=dtype), x[mask])
        src = values(rng, (x.size,), dtype)
        expected = x.copy()
        expected[mask] = src[: mask.sum()]
        same(fx.masked_scatter(there(x), there(mask), there(src)), expected)
    same(fx.masked_scatter(there(x).t(), there(mask).t(), there(src)), scattered(x.T, mask.T, src))
    row = rng.random(2500) < 0.5
    same(fx.masked_scatter(there(x), there(row), there(src)), scattered(x, np.broadcast_to(row, x.shape), src))


def scattered(x, mask, src):
    out = x.copy()
    out[mask] = src[: mask.sum()]
    return out


def test_a_source_that_is_too_short_is_reported():
    x = fx.arange(6.0, device="cuda")
    y = x.masked_scatter(there(np.array([True] * 5 + [False])), fx.ones(4, device="cuda"))
    with pytest.raises(IndexError, match=r"\[masked_scatter\] index 4 is out of range for a dimension of size 4"):
        fx.cuda.synchronize()
    same(y, np.arange(6, dtype="f4"))


def test_gradients_of_masks():
    rng = np.random.default_rng(2)
    x, mask, src = rng.standard_normal((4, 6)), rng.random((4, 6)) < 0.5, rng.standard_normal(24)
    n = int(mask.sum())
    a = there(x).requires_grad_()
    fx.masked_select(a, there(mask)).backward(there(src[:n]))
    same(a.grad, scattered(np.zeros_like(x), mask, src))
    a, b = there(x).requires_grad_(), there(src).requires_grad_()
    g = rng.standard_normal((4, 6))
    fx.masked_scatter(a, there(mask), b).backward(there(g))
    same(a.grad, np.where(mask, 0, g))
    same(b.grad, np.r_[g[mask], np.zeros(24 - n)])


def test_one_hot():
    rng = np.random.default_rng(3)
    index = rng.integers(0, 7, (5, 4))
    out = fx.empty(5, 4, 7, dtype=fx.int64, device="cuda")
    same(call("one_hot", out, [there(index)]), np.eye(7, dtype="i8")[index])
    same(call("one_hot", out, [there(index.T).t()]), np.eye(7, dtype="i8")[index])
    index[2, 1] = 7
    call("one_hot", out, [there(index)])
    with pytest.raises(IndexError, match="index 7 is out of range for a dimension of size 7"):
        out.cpu()


@pytest.mark.parametrize("bins", [1, 10, 5000])
def test_bincount(bins):
    rng = np.random.default_rng(4)
    x = rng.integers(0, bins, 6000)
    same(call("bincount", fx.empty(bins, dtype=fx.int64, device="cuda"), [there(x)]), np.bincount(x, minlength=bins))
    same(call("bincount", fx.empty(bins, dtype=fx.int64, device="cuda"), [there(x)[::2]]),
         np.bincount(x[::2], minlength=bins))  # fmt: skip
    for dtype in ("int64", "float32", "float64"):
        w = rng.integers(-50, 50, 6000).astype(dtype)
        out = fx.empty(bins, dtype=getattr(fx, dtype), device="cuda")
        same(call("bincount", out, [there(x), there(w)], dtype=dtype), np.bincount(x, w, bins).astype(dtype))
    out = fx.empty(bins, dtype=fx.int64, device="cuda")
    call("bincount", out, [there(np.r_[0, bins])])
    with pytest.raises(IndexError, match=f"index {bins} is out of range for a dimension of size {bins}"):
        out.cpu()


@pytest.mark.parametrize("bins", [1, 7, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_histc(dtype, bins):
    rng = np.random.default_rng(5)
    x = (rng.integers(-40, 80, 3000) / 8).astype(dtype)  # the edges are exact
    x[:3] = np.nan, np.inf, -np.inf
    expected = np.histogram(x[np.isfinite(x)].astype("f8"), bins, (-4.0, 6.0))[0] if bins != 7 else None
    if expected is None:
        inside = x[(x >= -4) & (x <= 6)]
        at = ((inside - x.dtype.type(-4)) * x.dtype.type(7) / x.dtype.type(10)).astype("i8")
        expected = np.bincount(np.minimum(at, 6), minlength=7)
    same(fx.histc(there(x), bins, -4, 6), expected.astype(dtype))
    same(fx.histc(there(x[:0]), bins, -4, 6), np.zeros(bins, dtype))


@pytest.mark.parametrize("dtype", NAMES)
def test_unique(dtype):
    rng = np.random.default_rng(6)
    for n in (1, 40, 2500, 5000):
        x = values(rng, (n,), dtype)
        got = fx.unique(there(x), return_inverse=True, return_counts=True)
        for mine, expected in zip(got, np.unique(x, return_inverse=True, return_counts=True), strict=True):
            same(mine, expected)
        starts = np.r_[True, x[1:] != x[:-1]]
        found = fx.unique_consecutive(there(x), return_inverse=True, return_counts=True)
        same(found[0], x[starts])
        same(found[1], np.cumsum(starts) - 1)
        same(found[2], np.diff(np.r_[np.flatnonzero(starts), n]))
    x = values(rng, (6, 5), dtype)
    mine, where = fx.unique(there(x).t(), return_inverse=True)
    same(mine, np.unique(x))
    same(mine[where], x.T)
    assert fx.unique(there(x[:0])).shape == (0,)


def test_every_nan_is_different():
    x = np.array([np.nan, 1.0, np.nan, 1.0])
    values_, counts = fx.unique(there(x), return_counts=True)
    same(values_, np.array([1.0, np.nan, np.nan]))
    same(counts, np.array([2, 1, 1]))


def test_operators_that_look_at_the_values_first():
    rng = np.random.default_rng(7)
    x, w = rng.integers(0, 9, 50), rng.standard_normal(50)
    same(fx.bincount(there(x)), np.bincount(x))
    np.testing.assert_allclose(fx.bincount(there(x), there(w), 20).cpu().numpy(), np.bincount(x, w, 20), rtol=1e-14)
    same(fx.nn.functional.one_hot(there(x)), np.eye(x.max() + 1, dtype="i8")[x])
    rows = rng.integers(0, 2, (12, 3))
    got = fx.unique(there(rows), return_inverse=True, return_counts=True, dim=0)
    for mine, expected in zip(got, np.unique(rows, return_inverse=True, return_counts=True, axis=0), strict=True):
        same(mine, expected.reshape(mine.shape))


def test_embedding_leaves_its_padding_alone():
    rng = np.random.default_rng(8)
    table, index = there(rng.standard_normal((7, 4)).astype("f4")).requires_grad_(), rng.integers(0, 7, (5, 6))
    y = fx.nn.functional.embedding(there(index), table, padding_idx=2)
    same(y.detach(), table.detach().cpu().numpy()[index])
    y.backward(fx.ones_like(y))
    times = np.bincount(index.ravel(), minlength=7).astype("f4")
    times[2] = 0
    same(table.grad, np.repeat(times[:, None], 4, 1))
