"""Matrix products on the device against NumPy in float64 or in wrapping integers."""
import numpy as np
import pytest
import scipy.special

import ferrox as fx

INTEGERS = ["uint8", "int8", "int16", "int32", "int64"]
FLOATS = ["float32", "float64", "float16", "bfloat16"]
# Of sums of products of numbers of size 1, relative to the sum of their magnitudes: the rounding of the result, and
# for float32 that of the sum.
ERROR = {"float32": 4e-6, "float64": 1e-14, "float16": 2**-10, "bfloat16": 2**-7}


def values(rng, shape, dtype):
    """A tensor on the device, and the same numbers as float64 or as they are."""
    if dtype in INTEGERS:
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        return fx.tensor(x).cuda(), x
    x = fx.tensor(rng.standard_normal(shape).astype("float32")).to(getattr(fx, dtype))
    if dtype == "float64":
        x = fx.tensor(rng.standard_normal(shape))
    return x.cuda(), x.to(fx.float64).numpy()


def same(got, x, y, dtype, alpha=1, beta=0, added=0):
    """got = alpha x y + beta added"""
    assert got.dtype.name == dtype
    if dtype in INTEGERS:
        with np.errstate(over="ignore"):
            expected = (alpha * (x @ y) + beta * added).astype(dtype)
        np.testing.assert_array_equal(got.cpu().numpy(), expected)
        return
    expected = alpha * (x @ y) + beta * added
    scale = abs(alpha) * (abs(x) @ abs(y)) + abs(beta * added)
    got = got.cpu().to(fx.float64).numpy()
    assert got.shape == expected.shape
    np.testing.assert_array_less(abs(got - expected), ERROR[dtype] * (scale + 1e-3) + 1e-300)


def arranged(x, order):
    """The same matrix with its columns adjacent, its rows adjacent, or neither."""
    if order == "n":
        return x
    if order == "t":
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    wide = fx.zeros((*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1]), dtype=x.dtype, device=x.device)
    view = wide[..., ::2, ::3]
    view.copy_(x)
    return view


