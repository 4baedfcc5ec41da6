"""The elementwise loops: accuracy against mpmath, special values, every dtype against NumPy and PyTorch."""

import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest

import ferrox._core.cpu as cpu
from ferrox._core.cpu.table import loop_names, run_loop

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
INTEGERS = ["uint8", "int8", "int16", "int32", "int64"]
REALS = [np.float32, np.float64]
LOOPS = loop_names()
inf, nan = np.inf, np.nan


def number(dtype):
    return NAMES.index(np.dtype(dtype).name)


def run(name, *operands, p=(), inplace=False):
    """One loop over contiguous operands of one dtype."""
    operands = [np.array(x) for x in operands]
    dtype, n = operands[0].dtype, operands[0].size
    to_bool = LOOPS[name][1]
    out = operands[0] if inplace else np.empty(n, bool if to_bool else dtype)
    at = [x.ctypes.data for x in operands] + [0, 0]
    run_loop(name, number(dtype), out.ctypes.data, *at[:3], n, p)
    return out


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def phi(x):
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


# name: (reference, low, high, ulps of float32, ulps of float64); sampled uniformly in [low, high] and by magnitude.
ACCURACY = {
    "exp": (mpmath.exp, -110, 95, 1, 1),
    "exp2": (lambda x: mpmath.power(2, x), -155, 130, 1, 1),
    "expm1": (mpmath.expm1, -40, 95, 1.5, 1.5),
    "log": (mpmath.log, 0, 10, 1, 1),
    "log2": (lambda x: mpmath.log(x, 2), 0, 10, 0.51, 1),
    "log10": (mpmath.log10, 0, 10, 0.51, 1),
    "log1p": (mpmath.log1p, -1, 3, 1, 1),
    "sin": (mpmath.sin, -300, 300, 1.5, 1),
    "cos": (mpmath.cos, -300, 300, 1.5, 1),
    "tan": (mpmath.tan, -300, 300, 0.51, 2),
    "asin": (mpmath.asin, -1, 1, 0.51, 1.5),
    "acos": (mpmath.acos, -1, 1, 0.51, 1.5),
    "atan": (mpmath.atan, -10, 10, 0.51, 1.5),
    "sinh": (mpmath.sinh, -90, 90, 2, 2),
    "cosh": (mpmath.cosh, -90, 90, 1.5, 1.5),
    "tanh": (mpmath.tanh, -10, 10, 1.5, 2),
    "asinh": (mpmath.asinh, -10, 10, 0.51, 2),
    "acosh": (mpmath.acosh, 1, 20, 0.51, 2),
    "atanh": (mpmath.atanh, -1, 1, 0.51, 2),
    "sigmoid": (sigmoid, -105, 40, 1.5, 1.5),
    "erf": (mpmath.erf, -5, 5, 1.5, 1.5),
    "erfc": (mpmath.erfc, -6, 26, 0.51, 3),
    "erfinv": (mpmath.erfinv, -1, 1, 0.51, 3),
    "sinc": (mpmath.sincpi, -20, 20, 0.51, 3),
    "rsqrt": (lambda x: 1 / mpmath.sqrt(x), 0, 10, 1.5, 1.5),
    "reciprocal": (lambda x: 1 / x, -5, 5, 0.51, 0.51),
    "sqrt": (mpmath.sqrt, 0, 10, 0.51, 0.51),
    "lgamma": (lambda x: mpmath.loggamma(x).real, 0.01, 40, 0.51, 4),
    "digamma": (mpmath.digamma, 2, 30, 0.51, 4),
    "trigamma": (lambda x: mpmath.psi(1, x), -4, 30, 0.51, 8),
    "gelu_erf": (lambda x: x * phi(x), -9, 9, 6, 6),
    "silu": (lambda x: x * sigmoid(x), -80, 80, 3, 3),
    "mish": (lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))), -80, 30, 4, 4),
    "logsigmoid": (lambda x: -mpmath.log1p(mpmath.exp(-x)), -80, 80, 2, 2),
}


def samples(dtype, low, high, n, rng):
    """Uniform, by magnitude, and over all bit patterns, within [low, high]."""
    bits = np.uint32 if dtype == np.float32 else np.uint64
    patterns = rng.integers(0, np.iinfo(bits).max, n, dtype=bits, endpoint=True).view(dtype)
    magnitudes = rng.choice([-1, 1], n) * np.exp(rng.uniform(-30, 5, n))
    x = np.concatenate([rng.uniform(low, high, 2 * n), magnitudes, patterns]).astype(dtype)
    return x[(x > low) & (x < high) & (x != 0)]


