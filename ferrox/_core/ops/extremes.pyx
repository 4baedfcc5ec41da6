"""Extreme and middle elements: max, min, aminmax, median, mode, quantile."""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_F32, FX_F64, FX_I64
from ferrox._core.dtype cimport FLOATING, categories
from ferrox._core.graph.node cimport Node, grad_enabled, record, record_frame_many, rule, saved_input, saved_output
from ferrox._core.graph.op cimport Op, registry
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport add, div, mul, sub
from ferrox._core.ops.elementwise cimport as_operand, is_number
from ferrox._core.ops.gather_scatter cimport gather_dim, number_like, scatter_zeros
from ferrox._core.ops.ordering cimport kth_dim, sort_dim
from ferrox._core.ops.reduction cimport check_not_empty, dims_mask, extreme, make_reduced, named, sum_mask
from ferrox._core.ops.shape cimport expand, read_dim, reshape, to_dtype, transpose
from ferrox._core.tensor.base cimport TensorBase, alias, needs_grad, shape_of, shape_tuple
from ferrox._core.tensor.frame cimport begin, frame, read, real, run, whole


# max, min

cdef object _chosen_vjp(Node n, object g):
    """Of the first output: the elements at the indices, the second output, along a dimension."""
    cdef TensorBase grad = g[0], index = saved_output(n, 1)
    dim, shape, kept = n.params
    if not kept and len(shape):
        wide = shape[:dim] + (1,) + shape[dim + 1:]
        grad, index = reshape(grad, wide), reshape(index, wide)
    return scatter_zeros(shape, dim, index, grad)


cdef tuple _along(Op op, TensorBase x, int dim, bint keepdim):
    cdef int64_t mask = <int64_t> 1 << dim if x.a.ndim else 0
    cdef TensorBase values, indices
    cdef frame f
    check_not_empty(op.name, x, mask, False)
    begin(&f, op.kernel, x.a.dtype)
    values = make_reduced(&f, x, mask, keepdim, x.a.dtype)
    indices = make_reduced(&f, x, mask, keepdim, FX_I64)
    read(&f, x)
    whole(&f, mask)
    real(&f, 0)
    run(&f, op.name)
    if f.wants_grad:
        record_frame_many(op, &f, (values, indices), (dim, shape_tuple(&x.a), keepdim))
    return values, indices


cdef object _extremes(Op op, object input, object dim, object keepdim, object other, bint largest):
    cdef TensorBase x = <TensorBase?> input
    if other is None and isinstance(dim, TensorBase):
        other = dim
    if other is not None:
        return registry["maximum" if largest else "minimum"](x, other)
    if dim is None:
        check_not_empty(op.name, x, dims_mask(None, x.a.ndim), True)
        return extreme(x, dims_mask(None, x.a.ndim), keepdim, largest, True)
    if not hasattr(dim, "__index__"):
        return extreme(x, dims_mask(dim, x.a.ndim), keepdim, largest, False)
    return named(op.name, _along(op, x, read_dim(dim, x.a.ndim), keepdim))


def _max(input, dim=None, keepdim=False, *, other=None, axis=None, keepdims=None):
    """The greatest element, or (values, indices) along a dimension, or the greater elements of two tensors.

    Parameters
    ----------
    input : Tensor
    dim : int, optional
        Without it the greatest of all elements is returned; the gradient is shared equally among ties.  With it a tuple
        (values, indices): of equal elements the first; the gradient goes to the one chosen.  A tensor here, or as
        `other`, makes it `maximum`.
    keepdim : bool
        Keep the dimension with size 1.

    Raises
    ------
    RuntimeError, IndexError
        When there are no elements to choose from.

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.tensor([[1.0, 4.0], [3.0, 2.0]])
    >>> x.max()
    tensor(4.)
    >>> x.max(dim=1).indices
    tensor([1, 0])
    """
    return _extremes(MAX, input, dim if axis is None else axis, keepdim if keepdims is None else keepdims, other, True)

