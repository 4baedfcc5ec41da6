"""Reading and writing whole slices along one dimension by an index vector; masks as sources; repeats; embedding."""
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_BOOL, FX_I32, FX_I64, FX_MAX_DIMS
from ferrox._core.dtype cimport FLOATING, categories, dtype_name
from ferrox._core.graph.node cimport Node, record_frame, rule, saved_input, wants
from ferrox._core.graph.op cimport Op, registry
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport div, mul
from ferrox._core.ops.elementwise cimport as_operand, is_number
from ferrox._core.ops.gather_scatter cimport added_to_zeros, changed, counting, last_written, number_like, unless, \
    whole_numbers
from ferrox._core.ops.join cimport concatenate
from ferrox._core.ops.shape cimport expand, read_dim, read_int, reshape, to_dtype
from ferrox._core.ops.views cimport zeros
from ferrox._core.tensor.base cimport TensorBase, alias, needs_grad, shape_of, shape_tuple
from ferrox._core.tensor.frame cimport begin, frame, make, number, read, run, whole


cdef TensorBase _vector(str name, object index):
    cdef TensorBase i = whole_numbers(name, index)
    if i.a.ndim > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector, but got dim: {i.a.ndim}")
    return reshape(i, (1,)) if i.a.ndim == 0 else i


# index_select

cdef object _index_select_vjp(Node n, object g):
    return index_add_zeros(n.params[1], n.params[0], saved_input(n, 1), <TensorBase> g), None


def _index_select(input, dim, index):
    """The slices at `index`, a vector of int64 or int32, along one dimension.

    Raises
    ------
    IndexError
        When the index is not a vector, or out of range.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.index_select(fx.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, fx.tensor([1, 1]))
    tensor([[2., 2.],
            [4., 4.]])
    """
    cdef TensorBase x = <TensorBase?> input, at = _vector("index_select", index)
    cdef int d = read_dim(dim, x.a.ndim)
    if x.a.ndim == 0 and at.a.numel != 1:
        raise RuntimeError("index_select(): Index to scalar can have only 1 value, got "
                           f"{at.a.numel} value(s)")
    return index_select_dim(x, d, at)

cdef Op INDEX_SELECT = row("index_select", function=_index_select, rule=rule(_index_select_vjp), needs=("1", ""),
                           out=True, method=True,
                           reference="np.take(input, index, dim)", family="indexing",
                           sample="[(t(3, 4), 1, i(5, low=0, high=4)), (t(3, 4), 0, i(2, low=0, high=3))]")


cdef TensorBase _selected(Op op, TensorBase x, int dim, TensorBase index, object kept):
    cdef int64_t shape[FX_MAX_DIMS]
    cdef frame f
    cdef TensorBase out
    cdef int d
    for d in range(x.a.ndim):
        shape[d] = shape_of(x)[d]
    if x.a.ndim:
        shape[dim] = index.a.numel
    begin(&f, op.kernel, x.a.dtype)
    out = make(&f, x.a.ndim, shape, x.a.dtype, x)
    read(&f, x)
    read(&f, index)
    whole(&f, dim)
    run(&f, op.name)
    record_frame(op, &f, out, kept)
    return out


cdef TensorBase index_select_dim(TensorBase x, int dim, TensorBase index):
    return _selected(INDEX_SELECT, x, dim, index, (dim, shape_tuple(&x.a)) if needs_grad(x) else None)


# index_add, index_copy, index_fill

cdef TensorBase _slices(str name, TensorBase x, int dim, TensorBase index, object source):
    """The source of index_add and index_copy, checked."""
    cdef TensorBase s = as_operand(source, name)
    cdef list own, given
    cdef int64_t length
    if s.a.ndim == 0 and x.a.ndim == 1:
        s = reshape(s, (1,))
    own, given = list(shape_tuple(&x.a)), list(shape_tuple(&s.a))
    length = shape_of(s)[dim] if s.a.ndim > dim else 1
    if s.a.dtype != x.a.dtype:
        raise RuntimeError(f"{name}(): self ({dtype_name(x.a.dtype)}) and source ({dtype_name(s.a.dtype)}) must "
                           "have the same scalar type")
    if index.a.numel != length:
        kind = RuntimeError if name == "index_add" else IndexError    # as PyTorch
        raise kind(f"{name}(): Number of indices ({index.a.numel}) should be equal to source.size(dim): ({length}), "
                   f"for dim: {dim}")
    if s.a.ndim != x.a.ndim and not (max(s.a.ndim, x.a.ndim) == 1):
        raise IndexError(f"{name}(): When source and destination are not scalars, their dimensionality must match. "
                         f"Source dimensionality ({s.a.ndim}), destination dimensionality ({x.a.ndim})")
    if own[:dim] != given[:dim] or own[dim + 1:] != given[dim + 1:]:
        raise RuntimeError(f"{name}(): source tensor shape must match self tensor shape, excluding the specified "
                           f"dimension. Got self.shape = {own} source.shape = {given}")
    return s


