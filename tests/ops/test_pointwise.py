"""Arithmetic, powers, bounds, comparisons and functions of one or two elements, against PyTorch and exact values."""

import math
import warnings

import mpmath
import numpy as np
import pytest
from against_torch import check, every_dtype, fx_of, layouts, numbers, raises_alike, same
from peers import torch

import ferrox as fx

torch.manual_seed(0)
NAN, INF = math.nan, math.inf
SPECIAL = torch.tensor(
    [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 1.5, 2.5, -1.5, 20.0, -20.0, 100.0, -100.0, 1e-05, 1e+20,
     -1e+20, INF, -INF, NAN],
    dtype=torch.float64,
)
REAL = ["sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos",
        "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid", "logit", "erf", "erfc", "erfinv",
        "lgamma", "digamma", "sinc", "reciprocal", "deg2rad", "rad2deg"]
SAME = ["abs", "neg", "positive", "sign", "square", "floor", "ceil", "round", "trunc", "frac", "nan_to_num"]
TESTS = ["isnan", "isinf", "isfinite", "isposinf", "isneginf", "signbit", "logical_not", "bitwise_not"]
BINARY = ["add", "sub", "mul", "div", "floor_divide", "remainder", "fmod", "pow", "float_power", "maximum", "minimum",
          "fmax", "fmin", "atan2", "hypot", "copysign", "logaddexp", "logaddexp2", "xlogy", "clamp_min", "clamp_max",
          "rsub"]
LOGIC = ["eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or",
         "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift"]
DOMAIN = dict.fromkeys(
    ("sqrt", "rsqrt", "log", "log2", "log10", "asin", "acos", "atanh", "logit", "erfinv", "log1p"), (0.05, 0.95)
)
DOMAIN |= {"acosh": (1.1, 4), "lgamma": (0.3, 9), "digamma": (0.3, 9)}
# PyTorch rounds between the steps of these, or leaves the series early.
LOOSE = {"digamma": 1e-9, "lgamma": 1e-9, "sinc": 1e-7}


def r(*shape, low=-2.0, high=2.0):
    return torch.rand(shape, dtype=torch.float64) * (high - low) + low


def outcome(call):
    try:
        return call()
    except Exception as error:
        return error


def alike(got, expected, rtol=None):
    """Equal results, or errors of one kind."""
    if isinstance(expected, Exception):
        assert isinstance(got, type(expected)) or (
            isinstance(got, RuntimeError) and isinstance(expected, RuntimeError)
        ), got
    else:
        same(got, expected, rtol)


def whole(dtype, n=40):
    """Numbers that every dtype holds; zeros and negative ones among them where it can."""
    low = 0 if dtype in (torch.bool, torch.uint8) else -6
    return torch.randint(low, 2 if dtype == torch.bool else 7, (n,)).to(dtype)


@pytest.mark.parametrize("name", REAL + SAME + TESTS)
def test_one_operand_in_every_dtype(name):
    for x in every_dtype(torch.arange(8)):
        if name == "digamma" and x.dtype == torch.bool:
            continue
        alike(
            outcome(lambda x=x: getattr(fx, name)(fx_of(x))),
            outcome(lambda x=x: getattr(torch, name)(x)),
            1e-3 if x.dtype == torch.float16 else 1e-2 if x.dtype == torch.bfloat16 else 1e-6,
        )


@pytest.mark.parametrize("name", REAL + SAME)
def test_one_operand_special_values_and_gradient(name):
    special = SPECIAL
    if name in ("digamma", "lgamma"):  # PyTorch's poles have huge values instead of infinite ones
        special = SPECIAL[SPECIAL.abs() >= 0.5]
        special = special[special != -1]
        special = special[~((special < 0) & (special == special.floor()))]
    if name == "sinc":  # PyTorch has NaN at infinity and loses half of the digits near zero
        special = SPECIAL[~SPECIAL.isinf() & (SPECIAL.abs() != 1e-5)]
    check(name, special, order=1, rtol=LOOSE.get(name))


