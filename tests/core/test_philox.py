"""The random stream: known answers, how elements map to bits, distributions, independence of threads and levels."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import ferrox._core.cpu as cpu
from ferrox._core.door.backend import run_kernel
from ferrox._core.door.threads import get_num_threads, set_num_threads

random = importlib.import_module(f"ferrox._core.cpu.{cpu.level}.random")


def philox(counter, key):
    """Philox4x32-10 in Python's integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & 0xFFFFFFFF, (p >> 32) ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def words(n, seed, offset):
    """The n 32-bit draws of a fill."""
    blocks = range(offset, offset + (n + 3) // 4)
    key = (seed & 0xFFFFFFFF, seed >> 32)
    found = [w for b in blocks for w in philox((b & 0xFFFFFFFF, b >> 32 & 0xFFFFFFFF, 0, 0), key)]
    return np.array(found[:n], dtype=np.uint64)


def words64(n, seed, offset):
    w = words(4 * ((n + 1) // 2), seed, offset)
    return (w[0::2] | w[1::2] << np.uint64(32))[:n]


def fill(name, n, dtype, *params, seed=1, offset=0):
    out = np.empty(n, dtype)
    run_kernel(name, [out], 1, [seed, offset, *params], np.dtype(dtype).name)
    return out


KNOWN_ANSWERS = [  # Random123's kat_vectors
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter, key, answer):
    assert list(random.philox4x32(counter, key)) == answer
    assert philox(counter, key) == answer


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 7, 1023, 1024, 1027, 5000])
@pytest.mark.parametrize(("seed", "offset"), [(0, 0), (12345678901234, 0), (7, 4294967290), (2**63 + 5, 2**40)])
def test_mapping(n, seed, offset):
    as_signed = seed - 2**64 if seed >= 2**63 else seed
    w = words(n, seed, offset)
    got = fill("random_integers", n, np.int64, 0, 2**32, seed=as_signed, offset=offset)
    np.testing.assert_array_equal(got.astype(np.uint64), w)
    got = fill("random_integers", n, np.int64, -5, 100, seed=as_signed, offset=offset)
    np.testing.assert_array_equal(got, (w * np.uint64(105) >> np.uint64(32)).astype(np.int64) - 5)
    got = fill("random_uniform", n, np.float32, 0.0, 1.0, seed=as_signed, offset=offset)
    np.testing.assert_array_equal(got, (w >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24))
    w = words64(n, seed, offset)
    got = fill("random_uniform", n, np.float64, 0.0, 1.0, seed=as_signed, offset=offset)
    np.testing.assert_array_equal(got, (w >> np.uint64(11)).astype(np.float64) * 2.0**-53)
    got = fill("random_integers", n, np.int64, -(2**63), 2**63 - 1, seed=as_signed, offset=offset)
    np.testing.assert_array_equal(got, [(int(v) * (2**64 - 1) >> 64) - 2**63 for v in w])


@pytest.mark.parametrize(
    ("name", "dtype", "params", "per_block"),
    [
        ("random_uniform", np.float32, (-1.0, 3.0), 4),
        ("random_uniform", np.float64, (-1.0, 3.0), 2),
        ("random_normal", np.float32, (0.0, 1.0), 4),
        ("random_normal", np.float64, (0.0, 1.0), 2),
        ("random_exponential", np.float32, (2.0,), 4),
        ("random_bernoulli", np.float32, (0.3,), 4),
        ("random_integers", np.int32, (0, 10), 4),
        ("random_integers", np.int64, (0, 2**40), 2),
    ],
)
def test_offset_and_threads(name, dtype, params, per_block):
    n = 100_003
    before = get_num_threads()
    try:
        set_num_threads(1)
        whole = fill(name, n, dtype, *params)
        set_num_threads(before)
        np.testing.assert_array_equal(fill(name, n, dtype, *params), whole)
    finally:
        set_num_threads(before)
    cut = 4 * 1234
    np.testing.assert_array_equal(fill(name, n - cut, dtype, *params, offset=cut // per_block), whole[cut:])
    assert not np.array_equal(fill(name, n, dtype, *params, seed=2), whole)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_distributions(dtype):
    n = 200_000
    # A test at this level fails for one seed in a thousand million; the seed is fixed.
    u = fill("random_uniform", n, dtype, 2.0, 5.0).astype(float)
    assert u.min() >= 2 and u.max() < 5
    z = fill("random_normal", n, dtype, 1.0, 2.0).astype(float)
    e = fill("random_exponential", n, dtype, 0.5).astype(float)
    assert e.min() >= 0
    if dtype != np.float16:  # whose steps the statistic would see
        assert stats.kstest(u, "uniform", (2, 3)).pvalue > 1e-9
        assert stats.kstest(z, "norm", (1, 2)).pvalue > 1e-9
        assert stats.kstest(e, "expon", (0, 2)).pvalue > 1e-9
    assert abs(z.mean() - 1) < 6 * 2 / n**0.5 and abs(z.std() - 2) < 6 * 2 / (2 * n) ** 0.5
    assert abs(e.mean() - 2) < 6 * 2 / n**0.5
    # The two values of a pair are independent, neighbours of different pairs too, and all four quadrants come up alike.
    z = (z - 1) / 2
    assert abs(np.corrcoef(z[0::2], z[1::2])[0, 1]) < 6 / (n / 2) ** 0.5
    assert abs(np.corrcoef(z[1:-1:2], z[2::2])[0, 1]) < 6 / (n / 2) ** 0.5
    quadrants = np.bincount((z[0::2] > 0) * 2 + (z[1::2] > 0), minlength=4)
    assert abs(quadrants - n / 8).max() < 6 * (n / 8) ** 0.5


def test_uniform_stays_below_high():
    for dtype in (np.float16, np.float32):
        u = fill("random_uniform", 100_000, dtype, 0.0, 1.0)
        assert u.max() < 1 and u.min() >= 0
    u = fill("random_uniform", 100_000, np.float32, 1.0, 1.0 + 2.0**-22)
    assert u.max() < np.float32(1 + 2.0**-22) and u.min() == 1


def test_bernoulli():
    n = 100_000
    assert fill("random_bernoulli", n, np.bool_, 0.0).sum() == 0
    assert fill("random_bernoulli", n, np.uint8, 1.0).sum() == n
    y = fill("random_bernoulli", n, np.float32, 0.3)
    np.testing.assert_array_equal(y, words(n, 1, 0) < 0.3 * 2.0**32)
    p = np.linspace(0, 1, n)
    out = np.empty(n, np.int64)
    run_kernel("random_bernoulli", [out, p], 1, [1, 0], "int64")
    np.testing.assert_array_equal(out, words(n, 1, 0) < p * 2.0**32)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 1000, 4097])
def test_permutation(n):
    y = fill("random_permutation", n, np.int64)
    np.testing.assert_array_equal(y, np.argsort(words64(n, 1, 0), kind="stable"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_dropout(dtype, p):
    n = 10_007
    x = np.random.default_rng(0).normal(size=n).astype(dtype)
    y, mask = np.empty_like(x), np.empty(n, bool)
    run_kernel("dropout", [y, mask, x], 2, [3, 4, p], np.dtype(dtype).name)
    np.testing.assert_array_equal(mask, words(n, 3, 4) < (1 - p) * 2.0**32)
    compute = np.float64 if dtype == np.float64 else np.float32
    scale = compute(1 / (1 - p)) if p < 1 else compute(0)
    np.testing.assert_array_equal(y, np.where(mask, x.astype(compute) * scale, compute(0)).astype(dtype))


@pytest.mark.parametrize(
    ("name", "params", "error"),
    [
        ("random_uniform", (2.0, 1.0), ValueError),
        ("random_normal", (0.0, -1.0), ValueError),
        ("random_normal", (0.0, float("nan")), ValueError),
        ("random_exponential", (0.0,), ValueError),
        ("random_bernoulli", (1.5,), ValueError),
        ("random_integers", (3, 3), ValueError),
    ],
)
def test_refused_params(name, params, error):
    with pytest.raises(error):
        fill(name, 4, np.float32, *params)


def test_refused_dtypes():
    for name, params in (("random_uniform", (0.0, 1.0)), ("random_normal", (0.0, 1.0)), ("random_exponential", (1.0,))):
        with pytest.raises(TypeError):
            fill(name, 4, np.int32, *params)
    with pytest.raises(ValueError):
        run_kernel("random_uniform", [np.empty((4, 4), np.float32).T], 1, [1, 0, 0.0, 1.0], "float32")


SCRIPT = """
import sys
import ferrox._core.cpu
import numpy as np
from ferrox._core.door.backend import run_kernel
for dtype in (np.float32, np.float64):
    for name, params in (("uniform", (-3.0, 1.7)), ("normal", (0.3, 1.9)), ("exponential", (0.7,))):
        out = np.empty(5003, dtype)
        run_kernel("random_" + name, [out], 1, [5, 6, *params], np.dtype(dtype).name)
        sys.stdout.buffer.write(out.tobytes())
"""


def test_same_bits_on_every_level():
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "FERROX_CPU_LEVEL": level},
            capture_output=True,
            check=True,
        ).stdout
        for level in cpu.supported
    ]
    assert len(outputs[0]) == 3 * 5003 * 12
    assert all(output == outputs[0] for output in outputs)
