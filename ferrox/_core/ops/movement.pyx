"""Dimensions added, dropped, merged, moved, repeated; flips, rolls and padding."""
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_BOOL, FX_CPU, FX_MAX_DIMS, FX_U8, fx_itemsize
from ferrox._core.door.dispatch cimport count_change
from ferrox._core.dtype cimport as_dtype, dtype, dtype_name
from ferrox._core.graph.node cimport grad_enabled, rule
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import alias_row, operators, row
from ferrox._core.ops.join cimport concatenate
from ferrox._core.ops.shape cimport contiguous, expand, permute_vjp, permuted, read_dim, read_int, reshape, \
    reshape_vjp, transpose, view_as, viewed
from ferrox._core.ops.views cimport narrow_dim, slice_dim
from ferrox._core.ops.elementwise cimport check_leaf, shadow, take_history
from ferrox._core.sizes cimport fx_mul
from ferrox._core.tensor.base cimport TensorBase, alias, needs_grad, offset_of, reinterpreted_view, set_data, \
    shape_of, shape_tuple, strides_of
from ferrox._core.tensor.interchange cimport holds_bools


def _spread(tuple args):
    """`f(2, 3)` and `f((2, 3))` alike."""
    if len(args) == 1 and not hasattr(args[0], "__index__"):
        return tuple(args[0])
    return args


# reshapes by other names

cdef bint _holds_bools(TensorBase x) except -1:
    """Whether the memory of x, of dtype bool, holds 0 and 1 alone; on a GPU its kernels look."""
    cdef TensorBase numbers
    if x.a.device_type == FX_CPU:
        return holds_bools(x)
    numbers = alias(x)
    numbers.a.dtype = FX_U8
    return operators()["amax"](numbers).item() <= 1


cdef TensorBase _reinterpreted(TensorBase x, int to):
    """The bytes of x read as `dtype`; no gradient flows through, as in PyTorch."""
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int64_t old = fx_itemsize(x.a.dtype), new = fx_itemsize(to), ratio
    cdef int d, last = x.a.ndim - 1
    cdef TensorBase out
    for d in range(x.a.ndim):
        shape[d], strides[d] = shape_of(x)[d], strides_of(x)[d]
    if old != new:
        if last < 0:
            raise RuntimeError(f"[view] self.dim() cannot be 0 to view {dtype_name(x.a.dtype)} as {dtype_name(to)} "
                               "(different element sizes)")
        ratio = max(old, new) // min(old, new)
        if old < new and shape[last] % ratio:
            raise RuntimeError(f"[view] self.size(-1) must be divisible by {ratio} to view {dtype_name(x.a.dtype)} as "
                               f"{dtype_name(to)} (different element sizes), but got {shape[last]}")
        if old < new and <size_t> x.a.data % <size_t> new:
            raise RuntimeError(f"[view] self.storage_offset() must be divisible by {ratio} to view "
                               f"{dtype_name(x.a.dtype)} as {dtype_name(to)} (different element sizes), but got "
                               f"{offset_of(x) // old}")
        if strides[last] != 1 and shape[last] != 1:
            raise RuntimeError(f"[view] self.stride(-1) must be 1 to view {dtype_name(x.a.dtype)} as {dtype_name(to)} "
                               f"(different element sizes), but got {strides[last]}")
        if old < new:
            shape[last] //= ratio
        elif not fx_mul(shape[last], ratio, &shape[last]):
            raise RuntimeError(f"[view] a tensor of shape {shape_tuple(&x.a)} is too large to view as {dtype_name(to)}")
        for d in range(last):
            if old < new and strides[d] % ratio:
                raise RuntimeError(f"[view] self.stride({d}) must be divisible by {ratio} to view "
                                   f"{dtype_name(x.a.dtype)} as {dtype_name(to)} (different element sizes), but got "
                                   f"{strides[d]}")
            strides[d] = strides[d] // ratio if old < new else strides[d] * ratio
        strides[last] = 1
    out = reinterpreted_view(x, to, x.a.ndim, shape, strides, 0)
    if to == FX_BOOL and x.a.dtype != FX_BOOL and x.a.numel and not _holds_bools(out):
        raise RuntimeError(f"[view] the bytes of {dtype_name(x.a.dtype)} hold others than 0 and 1, which bool has not; "
                           "x != 0 makes a bool tensor of them")
    return out