cdef Op MAX = row("max", kernel="max_dim", function=_max, out=True, rule=rule(_chosen_vjp), needs=("p",), method=True,
                  reference="np.max(input) if dim is None else (np.max(input, dim, keepdims=keepdim), "
                            "np.argmax(input, dim, keepdims=keepdim))",
                  sample="[(t(3, 4),), (t(3, 4), 1), (t(3, 4), 0, True)]", family="reduction")


def _min(input, dim=None, keepdim=False, *, other=None, axis=None, keepdims=None):
    """The least element, or (values, indices) along a dimension, or the lesser elements of two tensors; see `max`."""
    return _extremes(MIN, input, dim if axis is None else axis, keepdim if keepdims is None else keepdims, other, False)

cdef Op MIN = row("min", kernel="min_dim", function=_min, out=True, rule=rule(_chosen_vjp), needs=("p",), method=True,
                  reference="np.min(input) if dim is None else (np.min(input, dim, keepdims=keepdim), "
                            "np.argmin(input, dim, keepdims=keepdim))",
                  sample="[(t(3, 4),), (t(3, 4), 1), (t(3, 4), 0, True)]", family="reduction")


def _aminmax(input, *, dim=None, keepdim=False):
    """Least and greatest element, of all or along `dim`: (min, max); gradients are shared equally among ties."""
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t mask = dims_mask(dim, x.a.ndim)
    if x.a.numel == 0 and dim is None:
        raise RuntimeError("aminmax(): cannot compute aminmax over an empty dimension as the operation has no "
                           "identity.")
    check_not_empty("aminmax", x, mask, False)
    return named("aminmax", (extreme(x, mask, keepdim, False, False), extreme(x, mask, keepdim, True, False)))

row("aminmax", function=_aminmax, composite=True, method=True, reference="(np.min(input, dim), np.max(input, dim))",
    out=True, sample="call(t(3, 4), dim=1)", family="reduction")


# median

cdef object _middle_vjp(Node n, object g):
    """Of the median of all elements: shared equally among ties, as for max."""
    cdef TensorBase x = saved_input(n, 0), out = saved_output(n, 0)
    ties = registry["eq"](x, out)
    if n.params:
        ties = add(ties, registry["logical_and"](registry["ne"](x, x), registry["ne"](out, out)))
    return mul(div(<TensorBase> g, sum_mask(ties, dims_mask(None, x.a.ndim), False)), ties)

cdef Op MIDDLE = row("_median", rule=rule(_middle_vjp), needs=("0o",), public=False, doc="The median of all elements.")


