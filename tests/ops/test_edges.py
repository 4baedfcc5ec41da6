"""Gradients at the ends: where terms cancel, squares overflow, logarithms end; against mpmath, both orders."""

import math

import mpmath
import numpy as np
import pytest

import ferrox as fx

F = fx.nn.functional
inf, nan = math.inf, math.nan


def logistic(x):
    return 1 / (1 + mpmath.exp(-x))


def log_one_plus_exp(x):
    return mpmath.log1p(mpmath.exp(x))


def normal(x):
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def gelu_tanh(x):
    return x * logistic(2 * mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))


SELU_SCALE = mpmath.mpf("1.0507009873554804934193349852946")
SELU_ALPHA = mpmath.mpf("1.6732632423543772848170429916717")

# function, its definition, points; every digit of the first and second derivative counts there
EXACT = {
    "acosh": (fx.acosh, mpmath.acosh, [1 + 1e-12, 3.7, 1e10, 1e150, 1e200]),
    "asin": (fx.asin, mpmath.asin, [-1 + 1.1e-12, 1 - 3.3e-9, 1e-12, 0.3]),
    "acos": (fx.acos, mpmath.acos, [-1 + 1.1e-12, 1 - 3.3e-9, 1e-9, 0.3]),
    "asinh": (fx.asinh, mpmath.asinh, [-1e10, 1e-10, 0.4, 1e10]),
    "atan": (fx.atan, mpmath.atan, [1e-10, 1e10]),
    "atanh": (fx.atanh, mpmath.atanh, [-1 + 1.1e-9, 1 - 3.3e-6, 1e-12, 0.3]),
    "celu": (lambda x: fx.celu(x, 1.5), lambda x: x if x > 0 else 1.5 * mpmath.expm1(x / 1.5), [-700, -40, -1e-10, 2]),
    "cosh": (fx.cosh, mpmath.cosh, [-700, 1e-10, 30]),
    "elu": (F.elu, lambda x: x if x > 0 else mpmath.expm1(x), [-700, -40, -1e-10, 2]),
    "erf": (fx.erf, mpmath.erf, [-26, -6, 1e-10, 26]),
    "erfc": (fx.erfc, mpmath.erfc, [-6, 1e-10, 26]),
    "exp": (fx.exp, mpmath.exp, [-700, -40, 700]),
    "expm1": (fx.expm1, mpmath.expm1, [-700, -40, -1e-20, 1e-10, 50]),
    "gelu": (F.gelu, lambda x: x * normal(x), [-38, -20, -6, 6, 20]),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), gelu_tanh, [-20, -3.5, 3, 6]),
    "log": (fx.log, mpmath.log, [1e-100, 1e100]),
    "log1p": (fx.log1p, mpmath.log1p, [-1 + 1e-12, -1e-20, 1e-20, 1e100]),
    "logit": (fx.logit, lambda x: mpmath.log(x / (1 - x)), [1e-100, 1e-12, 0.3, 1 - 3e-12]),
    "logsigmoid": (F.logsigmoid, lambda x: -log_one_plus_exp(-x), [-40, -20, 20, 40, 700]),
    "mish": (F.mish, lambda x: x * mpmath.tanh(log_one_plus_exp(x)), [-700, -40, -20, 0.1, 10]),
    "rsqrt": (fx.rsqrt, lambda x: 1 / mpmath.sqrt(x), [1e-60, 1e60]),
    "selu": (fx.selu, lambda x: SELU_SCALE * (x if x > 0 else SELU_ALPHA * mpmath.expm1(x)), [-700, -40, -1e-10]),
    "sigmoid": (fx.sigmoid, logistic, [-700, -40, -20, 0.3]),
    "silu": (F.silu, lambda x: x * logistic(x), [-700, -40, -20, 20, 40, 700]),
    "sinc": (fx.sinc, mpmath.sincpi, [1e-12, 1e-8, 1e-5, 1e-3, 0.02, 0.2, 0.24999, 0.25, 0.3, 2.2]),
    "sinh": (fx.sinh, mpmath.sinh, [-700, 1e-10, 30]),
    "softplus": (F.softplus, log_one_plus_exp, [-700, -40, -20, 15, 19.9]),
    "softsign": (F.softsign, lambda x: x / (1 + abs(x)), [-1e100, 1e-10, 1e100]),
    "sqrt": (fx.sqrt, mpmath.sqrt, [1e-100, 1e100]),
    "tanh": (fx.tanh, mpmath.tanh, [-1e-10, 1e-10, 0.4]),
}


