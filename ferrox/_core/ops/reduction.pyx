"""Reductions: sums, means, extreme values, truth, log-sum-exp, deviations."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_BOOL, FX_I64, FX_MAX_DIMS, FX_U8
from ferrox._core.dtype cimport FLOATING, as_dtype, categories, default_dtype, dtype_name
from ferrox._core.graph.engine cimport operators
from ferrox._core.graph.node cimport Node, record_frame, rule, saved_input, saved_output
from ferrox._core.graph.op cimport Op, registry
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport add, div, mul, sub
from ferrox._core.ops.shape cimport expand, reshape, to_dtype
from ferrox._core.tensor.base cimport TensorBase, needs_grad, shape_of, shape_tuple
from ferrox._core.tensor.frame cimport begin, frame, make, read, real, run, whole


# what all of them share

cdef TensorBase make_reduced(frame *f, TensorBase x, int64_t mask, bint keepdim, int dtype):
    """A fresh output of x's shape reduced over the dimensions in `mask`."""
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int d, ndim = 0
    for d in range(x.a.ndim):
        if mask >> d & 1:
            if keepdim:
                shape[ndim] = 1
                ndim += 1
        else:
            shape[ndim] = shape_of(x)[d]
            ndim += 1
    return make(f, ndim, shape, dtype, x)


cdef TensorBase reduced(Op op, TensorBase x, int64_t mask, bint keepdim, int out_dtype, int dtype,
                        double p1, object kept):
    """Launch a reduction over the dimensions in `mask` and record it; `kept` is for its gradient rule."""
    cdef frame f
    cdef TensorBase out
    begin(&f, op.kernel, dtype)
    out = make_reduced(&f, x, mask, keepdim, out_dtype)
    read(&f, x)
    whole(&f, mask)
    real(&f, p1)
    whole(&f, 0)
    run(&f, op.name)
    record_frame(op, &f, out, kept)
    return out


cdef int64_t dims_mask(object dim, int ndim) except? -1:
    """A bit mask from None (all), an int, or a sequence of ints."""
    cdef int64_t mask = 0, every = -1 if ndim == 64 else (<int64_t> 1 << ndim) - 1
    cdef int d
    if dim is None:
        return every
    if hasattr(dim, "__index__"):
        dim = (dim,)
    elif len(dim) == 0:
        return every
    for each in dim:
        d = each
        if not -max(ndim, 1) <= d < max(ndim, 1):
            raise IndexError(f"Dimension out of range (expected to be in range of [{-max(ndim, 1)}, "
                             f"{max(ndim, 1) - 1}], but got {d})")
        if d < 0:
            d += max(ndim, 1)
        if ndim:
            if mask >> d & 1:
                raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
            mask |= <int64_t> 1 << d
    return mask


cdef int64_t reduced_size(TensorBase x, int64_t mask) noexcept:
    """How many elements become one."""
    cdef int64_t size = 1
    cdef int d
    for d in range(x.a.ndim):
        if mask >> d & 1:
            size *= shape_of(x)[d]
    return size


cdef tuple kept_shape(int64_t mask, tuple full):
    """The shape `full` with the reduced dimensions as 1."""
    cdef int d
    return tuple([1 if mask >> d & 1 else full[d] for d in range(len(full))])


cdef int check_not_empty(str name, TensorBase x, int64_t mask, bint everywhere) except -1:
    """An extreme value of nothing is an error; `everywhere`: no dimension was given."""
    cdef int d
    if x.a.numel == 0:
        if everywhere:
            raise (IndexError if name.startswith("arg") else RuntimeError)(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction "
                "dim with the 'dim' argument.")
        for d in range(x.a.ndim):
            if mask >> d & 1 and shape_of(x)[d] == 0:
                raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")
    return 0


cdef TensorBase spread(TensorBase g, tuple params):
    """A cotangent of a reduction, expanded over the reduced dimensions: params are (mask, keepdim, input shape)."""
    if not params[1]:
        g = reshape(g, kept_shape(params[0], params[2]))
    return expand(g, params[2])


