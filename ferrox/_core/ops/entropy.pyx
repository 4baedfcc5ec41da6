"""Losses over classes: cross_entropy and nll_loss."""
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_F32, FX_I64
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.dtype cimport FLOATING, INTEGRAL, categories, dtype_name
from ferrox._core.graph.node cimport Node, grad_enabled, record, record_many, rule, saved_input, saved_output
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import operators, row
from ferrox._core.ops.arithmetic cimport add, div, mul, neg, sub
from ferrox._core.ops.loss cimport legacy_reduction
from ferrox._core.ops.reduction cimport sum_dims
from ferrox._core.ops.shape cimport contiguous, reshape, to_dtype
from ferrox._core.tensor.base cimport TensorBase, needs_grad, shape_of, shape_tuple
from ferrox._core.tensor.frame cimport begin, frame, make_like, make_shaped, read, real, run, whole

cdef int _cross_entropy_backward = kernel_id("cross_entropy_backward")
cdef int _nll_backward = kernel_id("nll_backward")


cdef int _check(str name, TensorBase x, TensorBase target, object weight) except -1:
    """Shapes (N, C, ...) or (C,) against (N, ...) or ()."""
    cdef int at = 1 if x.a.ndim > 1 else 0
    if x.a.ndim == 0:
        raise RuntimeError(f"[{name}] input must have a dimension of classes, got a 0-d tensor")
    expected = shape_tuple(&x.a)[:at] + shape_tuple(&x.a)[at + 1:]
    if shape_tuple(&target.a) != expected:
        if at and target.a.ndim and shape_of(x)[0] != shape_of(target)[0]:
            raise ValueError(f"Expected input batch_size ({shape_of(x)[0]}) to match target batch_size "
                             f"({shape_of(target)[0]}).")
        raise RuntimeError(f"[{name}] expected target of shape {expected} for input of shape {shape_tuple(&x.a)}, got "
                           f"{shape_tuple(&target.a)}")
    if categories[x.a.dtype] != FLOATING:
        raise RuntimeError(f'"{name}" not implemented for {dtype_name(x.a.dtype)!r}')
    if categories[target.a.dtype] != INTEGRAL:
        raise RuntimeError(f"expected scalar type Long but found {dtype_name(target.a.dtype)}: class targets of {name} "
                           "are integers")
    if weight is not None and shape_tuple(&(<TensorBase?> weight).a) != (shape_of(x)[at],):
        raise RuntimeError(f"weight tensor should be defined either for all {shape_of(x)[at]} classes or no classes "
                           f"but got weight tensor of shape: {list(shape_tuple(&(<TensorBase> weight).a))}")
    if weight is not None and (<TensorBase> weight).a.dtype != x.a.dtype:
        raise RuntimeError(f"[{name}] expected a weight of dtype {dtype_name(x.a.dtype)}, that of the input, got "
                           f"{dtype_name((<TensorBase> weight).a.dtype)}")
    return 0


def _reduction(name):
    if name not in ("none", "mean", "sum"):
        raise ValueError(f"{name} is not a valid value for reduction")
    return name


cdef object _reduced(TensorBase losses, object weights, str reduction, object plain_count):
    """mean is weighted: the sum divided by the sum of the samples' weights."""
    if reduction == "none":
        return losses
    total = sum_dims(losses, list(range(losses.a.ndim)), False) if losses.a.ndim else losses
    if reduction == "sum":
        return total
    if plain_count is not None:
        return mul(total, 1.0 / plain_count) if plain_count else div(total, 0.0)
    return div(total, sum_dims(<TensorBase> weights, list(range((<TensorBase> weights).a.ndim)), False)
               if (<TensorBase> weights).a.ndim else weights)


# cross_entropy

cdef object _wide(object g, int at):
    return operators()["unsqueeze"](g, at)