cdef object _index_add_vjp(Node n, object g):
    cdef object gs = None
    if wants(n, 2):
        gs = index_select_dim(<TensorBase> g, n.params[0], saved_input(n, 1))
        if n.params[1] != 1:
            gs = mul(gs, n.params[1])
    return g, None, gs


cdef object _added(object input, object dim, object index, object source, object alpha, bint here):
    cdef TensorBase x = <TensorBase?> input, at = _vector("index_add", index)
    cdef int d = read_dim(dim, x.a.ndim)
    cdef frame f
    if isinstance(alpha, float) and categories[x.a.dtype] != FLOATING:
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    begin(&f, INDEX_ADD.kernel, x.a.dtype)
    whole(&f, d)
    number(&f, alpha)
    return changed(&f, INDEX_ADD, x, at, _slices("index_add", x, d, at, source), (d, alpha), here)


def _index_add(input, dim, index, source, *, alpha=1):
    """A copy of the input with `alpha` times the slices of `source` added to the slices at `index`.

    Parameters
    ----------
    input : Tensor
    dim : int
    index : Tensor
        A vector of int64 or int32, as long as `source` along `dim`.  Where it repeats, all are added, in order.
    source : Tensor
        Of the input's dtype, and of its shape but for `dim`.
    alpha : number

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.index_add(fx.zeros(3), 0, fx.tensor([2, 2]), fx.tensor([1.0, 4.0]))
    tensor([0., 0., 5.])
    """
    return _added(input, dim, index, source, alpha, False)


def _index_add_(input, dim, index, source, *, alpha=1):
    """In-place version of `index_add`."""
    return _added(input, dim, index, source, alpha, True)

cdef Op INDEX_ADD = row("index_add", function=_index_add, rule=rule(_index_add_vjp), needs=("", "", "1"), method=True,
                        out=True, inplace=_index_add_, family="indexing",
                        reference="(lambda y: (np.add.at(y, index, source), y)[1])(input.copy())",
                        sample="t(3, 4), 0, i(5, low=0, high=3), t(5, 4)")


cdef TensorBase index_add_zeros(tuple shape, int dim, TensorBase index, TensorBase src):
    """Slices added into zeros: the gradient of whatever picks slices."""
    cdef TensorBase out = zeros(shape, src.a.dtype, src)
    cdef frame f
    begin(&f, INDEX_ADD.kernel, src.a.dtype)
    whole(&f, dim)
    number(&f, 1)
    added_to_zeros(&f, INDEX_ADD, out, index, src, (dim, 1))
    return out


cdef TensorBase _kept_slices(TensorBase g, int dim, TensorBase index):
    """The slices of g at an index vector, zero where a later position of the index points to the same place."""
    cdef TensorBase picked = index_select_dim(g, dim, index), last
    if index.a.numel < 2:
        return picked
    last = last_written((shape_of(g)[dim] if g.a.ndim else 1,), 0, index)
    return mul(picked, reshape(last, (-1,) + (1,) * (g.a.ndim - 1 - dim) if g.a.ndim else ()))


cdef object _index_copy_vjp(Node n, object g):
    cdef TensorBase index = saved_input(n, 1)
    return (_filled(g, n.params, index, 0.0, False) if wants(n, 0) else None, None,
            _kept_slices(<TensorBase> g, n.params, index) if wants(n, 2) else None)


cdef object _copied(object input, object dim, object index, object source, bint here):
    cdef TensorBase x = <TensorBase?> input, at = _vector("index_copy", index)
    cdef int d = read_dim(dim, x.a.ndim)
    cdef frame f
    begin(&f, INDEX_COPY.kernel, x.a.dtype)
    whole(&f, d)
    return changed(&f, INDEX_COPY, x, at, _slices("index_copy", x, d, at, source), d, here)


