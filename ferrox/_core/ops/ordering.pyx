"""Ordering, searching and counting: sort, topk, unique, searchsorted, histograms.

Values that were picked send their gradient back to where they stood (`scatter_zeros`).  NaN is greater than any number.
"""
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_F32, FX_F64, FX_I32, FX_I64, FX_MAX_DIMS, fx_is_half
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.dtype cimport FLOATING, INTEGRAL, categories, default_dtype, dtype_name, promotions
from ferrox._core.graph.node cimport Node, record_frame_many, rule, saved_output
from ferrox._core.graph.op cimport Op, registry
from ferrox._core.graph.op import row
from ferrox._core.ops.elementwise cimport as_operand, is_number
from ferrox._core.ops.gather_scatter cimport counting, gather_dim, number_like, scatter_zeros
from ferrox._core.ops.index_select cimport index_select_dim
from ferrox._core.ops.join cimport concatenate
from ferrox._core.ops.reduction cimport make_reduced, named
from ferrox._core.ops.scan cimport cumsum_dim
from ferrox._core.ops.shape cimport contiguous, read_dim, read_int, reshape, to_dtype
from ferrox._core.ops.views cimport narrow_dim, select_dim, zero_out
from ferrox._core.tensor.base cimport TensorBase, alias, new_tensor, new_view, shape_of, shape_tuple, strides_of
from ferrox._core.tensor.frame cimport adopt, begin, frame, make, make_like, read, real, run, whole

cdef int _unique_count = kernel_id("unique_count")
cdef int _unique_values = kernel_id("unique")


cdef object _picked_vjp(Node n, object g):
    """Of values, indices picked along a dimension: params are (dim, input shape, whether the dimension is kept)."""
    cdef TensorBase grad = g[0], index = saved_output(n, 1)
    dim, shape, kept = n.params
    if not kept and len(shape):
        wide = shape[:dim] + (1,) + shape[dim + 1:]
        grad, index = reshape(grad, wide), reshape(index, wide)
    return scatter_zeros(shape, dim, index, grad)


cdef int _note(Op op, frame *f, TensorBase x, tuple outs, int dim, bint kept) except -1:
    if f.wants_grad:
        record_frame_many(op, f, outs, (dim, shape_tuple(&x.a), kept))
    return 0


# sort, argsort, msort

cdef tuple sort_dim(TensorBase x, int dim, bint descending, bint stable):
    cdef TensorBase values, indices
    cdef frame f
    begin(&f, SORT.kernel, x.a.dtype)
    values = make_like(&f, x, x.a.dtype)
    indices = make_like(&f, x, FX_I64)
    read(&f, x)
    whole(&f, dim)
    whole(&f, descending)
    whole(&f, stable)
    run(&f, "sort")
    _note(SORT, &f, x, (values, indices), dim, True)
    return values, indices


def _sort(input, dim=-1, descending=False, *, stable=False, axis=None):
    """The elements in order along a dimension, and where they stood: (values, indices).

    Parameters
    ----------
    input : Tensor
    dim : int
        The last one by default.
    descending : bool
    stable : bool
        Equal elements keep their order; they do so in any case.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.sort(fx.tensor([3.0, 1.0, 2.0])).indices
    tensor([1, 2, 0])
    """
    cdef TensorBase x = <TensorBase?> input
    cdef int d = read_dim(dim if axis is None else axis, x.a.ndim)
    return named("sort", sort_dim(x, d, descending, stable))

cdef Op SORT = row("sort", function=_sort, rule=rule(_picked_vjp), needs=("p",), method=True, family="ordering",
                   out=True, reference="(np.sort(input, dim), np.argsort(input, dim, kind='stable'))",
                   sample="[(t(3, 4),), (t(3, 4), 0)]")


def _argsort(input, dim=-1, descending=False, *, stable=False):
    """Indices that sort the input along a dimension; equal elements keep their order."""
    cdef TensorBase x = <TensorBase?> input, indices
    cdef frame f
    begin(&f, ARGSORT.kernel, x.a.dtype)
    indices = make_like(&f, x, FX_I64)
    read(&f, x)
    whole(&f, read_dim(dim, x.a.ndim))
    whole(&f, bool(descending))
    whole(&f, 1)
    run(&f, "argsort")
    return indices

cdef Op ARGSORT = row("argsort", function=_argsort, method=True, family="ordering",
                      reference="np.argsort(input, dim, kind='stable')", sample="[(t(3, 4),), (t(3, 4), 0)]")