def _view(input, *shape):
    """The same memory in another shape, or its bytes read as another dtype.

    Parameters
    ----------
    shape : ints, a sequence of ints, or dtype
        Sizes, one of which may be -1; or the dtype to read the bytes as: the last dimension grows or shrinks when its
        elements are of another size, and no gradient flows through.

    Raises
    ------
    RuntimeError
        Where the strides do not allow it without a copy (use reshape).

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.arange(4).view(2, 2)
    tensor([[0, 1],
            [2, 3]])
    >>> fx.tensor(1.0).view(fx.int32)
    tensor(1065353216, dtype=ferrox.int32)
    """
    if len(shape) == 1 and isinstance(shape[0], (dtype, type)):
        return _reinterpreted(<TensorBase?> input, as_dtype(shape[0]))
    return viewed(VIEW, <TensorBase?> input, _spread(shape), True)

cdef Op VIEW = row("view", function=_view, rule=rule(reshape_vjp), reference="input.reshape(shape)",
                   sample="t(3, 4), (2, 6)", method=True, public=False)


def _reshape_as(input, other):
    """`input.reshape(other.shape)`."""
    return reshape(<TensorBase?> input, shape_tuple(&(<TensorBase?> other).a))

row("reshape_as", function=_reshape_as, composite=True, method=True, public=False,
    reference="input.reshape(other.shape)", sample="t(3, 4), t(2, 6)")


def _view_as(input, other):
    """`input.view(other.shape)`."""
    return viewed(VIEW, <TensorBase?> input, shape_tuple(&(<TensorBase?> other).a), True)

row("view_as", function=_view_as, composite=True, method=True, public=False,
    reference="input.reshape(other.shape)", sample="t(3, 4), t(2, 6)")


cdef list _kept_dims(TensorBase x, object dim):
    """Dimensions that a squeeze over `dim` drops."""
    cdef int d
    if dim is None:
        return [d for d in range(x.a.ndim) if shape_of(x)[d] == 1]
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    found = {read_dim(each, x.a.ndim) for each in dims}
    return [d for d in range(x.a.ndim) if d in found and shape_of(x)[d] == 1]


def _squeeze(input, dim=None):
    """A view without the dimensions of size 1, all or those named; others are left alone."""
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef list dropped = _kept_dims(x, dim)
    cdef int d, n = 0
    for d in range(x.a.ndim):
        if d not in dropped:
            shape[n] = shape_of(x)[d]
            strides[n] = strides_of(x)[d]
            n += 1
    return view_as(SQUEEZE, x, n, shape, strides, 0, shape_tuple(&x.a))

cdef Op SQUEEZE = row("squeeze", function=_squeeze, rule=rule(reshape_vjp), reference="np.squeeze(input, dim)",
                      sample="[(t(3, 1, 4, 1),), (t(3, 1, 4, 1), 1)]", method=True)


def _unsqueeze(input, dim):
    """A view with a dimension of size 1 inserted at `dim`."""
    cdef TensorBase x = <TensorBase?> input
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int at = read_dim(dim, x.a.ndim + 1), d
    for d in range(x.a.ndim):
        shape[d + (d >= at)] = shape_of(x)[d]
        strides[d + (d >= at)] = strides_of(x)[d]
    shape[at] = 1
    strides[at] = shape_of(x)[at] * strides_of(x)[at] if at < x.a.ndim else 1
    return view_as(UNSQUEEZE, x, x.a.ndim + 1, shape, strides, 0, shape_tuple(&x.a))

cdef Op UNSQUEEZE = row("unsqueeze", function=_unsqueeze, rule=rule(reshape_vjp),
                        reference="np.expand_dims(input, dim)", sample="[(t(3, 4), 1), (t(3, 4), -1)]", method=True)