def _index_copy(input, dim, index, source):
    """A copy of the input with the slices at `index` replaced by those of `source`; arguments as for `index_add`."""
    return _copied(input, dim, index, source, False)


def _index_copy_(input, dim, index, source):
    """In-place version of `index_copy`."""
    return _copied(input, dim, index, source, True)

cdef Op INDEX_COPY = row("index_copy", function=_index_copy, out=True, rule=rule(_index_copy_vjp), needs=("1", "", "1"),
                         method=True,
                         inplace=_index_copy_, family="indexing",
                         reference="(lambda y: (y.__setitem__(index, source), y)[1])(input.copy())",
                         sample="t(5, 4), 0, np.array([3, 0, 2]), t(3, 4)")


cdef object _index_fill_vjp(Node n, object g):
    cdef TensorBase index = saved_input(n, 1)
    cdef object gx = _filled(g, n.params, index, 0.0, False) if wants(n, 0) else None
    if not wants(n, 2):
        return gx, None, None
    # Unlike index_fill, index_select takes no negative index.
    index = registry["remainder"](index, shape_of(<TensorBase> g)[<int> n.params] if (<TensorBase> g).a.ndim else 1)
    return gx, None, registry["sum"](_kept_slices(<TensorBase> g, n.params, index))


cdef object _filled(object input, object dim, object index, object value, bint here):
    cdef TensorBase x = <TensorBase?> input, at = _vector("index_fill", index), v
    cdef int d = read_dim(dim, x.a.ndim)
    cdef frame f
    if is_number(value):
        v = number_like(value, x.a.dtype, x)
    else:
        v = as_operand(value, "index_fill")
        if v.a.ndim:
            raise RuntimeError("index_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                               f"{v.a.ndim} dimension(s).")
        v = to_dtype(v, x.a.dtype)
    begin(&f, INDEX_FILL.kernel, x.a.dtype)
    whole(&f, d)
    return changed(&f, INDEX_FILL, x, at, v, d, here)


def _index_fill(input, dim, index, value):
    """A copy of the input with the slices at `index` filled with `value`, a number or a tensor without dimensions."""
    return _filled(input, dim, index, value, False)


def _index_fill_(input, dim, index, value):
    """In-place version of `index_fill`."""
    return _filled(input, dim, index, value, True)

cdef Op INDEX_FILL = row("index_fill", function=_index_fill, rule=rule(_index_fill_vjp), needs=("1", "", "1"),
                         method=True,
                         inplace=_index_fill_, family="indexing",
                         reference="(lambda y: (y.__setitem__((slice(None), index), value), y)[1])(input.copy())",
                         sample="t(3, 4), 1, np.array([3, 0]), 2.5")


# masked_scatter

cdef object _masked_scatter_vjp(Node n, object g):
    mask = saved_input(n, 1)
    cdef TensorBase picked
    cdef object gx = unless(mask, g) if wants(n, 0) else None, gs = None
    cdef int64_t missing
    if wants(n, 2):
        picked = registry["masked_select"](g, mask)
        missing = n.params[1] - picked.a.numel
        if missing:
            picked = concatenate([picked, zeros((missing,), picked.a.dtype, picked)], 0)
        gs = reshape(picked, n.params[0])
    return gx, None, gs


cdef object _masked(object input, object mask, object source, bint here):
    cdef TensorBase x = <TensorBase?> input, m = as_operand(mask, "masked_scatter")
    cdef TensorBase s = as_operand(source, "masked_scatter")
    cdef frame f
    if m.a.dtype != FX_BOOL:
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype "
                           f"{dtype_name(m.a.dtype)}")
    if s.a.dtype != x.a.dtype:
        raise RuntimeError("masked_scatter: expected self and source to have same dtypes but got "
                           f"{dtype_name(x.a.dtype)} and {dtype_name(s.a.dtype)}")
    if here:
        m = expand(m, shape_tuple(&x.a))
    else:
        x, m = registry["broadcast_tensors"](x, m)
    begin(&f, MASKED_SCATTER.kernel, x.a.dtype)
    return changed(&f, MASKED_SCATTER, x, m, s, (shape_tuple(&s.a), s.a.numel), here)


def _masked_scatter(input, mask, source):
    """A copy of the input with the elements where `mask` is true replaced by those of `source`, taken in order.

    Raises
    ------
    ValueError
        When the source has fewer elements than the mask true ones.
    """
    return _masked(input, mask, source, False)


def _masked_scatter_(input, mask, source):
    """In-place version of `masked_scatter`."""
    return _masked(input, mask, source, True)