SHAPES = [(1, 1, 1), (3, 5, 2), (32, 32, 32), (33, 65, 34), (40, 100, 7), (130, 70, 65), (4, 300, 4), (64, 12, 200)]


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape, dtype):
    m, k, n = shape
    rng = np.random.default_rng(m + n + k)
    a, x = values(rng, (m, k), dtype)
    b, y = values(rng, (k, n), dtype)
    same(a @ b, x, y, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32"])
@pytest.mark.parametrize("orders", ["nn", "nt", "tn", "tt", "ns", "sn", "ss"])
@pytest.mark.parametrize("shape", [(36, 40, 44), (33, 35, 37)])
def test_operands_are_read_where_they_lie(shape, orders, dtype):
    m, k, n = shape
    rng = np.random.default_rng(1)
    a, x = values(rng, (m, k), dtype)
    b, y = values(rng, (k, n), dtype)
    same(arranged(a, orders[0]) @ arranged(b, orders[1]), x, y, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("orders", ["nn", "nt", "tn", "tt"])
def test_the_largest_tiles(orders, dtype):
    """Enough products in the batch to fill a device with them."""
    rng = np.random.default_rng(2)
    a, x = values(rng, (2, 252, 12), dtype)
    b, y = values(rng, (2, 12, 252), dtype)
    got = (arranged(a, orders[0]).unsqueeze(1).expand(2, 33, 252, 12) @ arranged(b, orders[1]).unsqueeze(1))[:, ::16]
    same(got, x[:, None].repeat(3, 1), y[:, None], dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "tf32"])
@pytest.mark.parametrize("orders", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("shape", [(64, 32, 64), (8, 8, 16), (72, 104, 136), (40, 1600, 48)])
def test_tensor_cores(shape, orders, dtype, monkeypatch):
    """Sizes that allow 16-byte accesses; tf32 has to be allowed, and rounds its operands to 10 bits of mantissa."""
    m, k, n = shape
    rng = np.random.default_rng(9)
    kind = "float32" if dtype == "tf32" else dtype
    a, x = values(rng, (2, m, k), kind)
    b, y = values(rng, (2, k, n), kind)
    c, z = values(rng, (n,), kind)
    a, b = arranged(a, orders[0]), arranged(b, orders[1])
    exact = a @ b
    monkeypatch.setattr(fx.backends.cuda.matmul, "allow_tf32", dtype == "tf32")
    got = a @ b
    added = fx.addmm(c, a[0], b[0], beta=2, alpha=0.5)
    if dtype != "tf32":
        same(got, x, y, kind)
        same(added, x[0], y[0], kind, 0.5, 2, z)
        return
    assert not fx.equal(exact.cpu(), got.cpu())
    same(exact, x, y, kind)
    xr, yr = rounded(x), rounded(y)
    same(got, xr, yr, kind)
    same(added, xr[0], yr[0], kind, 0.5, 2, z)


def rounded(x):
    """To 10 bits of mantissa, ties away from zero."""
    bits = x.astype("float32").view("uint32")
    return ((bits + 0x1000) & ~np.uint32(0x1FFF)).view("float32").astype("float64")


def test_tf32_is_a_setting():
    assert fx.backends.cuda.matmul.allow_tf32 is False
    with pytest.raises(TypeError, match="must be a bool"):
        fx.backends.cuda.matmul.allow_tf32 = 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("orders", ["nn", "nt", "tn", "tt"])
def test_the_largest_tensor_tiles(orders, dtype):
    rng = np.random.default_rng(10)
    a, x = values(rng, (248, 16), dtype)
    b, y = values(rng, (66, 16, 248), dtype)
    a, b = arranged(a, orders[0]), arranged(b, orders[1])
    same((a @ b)[::16], x, y[::16], dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("k", [1, 31, 1500, 9000])
def test_vectors(k, dtype):
    rng = np.random.default_rng(k)
    for rows in (1, 7, 130):
        for order in "nts":
            a, x = values(rng, (rows, k), dtype)
            v, w = values(rng, (k,), dtype)
            same(arranged(a, order) @ v, x, w, dtype)
            same(v @ arranged(a.transpose(0, 1), order), w, x.T, dtype)
        if rows * k > 10000:
            break
    v, w = values(rng, (2 * k,), dtype)
    same(fx.dot(v[:k], v[k:]), w[:k], w[k:], dtype)
    same(fx.dot(v[::2], v[1::2]), w[::2], w[1::2], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64"])
def test_sums_in_slices(dtype):
    rng = np.random.default_rng(3)
    a, x = values(rng, (5, 3000), dtype)
    b, y = values(rng, (3000, 6), dtype)
    c, z = values(rng, (6,), dtype)
    same(a @ b, x, y, dtype)
    same(fx.addmm(c, a, b, beta=2, alpha=3), x, y, dtype, 3, 2, z)
    assert fx.equal((a @ b).cpu(), (a @ b).cpu())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int16"])
def test_batches(dtype):
    rng = np.random.default_rng(4)
    a, x = values(rng, (3, 1, 5, 7), dtype)
    b, y = values(rng, (2, 7, 4), dtype)
    same(a @ b, x, y, dtype)
    same(a @ b[0], x, y[0], dtype)                                  # one matrix for all: rows of one product
    same(a[0, 0] @ b, x[0, 0], y, dtype)
    a, x = values(rng, (4, 3, 6, 5), dtype)
    b, y = values(rng, (6, 4, 5, 3), dtype)
    same(a.permute(2, 0, 1, 3) @ b, x.transpose(2, 0, 1, 3), y, dtype)
    a, x = values(rng, (2, 1, 2, 1, 2, 1, 3, 4), dtype)             # more dimensions than a launch takes
    b, y = values(rng, (1, 2, 1, 2, 1, 2, 4, 3), dtype)
    same(a @ b, x, y, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8"])
def test_addmm(dtype):
    rng = np.random.default_rng(5)
    a, x = values(rng, (9, 34), dtype)
    b, y = values(rng, (34, 12), dtype)
    for shape in ((9, 12), (12,), (9, 1), (1,)):
        c, z = values(rng, shape, dtype)
        same(fx.addmm(c, a, b), x, y, dtype, 1, 1, z)
        same(fx.addmm(c, a, b, beta=3, alpha=2), x, y, dtype, 2, 3, z)
    c, z = values(rng, (12, 9), dtype)
    same(fx.addmm(c.transpose(0, 1), a, b), x, y, dtype, 1, 1, z.T)
    if dtype != "uint8":
        lost = fx.full((9, 12), float("nan"), dtype=c.dtype, device="cuda")
        same(fx.addmm(lost, a, b, beta=0), x, y, dtype)     # not read
    c, z = values(rng, (9, 12), dtype)
    same(c.addmm_(a, b), x, y, dtype, 1, 1, z)


@pytest.mark.parametrize("k", [34, 3000])      # as a whole, and in slices
def test_factors_of_integers_are_exact(k):
    rng = np.random.default_rng(6)
    a, x = values(rng, (5, k), "int64")
    b, y = values(rng, (k, 6), "int64")
    c, z = values(rng, (5, 6), "int64")
    same(fx.addmm(c, a, b, beta=2**53 + 1, alpha=-(2**60) - 1), x, y, "int64", -(2**60) - 1, 2**53 + 1, z)


def gelu(x):
    return x * scipy.special.ndtr(x)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sizes", [(9, 34, 12), (64, 32, 64), (5, 3000, 6), (1, 40, 7), (40, 9, 1)])
def test_activations(sizes, dtype):
    """By tiles, on tensor cores, in slices, by products with vectors."""
    m, k, n = sizes
    rng = np.random.default_rng(12)
    a, x = values(rng, (m, k), dtype)
    b, y = values(rng, (k, n), dtype)
    bound = ERROR[dtype] * (2 * (abs(x) @ abs(y)) + 10)
    for shape in ((m, n), (n,)):
        c, z = values(rng, shape, dtype)
        for use_gelu, function in ((False, lambda y: np.maximum(y, 0)), (True, gelu)):
            got = fx._addmm_activation(c, a, b, beta=3, alpha=0.5, use_gelu=use_gelu)
            assert got.dtype.name == dtype
            # Neither has a slope above 1.13.
            np.testing.assert_array_less(abs(got.cpu().to(fx.float64).numpy() - function(0.5 * (x @ y) + 3 * z)), bound)
    c, z = values(rng, (m, n), dtype)
    wide = fx.zeros((m, 2 * n), dtype=c.dtype, device="cuda")
    fx._addmm_activation(c, a, b, out=wide[:, ::2])
    expected = np.maximum(x @ y + z, 0)
    np.testing.assert_array_less(abs(wide[:, ::2].cpu().to(fx.float64).numpy() - expected), bound)
    assert not wide[:, 1::2].cpu().any()


@pytest.mark.parametrize("use_gelu", [False, True])
def test_gradients_of_activations(use_gelu):
    rng = np.random.default_rng(13)
    given = [values(rng, shape, "float64")[0].requires_grad_() for shape in ((12,), (9, 34), (34, 12))]
    assert fx.autograd.gradcheck(lambda *x: fx._addmm_activation(*x, beta=0.5, alpha=2, use_gelu=use_gelu), given)
    bias, a, b = given
    a, b, x = a.detach(), b.detach(), bias.detach().clone()
    x[3] = float("nan")     # stays in its column
    assert fx._addmm_activation(x, a, b, use_gelu=use_gelu).isnan().sum(0).tolist() == [0, 0, 0, 9] + 8 * [0]


def test_activations_of_integers_are_refused():
    for device in ("cpu", "cuda"):
        x = fx.ones((2, 2), dtype=fx.int32, device=device)
        for use_gelu in (False, True):
            with pytest.raises(RuntimeError, match="_addmm_activation"):
                fx._addmm_activation(x, x, x, use_gelu=use_gelu)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32"])
def test_linear(dtype):
    rng = np.random.default_rng(6)
    weight, w = values(rng, (10, 6), dtype)
    bias, v = values(rng, (20,), dtype)
    for shape in ((6,), (1, 6), (3, 6), (2, 5, 6)):
        a, x = values(rng, shape, dtype)
        same(fx.nn.functional.linear(a, weight), x, w.T, dtype)
        same(fx.nn.functional.linear(a, weight, bias[:10]), x, w.T, dtype, 1, 1, v[:10])
        same(fx.nn.functional.linear(a, weight, bias[::2]), x, w.T, dtype, 1, 1, v[::2])
    a, x = values(rng, (2, 6, 5), dtype)
    same(fx.nn.functional.linear(a.transpose(1, 2), weight, bias[:10]), x.transpose(0, 2, 1), w.T, dtype, 1, 1, v[:10])


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
def test_empty(dtype):
    kind = getattr(fx, dtype)
    for m, k, n in ((0, 3, 2), (2, 3, 0), (0, 0, 0)):
        assert (fx.ones(m, k, dtype=kind, device="cuda") @ fx.ones(k, n, dtype=kind, device="cuda")).shape == (m, n)
    for m, n in ((2, 3), (1, 3), (3, 1), (1, 1)):
        a, b = fx.ones(m, 0, dtype=kind, device="cuda"), fx.ones(0, n, dtype=kind, device="cuda")
        assert not (a @ b).cpu().any()
        added = fx.addmm(fx.ones(n, dtype=kind, device="cuda"), a, b, beta=2)
        assert (added == 2).cpu().all()
    a, b = (fx.ones(0, *s, dtype=kind, device="cuda") for s in ((2, 3), (3, 2)))
    assert (a @ b).shape == (0, 2, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("n", [1, 40])
def test_special_values_stay_in_their_row(n, dtype):
    rng = np.random.default_rng(7)
    x = rng.standard_normal((40, 50)).astype("float32")
    x[3, 49] = np.nan
    x[17, 0] = np.inf
    y = abs(rng.standard_normal((50, n))).astype("float32")
    got = (fx.tensor(x).to(getattr(fx, dtype)).cuda() @ fx.tensor(y).to(getattr(fx, dtype)).cuda()).cpu()
    got = got.to(fx.float64).numpy()
    assert np.isnan(got[3]).all() and np.isposinf(got[17]).all()
    assert np.isfinite(np.delete(got, [3, 17], 0)).all()


def test_gradients():
    rng = np.random.default_rng(8)
    w, x = (rng.standard_normal(s) for s in ((4, 6), (5, 6)))
    on = [fx.tensor(t, device="cuda", requires_grad=True) for t in (w, x)]
    y = fx.nn.functional.linear(on[1], on[0])
    g = rng.standard_normal((5, 4))
    y.backward(fx.tensor(g, device="cuda"))
    np.testing.assert_allclose(on[0].grad.cpu().numpy(), g.T @ x, rtol=1e-12)
    np.testing.assert_allclose(on[1].grad.cpu().numpy(), g @ w, rtol=1e-12)


def test_mistakes():
    a = fx.ones(2, 3, device="cuda")
    with pytest.raises(RuntimeError, match="inner sizes"):
        a @ a
    with pytest.raises(RuntimeError, match="same device"):
        a @ fx.ones(3, 2)
    with pytest.raises(RuntimeError, match="not defined for bool"):
        fx.ones(2, 2, dtype=fx.bool, device="cuda") @ fx.ones(2, 2, dtype=fx.bool, device="cuda")
