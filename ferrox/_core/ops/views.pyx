"""Views that select elements of their input: slices, diagonals, sliding windows, as_strided.

Note [Windows].  Every such view is recorded with its geometry relative to a contiguous tensor of the input's shape:
(offset, shape, strides, input shape).  One gradient serves them all: the cotangent is added into zeros through that
geometry (`_window_backward`), and the gradient of that is the view itself.
"""
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_MAX_DIMS, fx_itemsize
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.graph.node cimport Node, grad_enabled, record, record_frame, rule, wants
from ferrox._core.graph cimport node as graph
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport sub
from ferrox._core.ops.elementwise cimport in_place_operators
from ferrox._core.ops.shape cimport contiguous, expand, permute, read_dim, read_int, read_sizes, to_dtype, view_as
from ferrox._core.tensor.base cimport TensorBase, alias, checked_numel, needs_grad, new_tensor, new_view, offset_of, \
    shape_of, shape_tuple, stride_tuple, strides_of
from ferrox._core.tensor.frame cimport adopt, begin, frame, read, run, set_to

cdef int _strided_add = kernel_id("strided_add")


cdef void dense_strides_of(TensorBase x, int64_t *strides) noexcept:
    """Strides of a contiguous tensor of x's shape."""
    cdef int64_t step = 1
    cdef int d
    for d in range(x.a.ndim - 1, -1, -1):
        strides[d] = step
        step *= shape_of(x)[d]


cdef tuple _recipe(int ndim, const int64_t *shape, const int64_t *strides, int64_t offset, tuple input_shape):
    cdef int d
    return (offset, tuple([shape[d] for d in range(ndim)]), tuple([strides[d] for d in range(ndim)]), input_shape)


cdef TensorBase window(Op op, TensorBase x, int ndim, const int64_t *shape, const int64_t *strides, int64_t offset,
                       const int64_t *dense_strides, int64_t dense_offset):
    """The view of x under `op`; its geometry on x's memory, and on a contiguous tensor of x's shape."""
    cdef tuple recipe = None
    if grad_enabled() and needs_grad(x):
        recipe = _recipe(ndim, shape, dense_strides, dense_offset, shape_tuple(&x.a))
    return view_as(op, x, ndim, shape, strides, offset, recipe)


cdef TensorBase zeros(tuple sizes, int dtype, TensorBase like):
    """Zeros of a shape on the device of `like`."""
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int ndim = read_sizes("zeros", sizes, shape)
    cdef TensorBase out = new_tensor(ndim, shape, dtype, like.a.device_type, like.a.device_index)
    zero_out(out)
    return out


cdef int zero_out(TensorBase out) except -1:
    return set_to(out, 0)


cdef TensorBase _through(TensorBase x, tuple recipe):
    """The plain view of a contiguous x by a recipe, unrecorded."""
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int ndim = read_sizes("window", recipe[1], shape)
    read_sizes("window", recipe[2], strides)
    return new_view(x, ndim, shape, strides, recipe[0])


cdef object window_vjp(Node n, object g):
    return _window_backward(<TensorBase> g, n.params)


cdef object _backward_vjp(Node n, object g):
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef TensorBase x = contiguous(<TensorBase> g)
    cdef tuple recipe = n.params
    cdef int ndim = read_sizes("window", recipe[1], shape)
    read_sizes("window", recipe[2], strides)
    return window(SLICE, x, ndim, shape, strides, recipe[0], strides, recipe[0])

cdef Op WINDOW_BACKWARD = row("_window_backward", rule=rule(_backward_vjp), public=False,
                              doc="A cotangent added into zeros through a window; see Note [Windows].")


cdef TensorBase _window_backward(TensorBase g, tuple recipe):
    cdef TensorBase out = zeros(recipe[3], g.a.dtype, g)
    cdef TensorBase region = _through(out, recipe)
    cdef frame f
    begin(&f, _strided_add, g.a.dtype)
    adopt(&f, region)
    read(&f, g)
    run(&f, "window_backward")
    record_frame(WINDOW_BACKWARD, &f, out, recipe)
    return out


# slices

