"""Elementwise losses: each a fused kernel over prediction and target, then a mean or a sum."""

from libc.math cimport INFINITY

from ferrox._core.abi cimport FX_CPU, FX_F64
from ferrox._core.dtype cimport FLOATING, categories, dtype_name
from ferrox._core.graph.node cimport Node, rule, saved_input, wants
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport absolute, add, div, full_like, mul, neg, reciprocal, square, sub
from ferrox._core.ops.clamp cimport clamp_numbers
from ferrox._core.ops.elementwise cimport SAME, apply2, apply2p, apply3, apply3p
from ferrox._core.ops.family cimport inner
from ferrox._core.ops.logic cimport all_true, both, ge, le, lt, where
from ferrox._core.ops.pointwise cimport log, sigmoid
from ferrox._core.ops.reduction cimport sum_dims
from ferrox._core.ops.shape cimport to_dtype
from ferrox._core.ops.activation_soft cimport logsigmoid
from ferrox._core.tensor.base cimport TensorBase, shape_tuple
from ferrox._core.tensor.frame cimport converted


# Reduction, size checks

cdef str legacy_reduction(object size_average, object reduce, str reduction):
    """The reduction that PyTorch's old arguments stand for."""
    if size_average is None and reduce is None:
        return reduction
    meant = "none" if reduce is False else "sum" if size_average is False else "mean"
    import warnings

    warnings.warn(f"size_average and reduce args will be deprecated, please use reduction='{meant}' instead.",
                  stacklevel=3)
    return meant


cdef TensorBase _total(TensorBase loss):
    return sum_dims(loss, None, False)


cdef TensorBase _times(TensorBase loss, object weight):
    """The loss times a weight, in the dtype of the loss, as PyTorch."""
    return loss if weight is None else to_dtype(mul(loss, weight), loss.a.dtype)


cdef TensorBase _reduced(TensorBase loss, str reduction):
    if reduction == "mean" and categories[loss.a.dtype] != FLOATING:
        raise RuntimeError("mean(): could not infer output dtype. Input dtype must be either a floating point or "
                           f"complex dtype. Got: {dtype_name(loss.a.dtype)}")
    if reduction == "mean":
        return div(_total(loss), loss.a.numel)
    if reduction == "sum":
        return _total(loss)
    if reduction == "none":
        return loss
    raise ValueError(f"{reduction} is not a valid value for reduction")


cdef TensorBase _weighted(TensorBase loss, TensorBase input, object weight, str reduction, bint by_weight):
    """A weighted loss; its mean is over the elements, or by the sum of the weights."""
    cdef TensorBase w
    if weight is None:
        return _reduced(loss, reduction)
    w = <TensorBase?> weight
    if shape_tuple(&w.a) != shape_tuple(&input.a):
        raise ValueError("Weights and input must have the same size.")
    loss = mul(loss, w)
    if reduction == "mean" and by_weight:
        return div(_total(loss), _total(w))
    return _reduced(loss, reduction)


cdef int _compare_sizes(str name, object input, object target) except -1:
    cdef TensorBase a = <TensorBase?> input, b = <TensorBase?> target
    if shape_tuple(&a.a) != shape_tuple(&b.a):
        import warnings

        warnings.warn(f"[{name}] Using a target size ({shape_tuple(&b.a)}) that is different to the input size "
                      f"({shape_tuple(&a.a)}). This will likely lead to incorrect results due to broadcasting. Please "
                      "ensure they have the same size.", stacklevel=3)
    return 0


# Squares and absolute values

cdef object mse_backward_vjp(Node n, object g):
    cdef object twice = mul(mul(g, saved_input(n, 0)), 2) if wants(n, 1) or wants(n, 2) else None
    return (apply3(MSE_BACKWARD, g, saved_input(n, 1), saved_input(n, 2)) if wants(n, 0) else None,
            twice if wants(n, 1) else None, neg(twice) if wants(n, 2) else None)

cdef Op MSE_BACKWARD = inner("mse_backward", 3, SAME, rule(mse_backward_vjp), ("12", "0", "0"))


cdef object mse_vjp(Node n, object g):
    cdef TensorBase d = apply3(MSE_BACKWARD, g, saved_input(n, 0), saved_input(n, 1))
    return d, neg(d) if wants(n, 1) else None

cdef Op MSE = inner("mse", 2, SAME, rule(mse_vjp), "01")


