"""Bytes read as another dtype: x.view(dtype)."""
import numpy as np
import pytest
from against_torch import fx_of
from peers import torch

import ferrox as fx

NAMES = ["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("to", NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_as_pytorch(name, to):
    x = torch.arange(64, dtype=torch.uint8).view(getattr(torch, name)).reshape(2, -1)
    for each in (x, x.t(), x[:, :1], x[1:], x[:, 1:], x[0, 0], x[:0]):
        try:
            expected = each.view(getattr(torch, to))
        except RuntimeError as error:
            with pytest.raises(RuntimeError) as mine:
                fx_of(each).view(getattr(fx, to))
            assert str(error).split(" to view")[0] in str(mine.value)
            continue
        got = fx_of(each).view(getattr(fx, to))
        assert got.dtype is getattr(fx, to) and got.shape == tuple(expected.shape)
        assert got.contiguous().numpy().tobytes() == expected.contiguous().numpy().tobytes()
        assert got.stride() == expected.stride()


def test_shares_memory_and_stops_gradients():
    x = fx.zeros(3)
    x.view(fx.int32)[1] = 0x3F800000
    assert x.tolist() == [0, 1, 0]
    y = fx.ones(2, requires_grad=True)
    assert not y.view(fx.int32).requires_grad and not y.view(fx.float16).requires_grad


def test_unaligned_memory_is_refused():
    x = fx.from_numpy(np.arange(17, dtype=np.uint8)[1:])
    with pytest.raises(RuntimeError, match="divisible by 4"):
        x[1:9].view(fx.float32)


@pytest.mark.parametrize("k", range(-9, 10))
def test_rot90_turns_back_too(k):
    x = np.random.default_rng(k + 9).standard_normal((2, 3, 4))
    for dims in ((0, 1), (1, 0), (-1, 0)):
        np.testing.assert_array_equal(fx.rot90(fx.from_numpy(x), k, dims).numpy(), np.rot90(x, k, dims))


@pytest.mark.parametrize("shift", [-13, -7, -6, -1, 0, 5, 6, 13])
def test_roll_by_more_than_once_around(shift):
    x = np.arange(18.0).reshape(3, 6)
    np.testing.assert_array_equal(fx.roll(fx.from_numpy(x), shift, 1).numpy(), np.roll(x, shift, 1))
    np.testing.assert_array_equal(fx.roll(fx.from_numpy(x), (shift, -shift), (0, 1)).numpy(),
                                  np.roll(x, (shift, -shift), (0, 1)))


@pytest.mark.parametrize("expression", [
    "x.unsqueeze(0)", "x.unsqueeze(64)", "x.unsqueeze_(3)", "fx.stack([x, x], 5)", "x.unfold(0, 1, 1)",
    "x.diag_embed()", "fx.nn.functional.one_hot(x.long() * 0, 2)",
])
def test_no_more_than_64_dimensions(expression):
    with pytest.raises(RuntimeError, match="at most 64 dimensions"):
        eval(expression, {"fx": fx, "x": fx.ones((1,) * 64)})