def _msort(input):
    """The elements in order along the first dimension."""
    return sort_dim(<TensorBase?> input, 0, False, False)[0]

row("msort", function=_msort, out=True, composite=True, method=True, reference="np.sort(input, 0)", sample="t(3, 4)",
    family="ordering")


# topk, kthvalue

def _topk(input, k, dim=-1, largest=True, sorted=True):
    """The k greatest (or least) elements along a dimension, in order: (values, indices).

    Raises
    ------
    RuntimeError
        When the dimension has fewer than k elements.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.topk(fx.tensor([1.0, 5.0, 3.0]), 2).values
    tensor([5., 3.])
    """
    cdef TensorBase x = <TensorBase?> input, values, indices
    cdef int d = read_dim(dim, x.a.ndim), e
    cdef int64_t count = read_int("topk", "k", k)
    cdef int64_t shape[FX_MAX_DIMS]
    cdef frame f
    if not 0 <= count <= (shape_of(x)[d] if x.a.ndim else 1):
        raise RuntimeError(f"selected index k out of range: k is {count}, dimension {d} of {shape_tuple(&x.a)}")
    for e in range(x.a.ndim):
        shape[e] = count if e == d else shape_of(x)[e]
    begin(&f, TOPK.kernel, x.a.dtype)
    values = make(&f, x.a.ndim, shape, x.a.dtype, x)
    indices = make(&f, x.a.ndim, shape, FX_I64, x)
    read(&f, x)
    whole(&f, count)
    whole(&f, d)
    whole(&f, bool(largest))
    whole(&f, bool(sorted))
    run(&f, "topk")
    _note(TOPK, &f, x, (values, indices), d, True)
    return named("topk", (values, indices))

cdef Op TOPK = row("topk", function=_topk, rule=rule(_picked_vjp), needs=("p",), method=True, family="ordering",
                   out=True, reference="(-np.sort(-input, dim)[:, :k], np.argsort(-input, dim, kind='stable')[:, :k])",
                   sample="t(3, 5), 2")


cdef tuple kth_dim(TensorBase x, int64_t k, int dim, bint keepdim):
    """The k-th least along dim, k from 1."""
    cdef int64_t mask = <int64_t> 1 << dim if x.a.ndim else 0
    cdef TensorBase values, indices
    cdef frame f
    begin(&f, KTHVALUE.kernel, x.a.dtype)
    values = make_reduced(&f, x, mask, True, x.a.dtype)
    indices = make_reduced(&f, x, mask, True, FX_I64)
    read(&f, x)
    whole(&f, k)
    whole(&f, dim)
    run(&f, "kthvalue")
    if not keepdim and x.a.ndim:
        values, indices = _without(values, dim), _without(indices, dim)
    _note(KTHVALUE, &f, x, (values, indices), dim, keepdim)
    return values, indices


cdef TensorBase _without(TensorBase x, int dim):
    """The same memory without a dimension of size 1, outside the graph."""
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int d
    for d in range(x.a.ndim - 1):
        shape[d] = shape_of(x)[d + (d >= dim)]
        strides[d] = strides_of(x)[d + (d >= dim)]
    return new_view(x, x.a.ndim - 1, shape, strides, 0)


def _kthvalue(input, k, dim=-1, keepdim=False):
    """The k-th least element along a dimension, k counted from 1: (values, indices).

    Raises
    ------
    RuntimeError
        When k is not within 1 and the size of the dimension.
    """
    cdef TensorBase x = <TensorBase?> input
    cdef int d = read_dim(dim, x.a.ndim)
    cdef int64_t size = shape_of(x)[d] if x.a.ndim else 1
    k = read_int("kthvalue", "k", k)
    if x.a.numel == 0 and size == 0:
        raise IndexError(f"kthvalue(): Expected reduction dim {d} to have non-zero size.")
    if not 1 <= k <= size:
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {d}: k is {k}, the size is "
                           f"{size}")
    return named("kthvalue", kth_dim(x, k, d, keepdim))

cdef Op KTHVALUE = row("kthvalue", function=_kthvalue, out=True, rule=rule(_picked_vjp), needs=("p",), method=True,
                       family="ordering",
                       reference="(np.sort(input, dim)[..., k - 1], np.argsort(input, dim, kind='stable')[..., k - 1])",
                       sample="t(3, 5), 2")


