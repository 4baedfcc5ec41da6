"""Tensors joined and taken apart: cat, stack, split and their kin; padding."""
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_MAX_DIMS
from ferrox._core.dtype cimport promotions
from ferrox._core.graph.node cimport Node, record_frame, rule, wants
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import alias_row, operators, row
from ferrox._core.ops.elementwise cimport as_operand
from ferrox._core.ops.shape cimport read_dim, read_int, reshape, to_dtype
from ferrox._core.ops.views cimport narrow_dim, select_dim, slice_dim, zeros
from ferrox._core.tensor.base cimport TensorBase, shape_of, shape_tuple
from ferrox._core.tensor.frame cimport begin, close_arrays, frame, make, more_arrays, read, run, whole

cdef enum:
    MOST_PARTS = 1 << 24


# cat

cdef object _cat_vjp(Node n, object g):
    cdef int dim = n.params[0], i
    cdef int64_t at = 0, size
    cdef list parts = []
    for i in range(n.n_in):
        size = n.params[1][i]
        parts.append(narrow_dim(<TensorBase> g, dim, at, size) if wants(n, i) and size >= 0 else None)
        at += max(size, 0)
    return tuple(parts)


cdef TensorBase concatenate(list tensors, int dim):
    """cat of tensors; `dim` is not negative."""
    cdef int n = <int> len(tensors), i, d, dtype = -1
    cdef TensorBase first = None, x, out
    cdef int64_t shape[FX_MAX_DIMS]
    cdef list sizes = []
    cdef frame f
    for x in tensors:
        if x.a.ndim == 0:
            raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated")
        dtype = x.a.dtype if dtype < 0 else promotions[dtype][x.a.dtype]
        # An empty one-dimensional tensor joins anything.
        if first is None and not (x.a.ndim == 1 and shape_of(x)[0] == 0):
            first = x
    if first is None:
        first = <TensorBase> tensors[0]
        dim = 0
    if dim >= first.a.ndim:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-first.a.ndim}, {first.a.ndim - 1}], "
                         f"but got {dim})")
    for d in range(first.a.ndim):
        shape[d] = shape_of(first)[d]
    shape[dim] = 0
    for i in range(n):
        x = <TensorBase> tensors[i]
        if x.a.ndim == 1 and shape_of(x)[0] == 0 and first.a.ndim != 1:
            sizes.append(-1)
            continue
        if x.a.ndim != first.a.ndim:
            raise RuntimeError(f"Tensors must have same number of dimensions: got {first.a.ndim} and {x.a.ndim}")
        for d in range(first.a.ndim):
            if d != dim and shape_of(x)[d] != shape[d]:
                raise RuntimeError(f"Sizes of tensors must match except in dimension {dim}. Expected size {shape[d]} "
                                   f"but got size {shape_of(x)[d]} for tensor number {i} in the list.")
        if x.a.device_type != first.a.device_type or x.a.device_index != first.a.device_index:
            raise RuntimeError(f"[cat] Expected all tensors to be on the same device, but found {first.device} and "
                               f"{x.device}")
        sizes.append(shape_of(x)[dim])
        shape[dim] += shape_of(x)[dim]
        if x.a.dtype != dtype:
            tensors[i] = to_dtype(x, dtype)
    begin(&f, CAT.kernel, dtype)
    more_arrays(&f, n + 1)
    try:
        out = make(&f, first.a.ndim, shape, dtype, first)
        for x in tensors:
            read(&f, x)
        whole(&f, dim)
        run(&f, "cat")
        if f.wants_grad:
            record_frame(CAT, &f, out, (dim, sizes))
    finally:
        close_arrays(&f)
    return out


cdef list _tensors(object tensors, str name):
    if isinstance(tensors, TensorBase):
        raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor")
    cdef list given = [as_operand(x, name) for x in tensors]
    if not given:
        raise RuntimeError(f"{name}(): expected a non-empty list of Tensors")
    return given


cdef int _widest(list tensors):
    cdef int ndim = 0
    for x in tensors:
        ndim = max(ndim, (<TensorBase> x).a.ndim)
    return ndim


def _cat(tensors, dim=0, *, axis=None):
    """Tensors joined along an existing dimension; all other sizes must agree.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.cat([fx.ones(2), fx.zeros(1)])
    tensor([1., 1., 0.])
    """
    cdef list given = _tensors(tensors, "cat")
    return concatenate(given, read_dim(dim if axis is None else axis, _widest(given)))

