"""The elementwise driver: every layout of operands against NumPy."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ferrox._core.cpu  # noqa: F401
from ferrox._core.door.backend import run_kernel

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


def values(rng, shape, dtype):
    """Small integers: exact in every dtype and through every cast."""
    return rng.integers(0, 2 if dtype == "bool" else 6, shape).astype(dtype)


@st.composite
def layouts(draw, shape, broadcast=True):
    """A function from a dtype and a generator to an array of `shape` in a random layout."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1, -3])) for _ in shape]
    pads = [draw(st.sampled_from([0, 0, 1])) for _ in shape]
    keep = [not broadcast or draw(st.sampled_from([True, True, False])) for _ in shape]
    drop = draw(st.integers(0, len(shape))) if broadcast else 0
    drop = min(drop, next((i for i, k in enumerate(keep) if k), len(shape)))
    materialise = broadcast and draw(st.booleans())

    def make(dtype, rng):
        own = [n if k else 1 for n, k in zip(shape, keep, strict=True)]
        base = values(rng, [own[d] * abs(steps[d]) + pads[d] for d in order], dtype)
        view = base.transpose(np.argsort(order))
        view = view[(..., *(slice(None, None, s) for s in steps))][(..., *(slice(0, n) for n in own))]
        assert list(view.shape) == own
        view = view.reshape(own[drop:]) if drop and view.ndim else view
        return np.broadcast_to(view, shape) if materialise else view

    return make


SHAPES = st.one_of(
    st.lists(st.integers(0, 7), max_size=5),
    st.lists(st.integers(1, 70), max_size=3),
    st.sampled_from([(3000,), (5, 2049), (700, 3), (3, 700), (130, 67), (2, 129, 65), (33000,), (260, 130),
                     (2, 3, 2, 2, 2, 2, 2)]),
)


@st.composite
def cases(draw, n_in):
    shape = tuple(draw(SHAPES))
    return (
        shape,
        draw(layouts(shape, broadcast=False)),
        [draw(layouts(shape)) for _ in range(n_in)],
        draw(st.sampled_from(DTYPES)),
        [draw(st.sampled_from([None, *DTYPES])) for _ in range(n_in + 1)],
        draw(st.integers(0, 2**32)),
    )


@settings(max_examples=400, deadline=None)
@given(cases(2), st.sampled_from(["int32", "int64", "float32", "float64"]))
def test_add(case, compute):
    shape, out_layout, in_layouts, _, dtypes, seed = case
    rng = np.random.default_rng(seed)
    x, y = (make(dtype or compute, rng) for make, dtype in zip(in_layouts, dtypes[1:], strict=True))
    out = out_layout(dtypes[0] or compute, rng)
    surroundings = out.base.copy() if out.base is not None else None
    run_kernel("add", [out, x, y], 1, (), compute)
    expected = np.broadcast_to(x.astype(compute) + y.astype(compute), shape).astype(out.dtype)
    np.testing.assert_array_equal(out, expected)
    if surroundings is not None:
        # Nothing beside the view was written.
        changed = out.base.copy()
        out.base[...] = surroundings
        out[...] = expected
        np.testing.assert_array_equal(changed, out.base)


@settings(max_examples=200, deadline=None)
@given(cases(3), st.sampled_from(["float32", "float64"]))
def test_three_inputs(case, compute):
    shape, out_layout, in_layouts, _, dtypes, seed = case
    rng = np.random.default_rng(seed)
    x, y, z = (make(dtype or compute, rng) for make, dtype in zip(in_layouts, dtypes[1:], strict=True))
    out = out_layout(dtypes[0] or compute, rng)
    run_kernel("fma", [out, x, y, z], 1, (), compute)
    expected = x.astype(compute) * y.astype(compute) + z.astype(compute)
    np.testing.assert_array_equal(out, np.broadcast_to(expected, shape).astype(out.dtype))


