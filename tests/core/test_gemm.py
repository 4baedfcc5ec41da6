"""Matrix products of the CPU backend, against NumPy in double precision (exact integers for the integer types)."""
import ctypes

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ferrox._core.cpu as cpu
from ferrox._core.door import threads
from ferrox._core.door.backend import run_kernel

SIZES = [0, 1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 15, 16, 17, 20, 23, 24, 25, 31, 33, 40, 64, 100, 257]
FLOATS = ["float32", "float64", "float16", "bfloat16"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8"]


def npdtype(name):
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def unit(name):
    """Unit roundoff."""
    return {"float32": 2.0**-24, "float64": 2.0**-53, "float16": 2.0**-11, "bfloat16": 2.0**-8}[name]


def lay(x, kind):
    """The same values in another memory layout of the last two dimensions."""
    if kind == "rows":
        return np.ascontiguousarray(x)
    if kind == "columns":
        return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    if kind == "spread":
        y = np.zeros((*x.shape[:-2], x.shape[-2] * 2, x.shape[-1] * 3), x.dtype)
        view = y[..., ::2, ::3]
    elif kind == "padded":
        y = np.zeros((*x.shape[:-2], x.shape[-2], x.shape[-1] + 5), x.dtype)
        view = y[..., : x.shape[-1]]
    else:  # negative strides
        y = np.zeros_like(x)
        view = y[..., ::-1, ::-1]
    view[...] = x
    return view


LAYOUTS = ["rows", "columns", "spread", "padded", "reversed"]


def draw(rng, shape, dtype):
    return rng.standard_normal(shape).astype(npdtype(dtype))


def poisoned(shape, dtype):
    """An output full of NaN: what is not written, or read first, shows."""
    return np.full(shape, np.nan).astype(npdtype(dtype))


def check(out, a, b, dtype, alpha=1.0, beta=0.0, c=None):
    """The error bound of a sum of K products in any order: K u |a| |b|, in float32 and rounded once for halves."""
    wide = np.longdouble if dtype == "float64" else np.float64
    a, b, k = a.astype(wide), b.astype(wide), a.shape[-1]
    expected, size = alpha * (a @ b), abs(alpha) * (abs(a) @ abs(b))
    if c is not None:
        expected, size = expected + beta * c.astype(wide), size + abs(beta * c.astype(wide))
    u = unit(dtype)
    bound = size * (k + 3) * (2.0**-24 if u > 2.0**-24 else u) + (abs(expected) * u * 1.01 if u > 2.0**-24 else 0)
    if dtype == "float16":
        bound = bound + 2.0**-24  # subnormal spacing
    error = abs(out.astype(wide) - expected)
    assert out.shape == expected.shape
    assert (error <= bound).all(), (error / np.maximum(bound, 1e-300)).max()


@pytest.fixture(params=[1, 2], autouse=True)
def thread_count(request):
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield request.param
    threads.set_num_threads(before)


@pytest.mark.parametrize("dtype", FLOATS)
def test_random_shapes_and_layouts(dtype):
    rng = np.random.default_rng(1)
    for _ in range(200):
        m, k, n = (int(x) for x in rng.choice(SIZES, 3))
        a, b = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype)
        out = poisoned((m, n), dtype)
        run_kernel("matmul", [out, lay(a, rng.choice(LAYOUTS)), lay(b, rng.choice(LAYOUTS))], 1, dtype=dtype)
        check(out, a, b, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(300, 1000, 500), (1000, 450, 30), (13, 900, 2100), (2, 801, 2100), (40, 5, 4200),
                                   (1, 3000, 2500), (2500, 3000, 1), (1, 1, 5000), (3000, 1, 17), (1, 100000, 1)])
