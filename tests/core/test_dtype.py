"""Element types: promotion, limits, names, against PyTorch and NumPy."""
import itertools
import pickle

import numpy as np
import pytest
from peers import torch

import ferrox as fx

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("a, b", itertools.product(NAMES, NAMES))
def test_promotion(a, b):
    expected = torch.promote_types(getattr(torch, a), getattr(torch, b))
    assert str(fx.promote_types(getattr(fx, a), getattr(fx, b))) == str(expected).replace("torch", "ferrox")


@pytest.mark.parametrize("name", NAMES)
def test_attributes(name):
    mine, its = getattr(fx, name), getattr(torch, name)
    assert mine.itemsize == its.itemsize and mine.is_floating_point == its.is_floating_point
    assert mine.is_signed == its.is_signed and mine.is_complex == its.is_complex
    assert repr(mine) == f"ferrox.{name}" and hash(mine) == hash(getattr(fx, name))
    assert pickle.loads(pickle.dumps(mine)) is mine


@pytest.mark.parametrize("name", NAMES[6:])
def test_finfo(name):
    mine, its = fx.finfo(getattr(fx, name)), torch.finfo(getattr(torch, name))
    for each in ("bits", "eps", "max", "min", "tiny", "smallest_normal", "resolution", "dtype"):
        assert getattr(mine, each) == getattr(its, each), each


@pytest.mark.parametrize("name", NAMES[1:6])
def test_iinfo(name):
    mine, its = fx.iinfo(getattr(fx, name)), torch.iinfo(getattr(torch, name))
    assert (mine.bits, mine.max, mine.min, mine.dtype) == (its.bits, its.max, its.min, its.dtype)


def test_limits_of_the_other_kind_are_refused():
    with pytest.raises(TypeError):
        fx.finfo(fx.int32)
    for each in (fx.float32, fx.bool):
        with pytest.raises(TypeError):
            fx.iinfo(each)


def test_given_as():
    for given in (fx.float32, np.float32, np.dtype("float32"), "float32"):
        assert fx.zeros(1, dtype=given).dtype is fx.float32
    assert fx.zeros(1, dtype=float).dtype is fx.float64
    assert fx.zeros(1, dtype=int).dtype is fx.int64 and fx.zeros(1, dtype=bool).dtype is fx.bool
    for wrong in ("float33", 3, np.complex64, object(), [fx.float32]):
        with pytest.raises(TypeError):
            fx.zeros(1, dtype=wrong)


def test_default_dtype():
    try:
        fx.set_default_dtype(fx.float64)
        assert fx.get_default_dtype() is fx.float64
        assert fx.tensor(1.0).dtype is fx.zeros(2).dtype is (fx.arange(3) / 2).dtype is fx.float64
        with pytest.raises(TypeError, match="floating"):
            fx.set_default_dtype(fx.int32)
        assert fx.get_default_dtype() is fx.float64
    finally:
        fx.set_default_dtype(fx.float32)
    assert fx.tensor(1.0).dtype is fx.float32