cdef TensorBase restored(TensorBase g, tuple params):
    """The same with the reduced dimensions as 1."""
    return g if params[1] else reshape(g, kept_shape(params[0], params[2]))


cdef inline tuple _facts(TensorBase x, int64_t mask, bint keepdim):
    return (mask, keepdim, shape_tuple(&x.a)) if needs_grad(x) else None


cdef int _widened(TensorBase x, object dtype) except -1:
    """The dtype of a sum or product: `dtype`, or the input's with integers as int64."""
    if dtype is not None:
        return as_dtype(dtype)
    return x.a.dtype if categories[x.a.dtype] == FLOATING else FX_I64


cdef int _real(str name, TensorBase x, object dtype) except -1:
    """The dtype of a mean."""
    cdef int code = x.a.dtype if dtype is None else as_dtype(dtype)
    if categories[code] != FLOATING:
        raise RuntimeError(f"{name}(): could not infer output dtype. {'Input' if dtype is None else 'Optional'} "
                           f"dtype must be either a floating point or complex dtype. Got: {dtype_name(code)}")
    return code


NAMED = ("max", "min", "aminmax", "median", "nanmedian", "mode", "sort", "topk", "kthvalue", "cummax", "cummin")
cdef dict _return_types = {}


def return_type(str name):
    """The class `ferrox.return_types.name`, made when it is first used: eleven take a sixth of the import."""
    found = _return_types.get(name)
    if found is None:
        from collections import namedtuple
        fields = "min max" if name == "aminmax" else "values indices"
        # Of two threads that make it, both get the first one's.
        found = _return_types.setdefault(name, namedtuple(name, fields, module="ferrox.return_types"))
    return found


cdef object named(str name, tuple values):
    """A result of several tensors: a tuple with names, `ferrox.return_types.name`."""
    return return_type(name)._make(values)


# sum, nansum, mean, nanmean

cdef object _sum_vjp(Node n, object g):
    return spread(<TensorBase> g, n.params)


def _sum(input, dim=None, keepdim=False, *, dtype=None, axis=None, keepdims=None):
    """Sum of the elements, all or over `dim`.

    Parameters
    ----------
    input : Tensor
    dim : int or tuple of int, optional
        Dimensions to sum over; all by default.  `axis` is the same.
    keepdim : bool
        Keep them with size 1.  `keepdims` is the same.
    dtype : dtype, optional
        Cast the input to it first.  By default integers and bools are summed as int64.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.tensor([[1.0, 2.0], [3.0, 4.0]]).sum(dim=0)
    tensor([4., 6.])
    """
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t mask = dims_mask(dim if axis is None else axis, x.a.ndim)
    cdef int code = _widened(x, dtype)
    if code == FX_BOOL:
        x = to_dtype(x, code)
    keepdim = keepdim if keepdims is None else keepdims
    return reduced(SUM, x, mask, keepdim, code, code, 1.0, _facts(x, mask, keepdim))

cdef Op SUM = row("sum", function=_sum, out=True, rule=rule(_sum_vjp), method=True, family="reduction",
                  reference="np.sum(input, dim, keepdims=keepdim)",
                  sample="[(t(3, 4),), (t(3, 4), 1, True), (t(2, 3, 4), (0, 2))]")


cdef TensorBase sum_mask(TensorBase x, int64_t mask, bint keepdim):
    cdef int code = _widened(x, None)
    return reduced(SUM, x, mask, keepdim, code, code, 1.0, _facts(x, mask, keepdim))


cdef TensorBase sum_dims(TensorBase x, list dims, bint keepdim):
    return sum_mask(x, dims_mask(dims, x.a.ndim), keepdim)


cdef object _nansum_vjp(Node n, object g):
    x = saved_input(n, 0)
    return mul(spread(<TensorBase> g, n.params), registry["eq"](x, x))