cdef tuple _median_along(TensorBase x, int dim, bint keepdim):
    """The lower of the middle elements; the first NaN where there is one."""
    cdef int64_t size = shape_of(x)[dim] if x.a.ndim else 1
    values, indices = kth_dim(x, (size + 1) // 2, dim, keepdim)
    if categories[x.a.dtype] != FLOATING:
        return values, indices
    greatest, at = _along(MAX, x, dim, keepdim)
    nan = registry["ne"](greatest, greatest)
    return registry["where"](nan, greatest, values), registry["where"](nan, at, indices)


cdef tuple _nanmedian_along(TensorBase x, int dim, bint keepdim):
    cdef TensorBase values, indices, count, at, present
    cdef int64_t mask = <int64_t> 1 << dim if x.a.ndim else 0
    if categories[x.a.dtype] != FLOATING:
        return _median_along(x, dim, keepdim)
    values, indices = sort_dim(x, dim, False, True)
    present = registry["eq"](x, x)
    count = sum_mask(present, mask, True)
    # (count - 1) / 2 rounded down, and 0 where all are NaN.
    at = to_dtype(div(to_dtype(registry["where"](registry["gt"](count, 0), sub(count, 1), count), FX_F64), 2), FX_I64)
    values, indices = gather_dim(values, dim, at), gather_dim(indices, dim, at)
    if not keepdim:
        values, indices = registry["squeeze"](values, dim), registry["squeeze"](indices, dim)
    return values, indices


cdef object _medians(str name, object input, object dim, bint keepdim, bint skip):
    cdef TensorBase x = <TensorBase?> input, flat, out
    cdef PyObject *inputs[1]
    cdef int d
    if dim is not None:
        d = read_dim(dim, x.a.ndim)
        check_not_empty(name, x, <int64_t> 1 << d if x.a.ndim else 0, False)
        return named(name, _nanmedian_along(x, d, keepdim) if skip else _median_along(x, d, keepdim))
    flat = reshape(alias(x), (x.a.numel,))
    if x.a.numel == 0:
        out = number_like(float("nan") if categories[x.a.dtype] == FLOATING else 0, x.a.dtype, x)
    else:
        out = (_nanmedian_along(flat, 0, False) if skip else _median_along(flat, 0, False))[0]
    if grad_enabled() and needs_grad(x):
        inputs[0] = <PyObject *> x
        record(MIDDLE, inputs, 1, out, True)
    return out


def _median(input, dim=None, keepdim=False):
    """The middle element, or (values, indices) along a dimension; of two middle ones the lower, NaN where there is one.

    The gradient of the median of all elements is shared equally among ties; along a dimension it goes to the one
    chosen.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.tensor([4.0, 1.0, 3.0, 2.0]).median()
    tensor(2.)
    """
    return _medians("median", input, dim, keepdim, False)

row("median", function=_median, out=True, composite=True, method=True, family="reduction",
    reference="np.sort(input, None)[(input.size - 1) // 2] if dim is None else "
              "(np.sort(input, dim)[:, 1], np.argsort(input, dim)[:, 1])", sample="[(t(3, 4),), (t(3, 4), 1)]")


def _nanmedian(input, dim=None, keepdim=False):
    """As `median`, but of the elements that are not NaN."""
    return _medians("nanmedian", input, dim, keepdim, True)

row("nanmedian", function=_nanmedian, out=True, composite=True, method=True, family="reduction",
    reference="np.sort(input, None)[(input.size - 1) // 2] if dim is None else "
              "(np.sort(input, dim)[:, 1], np.argsort(input, dim)[:, 1])", sample="[(t(3, 4),), (t(3, 4), 1)]")


# mode

def _mode(input, dim=-1, keepdim=False):
    """The most frequent element along a dimension, of several the least, and where it stands: (values, indices)."""
    cdef TensorBase x = <TensorBase?> input, ordered, order, at
    cdef int d = read_dim(dim, x.a.ndim)
    if x.a.ndim == 0:
        return named("mode", (registry["clone"](x), number_like(0, FX_I64, x)))
    check_not_empty("mode", x, <int64_t> 1 << d, False)
    ordered, order = sort_dim(alias(x), d, False, True)
    # The length of the run of equal elements that ends here; argmax takes the first longest, that of the least element.
    length = registry["cumsum"](_ones(ordered), d)
    fresh = registry["ne"](ordered, registry["roll"](ordered, 1, d))
    start = registry["cummax"](mul(sub(length, 1), fresh), d).values
    at = registry["argmax"](sub(length, start), d, True)
    index = gather_dim(order, d, at)
    values = gather_dim(x, d, index)
    if not keepdim:
        values, index = registry["squeeze"](values, d), registry["squeeze"](index, d)
    return named("mode", (values, index))

row("mode", function=_mode, out=True, composite=True, method=True, family="reduction",
    reference="(sp_stats.mode(input, dim).mode, None)", sample="i(3, 7, low=0, high=3)")


cdef TensorBase _ones(TensorBase like):
    return expand(number_like(1, FX_I64, like), shape_tuple(&like.a))


# quantile

cdef object _quantiles(str name, object input, object q, object dim, bint keepdim, str interpolation, bint skip):
    cdef TensorBase x = <TensorBase?> input, levels, line, last, rank
    cdef int d, ndim = x.a.ndim
    cdef int64_t n
    if x.a.dtype != FX_F32 and x.a.dtype != FX_F64:
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
    if x.a.numel == 0:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise RuntimeError(f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got "
                           f"{interpolation}")
    if is_number(q):
        if not 0 <= q <= 1:
            raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q}")
        levels = number_like(float(q), x.a.dtype, x)
    else:
        levels = as_operand(q, name)
        if levels.a.ndim > 1:
            raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
        if levels.a.dtype != x.a.dtype:
            raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
        if bool(registry["any"](registry["logical_or"](registry["lt"](levels, 0), registry["gt"](levels, 1)))):
            raise RuntimeError(f"{name}() q values must be in the range [0, 1]")
    if dim is None:
        line = reshape(x, (x.a.numel,))
        d = 0
    else:
        d = read_dim(dim, ndim)
        line = transpose(x, d, ndim - 1) if ndim else reshape(x, (1,))
    n = shape_of(line)[line.a.ndim - 1]
    line = sort_dim(line, line.a.ndim - 1, False, True)[0]
    present = registry["eq"](line, line)
    # Ranks among the elements that count; where a NaN is not skipped, that of the last element, which is NaN.
    mask = dims_mask(-1, line.a.ndim)
    if skip:
        last = to_dtype(sum_mask(present, mask, True), x.a.dtype)
        last = registry["where"](registry["gt"](last, 0), sub(last, 1), last)
        rank = mul(reshape(levels, (-1,)), last)
    else:
        shape = list(shape_tuple(&line.a))
        shape[line.a.ndim - 1] = 1
        rank = mul(reshape(levels, (-1,)), expand(number_like(float(n - 1), x.a.dtype, x), shape))
        rank = registry["where"](registry["all"](present, line.a.ndim - 1, True), rank,
                                 number_like(float(n - 1), x.a.dtype, x))
    out = _interpolated(line, rank, interpolation)
    # The levels become the first dimension, or none when q is one number.
    if levels.a.ndim == 0:
        out = registry["squeeze"](out, -1)
    else:
        out = registry["movedim"](out, -1, 0)
    if dim is None:
        if keepdim:
            out = reshape(out, shape_tuple(&levels.a) + (1,) * ndim)
        return out
    if ndim == 0:
        return reshape(out, shape_tuple(&levels.a))
    # The rows' dimension d stands now where the last was.
    out = registry["unsqueeze"](out, (<TensorBase> out).a.ndim)
    out = transpose(out, levels.a.ndim + d, levels.a.ndim + ndim - 1)
    return out if keepdim else registry["squeeze"](out, levels.a.ndim + d)