cdef TensorBase _target_distribution(TensorBase x, TensorBase target, object weight, int64_t ignore, double smoothing,
                                     int at):
    """(1 - s) w[t] onehot + s/C w, zero for ignored samples: what softmax is compared with."""
    cdef int64_t classes = shape_of(x)[at]
    safe = operators()["where"](operators()["eq"](target, ignore), 0, target)
    picked = operators()["movedim"](operators()["one_hot"](safe, classes), -1, at)
    made = mul(to_dtype(picked, x.a.dtype), 1.0 - smoothing)
    shape = [1] * x.a.ndim
    shape[at] = classes
    if smoothing:
        made = add(made, smoothing / classes)
    if weight is not None:
        made = mul(made, reshape(<TensorBase> weight, shape))
    return mul(made, to_dtype(_wide(operators()["ne"](target, ignore), at), x.a.dtype))


cdef object _cross_entropy_vjp(Node n, object cotangents):
    cdef TensorBase g = <TensorBase> cotangents[0], x = <TensorBase> saved_input(n, 0), dx
    cdef TensorBase target = <TensorBase> saved_input(n, 1), lse = <TensorBase> saved_output(n, 1)
    cdef object weight = saved_input(n, 2) if n.n_in > 2 else None
    cdef int at = 1 if x.a.ndim > 1 else 0
    cdef frame f
    if grad_enabled():
        distribution = _target_distribution(x, target, weight, n.params[0], n.params[1], at)
        mass = sum_dims(distribution, [at], True)
        return (mul(_wide(g, at), sub(mul(operators()["softmax"](x, at), mass), distribution)), None, None)[:n.n_in]
    g = contiguous(g)
    begin(&f, _cross_entropy_backward, x.a.dtype)
    dx = make_like(&f, x, x.a.dtype)
    read(&f, g)
    read(&f, x)
    read(&f, target)
    read(&f, lse)
    read(&f, <TensorBase> weight)
    whole(&f, n.params[0])
    real(&f, n.params[1])
    run(&f, "cross_entropy_backward")
    return (dx, None, None)[:n.n_in]


def _cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                   label_smoothing=0.0):
    """Cross-entropy between the softmax of `input` over classes and `target`.

    Parameters
    ----------
    input : Tensor, shape (N, C, ...) or (C,)
        Logits.
    target : Tensor
        Class numbers (integers, the shape of input without C), or probabilities (floating, the shape of input).
    weight : Tensor, shape (C,), optional
    ignore_index : int
        A class number that adds nothing to the loss.
    reduction : {"none", "mean", "sum"}
        The mean is weighted by the samples' class weights.
    label_smoothing : float, 0 to 1

    Raises
    ------
    IndexError
        When a class number lies outside 0 .. C-1.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.nn.functional.cross_entropy(fx.zeros(1, 4), fx.tensor([2]))
    tensor(1.3863)
    """
    cdef TensorBase x = <TensorBase?> input, t = <TensorBase?> target, losses, lse, weights
    cdef frame f
    cdef int at = 1 if x.a.ndim > 1 else 0
    reduction = _reduction(legacy_reduction(size_average, reduce, reduction))
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if categories[t.a.dtype] == FLOATING:
        return _soft_cross_entropy(x, t, weight, reduction, label_smoothing, at)
    _check("cross_entropy", x, t, weight)
    if weight is not None and needs_grad(<TensorBase> weight):
        raise RuntimeError("[cross_entropy] the class weights must not require grad")
    t = to_dtype(t, FX_I64)
    begin(&f, CROSS_ENTROPY.kernel, x.a.dtype)
    losses = make_like(&f, t, x.a.dtype)
    lse = make_like(&f, t, max(x.a.dtype, FX_F32))
    weights = make_like(&f, t, x.a.dtype)
    read(&f, x)
    read(&f, t)
    read(&f, <TensorBase> weight)
    whole(&f, ignore_index)
    real(&f, label_smoothing)
    run(&f, "cross_entropy")
    if f.wants_grad:
        record_many(CROSS_ENTROPY, f.inputs, 2 if weight is None else 3, (losses, lse), (ignore_index, label_smoothing))
    return _reduced(losses, weights, reduction, None)

cdef Op CROSS_ENTROPY = row("cross_entropy", function=_cross_entropy, rule=rule(_cross_entropy_vjp), needs=("012p",),
                            public="nn",
                            reference="np.mean([np.log(np.exp(v).sum()) - v[k] for v, k in zip(input, target)])",
                            sample="t(5, 3), np.array([0, 2, 1, 1, 0])")