def _nansum(input, dim=None, keepdim=False, *, dtype=None, axis=None, keepdims=None):
    """Sum of the elements that are not NaN, all or over `dim`; arguments as for `sum`."""
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t mask = dims_mask(dim if axis is None else axis, x.a.ndim)
    cdef int code = _widened(x, dtype)
    if code == FX_BOOL:
        x = to_dtype(x, code)
    keepdim = keepdim if keepdims is None else keepdims
    return reduced(NANSUM, x, mask, keepdim, code, code, 1.0, _facts(x, mask, keepdim))

cdef Op NANSUM = row("nansum", function=_nansum, rule=rule(_nansum_vjp), needs=("0",), method=True, family="reduction",
                     out=True, reference="np.nansum(input, dim, keepdims=keepdim)", sample="[(t(3, 4),), (t(3, 4), 1)]")


cdef object _mean_vjp(Node n, object g):
    return spread(div(g, n.params[3]), n.params)


def _mean(input, dim=None, keepdim=False, *, dtype=None, axis=None, keepdims=None):
    """Mean of the elements, all or over `dim`.

    Parameters
    ----------
    input : Tensor
        Of floating-point dtype, unless `dtype` is given.
    dim : int or tuple of int, optional
        Dimensions to average over; all by default.  `axis` is the same.
    keepdim : bool
        Keep them with size 1.  `keepdims` is the same.
    dtype : dtype, optional
        Cast the input to it first.

    Raises
    ------
    RuntimeError
        For integers.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.tensor([[1.0, 2.0], [3.0, 4.0]]).mean(dim=1)
    tensor([1.5000, 3.5000])
    """
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t mask = dims_mask(dim if axis is None else axis, x.a.ndim)
    return _averaged(x, mask, keepdim if keepdims is None else keepdims, _real("mean", x, dtype))

cdef Op MEAN = row("mean", kernel="sum", function=_mean, rule=rule(_mean_vjp), method=True, family="reduction",
                   out=True, reference="np.mean(input, dim, keepdims=keepdim)",
                   sample="[(t(3, 4),), (t(3, 4), 1, True), (t(2, 3, 4), (0, 2))]")


cdef TensorBase _averaged(TensorBase x, int64_t mask, bint keepdim, int dtype):
    cdef int64_t size = reduced_size(x, mask)
    cdef double factor = 1.0 / size if size else float("inf")
    return reduced(MEAN, x, mask, keepdim, dtype, dtype, factor,
                   (mask, keepdim, shape_tuple(&x.a), size) if needs_grad(x) else None)


cdef TensorBase mean_mask(TensorBase x, int64_t mask, bint keepdim):
    return _averaged(x, mask, keepdim, x.a.dtype)


def _nanmean(input, dim=None, keepdim=False, *, dtype=None, axis=None, keepdims=None):
    """Mean of the elements that are not NaN, all or over `dim`; arguments as for `mean`."""
    cdef TensorBase x = <TensorBase?> input
    dim = dim if axis is None else axis
    keepdim = keepdim if keepdims is None else keepdims
    if categories[x.a.dtype] != FLOATING:
        raise RuntimeError("nanmean(): expected input to have floating point or complex dtype but got "
                           f"{dtype_name(x.a.dtype)}")
    count = sum_mask(registry["eq"](x, x), dims_mask(dim, x.a.ndim), keepdim)
    return div(_nansum(x, dim, keepdim, dtype=dtype), count)

row("nanmean", function=_nanmean, composite=True, method=True, reference="np.nanmean(input, dim, keepdims=keepdim)",
    out=True, sample="[(t(3, 4),), (t(3, 4), 1)]", family="reduction")


# amax, amin, aminmax

cdef object _extreme_vjp(Node n, object g):
    """Shared equally among ties."""
    cdef TensorBase x = saved_input(n, 0), best = restored(saved_output(n, 0), n.params)
    ties = registry["eq"](x, best)
    if n.params[3]:
        # Without dimensions a NaN is a tie too.
        ties = add(ties, registry["ne"](x, x))
    count = sum_mask(ties, n.params[0], True)
    return mul(div(restored(<TensorBase> g, n.params), count), ties)


