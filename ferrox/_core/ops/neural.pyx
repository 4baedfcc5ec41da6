"""Fused operators of neural networks: softmax, normalisation, dropout, attention.

Their gradients are fused kernels, which are operators of their own; the gradients of those are composed of plain
operators, so that every order exists.
"""
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_F32, fx_is_half
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.dtype cimport FLOATING, as_dtype, categories, dtype_name
from ferrox._core.graph.node cimport Node, grad_enabled, record_frame, record_many, rule, saved_input, saved_output, \
    wants
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import operators, row
from ferrox._core.ops.arithmetic cimport add, mul, neg, sub
from ferrox._core.ops.reduction cimport sum_dims
from ferrox._core.ops.shape cimport read_dim, reshape, to_dtype
from ferrox._core.tensor.base cimport TensorBase, shape_of, shape_tuple
from ferrox._core.tensor.frame cimport adopt, begin, frame, make, make_like, read, real, run, whole, write


def _call(str name, *args):
    return operators()[name](*args)


# softmax, log_softmax

cdef TensorBase _along(Op op, list inputs, int dim, object kept):
    """An operator of inputs of one shape along one dimension."""
    cdef frame f
    cdef TensorBase first = <TensorBase> inputs[0], out, each
    begin(&f, op.kernel, first.a.dtype)
    out = make_like(&f, first, first.a.dtype)
    for each in inputs:
        read(&f, each)
    whole(&f, dim)
    run(&f, op.name)
    record_frame(op, &f, out, kept)
    return out


cdef object _softmax_vjp(Node n, object g):
    return _along(SOFTMAX_BACKWARD, [g, saved_output(n, 0)], n.params, n.params)


cdef object _softmax_backward_vjp(Node n, object gg):
    """dx = y (g - sum(g y)): linear in g, and in y through both factors."""
    cdef object g = saved_input(n, 0), y = saved_input(n, 1)
    cdef TensorBase dot, other
    cdef int dim = n.params
    gg_y = mul(gg, y)
    dot = sum_dims(mul(g, y), [dim], True)
    other = sum_dims(gg_y, [dim], True)
    return (mul(y, sub(gg, other)) if wants(n, 0) else None,
            sub(mul(gg, sub(g, dot)), mul(g, other)) if wants(n, 1) else None)


cdef Op SOFTMAX_BACKWARD = row("_softmax_backward", kernel="softmax_backward", rule=rule(_softmax_backward_vjp),
                               needs=("01", "01"), public=False, doc="The gradient of softmax.")


cdef TensorBase _ready(object input, object dim, object dtype, str name):
    """The input in the dtype asked for; RuntimeError for one that is not floating-point."""
    cdef TensorBase x = <TensorBase?> input
    if dtype is not None:
        x = to_dtype(x, as_dtype(dtype))
    if categories[x.a.dtype] != FLOATING:
        raise RuntimeError(f'"{name}" not implemented for {dtype_name(x.a.dtype)!r}')
    return x


cdef int _dim_or_default(object dim, int ndim) except -1:
    """softmax without a dimension: PyTorch's implicit choice."""
    if dim is None:
        return 0 if ndim in (0, 1, 3) else 1
    return read_dim(dim, ndim)


