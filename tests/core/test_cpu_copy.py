"""Copies, casts, fills, ranges and selection against NumPy."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ferrox._core.cpu  # noqa: F401
from ferrox._core.door.backend import run_kernel
from ferrox._core.door.threads import get_num_threads, set_num_threads

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
SHAPES = st.one_of(
    st.lists(st.integers(0, 7), max_size=5),
    st.lists(st.integers(1, 70), max_size=3),
    st.sampled_from([(5000,), (300, 200), (3, 5000), (5000, 3), (20, 130, 30), (1, 33000)]),
)


@st.composite
def views(draw):
    """Two or more views of one shape, each with an order of dimensions and steps of its own."""
    shape = tuple(draw(SHAPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def view(dtype):
        order = rng.permutation(len(shape))
        steps = rng.choice([1, 1, 1, 2, -1, -2], len(shape))
        base = rng.integers(0, 120, [shape[d] * abs(steps[d]) + 1 for d in order]).astype(dtype)
        full = base.transpose(np.argsort(order))[(..., *(slice(None, None, int(s)) for s in steps))]
        return full[(..., *(slice(0, n) for n in shape))]

    return view, shape, rng


@settings(max_examples=300, deadline=None)
@given(views(), st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_copy(case, to, source):
    view, _, _ = case
    out, x = view(to), view(source)
    everything = out.base.copy()
    run_kernel("copy", [out, x], 1, (), source)
    np.testing.assert_array_equal(out, x.astype(to))
    changed = out.base.copy()
    out.base[...] = everything
    out[...] = x.astype(to)
    np.testing.assert_array_equal(changed, out.base)


@settings(max_examples=100, deadline=None)
@given(views(), st.sampled_from(DTYPES))
def test_copy_broadcasts(case, dtype):
    view, shape, rng = case
    out = view(dtype)
    x = view(dtype)[tuple(slice(0, 1) if rng.random() < 0.5 else slice(None) for _ in shape)]
    run_kernel("copy", [out, x], 1, (), dtype)
    np.testing.assert_array_equal(out, np.broadcast_to(x, shape))


@settings(max_examples=100, deadline=None)
@given(views(), st.sampled_from(DTYPES), st.sampled_from([True, 3, 2.5]))
def test_fill(case, dtype, value):
    view, _, _ = case
    out = view(dtype)
    everything = out.base.copy()
    run_kernel("fill", [out, np.array(value)], 1, (), dtype, scalars=[1])
    assert (out == np.array(value).astype(dtype)).all()
    changed = out.base.copy()
    out.base[...] = everything
    out[...] = np.array(value).astype(dtype)
    np.testing.assert_array_equal(changed, out.base)


@settings(max_examples=200, deadline=None)
@given(views(), st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_where(case, dtype, x_dtype, out_dtype):
    view, shape, rng = case
    out, condition = view(out_dtype), view("uint8") > 60
    x, y = (view(d)[tuple(slice(0, 1) if rng.random() < 0.3 else slice(None) for _ in shape)] for d in (x_dtype, dtype))
    run_kernel("where", [out, condition, x, y], 1, (), dtype)
    expected = np.where(condition, x.astype(dtype), y.astype(dtype)).astype(out_dtype)
    np.testing.assert_array_equal(out, np.broadcast_to(expected, shape))
    scalar = np.array(3.0)
    run_kernel("where", [out, condition, scalar, y], 1, (), dtype, scalars=[2])
    expected = np.where(condition, scalar.astype(dtype), y.astype(dtype)).astype(out_dtype)
    np.testing.assert_array_equal(out, np.broadcast_to(expected, shape))


@pytest.mark.parametrize("n", [0, 1, 2, 5, 1024, 1025, 3000])
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_ranges(n, dtype):
    whole = not dtype.startswith("float")
    start, step = (3, -2) if whole else (0.5, 0.25)
    for out in (np.zeros(n, dtype), np.zeros(3 * n, dtype)[::3], np.zeros(n, dtype)[::-1]):
        run_kernel("arange", [out], 1, (start, step), dtype)
        exact = start + np.arange(n) * step
        np.testing.assert_array_equal(out, exact.astype(dtype))
        run_kernel("linspace", [out], 1, (-1.0, 100.0), "float64")
        if not whole:
            np.testing.assert_allclose(out, np.linspace(-1, 100, n).astype(dtype), rtol=np.finfo(dtype).eps, atol=1e-13)
        if n:
            assert out[0] == np.array(-1.0).astype("int64").astype(dtype)
        if n > 1:
            assert out[-1] == np.array(100).astype(dtype)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_large_copies(threads, dtype):
    """Above the switch to non-temporal stores: flat, transposed (with rows that begin inside a line), filled."""
    before = get_num_threads()
    set_num_threads(threads)
    try:
        size = np.dtype(dtype).itemsize
        rows, cols = (1 << 24) // size // 1021 + 1, 1024
        x = np.random.default_rng(0).integers(0, 100, (rows, cols)).astype(dtype)
        for view in (x, x[:, 1:], x.T, x[:-1, 3:].T, x[:, ::-1]):
            out = np.zeros(view.shape, dtype)
            run_kernel("copy", [out, view], 1, (), dtype)
            np.testing.assert_array_equal(out, view)
        run_kernel("fill", [x, np.array(9)], 1, (), dtype)
        assert (x == 9).all()
    finally:
        set_num_threads(before)


@pytest.mark.parametrize("source", ["float16", "float32", "float64"])
@pytest.mark.parametrize("to", DTYPES)
def test_casts_of_special_values_do_not_crash(source, to):
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 2.75, -2.75], source)
    out = np.zeros(6, to)
    run_kernel("copy", [out, x], 1, (), source)
    if to == "bool":
        np.testing.assert_array_equal(out, [True, True, True, False, True, True])
    elif to.startswith("float"):
        np.testing.assert_array_equal(out, x.astype(to))
    elif to != "uint8":
        np.testing.assert_array_equal(out[3:], [0, 2, -2])