def _mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """Mean of the squared differences.

    Parameters
    ----------
    input, target : Tensor
        Of one shape (others are broadcast, with a warning).
    reduction : {"mean", "sum", "none"}, optional
    weight : Tensor, optional
        Multiplies the squares; the mean is then divided by its sum.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.mse_loss(fx.tensor([1.0, 2.0]), fx.tensor([1.0, 4.0]))
    tensor(2.)
    """
    _compare_sizes("mse_loss", input, target)
    return _weighted(apply2(MSE, input, target), input, weight, legacy_reduction(size_average, reduce, reduction), True)

row("mse_loss", function=_mse_loss, composite=True, reference="np.mean((x - target) ** 2)", sample="t(3, 4), t(3, 4)",
    public="nn")


cdef object l1_backward_vjp(Node n, object g):
    return (apply3(L1_BACKWARD, g, saved_input(n, 1), saved_input(n, 2)) if wants(n, 0) else None,
            full_like(<TensorBase> g, 0) if wants(n, 1) else None,
            full_like(<TensorBase> g, 0) if wants(n, 2) else None)

cdef Op L1_BACKWARD = inner("l1_backward", 3, SAME, rule(l1_backward_vjp), ("12", "", ""))


cdef object l1_vjp(Node n, object g):
    cdef TensorBase d = apply3(L1_BACKWARD, g, saved_input(n, 0), saved_input(n, 1))
    return d, neg(d) if wants(n, 1) else None

cdef Op L1 = inner("l1", 2, SAME, rule(l1_vjp), "01")


cdef TensorBase _l1(TensorBase input, TensorBase target):
    if categories[input.a.dtype] != FLOATING and categories[target.a.dtype] != FLOATING:
        return absolute(sub(input, target))
    return apply2(L1, input, target)


def _l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """Mean of the absolute differences.

    Parameters
    ----------
    input, target : Tensor
        Of one shape (others are broadcast, with a warning).
    reduction : {"mean", "sum", "none"}, optional
    weight : Tensor, optional
        Multiplies the absolute values; the mean is then divided by its sum.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.l1_loss(fx.tensor([1.0, 2.0]), fx.tensor([1.0, 4.0]))
    tensor(1.)
    """
    _compare_sizes("l1_loss", input, target)
    return _weighted(_l1(input, target), input, weight, legacy_reduction(size_average, reduce, reduction), True)

row("l1_loss", function=_l1_loss, composite=True, reference="np.mean(np.abs(x - target))",
    sample="t(3, 4), t(3, 4, low=2, high=5)", public="nn")


# Squares near zero, absolute values away from it

cdef object _bent_backward_vjp(Node n, object g, double curvature):
    cdef object x, y, bend = None
    cdef double limit = n.params
    if wants(n, 1) or wants(n, 2):
        x, y = saved_input(n, 1), saved_input(n, 2)
        bend = where(lt(absolute(sub(x, y)), limit), mul(mul(g, saved_input(n, 0)), curvature), 0)
    return (apply3p(n.op, g, saved_input(n, 1), saved_input(n, 2), limit, 0, 0, n.params) if wants(n, 0) else None,
            bend if wants(n, 1) else None, neg(bend) if wants(n, 2) else None)


cdef object smooth_l1_backward_vjp(Node n, object g):
    return _bent_backward_vjp(n, g, 1 / <double> n.params)


cdef object huber_backward_vjp(Node n, object g):
    return _bent_backward_vjp(n, g, 1)

cdef Op SMOOTH_L1_BACKWARD = inner("smooth_l1_backward", 3, SAME, rule(smooth_l1_backward_vjp), ("12", "012", "012"))
cdef Op HUBER_BACKWARD = inner("huber_backward", 3, SAME, rule(huber_backward_vjp), ("12", "012", "012"))


cdef object _bent_vjp(Node n, Op backward, object g):
    cdef TensorBase d = apply3p(backward, g, saved_input(n, 0), saved_input(n, 1), n.params, 0, 0, n.params)
    return d, neg(d) if wants(n, 1) else None


cdef object smooth_l1_vjp(Node n, object g):
    return _bent_vjp(n, SMOOTH_L1_BACKWARD, g)


cdef object huber_vjp(Node n, object g):
    return _bent_vjp(n, HUBER_BACKWARD, g)

cdef Op SMOOTH_L1 = inner("smooth_l1", 2, SAME, rule(smooth_l1_vjp), "01")
cdef Op HUBER = inner("huber", 2, SAME, rule(huber_vjp), "01")


