"""cat, where, triangles, ranges and the gradients of windows on the device, against NumPy."""

import numpy as np
import pytest

import ferrox as fx

NAMES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def values(rng, shape, dtype):
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if "int" in dtype:
        return rng.integers(0, 100, shape).astype(dtype)
    x = rng.standard_normal(shape).astype(dtype)
    return np.where(rng.random(shape) < 0.1, np.array(np.nan, dtype), x)


def there(x):
    return fx.tensor(x).cuda()


def same(got, expected):
    got = got.cpu().numpy()
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", NAMES)
def test_cat(dtype):
    rng = np.random.default_rng(0)
    parts = [values(rng, (3, n, 5), dtype) for n in (4, 0, 1, 7)]
    same(fx.cat([there(p) for p in parts], 1), np.concatenate(parts, 1))
    same(fx.cat([there(p.transpose(1, 0, 2)) for p in parts], 0), np.concatenate([p.transpose(1, 0, 2) for p in parts]))
    turned = np.concatenate([p.transpose(2, 0, 1) for p in parts], 2)
    same(fx.cat([there(p).permute(2, 0, 1) for p in parts], 2), turned)
    wide = values(rng, (6, 64), dtype)  # whole 16-byte words
    same(fx.cat([there(wide), there(wide)[:, ::2], there(wide)], 1), np.concatenate([wide, wide[:, ::2], wide], 1))


def test_cat_of_many_and_its_gradient():
    rng = np.random.default_rng(1)
    parts = [rng.standard_normal((2, 1 + k % 3)).astype("f4") for k in range(150)]
    on = [there(p).requires_grad_() for p in parts]
    joined = fx.cat(on, 1)
    same(joined.detach(), np.concatenate(parts, 1))
    weight = rng.standard_normal(joined.shape).astype("f4")
    (joined * there(weight)).backward(fx.ones_like(joined))
    at = 0
    for x, p in zip(on, parts, strict=True):
        same(x.grad, weight[:, at : at + p.shape[1]])
        at += p.shape[1]
    same(fx.cat([fx.zeros(0, device="cuda"), there(parts[0]), fx.zeros(2, 0, device="cuda")], 1), parts[0])
    assert fx.stack([there(parts[0])] * 3, 1).shape == (2, 3, 1)


@pytest.mark.parametrize("dtype", NAMES)
def test_where(dtype):
    rng = np.random.default_rng(2)
    for shape in ((1,), (13,), (64,), (5, 7), (300,)):
        c, x, y = rng.random(shape) < 0.5, values(rng, shape, dtype), values(rng, shape, dtype)
        same(fx.where(there(c), there(x), there(y)), np.where(c, x, y))
    c, x, y = rng.random((4, 1, 6)) < 0.5, values(rng, (5, 6), dtype), values(rng, (4, 5, 1), dtype)
    same(fx.where(there(c), there(x), there(y)), np.where(c, x, y))
    same(fx.where(there(c).permute(2, 1, 0), there(x).t()[:, :1], there(y).permute(1, 2, 0)[:1]),
         np.where(c.transpose(2, 1, 0), x.T[:, :1], y.transpose(1, 2, 0)[:1]))  # fmt: skip
    number = {"b": True, "u": 7, "i": 7}.get(np.dtype(dtype).kind, 0.5)
    same(fx.where(there(c[:, 0]), there(x[:4]), number), np.where(c[:, 0], x[:4], np.array(number, dtype)))
    same(fx.where(there(c[:, 0]), number, there(x[:4])), np.where(c[:, 0], np.array(number, dtype), x[:4]))


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_where_of_views_that_are_not_aligned(offset):
    rng = np.random.default_rng(3)
    c, x, y = rng.random(103) < 0.5, values(rng, 103, "float32"), values(rng, 103, "float32")
    got = fx.where(there(c)[offset:100], there(x)[offset:100], there(y)[3 - offset : 103 - 2 * offset])
    same(got, np.where(c[offset:100], x[offset:100], y[3 - offset : 103 - 2 * offset]))


def test_where_promotes_and_has_a_gradient():
    c = np.array([True, False, True])
    x, y = np.arange(3.0), np.arange(3, dtype="i4") + 10
    same(fx.where(there(c), there(x), there(y)), np.where(c, x, y).astype("f8"))
    a, b = there(x).requires_grad_(), there(x * 2).requires_grad_()
    fx.where(there(c), a, b).backward(there(np.array([1.0, 2.0, 3.0])))
    same(a.grad, np.array([1.0, 0.0, 3.0]))
    same(b.grad, np.array([0.0, 2.0, 0.0]))
    same(there(x).masked_fill(there(c), 7.0), np.where(c, 7.0, x))


@pytest.mark.parametrize("dtype", NAMES)
def test_triangles(dtype):
    rng = np.random.default_rng(4)
    for shape in ((4, 4), (3, 7), (2, 5, 3), (0, 3), (3, 0), (1, 1)):
        x = values(rng, shape, dtype)
        for k in (0, 1, -1, 2, -9, 9, 10**12):
            near = max(-20, min(20, k))
            same(fx.tril(there(x), k), np.tril(x, near))
            same(fx.triu(there(x), k), np.triu(x, near))
    x = values(rng, (3, 4, 5), dtype)
    same(fx.tril(there(x).permute(1, 2, 0)), np.tril(x.transpose(1, 2, 0)))


def test_ranges():
    for args in ((10,), (2, 50, 3), (10, -5, -2), (0, 1, 0.1), (5.5, 100.25, 0.75), (0,), (3000,)):
        for dtype in (None, fx.float64, fx.float32):
            here = fx.arange(*args, dtype=dtype)
            same(fx.arange(*args, dtype=dtype, device="cuda"), here.numpy())
    for dtype in ("int8", "uint8", "int16", "int32", "float16"):
        here = fx.arange(3, 90, 4, dtype=getattr(fx, dtype))
        same(fx.arange(3, 90, 4, dtype=getattr(fx, dtype), device="cuda"), here.numpy())
    for n in (0, 1, 2, 3, 10, 257):
        for dtype in (fx.float32, fx.float64):
            same(fx.linspace(-1.5, 7.0, n, dtype=dtype, device="cuda"), fx.linspace(-1.5, 7.0, n, dtype=dtype).numpy())
    expected = np.linspace(0, 1, 11)
    got = fx.linspace(0, 1, 11, dtype=fx.float64, device="cuda").cpu().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gradients_of_windows(dtype):
    rng = np.random.default_rng(5)
    x = rng.integers(-4, 5, 12).astype(dtype)
    g = rng.integers(-4, 5, (4, 5)).astype(dtype)
    a = there(x).requires_grad_()
    a.unfold(0, 5, 2).backward(there(g))
    expected = np.zeros(12, dtype)
    for k in range(4):
        expected[2 * k : 2 * k + 5] += g[k]
    same(a.grad, expected)
    a = there(x).requires_grad_()
    a[1:11:3].backward(there(g[:, 0]))
    expected = np.zeros(12, dtype)
    expected[1:11:3] = g[:, 0]
    same(a.grad, expected)
    a = there(x.reshape(3, 4)).requires_grad_()
    fx.as_strided(a, (3, 3, 2), (4, 1, 1)).backward(there(np.ones((3, 3, 2), dtype)))
    expected = np.zeros(12, dtype)
    for i in range(3):
        for j in range(3):
            for k in range(2):
                expected[4 * i + j + k] += 1
    same(a.grad, expected.reshape(3, 4))
