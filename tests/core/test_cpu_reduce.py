"""Reductions against NumPy: random shapes, layouts, dtypes, reduced dimensions, special values, thread counts."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

import ferrox._core.cpu  # noqa: F401
from ferrox._core.door.backend import run_kernel
from ferrox._core.door.threads import get_num_threads, set_num_threads

INTEGERS = ["uint8", "int8", "int16", "int32", "int64"]
FLOATS = ["float16", "float32", "float64"]
SHAPES = st.one_of(
    st.lists(st.integers(1, 7), max_size=5),
    st.lists(st.integers(0, 70), max_size=3),
    st.sampled_from([(9000,), (5, 2049), (700, 3), (3, 700), (2000, 10), (10, 2000), (130, 67), (2, 129, 65),
                     (600, 4, 5), (40, 3, 300), (70000, 2), (2, 70000), (3, 5, 7000), (200000,),
                     (300, 600), (1100, 130)]),
)


def special(rng, x, nan=True):
    """Sprinkles infinities (and NaN) over a floating array."""
    if x.size and x.dtype.kind == "f":
        flat = x.reshape(-1)
        for value in [np.inf, -np.inf] + [np.nan] * nan:
            if rng.random() < 0.5:
                flat[rng.integers(0, flat.size)] = value
    return x


@st.composite
def cases(draw, dtypes):
    """A strided array, and which of its dimensions are reduced."""
    shape = tuple(draw(SHAPES))
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 1, 2, -1])) for _ in shape]
    axes = tuple(d for d in range(len(shape)) if draw(st.booleans()))
    dtype = draw(st.sampled_from(dtypes))
    seed = draw(st.integers(0, 2**32))

    def make(values):
        rng = np.random.default_rng(seed)
        base = values(rng, [shape[d] * abs(steps[d]) for d in order]).astype(dtype)
        return base.transpose(np.argsort(order))[(..., *(slice(None, None, s) for s in steps))], axes, rng

    return make


def normal(rng, size):
    return np.asarray(rng.standard_normal(size) * 3)


def small(rng, size):
    return np.asarray(rng.integers(-3, 4, size))


def mask(axes):
    return sum(1 << d for d in axes)


def kept(x, axes, dtype):
    return np.zeros([n for d, n in enumerate(x.shape) if d not in axes], dtype)


def reduce(name, x, axes, *params, out=None, dtype=None):
    result = kept(x, axes, out or x.dtype)
    run_kernel(name, [result, x], 1, (mask(axes), *params), dtype or str(x.dtype))
    return result


def wide(x):
    return np.asarray(x).astype("longdouble")


@settings(max_examples=300, deadline=None)
@given(cases(FLOATS))
def test_sum_and_mean(case):
    x, axes, _ = case(normal)
    n = int(np.prod([x.shape[d] for d in axes]))
    exact = wide(x).sum(axis=axes)
    # The error of a blocked sum grows with the logarithm of n, not with n.
    eps = np.finfo(x.dtype).eps
    bound = (np.abs(exact) + (4 if x.dtype != "float16" else 0.01) * np.abs(wide(x)).sum(axis=axes)) * eps + 1e-7 * (
        x.dtype == "float16")
    assert (np.abs(wide(reduce("sum", x, axes)) - exact) <= bound).all()
    if n:
        assert (np.abs(wide(reduce("sum", x, axes, 1.0 / n)) - exact / n) <= bound / n + eps * np.abs(exact / n)).all()


@settings(max_examples=200, deadline=None)
@given(cases(["bool", *INTEGERS]))
def test_integer_sum_prod_count(case):
    x, axes, _ = case(small)
    for name, function in [("sum", np.sum), ("prod", np.prod), ("count_nonzero", np.count_nonzero)]:
        expected = function(x, axis=axes) if name == "count_nonzero" else function(x, axis=axes, dtype="int64")
        np.testing.assert_array_equal(reduce(name, x, axes, out="int64", dtype="int64"), expected)
    for name, function in [("all", np.all), ("any", np.any)]:
        np.testing.assert_array_equal(reduce(name, x, axes, out="bool", dtype="bool"), function(x, axis=axes))


@settings(max_examples=100, deadline=None)
@given(cases(FLOATS))
def test_floating_all_any_count(case):
    x, axes, rng = case(small)
    x = special(rng, x)
    for name, function in [("all", np.all), ("any", np.any), ("count_nonzero", np.count_nonzero)]:
        out = "int64" if name == "count_nonzero" else "bool"
        np.testing.assert_array_equal(reduce(name, x, axes, out=out), function(x, axis=axes))


@settings(max_examples=200, deadline=None)
@given(cases(["bool", *INTEGERS, *FLOATS]), st.booleans())
def test_extremes(case, sprinkle):
    x, axes, rng = case(normal)
    if sprinkle:
        special(rng, x.base if x.base is not None else x)
    if any(x.shape[d] == 0 for d in axes):
        return
    for name, function in [("amax", np.max), ("amin", np.min)]:
        np.testing.assert_array_equal(reduce(name, x, axes), function(x, axis=axes))


@settings(max_examples=300, deadline=None)
@given(cases(["bool", *INTEGERS, *FLOATS]), st.booleans(), st.integers(0, 10), st.sampled_from([small, normal]))
def test_arg_extremes(case, sprinkle, dim, values):
    """Ties go to the first, NaN wins: NumPy agrees with PyTorch on both."""
    x, _, rng = case(values)
    if sprinkle:
        special(rng, x.base if x.base is not None else x)
    if 0 in x.shape:
        return
    for axis in [None] + ([dim % x.ndim] if x.ndim else []):
        axes = tuple(range(x.ndim)) if axis is None else (axis,)
        for name, both, function, value in [
            ("argmax", "max_dim", np.argmax, np.max),
            ("argmin", "min_dim", np.argmin, np.min),
        ]:
            expected = function(x, axis=axis)
            np.testing.assert_array_equal(reduce(name, x, axes, out="int64"), expected)
            values_out, indices = kept(x, axes, x.dtype), kept(x, axes, "int64")
            run_kernel(both, [values_out, indices, x], 2, (mask(axes),), str(x.dtype))
            np.testing.assert_array_equal(indices, expected)
            np.testing.assert_array_equal(values_out, value(x, axis=axis))


@settings(max_examples=200, deadline=None)
@given(cases(FLOATS), st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 100.0]))
def test_var(case, correction, offset):
    x, axes, _ = case(lambda rng, size: normal(rng, size) + offset)
    n = int(np.prod([x.shape[d] for d in axes]))
    out, mean = kept(x, axes, x.dtype), kept(x, axes, x.dtype)
    eps = np.finfo(x.dtype).eps
    for root in (0, 1):
        run_kernel("var", [out, mean, x], 2, (mask(axes), correction, root), str(x.dtype))
        if n <= correction:
            assert np.isnan(out).all()
        else:
            expected = wide(x).var(axis=axes, ddof=correction)
            expected = np.sqrt(expected) if root else expected
            exact = wide(x).mean(axis=axes)
            # float64 is not summed in anything wider: its condition number counts (Chan, Golub and LeVeque 1983).
            spread = np.maximum(wide(x).var(axis=axes), 1e-300)
            condition = np.sqrt(1 + exact**2 / spread) if x.dtype == "float64" else 1
            # Sums of float64 are as deep as a tree (float32 is summed in double): a last bit for every floor of it, and
            # four for the mean, its difference, the square and the quotient.
            depth = max(2, np.log2(n)) if x.dtype == "float64" else 1
            bound = (3 + depth) * eps * condition * expected + np.finfo(x.dtype).tiny
            assert (np.abs(wide(out) - expected) <= bound).all()
            # The mean's is relative to the items' size.
            assert (np.abs(wide(mean) - exact) <= depth * eps * np.abs(wide(x)).mean(axis=axes)).all()
    alone = kept(x, axes, x.dtype)
    run_kernel("var", [alone, x], 1, (mask(axes), correction, 1), str(x.dtype))
    np.testing.assert_array_equal(alone, out)


@settings(max_examples=200, deadline=None)
@given(cases(FLOATS), st.sampled_from([0.0, 1.0, 2.0, np.inf, -np.inf, 3.0, 0.5, -1.0]))
def test_norm(case, order):
    x, axes, _ = case(normal)
    n = int(np.prod([x.shape[d] for d in axes]))
    if n == 0:
        return
    a = np.abs(wide(x))
    with np.errstate(divide="ignore", over="ignore"):
        expected = (
            np.count_nonzero(a, axis=axes) if order == 0 else a.max(axis=axes) if order == np.inf
            else a.min(axis=axes) if order == -np.inf else (a**order).sum(axis=axes) ** (1 / order))
        expected = np.asarray(expected).astype(x.dtype)
    # The last power multiplies the relative error of the sum by 1 / order.  Powers of one sign are added one after
    # another along columns: such an error is some part of the root of n (Higham, Mary, A new approach to probabilistic
    # rounding error analysis, 2019).
    grown = 4 + np.sqrt(n) / 32
    rtol = grown * np.finfo(x.dtype).eps * (max(1, 1 / order) if 0 < order < np.inf else 1)
    np.testing.assert_allclose(reduce("norm", x, axes, order), expected, rtol=rtol)


@settings(max_examples=200, deadline=None)
@given(cases(FLOATS), st.booleans())
def test_logsumexp(case, sprinkle):
    x, axes, rng = case(lambda rng, size: normal(rng, size) * 30)
    if sprinkle:
        special(rng, x.base if x.base is not None else x)
    n = int(np.prod([x.shape[d] for d in axes]))
    if n == 0:
        assert (reduce("logsumexp", x, axes) == -np.inf).all()
        return
    if x.size == 0:
        assert reduce("logsumexp", x, axes).size == 0
        return
    with np.errstate(all="ignore"):
        expected = logsumexp(wide(x), axis=axes) if axes else wide(x)
    eps = np.finfo(x.dtype).eps
    got = wide(reduce("logsumexp", x, axes))
    np.testing.assert_allclose(got, expected, rtol=4 * eps, atol=8 * eps)


def test_logsumexp_of_infinities():
    x = np.array([[-np.inf, -np.inf], [np.inf, 1], [np.nan, np.inf], [1e30, 1e30]], "float32")
    np.testing.assert_array_equal(reduce("logsumexp", x, (1,)), np.array([-np.inf, np.inf, np.nan, 1e30], "float32"))
    np.testing.assert_array_equal(reduce("logsumexp", np.ascontiguousarray(x.T), (0,)), reduce("logsumexp", x, (1,)))


@settings(max_examples=100, deadline=None)
@given(cases(FLOATS))
def test_nansum_and_products(case):
    x, axes, rng = case(lambda rng, size: small(rng, size) * 0.5)
    with_nan = x.copy()
    if x.size:
        with_nan.reshape(-1)[rng.integers(0, x.size, 3)] = np.nan
    exact = np.nansum(wide(with_nan), axis=axes)
    rtol = 2 * np.finfo(x.dtype).eps
    np.testing.assert_allclose(wide(reduce("nansum", with_nan, axes)), exact.astype(x.dtype), rtol=rtol)
    squares = (wide(x) ** 2).sum(axis=axes)
    np.testing.assert_allclose(wide(reduce("sum_squares", x, axes)), squares.astype(x.dtype), rtol=rtol)
    signs = np.sign(x) + (x == 0)
    np.testing.assert_array_equal(reduce("prod", signs, axes), np.prod(signs, axis=axes))


def test_squares_do_not_overflow():
    x = np.array([3e30, 4e30], "float32")
    assert reduce("norm", x, (0,), 2.0) == np.float32(5e30)


@pytest.mark.parametrize("name", ["sum", "prod", "amax", "argmin", "var", "logsumexp", "norm", "count_nonzero"])
@pytest.mark.parametrize("shape", [(1 << 20,), (3000, 333), (333, 3000), (200000, 10), (3, 200000), (64, 100, 50)])
def test_threads_do_not_change_a_bit(name, shape):
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape, dtype="float32")
    param = {"norm": (3.0,), "var": (1.0,)}.get(name, ())
    before = get_num_threads()
    try:
        for axes in {(0,), (x.ndim - 1,), tuple(range(x.ndim))}:
            results = []
            for threads in (1, 2, 3):
                set_num_threads(threads)
                out = "int64" if name.startswith(("arg", "count")) else None
                results.append(reduce(name, x, axes, *param, out=out))
            assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()
    finally:
        set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sum_error_does_not_grow_with_the_size(dtype):
    """A running sum of 1e7 times 0.1 is off by 1e-2 in float32; a blocked one by no more than its last digits."""
    n = 10_000_000
    x = np.full((n,), 0.1, dtype)
    exact = float(x[0]) * n
    eps = np.finfo(dtype).eps
    assert abs(float(reduce("sum", x, (0,))) - exact) <= 8 * eps * exact
    columns = x.reshape(-1, 10)
    exact = float(x[0]) * (n // 10)
    assert (np.abs(wide(reduce("sum", columns, (0,))) - exact) <= 8 * eps * exact).all()


def test_undefined_dtypes_are_refused():
    with pytest.raises(TypeError, match="not defined"):
        reduce("var", np.arange(4), (0,), 1.0, out="float64")
