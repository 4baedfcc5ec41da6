"""Activations that bend, squash or shrink, and what all activations share.

Each activation has a fused gradient kernel, which is an operator too (`…_backward`: incoming gradient, input).  Its own
gradients are the same kernel again for the incoming gradient, and the second derivative, composed of operators, for the
input.
"""
from libc.stdint cimport int64_t

from ferrox._core.graph.node cimport Node, rule, saved_input, wants
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport absolute, add, full_like, mul, neg, reciprocal, sign
from ferrox._core.ops.elementwise cimport ALIKE, REAL, SAME, apply1, apply1p, apply2, apply2p, apply3, assign, \
    shadow_for
from ferrox._core.ops.family cimport inner
from ferrox._core.ops.logic cimport both, gt, lt, where
from ferrox._core.ops.pointwise cimport sigmoid, tanh
from ferrox._core.ops.shape cimport reshape
from ferrox._core.tensor.base cimport TensorBase, needs_grad, on_one_device, shape_of

cdef tuple NONE = (0, 0, 0)


cdef TensorBase activated(Op op, object input, bint inplace, double p0, double p1, double p2):
    """The operator with its parameters, into `input` itself if asked."""
    cdef TensorBase x = <TensorBase?> input
    if inplace:
        return assign(op, x, apply1p(op, shadow_for(op, x), p0, p1, p2, (p0, p1, p2) if needs_grad(x) else None))
    return apply1p(op, x, p0, p1, p2, (p0, p1, p2) if needs_grad(x) else None)


cdef object first_vjp(Node n, Op backward, object value, object g):
    """The gradient of an activation: its fused kernel, with the parameters of the forward."""
    cdef tuple p = <tuple> n.params
    return apply2p(backward, g, value, p[0], p[1], p[2], p)


cdef object second_vjp(Node n, object g, curvature_fn curvature):
    """The gradients of a fused gradient; without a curvature, of one that is constant in pieces."""
    cdef tuple p = <tuple> n.params
    cdef object x = saved_input(n, 1) if wants(n, 0) or curvature != NULL else None, dx = None
    if wants(n, 1):
        if curvature == NULL:
            dx = full_like(<TensorBase> g, 0)
        else:
            dx = mul(mul(g, saved_input(n, 0)), curvature(x, p[0], p[1], p[2]))
    return apply2p(n.op, g, x, p[0], p[1], p[2], p) if wants(n, 0) else None, dx


cdef object _flat_second_vjp(Node n, object g):
    return second_vjp(n, g, NULL)


# softplus, logsigmoid, softsign, tanhshrink

cdef TensorBase _softplus_curvature(object x, double p0, double p1, double p2):
    cdef TensorBase scaled = mul(x, p0)
    return where(gt(scaled, p1), 0, mul(mul(sigmoid(scaled), sigmoid(neg(scaled))), p0))


cdef object softplus_backward_vjp(Node n, object g):
    return second_vjp(n, g, _softplus_curvature)

cdef Op SOFTPLUS_BACKWARD = inner("softplus_backward", 2, SAME, rule(softplus_backward_vjp), ("1", "01"))


cdef object softplus_vjp(Node n, object g):
    return first_vjp(n, SOFTPLUS_BACKWARD, saved_input(n, 0), g)


def _softplus(input, beta=1.0, threshold=20.0):
    """log(1 + exp(beta x)) / beta, a smooth relu; x itself where beta x is above `threshold`.

    Parameters
    ----------
    input : Tensor
    beta, threshold : float, optional

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.softplus(fx.tensor([-1.0, 2.0]))
    tensor([0.3133, 2.1269])
    """
    return activated(SOFTPLUS, input, False, beta, threshold, 0)

cdef Op SOFTPLUS = row("softplus", function=_softplus, inputs=1, kind=SAME, rule=rule(softplus_vjp), needs=("0",),
                       reference="np.logaddexp(x * beta, 0) / beta", sample="t(3, 4), 1.5", public="nn")


cdef TensorBase _logsigmoid_curvature(object x, double p0, double p1, double p2):
    return neg(mul(sigmoid(x), sigmoid(neg(x))))


cdef object logsigmoid_backward_vjp(Node n, object g):
    return second_vjp(n, g, _logsigmoid_curvature)

cdef Op LOGSIGMOID_BACKWARD = inner("logsigmoid_backward", 2, SAME, rule(logsigmoid_backward_vjp), ("1", "01"))


cdef object logsigmoid_vjp(Node n, object g):
    return apply2p(LOGSIGMOID_BACKWARD, g, saved_input(n, 0), 0, 0, 0, NONE)


def _logsigmoid(input):
    """Logarithm of the logistic function, without overflow.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.logsigmoid(fx.tensor([0.0, -200.0]))
    tensor([  -0.6931, -200.0000])
    """
    return logsigmoid(<TensorBase?> input)

