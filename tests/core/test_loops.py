"""The elementwise loops of every dtype against NumPy; activations, losses and their gradients against PyTorch."""

import operator

import numpy as np
import pytest

import ferrox._core.cpu  # noqa: F401
from ferrox._core.cpu.table import loop_names, run_loop

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
INTEGERS = ["uint8", "int8", "int16", "int32", "int64"]
REALS = ["float32", "float64"]
LOOPS = loop_names()
EDGES = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    2.0,
    -2.0,
    0.5,
    -0.5,
    3.0,
    -3.0,
    6.0,
    7.5,
    -7.5,
    np.inf,
    -np.inf,
    np.nan,
    1e-30,
    -1e-30,
    25.0,
]


def run(name, *operands, p=()):
    operands = [np.ascontiguousarray(x) for x in operands]
    out = np.empty(operands[0].size, bool if LOOPS[name][1] else operands[0].dtype)
    at = [x.ctypes.data for x in operands] + [0, 0]
    run_loop(name, NAMES.index(operands[0].dtype.name), out.ctypes.data, *at[:3], out.size, p)
    return out


def pairs(dtype, rng):
    """Every pair for 8 bits; otherwise every pair of the extremes and small numbers, and random ones."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        values = np.array([False, True])
    elif dtype.kind == "f":
        values = np.concatenate([EDGES, rng.normal(size=40) * 4]).astype(dtype)
    else:
        info = np.iinfo(dtype)
        small = range(-9, 10) if info.min < 0 else range(20)
        values = (
            np.arange(info.min, info.max + 1)
            if info.bits == 8
            else np.concatenate(
                [[info.min, info.min + 1, info.max - 1, info.max], list(small), rng.integers(info.min, info.max, 60)]
            )
        )
        values = values.astype(dtype)
    x, y = np.meshgrid(values, values)
    return x.ravel(), y.ravel()


def trunc_divide(x, y):
    q = np.abs(x.astype(object)) // np.abs(y.astype(object))
    return np.where((x < 0) != (y < 0), -q, q)


BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "fmax": np.fmax,
    "fmin": np.fmin,
    "copysign": np.copysign,
    "heaviside": lambda x, y: np.where(np.isnan(x), 0, np.heaviside(x, y)),
    "nextafter": np.nextafter,
    "fmod": np.fmod,
    "remainder": np.remainder,
    "floor_divide": np.floor_divide,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_exactly(name):
    rng = np.random.default_rng(0)
    for dtype in (NAMES[i] for i in LOOPS[name][2]):
        x, y = pairs(dtype, rng)
        if name in ("floor_divide", "remainder", "fmod") and dtype in INTEGERS:
            x, y = x[y != 0], y[y != 0]
        if name == "heaviside" and dtype in INTEGERS:
            expected = np.where(x == 0, y, x > 0).astype(dtype)
        else:
            with np.errstate(all="ignore"):
                expected = BINARY[name](x, y)
        if name in ("floor_divide", "remainder") and dtype in REALS:
            keep = np.isfinite(x) & np.isfinite(y)
            x, y, expected = x[keep], y[keep], expected[keep]
        got = run(name, x, y)
        np.testing.assert_array_equal(got, expected.astype(got.dtype), err_msg=f"{name} {dtype}")
        if dtype in REALS and name not in ("maximum", "minimum", "fmax", "fmin", "remainder") and not LOOPS[name][1]:
            numbers = ~np.isnan(expected)
            np.testing.assert_array_equal(
                np.signbit(got)[numbers], np.signbit(expected)[numbers], err_msg=f"{name} {dtype}"
            )


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_arithmetic(dtype):
    rng = np.random.default_rng(1)
    x, y = pairs(dtype, rng)
    keep = y != 0
    np.testing.assert_array_equal(
        run("div_trunc", x[keep], y[keep]),
        trunc_divide(x[keep], y[keep]).astype(object).astype(dtype)
        if dtype == "uint8"
        else np.array(
            [int(v) & (2 ** np.iinfo(dtype).bits - 1) for v in trunc_divide(x[keep], y[keep])], np.uint64
        ).astype(dtype),
    )
    for name in ("floor_divide", "div_trunc", "remainder", "fmod"):  # the caller finds the zeros and raises
        np.testing.assert_array_equal(run(name, x[:50], np.zeros(50, dtype)), 0)
    base, power = (
        rng.integers(0 if dtype == "uint8" else -5, 6, 500).astype(dtype),
        rng.integers(0, 4, 500).astype(dtype),
    )
    np.testing.assert_array_equal(run("pow", base, power), base**power)
    if dtype != "uint8":
        negative = run("pow", np.array([1, -1, -1, 2, 0], dtype), np.array([-3, -3, -2, -1, -1], dtype))
        np.testing.assert_array_equal(negative, [1, -1, 1, 0, 0])
    bits = np.iinfo(dtype).bits
    count = rng.integers(0, bits, x.size).astype(dtype)
    np.testing.assert_array_equal(run("left_shift", x, count), x << count)
    np.testing.assert_array_equal(run("right_shift", x, count), x >> count)
    over = np.full(x.size, bits, dtype)
    np.testing.assert_array_equal(run("left_shift", x, over), 0)
    np.testing.assert_array_equal(run("right_shift", x, over), np.where(x < 0, -1, 0).astype(dtype))


def test_unary_exactly():
    rng = np.random.default_rng(0)
    references = {
        "abs": np.abs,
        "neg": np.negative,
        "positive": np.positive,
        "square": np.square,
        "bitwise_not": np.invert,
        "floor": np.floor,
        "ceil": np.ceil,
        "round": np.rint,
        "trunc": np.trunc,
        "sqrt": np.sqrt,
        "reciprocal": lambda x: 1 / x,
        "frac": lambda x: x - np.trunc(x),
        "isnan": np.isnan,
        "isinf": np.isinf,
        "isfinite": np.isfinite,
        "isposinf": lambda x: x == np.inf,
        "isneginf": lambda x: x == -np.inf,
        "signbit": np.signbit,
        "logical_not": np.logical_not,
        "sign": lambda x: (x > 0).astype(int) - (x < 0),
    }
    for name, reference in references.items():
        for dtype in (NAMES[i] for i in LOOPS[name][2]):
            x = pairs(dtype, rng)[1]
            with np.errstate(all="ignore"):
                if dtype in INTEGERS and name in ("isnan", "isinf", "isposinf", "isneginf"):
                    expected = np.zeros(x.size, bool)
                elif (dtype == "bool" and name in ("positive", "abs", "square", "sign")) or (
                        dtype not in REALS and name in ("round", "floor", "ceil", "trunc")):
                    expected = x
                elif name == "signbit" and dtype not in REALS:
                    expected = x < 0
                else:
                    expected = reference(x)
            got = run(name, x)
            np.testing.assert_array_equal(got, np.asarray(expected).astype(got.dtype), err_msg=f"{name} {dtype}")


def test_ternary():
    rng = np.random.default_rng(2)
    for dtype in REALS:
        x, y, z = (rng.normal(size=333).astype(dtype) for _ in range(3))
        half = np.dtype(dtype).type(0.5)
        np.testing.assert_array_equal(run("addcmul", x, y, z, p=(0.5,)), x + half * y * z)
        np.testing.assert_array_equal(run("addcdiv", x, y, z, p=(0.5,)), x + half * y / z)
        np.testing.assert_array_equal(run("clamp", x, -abs(y), abs(z)), np.clip(x, -abs(y), abs(z)))
        np.testing.assert_array_equal(run("fma", x, y, z), x * y + z)
        np.testing.assert_allclose(
            run("lerp", x, y, abs(z)),
            x + abs(z) * (y - x),
            rtol=1e-5 if dtype == "float32" else 1e-13,
            atol=1e-6 if dtype == "float32" else 1e-14,
        )
        one = np.ones(333, dtype)
        np.testing.assert_array_equal(run("lerp", x, y, one), y)  # exact at both ends
        np.testing.assert_array_equal(run("lerp", x, y, one * 0), x)
    for dtype in INTEGERS:
        x, y, z = (rng.integers(0, 100, 333).astype(dtype) for _ in range(3))
        np.testing.assert_array_equal(run("addcmul", x, y, z, p=(2,)), x + np.dtype(dtype).type(2) * y * z)
        np.testing.assert_array_equal(
            run("clamp", x, np.minimum(y, z), np.maximum(y, z)), np.clip(x, np.minimum(y, z), np.maximum(y, z))
        )
        np.testing.assert_array_equal(run("clamp_scalar", x, p=(10, int(np.iinfo(dtype).max))), np.maximum(x, 10))
        np.testing.assert_array_equal(run("clamp_scalar", x, p=(int(np.iinfo(dtype).min), 50)), np.minimum(x, 50))


def test_pow():
    rng = np.random.default_rng(3)
    edges = np.array([*EDGES, 1.5, -1.5, 4, 1e10, -1e10, 5e-324, 1e-40, 1.0000001, 0.99999994])
    for dtype in REALS:
        x, y = (v.ravel() for v in np.meshgrid(edges.astype(dtype), edges.astype(dtype)))
        with np.errstate(all="ignore"):
            expected = np.power(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
        got = run("pow", x, y)
        np.testing.assert_allclose(got, expected, rtol=1.3e-7 if dtype == "float32" else 1e-15, atol=2e-45)
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(expected)[numbers])
        x, y = np.exp(rng.normal(size=20000) * 5).astype(dtype), (rng.normal(size=20000) * 8).astype(dtype)
        with np.errstate(all="ignore"):
            expected = np.power(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
        np.testing.assert_allclose(run("pow", x, y), expected, rtol=1.3e-7 if dtype == "float32" else 3e-16, atol=2e-45)


REAL_BINARY = {
    "atan2": np.arctan2,
    "hypot": np.hypot,
    "logaddexp": np.logaddexp,
    "logaddexp2": np.logaddexp2,
    "xlogy": lambda x, y: np.where(np.isnan(y), y, np.where(x == 0, 0.0, x * np.log(y))),
    "ldexp": lambda x, y: x * np.exp2(y),
}


@pytest.mark.parametrize("name", REAL_BINARY)
def test_real_binary(name):
    rng = np.random.default_rng(4)
    for dtype in REALS:
        x, y = pairs(dtype, rng)
        with np.errstate(all="ignore"):
            expected = REAL_BINARY[name](x.astype(np.float64), y.astype(np.float64)).astype(dtype)
        got = run(name, x, y)
        np.testing.assert_allclose(
            got,
            expected,
            rtol=3e-7 if dtype == "float32" else 6e-16,
            atol=2e-7 if dtype == "float32" else 4e-16,
            err_msg=name,
        )
        if name == "atan2":
            zero = got == 0
            np.testing.assert_array_equal(np.signbit(got)[zero], np.signbit(expected)[zero])


def test_bool():
    x, y = np.array([False, False, True, True]), np.array([False, True, False, True])
    for name, function in {
        "add": operator.or_,
        "mul": operator.and_,
        "maximum": operator.or_,
        "minimum": operator.and_,
        "bitwise_xor": operator.xor,
    }.items():
        got = run(name, x, y)
        assert got.view(np.uint8).max() <= 1
        np.testing.assert_array_equal(got, function(x, y))
    np.testing.assert_array_equal(run("bitwise_not", x), ~x)
    assert 0 not in LOOPS["sub"][2]


def test_float16_exhaustively():
    bits = np.arange(65536, dtype=np.uint16)
    half, single = bits.view(np.float16), np.empty(65536, np.float32)
    run_loop("cast", 16 * 8 + 6, single.ctypes.data, bits.ctypes.data, 0, 0, 65536)
    np.testing.assert_array_equal(single, half.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(single), np.signbit(half))
    # Back, from every half, every midpoint between halves, and the neighbours of both.
    points = single[np.isfinite(single)]
    middles = (points[:-1].astype(np.float64) + points[1:]) / 2
    x = np.concatenate(
        [points, middles, [65519.9, 65520, 65520.1, 1e10, np.inf, -np.inf, np.nan, 2.0**-25, 2.0**-25.1, 1e-40]]
    )
    x = x.astype(np.float32)
    x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
    out = np.empty(x.size, np.float16)
    run_loop("cast", 16 * 6 + 8, out.ctypes.data, x.ctypes.data, 0, 0, x.size)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(np.signbit(out), np.signbit(expected))


def test_bfloat16():
    bits = np.arange(65536, dtype=np.uint16)
    single = np.empty(65536, np.float32)
    run_loop("cast", 16 * 8 + 7, single.ctypes.data, bits.ctypes.data, 0, 0, 65536)
    np.testing.assert_array_equal(single.view(np.uint32), bits.astype(np.uint32) << 16)
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2**32, 200_000, dtype=np.uint32)
    x = np.concatenate(
        [patterns, patterns & np.uint32(0xFFFF0000) | np.uint32(0x8000), [0x7F7FFFFF, 0xFF800000, 1, 0x8000]]
    )
    x = x.astype(np.uint32).view(np.float32)
    out = np.empty(x.size, np.uint16)
    run_loop("cast", 16 * 7 + 8, out.ctypes.data, x.ctypes.data, 0, 0, x.size)
    got = (out.astype(np.uint32) << 16).view(np.float32)
    # Round to eight significant bits, to even, in exact arithmetic.
    _, exponent = np.frexp(x.astype(np.float64))
    step = np.ldexp(1.0, np.maximum(exponent, -125) - 8)
    with np.errstate(all="ignore"):
        expected = (np.rint(x / step) * step).astype(np.float32)
    expected = np.where(np.isinf(x), x, expected)
    np.testing.assert_array_equal(got, expected)


def test_casts_of_every_pair():
    rng = np.random.default_rng(0)
    dtypes = [name for name in NAMES if name != "bfloat16"]
    for to in dtypes:
        for source in dtypes:
            x = (
                rng.integers(0, 2, 77)
                if source == "bool"
                else rng.integers(0 if "u" in (source + to)[0:1] else -100, 100, 77)
            )
            x = (np.abs(x) if "uint8" in (to, source) else x).astype(source)
            if np.dtype(source).kind == "f":
                x = x + np.dtype(source).type(0.75)
            out = np.empty(77, to)
            run_loop("cast", 16 * NAMES.index(to) + NAMES.index(source), out.ctypes.data, x.ctypes.data, 0, 0, 77)
            np.testing.assert_array_equal(out, x.astype(to), err_msg=f"{source} to {to}")
    x, out = np.array([-1.5, 255.0, 256.0, 300.7, -129.0]), np.empty(5, np.uint8)
    run_loop("cast", 16 * 1 + 9, out.ctypes.data, x.ctypes.data, 0, 0, 5)
    np.testing.assert_array_equal(out, [255, 255, 0, 44, 127])  # modulo 256, as PyTorch


def test_select_and_fill():
    rng = np.random.default_rng(0)
    for dtype in (np.uint8, np.int16, np.float32, np.float64):
        size = np.dtype(dtype).itemsize
        condition, x, y = (
            rng.random(101) < 0.5,
            rng.integers(0, 99, 101).astype(dtype),
            rng.integers(0, 99, 101).astype(dtype),
        )
        out = np.empty(101, dtype)
        run_loop("select", size, out.ctypes.data, condition.ctypes.data, x.ctypes.data, y.ctypes.data, 101)
        np.testing.assert_array_equal(out, np.where(condition, x, y))
        run_loop("fill", size, out.ctypes.data, x.ctypes.data, 0, 0, 101)
        np.testing.assert_array_equal(out, x[0])