# unique

cdef list _runs(TensorBase ordered, TensorBase order, bint inverse, bint counts):
    """Runs of equal neighbours of a vector: values, where each element went, lengths (None if not asked for)."""
    cdef TensorBase count, values, where, lengths
    cdef frame f
    cdef int64_t shape[1]
    begin(&f, _unique_count, ordered.a.dtype)
    count = make(&f, 0, NULL, FX_I64, ordered)
    read(&f, ordered)
    run(&f, "unique")
    shape[0] = int(count)
    begin(&f, _unique_values, ordered.a.dtype)
    values = make(&f, 1, shape, ordered.a.dtype, ordered)
    where = make_like(&f, ordered, FX_I64) if inverse else adopt(&f, None)
    lengths = make(&f, 1, shape, FX_I64, ordered) if counts else adopt(&f, None)
    read(&f, ordered)
    if order is not None:
        read(&f, order)
    run(&f, "unique")
    return [values, where, lengths]


cdef list _row_runs(TensorBase x, int dim, bint sort, bint inverse, bint counts):
    """The same for the slices of x along dim, in lexicographic order when sorted."""
    cdef TensorBase moved, flat, order = None, fresh, runs, starts
    cdef int64_t n = shape_of(x)[dim] if x.a.ndim else 1, k
    moved = registry["movedim"](x, dim, 0) if x.a.ndim else x
    flat = contiguous(reshape(moved, (n, moved.a.numel // n if n else 0)))
    if sort:
        order = counting(n, x)
        for k in range(shape_of(flat)[1] - 1, -1, -1):
            # Least significant column first; the sort is stable.
            order = index_select_dim(order, 0, _argsort(index_select_dim(select_dim(flat, 1, k), 0, order)))
        flat = index_select_dim(flat, 0, order)
    if n == 0:
        empty = counting(0, x)
        return [x, empty, empty]
    fresh = registry["any"](registry["ne"](narrow_dim(flat, 0, 1, n - 1), narrow_dim(flat, 0, 0, n - 1)), 1)
    runs = cumsum_dim(to_dtype(concatenate([number_vector(0, x), to_dtype(fresh, FX_I64)], 0), FX_I64), 0, False)
    starts = registry["searchsorted"](runs, counting(int(select_dim(runs, 0, n - 1)) + 1, x))
    values = index_select_dim(moved, 0, index_select_dim(order, 0, starts) if sort else starts)
    where = lengths = None
    if inverse:
        where = scatter_zeros((n,), 0, order, runs) if sort else runs
    if counts:
        ends = concatenate([narrow_dim(starts, 0, 1, starts.a.numel - 1), number_vector(n, x)], 0)
        lengths = registry["sub"](ends, starts)
    return [contiguous(registry["movedim"](values, 0, dim)) if x.a.ndim else values, where, lengths]


cdef TensorBase number_vector(int64_t value, TensorBase like):
    return reshape(number_like(value, FX_I64, like), (1,))


cdef object _unique_any(object input, object dim, bint sort, bint inverse, bint counts):
    cdef TensorBase x = alias(<TensorBase?> input), order = None, flat
    cdef list found
    if dim is None:
        flat = contiguous(reshape(x, (x.a.numel,)))
        if sort:
            flat, order = sort_dim(flat, 0, False, True)
        found = _runs(flat, order, inverse, counts)
        if inverse:
            found[1] = reshape(found[1], shape_tuple(&x.a))
    else:
        found = _row_runs(x, read_dim(dim, x.a.ndim), sort, inverse, counts)
    if not inverse and not counts:
        return found[0]
    return tuple([found[0]] + [found[1]] * inverse + [found[2]] * counts)


def _unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The different elements, in order.

    Parameters
    ----------
    input : Tensor
    sorted : bool
        They are sorted in any case.
    return_inverse : bool
        Also return where each element of the input is found among them.
    return_counts : bool
        Also return how often each occurs.
    dim : int, optional
        Compare the slices along a dimension instead of elements.

    Returns
    -------
    Tensor or tuple
        values, then the inverse and the counts where asked for.  Every NaN differs from every other.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.unique(fx.tensor([3, 1, 3]), return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    return _unique_any(input, dim, True, return_inverse, return_counts)

row("unique", function=_unique, composite=True, method=True, reference="np.unique(input)", family="ordering",
    sample="i(3, 4, low=0, high=5)")


def _unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):
    """The first element of every run of equal neighbours; arguments and results as for `unique`."""
    return _unique_any(input, dim, False, return_inverse, return_counts)

row("unique_consecutive", function=_unique_consecutive, composite=True, method=True, family="ordering",
    reference="input.ravel()[np.r_[True, np.diff(input.ravel()) != 0]]", sample="i(3, 4, low=0, high=2)")


# searchsorted, bucketize

def _searchsorted(sorted_sequence, input, *, out_int32=False, right=False, side=None, sorter=None):
    """Where elements would have to be inserted to keep a sequence in order.

    Parameters
    ----------
    sorted_sequence : Tensor
        A vector, or one for each row of `input` (all dimensions but the last agree).
    input : Tensor or number
    right : bool
        After equal elements rather than before; `side="right"` is the same.
    sorter : Tensor, optional
        Indices that sort the sequence.
    out_int32 : bool
        Return int32.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.searchsorted(fx.tensor([1.0, 3.0, 5.0]), fx.tensor([3.0, 6.0]))
    tensor([1, 3])
    """
    cdef TensorBase sequence = as_operand(sorted_sequence, "searchsorted"), values, out
    cdef frame f
    cdef int dtype, d
    cdef bint fits
    if side is not None:
        if side not in ("left", "right"):
            raise RuntimeError(f"searchsorted(): side can only be 'left' or 'right' but got {side}")
        if side == "left" and right:
            raise RuntimeError("searchsorted(): side and right can't be set to opposites, got side of left while "
                               "right was True")
        right = side == "right"
    if is_number(input):
        dtype = sequence.a.dtype
        if isinstance(input, float) and categories[dtype] != FLOATING:
            dtype = default_dtype
        values = number_like(input, dtype, sequence)
        if sequence.a.ndim != 1:
            raise RuntimeError("searchsorted(): input value can be a scalar only when boundaries tensor dimension "
                               f"is 1, but we got boundaries tensor dim({sequence.a.ndim})")
    else:
        values = as_operand(input, "searchsorted")
        dtype = promotions[sequence.a.dtype][values.a.dtype]
        if values.a.ndim == 0 and categories[values.a.dtype] <= categories[sequence.a.dtype]:
            dtype = sequence.a.dtype
    sequence, values = to_dtype(sequence, dtype), to_dtype(values, dtype)
    if sorter is not None:
        if shape_tuple(&(<TensorBase?> sorter).a) != shape_tuple(&sequence.a):
            raise RuntimeError("searchsorted(): boundary and sorter must have the same size, but got boundary tensor "
                               f"{list(shape_tuple(&sequence.a))} and got sorter tensor "
                               f"{list(shape_tuple(&(<TensorBase> sorter).a))}")
        sequence = gather_dim(sequence, sequence.a.ndim - 1, to_dtype(<TensorBase> sorter, FX_I64))
    if sequence.a.ndim == 0:
        raise RuntimeError("searchsorted(): boundaries tensor should have positive dimension, but got 0 dimension")
    fits = sequence.a.ndim == 1 or sequence.a.ndim == values.a.ndim
    if fits and sequence.a.ndim > 1:
        for d in range(sequence.a.ndim - 1):
            fits = fits and shape_of(sequence)[d] == shape_of(values)[d]
    if not fits:
        raise RuntimeError("searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of "
                           f"boundaries tensor and input value tensor must match, but we got boundaries tensor "
                           f"{list(shape_tuple(&sequence.a))} and input value tensor {list(shape_tuple(&values.a))}")
    begin(&f, SEARCHSORTED.kernel, sequence.a.dtype)
    out = make_like(&f, values, FX_I64)
    read(&f, sequence)
    read(&f, values)
    whole(&f, bool(right))
    run(&f, "searchsorted")
    return to_dtype(out, FX_I32) if out_int32 else out

cdef Op SEARCHSORTED = row("searchsorted", function=_searchsorted, out=True, family="ordering",
                           reference="np.searchsorted(sorted_sequence, input)",
                           sample="np.array([-1.0, 0.0, 0.5, 1.5]), t(3, 4)")


def _bucketize(input, boundaries, *, out_int32=False, right=False):
    """The number of the bucket that each element falls into, between `boundaries`, a sorted vector.

    Bucket i holds boundaries[i - 1] < x <= boundaries[i], or with `right` boundaries[i - 1] <= x < boundaries[i].
    """
    cdef TensorBase edges = as_operand(boundaries, "bucketize")
    if edges.a.ndim != 1:
        raise RuntimeError(f"bucketize(): boundaries tensor must be 1 dimension, but got dim({edges.a.ndim})")
    return _searchsorted(edges, input, out_int32=out_int32, right=right)

row("bucketize", function=_bucketize, composite=True, family="ordering", reference="np.searchsorted(boundaries, input)",
    out=True, sample="t(3, 4), np.array([-1.0, 0.0, 0.5, 1.5])")


# bincount, histc

def _bincount(input, weights=None, minlength=0):
    """How often each non-negative integer occurs in a vector, or the sum of its `weights`.

    Parameters
    ----------
    input : Tensor
        A vector of integers.
    weights : Tensor, optional
        Of the same length; the result is float32 for float32 weights, else float64.
    minlength : int
        Length of the result, at least.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.bincount(fx.tensor([0, 2, 2]))
    tensor([1, 0, 2])
    """
    cdef TensorBase x = as_operand(input, "bincount"), w = None, out
    cdef int64_t shape[1]
    cdef int64_t least = read_int("bincount", "minlength", minlength)
    cdef frame f
    if least < 0:
        raise RuntimeError("minlength should be >= 0")
    if categories[x.a.dtype] != INTEGRAL:
        raise NotImplementedError(f"[bincount] not implemented for {dtype_name(x.a.dtype)}")
    if x.a.ndim != 1:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    x = to_dtype(x, FX_I64)
    shape[0] = least
    if x.a.numel:
        if int(registry["amin"](x)) < 0:
            raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
        shape[0] = max(least, <int64_t> int(registry["amax"](x)) + 1)
    if weights is not None:
        w = alias(as_operand(weights, "bincount"))
        if w.a.ndim != 1 or w.a.numel != x.a.numel:
            raise RuntimeError(f"weights should be 1-d and have the same length as input, got {shape_tuple(&w.a)} and "
                               f"{shape_tuple(&x.a)}")
        if w.a.dtype != FX_F32:
            w = to_dtype(w, FX_F64)
    out = new_tensor(1, shape, FX_I64 if w is None else w.a.dtype, x.a.device_type, x.a.device_index)
    zero_out(out)
    if x.a.numel:
        begin(&f, BINCOUNT.kernel, out.a.dtype)
        adopt(&f, out)
        read(&f, x)
        if w is not None:
            read(&f, w)
        run(&f, "bincount")
    return out

cdef Op BINCOUNT = row("bincount", function=_bincount, method=True, reference="np.bincount(input, weights, minlength)",
                       sample="[(i(9, low=0, high=5),), (i(9, low=0, high=5), None, 8)]", family="ordering")


def _histc(input, bins=100, min=0, max=0):
    """Counts in `bins` equal bins between `min` and `max`, in the input's dtype; other elements are ignored.

    With min equal to max the range is that of the data.
    """
    cdef TensorBase x = as_operand(input, "histc"), out
    cdef int64_t shape[1]
    cdef double low = min, high = max
    cdef frame f
    if fx_is_half(x.a.dtype):
        return to_dtype(_histc(to_dtype(alias(x), FX_F32), bins, min, max), x.a.dtype)
    if categories[x.a.dtype] != FLOATING:
        raise NotImplementedError(f"[histc] not implemented for {dtype_name(x.a.dtype)}")
    shape[0] = read_int("histc", "bins", bins)
    if shape[0] <= 0:
        raise RuntimeError("bins must be > 0")
    if low == high and x.a.numel:
        low, high = float(registry["amin"](x)), float(registry["amax"](x))
    if low == high:
        low, high = low - 1, high + 1
    if not (low - low == 0 and high - high == 0):
        raise RuntimeError(f"range of [{low}, {high}] is not finite")
    if low > high:
        raise RuntimeError("max must be larger than min")
    x = reshape(alias(x), (x.a.numel,))
    begin(&f, HISTC.kernel, x.a.dtype)
    out = make(&f, 1, shape, x.a.dtype, x)
    read(&f, x)
    real(&f, low)
    real(&f, high)
    run(&f, "histc")
    return out

cdef Op HISTC = row("histc", function=_histc, method=True, reference="np.histogram(input, bins, (min, max))[0]",
                    out=True, sample="t(3, 4), 4, -2, 2", family="ordering")