def _flatten(input, start_dim=0, end_dim=-1):
    """The dimensions from start_dim to end_dim as one."""
    cdef TensorBase x = <TensorBase?> input
    cdef int first = read_dim(start_dim, x.a.ndim), last = read_dim(end_dim, x.a.ndim)
    cdef int64_t merged = 1
    cdef int d
    if first > last:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if x.a.ndim == 0:
        return reshape(x, (1,))
    if first == last:
        return x
    for d in range(first, last + 1):
        merged *= shape_of(x)[d]
    shape = shape_tuple(&x.a)
    return viewed(FLATTEN, x, shape[:first] + (merged,) + shape[last + 1:], False)

cdef Op FLATTEN = row("flatten", function=_flatten, rule=rule(reshape_vjp), method=True,
                      reference="input.reshape(input.shape[:start_dim] + (-1,)) if end_dim == -1 "
                                "else input.reshape(6, 4)",
                      sample="[(t(2, 3, 4),), (t(2, 3, 4), 1), (t(2, 3, 4), 0, 1)]")


def _ravel(input):
    """All elements in one dimension."""
    return viewed(FLATTEN, <TensorBase?> input, (-1,) if (<TensorBase> input).a.numel else (0,), False)

row("ravel", function=_ravel, composite=True, reference="np.ravel(input)", sample="t(2, 3)", method=True)


def _unflatten(input, dim, sizes):
    """One dimension as several, of the sizes given; one of them may be -1."""
    cdef TensorBase x = <TensorBase?> input
    cdef int d = read_dim(dim, x.a.ndim)
    sizes = [read_int("unflatten", "sizes", size) for size in sizes]
    known = 1
    if -1 in sizes:
        for size in sizes:
            known *= size if size != -1 else 1
        if known:
            sizes[sizes.index(-1)] = shape_of(x)[d] // known
    shape = shape_tuple(&x.a)
    known = 1
    for size in sizes:
        known *= size
    if known != shape[d]:
        raise RuntimeError(f"unflatten: Provided sizes {sizes} don't multiply up to the size of dim {d} ({shape[d]}) "
                           "in the input tensor")
    return viewed(RESHAPED, x, shape[:d] + tuple(sizes) + shape[d + 1:], False)

cdef Op RESHAPED = row("unflatten", function=_unflatten, rule=rule(reshape_vjp), method=True,
                       reference="input.reshape(2, 3, 4)", sample="t(6, 4), 0, (2, -1)")


# dimensions moved

def _t(input):
    """The transpose of a matrix, a view; vectors and numbers are returned as they are."""
    cdef TensorBase x = <TensorBase?> input
    if x.a.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {x.a.ndim}D")
    return transpose(x, 0, 1) if x.a.ndim == 2 else x

row("t", function=_t, composite=True, reference="input.T", sample="t(3, 4)", method=True)


def _swapaxes(input, axis0, axis1):
    """A view with two dimensions exchanged; `transpose` with NumPy's names."""
    return operators()["transpose"](input, axis0, axis1)

row("swapaxes", function=_swapaxes, composite=True, method=True, reference="np.swapaxes(input, axis0, axis1)",
    sample="t(2, 3, 4), 0, -1")
alias_row("swapdims", "transpose")


def _movedim(input, source, destination):
    """A view with the dimensions `source` moved to `destination`, the others in order."""
    cdef TensorBase x = <TensorBase?> input
    cdef list from_, to, order, rest
    from_ = [read_dim(d, x.a.ndim) for d in (source if isinstance(source, (tuple, list)) else (source,))]
    to = [read_dim(d, x.a.ndim) for d in (destination if isinstance(destination, (tuple, list)) else (destination,))]
    if len(from_) != len(to):
        raise RuntimeError(f"movedim: Invalid source or destination dims: source ({source}) should contain the same "
                           f"number of dims as destination ({destination})")
    if len(set(from_)) != len(from_) or len(set(to)) != len(to):
        raise RuntimeError(f"movedim: repeated dim in source ({source}) or destination ({destination})")
    order = [None] * x.a.ndim
    for a, b in zip(from_, to):
        order[<int> b] = a
    rest = [d for d in range(x.a.ndim) if d not in from_]
    rest.reverse()
    for d in range(x.a.ndim):
        if order[<int> d] is None:
            order[<int> d] = rest.pop()
    return permuted(MOVEDIM, x, order)