cdef TensorBase extreme(TensorBase x, int64_t mask, bint keepdim, bint largest, bint everywhere):
    return reduced(AMAX if largest else AMIN, x, mask, keepdim, x.a.dtype, x.a.dtype, 0,
                   (mask, keepdim, shape_tuple(&x.a), everywhere) if needs_grad(x) else None)


def _amax(input, dim=(), keepdim=False, *, axis=None, keepdims=None):
    """Greatest element over `dim` (an int or several; all by default); the gradient is shared equally among ties.

    Raises
    ------
    IndexError, RuntimeError
        When a reduced dimension has no elements.
    """
    cdef TensorBase x = <TensorBase?> input
    dim = dim if axis is None else axis
    cdef int64_t mask = dims_mask(dim, x.a.ndim)
    check_not_empty("amax", x, mask, dim is None or dim == ())
    return extreme(x, mask, keepdim if keepdims is None else keepdims, True, False)

cdef Op AMAX = row("amax", function=_amax, rule=rule(_extreme_vjp), needs=("0o",), method=True, family="reduction",
                   out=True, reference="np.max(input, dim or None, keepdims=keepdim)",
                   sample="[(t(3, 4),), (t(3, 4), (1,), True), (t(2, 3, 4), (0, 2))]")


def _amin(input, dim=(), keepdim=False, *, axis=None, keepdims=None):
    """Least element over `dim` (an int or several; all by default); the gradient is shared equally among ties.

    Raises
    ------
    IndexError, RuntimeError
        When a reduced dimension has no elements.
    """
    cdef TensorBase x = <TensorBase?> input
    dim = dim if axis is None else axis
    cdef int64_t mask = dims_mask(dim, x.a.ndim)
    check_not_empty("amin", x, mask, dim is None or dim == ())
    return extreme(x, mask, keepdim if keepdims is None else keepdims, False, False)

cdef Op AMIN = row("amin", function=_amin, rule=rule(_extreme_vjp), needs=("0o",), method=True, family="reduction",
                   out=True, reference="np.min(input, dim or None, keepdims=keepdim)",
                   sample="[(t(3, 4),), (t(3, 4), (1,), True), (t(2, 3, 4), (0, 2))]")


# argmax, argmin

cdef TensorBase _position(Op op, object input, object dim, bint keepdim):
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t mask = dims_mask(dim, x.a.ndim)
    if x.a.dtype == FX_BOOL:
        raise NotImplementedError(f"[{op.name}] not implemented for bool")
    if dim is not None and not hasattr(dim, "__index__"):
        raise TypeError(f"{op.name}(): argument 'dim' must be int, not {type(dim).__name__}")
    check_not_empty(op.name, x, mask, dim is None)
    return reduced(op, x, mask, keepdim, FX_I64, x.a.dtype, 0, None)