def ulps(got, exact):
    """Error in units in the last place of the exact value."""
    info = np.finfo(got.dtype)
    worst, where = 0.0, None
    for i, (value, reference) in enumerate(zip(got.tolist(), exact, strict=True)):
        if abs(reference) > mpmath.mpf(float(info.max)) * (1 + mpmath.mpf(float(info.eps)) / 4):
            error = 0.0 if abs(value) == inf and (value > 0) == (reference > 0) else inf
        else:
            exponent = max(mpmath.frexp(reference)[1] if reference else info.minexp, info.minexp + 1)
            error = float(abs(mpmath.mpf(value) - reference) / mpmath.ldexp(1, int(exponent) + info.machep))
        if not error <= worst:
            worst, where = error, i
    return worst, where


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy(name, dtype):
    reference, low, high, *bounds = ACCURACY[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    x = samples(dtype, low, high, 150, rng)
    with mpmath.workprec(140):
        exact = [reference(mpmath.mpf(v)) for v in x.astype(float).tolist()]
        got = run(name, x)
        error, i = ulps(got, exact)
    # Without FMA (v2) products in polynomials and reductions round once more.
    bound = bounds[REALS.index(dtype)] + (0.75 if cpu.level in ("v2", "base") else 0)
    assert error <= bound, f"{error} ulp at {x[i]!r}"


@pytest.mark.parametrize("dtype", REALS)
def test_float_functions_densely(dtype):
    """Many more float32 samples of the busiest functions, against NumPy's float64."""
    if dtype == np.float64:
        pytest.skip("needs a wider reference")
    rng = np.random.default_rng(5)
    bounds = {
        "exp": (np.exp, -87, 88),
        "log": (np.log, 1e-3, 100),
        "sin": (np.sin, -5e5, 5e5),
        "cos": (np.cos, -5e5, 5e5),
        "tanh": (np.tanh, -10, 10),
        "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), -87, 20),
        "expm1": (np.expm1, -20, 80),
    }
    for name, (reference, low, high) in bounds.items():
        x = np.concatenate([rng.uniform(low, high, 300_000), rng.uniform(max(low, -3), min(high, 3), 300_000)]).astype(
            dtype
        )
        exact = reference(x.astype(np.float64))
        error = np.abs(run(name, x) - exact) / np.spacing(np.abs(exact).astype(dtype)).astype(np.float64)
        assert error.max() <= (1.55 if cpu.level not in ("v2", "base") else 2.3), (name, error.max(), x[error.argmax()])


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_angles(name, dtype):
    rng = np.random.default_rng(3)
    near = np.arange(1, 300_000, 997) * np.pi / 2
    x = np.concatenate(
        [near, -near, np.exp(rng.uniform(10, np.log(np.finfo(dtype).max), 300)), [499999.9, 500000.5]]
    ).astype(dtype)
    with mpmath.workprec(1200):
        exact = [getattr(mpmath, name)(mpmath.mpf(v)) for v in x.astype(float).tolist()]
        got = run(name, x)
        error, i = ulps(got, exact)
    assert error <= (2.5 if cpu.level in ("v2", "base") else 2), f"{error} ulp at {x[i]!r}"


SPECIAL = {
    "exp": [(0, 1), (-0.0, 1), (inf, inf), (-inf, 0), (1e4, inf), (-1e4, 0)],
    "exp2": [(inf, inf), (-inf, 0), (0, 1), (10, 1024), (-3, 0.125), (2e4, inf), (-2e4, 0)],
    "expm1": [(0, 0), (-0.0, -0.0), (inf, inf), (-inf, -1), (1e4, inf), (-1e4, -1)],
    "log": [(0, -inf), (-0.0, -inf), (1, 0), (inf, inf), (-1, nan), (-inf, nan)],
    "log2": [(0, -inf), (8, 3), (0.25, -2), (inf, inf), (-1, nan)],
    "log10": [(0, -inf), (1000, 3), (inf, inf), (-1, nan)],
    "log1p": [(0, 0), (-0.0, -0.0), (-1, -inf), (-2, nan), (inf, inf), (-inf, nan)],
    "sin": [(0, 0), (-0.0, -0.0), (inf, nan), (-inf, nan)],
    "cos": [(0, 1), (inf, nan)],
    "tan": [(0, 0), (-0.0, -0.0), (inf, nan)],
    "asin": [(0, 0), (-0.0, -0.0), (1, np.pi / 2), (1.5, nan), (-inf, nan)],
    "acos": [(1, 0), (-1, np.pi), (0, np.pi / 2), (1.5, nan), (-1.5, nan)],
    "atan": [(0, 0), (-0.0, -0.0), (inf, np.pi / 2), (-inf, -np.pi / 2), (1, np.pi / 4)],
    "sinh": [(0, 0), (-0.0, -0.0), (inf, inf), (-inf, -inf)],
    "cosh": [(0, 1), (inf, inf), (-inf, inf)],
    "tanh": [(0, 0), (-0.0, -0.0), (inf, 1), (-inf, -1), (50, 1)],
    "asinh": [(0, 0), (-0.0, -0.0), (inf, inf), (-inf, -inf)],
    "acosh": [(1, 0), (inf, inf), (0.5, nan), (-2, nan), (-inf, nan)],
    "atanh": [(0, 0), (-0.0, -0.0), (1, inf), (-1, -inf), (1.5, nan)],
    "sigmoid": [(0, 0.5), (inf, 1), (-inf, 0)],
    "erf": [(0, 0), (-0.0, -0.0), (inf, 1), (-inf, -1)],
    "erfc": [(0, 1), (inf, 0), (-inf, 2)],
    "erfinv": [(0, 0), (-0.0, -0.0), (1, inf), (-1, -inf), (1.5, nan)],
    "sqrt": [(0, 0), (-0.0, -0.0), (inf, inf), (-1, nan)],
    "rsqrt": [(0, inf), (inf, 0), (-1, nan)],
    "reciprocal": [(0, inf), (-0.0, -inf), (inf, 0), (-inf, -0.0)],
    "sign": [(0, 0), (-3, -1), (inf, 1)],
    "round": [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, -0.0), (inf, inf)],
    "trunc": [(-1.7, -1), (1.7, 1), (-0.3, -0.0)],
    "sinc": [(0, 1), (1, 0), (inf, nan)],
    "gelu_erf": [(0, 0), (20, 20), (-50, -0.0)],
    "silu": [(0, 0), (100, 100)],
    "lgamma": [(1, 0), (2, 0), (0, inf), (-1, inf), (inf, inf)],
    "digamma": [(0, -inf), (-0.0, inf), (-1, nan), (inf, inf)],
    "relu": [(-0.0, -0.0), (-1, 0), (inf, inf), (-inf, 0)],
    "relu6": [(7, 6), (-1, 0)],
}


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name, dtype):
    x, y = (np.array(v, dtype) for v in zip(*SPECIAL[name], strict=True))
    got = run(name, np.tile(x, 5)).reshape(5, -1)  # in the vector part and in the tail
    for row in got:
        np.testing.assert_allclose(
            row, y, rtol=1e-15 if dtype == np.float64 else 2e-7, atol=1e-15 if name == "sinc" else 0
        )
        zero = y == 0
        if name != "sinc":
            np.testing.assert_array_equal(np.signbit(row[zero]), np.signbit(y[zero]))
    if name != "sign":
        assert np.isnan(run(name, np.full(9, nan, dtype))).all()


