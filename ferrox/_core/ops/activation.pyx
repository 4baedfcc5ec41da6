"""Activations: rectifiers, exponential linear units, and those that weigh x by a distribution function.

See activation_soft.pyx.
"""
from ferrox._core.abi cimport FX_BOOL, FX_U8
from ferrox._core.graph.node cimport Node, rule, saved_input, saved_output
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport add, mul, neg, reciprocal, square, sub
from ferrox._core.ops.clamp cimport clamp_numbers
from ferrox._core.ops.elementwise cimport SAME, apply1, apply2p
from ferrox._core.ops.family cimport inner, unary
from ferrox._core.ops.logic cimport lt, where
from ferrox._core.ops.pointwise cimport exp, sigmoid
from ferrox._core.ops.activation_soft cimport activated, first_vjp, second_vjp
from ferrox._core.tensor.base cimport TensorBase

cdef tuple NONE = (0, 0, 0)


# relu, relu6, hardtanh, leaky_relu, threshold: piecewise linear, told apart by the output where that suffices

cdef object flat_second_vjp(Node n, object g):
    return second_vjp(n, g, NULL)

cdef Op THRESHOLD_BACKWARD = inner("threshold_backward", 2, SAME, rule(flat_second_vjp), ("1", ""))
cdef Op HARDTANH_BACKWARD = inner("hardtanh_backward", 2, SAME, rule(flat_second_vjp), ("1", ""))
cdef Op LEAKY_RELU_BACKWARD = inner("leaky_relu_backward", 2, SAME, rule(flat_second_vjp), ("1", ""))


cdef object relu_vjp(Node n, object g):
    return apply2p(THRESHOLD_BACKWARD, g, saved_output(n, 0), 0, 0, 0, NONE)

cdef Op RELU = unary("relu", SAME, rule(relu_vjp), "o", "np.where(x < 0, 0, x)", "t(3, 4)",
                     "The positive part of each element, max(x, 0).")