cdef Op MASKED_SCATTER = row("masked_scatter", function=_masked_scatter, rule=rule(_masked_scatter_vjp),
                             needs=("1", "", "1"),
                             method=True, inplace=_masked_scatter_, family="indexing",
                             reference="(lambda y: (y.__setitem__(mask, source.ravel()[:mask.sum()]), y)[1])"
                                       "(input.copy())",
                             sample="t(3, 4), b(3, 4), t(12)")


# repeat_interleave

def _repeat_interleave(input, repeats=None, dim=None, *, output_size=None):
    """Each element repeated, along `dim` or in the flattened input.

    Parameters
    ----------
    input : Tensor
    repeats : int or Tensor
        How often: one number for all, or a vector of one for each slice.  Without it, `input` holds the numbers and the
        result is the positions, each as often as its number says.
    dim : int, optional
    output_size : int, optional
        Size of the result along `dim`, checked.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.repeat_interleave(fx.tensor([1.0, 2.0]), 2)
    tensor([1., 1., 2., 2.])
    >>> fx.tensor([[1.0, 2.0], [3.0, 4.0]]).repeat_interleave(fx.tensor([2, 1]), dim=0)
    tensor([[1., 2.],
            [1., 2.],
            [3., 4.]])
    """
    cdef TensorBase x = <TensorBase?> input, counts
    cdef int d
    cdef int64_t times
    if output_size is not None:
        output_size = read_int("repeat_interleave", "output_size", output_size)
    if repeats is None:
        return _positions(x, output_size)
    if dim is None:
        x = reshape(x, (-1,) if x.a.numel else (0,))
        dim = 0
    d = read_dim(dim, x.a.ndim)
    shape = list(shape_tuple(&x.a)) if x.a.ndim else [1]
    if isinstance(repeats, TensorBase):
        counts = <TensorBase> repeats
    elif is_number(repeats):
        times = read_int("repeat_interleave", "repeats", repeats)
        if times < 0:
            raise RuntimeError("Repeats must be non-negative")
        wide = expand(reshape(x, shape[:d + 1] + [1] + shape[d + 1:]), shape[:d + 1] + [times] + shape[d + 1:])
        out = registry["clone"](reshape(wide, shape[:d] + [shape[d] * times] + shape[d + 1:]))
        if output_size is not None and output_size != shape[d] * times:
            raise RuntimeError(f"allocated size does not match required size: {output_size} and {shape[d] * times}")
        return out
    else:
        counts = as_operand(repeats, "repeat_interleave")
    if counts.a.ndim > 1:
        raise RuntimeError("repeats must be 0-dim or 1-dim tensor")
    if counts.a.numel == 1:
        counts = expand(reshape(counts, (1,)), (shape[d],))
    if counts.a.numel != shape[d]:
        raise RuntimeError("repeats must have the same size as input along dim, but got repeats.size(0) = "
                           f"{counts.a.numel} and input.size({d}) = {shape[d]}")
    if x.a.ndim == 0:
        x = reshape(x, (1,))
    return index_select_dim(x, d, _positions(counts, output_size))

row("repeat_interleave", function=_repeat_interleave, composite=True, method=True, family="movement",
    reference="np.repeat(input, repeats, dim)",
    sample="[(t(2, 3), 2), (t(2, 3), 2, 1), (t(2, 3), np.array([1, 0, 2]), 1)]")


cdef TensorBase _positions(TensorBase counts, object output_size):
    """0 … n - 1, each as often as `counts` says."""
    cdef int64_t total = 0
    if counts.a.ndim != 1:
        raise RuntimeError("repeat_interleave only accept 1D vector as repeat")
    if counts.a.dtype != FX_I64 and counts.a.dtype != FX_I32:
        raise RuntimeError("repeats has to be Long or Int tensor")
    if counts.a.numel == 0:
        return counting(0, counts)
    if bool(registry["any"](registry["lt"](counts, 0))):
        raise RuntimeError("repeats can not be negative")
    ends = registry["cumsum"](counts, 0)
    total = int(ends[counts.a.numel - 1])
    if output_size is not None and output_size != total:
        raise RuntimeError(f"allocated size does not match required size: {output_size} and {total}")
    return registry["searchsorted"](ends, counting(total, counts), right=True)


# embedding