cdef Op SLICE = row("_slice", rule=rule(window_vjp), public=False, doc="Basic indexing, `x[1:3, 0]`.")


def _select(input, dim, index):
    """The slice at `index` along `dim`, a view without that dimension.

    Raises
    ------
    IndexError
        When the index is out of range.
    """
    cdef TensorBase x = <TensorBase?> input
    if x.a.ndim == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    return select_dim(x, read_dim(dim, x.a.ndim), PyNumber_Index(index))

cdef Op SELECT = row("select", function=_select, rule=rule(window_vjp), reference="np.take(input, index, dim)",
                     sample="[(t(3, 4), 1, 2), (t(3, 4), 0, -1)]", method=True)


cdef TensorBase select_dim(TensorBase x, int dim, int64_t index):
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int64_t dense[FX_MAX_DIMS]
    cdef int64_t kept[FX_MAX_DIMS]
    cdef int64_t size = shape_of(x)[dim]
    cdef int d, n = 0
    if not -size <= index < size:
        raise IndexError(f"[select] index {index} is out of range for dimension {dim} with size {size}")
    if index < 0:
        index += size
    dense_strides_of(x, dense)
    for d in range(x.a.ndim):
        if d != dim:
            shape[n] = shape_of(x)[d]
            strides[n] = strides_of(x)[d]
            kept[n] = dense[d]
            n += 1
    return window(SELECT, x, n, shape, strides, index * strides_of(x)[dim], kept, index * dense[dim])


cdef TensorBase slice_dim(TensorBase x, int dim, int64_t start, int64_t step, int64_t length):
    """x[..., start : start + step * length : step, ...] along one dimension; bounds are the caller's."""
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int64_t dense[FX_MAX_DIMS]
    cdef int64_t offset = start * strides_of(x)[dim], dense_offset
    cdef int d
    dense_strides_of(x, dense)
    dense_offset = start * dense[dim]
    for d in range(x.a.ndim):
        shape[d] = shape_of(x)[d]
        strides[d] = strides_of(x)[d]
    shape[dim] = length
    strides[dim] *= step
    dense[dim] *= step
    return window(SLICE, x, x.a.ndim, shape, strides, offset if length else 0, dense, dense_offset if length else 0)


def _narrow(input, dim, start, length):
    """`length` elements from `start` along `dim`, a view.

    Raises
    ------
    RuntimeError, IndexError
        When the range does not lie within the dimension.
    """
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t first = read_int("narrow", "start", start), count = read_int("narrow", "length", length), size
    if x.a.ndim == 0:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    if count < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    cdef int d = read_dim(dim, x.a.ndim)
    size = shape_of(x)[d]
    if not -size <= first <= size:
        raise IndexError(f"start out of range (expected to be in range of [{-size}, {size}], but got {first})")
    if first < 0:
        first += size
    if first + count > size:
        raise RuntimeError(f"start ({first}) + length ({count}) exceeds dimension size ({size}).")
    return narrow_dim(x, d, first, count)

cdef Op NARROW = row("narrow", function=_narrow, composite=True,
                     reference="np.take(input, range(start, start + length), dim)",
                     sample="t(3, 4), 1, 1, 2", method=True)


cdef TensorBase narrow_dim(TensorBase x, int dim, int64_t start, int64_t length):
    return slice_dim(x, dim, start, 1, length)


def _diagonal(input, offset=0, dim1=0, dim2=1):
    """The diagonal over two dimensions as a new last dimension, a view.

    Parameters
    ----------
    offset : int
        Above (positive) or below (negative) the main diagonal.
    """
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int64_t dense[FX_MAX_DIMS]
    cdef int64_t kept[FX_MAX_DIMS]
    cdef int64_t k = read_int("diagonal", "offset", offset), row_, column, length
    cdef int a = read_dim(dim1, x.a.ndim), b = read_dim(dim2, x.a.ndim), d, n = 0
    if x.a.ndim < 2 or a == b:
        raise RuntimeError(f"[diagonal] diagonal dimensions must be two different ones, got {dim1}, {dim2} of "
                           f"{x.a.ndim}")
    dense_strides_of(x, dense)
    for d in range(x.a.ndim):
        if d != a and d != b:
            shape[n] = shape_of(x)[d]
            strides[n] = strides_of(x)[d]
            kept[n] = dense[d]
            n += 1
    row_ = -k if k < 0 else 0
    column = k if k > 0 else 0
    length = min(shape_of(x)[a] - row_, shape_of(x)[b] - column)
    if length <= 0:
        length = row_ = column = 0
    shape[n] = length
    strides[n] = strides_of(x)[a] + strides_of(x)[b]
    kept[n] = dense[a] + dense[b]
    return window(DIAGONAL, x, n + 1, shape, strides, row_ * strides_of(x)[a] + column * strides_of(x)[b], kept,
                  row_ * dense[a] + column * dense[b])

