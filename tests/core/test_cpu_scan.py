"""Scans against NumPy and, for ties and NaN, against PyTorch's rules written out."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ferrox._core.cpu  # noqa: F401
from ferrox._core.door.backend import run_kernel
from ferrox._core.door.threads import get_num_threads, set_num_threads

SHAPES = st.one_of(
    st.lists(st.integers(0, 7), min_size=1, max_size=4),
    st.sampled_from([(5000,), (3, 2500), (2500, 3), (100, 70), (70, 100), (40, 3, 50), (1, 40000), (40000, 1)]),
)


@st.composite
def cases(draw, dtypes):
    shape = tuple(draw(SHAPES))
    steps = [draw(st.sampled_from([1, 1, 2, -1])) for _ in shape]
    order = draw(st.permutations(range(len(shape))))
    dtype = draw(st.sampled_from(dtypes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dim = draw(st.integers(0, len(shape) - 1))

    def make(values, dtype=dtype):
        base = values(rng, [shape[d] * abs(steps[d]) for d in order]).astype(dtype)
        return base.transpose(np.argsort(order))[tuple(slice(None, None, s) for s in steps)]

    return make, dim, draw(st.booleans()), rng


def turn(x, dim, reverse):
    return np.flip(x, dim) if reverse else x


@settings(max_examples=200, deadline=None)
@given(cases(["bool", "uint8", "int8", "int16", "int32", "int64"]))
def test_integers(case):
    make, dim, reverse, _ = case
    x = make(lambda rng, size: rng.integers(-3, 4, size))
    for name, function in [("cumsum", np.cumsum), ("cumprod", np.cumprod)]:
        out = make(lambda rng, size: np.zeros(size), "int64")
        run_kernel(name, [out, x], 1, (dim, int(reverse)), "int64")
        expected = function(turn(x, dim, reverse), axis=dim, dtype="int64")
        np.testing.assert_array_equal(out, turn(expected, dim, reverse))


@settings(max_examples=200, deadline=None)
@given(cases(["float16", "float32", "float64"]))
def test_floats(case):
    make, dim, reverse, _ = case
    x = make(lambda rng, size: rng.standard_normal(size))
    forward = turn(x.astype("longdouble"), dim, reverse)
    eps = np.finfo(x.dtype).eps
    out = make(lambda rng, size: np.zeros(size))
    run_kernel("cumsum", [out, x], 1, (dim, int(reverse)), str(x.dtype))
    n = x.shape[dim]
    bound = np.cumsum(np.abs(forward), axis=dim) * (n * 2.0**-53) + eps * np.abs(np.cumsum(forward, axis=dim))
    assert (np.abs(turn(out, dim, reverse) - np.cumsum(forward, axis=dim)) <= bound + np.finfo(x.dtype).tiny).all()
    y = make(lambda rng, size: np.where(rng.random(size) < 0.5, 0.5, 2.0) * np.where(rng.random(size) < 0.5, 1, -1))
    y = y[tuple(slice(0, 10) for _ in y.shape)]
    out = np.zeros_like(y)
    run_kernel("cumprod", [out, y], 1, (dim, int(reverse)), str(x.dtype))
    np.testing.assert_array_equal(out, turn(np.cumprod(turn(y, dim, reverse), axis=dim), dim, reverse))


def running_extreme(x, larger):
    """PyTorch's rule on one line: the later of equals; a NaN stays, and the latest NaN is the one shown."""
    values, indices, best, at = [], [], x[0], 0
    for i, v in enumerate(x):
        if v != v or (best == best and (v >= best if larger else v <= best)):
            best, at = v, i
        values.append(best)
        indices.append(at)
    return values, indices


@settings(max_examples=100, deadline=None)
@given(cases(["bool", "int8", "int32", "int64", "float16", "float32", "float64"]), st.booleans())
def test_running_extremes(case, nan):
    make, dim, reverse, rng = case
    x = make(lambda rng, size: rng.integers(-9, 10, size))
    if nan and x.dtype.kind == "f" and x.size:
        x[rng.random(x.shape) < 0.05] = np.nan
    for name, larger in [("cummax", True), ("cummin", False)]:
        values, indices = (make(lambda rng, size: np.zeros(size), dtype) for dtype in (x.dtype, "int64"))
        run_kernel(name, [values, indices, x], 2, (dim, int(reverse)), str(x.dtype))
        if x.size == 0:
            continue
        lines = np.moveaxis(turn(x, dim, reverse), dim, -1).reshape(-1, x.shape[dim])
        got_values = np.moveaxis(turn(values, dim, reverse), dim, -1).reshape(lines.shape)
        got_indices = np.moveaxis(turn(indices, dim, reverse), dim, -1).reshape(lines.shape)
        for i in range(min(len(lines), 20)):
            expected, at = running_extreme(lines[i], larger)
            np.testing.assert_array_equal(got_values[i], expected)
            np.testing.assert_array_equal(got_indices[i], [x.shape[dim] - 1 - k for k in at] if reverse else at)


@settings(max_examples=100, deadline=None)
@given(cases(["float16", "float32", "float64"]))
def test_logcumsumexp(case):
    make, dim, reverse, _ = case
    x = make(lambda rng, size: rng.standard_normal(size) * 20)
    out = np.zeros_like(x)
    run_kernel("logcumsumexp", [out, x], 1, (dim, int(reverse)), str(x.dtype))
    expected = turn(np.logaddexp.accumulate(turn(x.astype("float64"), dim, reverse), axis=dim), dim, reverse)
    eps = np.finfo(x.dtype).eps
    np.testing.assert_allclose(out.astype("float64"), expected, rtol=4 * eps, atol=x.shape[dim] * 2.0**-52 + 4 * eps)


def test_logcumsumexp_of_infinities():
    x = np.array([-np.inf, -np.inf, 1, np.inf, 2, np.nan, 3], "float32")
    out = np.zeros_like(x)
    run_kernel("logcumsumexp", [out, x], 1, (0, 0))
    np.testing.assert_array_equal(out, np.array([-np.inf, -np.inf, 1, np.inf, np.inf, np.nan, np.nan], "float32"))


@pytest.mark.parametrize("dim", [0, 1])
def test_threads_do_not_change_a_bit(dim):
    x = np.random.default_rng(0).standard_normal((500, 300), dtype="float32")
    before = get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            set_num_threads(threads)
            out = np.zeros_like(x)
            run_kernel("cumsum", [out, x], 1, (dim, 0))
            results.append(out.tobytes())
        assert results[0] == results[1]
    finally:
        set_num_threads(before)


def test_integers_have_no_logarithm():
    with pytest.raises(TypeError, match="integers"):
        run_kernel("logcumsumexp", [np.zeros(3, "int64"), np.arange(3)], 1, (0, 0), "int64")
