"""Activations against PyTorch: values, kinks, special values, every order of gradient, in place."""

import math

import pytest
from against_torch import check, every_dtype, fx_of, layouts, raises_alike, same
from peers import torch
from peers import torch_functional as theirs

import ferrox as fx
import ferrox.nn.functional as mine

torch.manual_seed(0)
NAMES = ["relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign",
         "hardtanh", "hardsigmoid", "hardswish", "logsigmoid", "tanhshrink", "softshrink", "hardshrink", "sigmoid",
         "tanh"]
WITH_INPLACE = ["relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "mish", "hardtanh", "hardsigmoid",
                "hardswish"]
PARAMETERS = {
    "leaky_relu": [(0.2,), (0.0,), (-0.5,)],
    "elu": [(2.0,)],
    "celu": [(2.0,), (-0.5,)],
    "softplus": [(2.0, 1.0)],
    "hardtanh": [(-0.2, 0.7)],
    "softshrink": [(0.25,), (0.0,)],
    "hardshrink": [(0.25,)],
    "threshold": [(0.2, -3.0)],
}
SPECIAL = torch.tensor(
    [-math.inf, -100.0, -20.0, -3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0, 6.0, 20.0, 21.0, 100.0, math.inf, math.nan],
    dtype=torch.float64,
)


def functional(lib):
    return mine if lib is fx else theirs


def calls():
    for name in NAMES:
        yield name, ()
    for name, several in PARAMETERS.items():
        for parameters in several:
            yield name, parameters


def r(*shape):
    return torch.randn(shape, dtype=torch.float64) * 2


@pytest.mark.parametrize("name, parameters", calls())
def test_values_and_two_orders(name, parameters):
    # PyTorch has no second derivative of hardsigmoid, and its first is a float32 sixth.
    order, rtol = (1, 1e-7) if name == "hardsigmoid" else (2, None)
    for x in [*layouts(r(3, 4)), r(), r(2, 0), r(200)]:
        check(lambda lib, x: getattr(functional(lib), name)(x, *parameters), x, order=order, rtol=rtol)


@pytest.mark.parametrize("name, parameters", calls())
def test_kinks_and_special_values(name, parameters):
    x = SPECIAL
    if name in ("mish", "softsign"):  # where PyTorch computes NaN from infinity
        x = SPECIAL[~SPECIAL.isinf()]
    if name == "hardsigmoid":  # PyTorch's slope is a float32 sixth
        check(lambda lib, x: functional(lib).hardsigmoid(x), x, order=1, rtol=1e-7)
        return
    check(lambda lib, x: getattr(functional(lib), name)(x, *parameters), x, order=1)


@pytest.mark.parametrize("name, parameters", calls())
def test_against_differences(name, parameters):
    x = fx_of(torch.tensor([-3.7, -1.3, -0.43, 0.31, 1.7, 4.4], dtype=torch.float64)).requires_grad_()
    assert fx.autograd.gradcheck(lambda x: getattr(mine, name)(x, *parameters), (x,))
    assert fx.autograd.gradgradcheck(lambda x: getattr(mine, name)(x, *parameters), (x,))


@pytest.mark.parametrize("name", NAMES)
def test_dtypes(name):
    for x in every_dtype(torch.arange(4)):
        if x.dtype == torch.bool and name in ("softsign", "tanhshrink"):
            continue  # PyTorch stops at the subtraction or abs inside
        try:
            expected = getattr(theirs, name)(x)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                getattr(mine, name)(fx_of(x))
        else:
            same(
                getattr(mine, name)(fx_of(x)), expected, {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(x.dtype, 1e-6)
            )


def test_gelu_of_tanh():
    check(lambda lib, x: functional(lib).gelu(x, approximate="tanh"), r(50))
    check(lambda lib, x: functional(lib).gelu(x, approximate="tanh"), SPECIAL[1:-2], order=1)
    raises_alike(lambda lib, x: functional(lib).gelu(x, approximate="erf"), r(3), match="must be either none or tanh")


@pytest.mark.parametrize("name", WITH_INPLACE)
def test_inplace(name):
    def changed(lib, x):
        y = x * 1.5
        returned = getattr(functional(lib), name)(y, inplace=True)
        assert returned is y
        return y

    check(changed, r(3, 4), order=1, rtol=1e-7 if name == "hardsigmoid" else None)
    x = fx.tensor([-1.0, 2.0])
    assert getattr(mine, name)(x, inplace=True) is x
    same(x, getattr(theirs, name)(torch.tensor([-1.0, 2.0])))


def test_threshold_inplace():
    check(lambda lib, x: functional(lib).threshold(x * 1, 0.2, 5.0, True), r(3, 4), order=1)


@pytest.mark.parametrize(
    "shape, weights", [((3, 4), 1), ((3, 4), 4), ((2, 3, 4), 3), ((5,), 1), ((), 1), ((2, 3, 4, 2), 3), ((0, 3), 3)]
)
def test_prelu(shape, weights):
    check(lambda lib, x, w: functional(lib).prelu(x, w), r(*shape), r(weights))
    check(lambda lib, x, w: lib.prelu(x, w), r(*shape), r())
    check(lambda lib, x, w: x.prelu(w), r(*shape), r(weights), order=1)


def test_refusals():
    raises_alike(lambda lib, x, w: lib.prelu(x, w), r(2, 3), r(2), match="Mismatch of parameter numbers")
    raises_alike(lambda lib, x, w: lib.prelu(x, w), r(2, 3), r(1, 1), match="scalar or 1D tensor")
    raises_alike(lambda lib, x: functional(lib).celu(x, 0.0), r(2), match="alpha cannot be 0")
    raises_alike(lambda lib, x: functional(lib).hardtanh(x, 2, 1), r(2), match="min_val cannot be greater than max_val")
    raises_alike(lambda lib, x: functional(lib).softshrink(x, -1.0), r(2), match="lambda must")
    raises_alike(
        lambda lib, x: functional(lib).hardtanh(x), torch.tensor([1], dtype=torch.uint8), match="unsigned type"
    )


def test_which_are_public_where():
    for name in ["relu", "selu", "celu", "prelu", "hardshrink", "threshold", "sigmoid", "tanh"]:
        assert getattr(fx, name) is getattr(mine, name)
    for name in ["relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus", "softsign", "hardtanh",
                 "hardsigmoid", "hardswish", "mse_loss", "l1_loss"]:
        assert not hasattr(fx, name) and callable(getattr(mine, name))
    for name in ["gelu_erf_backward", "threshold_backward", "mse", "axpy", "div_trunc", "clamp_scalar"]:
        assert not hasattr(fx, name) and not hasattr(mine, name)


def test_third_order():
    for name in ("gelu", "silu", "mish", "softplus", "elu", "logsigmoid", "tanhshrink"):
        check(lambda lib, x, name=name: getattr(functional(lib), name)(x), r(6), order=3, rtol=1e-8)