def derivatives(function, points):
    x = fx.tensor(points, dtype=fx.float64, requires_grad=True)
    (first,) = fx.autograd.grad(function(x).sum(), x, create_graph=True)
    (second,) = fx.autograd.grad(first.sum(), x)
    return first.detach().numpy(), second.numpy()


def exact(function, x, order):
    with mpmath.workdps(800):
        x = mpmath.mpf(x)
        h = abs(x) * mpmath.mpf(10) ** -150
        if order == 1:
            return float(mpmath.re((function(x + h) - function(x - h)) / (2 * h)))
        return float(mpmath.re((function(x + h) - 2 * function(x) + function(x - h)) / (h * h)))


@pytest.mark.parametrize("name", EXACT)
def test_derivatives_keep_their_digits(name):
    function, definition, points = EXACT[name]
    got = derivatives(function, points)
    for order in (1, 2):
        expected = [exact(definition, x, order) for x in points]
        np.testing.assert_allclose(got[order - 1], expected, rtol=3e-11, atol=1e-305, err_msg=f"order {order}")


def test_sinc_bends_at_zero():
    first, second = derivatives(fx.sinc, [0.0, -0.0])
    np.testing.assert_array_equal(first, 0)
    np.testing.assert_allclose(second, -math.pi**2 / 3, rtol=1e-15)


def test_slopes_from_the_output_are_right_to_the_outputs_precision():
    """sigmoid and tanh read their output, as PyTorch's: near one they are as exact as it is."""
    for function, definition in ((fx.sigmoid, logistic), (fx.tanh, mpmath.tanh)):
        points = [9.0, 15.0, 20.0, 40.0]
        expected = [exact(definition, x, 1) for x in points]
        np.testing.assert_allclose(derivatives(function, points)[0], expected, rtol=1e-9, atol=2.3e-16)


# function, points, first and second derivative
TOLD = {
    "acosh, square past the largest": (fx.acosh, [1e200], [1e-200], [0]),
    "asinh, square past the largest": (fx.asinh, [1e200, -1e200], [1e-200, 1e-200], [0, 0]),
    "gelu far out": (F.gelu, [-1e200, 1e200], [0, 1], [0, 0]),
    "gelu tanh far out": (lambda x: F.gelu(x, approximate="tanh"), [-1e120, 1e120], [0, 1], [0, 0]),
    "mish far out": (F.mish, [-1e4, 1e4], [0, 1], [0, 0]),
    "silu far out": (F.silu, [-1e4, 1e4], [0, 1], [0, 0]),
    "relu": (lambda x: fx.relu(x) * x, [0, -0.0, 2], [0, 0, 4], [0, 0, 2]),
    "x ** 0": (lambda x: x**0 + x * x, [0, -0.0, 3], [0, 0, 6], [2, 2, 2]),
    "x ** 1": (lambda x: x**1 * x, [0, 3], [0, 6], [2, 2]),
    "x ** 2": (lambda x: x**2, [0, -0.0, inf], [0, 0, inf], [2, 2, 2]),
    "x ** 3": (lambda x: x**3, [0, -2], [0, 12], [0, -12]),
    "x ** 0.5 at zero": (lambda x: x**0.5, [0.0], [inf], [-inf]),
    "elu at its kink": (F.elu, [0.0], [1], [0]),
    "logit outside": (fx.logit, [-1, 2], [nan, nan], [nan, nan]),
    "norm of zeros": (lambda x: fx.norm(x), [0, 0], [0, 0], [0, 0]),
    "0-norm with infinities": (lambda x: fx.norm(x, 0) + (x * 0).nan_to_num().sum(), [inf, nan, 0], [0, 0, 0], None),
    "logsumexp of nothing": (lambda x: fx.logsumexp(x, 0), [-inf, -inf], [0, 0], None),
    "logcumsumexp from nothing": (lambda x: fx.logcumsumexp(x, 0), [-inf, 1], [0, 1], [0, 0]),
    "prod with one zero": (lambda x: x.prod(), [0, 2, 3], [6, 0, 0], [5, 3, 2]),
    "prod with two zeros": (lambda x: x.prod(), [0, 0, 3], [0, 0, 0], [3, 3, 0]),
    "cumprod from zero": (lambda x: x.cumprod(0), [0, 2, 3], [9, 0, 0], [6, 4, 2]),
    "cosine of huge vectors": (lambda x: F.cosine_similarity(x, x, 0), [1e200, 1e200], [0, 0], None),
    "normalize of zeros": (lambda x: F.normalize(x, dim=0), [0, 0], [1e12, 1e12], [0, 0]),
    "multilabel_soft_margin at zero": (lambda x: F.multilabel_soft_margin_loss(x, fx.zeros(2, dtype=fx.float64)),
                                       [0, 0], [0.25, 0.25], [0.125, 0.125]),
    "soft_margin at zero": (lambda x: F.soft_margin_loss(x, fx.ones(2, dtype=fx.float64), reduction="sum"),
                            [0, 0], [-0.5, -0.5], [0.25, 0.25]),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD)