cdef Op LOGSIGMOID = row("logsigmoid", function=_logsigmoid, inputs=1, kind=SAME, rule=rule(logsigmoid_vjp),
                         needs=("0",),
                         reference="np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))", sample="t(3, 4)", public="nn")


cdef TensorBase logsigmoid(object x):
    return apply1(LOGSIGMOID, x)


cdef TensorBase _softsign_curvature(object x, double p0, double p1, double p2):
    cdef TensorBase r = reciprocal(add(absolute(x), 1))
    return mul(mul(mul(mul(r, r), r), sign(x)), -2)


cdef object softsign_backward_vjp(Node n, object g):
    return second_vjp(n, g, _softsign_curvature)

cdef Op SOFTSIGN_BACKWARD = inner("softsign_backward", 2, SAME, rule(softsign_backward_vjp), ("1", "01"))


cdef object softsign_vjp(Node n, object g):
    return apply2p(SOFTSIGN_BACKWARD, g, saved_input(n, 0), 0, 0, 0, NONE)


def _softsign(input):
    """x / (1 + |x|).

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.softsign(fx.tensor([-1.0, 3.0]))
    tensor([-0.5000,  0.7500])
    """
    return apply1(SOFTSIGN, <TensorBase?> input)

cdef Op SOFTSIGN = row("softsign", function=_softsign, inputs=1, kind=REAL, rule=rule(softsign_vjp), needs=("0",),
                       reference="x / (1 + np.abs(x))", sample="t(3, 4)", public="nn")


cdef object tanhshrink_vjp(Node n, object g):
    cdef TensorBase t = tanh(saved_input(n, 0))
    return mul(g, mul(t, t))


def _tanhshrink(input):
    """x - tanh(x).

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.tanhshrink(fx.tensor([0.0, 2.0]))
    tensor([0.0000, 1.0360])
    """
    return apply1(TANHSHRINK, <TensorBase?> input)

cdef Op TANHSHRINK = row("tanhshrink", function=_tanhshrink, inputs=1, kind=REAL, rule=rule(tanhshrink_vjp),
                         needs=("0",), reference="x - np.tanh(x)", sample="t(3, 4)", public="nn")


# hardsigmoid, hardswish, softshrink, hardshrink: straight lines

cdef TensorBase _hardswish_curvature(object x, double p0, double p1, double p2):
    return where(both(gt(x, -3), lt(x, 3)), 1 / 3.0, full_like(<TensorBase> x, 0))


cdef object hardswish_backward_vjp(Node n, object g):
    return second_vjp(n, g, _hardswish_curvature)

cdef Op HARDSIGMOID_BACKWARD = inner("hardsigmoid_backward", 2, SAME, rule(_flat_second_vjp), ("1", ""))
cdef Op HARDSWISH_BACKWARD = inner("hardswish_backward", 2, SAME, rule(hardswish_backward_vjp), ("1", "01"))
cdef Op SOFTSHRINK_BACKWARD = inner("softshrink_backward", 2, SAME, rule(_flat_second_vjp), ("1", ""))
cdef Op HARDSHRINK_BACKWARD = inner("hardshrink_backward", 2, SAME, rule(_flat_second_vjp), ("1", ""))


cdef object hardsigmoid_vjp(Node n, object g):
    return first_vjp(n, HARDSIGMOID_BACKWARD, saved_input(n, 0), g)


cdef object hardswish_vjp(Node n, object g):
    return first_vjp(n, HARDSWISH_BACKWARD, saved_input(n, 0), g)


cdef object softshrink_vjp(Node n, object g):
    return first_vjp(n, SOFTSHRINK_BACKWARD, saved_input(n, 0), g)


cdef object hardshrink_vjp(Node n, object g):
    return first_vjp(n, HARDSHRINK_BACKWARD, saved_input(n, 0), g)