cdef Op DIAGONAL = row("diagonal", function=_diagonal, rule=rule(window_vjp),
                       reference="np.diagonal(input, offset, dim1, dim2)",
                       sample="[(t(3, 4),), (t(2, 3, 4), -1, 0, 2)]", method=True)


def _unfold(input, dimension, size, step):
    """Sliding windows of `size` elements, `step` apart, along one dimension: a view, the window its last dimension."""
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int64_t dense[FX_MAX_DIMS]
    cdef int64_t length = read_int("unfold", "size", size), stride = read_int("unfold", "step", step)
    cdef int dim = read_dim(dimension, x.a.ndim), d
    cdef int64_t whole = shape_of(x)[dim] if x.a.ndim else 1
    if not 0 <= length <= whole:
        raise RuntimeError(f"maximum size for tensor at dimension {dim} is {whole} but size is {length}")
    if stride <= 0:
        raise RuntimeError(f"step is {stride} but must be > 0")
    dense_strides_of(x, dense)
    for d in range(x.a.ndim):
        shape[d] = shape_of(x)[d]
        strides[d] = strides_of(x)[d]
    if x.a.ndim == 0:
        shape[0] = length
        strides[0] = dense[0] = 1
        return window(UNFOLD, x, 1, shape, strides, 0, dense, 0)
    shape[x.a.ndim] = length
    strides[x.a.ndim] = strides[dim]
    dense[x.a.ndim] = dense[dim]
    shape[dim] = (whole - length) // stride + 1
    strides[dim] *= stride
    dense[dim] *= stride
    return window(UNFOLD, x, x.a.ndim + 1, shape, strides, 0, dense, 0)

cdef Op UNFOLD = row("unfold", function=_unfold, rule=rule(window_vjp), public=False, method=True,
                     reference="np.lib.stride_tricks.sliding_window_view(input, size, dimension)[:, ::step]",
                     sample="t(2, 7), 1, 3, 2")


# as_strided, and what in-place changes of views need

cdef tuple _dense_order(TensorBase x):
    """(dimensions from the largest stride to the smallest, whether x lies without gaps in that order)."""
    cdef list order = sorted(range(x.a.ndim), key=lambda d: (-x.stride(d), d))
    cdef int64_t step = 1
    if not x.numel():
        return order, True
    for d in reversed(order):
        if x.size(d) != 1 and x.stride(d) != step:
            return order, False
        step *= x.size(d)
    return order, True


def _as_strided(input, size, stride, storage_offset=None):
    """A view with any sizes and strides (in elements) on the input's storage.

    Parameters
    ----------
    storage_offset : int, optional
        Elements from the start of the storage; the input's own by default.

    Raises
    ------
    RuntimeError
        When an element would lie outside the storage, or a gradient is asked for and the input has gaps.
    """
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int64_t item = fx_itemsize(x.a.dtype), own = offset_of(x) // item, at, low, high
    cdef int ndim = read_sizes("as_strided", size, shape), d
    if read_sizes("as_strided", stride, strides) != ndim:
        raise RuntimeError(f"mismatch in length of strides and shape: {tuple(stride)} and {tuple(size)}")
    checked_numel(ndim, shape, item)
    at = low = high = own if storage_offset is None else storage_offset
    for d in range(ndim):
        if shape[d] == 0:
            low = high = 0
            break
        if strides[d] < 0:
            raise RuntimeError(f"as_strided: Negative strides are not supported, got {tuple(stride)}")
        high += (shape[d] - 1) * strides[d]
    if low < 0 or (high + 1) * item > <int64_t> x.a.storage.nbytes and high > 0:
        raise RuntimeError(f"setStorage: sizes {tuple(size)}, strides {tuple(stride)}, storage offset {at} are out of "
                           f"bounds for storage of size {x.a.storage.nbytes} bytes")
    return _strided(AS_STRIDED, x, ndim, shape, strides, at - own)


