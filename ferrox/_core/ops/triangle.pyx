"""Triangles, diagonals and grids."""
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_CPU, FX_I64
from ferrox._core.door.device cimport as_device, device as _device
from ferrox._core.graph.node cimport Node, record_frame, rule
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import operators, row
from ferrox._core.ops.creation cimport read_dtype
from ferrox._core.ops.shape cimport expand, read_int, reshape
from ferrox._core.sizes cimport fx_add_clamped, fx_sub_clamped
from ferrox._core.tensor.base cimport TensorBase, new_tensor, on_one_device
from ferrox._core.tensor.frame cimport begin, converted, frame, make_like, read, run, whole
from ferrox._core.tensor.values cimport moved


# tril, triu

cdef TensorBase _triangle(Op op, TensorBase x, int64_t diagonal):
    cdef frame f
    cdef TensorBase out
    if x.a.ndim < 2:
        raise RuntimeError(f"[{op.name}] input tensor must have at least 2 dimensions, got {x.a.ndim}")
    # Beyond the corners all diagonals are alike; row + diagonal must not overflow.
    diagonal = max(-x.a.dims[x.a.ndim - 2] - 1, min(x.a.dims[x.a.ndim - 1] + 1, diagonal))
    begin(&f, op.kernel, x.a.dtype)
    out = make_like(&f, x, x.a.dtype)
    read(&f, x)
    whole(&f, diagonal)
    run(&f, op.name)
    record_frame(op, &f, out, diagonal)
    return out


cdef object _triangle_vjp(Node n, object g):
    return _triangle(n.op, <TensorBase> g, n.params)


def _tril(input, diagonal=0):
    """The lower triangles of matrices, zero elsewhere.

    Parameters
    ----------
    input : Tensor
        Matrices, in the last two dimensions.
    diagonal : int, default 0
        The last diagonal that is kept; positive above the main one.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.tril(fx.ones(2, 2))
    tensor([[1., 0.],
            [1., 1.]])
    """
    return _triangle(TRIL, <TensorBase?> input, read_int("tril", "diagonal", diagonal))

cdef Op TRIL = row("tril", function=_tril, out=True, rule=rule(_triangle_vjp), reference="np.tril(input, diagonal)",
                   sample="[(t(3, 4), 0), (t(2, 4, 3), -1), (t(3, 3), 1)]", method=True, inplace=True)


def _triu(input, diagonal=0):
    """The upper triangles of matrices, zero elsewhere.

    Parameters
    ----------
    input : Tensor
        Matrices, in the last two dimensions.
    diagonal : int, default 0
        The first diagonal that is kept; positive above the main one.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.triu(fx.ones(2, 2))
    tensor([[1., 1.],
            [0., 1.]])
    """
    return _triangle(TRIU, <TensorBase?> input, read_int("triu", "diagonal", diagonal))

cdef Op TRIU = row("triu", function=_triu, out=True, rule=rule(_triangle_vjp), reference="np.triu(input, diagonal)",
                   sample="[(t(3, 4), 0), (t(2, 4, 3), -1), (t(3, 3), 1)]", method=True, inplace=True)


cdef inline int64_t _kept(bint lower, int64_t i, int64_t columns, int64_t offset) noexcept:
    """How many columns the triangle has in row i."""
    cdef int64_t bound = fx_add_clamped(i + offset, 1) if lower else fx_sub_clamped(columns, i + offset)
    return 0 if bound < 0 else columns if bound > columns else bound


def _lower_total(n, m, offset):
    """How many elements the lower triangle of an n x m matrix has, in Python integers."""
    first_row = max(0, -offset)
    if first_row >= n:
        return 0
    ramp = max(0, min(n, m - offset - 1) - first_row)   # rows that are neither empty nor whole
    first = min(first_row + offset + 1, m)
    return ramp * first + ramp * (ramp - 1) // 2 + (n - first_row - ramp) * m


cdef object _indices(str name, bint lower, object rows, object columns, object diagonal, object dtype, object place):
    cdef int64_t n = read_int(name, "row", rows), m = read_int(name, "col", columns)
    cdef int64_t offset = read_int(name, "offset", diagonal)
    cdef int64_t shape[2]
    cdef int64_t i, j, count, first, total, at = 0, first_row, end
    cdef int64_t *values
    cdef TensorBase made
    cdef _device where
    cdef int code = read_dtype(dtype, FX_I64)
    if n < 0 or m < 0:
        raise RuntimeError(f"[{name}] row and col must be non-negative, got {n} and {m}")
    offset = max(-n, min(m, offset))
    count_of_all = _lower_total(n, m, offset) if lower else n * <object> m - _lower_total(n, m, offset - <object> 1)
    if count_of_all > 0x7fffffffffffffff:
        raise RuntimeError(f"[{name}] a triangle of a {n} x {m} matrix has too many elements")
    total = count_of_all
    # The rows with elements.
    first_row = max(<int64_t> 0, -offset) if lower else 0
    end = n if lower else min(n, fx_sub_clamped(m, offset))
    shape[0] = 2
    shape[1] = total
    made = new_tensor(2, shape, FX_I64, FX_CPU, 0)
    values = <int64_t *> made.a.data
    for i in range(first_row, end if total else first_row):
        count = _kept(lower, i, m, offset)
        first = 0 if lower else m - count
        for j in range(count):
            values[at] = i
            values[total + at] = first + j
            at += 1
    if code != FX_I64:
        made = converted(made, code)
    if place is not None:
        where = as_device(place)
        if where.type_code != FX_CPU:
            made = moved(made, where.type_code, where.index_code)
    return made