def _relu(input, inplace=False):
    """The positive part of each element, max(x, 0).

    Parameters
    ----------
    input : Tensor
    inplace : bool, optional
        Change `input` itself.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.relu(fx.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return activated(RELU, input, inplace, 0, 0, 0)

RELU.function = _relu


cdef object hardtanh_vjp(Node n, object g):
    return first_vjp(n, HARDTANH_BACKWARD, saved_output(n, 0), g)


def _relu6(input, inplace=False):
    """Each element held between 0 and 6.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.relu6(fx.tensor([-1.0, 2.0, 9.0]))
    tensor([0., 2., 6.])
    """
    return activated(RELU6, input, inplace, 0, 6, 0)

cdef Op RELU6 = row("relu6", function=_relu6, inputs=1, kind=SAME, rule=rule(hardtanh_vjp), needs=("o",),
                    reference="np.clip(x, 0, 6)", sample="t(3, 4, low=-2, high=8)", public="nn")


def _hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    """Each element held between `min_val` and `max_val`.

    Parameters
    ----------
    input : Tensor
    min_val, max_val : number, optional
    inplace : bool, optional
        Change `input` itself.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.hardtanh(fx.tensor([-3.0, 0.5]))
    tensor([-1.0000,  0.5000])
    """
    cdef int dtype = (<TensorBase?> input).a.dtype
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    if dtype == FX_BOOL:
        raise RuntimeError("Bool inputs not supported for hardtanh")
    if dtype == FX_U8 and (min_val < 0 or max_val < 0):
        raise RuntimeError("cannot do hardtanh on an unsigned type with negative limits")
    return activated(HARDTANH, input, inplace, min_val, max_val, 0)

cdef Op HARDTANH = row("hardtanh", function=_hardtanh, inputs=1, kind=SAME, rule=rule(hardtanh_vjp), needs=("o",),
                       reference="np.clip(x, min_val, max_val)", sample="t(3, 4), -0.5, 1.5", public="nn")


cdef object leaky_relu_vjp(Node n, object g):
    return first_vjp(n, LEAKY_RELU_BACKWARD, saved_output(n, 0), g)


cdef object steep_relu_vjp(Node n, object g):
    return first_vjp(n, LEAKY_RELU_BACKWARD, saved_input(n, 0), g)


def _leaky_relu(input, negative_slope=0.01, inplace=False):
    """Each element, times `negative_slope` where it is negative.

    Parameters
    ----------
    input : Tensor
    negative_slope : float, optional
    inplace : bool, optional
        Change `input` itself.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.leaky_relu(fx.tensor([-2.0, 3.0]), 0.5)
    tensor([-1.,  3.])
    """
    return activated(LEAKY_RELU if negative_slope >= 0 else _STEEP, input, inplace, negative_slope, 0, 0)

# With a negative slope the output does not tell the sides apart.
cdef Op LEAKY_RELU = row("leaky_relu", function=_leaky_relu, inputs=1, kind=SAME, rule=rule(leaky_relu_vjp),
                         needs=("o",),
                         reference="np.where(x > 0, x, negative_slope * x)",
                         sample=["(t(3, 4), 0.1)", "(t(3, 4), -0.5)"], public="nn")
cdef Op _STEEP = row("_leaky_relu_negative_slope", kernel="leaky_relu", inputs=1, kind=SAME, rule=rule(steep_relu_vjp),
                     needs=("0",), public=False, family="inner", doc="leaky_relu with a negative slope.")


cdef object threshold_vjp(Node n, object g):
    return first_vjp(n, THRESHOLD_BACKWARD, saved_input(n, 0), g)


def _threshold(input, threshold, value, inplace=False):
    """Each element that is above `threshold`, and `value` in place of the others.

    Parameters
    ----------
    input : Tensor
    threshold, value : number
    inplace : bool, optional
        Change `input` itself.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.threshold(fx.tensor([0.1, 2.0]), 0.5, 9.0)
    tensor([9., 2.])
    """
    return activated(THRESHOLD, input, inplace, threshold, value, 0)

cdef Op THRESHOLD = row("threshold", function=_threshold, inputs=1, kind=SAME, rule=rule(threshold_vjp), needs=("0",),
                        reference="np.where(x <= threshold, value, x)", sample="t(3, 4), 0.5, -1.5")


# elu, selu, celu

cdef TensorBase _elu_curvature(object x, double p0, double p1, double p2):
    return where(lt(x, 0), mul(exp(mul(x, p2)), p0 * p1 * p2 * p2), 0)


cdef object elu_backward_vjp(Node n, object g):
    return second_vjp(n, g, _elu_curvature)


cdef TensorBase _celu_curvature(object x, double p0, double p1, double p2):
    return where(lt(x, 0), mul(exp(mul(x, 1 / p0)), 1 / p0), 0)


cdef object celu_backward_vjp(Node n, object g):
    return second_vjp(n, g, _celu_curvature)

cdef Op ELU_BACKWARD = inner("elu_backward", 2, SAME, rule(elu_backward_vjp), ("1", "01"))
cdef Op CELU_BACKWARD = inner("celu_backward", 2, SAME, rule(celu_backward_vjp), ("1", "01"))


cdef object elu_vjp(Node n, object g):
    return first_vjp(n, ELU_BACKWARD, saved_input(n, 0), g)


cdef object celu_vjp(Node n, object g):
    return first_vjp(n, CELU_BACKWARD, saved_input(n, 0), g)


def _elu(input, alpha=1.0, inplace=False):
    """Exponential linear unit: x above zero, ``alpha * (exp(x) - 1)`` below.

    Parameters
    ----------
    input : Tensor
    alpha : float, optional
    inplace : bool, optional
        Change `input` itself.

    Notes
    -----
    D.-A. Clevert et al., "Fast and accurate deep network learning by exponential linear units", ICLR 2016.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.elu(fx.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.0000])
    """
    return activated(ELU, input, inplace, alpha, 1, 1)

cdef Op ELU = row("elu", function=_elu, inputs=1, kind=SAME, rule=rule(elu_vjp), needs=("0",),
                  reference="np.where(x > 0, x, alpha * np.expm1(x))", sample="t(3, 4), 1.5", public="nn")


def _selu(input, inplace=False):
    """Self-normalising exponential linear unit: `elu` with alpha 1.6733 times 1.0507.

    Notes
    -----
    G. Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.selu(fx.tensor([-1.0, 2.0]))
    tensor([-1.1113,  2.1014])
    """
    return activated(SELU, input, inplace, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1)

cdef Op SELU = row("selu", function=_selu, kernel="elu", inputs=1, kind=SAME, rule=rule(elu_vjp), needs=("0",),
                   sample="t(3, 4)",
                   reference="1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))")


def _celu(input, alpha=1.0, inplace=False):
    """Continuously differentiable exponential linear unit: x above zero, ``alpha * (exp(x / alpha) - 1)`` below.

    Parameters
    ----------
    input : Tensor
    alpha : float, optional
        Not zero.
    inplace : bool, optional
        Change `input` itself.

    Notes
    -----
    J. T. Barron, "Continuously differentiable exponential linear units", 2017.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.celu(fx.tensor([-1.0, 2.0]), 2.0)
    tensor([-0.7869,  2.0000])
    """
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return activated(CELU, input, inplace, alpha, 0, 0)

cdef Op CELU = row("celu", function=_celu, inputs=1, kind=SAME, rule=rule(celu_vjp), needs=("0",),
                   reference="np.where(x > 0, x, alpha * np.expm1(x / alpha))", sample="t(3, 4), 1.5")


# gelu, silu, mish

cdef TensorBase _gelu_curvature(object x, double p0, double p1, double p2):
    # (2 - x^2) times the normal density, 0 beyond 40
    x = clamp_numbers(x, -40, 40)
    cdef TensorBase squared = square(x)
    return mul(mul(exp(mul(squared, -0.5)), sub(2, squared)), 0.3989422804014327)


cdef object gelu_erf_backward_vjp(Node n, object g):
    return second_vjp(n, g, _gelu_curvature)


cdef TensorBase _gelu_tanh_curvature(object x, double p0, double p1, double p2):
    # y = x s(v), v = k (x + a x^3), s the logistic function
    cdef double k = 1.5957691216057308, a = 0.044715
    # Flat to the last bit beyond 40.
    x = clamp_numbers(x, -40, 40)
    cdef TensorBase squared = square(x), v = mul(mul(x, add(mul(squared, a), 1)), k), s = sigmoid(v)
    cdef TensorBase slope = add(mul(squared, 3 * a * k), k)
    cdef TensorBase bend = mul(mul(x, square(slope)), sub(1, mul(s, 2)))
    return mul(mul(s, sigmoid(neg(v))), add(add(mul(slope, 2), mul(squared, 6 * a * k)), bend))


cdef object gelu_tanh_backward_vjp(Node n, object g):
    return second_vjp(n, g, _gelu_tanh_curvature)


cdef TensorBase _silu_curvature(object x, double p0, double p1, double p2):
    cdef TensorBase s = sigmoid(x), rest = sigmoid(neg(x))
    return mul(mul(s, rest), add(mul(x, sub(rest, s)), 2))


cdef object silu_backward_vjp(Node n, object g):
    return second_vjp(n, g, _silu_curvature)


cdef TensorBase _mish_curvature(object x, double p0, double p1, double p2):
    # y = x t, t = tanh(softplus(x)) = (1 - u) / (1 + u), u = r^2, t' = (1 - t^2) s, with s and r the logistic function
    # of x and of -x
    cdef TensorBase s = sigmoid(x), r = sigmoid(neg(x)), u = square(r), d = reciprocal(add(u, 1))
    cdef TensorBase bend = sub(r, mul(mul(mul(sub(1, u), d), s), 2))
    return mul(mul(mul(mul(u, square(d)), 4), s), add(mul(x, bend), 2))


cdef object mish_backward_vjp(Node n, object g):
    return second_vjp(n, g, _mish_curvature)

cdef Op GELU_ERF_BACKWARD = inner("gelu_erf_backward", 2, SAME, rule(gelu_erf_backward_vjp), ("1", "01"))
cdef Op GELU_TANH_BACKWARD = inner("gelu_tanh_backward", 2, SAME, rule(gelu_tanh_backward_vjp), ("1", "01"))
cdef Op SILU_BACKWARD = inner("silu_backward", 2, SAME, rule(silu_backward_vjp), ("1", "01"))
cdef Op MISH_BACKWARD = inner("mish_backward", 2, SAME, rule(mish_backward_vjp), ("1", "01"))


cdef object gelu_vjp(Node n, object g):
    return apply2p(GELU_ERF_BACKWARD, g, saved_input(n, 0), 0, 0, 0, NONE)


cdef object gelu_tanh_vjp(Node n, object g):
    return apply2p(GELU_TANH_BACKWARD, g, saved_input(n, 0), 0, 0, 0, NONE)


cdef object silu_vjp(Node n, object g):
    return apply2p(SILU_BACKWARD, g, saved_input(n, 0), 0, 0, 0, NONE)


cdef object mish_vjp(Node n, object g):
    return apply2p(MISH_BACKWARD, g, saved_input(n, 0), 0, 0, 0, NONE)


def _gelu(input, *, approximate="none"):
    """Gaussian error linear unit: x times the normal distribution function of x.

    Parameters
    ----------
    input : Tensor
    approximate : {"none", "tanh"}, optional
        "tanh" for ``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``.

    Notes
    -----
    D. Hendrycks, K. Gimpel, "Gaussian error linear units (GELUs)", 2016.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.gelu(fx.tensor([-1.0, 2.0]))
    tensor([-0.1587,  1.9545])
    """
    if approximate == "none":
        return apply1(GELU, <TensorBase?> input)
    if approximate == "tanh":
        return apply1(GELU_TANH, <TensorBase?> input)
    raise RuntimeError("approximate argument must be either none or tanh.")

cdef Op GELU = row("gelu", function=_gelu, kernel="gelu_erf", inputs=1, kind=SAME, rule=rule(gelu_vjp), needs=("0",),
                   public="nn",
                   reference="x * sp.ndtr(x) if approximate == 'none' else "
                             "0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))",
                   sample=["t(3, 4)", "call(t(3, 4), approximate='tanh')"])
cdef Op GELU_TANH = row("_gelu_tanh", kernel="gelu_tanh", inputs=1, kind=SAME, rule=rule(gelu_tanh_vjp), needs=("0",),
                        public=False, family="inner", doc="The tanh form of gelu.")


def _silu(input, inplace=False):
    """x times its logistic function (swish).

    Notes
    -----
    S. Elfwing et al., "Sigmoid-weighted linear units for neural network function approximation in reinforcement
    learning", 2018.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.silu(fx.tensor([-1.0, 2.0]))
    tensor([-0.2689,  1.7616])
    """
    return activated(SILU, input, inplace, 0, 0, 0)

cdef Op SILU = row("silu", function=_silu, inputs=1, kind=SAME, rule=rule(silu_vjp), needs=("0",),
                   reference="x * sp.expit(x)", sample="t(3, 4)", public="nn")


def _mish(input, inplace=False):
    """x times tanh(softplus(x)).

    Notes
    -----
    D. Misra, "Mish: a self regularized non-monotonic activation function", 2019.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.mish(fx.tensor([-1.0, 2.0]))
    tensor([-0.3034,  1.9440])
    """
    return activated(MISH, input, inplace, 0, 0, 0)

cdef Op MISH = row("mish", function=_mish, inputs=1, kind=SAME, rule=rule(mish_vjp), needs=("0",),
                   reference="x * np.tanh(np.logaddexp(x, 0))", sample="t(3, 4)", public="nn")