def test_large(dtype, shape):
    """Several blocks along K and strips along N, and enough work for every thread."""
    rng = np.random.default_rng(2)
    m, k, n = shape
    a, b = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype)
    for la in ["rows", "columns"]:
        for lb in ["rows", "columns"]:
            out = poisoned((m, n), dtype)
            run_kernel("matmul", [out, lay(a, la), lay(b, lb)], 1, dtype=dtype)
            rows = rng.choice(m, min(m, 30), replace=False)
            columns = rng.choice(n, min(n, 300), replace=False)  # the reference in long double is slow
            assert not np.isnan(out).any()
            check(out[np.ix_(rows, columns)], a[rows], b[:, columns], dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("alpha, beta", [(1.0, 1.0), (2.0, -0.5), (-1.5, 0.0), (0.0, 1.0)])
def test_addmm(dtype, alpha, beta):
    rng = np.random.default_rng(3)
    for _ in range(60):
        m, k, n = (int(x) for x in rng.choice(SIZES, 3))
        a, b, c = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype), draw(rng, (m, n), dtype)
        kind = rng.choice([*LAYOUTS, "row", "column", "scalar"])
        if kind == "row":
            c = np.broadcast_to(draw(rng, (1, n), dtype), (m, n))
        elif kind == "column":
            c = np.broadcast_to(draw(rng, (m, 1), dtype), (m, n))
        elif kind == "scalar":
            c = np.broadcast_to(draw(rng, (1, 1), dtype), (m, n))
        else:
            c = lay(c, kind)
        out = poisoned((m, n), dtype)
        run_kernel("addmm", [out, c, lay(a, rng.choice(LAYOUTS)), lay(b, rng.choice(LAYOUTS))], 1,
                   params=(beta, alpha), dtype=dtype)
        check(out, a, b, dtype, alpha, beta, c)


@pytest.mark.parametrize("shape", [(3, 4, 5), (100, 100, 100), (1, 50, 60), (60, 50, 1), (7, 0, 6), (40, 1, 50),
                                   (5, 700, 900)])
def test_beta_zero_does_not_read_c(shape):
    m, k, n = shape
    rng = np.random.default_rng(4)
    a, b = draw(rng, (m, k), "float32"), draw(rng, (k, n), "float32")
    out, c = poisoned((m, n), "float32"), poisoned((m, n), "float32")
    run_kernel("addmm", [out, c, a, b], 1, params=(0.0, 1.0))
    check(out, a, b, "float32")


def test_addmm_in_place():
    rng = np.random.default_rng(5)
    for shape in [(5, 6, 7), (90, 700, 80)]:
        m, k, n = shape
        a, b, c = draw(rng, (m, k), "float32"), draw(rng, (k, n), "float32"), draw(rng, (m, n), "float32")
        out = c.copy()
        run_kernel("addmm", [out, out, a, b], 1, params=(0.5, 2.0))
        check(out, a, b, "float32", 2.0, 0.5, c)