def test_at_the_ends(case):
    function, points, first, second = TOLD[case]
    x = fx.tensor(points, dtype=fx.float64, requires_grad=True)
    (got,) = fx.autograd.grad(function(x).sum(), x, create_graph=True)
    np.testing.assert_allclose(got.detach().numpy(), first, rtol=1e-12)
    if second is not None:
        (got,) = fx.autograd.grad(got.sum(), x)
        np.testing.assert_allclose(got.numpy(), second, rtol=1e-12, atol=1e-200)


@pytest.mark.parametrize("function", [fx.logaddexp, fx.logaddexp2])
def test_logaddexp_of_equal_infinities(function):
    """Nothing added to nothing has no slope; of two infinities each has half."""
    a, b = (fx.tensor([-inf, inf, -inf, 3.0], dtype=fx.float64, requires_grad=True) for _ in range(2))
    with fx.no_grad():
        b[2] = 3.0
    da, db = fx.autograd.grad(function(a, b).sum(), (a, b), create_graph=True)
    np.testing.assert_array_equal(da.detach().numpy(), [0, 0.5, 0, 0.5])
    np.testing.assert_array_equal(db.detach().numpy(), [0, 0.5, 1, 0.5])
    assert fx.isfinite(fx.autograd.grad(da.sum(), b)[0]).all()
    x, y = fx.tensor([1.0], dtype=fx.float64, requires_grad=True), fx.tensor([1.0], dtype=fx.float64)
    assert fx.autograd.gradgradcheck(function, (x, y))


LOGITS = [(-40.0, 0.0), (40.0, 1.0), (-40.0, 1.0), (40.0, 0.0), (700.0, 1.0), (-700.0, 0.0), (0.3, 0.25), (-30.0, 0.5)]


@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy_with_logits_of_a_certain_prediction(weighted):
    x = fx.tensor([x for x, _ in LOGITS], dtype=fx.float64, requires_grad=True)
    y = fx.tensor([y for _, y in LOGITS], dtype=fx.float64)
    weight = fx.ones((), dtype=fx.float64) if weighted else None

    def definition(x, y):
        return (1 - y) * log_one_plus_exp(x) + y * log_one_plus_exp(-x)

    loss = F.binary_cross_entropy_with_logits(x, y, reduction="none", pos_weight=weight)
    (first,) = fx.autograd.grad(loss.sum(), x, create_graph=True)
    (second,) = fx.autograd.grad(first.sum(), x)
    with mpmath.workdps(800):
        value = [float(definition(mpmath.mpf(a), b)) for a, b in LOGITS]
        slope = [float((1 - b) * logistic(mpmath.mpf(a)) - b * logistic(-mpmath.mpf(a))) for a, b in LOGITS]
        bend = [float(logistic(mpmath.mpf(a)) * logistic(-mpmath.mpf(a))) for a, b in LOGITS]
    np.testing.assert_allclose(loss.detach().numpy(), value, rtol=1e-14)
    np.testing.assert_allclose(first.detach().numpy(), slope, rtol=1e-13)
    np.testing.assert_allclose(second.numpy(), bend, rtol=1e-13)


def test_binary_cross_entropy_at_the_ends():
    """The second derivative, y / x^2 + (1 - y) / (1 - x)^2, has no 0 / 0 where the first has none."""
    x = fx.tensor([0.0, 1.0, 0.25, 0.5], dtype=fx.float64, requires_grad=True)
    y = fx.tensor([0.0, 1.0, 0.5, 0.0], dtype=fx.float64)
    (first,) = fx.autograd.grad(F.binary_cross_entropy(x, y, reduction="sum"), x, create_graph=True)
    np.testing.assert_allclose(first.detach().numpy(), [0, 0, -4 / 3, 2], atol=1e-12)
    (second,) = fx.autograd.grad(first.sum(), x)
    np.testing.assert_allclose(second.numpy(), [1, 1, 0.5 * 16 + 0.5 * 16 / 9, 4], rtol=1e-12)


def test_gaussian_loss_of_an_infinite_variance_is_finite_in_its_clamp():
    loss = F.gaussian_nll_loss(fx.ones(1), fx.zeros(1), fx.tensor([inf]), reduction="none")
    assert loss.item() == inf
