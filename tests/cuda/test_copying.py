"""Copies of every layout: transpositions through shared memory, against NumPy's."""

import numpy as np
import pytest

import ferrox as fx

NAMES = ("bool", "uint8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")


def filled(shape, dtype="float32"):
    numbers = np.random.default_rng(3).integers(0, 2 if dtype == "bool" else 100, shape)
    return numbers, fx.tensor(numbers).to(getattr(fx, dtype)).cuda()


def values(tensor):
    tensor = tensor.cpu()
    return (tensor.to(fx.float32) if tensor.dtype in (fx.float16, fx.bfloat16) else tensor).numpy()


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("shape", [(16, 16), (32, 32), (33, 31), (100, 17), (64, 65)])
def test_transposed(shape, dtype):
    numbers, x = filled(shape, dtype)
    np.testing.assert_array_equal(values(x.t().contiguous()), numbers.T)


@pytest.mark.parametrize(
    "shape, order",
    [
        ((3, 20, 40), (0, 2, 1)),
        ((20, 3, 40), (2, 0, 1)),
        ((20, 3, 40), (1, 2, 0)),
        ((40, 3, 20), (2, 1, 0)),
        ((2, 17, 5, 5), (0, 2, 3, 1)),  # channels last
        ((2, 5, 5, 17), (0, 3, 1, 2)),
        ((2, 20, 3, 18), (0, 3, 2, 1)),
        ((20, 2, 3, 18), (3, 1, 2, 0)),
        ((2, 3, 17, 2, 18), (0, 1, 4, 3, 2)),
        ((2, 3, 4, 5, 17, 18), (2, 1, 0, 5, 3, 4)),
        ((1, 20, 1, 40), (3, 2, 1, 0)),
    ],
)
def test_permuted(shape, order):
    numbers, x = filled(shape)
    np.testing.assert_array_equal(values(x.permute(*order).contiguous()), numbers.transpose(order))


def test_into_and_out_of_views():
    numbers, x = filled((50, 60))
    np.testing.assert_array_equal(values(x[3:40, 5:50].t().contiguous()), numbers[3:40, 5:50].T)
    target = fx.zeros(60, 50, device="cuda")
    target[5:50, 3:40].copy_(x[3:40, 5:50].t())
    expected = np.zeros((60, 50))
    expected[5:50, 3:40] = numbers[3:40, 5:50].T
    np.testing.assert_array_equal(values(target), expected)
    target = fx.zeros(50, 60, device="cuda")
    target.t().copy_(x.t())
    np.testing.assert_array_equal(values(target), numbers)
    target.t()[::2].copy_(x.t()[1::2])
    expected = numbers.copy()
    expected[:, ::2] = numbers[:, 1::2]
    np.testing.assert_array_equal(values(target), expected)


def test_a_row_for_every_column():
    numbers, x = filled((40,))
    np.testing.assert_array_equal(values(x.expand(30, 40).t().contiguous()), np.tile(numbers, (30, 1)).T)
    np.testing.assert_array_equal(values(x.expand(30, 40).contiguous()), np.tile(numbers, (30, 1)))


def test_many_tiles():
    numbers, x = filled((700, 900), "uint8")
    np.testing.assert_array_equal(values(x.t().contiguous()), numbers.T)
