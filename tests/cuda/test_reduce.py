"""Reductions on the device against NumPy, in every form: rows, columns, several passes, chunks; layouts, special
values, dtypes."""

import itertools

import numpy as np
import pytest

import ferrox as fx

INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
EPS = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 2**-24, "float64": 2**-53}
# Rows shorter than a warp, than a block, than a register block, longer; columns of odd numbers; chunks of both.
SHAPES = [(), (1,), (5,), (0,), (3, 0, 2), (7, 9), (2, 33), (3, 130), (2, 1100), (1, 9001), (20003,), (33, 5), (300, 3),
          (40, 34), (9000, 2), (3, 5, 7), (2, 40, 3, 5), (2, 3, 4, 3, 2)]  # fmt: skip


def masks(shape):
    """Every set of dimensions of a small shape."""
    dims = range(len(shape))
    return [tuple(d for d in dims if bits >> d & 1) for bits in range(1, 1 << len(shape))] or [()]


CASES = [(shape, dims) for shape in SHAPES for dims in masks(shape)]


def floats(rng, shape, dtype, special=0.0):
    x = rng.standard_normal(shape) * 3 + 1
    x = np.where(rng.random(shape) < special, rng.choice([np.inf, -np.inf, np.nan, 0.0, -0.0], shape), x)
    return fx.tensor(x).to(getattr(fx, dtype))


def whole(rng, shape, dtype):
    info = np.iinfo(dtype)
    values = rng.integers(max(info.min, -4), 5, shape)
    wild = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    return fx.tensor(np.where(rng.random(shape) < 0.8, values, wild).astype(dtype))


def exact(t):
    """A tensor as NumPy, floats as float64."""
    t = t.detach().cpu()
    return (t.to(fx.float64) if t.dtype.is_floating_point else t).numpy()


def wide(t):
    return exact(t).astype("longdouble")


def close(got, expected, scale, dtype):
    """Within rounding to the dtype, and a few roundings of float32 (float64) in sums whose terms add up to `scale`."""
    inner = EPS["float64" if dtype == "float64" else "float32"]
    bound = np.abs(expected) * (EPS[dtype] + 4 * inner) + 8 * inner * scale
    got = exact(got)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    finite = np.isfinite(got) & np.isfinite(expected)
    with np.errstate(invalid="ignore"):
        assert (same | (finite & (np.abs(got - expected) <= bound + 1e-300))).all(), (got, expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_sums_and_means(dtype):
    rng = np.random.default_rng(1)
    for shape, dims in CASES:
        x = floats(rng, shape, dtype)
        v = wide(x)
        scale = np.abs(v).sum(axis=dims)
        close(x.cuda().sum(dim=dims), v.sum(axis=dims), scale, dtype)
        close(x.cuda().nansum(dim=dims, keepdim=True), v.sum(axis=dims, keepdims=True),
              np.abs(v).sum(axis=dims, keepdims=True), dtype)  # fmt: skip
        n = np.prod([shape[d] for d in dims], dtype=int)
        if n:
            close(x.cuda().mean(dim=dims), v.mean(axis=dims), scale / n, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_with_special_values(dtype):
    rng = np.random.default_rng(2)
    for shape in [(6, 8), (5, 200), (200, 5)]:
        x = floats(rng, shape, dtype, 0.02)
        for dims in masks(shape):
            with np.errstate(invalid="ignore"):
                expected, without = exact(x).sum(axis=dims), np.nansum(exact(x), axis=dims)
            scale = np.abs(np.nan_to_num(exact(x), posinf=0, neginf=0)).sum(axis=dims)
            close(x.cuda().sum(dim=dims), expected, scale, dtype)
            close(x.cuda().nansum(dim=dims), without, scale, dtype)


def test_long_sums_of_float32_lose_no_digits():
    x = np.random.default_rng(3).random(200_000).astype("f4")
    for shape, dim in [((200_000,), 0), ((2, 100_000), 1), ((50_000, 4), 0)]:
        got = exact(fx.tensor(x.reshape(shape)).cuda().sum(dim))
        np.testing.assert_allclose(got, x.reshape(shape).sum(dim, dtype="f8"), rtol=1e-7)


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS])
def test_integers(dtype):
    rng = np.random.default_rng(4)
    for shape, dims in CASES:
        x = fx.tensor(rng.random(shape) < 0.5) if dtype == "bool" else whole(rng, shape, dtype)
        v, there = exact(x), x.cuda()
        np.testing.assert_array_equal(exact(there.sum(dim=dims)), v.sum(axis=dims, dtype="i8"))
        np.testing.assert_array_equal(exact(there.all(dim=dims)), v.all(axis=dims))
        np.testing.assert_array_equal(exact(there.any(dim=dims)), v.any(axis=dims))
        np.testing.assert_array_equal(exact(there.count_nonzero(dim=dims)), (v != 0).sum(axis=dims))
        if len(dims) == 1:
            np.testing.assert_array_equal(exact(there.prod(dim=dims[0])), v.prod(axis=dims, dtype="i8"))
        if v.size:
            np.testing.assert_array_equal(exact(there.amax(dim=dims)), v.max(axis=dims))
            np.testing.assert_array_equal(exact(there.amin(dim=dims)), v.min(axis=dims))


