import math
import pickle

import numpy as np
import pytest
from scipy import stats

import ferrox as fx

FLOATS = ["float16", "bfloat16", "float32", "float64"]
N = 20000


def generator(seed=0):
    return fx.Generator().manual_seed(seed)


# Philox4x32-10 (Salmon et al., 2011), as an independent reference for the stream.

def philox(seed, blocks):
    counter = np.zeros((len(blocks), 4), np.uint64)
    blocks = np.asarray(blocks, np.uint64)
    counter[:, 0], counter[:, 1] = blocks & 0xFFFFFFFF, blocks >> np.uint64(32)
    key = [seed & 0xFFFFFFFF, seed >> 32]
    mask = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = counter[:, 0] * np.uint64(0xD2511F53), counter[:, 2] * np.uint64(0xCD9E8D57)
        counter = np.stack([(b >> np.uint64(32)) ^ counter[:, 1] ^ np.uint64(key[0]), b & mask,
                            (a >> np.uint64(32)) ^ counter[:, 3] ^ np.uint64(key[1]), a & mask], 1)
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


def test_the_stream_is_philox():
    words = philox(1234567890123, range(5)).reshape(-1)
    got = fx.rand(20, generator=generator(1234567890123)).numpy()
    np.testing.assert_array_equal(got, (words >> np.uint64(8)).astype("f4") * np.float32(2.0**-24))