def _smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """Mean of ``0.5 d^2 / beta`` where the difference d is below `beta`, of ``|d| - 0.5 beta`` elsewhere.

    Parameters
    ----------
    input, target : Tensor
        Of one shape (others are broadcast, with a warning).
    reduction : {"mean", "sum", "none"}, optional
    beta : float, optional
        Not negative; 0 makes it `l1_loss`.

    Notes
    -----
    R. Girshick, "Fast R-CNN", ICCV 2015.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.smooth_l1_loss(fx.tensor([1.0, 2.0]), fx.tensor([1.0, 4.0]))
    tensor(0.7500)
    """
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    _compare_sizes("smooth_l1_loss", input, target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    if beta == 0:
        return _reduced(_l1(input, target), reduction)
    return _reduced(apply2p(SMOOTH_L1, input, target, beta, 0, 0, beta), reduction)

row("smooth_l1_loss", function=_smooth_l1_loss, composite=True, public="nn",
    sample="t(3, 4), t(3, 4), None, None, 'mean', 0.7",
    reference="np.mean(np.where(np.abs(x - target) < beta, 0.5 * (x - target) ** 2 / beta, "
              "np.abs(x - target) - 0.5 * beta))")


def _huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """Mean of ``0.5 d^2`` where the difference d is below `delta`, of ``delta (|d| - 0.5 delta)`` elsewhere.

    Parameters
    ----------
    input, target : Tensor
        Of one shape (others are broadcast, with a warning).
    reduction : {"mean", "sum", "none"}, optional
    delta : float, optional
        Positive.
    weight : Tensor, optional
        Multiplies the loss of each element.

    Notes
    -----
    P. J. Huber, "Robust estimation of a location parameter", 1964.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.huber_loss(fx.tensor([1.0, 2.0]), fx.tensor([1.0, 4.0]), delta=2.0)
    tensor(1.)
    """
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    _compare_sizes("huber_loss", input, target)
    return _weighted(apply2p(HUBER, input, target, delta, 0, 0, delta), input, weight, reduction, False)

row("huber_loss", function=_huber_loss, composite=True, public="nn", sample="t(3, 4), t(3, 4), 'mean', 0.7",
    reference="np.mean(np.where(np.abs(x - target) < delta, 0.5 * (x - target) ** 2, "
              "delta * (np.abs(x - target) - 0.5 * delta)))")


# Binary cross entropy

cdef object bce_backward_vjp(Node n, object g):
    # The kernel's divisor, x (1 - x), is held above 1e-12; so are those of its gradient.
    cdef object x, y, rest, scaled = None, r = None, dx = None
    if wants(n, 1) or wants(n, 2):
        x, y = saved_input(n, 1), saved_input(n, 2)
        rest = sub(1, x)
        scaled = mul(g, saved_input(n, 0))
        r = reciprocal(clamp_numbers(mul(x, rest), 1e-12, INFINITY))
        if wants(n, 1):
            # y / x^2 + (1 - y) / (1 - x)^2
            dx = mul(scaled, add(mul(y, square(reciprocal(clamp_numbers(x, 1e-12, INFINITY)))),
                                 mul(sub(1, y), square(reciprocal(clamp_numbers(rest, 1e-12, INFINITY))))))
    return (apply3(BCE_BACKWARD, g, saved_input(n, 1), saved_input(n, 2)) if wants(n, 0) else None, dx,
            neg(mul(scaled, r)) if wants(n, 2) else None)

cdef Op BCE_BACKWARD = inner("bce_backward", 3, SAME, rule(bce_backward_vjp), ("12", "012", "012"))


cdef object bce_vjp(Node n, object g):
    cdef object x = saved_input(n, 0), dy = None
    if wants(n, 1):
        dy = mul(g, sub(clamp_numbers(log(sub(1, x)), -100, INFINITY), clamp_numbers(log(x), -100, INFINITY)))
    return apply3(BCE_BACKWARD, g, x, saved_input(n, 1)) if wants(n, 0) else None, dy

cdef Op BCE = inner("bce", 2, SAME, rule(bce_vjp), ("01", "0"))


cdef int _check_probabilities(TensorBase loss, TensorBase input) except -1:
    """Refuse predictions outside [0, 1], whose loss is NaN; on the CPU, where looking costs nothing."""
    cdef TensorBase total = loss
    if loss.a.device_type != FX_CPU:
        return 0
    if loss.a.ndim:
        total = _total(loss)
    if total.a.dtype != FX_F64:
        total = converted(total, FX_F64)
    if (<double *> total.a.data)[0] != (<double *> total.a.data)[0] and not all_true(both(ge(input, 0), le(input, 1))):
        raise RuntimeError("all elements of input should be between 0 and 1")
    return 0


def _binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Mean of ``-(target log(input) + (1 - target) log(1 - input))``.

    Parameters
    ----------
    input : Tensor
        Probabilities.
    target : Tensor
        Of the same shape, between 0 and 1.
    weight : Tensor, optional
        Multiplies the loss of each element; broadcast.
    reduction : {"mean", "sum", "none"}, optional

    Raises
    ------
    ValueError
        When the shapes differ.
    RuntimeError
        When an element of input is not between 0 and 1 (on the CPU).

    Notes
    -----
    Logarithms are held above -100.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.binary_cross_entropy(fx.tensor([0.5, 0.5]), fx.tensor([0.0, 1.0]))
    tensor(0.6931)
    """
    cdef TensorBase x = <TensorBase?> input, y = <TensorBase?> target, loss, result
    reduction = legacy_reduction(size_average, reduce, reduction)
    if shape_tuple(&x.a) != shape_tuple(&y.a):
        raise ValueError(f"Using a target size ({shape_tuple(&y.a)}) that is different to the input size "
                         f"({shape_tuple(&x.a)}) is deprecated. Please ensure they have the same size.")
    if x.a.dtype != y.a.dtype:
        raise RuntimeError(f"[binary_cross_entropy] expected a target of dtype {dtype_name(x.a.dtype)}, that of the "
                           f"input, got {dtype_name(y.a.dtype)}")
    loss = apply2(BCE, x, y)
    result = _reduced(_times(loss, weight), reduction)
    _check_probabilities(result, x)
    return result

row("binary_cross_entropy", function=_binary_cross_entropy, composite=True, public="nn",
    reference="-np.mean(target * np.log(x) + (1 - target) * np.log1p(-x))",
    sample="t(3, 4, low=0.1, high=0.9), t(3, 4, low=0, high=1)")


cdef object bce_with_logits_backward_vjp(Node n, object g):
    cdef object scaled = mul(g, saved_input(n, 0)) if wants(n, 1) or wants(n, 2) else None, x, dx = None
    if wants(n, 1):
        x = saved_input(n, 1)
        dx = mul(scaled, mul(sigmoid(x), sigmoid(neg(x))))
    return (apply3(BCE_LOGITS_BACKWARD, g, saved_input(n, 1), saved_input(n, 2)) if wants(n, 0) else None, dx,
            neg(scaled) if wants(n, 2) else None)

cdef Op BCE_LOGITS_BACKWARD = inner("bce_with_logits_backward", 3, SAME, rule(bce_with_logits_backward_vjp),
                                    ("12", "01", "0"))


cdef object bce_with_logits_vjp(Node n, object g):
    cdef object x = saved_input(n, 0)
    return (apply3(BCE_LOGITS_BACKWARD, g, x, saved_input(n, 1)) if wants(n, 0) else None,
            neg(mul(g, x)) if wants(n, 1) else None)

cdef Op BCE_LOGITS = inner("bce_with_logits", 2, SAME, rule(bce_with_logits_vjp), ("01", "0"))


def _binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean",
                                      pos_weight=None):
    """Binary cross entropy of ``sigmoid(input)``, without overflow.

    Parameters
    ----------
    input : Tensor
        Logits.
    target : Tensor
        Of the same shape, between 0 and 1.
    weight : Tensor, optional
        Multiplies the loss of each element; broadcast.
    reduction : {"mean", "sum", "none"}, optional
    pos_weight : Tensor, optional
        Multiplies the part of positive targets; broadcast.

    Raises
    ------
    ValueError
        When the shapes differ.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.binary_cross_entropy_with_logits(fx.tensor([0.0, 0.0]), fx.tensor([0.0, 1.0]))
    tensor(0.6931)
    """
    cdef TensorBase x = <TensorBase?> input, y = <TensorBase?> target, loss
    reduction = legacy_reduction(size_average, reduce, reduction)
    if shape_tuple(&x.a) != shape_tuple(&y.a):
        raise ValueError(f"Target size ({shape_tuple(&y.a)}) must be the same as input size ({shape_tuple(&x.a)})")
    if pos_weight is None:
        loss = apply2(BCE_LOGITS, x, y)
    else:
        loss = neg(add(mul(sub(1, y), logsigmoid(neg(x))), mul(mul(pos_weight, y), logsigmoid(x))))
    return _reduced(_times(loss, weight), reduction)

row("binary_cross_entropy_with_logits", function=_binary_cross_entropy_with_logits, composite=True, public="nn",
    reference="np.mean((1 - target) * x + np.logaddexp(-x, 0))", sample="t(3, 4), t(3, 4, low=0, high=1)")