def _hardsigmoid(input, inplace=False):
    """The logistic function of straight lines: x / 6 + 1 / 2 held between 0 and 1.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.hardsigmoid(fx.tensor([-4.0, 0.0, 4.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    return activated(HARDSIGMOID, input, inplace, 0, 0, 0)

cdef Op HARDSIGMOID = row("hardsigmoid", function=_hardsigmoid, inputs=1, kind=SAME, rule=rule(hardsigmoid_vjp),
                          needs=("0",),
                          reference="np.clip(x / 6 + 0.5, 0, 1)", sample="t(3, 4, low=-4.5, high=4.5)", public="nn")


def _hardswish(input, inplace=False):
    """x times its `hardsigmoid`.

    Notes
    -----
    A. Howard et al., "Searching for MobileNetV3", ICCV 2019.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.hardswish(fx.tensor([-4.0, 1.5, 4.0]))
    tensor([-0.0000,  1.1250,  4.0000])
    """
    return activated(HARDSWISH, input, inplace, 0, 0, 0)

cdef Op HARDSWISH = row("hardswish", function=_hardswish, inputs=1, kind=SAME, rule=rule(hardswish_vjp), needs=("0",),
                        reference="x * np.clip(x / 6 + 0.5, 0, 1)", sample="t(3, 4, low=-4.5, high=4.5)", public="nn")


def _softshrink(input, lambd=0.5):
    """Each element moved towards zero by `lambd`, and no further than zero.

    Parameters
    ----------
    input : Tensor
    lambd : float, optional
        Not negative.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.softshrink(fx.tensor([-2.0, 0.25, 2.0]))
    tensor([-1.5000,  0.0000,  1.5000])
    """
    if lambd < 0:
        raise RuntimeError(f"[softshrink] lambda must not be negative, but found {lambd}")
    return activated(SOFTSHRINK, input, False, lambd, 0, 0)

cdef Op SOFTSHRINK = row("softshrink", function=_softshrink, inputs=1, kind=SAME, rule=rule(softshrink_vjp),
                         needs=("0",),
                         reference="np.copysign(np.maximum(np.abs(x) - lambd, 0), x)", sample="t(3, 4), 0.5",
                         public="nn")


def _hardshrink(input, lambd=0.5):
    """Each element, and 0 in place of those in [-lambd, lambd].

    Parameters
    ----------
    input : Tensor
    lambd : float, optional

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.hardshrink(fx.tensor([-2.0, 0.25, 2.0]))
    tensor([-2.,  0.,  2.])
    """
    return activated(HARDSHRINK, input, False, lambd, 0, 0)

cdef Op HARDSHRINK = row("hardshrink", function=_hardshrink, inputs=1, kind=SAME, rule=rule(hardshrink_vjp),
                         needs=("0",),
                         reference="np.where(np.abs(x) <= lambd, 0, x)", sample="t(3, 4), 0.5", method=True)


# prelu

cdef object prelu_backward_vjp(Node n, object g):
    cdef object x = saved_input(n, 1)
    return (apply3(PRELU_BACKWARD, g, x, saved_input(n, 2)) if wants(n, 0) else None,
            full_like(<TensorBase> g, 0) if wants(n, 1) else None,
            where(gt(x, 0), 0, mul(g, saved_input(n, 0))) if wants(n, 2) else None)

cdef Op PRELU_BACKWARD = inner("prelu_backward", 3, SAME, rule(prelu_backward_vjp), ("12", "", "01"))


cdef object prelu_weight_backward_vjp(Node n, object g):
    cdef object x = saved_input(n, 1)
    return (apply2(PRELU_WEIGHT_BACKWARD, g, x) if wants(n, 0) else None,
            where(gt(x, 0), 0, mul(g, saved_input(n, 0))) if wants(n, 1) else None)

cdef Op PRELU_WEIGHT_BACKWARD = inner("prelu_weight_backward", 2, SAME, rule(prelu_weight_backward_vjp), ("1", "01"))


cdef object prelu_vjp(Node n, object g):
    cdef object x = saved_input(n, 0)
    return (apply3(PRELU_BACKWARD, g, x, saved_input(n, 1)) if wants(n, 0) else None,
            apply2(PRELU_WEIGHT_BACKWARD, g, x) if wants(n, 1) else None)


def _prelu(input, weight):
    """Each element, times a learnt `weight` where it is not positive.

    Parameters
    ----------
    input : Tensor
    weight : Tensor
        One number, or one for each channel (dimension 1 of `input`).

    Notes
    -----
    K. He et al., "Delving deep into rectifiers", ICCV 2015.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.prelu(fx.tensor([-2.0, 3.0]), fx.tensor([0.25]))
    tensor([-0.5000,  3.0000])
    """
    cdef TensorBase x = <TensorBase?> input, w = <TensorBase?> weight
    cdef int64_t channels = 1
    if w.a.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {w.a.ndim}")
    if w.a.numel != 1:
        if x.a.ndim == 0:
            raise RuntimeError("Not allow zero-dim input tensor.")
        if x.a.ndim > 1:
            channels = shape_of(x)[1]
        if w.a.numel != channels:
            raise RuntimeError("Mismatch of parameter numbers and input channel size. Found parameter numbers = "
                               f"{w.a.numel} and channel size = {channels}.")
        w = reshape(w, (channels,) + (1,) * (x.a.ndim - 2))
    elif w.a.ndim:
        if not on_one_device(x, w):
            raise RuntimeError("[prelu] Expected all tensors to be on the same device, but found at least two devices, "
                               f"{x.device} and {w.device}!")
        w = reshape(w, ())
    return apply2(PRELU, x, w)

cdef Op PRELU = row("prelu", function=_prelu, inputs=2, kind=ALIKE, rule=rule(prelu_vjp), needs=("01", "0"),
                    reference="np.where(x > 0, x, weight.reshape(-1, *[1] * max(x.ndim - 2, 0)) * x)",
                    sample=["(t(2, 3, 4), t(3))", "(t(3, 4), t(1))"], method=True)