def test_every_loop_ignores_length_and_place():
    """Vector part, tails and in-place runs give the same bits; n = 0 touches nothing."""
    rng = np.random.default_rng(0)
    for name, (n_in, to_bool, dtypes) in LOOPS.items():
        for number_ in dtypes:
            dtype = np.dtype(NAMES[number_])
            operands = [(rng.random(70) * 3).astype(dtype) for _ in range(n_in)]
            p = (0.5, 1.5, 1.0)
            whole = run(name, *operands, p=p)
            assert whole.dtype == (bool if to_bool else dtype)
            for n in (0, 1, 2, 3, 5, 7, 8, 9, 15, 17, 31, 33, 63):
                part = run(name, *(x[:n] for x in operands), p=p)
                assert part.tobytes() == whole[:n].tobytes(), (name, dtype, n)
            if not to_bool:
                assert run(name, *operands, p=p, inplace=True).tobytes() == whole.tobytes(), (name, dtype)


SCRIPT = """
import sys
import ferrox._core.cpu
import numpy as np
from ferrox._core.cpu.table import loop_names, run_loop
rng = np.random.default_rng(0)
for name, (n_in, to_bool, dtypes) in sorted(loop_names().items()):
    for number, dtype in ((8, np.float32), (9, np.float64)):
        if number in dtypes:
            x = [np.concatenate([rng.normal(size=301) * 3, [0, -0.0, np.inf, -np.inf, np.nan, 1, -1]]).astype(dtype)
                 for i in range(n_in)]
            out = np.zeros(308, bool if to_bool else dtype)
            at = [a.ctypes.data for a in x] + [0, 0]
            run_loop(name, number, out.ctypes.data, *at[:3], 308, (0.5, 1.5, 1.0))
            sys.stdout.buffer.write(out.astype(np.float64).tobytes())
"""


def test_levels_agree():
    def values(level):
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "FERROX_CPU_LEVEL": level},
            capture_output=True,
            check=True,
        )
        return np.frombuffer(result.stdout).reshape(-1, 308)

    first = values(cpu.supported[-1])
    names = [(name, n) for name, (_, _, dtypes) in sorted(LOOPS.items()) for n in (8, 9) if n in dtypes]
    assert len(names) == len(first)
    for level in cpu.supported[:-1]:
        for (name, n), a, b in zip(names, first, values(level), strict=True):
            eps = 1.2e-7 if n == 8 else 2.3e-16
            # Sums that cancel (x - y, 1 - y^2, ...) differ by the rounding of their terms.
            np.testing.assert_allclose(a, b, rtol=8 * eps, atol=100 * eps, err_msg=f"{name} {n} {level}")
