import math
import re

import numpy as np
import pytest
from peers import torch

import ferrox as fx

rng = np.random.default_rng(3)
nan, inf = math.nan, math.inf

ARRAYS = [
    np.float32(3.5), np.float64(2.0), np.int64(7), np.bool_(True), np.float32(nan),
    np.zeros(0, "f4"), np.zeros((0, 3), "f4"), np.zeros((2, 0), "i8"), np.zeros(0, "i8"), np.zeros(0, "f8"),
    np.array([1.0, 2.0], "f4"), np.array([1.0, 2.5], "f4"), np.array([1, -200, 3]), np.array([True, False]),
    np.array([1e-5, 1.0], "f4"), np.array([1e9, 1.0], "f4"), np.array([1e5, 2e5], "f4"), np.array([1e-3, 0.5], "f4"),
    np.array([1e-3, 1.5], "f4"), np.array([0.0, -0.0], "f4"), np.array([nan, inf, -inf], "f4"),
    np.array([nan, 1.0, -inf, 2.25], "f4"), np.array([nan, 1.0, inf], "f4"), np.array([1e10, nan], "f4"),
    np.array([1e30, 1e-30]), np.array([5e-324, 1.7e308]), np.array([123456.0, 1.0], "f4"), np.array([1e8, 2.0], "f4"),
    np.array([0.1, 0.2], "f2"), np.array([65504.0, 1.0], "f2"), np.array([1, 2], "u1"), np.array([-1, 127], "i1"),
    np.array([-1, 127], "i2"), np.array([-1, 127], "i4"),
    rng.standard_normal((2, 3)).astype("f4"), rng.standard_normal((2, 3, 4)),
    rng.standard_normal((2, 1, 2, 3)).astype("f4"),
    rng.standard_normal(30).astype("f4"), rng.integers(-5, 5, 60), rng.standard_normal((3, 40)).astype("f4"),
    rng.standard_normal(999).astype("f4"), rng.standard_normal(1001).astype("f4"), np.arange(5000),
    rng.standard_normal((100, 100)).astype("f4"), rng.standard_normal((5, 300)).astype("f4"),
    rng.standard_normal((300, 5)).astype("f4"), rng.standard_normal((20, 4, 20)).astype("f4"),
    rng.standard_normal((7, 7, 7, 7)), rng.integers(0, 2, (50, 50)).astype(bool), np.ones((1, 2, 3), "f4"),
    np.concatenate([np.zeros(500), [1e12], np.zeros(600)]).astype("f4"),
]


def both(array):
    return repr(fx.tensor(array)).replace("ferrox.", "torch."), repr(torch.tensor(array))


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{np.asarray(a).dtype}{np.shape(a)}")
def test_as_pytorch(array):
    got, expected = both(array)
    assert got == expected


def test_random_tensors_as_pytorch():
    for _ in range(300):
        shape = tuple(rng.integers(0, 12, rng.integers(0, 4)))
        array = (rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 9)).astype(rng.choice(["f4", "f8", "f2"]))
        if rng.random() < 0.3:
            array = np.round(array)
        if rng.random() < 0.2:
            array = np.where(rng.random(shape) < 0.2, np.array(rng.choice([nan, inf, -inf]), array.dtype), array)
        got, expected = both(array)
        # "ferrox" is a letter longer than "torch": where the line is full, the dtype wraps.
        unwrapped = [re.sub(r",\n *dtype=", ", dtype=", each) for each in (got, expected)]
        assert unwrapped[0] == unwrapped[1] and (got == expected or max(map(len, expected.splitlines())) >= 79)


def test_bfloat16():
    values = [1.5, 3.0, 0.1]
    assert repr(fx.tensor(values, dtype=fx.bfloat16)).replace("ferrox.", "torch.") == repr(
        torch.tensor(values, dtype=torch.bfloat16))


def test_strided():
    array = np.arange(24.0, dtype="f4").reshape(4, 6)
    assert repr(fx.tensor(array).T) == repr(torch.tensor(array).T)
    assert repr(fx.tensor(array)[::2, 1:3]) == repr(torch.tensor(array)[::2, 1:3])


def test_gradients_are_named():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    assert repr(x) == "tensor([1., 2.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 4.], grad_fn=<mul>)"
    long = fx.ones(24, requires_grad=True)
    expected = re.sub("<MulBackward0>", "<mul>", repr(torch.ones(24, requires_grad=True) * 2))
    assert repr(long) == repr(torch.ones(24, requires_grad=True)) and repr(long * 2) == expected


def test_default_dtype_is_not_shown():
    fx.set_default_dtype(fx.float64)
    try:
        assert repr(fx.tensor([1.0])) == "tensor([1.])"
        assert repr(fx.tensor([1.0], dtype=fx.float32)) == "tensor([1.], dtype=ferrox.float32)"
    finally:
        fx.set_default_dtype(fx.float32)


@pytest.mark.parametrize("options",
                         [{"precision": 2}, {"threshold": 5}, {"edgeitems": 1, "threshold": 3}, {"linewidth": 30},
                                     {"profile": "short"}, {"profile": "full"}, {"sci_mode": True}, {"sci_mode": False},
                                     {"edgeitems": 0, "threshold": 2}])
def test_options_as_pytorch(options):
    with fx.printoptions(**options):
        torch.set_printoptions(**options)
        try:
            for array in (ARRAYS[11], ARRAYS[14], ARRAYS[34], ARRAYS[36], ARRAYS[38], ARRAYS[39], np.arange(1200),
                          np.ones(3)):
                got, expected = both(array)
                assert got == expected
        finally:
            torch.set_printoptions(profile="default")
    defaults = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}
    assert fx.get_printoptions() == defaults


def test_options_are_checked():
    with pytest.raises(ValueError, match="profile"):
        fx.set_printoptions(profile="longer")


def test_parameter_and_subclass():
    assert repr(fx.nn.Parameter(fx.ones(2))) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"

    class Named(fx.Tensor):
        pass

    from ferrox._core.tensor.base import as_subclass

    assert repr(as_subclass(fx.ones(2), Named)) == "Named([1., 1.])"


def test_format():
    assert f"{fx.tensor(3.14159):.2f}" == "3.14" and f"{fx.tensor(7):>4d}" == "   7"
    assert f"{fx.tensor([1.0])}" == "tensor([1.])" == str(fx.tensor([1.0]))
    with pytest.raises(TypeError):
        format(fx.ones(2), ".2f")


def test_html():
    text = fx.tensor([[1, 2], [3, 4]])._repr_html_()
    assert text.count("<tr>") == 2 and text.count("<td>") == 4 and "2 &times; 2, int64, cpu" in text
    large = fx.zeros(100, 50)._repr_html_()
    assert large.count("<tr>") == 7 and "&#8943;" in large and "&#8942;" in large
    assert "&lt;mul&gt;" in (fx.ones(2, requires_grad=True) * 2)._repr_html_()
    assert fx.zeros(2, 2, 2)._repr_html_().startswith("<pre>tensor(")


def test_large_tensors_are_read_at_the_edges_only():
    # One element repeated: reading all of it would take hours.
    assert repr(fx.zeros(1).expand(10**6, 10**6)) == repr(torch.zeros(1000, 1000))