cdef Op MOVEDIM = row("movedim", function=_movedim, rule=rule(permute_vjp), method=True,
                      reference="np.moveaxis(input, source, destination)", sample="t(2, 3, 4), 0, 2")
alias_row("moveaxis", "movedim")


# dimensions repeated

def _expand_as(input, other):
    """`input.expand(other.shape)`."""
    return expand(<TensorBase?> input, shape_tuple(&(<TensorBase?> other).a))

row("expand_as", function=_expand_as, composite=True, method=True, public=False,
    reference="np.broadcast_to(input, other.shape)", sample="t(3, 1), t(3, 4)")


def _broadcast_to(input, size):
    """`input.expand(size)`."""
    return expand(<TensorBase?> input, size)

row("broadcast_to", function=_broadcast_to, composite=True, method=True,
    reference="np.broadcast_to(input, size)", sample="t(3, 1), (2, 3, 4)")


def broadcast_shapes(*shapes):
    """The shape that tensors of the given shapes broadcast to."""
    result = []
    for shape in shapes:
        shape = list(shape) if not hasattr(shape, "__index__") else [shape]
        shape = [1] * (len(result) - len(shape)) + shape
        result = [1] * (len(shape) - len(result)) + result
        for d, (a, b) in enumerate(zip(result, shape)):
            if a != b and a != 1 and b != 1:
                raise RuntimeError("Shape mismatch: objects cannot be broadcast to a single shape: "
                                   + ", ".join(str(tuple(each)) for each in shapes))
            result[d] = b if a == 1 else a
    return tuple(result)


def _broadcast_tensors(*tensors):
    """The tensors expanded to their common shape, a tuple of views."""
    tensors = _spread(tensors) if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    shape = broadcast_shapes(*[shape_tuple(&(<TensorBase?> x).a) for x in tensors])
    return tuple([expand(<TensorBase> x, shape) for x in tensors])

row("broadcast_tensors", function=_broadcast_tensors, composite=True,
    reference="np.broadcast_arrays(*tensors)", sample="t(3, 1), t(1, 4)")


def _repeat(input, *repeats):
    """The tensor repeated along each dimension, a copy; further leading dimensions may be given."""
    cdef TensorBase x = <TensorBase?> input
    cdef list counts = [read_int("repeat", "repeats", each) for each in _spread(repeats)], shape, wide, merged
    cdef int lead = len(counts) - x.a.ndim
    if lead < 0:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    for each in counts:
        if each < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {each}: {counts}")
    shape = [1] * lead + list(shape_tuple(&x.a))
    # Each dimension becomes (count, size): expanded over the count, then merged by a copy.
    split, wide, merged = [], [], []
    for count, size in zip(counts, shape):
        split += [1, size]
        wide += [count, size]
        merged.append(count * size)
    out = reshape(expand(reshape(x, split), wide), merged)
    return out if (<TensorBase> out).a.storage != x.a.storage else operators()["clone"](out)

row("repeat", function=_repeat, composite=True, method=True, public=False,
    reference="np.tile(input, repeats)", sample="t(2, 3), (2, 1, 2)")


def _tile(input, *dims):
    """As `repeat`, but missing leading counts are 1."""
    cdef TensorBase x = <TensorBase?> input
    dims = _spread(dims)
    return _repeat(x, (1,) * (x.a.ndim - len(dims)) + tuple(dims))

row("tile", function=_tile, composite=True, method=True, reference="np.tile(input, dims)", sample="t(2, 3), (2,)")


# flips, rolls