cdef TensorBase _interpolated(TensorBase line, TensorBase rank, str interpolation):
    cdef int last = line.a.ndim - 1
    cdef TensorBase below, above
    if interpolation == "lower":
        return gather_dim(line, last, to_dtype(registry["floor"](rank), FX_I64))
    if interpolation == "higher":
        return gather_dim(line, last, to_dtype(registry["ceil"](rank), FX_I64))
    if interpolation == "nearest":
        return gather_dim(line, last, to_dtype(registry["round"](rank), FX_I64))
    low = registry["floor"](rank)
    below = gather_dim(line, last, to_dtype(low, FX_I64))
    above = gather_dim(line, last, to_dtype(registry["ceil"](rank), FX_I64))
    return registry["lerp"](below, above, 0.5 if interpolation == "midpoint" else sub(rank, low))


def _quantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    """Quantiles of all elements or along a dimension; NaN where there is one.

    Parameters
    ----------
    input : Tensor
        float32 or float64.
    q : float or Tensor
        Levels in [0, 1]; a vector of them becomes the first dimension of the result.
    dim : int, optional
    keepdim : bool
    interpolation : {"linear", "lower", "higher", "midpoint", "nearest"}
        What to do between two elements.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.quantile(fx.tensor([0.0, 1.0, 2.0, 3.0]), 0.25)
    tensor(0.7500)
    """
    return _quantiles("quantile", input, q, dim, keepdim, interpolation, False)

row("quantile", function=_quantile, out=True, composite=True, method=True,
    reference="np.quantile(input, q, dim, keepdims=keepdim)",
    sample="[(t(3, 4), 0.3), (t(3, 4), np.array([0.1, 0.75]), 1)]", family="reduction")


def _nanquantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    """As `quantile`, of the elements that are not NaN."""
    return _quantiles("nanquantile", input, q, dim, keepdim, interpolation, True)

row("nanquantile", function=_nanquantile, out=True, composite=True, method=True, family="reduction",
    reference="np.nanquantile(input, q, dim, keepdims=keepdim)",
    sample="[(t(3, 4), 0.3), (t(3, 4), np.array([0.1, 0.75]), 1)]")