cdef Op CAT = row("cat", function=_cat, out=True, rule=rule(_cat_vjp), reference="np.concatenate(tensors, dim)",
                  sample="[([t(2, 3), t(1, 3)],), ([t(2, 3), t(2, 2)], 1)]")
alias_row("concat", "cat")
alias_row("concatenate", "cat")


def _stack(tensors, dim=0):
    """Tensors of one shape joined along a new dimension."""
    cdef list given = _tensors(tensors, "stack")
    cdef TensorBase first = <TensorBase> given[0]
    cdef int at = read_dim(dim, first.a.ndim + 1)
    shape = shape_tuple(&first.a)
    for i, x in enumerate(given):
        if shape_tuple(&(<TensorBase> x).a) != shape:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and "
                               f"{list(shape_tuple(&(<TensorBase> x).a))} at entry {i}")
    wide = shape[:at] + (1,) + shape[at:]
    return concatenate([reshape(<TensorBase> x, wide) for x in given], at)

row("stack", function=_stack, out=True, composite=True, reference="np.stack(tensors, dim)",
    sample="[([t(2, 3), t(2, 3)],), ([t(2, 3), t(2, 3)], -1)]")


cdef TensorBase _at_least(TensorBase x, int ndim):
    """Dimensions of size 1 added as NumPy's atleast_nd does."""
    shape = shape_tuple(&x.a)
    if len(shape) >= ndim:
        return x
    if len(shape) == 0:
        return reshape(x, (1,) * ndim)
    if ndim == 2:
        return reshape(x, (1,) + shape)
    return reshape(x, (1,) + shape + (1,) if len(shape) == 1 else shape + (1,))


def _hstack(tensors):
    """Joined along the second dimension, or the first for vectors."""
    cdef list given = [_at_least(<TensorBase> x, 1) for x in _tensors(tensors, "hstack")]
    return concatenate(given, 0 if (<TensorBase> given[0]).a.ndim == 1 else 1)

row("hstack", function=_hstack, out=True, composite=True, reference="np.hstack(tensors)", sample="[t(2, 3), t(2, 1)],")


def _vstack(tensors):
    """Joined as rows."""
    return concatenate([_at_least(<TensorBase> x, 2) for x in _tensors(tensors, "vstack")], 0)

row("vstack", function=_vstack, out=True, composite=True, reference="np.vstack(tensors)", sample="[t(3), t(3)],")
alias_row("row_stack", "vstack")


def _dstack(tensors):
    """Joined along the third dimension."""
    return concatenate([_at_least(<TensorBase> x, 3) for x in _tensors(tensors, "dstack")], 2)

row("dstack", function=_dstack, out=True, composite=True, reference="np.dstack(tensors)", sample="[t(2, 3), t(2, 3)],")


def _column_stack(tensors):
    """Vectors joined as columns, matrices along the second dimension."""
    cdef list given = []
    for x in _tensors(tensors, "column_stack"):
        given.append(reshape(<TensorBase> x, (-1, 1)) if (<TensorBase> x).a.ndim <= 1 else x)
    return concatenate(given, 1)

row("column_stack", function=_column_stack, out=True, composite=True, reference="np.column_stack(tensors)",
    sample="[t(3), t(3, 2)],")

for _n in (1, 2, 3):
    def _atleast(*tensors, _ndim=_n):
        """Dimensions of size 1 added where there are fewer; a tuple for several tensors."""
        if len(tensors) == 1 and not isinstance(tensors[0], (tuple, list)):
            return _at_least(<TensorBase?> tensors[0], _ndim)
        given = tensors[0] if len(tensors) == 1 else tensors
        return tuple([_at_least(<TensorBase?> x, _ndim) for x in given])

    row(f"atleast_{_n}d", function=_atleast, composite=True, reference=f"np.atleast_{_n}d(*tensors)", sample="t(3)")


# taken apart, as views

def _unbind(input, dim=0):
    """The slices along a dimension, a tuple of views."""
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t i
    if x.a.ndim == 0:
        raise RuntimeError("Dimension specified as 0 but tensor has no dimensions")
    cdef int d = read_dim(dim, x.a.ndim)
    return tuple([select_dim(x, d, i) for i in range(shape_of(x)[d])])