def _tril_indices(row, col, offset=0, *, dtype=None, device=None):  # no-cython-lint: PyTorch names it row
    """Row and column numbers of the lower triangle of a `row` x `col` matrix, as a tensor of two rows.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.tril_indices(2, 2)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    return _indices("tril_indices", True, row, col, offset, dtype, device)


def _triu_indices(row, col, offset=0, *, dtype=None, device=None):  # no-cython-lint: PyTorch names it row
    """Row and column numbers of the upper triangle of a `row` x `col` matrix, as a tensor of two rows.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.triu_indices(2, 2)
    tensor([[0, 0, 1],
            [0, 1, 1]])
    """
    return _indices("triu_indices", False, row, col, offset, dtype, device)

row("tril_indices", function=_tril_indices, composite=True, reference="np.stack(np.tril_indices(3, 1, 4))",
    sample="(3, 4, 1)")
row("triu_indices", function=_triu_indices, composite=True, reference="np.stack(np.triu_indices(4, -1, 3))",
    sample="(4, 3, -1)")


# diag

def _diag(input, diagonal=0):
    """A matrix with a vector on one of its diagonals, or a copy of that diagonal of a matrix.

    Parameters
    ----------
    input : Tensor
        A vector or a matrix.
    diagonal : int, default 0
        Which; positive above the main one.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.diag(fx.tensor([1, 2]))
    tensor([[1, 0],
            [0, 2]])
    """
    cdef TensorBase x = <TensorBase?> input
    if x.a.ndim == 1:
        return operators()["diag_embed"](x, diagonal)
    if x.a.ndim == 2:
        return operators()["diagonal"](x, diagonal).clone()
    raise RuntimeError(f"[diag] supports 1D or 2D tensors, got {x.a.ndim}D")

row("diag", function=_diag, out=True, composite=True, method=True, reference="np.diag(input, diagonal)",
    sample="[(t(4), 1), (t(3, 4), -1), (t(3, 3), 0)]")


# meshgrid

def _meshgrid(*tensors, indexing="ij"):
    """Coordinate grids: one tensor of the common shape for each vector, varying along its own dimension only.

    Parameters
    ----------
    *tensors : Tensor, or one sequence of them
        Vectors, or tensors without dimensions.
    indexing : {"ij", "xy"}, default "ij"
        "xy" exchanges the first two dimensions, as NumPy does by default.

    Returns
    -------
    tuple of Tensor
        Views.

    Examples
    --------
    >>> import ferrox as fx
    >>> x, y = fx.meshgrid(fx.tensor([1, 2]), fx.tensor([3, 4, 5]))
    >>> y
    tensor([[3, 4, 5],
            [3, 4, 5]])
    """
    cdef TensorBase x
    cdef list grids = [], shape
    cdef int n, i
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if not tensors:
        raise RuntimeError("[meshgrid] expects a non-empty tensor list")
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f"[meshgrid] indexing must be one of \"xy\" or \"ij\", but received: {indexing}")
    n = len(tensors)
    sizes = []
    for each in tensors:
        x = <TensorBase?> each
        if x.a.ndim > 1:
            raise RuntimeError(f"[meshgrid] Expected 0D or 1D tensor in the tensor list but got shape {x.shape}")
        if x.a.dtype != (<TensorBase> tensors[0]).a.dtype:
            raise RuntimeError("[meshgrid] expects all tensors to have the same dtype, got "
                               f"{[tensor.dtype.name for tensor in tensors]}")
        if not on_one_device(x, <TensorBase> tensors[0]):
            raise RuntimeError("[meshgrid] expects all tensors to have the same device, got "
                               f"{[str(tensor.device) for tensor in tensors]}")
        sizes.append(x.a.numel)
    swap = indexing == "xy" and n > 1
    if swap:
        tensors = (tensors[1], tensors[0], *tensors[2:])
        sizes[0], sizes[1] = sizes[1], sizes[0]
    for i in range(n):
        shape = [1] * n
        shape[i] = sizes[i]
        grids.append(expand(reshape(<TensorBase> tensors[i], shape), sizes))
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)

row("meshgrid", function=_meshgrid, composite=True)