cdef TensorBase _strided(Op op, TensorBase x, int ndim, int64_t *shape, int64_t *strides, int64_t offset):
    cdef tuple params = None
    if grad_enabled() and needs_grad(x):
        order, dense = _dense_order(x)
        if not dense:
            raise RuntimeError(f"[{op.name}] the gradient needs an input without gaps; got shape {shape_tuple(&x.a)} "
                               f"with strides {stride_tuple(&x.a)}: use contiguous() first")
        params = (_recipe(ndim, shape, strides, offset, tuple([x.size(d) for d in order])), order)
    return view_as(op, x, ndim, shape, strides, offset, params)


cdef object _as_strided_vjp(Node n, object g):
    cdef list order = n.params[1], inverse = [0] * len(n.params[1])
    cdef TensorBase summed = _window_backward(<TensorBase> g, n.params[0])
    for at, d in enumerate(order):
        inverse[<int> d] = at
    return permute(summed, inverse)

cdef Op AS_STRIDED = row("as_strided", function=_as_strided, rule=rule(_as_strided_vjp),
                         reference="np.lib.stride_tricks.as_strided(input, size, [8 * s for s in stride])",
                         sample="t(3, 4), (2, 2), (4, 1)", method=True)


cdef TensorBase view_again(TensorBase base, TensorBase geometry):
    """The view that `geometry` is of `base`, recorded anew."""
    cdef int64_t offset = (<char *> geometry.a.data - <char *> base.a.data) // fx_itemsize(base.a.dtype)
    return _strided(AS_STRIDED, base, geometry.a.ndim, shape_of(geometry), strides_of(geometry), offset)


cdef object _scatter_view_vjp(Node n, object g):
    cdef tuple recipe = n.params[0]
    cdef list order = n.params[1], inverse = [0] * len(n.params[1])
    cdef TensorBase laid = contiguous(permute(<TensorBase> g, order)), value, rest = None
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int ndim = read_sizes("window", recipe[1], shape)
    read_sizes("window", recipe[2], strides)
    value = window(SLICE, laid, ndim, shape, strides, recipe[0], strides, recipe[0])
    if wants(n, 0):
        for at, d in enumerate(order):
            inverse[<int> d] = at
        rest = permute(sub(laid, _window_backward(value, recipe)), inverse)
    return rest, value


cdef Op SCATTER_VIEW = row("_scatter_view", rule=rule(_scatter_view_vjp), public=False,
                           doc="A tensor after one of its views was replaced by a value.")


cdef TensorBase scatter_view(TensorBase base, TensorBase geometry, TensorBase value):
    """Record that the window `geometry` of `base` now holds `value`; the memory has been written already."""
    cdef PyObject *inputs[2]
    cdef TensorBase out = alias(base)
    cdef int64_t offset = (<char *> geometry.a.data - <char *> base.a.data) // fx_itemsize(base.a.dtype)
    order, dense = _dense_order(base)
    if not dense:
        raise RuntimeError("an in-place change under gradients through a view of a tensor with gaps is not possible: "
                           "use contiguous() first")
    inputs[0] = <PyObject *> base
    inputs[1] = <PyObject *> value
    record(SCATTER_VIEW, inputs, 2, out,
           (_recipe(geometry.a.ndim, shape_of(geometry), strides_of(geometry), offset,
                    tuple([base.size(d) for d in order])), order))
    return out


cdef TensorBase conform(TensorBase result, TensorBase target):
    return to_dtype(expand(result, shape_tuple(&target.a)), target.a.dtype)


in_place_operators.view_again = view_again
in_place_operators.scatter_view = scatter_view
in_place_operators.conform = conform
graph.view_again = view_again