@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes_and_counts_with_special_values(dtype):
    rng = np.random.default_rng(5)
    for shape, dims in CASES:
        x = floats(rng, shape, dtype, 0.02)
        v, there = exact(x), x.cuda()
        np.testing.assert_array_equal(exact(there.all(dim=dims)), v.all(axis=dims))
        np.testing.assert_array_equal(exact(there.any(dim=dims)), v.any(axis=dims))
        if v.size:
            np.testing.assert_array_equal(exact(there.amax(dim=dims)), v.max(axis=dims))
            np.testing.assert_array_equal(exact(there.amin(dim=dims)), v.min(axis=dims))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"])
def test_places_of_extremes(dtype):
    rng = np.random.default_rng(6)
    for shape in [s for s in SHAPES if np.prod(s, dtype=int)]:
        # Few values: ties, of which the first counts.
        values = rng.integers(0, 2 if dtype == "bool" else 4, shape)
        for nan in (False, True)[: 1 + dtype.startswith("float")]:
            v = values.astype(dtype)
            if nan:
                v = np.where(rng.random(shape) < 0.1, np.nan, v).astype(dtype)
            there = fx.tensor(v).cuda()
            if dtype != "bool":
                assert there.argmax().item() == v.argmax()
                assert there.argmin().item() == v.argmin()
            for dim in range(len(shape)):
                if dtype != "bool":
                    np.testing.assert_array_equal(exact(there.argmax(dim)), v.argmax(dim))
                    np.testing.assert_array_equal(exact(there.argmin(dim, keepdim=True)), v.argmin(dim)[
                        (slice(None),) * dim + (None,)])  # fmt: skip
                best, place = there.max(dim)
                np.testing.assert_array_equal(exact(best), v.max(dim))
                np.testing.assert_array_equal(exact(place), v.argmax(dim))
                best, place = there.min(dim)
                np.testing.assert_array_equal(exact(best), v.min(dim))
                np.testing.assert_array_equal(exact(place), v.argmin(dim))