cdef object _embedding_vjp(Node n, object g):
    cdef TensorBase index = saved_input(n, 1), rows = <TensorBase> g, summed, counts
    shape, padding, by_frequency = n.params
    rows = reshape(rows, (index.a.numel,) + shape[1:])
    if by_frequency:
        counts = registry["bincount"](index, minlength=shape[0])
        rows = div(rows, reshape(index_select_dim(counts, 0, index), (-1, 1)))
    summed = index_add_zeros(shape, 0, index, rows)
    if padding >= 0:
        summed = _filled(summed, 0, number_like(padding, FX_I64, summed), 0.0, False)
    return summed, None


def _embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """Rows of a table looked up by index.

    Parameters
    ----------
    input : Tensor
        Indices, int64 or int32, of any shape.
    weight : Tensor
        The table, (rows, features).
    padding_idx : int, optional
        A row that receives no gradient; negative ones count from the end.
    max_norm : float, optional
        First scale the rows that are looked up, in place, to at most this `norm_type` norm.
    scale_grad_by_freq : bool
        Divide each row's gradient by how often it was looked up.
    sparse : bool
        Accepted; gradients are dense.

    Returns
    -------
    Tensor
        Of shape `input.shape + (features,)`.
    """
    cdef TensorBase table = <TensorBase?> weight, at = whole_numbers("embedding", input), flat, picked
    cdef int64_t padding = -1, size
    if table.a.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    size = shape_of(table)[0]
    if padding_idx is not None:
        padding = padding_idx
        if not -size <= padding < size:
            raise ValueError("Padding_idx must be within num_embeddings")
        padding += size if padding < 0 else 0
    flat = reshape(at, (at.a.numel,))
    if max_norm is not None:
        _renormalise(table, flat, max_norm, norm_type)
    picked = _selected(EMBEDDING, table, 0, flat,
                       (shape_tuple(&table.a), padding, bool(scale_grad_by_freq)) if needs_grad(table) else None)
    return reshape(picked, shape_tuple(&at.a) + (shape_of(table)[1],))

cdef Op EMBEDDING = row("embedding", kernel="index_select", function=_embedding, rule=rule(_embedding_vjp),
                        needs=("1", ""),
                        reference="weight[input]", sample="i(2, 3, low=0, high=5), t(5, 4)", family="indexing")


cdef int _renormalise(TensorBase table, TensorBase flat, double max_norm, object norm_type) except -1:
    """Scale the rows of `table` that are looked up to at most max_norm."""
    cdef TensorBase plain = alias(table), used, rows, norms, scale
    used = registry["unique"](flat)
    rows = index_select_dim(plain, 0, used)
    norms = registry["norm"](rows, norm_type, 1, True)
    scale = registry["where"](registry["gt"](norms, max_norm),
                              div(number_like(max_norm, norms.a.dtype, norms), norms + 1e-7),
                              number_like(1, norms.a.dtype, norms))
    _copied(plain, 0, used, mul(rows, scale), True)
    return 0


def _one_hot(input, num_classes=-1):
    """A last dimension of `num_classes` added, 1 at the index and 0 elsewhere, as int64.

    Parameters
    ----------
    input : Tensor
        int64 classes.
    num_classes : int
        By default one more than the greatest class.
    """
    cdef TensorBase x = <TensorBase?> input, at = whole_numbers("one_hot", input), out
    cdef int64_t classes = read_int("one_hot", "num_classes", num_classes)
    cdef int64_t shape[FX_MAX_DIMS]
    cdef frame f
    cdef int d
    if classes == -1:
        if x.a.numel == 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        classes = int(registry["amax"](at)) + 1
    if classes <= 0 and x.a.numel == 0:
        raise RuntimeError("num_classes should be positive")
    if x.a.numel and int(registry["amin"](at)) < 0:
        raise RuntimeError("Class values must be non-negative.")
    if x.a.numel and int(registry["amax"](at)) >= classes:
        raise RuntimeError("Class values must be smaller than num_classes.")
    for d in range(x.a.ndim):
        shape[d] = shape_of(x)[d]
    shape[x.a.ndim] = classes
    begin(&f, ONE_HOT.kernel, FX_I64)
    out = make(&f, x.a.ndim + 1, shape, FX_I64, x)
    read(&f, at)
    run(&f, "one_hot")
    return out

cdef Op ONE_HOT = row("one_hot", function=_one_hot, reference="np.eye(num_classes, dtype=np.int64)[input]",
                      sample="i(2, 3, low=0, high=4), 4", family="indexing")