def _flip(input, *dims):
    """The elements in reverse order along `dims`, a copy."""
    cdef TensorBase x = <TensorBase?> input
    cdef int d
    numbers = [read_dim(each, x.a.ndim) for each in _spread(dims)]
    if len(set(numbers)) != len(numbers):
        raise RuntimeError(f"dim {numbers} appears multiple times in the list of dims")
    if x.a.ndim:
        for d in numbers:
            if shape_of(x)[d]:
                x = slice_dim(x, d, shape_of(x)[d] - 1, -1, shape_of(x)[d])
    return operators()["clone"](x)

row("flip", function=_flip, composite=True, method=True, reference="np.flip(input, dims)", sample="t(3, 4), (0, 1)")


def _fliplr(input):
    """`flip(input, 1)`."""
    if (<TensorBase?> input).a.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return _flip(input, 1)

row("fliplr", function=_fliplr, composite=True, method=True, reference="np.fliplr(input)", sample="t(3, 4)")


def _flipud(input):
    """`flip(input, 0)`."""
    if (<TensorBase?> input).a.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return _flip(input, 0)

row("flipud", function=_flipud, composite=True, method=True, reference="np.flipud(input)", sample="t(3, 4)")


def _roll(input, shifts, dims=None):
    """Elements moved along `dims` by `shifts`, those that fall off coming in at the other end."""
    cdef TensorBase x = <TensorBase?> input
    cdef int d
    cdef int64_t size, shift
    if dims is None or (isinstance(dims, (tuple, list)) and not dims):
        if isinstance(shifts, (tuple, list)):
            if len(shifts) != 1:
                raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:0")
            shifts = shifts[0]
        return reshape(_roll(reshape(x, (-1,)), shifts, 0), shape_tuple(&x.a)) if x.a.numel else operators()["clone"](x)
    shifts = shifts if isinstance(shifts, (tuple, list)) else (shifts,)
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    if len(shifts) != len(dims):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    for each, dim in zip(shifts, dims):
        d = read_dim(dim, x.a.ndim)
        size = shape_of(x)[d]
        if size == 0:
            continue
        shift = read_int("roll", "shifts", each) % size
        if shift:
            x = concatenate([narrow_dim(x, d, size - shift, shift), narrow_dim(x, d, 0, size - shift)], d)
    return operators()["clone"](x) if x is input else x

row("roll", function=_roll, composite=True, method=True, reference="np.roll(input, shifts, dims)",
    sample="[(t(3, 4), 1, 0), (t(3, 4), (1, -2), (0, 1))]")


def _rot90(input, k=1, dims=(0, 1)):
    """Rotated by 90 degrees k times in the plane of two dimensions, from the first towards the second."""
    cdef TensorBase x = <TensorBase?> input
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    a, b = read_dim(dims[0], x.a.ndim), read_dim(dims[1], x.a.ndim)
    if a == b:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    cdef int64_t turns = read_int("rot90", "k", k) % 4
    if turns == 0:
        return operators()["clone"](x)
    if turns == 2:
        return _flip(x, a, b)
    turned = _flip(x, b) if turns == 1 else _flip(x, a)
    return contiguous(transpose(<TensorBase> turned, a, b))

row("rot90", function=_rot90, composite=True, method=True, reference="np.rot90(input, k, dims)",
    sample="[(t(3, 4),), (t(3, 4), 3)]")


# In-place forms of views: the tensor itself becomes the view.

def _becoming(str name):
    cdef Op op = operators()[name]

    def become(input, *args, **keywords):
        cdef TensorBase x = <TensorBase?> input, made
        if grad_enabled():
            check_leaf(x)
        made = op(shadow(x), *args, **keywords)
        count_change(op.name, &x.a)
        set_data(x, made)
        if needs_grad(made):
            take_history(x, made)
        return x

    become.__name__ = become.__qualname__ = name + "_"
    become.__wrapped__ = op         # whose signature it has
    become.__doc__ = f"In-place version of `{name}`: this tensor becomes the view."
    return become


for _name in ("squeeze", "unsqueeze", "t", "transpose", "swapaxes", "as_strided"):
    operators()[_name].row["inplace"] = _becoming(_name)