def _argmax(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    """Position of the greatest element along `dim`, or in the flattened tensor; the first of several, NaN before all.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.tensor([[1.0, 5.0], [7.0, 2.0]]).argmax(dim=1)
    tensor([1, 0])
    """
    return _position(ARGMAX, input, dim if axis is None else axis, keepdim if keepdims is None else keepdims)

cdef Op ARGMAX = row("argmax", function=_argmax, out=True, method=True, family="reduction",
                     reference="np.argmax(input, dim, keepdims=keepdim)", sample="[(t(3, 4),), (t(3, 4), 1)]")


def _argmin(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    """Position of the least element along `dim`, or in the flattened tensor; the first of several, NaN before all."""
    return _position(ARGMIN, input, dim if axis is None else axis, keepdim if keepdims is None else keepdims)

cdef Op ARGMIN = row("argmin", function=_argmin, out=True, method=True, family="reduction",
                     reference="np.argmin(input, dim, keepdims=keepdim)", sample="[(t(3, 4),), (t(3, 4), 1)]")


# all, any, count_nonzero

cdef TensorBase _truth(Op op, object input, object dim, bint keepdim):
    cdef TensorBase x = <TensorBase?> input
    return reduced(op, x, dims_mask(dim, x.a.ndim), keepdim, FX_U8 if x.a.dtype == FX_U8 else FX_BOOL, x.a.dtype, 0,
                   None)


def _all(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    """Whether all elements are non-zero, of the whole tensor or over `dim`; True for none."""
    return _truth(ALL, input, dim if axis is None else axis, keepdim if keepdims is None else keepdims)

cdef Op ALL = row("all", function=_all, out=True, method=True, reference="np.all(input, dim, keepdims=keepdim)",
                  family="reduction",
                  sample="[(b(3, 4),), (b(3, 4), 1), (t(3, 4), 0, True)]")


def _any(input, dim=None, keepdim=False, *, axis=None, keepdims=None):
    """Whether some element is non-zero, of the whole tensor or over `dim`; False for none."""
    return _truth(ANY, input, dim if axis is None else axis, keepdim if keepdims is None else keepdims)

cdef Op ANY = row("any", function=_any, out=True, method=True, reference="np.any(input, dim, keepdims=keepdim)",
                  family="reduction",
                  sample="[(b(3, 4),), (b(3, 4), 1), (t(3, 4), 0, True)]")


def _count_nonzero(input, dim=None, *, axis=None):
    """How many elements are non-zero, in the whole tensor or over `dim`, as int64."""
    cdef TensorBase x = <TensorBase?> input
    return reduced(COUNT, x, dims_mask(dim if axis is None else axis, x.a.ndim), False, FX_I64, x.a.dtype, 0, None)

cdef Op COUNT = row("count_nonzero", function=_count_nonzero, method=True, reference="np.count_nonzero(input, dim)",
                    sample="[(i(3, 4, low=0, high=2),), (i(3, 4, low=0, high=2), 1)]", family="reduction")


# logsumexp

cdef object _logsumexp_vjp(Node n, object g):
    # The sum of nothing, exp(-inf), has no slope.
    cdef TensorBase total = restored(saved_output(n, 0), n.params)
    total = registry["where"](registry["eq"](total, -INFINITY), 0, total)
    weights = registry["exp"](sub(saved_input(n, 0), total))
    return mul(restored(<TensorBase> g, n.params), weights)


def _logsumexp(input, dim, keepdim=False, *, keepdims=None):
    """log(sum(exp(x))) over `dim`, an int or several, without overflow.  Integers become the default dtype."""
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t mask = dims_mask(dim, x.a.ndim)
    cdef int code = x.a.dtype if categories[x.a.dtype] == FLOATING else default_dtype
    keepdim = keepdim if keepdims is None else keepdims
    return reduced(LOGSUMEXP, x, mask, keepdim, code, code, 0, _facts(x, mask, keepdim))

cdef Op LOGSUMEXP = row("logsumexp", function=_logsumexp, rule=rule(_logsumexp_vjp), needs=("0o",), method=True,
                        out=True, reference="np.log(np.sum(np.exp(input), dim, keepdims=keepdim))", family="reduction",
                        sample="[(t(3, 4), 1), (t(2, 3, 4), (0, 2), True)]")


# What the engine asks for.

cdef TensorBase sum_to(TensorBase x, tuple shape):
    """x summed over the dimensions in which it was broadcast from `shape`."""
    cdef int lead = x.a.ndim - <int> len(shape), d
    cdef list dims = list(range(lead))
    for d in range(lead, x.a.ndim):
        if shape[d - lead] == 1 and shape_of(x)[d] != 1:
            dims.append(d)
    if dims:
        x = sum_dims(x, dims, True)
    return x if shape_tuple(&x.a) == shape else reshape(x, shape)


cdef TensorBase _fit(TensorBase g, tuple shape, int dtype):
    if shape_tuple(&g.a) != shape:
        g = sum_to(g, shape)
    return to_dtype(g, dtype)


operators.fit = _fit