def _softmax(input, dim=None, _stacklevel=3, dtype=None):
    """exp(x) / sum(exp(x)) along `dim`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.softmax(fx.zeros(4), 0)
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    if dtype is None and _stacklevel != 3:      # torch.softmax(input, dim, dtype)
        dtype = _stacklevel
    cdef TensorBase x = _ready(input, dim, dtype, "softmax")
    cdef int d = _dim_or_default(dim, x.a.ndim)
    return _along(SOFTMAX, [x], d, d)

cdef Op SOFTMAX = row("softmax", function=_softmax, rule=rule(_softmax_vjp), needs=("o",), method=True,
                      reference="np.exp(input - input.max(dim, keepdims=True)) / "
                                "np.exp(input - input.max(dim, keepdims=True)).sum(dim, keepdims=True)",
                      sample="[(t(3, 4), 1), (t(3, 4), 0), (t(2, 3, 4), 1)]")


cdef object _log_softmax_vjp(Node n, object g):
    return _along(LOG_SOFTMAX_BACKWARD, [g, saved_output(n, 0)], n.params, n.params)


cdef object _log_softmax_backward_vjp(Node n, object gg):
    """dx = g - exp(y) sum(g)."""
    cdef object g = saved_input(n, 0), p = _call("exp", saved_input(n, 1))
    cdef int dim = n.params
    weighted = mul(gg, p)
    return (sub(gg, sum_dims(weighted, [dim], True)) if wants(n, 0) else None,
            neg(mul(weighted, sum_dims(<TensorBase> g, [dim], True))) if wants(n, 1) else None)


cdef Op LOG_SOFTMAX_BACKWARD = row("_log_softmax_backward", kernel="log_softmax_backward",
                                   rule=rule(_log_softmax_backward_vjp), needs=("1", "01"), public=False,
                                   doc="The gradient of log_softmax.")


def _log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """The logarithm of softmax along `dim`, without overflow."""
    if dtype is None and _stacklevel != 3:
        dtype = _stacklevel
    cdef TensorBase x = _ready(input, dim, dtype, "log_softmax")
    cdef int d = _dim_or_default(dim, x.a.ndim)
    return _along(LOG_SOFTMAX, [x], d, d)

cdef Op LOG_SOFTMAX = row("log_softmax", function=_log_softmax, rule=rule(_log_softmax_vjp), needs=("o",), method=True,
                          reference="input - np.log(np.exp(input).sum(dim, keepdims=True))",
                          sample="[(t(3, 4), 1), (t(3, 4), 0), (t(2, 3, 4), 1)]")


def _softmin(input, dim=None, _stacklevel=3, dtype=None):
    """softmax of the negated input."""
    return _softmax(neg(input), dim, _stacklevel, dtype)

row("softmin", function=_softmin, composite=True, public="nn",
    reference="np.exp(-input) / np.exp(-input).sum(dim, keepdims=True)", sample="t(3, 4), 1")


# layer_norm, rms_norm

cdef int _check_side(str name, TensorBase x, object side, str role) except -1:
    """A weight or statistic of x is of its dtype; of half-precision x, float32 will do too."""
    cdef int dtype
    if side is None:
        return 0
    dtype = (<TensorBase?> side).a.dtype
    if dtype != x.a.dtype and not (fx_is_half(x.a.dtype) and dtype == FX_F32):
        raise RuntimeError(f"[{name}] expected {role} of dtype {dtype_name(x.a.dtype)}, that of the input, got "
                           f"{dtype_name(dtype)}")
    return 0


cdef int64_t _trailing(str name, TensorBase x, object normalized_shape, object weight, object bias) except -1:
    """Number of normalised elements; checks shapes and dtypes."""
    cdef int64_t n = 1
    shape = (normalized_shape,) if hasattr(normalized_shape, "__index__") else tuple(normalized_shape)
    if not shape:
        raise RuntimeError("Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one "
                           f"element, but got normalized_shape = {list(shape)}")
    if x.a.ndim < len(shape) or shape_tuple(&x.a)[x.a.ndim - len(shape):] != shape:
        raise RuntimeError(f"Given normalized_shape={list(shape)}, expected input with shape [*, "
                           f"{', '.join(str(s) for s in shape)}], but got input of size{list(shape_tuple(&x.a))}")
    for each in (weight, bias):
        if each is not None and shape_tuple(&(<TensorBase?> each).a) != shape:
            raise RuntimeError(f"[{name}] expected weight and bias of shape {shape}, got "
                               f"{shape_tuple(&(<TensorBase> each).a)}")
    if categories[x.a.dtype] != FLOATING:
        raise RuntimeError(f'"{name}" not implemented for {dtype_name(x.a.dtype)!r}')
    _check_side(name, x, weight, "weight")
    _check_side(name, x, bias, "bias")
    for size in shape:
        n *= size
    return n


cdef TensorBase _make_statistic(frame *f, TensorBase x, int64_t count):
    """An output for means or reciprocal deviations; those of half-precision rows are kept in float32."""
    return make(f, 1, &count, max(x.a.dtype, FX_F32), x)


cdef TensorBase _make_gradient(frame *f, Node n, int i, TensorBase x, int64_t count):
    """An output for the gradient of input i: of a weight of `count` elements, or of x if that is negative."""
    if i >= n.n_in or not wants(n, i):
        return adopt(f, None)
    return make_like(f, x, x.a.dtype) if count < 0 else make(f, 1, &count, x.a.dtype, x)


cdef tuple _normal_backward(TensorBase g, TensorBase x, object weight, list dims, list others, double eps,
                            bint centred):
    """Gradients of y = (x - mean) * rstd * weight + bias in plain operators of x: for second and higher orders.

    The statistics are taken over `dims`, the gradients of weight (broadcastable to x) and bias are summed over
    `others`; without `centred`, the mean is left out (RMS normalisation).
    """
    cdef double scale = 1.0
    cdef TensorBase hat, dh
    for d in dims:
        scale /= shape_of(x)[<int> d]
    values = sub(x, mul(sum_dims(x, dims, True), scale)) if centred else x
    rstd = _call("rsqrt", add(mul(sum_dims(mul(values, values), dims, True), scale), eps))
    hat = mul(values, rstd)
    dh = g if weight is None else mul(g, weight)
    dx = sub(dh, mul(hat, mul(sum_dims(mul(dh, hat), dims, True), scale)))
    if centred:
        dx = sub(dx, mul(sum_dims(dh, dims, True), scale))
    return mul(rstd, dx), sum_dims(mul(g, hat), others, False), sum_dims(g, others, False)


cdef int _layer_norm_backward = kernel_id("layer_norm_backward")
cdef int _rms_norm_backward = kernel_id("rms_norm_backward")


cdef object _layer_norm_vjp(Node n, object cotangents):
    cdef TensorBase g = <TensorBase> cotangents[0], x = <TensorBase> saved_input(n, 0), mean, rstd
    cdef object weight = saved_input(n, 1) if n.n_in > 1 else None
    cdef int64_t count = n.params[0]
    cdef frame f
    if grad_enabled():
        made = _normal_backward(reshape(g, (-1, count)), reshape(x, (-1, count)),
                                None if weight is None else reshape(<TensorBase> weight, (1, count)), [1], [0],
                                n.params[1], True)
        return (reshape(made[0], shape_tuple(&x.a)), made[1], made[2])[:n.n_in]
    mean, rstd = saved_output(n, 1), saved_output(n, 2)
    begin(&f, _layer_norm_backward, x.a.dtype)
    dx = _make_gradient(&f, n, 0, x, -1)
    dw = _make_gradient(&f, n, 1, x, count)
    db = _make_gradient(&f, n, 2, x, count)
    read(&f, g)
    read(&f, x)
    read(&f, mean)
    read(&f, rstd)
    read(&f, <TensorBase> weight)
    whole(&f, count)
    run(&f, "layer_norm_backward")
    return (dx, dw, db)[:n.n_in]


cdef object _flat(object x, int64_t n):
    """A weight of several dimensions as a vector; recorded."""
    return x if x is None or (<TensorBase> x).a.ndim == 1 else reshape(<TensorBase> x, (n,))


def _layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=True):
    """(x - mean) / sqrt(variance + eps) over the last dimensions, times weight, plus bias.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The sizes of the last dimensions, over which the statistics are taken.
    weight, bias : Tensor, shape normalized_shape, optional
    """
    cdef TensorBase x = <TensorBase?> input, y, mean, rstd
    cdef int64_t n = _trailing("layer_norm", x, normalized_shape, weight, bias)
    cdef frame f
    cdef int given = 3 if bias is not None else 2 if weight is not None else 1
    weight = _flat(weight, n)
    bias = _flat(bias, n)
    begin(&f, LAYER_NORM.kernel, x.a.dtype)
    y = make_like(&f, x, x.a.dtype)
    mean = _make_statistic(&f, x, x.a.numel // n if n else 0)
    rstd = _make_statistic(&f, x, x.a.numel // n if n else 0)
    read(&f, x)
    read(&f, <TensorBase> weight)
    read(&f, <TensorBase> bias)
    whole(&f, n)
    real(&f, eps)
    run(&f, "layer_norm")
    if f.wants_grad:
        record_many(LAYER_NORM, f.inputs, given, (y, mean, rstd), (n, eps))
    return y

# mean and rstd are outputs 1 and 2 of the node; nobody else sees them.
cdef Op LAYER_NORM = row("layer_norm", function=_layer_norm, rule=rule(_layer_norm_vjp), needs=("01pq",),
                         reference="(input - input.mean(-1, keepdims=True)) "
                                   "/ np.sqrt(input.var(-1, keepdims=True) + eps) * (1 if weight is None else weight) "
                                   "+ (0 if bias is None else bias)",
                         sample="[(t(3, 4), (4,)), (t(3, 4), (4,), t(4), t(4))]")


cdef object _rms_norm_vjp(Node n, object cotangents):
    cdef TensorBase g = <TensorBase> cotangents[0], x = <TensorBase> saved_input(n, 0), rstd
    cdef object weight = saved_input(n, 1) if n.n_in > 1 else None
    cdef int64_t count = n.params[0]
    cdef frame f
    if grad_enabled():
        made = _normal_backward(reshape(g, (-1, count)), reshape(x, (-1, count)),
                                None if weight is None else reshape(<TensorBase> weight, (1, count)), [1], [0],
                                n.params[1], False)
        return (reshape(made[0], shape_tuple(&x.a)), made[1])[:n.n_in]
    rstd = saved_output(n, 1)
    begin(&f, _rms_norm_backward, x.a.dtype)
    dx = _make_gradient(&f, n, 0, x, -1)
    dw = _make_gradient(&f, n, 1, x, count)
    read(&f, g)
    read(&f, x)
    read(&f, rstd)
    read(&f, <TensorBase> weight)
    whole(&f, count)
    run(&f, "rms_norm_backward")
    return (dx, dw)[:n.n_in]


def _rms_norm(input, normalized_shape, weight=None, eps=None):
    """x / sqrt(mean(x^2) + eps) over the last dimensions, times weight; eps is the dtype's by default."""
    cdef TensorBase x = <TensorBase?> input, y, rstd
    if weight is not None and not (fx_is_half(x.a.dtype) and (<TensorBase?> weight).a.dtype == FX_F32):
        weight = to_dtype(<TensorBase?> weight, x.a.dtype)      # as PyTorch, unlike that of layer_norm
    cdef int64_t n = _trailing("rms_norm", x, normalized_shape, weight, None)
    cdef frame f
    cdef double added
    if eps is None:
        from ferrox._core.dtype import finfo

        eps = finfo(x.dtype).eps
    added = eps
    weight = _flat(weight, n)
    begin(&f, RMS_NORM.kernel, x.a.dtype)
    y = make_like(&f, x, x.a.dtype)
    rstd = _make_statistic(&f, x, x.a.numel // n if n else 0)
    read(&f, x)
    read(&f, <TensorBase> weight)
    whole(&f, n)
    real(&f, added)
    run(&f, "rms_norm")
    if f.wants_grad:
        record_many(RMS_NORM, f.inputs, 1 if weight is None else 2, (y, rstd), (n, added))
    return y

cdef Op RMS_NORM = row("rms_norm", function=_rms_norm, rule=rule(_rms_norm_vjp), needs=("01p",),
                       reference="input / np.sqrt((input ** 2).mean(-1, keepdims=True) + (eps or 2.0 ** -52)) * "
                                 "(1 if weight is None else weight)",
                       sample="[(t(3, 4), (4,)), (t(3, 4), (4,), t(4), 1e-3)]")


# batch_norm

cdef int _batch_norm_train = kernel_id("batch_norm_train"), _batch_norm_eval = kernel_id("batch_norm_eval")
cdef int _batch_norm_backward = kernel_id("batch_norm_backward")


cdef object _batch_norm_vjp(Node n, object cotangents):
    cdef TensorBase g = <TensorBase> cotangents[0], x = <TensorBase> saved_input(n, 0), mean, rstd
    cdef object weight = saved_input(n, 1)
    cdef bint training = n.params[0]
    cdef frame f
    cdef list others = [d for d in range(x.a.ndim) if d != 1], wide = [1] * x.a.ndim
    if grad_enabled():
        wide[1] = shape_of(x)[1]
        spread = None if weight is None else reshape(<TensorBase> weight, wide)
        if training:
            return _normal_backward(g, x, spread, others, others, n.params[1], True)
        mean = reshape(<TensorBase> saved_output(n, 1), wide).detach()
        rstd = reshape(<TensorBase> saved_output(n, 2), wide).detach()
        return (mul(g if spread is None else mul(g, spread), rstd),
                sum_dims(mul(g, mul(sub(x, mean), rstd)), others, False), sum_dims(g, others, False))
    mean, rstd = saved_output(n, 1), saved_output(n, 2)
    begin(&f, _batch_norm_backward, x.a.dtype)
    dx = _make_gradient(&f, n, 0, x, -1)
    dw = _make_gradient(&f, n, 1, x, shape_of(x)[1])
    db = _make_gradient(&f, n, 2, x, shape_of(x)[1])
    read(&f, g)
    read(&f, x)
    read(&f, mean)
    read(&f, rstd)
    read(&f, <TensorBase> weight)
    whole(&f, training)
    run(&f, "batch_norm_backward")
    return dx, dw, db


cdef object _affine_of_nothing(TensorBase x, object weight, object bias):
    """A normalisation of no elements, in the graph."""
    out = operators()["clone"](x)
    for each, op in ((weight, "mul"), (bias, "add")):
        if each is not None and (<TensorBase?> each).a.numel:
            out = operators()[op](out, to_dtype(operators()["select"](reshape(each, (-1,)), 0, 0), x.a.dtype))
    return out


def _batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """(x - mean) / sqrt(variance + eps) for each channel (dimension 1), times weight, plus bias.

    Parameters
    ----------
    running_mean, running_var : Tensor, shape (C,), or None
        Used as statistics unless `training`; updated in place with `momentum` when `training` (the variance unbiased).
    weight, bias : Tensor, shape (C,), optional
    """
    cdef TensorBase x = <TensorBase?> input, y, mean, rstd
    cdef frame f
    if x.a.numel == 0:
        return _affine_of_nothing(x, weight, bias)
    if x.a.ndim < 2:
        raise ValueError(f"[batch_norm] expected at least 2 dimensions (N, C, ...), got shape {shape_tuple(&x.a)}")
    if categories[x.a.dtype] != FLOATING:
        raise RuntimeError(f'"batch_norm" not implemented for {dtype_name(x.a.dtype)!r}')
    cdef int64_t channels = shape_of(x)[1]
    for each, what in ((running_mean, "running_mean"), (running_var, "running_var"), (weight, "weight"),
                       (bias, "bias")):
        if each is not None and shape_tuple(&(<TensorBase?> each).a) != (channels,):
            raise RuntimeError(f"{what} should contain {channels} elements not {(<TensorBase> each).a.numel}")
        _check_side("batch_norm", x, each, what)
    if training and x.a.numel == channels:
        raise ValueError("Expected more than 1 value per channel when training, got input size "
                         f"{list(shape_tuple(&x.a))}")
    if not training and (running_mean is None or running_var is None):
        raise RuntimeError("Expected running_mean and running_var to be given when training=False")
    begin(&f, _batch_norm_train if training else _batch_norm_eval, x.a.dtype)
    y = make_like(&f, x, x.a.dtype)
    if training:
        mean = _make_statistic(&f, x, channels)
        rstd = _make_statistic(&f, x, channels)
        write(&f, <TensorBase> running_mean)
        write(&f, <TensorBase> running_var)
    read(&f, x)
    read(&f, <TensorBase> weight)
    read(&f, <TensorBase> bias)
    wanted = f.wants_grad and grad_enabled()
    if not training:
        read(&f, <TensorBase> running_mean)
        read(&f, <TensorBase> running_var)
    real(&f, eps)
    if training:
        real(&f, momentum)
    run(&f, "batch_norm")
    if not wanted:
        return y
    if not training:
        mean = operators()["clone"](to_dtype(running_mean.detach(), max(x.a.dtype, FX_F32)))
        rstd = _call("rsqrt", add(to_dtype(running_var.detach(), max(x.a.dtype, FX_F32)), eps))
    record_many(BATCH_NORM, f.inputs, 3, (y, mean, rstd), (training, eps))
    return y

cdef Op BATCH_NORM = row("batch_norm", function=_batch_norm, rule=rule(_batch_norm_vjp), needs=("01pq",), public="nn",
                         reference="(input - input.mean(0)) / np.sqrt(input.var(0) + eps) * weight + bias",
                         sample="t(5, 3), None, None, t(3), t(3), True")