@pytest.mark.parametrize("dtype", FLOATS)
def test_linear(dtype):
    rng = np.random.default_rng(6)
    for _ in range(120):
        m, k, n = (int(x) for x in rng.choice(SIZES, 3))
        lead = [(m,), (), (2, m), (3, 1, m)][rng.integers(4)]
        x, weight, bias = draw(rng, (*lead, k), dtype), draw(rng, (n, k), dtype), draw(rng, (n,), dtype)
        given = x
        if len(lead) >= 2 and rng.random() < 0.5:
            given = np.ascontiguousarray(x.swapaxes(0, -2)).swapaxes(0, -2)  # leading dimensions that do not collapse
        elif len(lead) >= 1:
            given = lay(x, rng.choice(LAYOUTS))
        out = poisoned((*lead, n), dtype)
        if rng.random() < 0.3:
            run_kernel("linear", [out, given, lay(weight, rng.choice(LAYOUTS)), None], 1, dtype=dtype)
            check(out, x, weight.T, dtype)
        else:
            spread = np.repeat(bias, 2)[::2] if rng.random() < 0.5 else bias
            run_kernel("linear", [out, given, lay(weight, rng.choice(LAYOUTS)), spread], 1, dtype=dtype)
            check(out, x, weight.T, dtype, 1.0, 1.0, np.broadcast_to(bias, (*lead, n)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_batched(dtype):
    rng = np.random.default_rng(7)
    for _ in range(100):
        m, k, n = (int(x) for x in rng.choice(SIZES[:-3], 3))
        batch = [(2,), (3, 4), (1, 5), (2, 1, 3), (0,), (9,)][rng.integers(6)]
        shapes = []
        for rows, columns in ((m, k), (k, n)):
            lead = tuple(1 if rng.random() < 0.35 else x for x in batch)
            x = lay(draw(rng, (*lead, rows, columns), dtype), rng.choice(LAYOUTS))
            shapes.append(np.broadcast_to(x, (*batch, rows, columns)))
        a, b = shapes
        out = poisoned((*batch, m, n), dtype)
        run_kernel("matmul", [out, a, b], 1, dtype=dtype)
        check(out, a, b, dtype)
        c = np.broadcast_to(draw(rng, (n,), dtype), (*batch, m, n))
        out = poisoned((*batch, m, n), dtype)
        run_kernel("addmm", [out, c, a, b], 1, params=(0.5, 1.5), dtype=dtype)
        check(out, a, b, dtype, 1.5, 0.5, c)


@pytest.mark.parametrize("dtype", FLOATS)
def test_dot(dtype):
    rng = np.random.default_rng(8)
    for n in [0, 1, 2, 7, 8, 9, 63, 64, 65, 1000, 65535, 65536, 65537, 300001]:
        for step in (1, 3):
            a, b = draw(rng, (n * step,), dtype)[::step], draw(rng, (n,), dtype)
            out = poisoned((), dtype)
            run_kernel("dot", [out, a, b], 1, dtype=dtype)
            check(out[None, None], a[None, :], b[:, None], dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap(dtype):
    rng = np.random.default_rng(9)
    info = np.iinfo(dtype)
    for _ in range(60):
        m, k, n = (int(x) for x in rng.choice(SIZES[:-2], 3))
        a = rng.integers(info.min, info.max, (m, k), dtype, endpoint=True)
        b = rng.integers(info.min, info.max, (k, n), dtype, endpoint=True)
        c = rng.integers(info.min, info.max, (m, n), dtype, endpoint=True)
        expected = (a.astype(object) @ b.astype(object)).reshape(m, n) if k else np.zeros((m, n), object)
        modulus = 2 ** (8 * info.dtype.itemsize)

        def wrap(x, modulus=modulus, low=info.min):
            return ((x - low) % modulus + low).astype(dtype) if x.size else x.astype(dtype)

        la, lb = rng.choice(LAYOUTS, 2)
        out = np.ones((m, n), dtype)
        run_kernel("matmul", [out, lay(a, la), lay(b, lb)], 1, dtype=dtype)
        assert (out == wrap(expected)).all()
        run_kernel("addmm", [out, lay(c, rng.choice(LAYOUTS)), lay(a, la), lay(b, lb)], 1,
                   params=(2**53 + 1, -(2**60) - 1), dtype=dtype)
        assert (out == wrap((-(2**60) - 1) * expected + (2**53 + 1) * c.astype(object))).all()
        if m and k:
            scalar = np.ones((), dtype)
            run_kernel("dot", [scalar, a[0], a[-1]], 1, dtype=dtype)
            assert scalar == wrap(a[:1].astype(object) @ a[-1:].T.astype(object))[0, 0]


@pytest.mark.parametrize("shape", [(3, 4, 5), (64, 64, 64), (1, 40, 50), (50, 40, 1), (30, 1, 40), (100, 90, 110),
                                   (2, 500, 40)])
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_nan_and_inf_stay_in_their_row_and_column(shape, layout):
    m, k, n = shape
    rng = np.random.default_rng(10)
    a, b = rng.uniform(1, 2, (m, k)).astype("f"), rng.uniform(1, 2, (k, n)).astype("f")
    a[m // 2, k // 2] = np.nan
    b[k // 3, n // 2] = np.inf
    out = np.zeros((m, n), "f")
    run_kernel("matmul", [out, lay(a, layout), lay(b, layout)], 1)
    expected = a.astype("d") @ b.astype("d")
    assert (np.isnan(out) == np.isnan(expected)).all()
    assert (np.isinf(out) == np.isinf(expected)).all()
    finite = np.isfinite(expected)
    np.testing.assert_allclose(out[finite], expected[finite], rtol=1e-4)


def test_zero_k_gives_zeros_or_beta_c():
    out = poisoned((3, 4), "float32")
    empty = np.zeros((3, 0), "f"), np.zeros((0, 4), "f")
    run_kernel("matmul", [out, *empty], 1)
    assert (out == 0).all()
    c = np.arange(12, dtype="f").reshape(3, 4)
    run_kernel("addmm", [out, c, *empty], 1, params=(0.5, 1.0))
    assert (out == 0.5 * c).all()


def test_nothing_beyond_the_output_is_written():
    """Rows of C are cut from the middle of a page-sized guard."""
    rng = np.random.default_rng(11)
    for m, k, n in [(5, 7, 3), (6, 8, 17), (50, 60, 70), (1, 9, 300), (100, 300, 37)]:
        for dtype in ("float32", "float64"):
            guard = np.full(m * n + 64, 7.0, dtype)
            out = guard[32 : 32 + m * n].reshape(m, n)
            a, b = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype)
            run_kernel("matmul", [out, a, b], 1, dtype=dtype)
            assert (guard[:32] == 7).all() and (guard[32 + m * n :] == 7).all()
            check(out, a, b, dtype)


@pytest.mark.skipif(not hasattr(ctypes, "CDLL") or not cpu.LEVEL, reason="needs mmap protection")
def test_nothing_beyond_the_operands_is_read():
    """Operands end where an unreadable page begins."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    page, size = 4096, 64 * 4096

    def at_the_edge(x):
        base = libc.mmap(None, size + page, 3, 0x22, -1, 0)
        assert base not in (None, ctypes.c_void_p(-1).value)
        assert libc.mprotect(base + size, page, 0) == 0
        buffer = (ctypes.c_char * x.nbytes).from_address(base + size - x.nbytes)
        y = np.frombuffer(buffer, x.dtype).reshape(x.shape)
        y[...] = x
        return y

    rng = np.random.default_rng(12)
    for dtype in ("float32", "float64"):
        for m, k, n in [(1, 1, 1), (3, 5, 3), (7, 9, 11), (13, 21, 17), (1, 33, 35), (35, 33, 1), (60, 70, 50),
                        (4, 300, 7)]:
            for ta in (False, True):
                for tb in (False, True):
                    a, b = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype)
                    ea = at_the_edge(np.ascontiguousarray(a.T)).T if ta else at_the_edge(a)
                    eb = at_the_edge(np.ascontiguousarray(b.T)).T if tb else at_the_edge(b)
                    out = at_the_edge(np.zeros((m, n), dtype))
                    run_kernel("matmul", [out, ea, eb], 1, dtype=dtype)
                    check(out, a, b, dtype)


def test_errors():
    f, d = np.zeros((2, 3), "f"), np.zeros((3, 2), "d")
    with pytest.raises(TypeError, match="dtype"):
        run_kernel("matmul", [np.zeros((2, 2), "f"), f, d], 1)
    with pytest.raises(ValueError, match="shapes do not fit"):
        run_kernel("matmul", [np.zeros((2, 2), "f"), f, f], 1)
    with pytest.raises(ValueError, match="two dimensions"):
        run_kernel("matmul", [np.zeros(2, "f"), f, np.zeros(3, "f")], 1)
    with pytest.raises(TypeError, match="bool"):
        x = np.zeros((2, 2), "?")
        run_kernel("matmul", [x, x, x], 1, dtype="bool")
    with pytest.raises(ValueError, match="vectors of one length"):
        run_kernel("dot", [np.zeros((), "f"), np.zeros(2, "f"), np.zeros(3, "f")], 1)
    with pytest.raises(ValueError, match="shapes do not fit"):
        run_kernel("linear", [np.zeros((2, 5), "f"), f, np.zeros((5, 4), "f"), None], 1)


@given(m=st.integers(0, 70), k=st.integers(0, 70), n=st.integers(0, 70), seed=st.integers(0, 2**32 - 1),
       double=st.booleans())
@settings(max_examples=150, deadline=None)
def test_exact_on_small_integers(m, k, n, seed, double):
    """Small whole numbers have no rounding: every product is exact in any order."""
    rng = np.random.default_rng(seed)
    dtype = "float64" if double else "float32"
    a, b = rng.integers(-9, 9, (m, k)).astype(dtype), rng.integers(-9, 9, (k, n)).astype(dtype)
    out = poisoned((m, n), dtype)
    run_kernel("matmul", [out, lay(a, rng.choice(LAYOUTS)), lay(b, rng.choice(LAYOUTS))], 1, dtype=dtype)
    assert (out == a.astype(np.int64) @ b.astype(np.int64)).all()


@pytest.mark.parametrize("dtype, number", [("float32", 8), ("float64", 9)])
def test_blas(dtype, number):
    """OpenBLAS through its module: all transpose combinations, and a refusal of what BLAS cannot read."""
    rng = np.random.default_rng(13)

    def where(x):
        return (x.ctypes.data, *(s // x.itemsize for s in x.strides))

    for m, k, n in [(3, 4, 5), (300, 200, 250), (1, 30, 40), (40, 30, 1), (5, 1, 6)]:
        for la in ["rows", "columns", "padded"]:
            for lb in ["rows", "columns", "padded"]:
                a, b, c = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype), draw(rng, (m, n), dtype)
                x, y, out = lay(a, la), lay(b, lb), c.copy()
                assert cpu.load_blas()._gemm(number, (m, n, k), 1.5, where(x), where(y), 0.5, (out.ctypes.data, n))
                check(out, a, b, dtype, 1.5, 0.5, c)
    x = lay(draw(rng, (6, 6), dtype), "spread")
    out = np.zeros((6, 6), dtype)
    assert not cpu.load_blas()._gemm(number, (6, 6, 6), 1.0, where(x), where(out), 0.0, (out.ctypes.data, 6))