@pytest.mark.parametrize("name", REAL + SAME)
def test_one_operand_layouts_and_second_gradient(name):
    low, high = DOMAIN.get(name, (-2, 2))
    for x in [*layouts(r(3, 4, low=low, high=high)), r(low=low, high=high), r(2, 0, low=low, high=high)]:
        check(name, x, rtol=LOOSE.get(name))


@pytest.mark.parametrize("name", REAL + SAME)
def test_one_operand_against_differences(name):
    x = fx_of(r(2, 3, low=DOMAIN.get(name, (-2, 2))[0], high=DOMAIN.get(name, (-2, 2))[1])).requires_grad_()
    if name in ("floor", "ceil", "round", "trunc", "frac", "sign", "abs"):
        x = fx.tensor([0.3, -1.3, 2.6], dtype=fx.float64, requires_grad=True)
    operator = getattr(fx, name)
    assert fx.autograd.gradcheck(operator, (x,))
    assert fx.autograd.gradgradcheck(operator, (x,))


@pytest.mark.parametrize("name", BINARY + LOGIC)
def test_two_operands_promote(name):
    for x in every_dtype(torch.zeros(1)):
        for y in every_dtype(torch.zeros(1)):
            a, b = whole(x.dtype), whole(y.dtype)
            integers = not (a.is_floating_point() or b.is_floating_point())
            if name in ("floor_divide", "remainder", "fmod"):
                b = torch.where(b == 0, torch.ones_like(b), b)
            if name in ("bitwise_left_shift", "bitwise_right_shift") or (name == "pow" and integers):
                b = b.clamp(min=0) if b.dtype != torch.bool else b
            low = torch.promote_types(a.dtype, b.dtype)
            rtol = {torch.float16: 4e-3, torch.bfloat16: 3e-2}.get(low, 1e-6)
            alike(
                outcome(lambda a=a, b=b: getattr(fx, name)(fx_of(a), fx_of(b))),
                outcome(lambda a=a, b=b: getattr(torch, name)(a, b)),
                rtol,
            )


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in BINARY + LOGIC
        if name
        not in ("maximum", "minimum", "fmax", "fmin", "atan2", "hypot", "copysign", "logaddexp", "logaddexp2",
                "logical_and", "logical_or", "logical_xor")
    ],
)
def test_a_number_keeps_the_tensors_dtype(name):
    for x in every_dtype(torch.zeros(1)):
        for number in (2, 3, 0.5, 2.0, 7.5, -1.5, True, -2):
            if (x.dtype == torch.uint8 and number in (-2,)) or (x.dtype == torch.bool and number is True):
                continue  # PyTorch wraps around; its bool kernels differ by operator
            if "shift" in name and isinstance(number, int) and number < 0:
                continue
            a = whole(x.dtype)
            rtol = {torch.float16: 4e-3, torch.bfloat16: 3e-2}.get(x.dtype, 1e-6)
            alike(
                outcome(lambda a=a, number=number: getattr(fx, name)(fx_of(a), number)),
                outcome(lambda a=a, number=number: getattr(torch, name)(a, number)),
                rtol,
            )


def test_dimensionless_tensors_promote_after_those_with_dimensions():
    one = torch.ones(2, dtype=torch.float16)
    for other in every_dtype(torch.tensor(2)):
        same(fx.mul(fx_of(one), fx_of(other)), one * other)
        same(fx.mul(fx_of(other), fx_of(one)), other * one)


@pytest.mark.parametrize("name", BINARY)
def test_two_operands_special_values_and_gradient(name):
    special = SPECIAL
    if name == "copysign":  # PyTorch divides infinity by infinity in the gradient
        special = SPECIAL[SPECIAL.isfinite()]
    if name == "xlogy":
        special = SPECIAL[~SPECIAL.isnan()]
    pairs = torch.cartesian_prod(special, special)
    if name.startswith("logaddexp"):  # PyTorch has NaN where two infinities are equal; see test_edges.py
        pairs = pairs[~(pairs[:, 0].isinf() & (pairs[:, 0] == pairs[:, 1]))]
    # PyTorch has no gradient of floor_divide.
    check(name, pairs[:, 0].contiguous(), pairs[:, 1].contiguous(), gradients=name != "floor_divide", order=1)