@pytest.mark.parametrize("dtype", FLOATS)
def test_products(dtype):
    rng = np.random.default_rng(7)
    for shape in [(5,), (4, 9), (3, 200), (200, 3), (2, 5000)]:
        x = fx.tensor(1 + rng.standard_normal(shape) / 50).to(getattr(fx, dtype))
        for dim in range(len(shape)):
            expected = exact(x).prod(dim)
            np.testing.assert_allclose(exact(x.cuda().prod(dim)), expected, rtol=2 * EPS[dtype] + 1e-12)
        np.testing.assert_allclose(exact(x.cuda().prod()), exact(x).prod(), rtol=2 * EPS[dtype] + 1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("order", [0, 1, 2, 3, 2.5, np.inf, -np.inf, -1])
def test_norms(dtype, order):
    rng = np.random.default_rng(8)
    for shape, dim in [((5,), 0), ((4, 9), 1), ((40, 9), 0), ((2, 700), 1), ((3, 4, 5), (0, 2)), ((9000,), 0)]:
        x = fx.tensor(rng.standard_normal(shape)).to(getattr(fx, dtype))
        v = np.abs(exact(x))
        if order == 0:
            expected = (v != 0).sum(dim)
        elif np.isinf(order):
            expected = v.max(dim) if order > 0 else v.min(dim)
        else:
            expected = (v**order).sum(dim) ** (1 / order)
        got = fx.norm(x.cuda(), order, dim)
        limit = {"rtol": 2 * EPS[dtype] + (1e-13 if dtype == "float64" else 1e-6), "atol": 6e-8 * (dtype == "float16")}
        np.testing.assert_allclose(exact(got), expected, **limit)


@pytest.mark.parametrize("dtype", FLOATS)
def test_log_sums(dtype):
    rng = np.random.default_rng(9)
    for shape, dims in CASES:
        if any(shape[d] == 0 for d in dims):
            continue
        x = floats(rng, shape, dtype) * 10
        v = wide(x)
        top = v.max(axis=dims, keepdims=True) if v.size else 0
        expected = np.log(np.exp(v - top).sum(axis=dims, keepdims=True)) + top
        np.testing.assert_allclose(exact(fx.logsumexp(x.cuda(), dims, keepdim=True)), expected,
                                   rtol=2 * EPS[dtype] + 2e-16, atol=2e-6 if dtype != "float64" else 1e-14)  # fmt: skip
    for row in ([np.inf, 1.0], [-np.inf, -np.inf], [-np.inf, 2.0], [np.nan, 1.0], [np.inf, -np.inf], [1000.0, 1000.0]):
        x = np.array([row, row[::-1], row])
        with np.errstate(invalid="ignore"):
            expected = np.logaddexp.reduce(x, axis=1)
        got = exact(fx.logsumexp(fx.tensor(x).to(getattr(fx, dtype)).cuda(), 1))
        np.testing.assert_allclose(got, expected, rtol=2 * EPS[dtype], equal_nan=True)
        got = exact(fx.logsumexp(fx.tensor(x.T.copy()).to(getattr(fx, dtype)).cuda(), 0))
        np.testing.assert_allclose(got, expected, rtol=2 * EPS[dtype], equal_nan=True)


@pytest.mark.parametrize("dtype", FLOATS)
def test_variances(dtype):
    rng = np.random.default_rng(10)
    for shape, dims in CASES:
        n = np.prod([shape[d] for d in dims], dtype=int)
        x = floats(rng, shape, dtype)
        v = wide(x)
        inner = 1e-13 if dtype == "float64" else 1e-6
        for correction in (0, 1) if n > 1 else ():
            expected = v.var(axis=dims, ddof=correction)
            tolerance = {"rtol": 2 * EPS[dtype] + inner, "atol": 6e-8 * (dtype == "float16")}
            np.testing.assert_allclose(exact(x.cuda().var(dims, correction=correction)), expected, **tolerance)
            np.testing.assert_allclose(exact(x.cuda().std(dims, correction=correction)), expected**0.5, **tolerance)
            got, mean = fx.var_mean(x.cuda(), dims, correction=correction)
            np.testing.assert_allclose(exact(got), expected, **tolerance)
            close(mean, v.mean(axis=dims), np.abs(v).sum(axis=dims) / n, dtype)


def test_variance_far_from_zero():
    x = np.random.default_rng(11).standard_normal((4, 3000)) + 1e6
    np.testing.assert_allclose(exact(fx.tensor(x).cuda().var(1)), x.var(1, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(exact(fx.tensor(x.T.copy()).cuda().var(0)), x.var(1, ddof=1), rtol=1e-9)
    x = fx.tensor([3.0]).cuda()
    assert np.isnan(x.var().item())
    assert x.var(correction=0).item() == 0
    assert np.isnan(exact(fx.zeros(2, 0, device="cuda").var(1))).all()


def test_of_nothing():
    x = fx.zeros(3, 0, device="cuda")
    assert x.sum(1).tolist() == [0, 0, 0]
    assert x.prod(1).tolist() == [1, 1, 1]
    assert x.all(1).tolist() == [True] * 3
    assert x.any(1).tolist() == [False] * 3
    assert x.sum(0).tolist() == []
    assert fx.logsumexp(x, 1).tolist() == [-np.inf] * 3
    assert np.isnan(exact(x.mean(1))).all()


@pytest.mark.parametrize("dtype", ["float32", "int16", "float16"])
def test_layouts(dtype):
    rng = np.random.default_rng(12)
    shape = (6, 7, 20)
    x = whole(rng, shape, dtype) if "int" in dtype else floats(rng, shape, dtype)
    v, there = exact(x), x.cuda()
    for order in itertools.permutations(range(3)):
        for cut in (slice(None), slice(1, 6, 2), slice(3, None), slice(None, None, -1)):
            t, w = there.permute(*order), v.transpose(order)
            t = t.flip(1) if cut.step == -1 else t[:, cut]
            w = w[:, cut]
            for dims in masks(shape):
                np.testing.assert_array_equal(exact(t.amax(dim=dims)), w.max(axis=dims))
                if "int" in dtype:
                    np.testing.assert_array_equal(exact(t.sum(dim=dims)), w.sum(axis=dims))
            for dim in range(3):
                np.testing.assert_array_equal(exact(t.argmax(dim)), w.argmax(dim))
            assert t.argmax().item() == w.argmax()
    t, w = there[:, :1].expand(6, 5, 20), np.broadcast_to(v[:, :1], (6, 5, 20))
    np.testing.assert_array_equal(exact(t.amax(dim=(0, 1))), w.max(axis=(0, 1)))


def test_same_bits_whatever_the_alignment():
    values = fx.tensor(np.random.default_rng(13).standard_normal(20_100).astype("f4")).cuda()
    for n in (7, 100, 1000, 20_000):
        for offset in (1, 2, 3, 5):
            view = values[offset : offset + n]
            assert view.sum().item() == view.clone().sum().item()
            assert fx.logsumexp(view, 0).item() == fx.logsumexp(view.clone(), 0).item()
            assert view.std().item() == view.clone().std().item()


def test_dtype_of_the_sum():
    x = fx.tensor([[200, 100], [3, 4]], dtype=fx.uint8).cuda()
    assert x.sum().dtype == fx.int64
    assert x.sum().item() == 307
    assert x.sum(dtype=fx.float32).dtype == fx.float32
    assert x.sum(1, dtype=fx.float64).tolist() == [300.0, 7.0]
    assert fx.tensor([1.5, 2.5]).cuda().sum(dtype=fx.int64).item() == 3
    assert fx.tensor([1.5, 2.5]).cuda().sum(dtype=fx.float64).item() == 4
    assert fx.tensor([60000.0, 60000.0, -60000.0]).to(fx.float16).cuda().sum().item() == 60000
    assert fx.tensor([2000.0] * 100).to(fx.float16).cuda().mean().item() == 2000
    x = fx.tensor([[True, True], [False, True]]).cuda()
    assert x.sum(0).tolist() == [1, 2]
    assert x.sum(dtype=fx.int32).item() == 3


@pytest.mark.parametrize("call", [
    lambda x: x.sum((0, 2)), lambda x: x.mean(1), lambda x: x.amax((0, 1)), lambda x: x.prod(2),
    lambda x: x.std((1, 2)), lambda x: fx.logsumexp(x, 1), lambda x: x.norm(2, (0, 1)), lambda x: x.norm(3, 1),
    lambda x: x.max(1)[0], lambda x: x.var(), lambda x: x.min(),
])  # fmt: skip
def test_gradients(call):
    values = np.random.default_rng(14).standard_normal((4, 5, 6))
    grads = []
    for device in ("cpu", "cuda"):
        x = fx.tensor(values, device=device, requires_grad=True)
        y = call(x)
        (y * fx.arange(1.0, y.numel() + 1, dtype=fx.float64).reshape(y.shape).to(device)).sum().backward()
        grads.append(exact(x.grad))
    np.testing.assert_allclose(grads[1], grads[0], rtol=1e-12, atol=1e-13)
