"""Random fills on the device: the bits of the CPU for the same seed and place of the stream.

What is made of the bits uses operations that both sides round alike, so that all values agree exactly.
"""

import numpy as np
import pytest

import ferrox as fx


def both(draw):
    """The same draws on the CPU and on the device, from one seed."""
    fx.manual_seed(1234567)
    here = [draw("cpu") for _ in range(2)]
    fx.manual_seed(1234567)
    return zip(here, [draw("cuda") for _ in range(2)], strict=True)


def agree(draw):
    for here, there in both(draw):
        assert str(there.device).startswith("cuda")
        here, there = (x.float() if x.dtype in (fx.float16, fx.bfloat16) else x for x in (here, there.cpu()))
        np.testing.assert_array_equal(there.numpy(), here.numpy())


FLOATS = [fx.float16, fx.bfloat16, fx.float32, fx.float64]
INTEGERS = [fx.uint8, fx.int8, fx.int16, fx.int32, fx.int64]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8, 1027])
@pytest.mark.parametrize("dtype", FLOATS)
def test_floats(dtype, n):
    agree(lambda device: fx.rand(n, dtype=dtype, device=device))
    agree(lambda device: fx.randn(n, dtype=dtype, device=device))
    agree(lambda device: fx.empty(n, dtype=dtype, device=device).exponential_(0.7))
    agree(lambda device: fx.empty(n, dtype=dtype, device=device).uniform_(-3.0, 0.1))
    agree(lambda device: fx.empty(n, dtype=dtype, device=device).normal_(5.0, 0.3))


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS + [fx.bool])
def test_integers_and_truths(dtype):
    high = 2 if dtype == fx.bool else 100
    agree(lambda device: fx.randint(0, high, (13, 5), dtype=dtype, device=device))
    agree(lambda device: fx.empty(77, dtype=dtype, device=device).random_())
    agree(lambda device: fx.empty(77, dtype=dtype, device=device).bernoulli_(0.3))


def test_wide_integers():
    agree(lambda device: fx.randint(-(2**62), 2**62, (33,), device=device))
    agree(lambda device: fx.randint(-(2**31), 2**31, (33,), device=device))
    agree(lambda device: fx.randint(5, 5 + 2**32 + 1, (33,), device=device))


def test_probabilities_and_strides():
    p = fx.linspace(0, 1, 50)
    agree(lambda device: fx.bernoulli(p.to(device)))
    agree(lambda device: fx.zeros(7, 6, device=device).t()[1:].uniform_())
    agree(lambda device: fx.normal(p.to(device), (p * 2).to(device)))


@pytest.mark.parametrize("n", [0, 1, 2, 100, 2048, 2049, 5000])
def test_permutations(n):
    agree(lambda device: fx.randperm(n, device=device))
    drawn = fx.randperm(n, device="cuda").cpu().numpy()
    np.testing.assert_array_equal(np.sort(drawn), np.arange(n))


@pytest.mark.parametrize("dtype", FLOATS)
def test_dropout(dtype):
    x = (fx.arange(301) % 17 - 8).to(dtype)
    agree(lambda device: fx.nn.functional.dropout(x.to(device), 0.3))
    fx.manual_seed(3)
    a = x.cuda().requires_grad_()
    y = fx.nn.functional.dropout(a, 0.25)
    y.backward(fx.ones_like(y))
    kept = a.grad.float().cpu().numpy() != 0
    assert 0.6 < kept.mean() < 0.9
    shown = y.detach().float().cpu().numpy() != 0
    np.testing.assert_array_equal(shown, kept & (x.float().numpy() != 0))


def test_each_device_has_its_stream():
    fx.manual_seed(11)
    first = fx.rand(5, device="cuda").cpu().numpy()
    fx.rand(100)  # the CPU's stream is another
    fx.cuda.manual_seed(11)
    np.testing.assert_array_equal(fx.rand(5, device="cuda").cpu().numpy(), first)
    own = fx.Generator("cuda").manual_seed(11)
    np.testing.assert_array_equal(fx.rand(5, generator=own, device="cuda").cpu().numpy(), first)
    before = fx.cuda.get_rng_state()
    second = fx.rand(5, device="cuda").cpu().numpy()
    assert (second != first).any()
    fx.cuda.set_rng_state(before)
    np.testing.assert_array_equal(fx.rand(5, device="cuda").cpu().numpy(), second)
    fx.cuda.manual_seed_all(12)
    assert fx.cuda.initial_seed() == 12
    other = fx.rand(5, device="cuda").cpu().numpy()
    fx.manual_seed(12)
    np.testing.assert_array_equal(fx.rand(5).numpy(), other)
    with pytest.raises(RuntimeError, match="generator"):
        fx.rand(5, generator=fx.Generator("cpu"), device="cuda")


def test_arguments_are_checked():
    with pytest.raises(RuntimeError):
        fx.empty(3, device="cuda").uniform_(2.0, 1.0)
    with pytest.raises(NotImplementedError):
        fx.empty(3, dtype=fx.int32, device="cuda").normal_()