@pytest.mark.parametrize("name", [name for name in BINARY if name != "floor_divide"])
def test_two_operands_broadcast_and_second_gradient(name):
    low = 0.1 if name in ("pow", "float_power", "xlogy") else -2
    for b in (r(4, low=0.3), r(3, 1, low=0.3), r(low=0.3), r(2, 1, 4, low=0.3)):
        for a in layouts(r(3, 4, low=low)):
            if a.shape[-1] == 4 and a.ndim == 2:
                check(name, a, b)
    x = r(5, low=0.2)
    check(lambda lib, x: getattr(lib, name)(x, x), x)
    check(name, r(0, 4), r(4))


@pytest.mark.parametrize(
    "name", ["add", "mul", "div", "maximum", "atan2", "hypot", "logaddexp", "xlogy", "pow", "copysign"]
)
def test_two_operands_against_differences(name):
    a, b = fx_of(r(2, 3, low=0.3)).requires_grad_(), fx_of(r(3, low=0.4)).requires_grad_()
    assert fx.autograd.gradcheck(getattr(fx, name), (a, b))
    assert fx.autograd.gradgradcheck(getattr(fx, name), (a, b))


def test_names_and_aliases():
    a, b = r(3, low=1.1), r(3, low=1.1)
    for name in ["subtract", "multiply", "divide", "true_divide", "greater", "greater_equal", "less", "less_equal",
                 "not_equal", "arctan2"]:
        check(name, a, b)
    for name in ["negative", "absolute", "sgn", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh", "fix"]:
        check(name, a - 1.05 if name in ("arcsin", "arccos", "arctanh") else a)


@pytest.mark.parametrize("e", [0, 1, 2, 3, 4, 0.5, 1.5, -1, -0.5, -2, 0.0])
def test_powers(e):
    check(lambda lib, x: lib.pow(x, e), r(3, 4, low=0.2))
    # PyTorch's slopes take the square root of -inf for e = 1.5; for e = -0.5 they are finite where the power is NaN,
    # and have the other sign at -0.
    special = SPECIAL[SPECIAL != -INF] if e in (1.5, -0.5) else SPECIAL
    special = special[special != 0] if e == -0.5 else special
    check(lambda lib, x: lib.pow(x, e), special, order=1)
    check(lambda lib, x: x**e, r(3, 4, low=0.2))
    check(lambda lib, x: lib.pow(abs(e), x), r(3, 4), order=2 if e else 1)
    check(lambda lib, x: lib.float_power(x, e), torch.arange(1, 5))


def test_integer_powers():
    a = torch.tensor([-3, -1, 0, 1, 2, 7])
    for e in (0, 1, 2, 3, 5):
        check("pow", a, e)
        check(lambda lib, x, e=e: lib.pow(e, x), a.abs())
    check("pow", a, torch.tensor([-3, -2, 1, -1, -1, 0]))
    check("pow", a, -1.0)
    raises_alike("pow", a, -1, match="Integers to negative integer powers are not allowed")
    raises_alike("pow", torch.tensor([True]), torch.tensor([True]))


def test_third_order():
    for name in ("tanh", "sigmoid", "exp", "sin", "sqrt", "rsqrt", "reciprocal", "log1p", "lgamma", "digamma", "erf",
                 "tan"):
        low, high = DOMAIN.get(name, (0.2, 1.2))
        check(name, r(4, low=low, high=high), order=3, rtol=1e-7)


def test_polygamma_is_exact():
    x = np.array([0.1, 0.7, 1.0, 2.5, 9.0, 33.0, -0.3, -2.7])
    for order in range(5):
        expected = [float(mpmath.polygamma(order, value)) for value in x]
        np.testing.assert_allclose(fx.polygamma(order, fx.from_numpy(x)).numpy(), expected, rtol=3e-13)
    check(lambda lib, x: lib.polygamma(2, x), r(5, low=0.5), rtol=1e-9)
    check(lambda lib, x: x.polygamma(3), r(5, low=0.5), rtol=1e-9)
    raises_alike(lambda lib, x: lib.polygamma(-1, x), r(2), match="does not support negative n")


def test_sinc_is_exact():
    x = np.array([0.0, 1e-5, 0.3, 1.0, 2.5, 33.25])
    np.testing.assert_allclose(
        fx.sinc(fx.from_numpy(x)).numpy(), [float(mpmath.sincpi(v)) for v in x], rtol=3e-16, atol=1e-16
    )
    assert fx.sinc(fx.tensor([INF])).isnan().all()


def test_rounding_modes_and_signs():
    a, b = torch.tensor([7, -7, 7, -7]), torch.tensor([2, 2, -2, -2])
    for x, y in ((a, b), (a.double(), b.double()), (a.float(), b.float())):
        for mode in (None, "trunc", "floor"):
            check(lambda lib, x, y, mode=mode: lib.div(x, y, rounding_mode=mode), x, y)
        for name in ("remainder", "fmod", "floor_divide"):
            check(name, x, y, gradients=False)
    raises_alike(
        lambda lib, x: lib.div(x, x, rounding_mode="up"), a, match="div expected rounding_mode to be one of None"
    )
    edge = torch.tensor([-128, -128, 127], dtype=torch.int8)
    check("mul", edge, edge), check("abs", edge), check("neg", edge)


@pytest.mark.parametrize("name", ["remainder", "fmod", "floor_divide"])
def test_integer_division_by_zero(name):
    raises_alike(name, torch.tensor([1, 2]), torch.tensor([1, 0]))
    raises_alike(name, torch.tensor([1, 2]), 0)
    check(name, torch.tensor([1.0, -2.0, 0.0]), 0.0)


def test_rounding_decimals():
    for decimals in (0, 1, 2, -1, -2):
        check(lambda lib, x, decimals=decimals: lib.round(x, decimals=decimals), r(20, low=-300, high=300), order=1)
    same(fx.tensor([0.5, 1.5, 2.5, -0.5]).round(), torch.tensor([0.5, 1.5, 2.5, -0.5]).round())
    raises_alike(lambda lib, x: lib.round(x, decimals=1), torch.tensor([3]))


def test_alpha():
    a, b = r(3, 4), r(4)
    for alpha in (1, 2, -0.5, 0):
        for name in ("add", "sub", "rsub"):
            check(lambda lib, x, y, name=name, alpha=alpha: getattr(lib, name)(x, y, alpha=alpha), a, b)
        check(lambda lib, x, alpha=alpha: lib.add(x, 3, alpha=alpha), a)
    check(lambda lib, x, y: lib.add(x, y, alpha=3), torch.tensor([1, 2]), torch.tensor([5, 6]))
    raises_alike(
        lambda lib, x: lib.add(x, x, alpha=1.5), torch.tensor([1]), match="must not be a floating point number"
    )
    raises_alike(lambda lib, x: lib.add(x, x, alpha=True), torch.tensor([1]), match="Boolean alpha only supported")


def test_bool_arithmetic():
    a, b = torch.tensor([True, True, False]), torch.tensor([True, False, False])
    for name in ("add", "mul", "div", "maximum", "eq", "bitwise_and"):
        check(name, a, b)
    check("bitwise_not", a)
    for other in (b, torch.tensor([1, 2, 3]), torch.tensor([1.0, 2, 3])):
        raises_alike("sub", a, other)
        raises_alike("sub", other, a)
    raises_alike("neg", a)
    raises_alike("bitwise_and", torch.tensor([1.0]), torch.tensor([1.0]))


def test_three_operands():
    a, b, c = r(3, 4), r(4), r(3, 1, low=0.4)
    for value in (1, 0.5, -2):
        check(lambda lib, x, y, z, value=value: lib.addcmul(x, y, z, value=value), a, b, c)
        check(lambda lib, x, y, z, value=value: lib.addcdiv(x, y, z, value=value), a, b, c)
    check("lerp", a, b, c)
    check("lerp", a, b, 0.3)
    check("lerp", SPECIAL, SPECIAL.flip(0), 0.75, order=1)
    check("addcmul", torch.tensor([1, 2]), torch.tensor([3, 4]), torch.tensor([5, 6]))
    raises_alike("addcdiv", torch.tensor([1]), torch.tensor([1]), torch.tensor([1]))


def test_ties():
    a, b = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), torch.tensor([1.0, 1.0, 4.0], dtype=torch.float64)
    for name in ("maximum", "minimum", "fmax", "fmin", "clamp_min", "clamp_max"):
        check(name, a, b, order=1)