row("unbind", function=_unbind, composite=True, method=True,
    reference="tuple(np.moveaxis(input, dim, 0))", sample="t(2, 3), 1")


def _split(tensor, split_size_or_sections, dim=0):
    """Views of consecutive parts: of a size each (the last may be smaller), or of the sizes listed."""
    cdef TensorBase x = <TensorBase?> tensor
    cdef int64_t size, at = 0, length
    if x.a.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    cdef int d = read_dim(dim, x.a.ndim)
    length = shape_of(x)[d]
    if isinstance(split_size_or_sections, (tuple, list)):
        sizes = [read_int("split", "split_size_or_sections", each) for each in split_size_or_sections]
        if sum(sizes) != length or min(sizes, default=0) < 0:
            raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {length} (input tensor's size "
                               f"at dimension {d}), but got split_sizes={sizes}")
    else:
        size = read_int("split", "split_size_or_sections", split_size_or_sections)
        if size < 0 or (size == 0 and length):
            raise RuntimeError(f"split expects split_size be positive, but got split_size={size}")
        sizes = [min(size, length - start) for start in range(0, length, size)] if length else [0]
    parts = []
    for each in sizes:
        parts.append(narrow_dim(x, d, at, each))
        at += each
    return tuple(parts)

row("split", function=_split, composite=True, method=True,
    reference="np.split(tensor, [split_size_or_sections], dim)", sample="t(3, 4), 2, 1")