def test_fills_advance_the_stream_by_whole_blocks():
    for dtype, per_block in ((fx.float32, 4), (fx.float64, 2)):
        for n in (0, 1, 2, 3, 4, 5, 1000, 4097):
            g = generator()
            fx.rand(n, dtype=dtype, generator=g)
            assert g.get_offset() == -(-n // per_block)
    g = generator(5)
    parts = [fx.rand(4, generator=g).tolist() for _ in range(3)]
    assert [value for part in parts for value in part] == fx.rand(12, generator=generator(5)).tolist()


# Generators

def test_seeds():
    assert fx.rand(5, generator=generator(1)).tolist() == fx.rand(5, generator=generator(1)).tolist()
    assert fx.rand(5, generator=generator(1)).tolist() != fx.rand(5, generator=generator(2)).tolist()
    assert generator(-1).initial_seed() == 2**64 - 1
    g = fx.Generator()
    first = g.seed()
    assert g.initial_seed() == first and g.seed() != first
    for wrong in (2**64, -2**63 - 1):
        with pytest.raises(RuntimeError, match="64 bits"):
            generator(wrong)
    with pytest.raises(TypeError):
        generator("a")


def test_states():
    g = generator(3)
    fx.rand(7, generator=g)
    state, again = g.get_state(), g.clone_state()
    expected = fx.randn(9, generator=g).tolist()
    assert fx.randn(9, generator=again).tolist() == expected
    assert fx.randn(9, generator=fx.Generator().set_state(state)).tolist() == expected
    g.set_state(state)
    assert fx.randn(9, generator=pickle.loads(pickle.dumps(g))).tolist() == expected
    assert state.dtype is fx.uint8
    for wrong, error in ((fx.zeros(16), TypeError), (fx.zeros(3, dtype=fx.uint8), RuntimeError)):
        with pytest.raises(error):
            g.set_state(wrong)


def test_the_default_generator():
    assert fx.manual_seed(11) is fx.default_generator()
    a = fx.rand(3).tolist()
    state = fx.get_rng_state()
    b = fx.rand(3).tolist()
    assert a != b and fx.initial_seed() == 11
    fx.set_rng_state(state)
    assert fx.rand(3).tolist() == b
    fx.manual_seed(11)
    assert fx.rand(3).tolist() == a
    assert fx.seed() == fx.initial_seed()
    before = fx.get_rng_state().tolist()
    fx.rand(3, generator=generator())
    assert fx.get_rng_state().tolist() == before
    with pytest.raises(TypeError, match="Generator"):
        fx.rand(2, generator=3)


# Distributions, by Kolmogorov-Smirnov and chi-squared tests at fixed seeds

@pytest.mark.parametrize("name", FLOATS)
def test_uniform(name):
    dtype = getattr(fx, name)
    x = fx.rand(N, dtype=dtype, generator=generator()).double().numpy()
    assert x.min() >= 0 and x.max() < 1
    if name in ("float32", "float64"):      # the others have too few values
        assert stats.kstest(x, "uniform").pvalue > 1e-3
    assert abs(x.mean() - 0.5) < 0.01 and abs(x.var() - 1 / 12) < 0.005
    y = fx.zeros(N, dtype=dtype).uniform_(-2, 3, generator=generator(1)).double().numpy()
    assert y.min() >= -2 and y.max() <= 3 and abs(y.mean() - 0.5) < 0.05


@pytest.mark.parametrize("name", FLOATS)
def test_normal(name):
    dtype = getattr(fx, name)
    x = fx.randn(N, dtype=dtype, generator=generator()).double().numpy()
    assert abs(x.mean()) < 0.03 and abs(x.std() - 1) < 0.03
    y = fx.zeros(N, dtype=dtype).normal_(3, 2, generator=generator(2)).double().numpy()
    assert abs(y.mean() - 3) < 0.06 and abs(y.std() - 2) < 0.06
    if name in ("float32", "float64"):
        assert stats.kstest(x, "norm").pvalue > 1e-3
        assert stats.kstest((y - 3) / 2, "norm").pvalue > 1e-3


def test_exponential():
    for name in ("float32", "float64"):
        x = fx.zeros(N, dtype=getattr(fx, name)).exponential_(2.0, generator=generator()).double().numpy()
        assert x.min() > 0 and stats.kstest(x * 2, "expon").pvalue > 1e-3


@pytest.mark.parametrize("name", ["bool", "uint8", "int8", "int16", "int32", "int64", *FLOATS])
def test_integers(name):
    dtype = getattr(fx, name)
    low, high = (0, 2) if name == "bool" else (0, 10) if name == "uint8" else (-4, 6)
    x = np.array(fx.randint(low, high, (N,), dtype=dtype, generator=generator()).tolist()).astype(int)
    counts = np.bincount(x - low, minlength=high - low)
    assert len(counts) == high - low and stats.chisquare(counts).pvalue > 1e-3
    y = fx.zeros(N, dtype=dtype).random_(low, high, generator=generator())
    assert y.tolist() == x.tolist()


def test_randint_forms():
    assert fx.randint(3, (5,)).shape == (5,) and fx.randint(3, size=(5,)).dtype is fx.int64
    assert fx.randint(high=3, low=2, size=(2,)).tolist() == [2, 2]
    assert fx.randint(2**40, 2**40 + 1, (1,)).item() == 2**40
    wide = fx.randint(-2**63, 2**63 - 1, (1000,), generator=generator()).numpy()
    assert wide.min() < -2**61 and wide.max() > 2**61
    assert fx.randint_like(fx.zeros(2, 3, dtype=fx.int8), 5, 6).tolist() == [[5] * 3] * 2
    for wrong in (lambda: fx.randint(3, 3, (1,)), lambda: fx.randint(300, (1,), dtype=fx.uint8),
                  lambda: fx.randint(-1, 3, (1,), dtype=fx.uint8), lambda: fx.randint(5, 2, (1,)),
                  lambda: fx.randint(4000, (1,), dtype=fx.bfloat16)):
        with pytest.raises(RuntimeError):
            wrong()
    with pytest.raises(TypeError):
        fx.randint(3)


def test_random_over_the_whole_dtype():
    for name, most in (("bool", 1), ("uint8", 255), ("int8", 127), ("int16", 2**15 - 1), ("int64", 2**63 - 1),
                       ("float16", 2**11), ("float32", 2**24)):
        x = fx.zeros(5000, dtype=getattr(fx, name)).random_(generator=generator()).tolist()
        assert 0 <= min(x) <= most * 0.05 and most * 0.95 <= max(x) <= most
    assert set(fx.zeros(100).random_(3).tolist()) == {0, 1, 2}


def test_permutations():
    for n in (0, 1, 2, 100, 5000):
        assert sorted(fx.randperm(n).tolist()) == list(range(n))
    assert fx.randperm(5, dtype=fx.int32).dtype is fx.int32
    firsts = [fx.randperm(4, generator=generator(seed)).tolist()[0] for seed in range(2000)]
    assert stats.chisquare(np.bincount(firsts, minlength=4)).pvalue > 1e-3
    out = fx.empty(0, dtype=fx.int64)
    assert fx.randperm(6, out=out) is out and sorted(out.tolist()) == list(range(6))
    for wrong in (lambda: fx.randperm(-1), lambda: fx.randperm(300, dtype=fx.uint8)):
        with pytest.raises(RuntimeError):
            wrong()


def test_bernoulli():
    p = fx.tensor([0.0, 0.3, 1.0]).expand(N, 3)
    x = fx.bernoulli(p, generator=generator()).numpy()
    assert x[:, 0].sum() == 0 and x[:, 2].sum() == N and abs(x[:, 1].mean() - 0.3) < 0.01
    for name in ("bool", "int32", *FLOATS):
        y = fx.zeros(N, dtype=getattr(fx, name)).bernoulli_(0.7, generator=generator())
        assert set(y.tolist()) == {0, 1} and abs(np.mean(y.tolist()) - 0.7) < 0.02
    z = fx.zeros(2, 3, dtype=fx.int64).bernoulli_(fx.tensor([0.0, 1.0, 1.0]))
    assert z.tolist() == [[0, 1, 1]] * 2
    assert fx.zeros(3).bernoulli(1.0).tolist() == [1, 1, 1]
    assert not fx.bernoulli(fx.tensor([0.5], requires_grad=True)).requires_grad
    for wrong in (lambda: fx.bernoulli(fx.tensor([1.5])), lambda: fx.bernoulli(fx.tensor([math.nan])),
                  lambda: fx.zeros(2).bernoulli_(-0.1), lambda: fx.bernoulli(fx.tensor([1]))):
        with pytest.raises(RuntimeError):
            wrong()


def test_normal_function():
    mean, std = fx.tensor([[1.0], [100.0]]), fx.tensor([0.0, 1.0, 10.0])
    x = fx.normal(mean.expand(2, 3), std, generator=generator())
    assert x.shape == (2, 3) and x[:, 0].tolist() == [1, 100]
    many = fx.normal(mean.expand(2, N), 2.0, generator=generator()).numpy()
    assert np.allclose(many.mean(1), [1, 100], atol=0.08) and np.allclose(many.std(1), 2, atol=0.05)
    assert fx.normal(0.0, std).shape == (3,) and fx.normal(1.0, 0.0, (2, 2)).tolist() == [[1, 1]] * 2
    assert fx.normal(fx.zeros(2, dtype=fx.float64), 1.0).dtype is fx.float64
    assert fx.normal(fx.tensor([math.inf, 0.0]), 0.0).tolist() == [math.inf, 0]
    assert not fx.normal(fx.zeros(2, requires_grad=True), 1.0).requires_grad
    for wrong in (lambda: fx.normal(0.0, -1.0, (2,)), lambda: fx.normal(0.0, fx.tensor([-1.0])),
                  lambda: fx.zeros(2).normal_(0, -1), lambda: fx.normal(fx.zeros(2), -1.0)):
        with pytest.raises(RuntimeError, match="std"):
            wrong()
    with pytest.raises(TypeError):
        fx.normal(0.0, 1.0)


def test_multinomial():
    weights = fx.tensor([[1.0, 2.0, 0.0, 5.0], [0.0, 0.0, 1.0, 0.0]])
    x = fx.multinomial(weights, N, replacement=True, generator=generator()).numpy()
    counts = np.bincount(x[0], minlength=4)
    assert counts[2] == 0 and stats.chisquare(counts[[0, 1, 3]], N * np.array([1, 2, 5]) / 8).pvalue > 1e-3
    assert set(x[1]) == {2}
    y = fx.multinomial(weights[0], 3, generator=generator())
    assert y.dtype is fx.int64 and sorted(y.tolist()) == [0, 1, 3]
    # Without replacement the first index has the weights' distribution, and the pair that of drawing in turn.
    pairs = np.array([fx.multinomial(weights[0], 2, generator=generator(seed)).tolist() for seed in range(4000)])
    counts = np.bincount(pairs[:, 0], minlength=4)[[0, 1, 3]]
    assert stats.chisquare(counts, 4000 * np.array([1, 2, 5]) / 8).pvalue > 1e-3
    after_last = pairs[pairs[:, 0] == 3, 1]
    assert stats.chisquare(np.bincount(after_last, minlength=2), len(after_last) * np.array([1, 2]) / 3).pvalue > 1e-3
    assert fx.tensor([0.5, 0.5], dtype=fx.float16).multinomial(1).shape == (1,)
    for wrong in (lambda: fx.multinomial(fx.tensor([1.0, -1.0]), 1), lambda: fx.multinomial(fx.tensor([0.0, 0.0]), 1),
                  lambda: fx.multinomial(fx.tensor([1.0, 0.0]), 2), lambda: fx.multinomial(fx.tensor([1.0]), 2),
                  lambda: fx.multinomial(fx.tensor([1.0]), 0), lambda: fx.multinomial(fx.tensor([1]), 1),
                  lambda: fx.multinomial(fx.ones(1, 1, 1), 1), lambda: fx.multinomial(fx.tensor([math.nan]), 1)):
        with pytest.raises(RuntimeError):
            wrong()


# What all of them share

def test_arguments():
    assert fx.rand(2, 3, dtype=fx.float64, requires_grad=True).requires_grad
    assert fx.rand(size=(2,)).shape == (2,) and fx.randn((2, 0)).shape == (2, 0) and fx.rand(()).shape == ()
    out = fx.empty(0)
    assert fx.rand(3, out=out) is out and out.shape == (3,)
    like = fx.zeros(2, 3, dtype=fx.float64)
    assert fx.rand_like(like).dtype is fx.float64 and fx.randn_like(like, dtype=fx.float32).dtype is fx.float32
    for wrong in (lambda: fx.rand(2, dtype=fx.int64), lambda: fx.zeros(2, dtype=fx.int64).normal_()):
        with pytest.raises(NotImplementedError, match="floating-point"):
            wrong()
    for wrong in (lambda: fx.zeros(1).uniform_(2, 1), lambda: fx.zeros(1).exponential_(0)):
        with pytest.raises(RuntimeError):
            wrong()


def test_strided_targets():
    for fill in (lambda t: t.uniform_(generator=generator()), lambda t: t.normal_(generator=generator()),
                 lambda t: t.random_(100, generator=generator()), lambda t: t.bernoulli_(generator=generator())):
        whole = fx.full((4, 6), -7.0)
        window = whole[:, ::2]
        expected = fill(fx.zeros(4, 3)).tolist()
        assert fill(window) is window and window.tolist() == expected
        assert whole[:, 1::2].tolist() == [[-7] * 3] * 4


def test_in_place_and_gradients():
    x = fx.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        x.normal_()
    with fx.no_grad():
        x.normal_(generator=generator())
    assert x.requires_grad and x.tolist() == fx.randn(3, generator=generator()).tolist()
    y = x * 2
    y[:2].uniform_()
    y.sum().backward()
    assert x.grad.tolist() == [0, 0, 2]


def test_threads_do_not_change_the_bits():
    before = fx.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            fx.set_num_threads(threads)
            results.append([f(100001, generator=generator(9)).tolist() for f in (fx.rand, fx.randn)])
    finally:
        fx.set_num_threads(before)
    assert results[0] == results[1]