def test_nan_to_num():
    for x in every_dtype(torch.tensor([1.0, NAN, INF, -INF])):
        check("nan_to_num", x, order=1)
        check("nan_to_num", x, 2.0, 3.0, -4.0, order=1)


def test_heaviside_and_ldexp():
    check("heaviside", SPECIAL, SPECIAL.flip(0), gradients=False)
    check("heaviside", torch.tensor([-1, 0, 2]), torch.tensor([5, 6, 7]))
    raises_alike("heaviside", torch.tensor([1.0]), torch.tensor([1]))
    check(lambda lib, x: lib.ldexp(x, lib.tensor([1, 2, 3])), r(3))
    # PyTorch's slope at an integer exponent below zero is zero.
    x = fx.ones(2, dtype=fx.float64, requires_grad=True)
    fx.ldexp(x, fx.tensor([-3, 1])).backward(fx.ones(2, dtype=fx.float64))
    assert x.grad.tolist() == [0.125, 2.0]
    check("ldexp", r(3), r(3).round())


IN_PLACE = ["abs", "neg", "sign", "square", "reciprocal", "sqrt", "exp", "log", "sin", "tan", "tanh", "sigmoid", "erf",
            "floor", "round", "frac", "logit", "relu", "lgamma", "expm1", "nan_to_num", "deg2rad"]


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_with_gradient(name):
    def changed(lib, x):
        y = x * 0.5 + 0.1
        z = y.view(-1)[1:]
        returned = getattr(y, name + "_")()
        assert returned is y
        return y * 2, z

    check(changed, r(3, 4, low=0.1, high=0.9), rtol=1e-8)