def _chunk(input, chunks, dim=0):
    """At most `chunks` views of equal size, the last one possibly smaller."""
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t n = read_int("chunk", "chunks", chunks)
    if x.a.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if n <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {n}")
    cdef int64_t length = shape_of(x)[read_dim(dim, x.a.ndim)]
    if length == 0:
        return _split(x, [0] * n, dim)
    return _split(x, (length + n - 1) // n, dim)

row("chunk", function=_chunk, composite=True, method=True,
    reference="np.split(input, [2], dim)", sample="t(2, 3), 2, 1")


def _tensor_split(input, indices_or_sections, dim=0):
    """Views: in a number of parts whose sizes differ by at most one, or split before the indices given."""
    cdef TensorBase x = <TensorBase?> input
    cdef int d
    cdef int64_t length, start, stop
    if x.a.ndim == 0:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    d = read_dim(dim, x.a.ndim)
    length = shape_of(x)[d]
    if isinstance(indices_or_sections, TensorBase):
        indices_or_sections = indices_or_sections.tolist()
    if hasattr(indices_or_sections, "__index__"):
        n = int(indices_or_sections)
        if n <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {n}")
        if n > MOST_PARTS:
            raise RuntimeError(f"[tensor_split] {n} sections are more than the {MOST_PARTS} there may be")
        small, more = divmod(length, n)
        return _split(x, [small + (i < more) for i in range(n)], dim)
    bounds = [slice(None, each).indices(length)[1] for each in indices_or_sections]
    parts = []
    start = 0
    for stop in bounds + [length]:
        parts.append(narrow_dim(x, d, start, max(stop - start, 0)))
        start = stop
    return tuple(parts)

row("tensor_split", function=_tensor_split, composite=True, method=True,
    reference="np.array_split(input, indices_or_sections, dim)", sample="[(t(7, 2), 3), (t(7, 2), [2, 5])]")


def _diag_embed(input, offset=0, dim1=-2, dim2=-1):
    """A tensor whose diagonals over two new dimensions are the input's last dimension, zero elsewhere."""
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t n = shape_of(x)[x.a.ndim - 1] if x.a.ndim else 1
    cdef int64_t k = read_int("diag_embed", "offset", offset), side = n + abs(k)
    cdef int a = read_dim(dim1, x.a.ndim + 1), b = read_dim(dim2, x.a.ndim + 1)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    shape = list(shape_tuple(&x.a))[:-1]
    for d in sorted((a, b)):
        shape.insert(d, side)
    out = zeros(tuple(shape), x.a.dtype, x)
    operators()["diagonal"](out, k, a, b).copy_(x)
    return out

row("diag_embed", function=_diag_embed, composite=True, method=True,
    reference="np.stack([np.diag(v, offset) for v in input])", sample="[(t(2, 3),), (t(2, 3), 1)]")


# pad

def _pad(input, pad, mode="constant", value=None):
    """The input with elements added at the ends of its last dimensions.

    Parameters
    ----------
    pad : sequence of int
        (before, after) of the last dimension, then of the one before it, …; negative numbers crop.
    mode : {"constant", "reflect", "replicate", "circular"}
        Where the added elements come from.
    value : float, optional
        For "constant"; 0 by default.

    Raises
    ------
    ValueError, RuntimeError
        For an odd number of sizes, an unknown mode, or a reflection larger than the dimension.
    """
    cdef TensorBase x = <TensorBase?> input, out
    cdef int i, d, n = <int> len(pad) // 2
    cdef int64_t before, after, size
    if len(pad) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if n > x.a.ndim:
        raise RuntimeError("Padding length should be less than or equal to two times the input dimension but got "
                           f"padding length {len(pad)} and input of dimension {x.a.ndim}")
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if mode != "constant" and value is not None:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if mode == "constant":
        shape = list(shape_tuple(&x.a))
        region = x
        window = []
        for i in range(n):
            d = x.a.ndim - 1 - i
            before, after = pad[2 * i], pad[2 * i + 1]
            size = shape[d]
            if size + before + after < 0:
                raise RuntimeError(f"The input size {size}, plus negative padding {before} and {after} resulted in a "
                                   "negative output size, which is invalid.")
            shape[d] = size + before + after
            region = narrow_dim(region, d, max(-before, 0), max(size + min(before, 0) + min(after, 0), 0))
            window.append((d, max(before, 0), shape_of(region)[d]))
        out = zeros(tuple(shape), x.a.dtype, x)
        if value:
            out.fill_(value)
        hole = out
        for d, start, length in window:
            hole = narrow_dim(hole, d, start, length)
        hole.copy_(region)
        return out
    if n > 3 or n == 0 or not x.a.ndim - 2 <= n <= x.a.ndim - 1:
        raise NotImplementedError("Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now")
    for i in range(n):
        d = x.a.ndim - 1 - i
        before, after = pad[2 * i], pad[2 * i + 1]
        size = shape_of(x)[d]
        if size + before + after < 0:
            raise RuntimeError(f"[pad] padding ({before}, {after}) leaves less than nothing of dimension {d} of input "
                               f"{list(shape_tuple(&x.a))}")
        if mode == "reflect" and max(before, after) >= size:
            raise RuntimeError(f"Padding size should be less than the corresponding input dimension, but got: padding "
                               f"({before}, {after}) at dimension {d} of input {list(shape_tuple(&x.a))}")
        if mode == "circular" and max(before, after) > size + min(before, 0) + min(after, 0):
            raise RuntimeError("Padding value causes wrapping around more than once.")
        middle = narrow_dim(x, d, max(-before, 0), size + min(before, 0) + min(after, 0))
        parts = [middle]
        if before > 0:
            parts.insert(0, _border(middle if mode == "circular" else x, d, mode, before, True))
        if after > 0:
            parts.append(_border(middle if mode == "circular" else x, d, mode, after, False))
        x = concatenate(parts, d) if len(parts) > 1 else middle
    return x

row("pad", function=_pad, composite=True, public="nn",
    reference="np.pad(input, [(0, 0), (pad[0], pad[1])], **({'constant_values': value or 0} if mode == 'constant' else "
              "{'mode': {'reflect': 'reflect', 'replicate': 'edge', 'circular': 'wrap'}[mode]}))",
    sample="[(t(2, 5), (1, 2)), (t(2, 5), (1, 2), 'constant', 3.0), (t(2, 5), (2, 1), 'reflect'), "
           "(t(2, 5), (2, 1), 'replicate'), (t(2, 5), (2, 1), 'circular')]")


cdef TensorBase _border(TensorBase x, int d, str mode, int64_t count, bint front):
    cdef int64_t size = shape_of(x)[d]
    cdef TensorBase edge
    if mode == "reflect":
        return slice_dim(x, d, count if front else size - 2, -1, count)
    if mode == "circular":
        return narrow_dim(x, d, size - count if front else 0, count)
    edge = narrow_dim(x, d, 0 if front else size - 1, 1)
    shape = list(shape_tuple(&edge.a))
    shape[d] = count
    return operators()["expand"](edge, shape)