cdef object _soft_cross_entropy(TensorBase x, TensorBase target, object weight, str reduction, double smoothing,
                                int at):
    """Targets are probabilities."""
    if shape_tuple(&target.a) != shape_tuple(&x.a):
        raise RuntimeError(f"[cross_entropy] probabilities must have the shape of the input, {shape_tuple(&x.a)}, got "
                           f"{shape_tuple(&target.a)}")
    cdef int64_t classes = shape_of(x)[at]
    if smoothing:
        target = add(mul(target, 1.0 - smoothing), smoothing / classes)
    logp = operators()["log_softmax"](x, at)
    if weight is not None:
        shape = [1] * x.a.ndim
        shape[at] = classes
        logp = mul(logp, reshape(<TensorBase?> weight, shape))
    losses = neg(sum_dims(mul(logp, target), [at], False))
    return _reduced(losses, None, reduction, (<TensorBase> losses).a.numel)


# nll_loss

cdef object _nll_vjp(Node n, object cotangent):
    cdef TensorBase g = <TensorBase> cotangent
    return (_nll_gradient(g, <TensorBase> saved_input(n, 1), saved_input(n, 2) if n.n_in > 2 else None, n.params),
            None, None)[:n.n_in]


cdef object _nll_backward_vjp(Node n, object g):
    """dlogp is linear in g: its gradient picks the same elements."""
    return (_nll_losses(<TensorBase> g, <TensorBase> saved_input(n, 1), saved_input(n, 2) if n.n_in > 2 else None,
                        n.params[1])[0], None, None)[:n.n_in]

cdef Op NLL_BACKWARD = row("_nll_backward", kernel="nll_backward", rule=rule(_nll_backward_vjp), needs=("12",),
                           public=False, doc="The gradient of nll_loss.")


cdef TensorBase _nll_gradient(TensorBase g, TensorBase target, object weight, tuple params_):
    cdef frame f
    cdef TensorBase dx
    g = contiguous(g)
    begin(&f, _nll_backward, g.a.dtype)
    dx = make_shaped(&f, params_[0], g.a.dtype, g)
    read(&f, g)
    read(&f, target)
    read(&f, <TensorBase> weight)
    whole(&f, shape_of(dx)[1 if dx.a.ndim > 1 else 0])
    whole(&f, params_[1])
    run(&f, "nll_backward")
    if needs_grad(g):
        record(NLL_BACKWARD, f.inputs, 2 if weight is None else 3, dx, params_)
    return dx


cdef tuple _nll_losses(TensorBase x, TensorBase t, object weight, int64_t ignore_index):
    cdef frame f
    cdef TensorBase losses, weights
    begin(&f, NLL.kernel, x.a.dtype)
    losses = make_like(&f, t, x.a.dtype)
    weights = make_like(&f, t, x.a.dtype)
    read(&f, x)
    read(&f, t)
    read(&f, <TensorBase> weight)
    whole(&f, ignore_index)
    run(&f, "nll_loss")
    if needs_grad(x):
        record_many(NLL, f.inputs, 2 if weight is None else 3, (losses,), (shape_tuple(&x.a), ignore_index))
    return losses, weights


def _nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    """The negative of the target class's log-probability.

    Parameters
    ----------
    input : Tensor, shape (N, C, ...) or (C,)
        Log-probabilities, as log_softmax gives them.
    target : Tensor, shape (N, ...) or ()
        Class numbers.
    weight, ignore_index, reduction
        As for `cross_entropy`.
    """
    cdef TensorBase x = <TensorBase?> input, t = <TensorBase?> target
    reduction = _reduction(legacy_reduction(size_average, reduce, reduction))
    _check("nll_loss", x, t, weight)
    losses, weights = _nll_losses(x, to_dtype(t, FX_I64), weight, ignore_index)
    return _reduced(losses, weights, reduction, None)

cdef Op NLL = row("nll_loss", function=_nll_loss, kernel="nll", rule=rule(_nll_vjp), needs=("12",), public="nn",
                  reference="-np.mean([v[k] for v, k in zip(input, target)])",
                  sample="t(5, 3), np.array([0, 2, 1, 1, 0])")