def test_in_place_with_operands():
    a, b = r(3, 4), r(4, low=0.5)
    for name in ("add", "sub", "mul", "div", "pow", "remainder", "fmod", "atan2", "copysign", "xlogy", "eq", "lt"):

        def changed(lib, x, y, name=name):
            z = x * 1.0
            getattr(z, name + "_")(y)
            return z

        gradients = name not in ("eq", "lt")
        check(changed, a if name not in ("pow", "xlogy") else a.abs() + 0.1, b, gradients=gradients, order=1)

        def by_number(lib, x, name=name):
            z = x * 1.0
            getattr(z, name + "_")(1.5)
            return z

        if name not in ("atan2",):
            check(by_number, a if name not in ("pow", "xlogy") else a.abs() + 0.1, gradients=gradients, order=1)
    check(lambda lib, x, y: (x * 1).add_(y, alpha=2), a, b)
    check(lambda lib, x, y: (x * 1).addcmul_(y, y, value=2), a, b)
    check(lambda lib, x, y: (x * 1).lerp_(y, 0.25), a, b)
    check(lambda lib, x: (x * 1).clamp_(-0.5, 0.5), a)
    check(lambda lib, x: (x * 1).clip_(max=0.5), a)
    check(lambda lib, x: (x * 1).masked_fill_(x > 0, 7.0), a)
    raises_alike(lambda lib, x, y: x.add_(y), torch.tensor([1]), torch.tensor([1.5]), match="can't be cast")
    raises_alike(lambda lib, x, y: x.add_(y), r(4), r(3, 4), match="doesn't match the broadcast shape")
    raises_alike(lambda lib, x: x.requires_grad_().add_(1), r(4), match="leaf Variable that requires grad")