@settings(max_examples=100, deadline=None)
@given(cases(2), st.sampled_from(["int32", "float32", "float64"]))
def test_comparison_in_place_and_scalars(case, compute):
    shape, out_layout, in_layouts, _, dtypes, seed = case
    rng = np.random.default_rng(seed)
    x = in_layouts[0](dtypes[1] or compute, rng)
    scalar = np.array(3, "float64")
    out = out_layout("bool", rng)
    run_kernel("lt", [out, x, scalar], 1, (), compute, scalars=[2])
    np.testing.assert_array_equal(out, np.broadcast_to(x, shape) < 3)
    inplace = out_layout(dtypes[0] or compute, rng)
    expected = inplace.astype(compute) + np.array(3, compute)
    run_kernel("add", [inplace, inplace, scalar], 1, (), compute, scalars=[2])
    np.testing.assert_array_equal(inplace, expected.astype(inplace.dtype))


@pytest.mark.parametrize("offset", [0, 1, 5])
@pytest.mark.parametrize("threads", [1, 2])
def test_large_outputs_leave_the_caches(offset, threads):
    """Sizes above the switch to non-temporal stores, at unaligned addresses, transposed, with short rows."""
    from ferrox._core.door.threads import set_num_threads

    set_num_threads(threads)
    n = 1 << 23
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(n + offset, dtype="float32")[offset:] for _ in range(2))
    out = np.zeros(n + 32, "float32")
    view = out[offset : offset + n]
    run_kernel("add", [view, x, y], 1)
    np.testing.assert_array_equal(view, x + y)
    assert not out[:offset].any()
    assert not out[offset + n :].any()
    square = (2048, 4096)
    a, b = x.reshape(square), y.reshape(square[::-1]).T
    run_kernel("add", [view.reshape(square), a, b], 1)
    np.testing.assert_array_equal(view.reshape(square), a + b)
    rows = (n // 16, 16)
    run_kernel("add", [view.reshape(rows), x.reshape(rows), y[:16]], 1)
    np.testing.assert_array_equal(view.reshape(rows), x.reshape(rows) + y[:16])
    run_kernel("add", [view.reshape(rows), x.reshape(rows), y[: n // 16].reshape(-1, 1)], 1)
    np.testing.assert_array_equal(view.reshape(rows), x.reshape(rows) + y[: n // 16].reshape(-1, 1))
    set_num_threads(1)


@pytest.mark.parametrize("name", ["floor_divide", "div_trunc", "remainder", "fmod"])
def test_integer_division_by_zero_is_refused(name):
    x, y, out = np.arange(1, 13).reshape(3, 4), np.arange(1, 13).reshape(4, 3).T, np.zeros((3, 4), "int64")
    run_kernel(name, [out, x, y], 1, (), "int64")
    expected = {"floor_divide": x // y, "div_trunc": x // y, "remainder": x % y, "fmod": x % y}[name]
    np.testing.assert_array_equal(out, expected)
    y[1, 2] = 0
    out[...] = 7
    for divisor in (y, np.array(0), np.array(0, "int8")):
        with pytest.raises(RuntimeError, match="division by zero"):
            run_kernel(name, [out, x, divisor], 1, (), "int64")
    assert (out == 7).all()
    run_kernel(name, [np.zeros((0, 4), "int64"), x[:0], np.array(0)], 1, (), "int64")


def test_a_kernel_without_loops_for_a_dtype_is_refused():
    with pytest.raises(TypeError, match="not defined"):
        run_kernel("bitwise_and", [np.zeros(3), np.zeros(3), np.zeros(3)], 1, (), "float64")


def test_params_reach_the_loop():
    x = np.arange(4, dtype="float32")
    out = np.zeros(4, "float32")
    run_kernel("axpy", [out, x, x], 1, (3.0,))
    assert out[1] in (3 * 1 + 1, 1 + 3 * 1)
    run_kernel("add", [out, x, x], 1)
    np.testing.assert_array_equal(out, 2 * x)


def bfloat16(x):
    """Numbers that bfloat16 holds exactly, as their two-byte items."""
    return np.ascontiguousarray((x.astype("float32").view("uint32") >> 16).astype("uint16")).view("V2")


@pytest.mark.parametrize("n", [1, 5, 3000])
def test_bfloat16(n):
    x, y = np.arange(n) % 100, np.arange(n)[::-1] % 28
    out = np.zeros(n, "V2")
    run_kernel("add", [out, bfloat16(x), bfloat16(y)], 1, (), "bfloat16")
    np.testing.assert_array_equal(out, bfloat16(x + y))
    total = np.zeros((), "float32")
    run_kernel("sum", [total, bfloat16(x)], 1, (1,), "bfloat16")
    assert total == x.sum()
