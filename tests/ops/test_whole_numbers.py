"""Arguments that count something: a float is refused by name, as PyTorch does, and never cut off to a whole number."""

import pytest

import ferrox as fx

CALLS = {
    "bincount minlength": lambda x, i, n: fx.bincount(i, None, n),
    "chunk chunks": lambda x, i, n: x.chunk(n),
    "diag_embed offset": lambda x, i, n: x.diag_embed(n),
    "diagonal offset": lambda x, i, n: x.diagonal(n),
    "diff n": lambda x, i, n: x.diff(n),
    "histc bins": lambda x, i, n: x.histc(n),
    "kthvalue k": lambda x, i, n: x.kthvalue(n),
    "linspace steps": lambda x, i, n: fx.linspace(0, 1, n),
    "multinomial num_samples": lambda x, i, n: fx.multinomial(x.abs(), n),
    "narrow length": lambda x, i, n: x.narrow(0, 0, n),
    "narrow start": lambda x, i, n: x.narrow(0, n, 1),
    "one_hot num_classes": lambda x, i, n: fx.nn.functional.one_hot(i, n),
    "polygamma n": lambda x, i, n: fx.polygamma(n, x.abs()),
    "randint high": lambda x, i, n: fx.randint(0, n, (2,)),
    "randint low": lambda x, i, n: fx.randint(n, 9, (2,)),
    "randint_like high": lambda x, i, n: fx.randint_like(x, n),
    "random_ to": lambda x, i, n: x.random_(n),
    "repeat repeats": lambda x, i, n: x.repeat(n, 2),
    "repeat_interleave output_size": lambda x, i, n: i.repeat_interleave(output_size=n),
    "repeat_interleave repeats": lambda x, i, n: x.repeat_interleave(n),
    "roll shifts": lambda x, i, n: x.roll(n, 0),
    "rot90 k": lambda x, i, n: x.rot90(n),
    "split split_size_or_sections": lambda x, i, n: x.split(n),
    "topk k": lambda x, i, n: x.topk(n),
    "tril diagonal": lambda x, i, n: x.tril(n),
    "triu diagonal": lambda x, i, n: x.triu(n),
    "unfold size": lambda x, i, n: x.unfold(0, n, 1),
    "unfold step": lambda x, i, n: x.unfold(0, 1, n),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_whole_number_is_taken_and_a_float_refused(call):
    name, argument = call.split()
    x, i = fx.randn(3, 4), fx.tensor([0, 1, 2])
    whole = 3 if name in ("one_hot", "repeat_interleave") else 1
    CALLS[call](x, i, whole)
    CALLS[call](x, i, fx.tensor(whole))
    with pytest.raises(TypeError, match=rf"{name}\(\): argument '{argument}' must be int, not float"):
        CALLS[call](x, i, whole + 0.747)


def test_histc_refuses_a_part_of_a_bin():
    # 0.747 is positive, and once became a tensor of no bins that the kernel counted into.
    with pytest.raises(TypeError, match="bins"):
        fx.randn(20).histc(0.747)
    with pytest.raises(RuntimeError, match="bins must be > 0"):
        fx.randn(20).histc(0)


def test_split_sizes_are_whole():
    with pytest.raises(TypeError, match="split_size_or_sections"):
        fx.randn(3).split([1.5, 1.5])


def test_dimensions_are_whole():
    x = fx.randn(3, 4)
    for call in (x.size, x.stride, x.sum, x.argmax, x.unbind):
        with pytest.raises(TypeError):
            call(0.5)