def test_out():
    a, b = r(3, 4), r(4)
    for call in (
        lambda lib, x, y, out: lib.add(x, y, out=out),
        lambda lib, x, y, out: lib.add(x, y, alpha=2, out=out),
        lambda lib, x, y, out: lib.div(x, y, rounding_mode="floor", out=out),
        lambda lib, x, y, out: lib.exp(x, out=out),
        lambda lib, x, y, out: lib.clamp(x, -0.5, 0.5, out=out),
        lambda lib, x, y, out: lib.pow(x, 2, out=out),
        lambda lib, x, y, out: lib.lerp(x, y, 0.5, out=out),
        lambda lib, x, y, out: lib.where(x > 0, x, y, out=out),
        lambda lib, x, y, out: lib.addcmul(x, y, y, out=out),
        lambda lib, x, y, out: lib.nan_to_num(x, out=out),
    ):
        for out in (
            torch.zeros(3, 4, dtype=torch.float64),
            torch.zeros(0, dtype=torch.float64),
            torch.zeros(4, 3, dtype=torch.float64).T,
        ):
            mine = fx_of(out.clone())
            returned = call(fx, fx_of(a), fx_of(b), mine)
            assert returned is mine
            same(mine, call(torch, a, b, out.clone()))
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        fx.exp(fx.ones(2, requires_grad=True), out=fx.zeros(2))
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        fx.clamp(fx.ones(2, requires_grad=True), 0, 1, out=fx.zeros(2))
    with pytest.raises(RuntimeError, match="can't be cast"):
        fx.add(fx.ones(2), 1, out=fx.zeros(2, dtype=fx.int32))
    with pytest.raises(RuntimeError, match="can't be cast"):
        fx.clamp(fx.ones(2), 0, 1, out=fx.zeros(2, dtype=fx.int32))
    with pytest.raises(RuntimeError, match="single memory location"):
        x = fx.arange(5.0)
        fx.exp(x[:4], out=x[1:])


def test_numbers_stay_numbers():
    seen = []
    from ferrox._core.door import dispatch

    watcher = dispatch.watch(lambda name, kernel, outputs, inputs, seconds: seen.append((kernel, inputs)))
    try:
        fx.mul(fx.ones(3), 2.0)
    finally:
        dispatch.unwatch(watcher)
    kernels = [kernel for kernel, _ in seen if kernel != "fill"]
    assert kernels == ["mul"]
    flags = seen[-1][1][1][4]
    assert flags & 2, "the number is a host scalar"


def test_wrong_calls():
    x = fx.ones(3)
    for call in (
        lambda: fx.exp(),
        lambda: fx.exp(x, x),
        lambda: fx.add(x),
        lambda: fx.add(x, x, beta=2),
        lambda: fx.add(x, "a"),
        lambda: fx.exp("a"),
        lambda: fx.exp(x, out=3),
        lambda: fx.add(x, x, alpha="a"),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(RuntimeError, match=r"size of tensor a \(3\) must match the size of tensor b \(2\)"):
        fx.add(x, fx.ones(2))
    same(fx.add(input=fx.ones(2), other=1), torch.full((2,), 2.0))
    same(fx.pow(fx.ones(2), exponent=3), torch.ones(2))


def test_no_grad_records_nothing():
    x = fx.ones(3, requires_grad=True)
    with warnings.catch_warnings(), fx.no_grad():
        assert not fx.clamp(x, 0, 1).requires_grad
        assert not fx.where(x > 0, x, 0.0).requires_grad
    assert numbers(fx.eq(x, 1)).all() and not fx.eq(x, 1).requires_grad
