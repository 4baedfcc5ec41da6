"""Indexing: `x[...]`, `x[...] = value`, and the operators that read or write through index tensors.

Note [Indexing].  A key is taken apart in two steps.  Ints, slices, None and Ellipsis make one view (`_basic`).  What is
left, tensors of integers or booleans, selects from that view by advanced indexing (`index_get`); a mask counts as the
indices of its true elements.  The result's index dimensions stand where the first index stood if all indices are
neighbours, else in front, as in PyTorch and NumPy (ints count as basic, as in PyTorch).
"""
from cpython.bool cimport PyBool_Check
from cpython.long cimport PyLong_Check
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from cpython.slice cimport PySlice_AdjustIndices, PySlice_Unpack
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_BOOL, FX_CPU, FX_I64, FX_MAX_DIMS, FX_U8, fx_scalar
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.dtype cimport FLOATING, INTEGRAL, categories, dtype_name
from ferrox._core.graph.node cimport Node, grad_enabled, record, record_frame, rule, saved_input, wants
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import operators, row
from ferrox._core.ops.elementwise cimport as_operand, assign, is_number, shadow
from ferrox._core.ops.shape cimport expand, reshape, to_dtype
from ferrox._core.ops.views cimport dense_strides_of, select_dim, window, window_vjp, zeros
from ferrox._core.tensor.base cimport TensorBase, needs_grad, new_tensor, shape_of, shape_tuple, strides_of
from ferrox._core.tensor.frame cimport adopt, begin, close_arrays, frame, make, make_shaped, more_arrays, \
    more_params, read, run, whole, write
from ferrox._core.tensor.values cimport moved

cdef enum:
    MAX_INDICES = 32

cdef int _count_true = kernel_id("count_true")
cdef Op GETITEM = row("getitem", rule=rule(window_vjp), public=False, doc="x[...] by ints, slices, None and Ellipsis.")


# views

cdef inline bint _is_int(object key) noexcept:
    return PyLong_Check(key) and not PyBool_Check(key)


cdef int _count_dims(tuple keys) except -1:
    """Dimensions of x that the keys use up."""
    cdef int used = 0
    for key in keys:
        if key is None or key is Ellipsis or PyBool_Check(key):
            continue
        if isinstance(key, TensorBase) and (<TensorBase> key).a.dtype in (FX_BOOL, FX_U8):
            used += (<TensorBase> key).a.ndim
        else:
            used += 1
    return used


cdef TensorBase _basic(TensorBase x, tuple keys, list advanced):
    """The view by the basic keys; tensors are put into `advanced` as (dimension of the view, tensor)."""
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int64_t kept[FX_MAX_DIMS]
    cdef int64_t dense[FX_MAX_DIMS]
    cdef int64_t offset = 0, dense_offset = 0, index, size, length
    cdef Py_ssize_t start, stop, step
    cdef int ndim = x.a.ndim, d = 0, n = 0, _, rest, width
    cdef bint ellipsis = False
    rest = ndim - _count_dims(keys)
    if rest < 0:
        raise IndexError(f"too many indices for tensor of dimension {ndim}")
    dense_strides_of(x, dense)
    for key in keys:
        if _is_int(key):
            index = key
            size = shape_of(x)[d]
            if not -size <= index < size:
                raise IndexError(f"index {index} is out of bounds for dimension {d} with size {size}")
            if index < 0:
                index += size
            offset += index * strides_of(x)[d]
            dense_offset += index * dense[d]
            d += 1
        elif isinstance(key, slice):
            PySlice_Unpack(key, &start, &stop, &step)
            if step < 0:
                raise ValueError("step must be greater than zero")
            length = PySlice_AdjustIndices(shape_of(x)[d], &start, &stop, step)
            shape[n] = length
            strides[n] = strides_of(x)[d] * step
            kept[n] = dense[d] * step
            if length:
                offset += start * strides_of(x)[d]
                dense_offset += start * dense[d]
            n += 1
            d += 1
        elif key is None or PyBool_Check(key):
            if key is not None:
                advanced.append((n, _truth(x, key)))
            shape[n] = 1
            strides[n] = kept[n] = 0
            n += 1
        elif key is Ellipsis:
            if ellipsis:
                raise IndexError("an index can only have a single ellipsis ('...')")
            ellipsis = True
            for _ in range(rest):
                shape[n] = shape_of(x)[d]
                strides[n] = strides_of(x)[d]
                kept[n] = dense[d]
                n += 1
                d += 1
        else:
            advanced.append((n, key))
            width = 1
            if (<TensorBase> key).a.dtype in (FX_BOOL, FX_U8):
                width = (<TensorBase> key).a.ndim
            for _ in range(width):
                shape[n] = shape_of(x)[d]
                strides[n] = strides_of(x)[d]
                kept[n] = dense[d]
                n += 1
                d += 1
        if n >= FX_MAX_DIMS:
            raise IndexError(f"the result would have more than {FX_MAX_DIMS} dimensions")
    while d < ndim:
        shape[n] = shape_of(x)[d]
        strides[n] = strides_of(x)[d]
        kept[n] = dense[d]
        n += 1
        d += 1
    return window(GETITEM, x, n, shape, strides, offset, kept, dense_offset)


cdef TensorBase _truth(TensorBase x, bint value):
    """x[True] adds a dimension of size 1, x[False] one of size 0: as an index tensor of one or no zero."""
    return zeros((1,) if value else (0,), FX_I64, x)


cdef tuple _keys(TensorBase x, object key):
    """The key as a tuple whose members are ints, slices, None, Ellipsis, bools or tensors."""
    cdef list keys = []
    for each in key if isinstance(key, tuple) else (key,):
        if each is None or each is Ellipsis or isinstance(each, (slice, int)):
            keys.append(_plain_slice(each) if isinstance(each, slice) else each)
        elif isinstance(each, TensorBase):
            if (<TensorBase> each).a.ndim == 0 and categories[(<TensorBase> each).a.dtype] == INTEGRAL:
                keys.append(int(each))
            elif (<TensorBase> each).a.ndim == 0 and (<TensorBase> each).a.dtype == FX_BOOL:
                keys.append(bool(each))
            else:
                keys.append(_checked_index(<TensorBase> each))
        elif isinstance(each, (list, tuple, range)):
            made = operators()["tensor"](list(each))
            keys.append(_checked_index(to_dtype(made, FX_I64) if (<TensorBase> made).a.numel == 0 else made))
        elif hasattr(each, "__index__") and not hasattr(each, "__array__"):
            keys.append(PyNumber_Index(each))
        else:
            try:
                made = as_operand(each, "getitem")
            except TypeError:
                if hasattr(each, "__index__"):
                    keys.append(PyNumber_Index(each))
                    continue
                raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or bool tensors are "
                                 f"valid indices, got {type(each).__name__}") from None
            if (<TensorBase> made).a.ndim == 0 and categories[(<TensorBase> made).a.dtype] == INTEGRAL:
                keys.append(int(made))
            else:
                keys.append(_checked_index(made))
    return tuple(keys)


cdef object _plain_slice(object each):
    """Bounds that are 0-d tensors become ints."""
    if isinstance(each.start, TensorBase) or isinstance(each.stop, TensorBase) or isinstance(each.step, TensorBase):
        return slice(*[int(v) if isinstance(v, TensorBase) else v for v in (each.start, each.stop, each.step)])
    return each


cdef TensorBase _checked_index(TensorBase index):
    if categories[index.a.dtype] == FLOATING:
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors, got "
                         f"{dtype_name(index.a.dtype)}")
    return index


cdef list _mask_indices(TensorBase x, int at, TensorBase mask):
    """The indices of a mask's true elements, one tensor for each of its dimensions."""
    cdef int d
    for d in range(mask.a.ndim):
        if shape_of(mask)[d] != shape_of(x)[at + d]:
            raise IndexError(f"The shape of the mask {list(shape_tuple(&mask.a))} at index {d} does not match the "
                             f"shape of the indexed tensor {list(shape_tuple(&x.a))} at index {at + d}")
    cdef TensorBase found = nonzero(mask)
    return [(at + d, select_dim(found, 1, d)) for d in range(mask.a.ndim)]


cdef tuple _resolved(TensorBase x, list advanced):
    """Masks replaced by indices, all as int64 of one shape; returns (dims, tensors, position of the index dims)."""
    cdef list flat = [], dims, tensors
    cdef TensorBase index
    for at, key in advanced:
        index = <TensorBase> key
        if index.a.device_type == FX_CPU and x.a.device_type != FX_CPU:
            index = moved(index, x.a.device_type, x.a.device_index)
        if index.a.dtype == FX_BOOL or index.a.dtype == FX_U8:
            flat.extend(_mask_indices(x, at, index))
        else:
            flat.append((at, to_dtype(index, FX_I64)))
    if len(flat) > MAX_INDICES:
        raise IndexError(f"more than {MAX_INDICES} index tensors")
    dims = [at for at, _ in flat]
    try:
        tensors = list(operators()["broadcast_tensors"](*[each for _, each in flat]))
    except RuntimeError:
        shapes = ", ".join(str(list(shape_tuple(&(<TensorBase> each).a))) for _, each in flat)
        raise IndexError("shape mismatch: indexing tensors could not be broadcast together with shapes "
                         f"{shapes}") from None
    neighbours = all(b == a + 1 for a, b in zip(dims, dims[1:]))
    return dims, tensors, dims[0] if neighbours else 0


cdef int _read_dims(frame *f, TensorBase x, list dims) except -1:
    """Which index tensor goes along each dimension of x, -1 for none: the last parameters of index_get, index_put."""
    cdef int d
    for d in range(x.a.ndim):
        whole(f, dims.index(d) if d in dims else -1)
    return 0


cdef tuple _result_shape(TensorBase x, list dims, list tensors, int at):
    cdef list kept = [shape_of(x)[d] for d in range(x.a.ndim) if d not in dims]
    kept[at:at] = list(shape_tuple(&(<TensorBase> tensors[0]).a))
    return tuple(kept)


cdef object _index_vjp(Node n, object g):
    dims, at, shape = n.params
    tensors = [saved_input(n, i + 1) for i in range(n.n_in - 1)]
    out = zeros(shape, (<TensorBase> g).a.dtype, <TensorBase> g)
    return (put(out, dims, tensors, at, <TensorBase> g, True),) + (None,) * (n.n_in - 1)

# The gradient of an index tensor is never asked for; x's needs them all.
cdef Op INDEX = row("index", rule=rule(_index_vjp), needs=("1234567",), public=False, doc="x[...] by index tensors.")


cdef TensorBase _index(TensorBase x, list dims, list tensors, int at):
    cdef frame f
    cdef fx_scalar room[FX_MAX_DIMS + 2]
    cdef TensorBase out, each
    if needs_grad(x) and grad_enabled() and len(tensors) > 7:
        raise NotImplementedError("[index] more than 7 index tensors under gradients")
    begin(&f, _index_get, x.a.dtype)
    more_params(&f, room)
    more_arrays(&f, <int> len(tensors) + 2)
    try:
        out = make_shaped(&f, _result_shape(x, dims, tensors, at), x.a.dtype, x)
        read(&f, x)
        for each in tensors:
            read(&f, each)
        whole(&f, len(dims))
        whole(&f, at)
        _read_dims(&f, x, dims)
        run(&f, "index")
        if f.wants_grad:
            record_frame(INDEX, &f, out, (dims, at, shape_tuple(&x.a)))
    finally:
        close_arrays(&f)
    return out

cdef int _index_get = kernel_id("index_get")


cdef TensorBase get_item(TensorBase x, object key):
    cdef list advanced
    if _is_int(key):
        if x.a.ndim == 0:
            raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` to convert a 0-dim tensor to a "
                             "number")
        return _select_named(x, key)
    advanced = []
    cdef TensorBase view = _basic(x, _keys(x, key), advanced)
    if not advanced:
        return view
    dims, tensors, at = _resolved(view, advanced)
    return _index(view, dims, tensors, at)


cdef TensorBase _select_named(TensorBase x, int64_t index):
    cdef int64_t size = shape_of(x)[0]
    if not -size <= index < size:
        raise IndexError(f"index {index} is out of bounds for dimension 0 with size {size}")
    return select_dim(x, 0, index)


# assignment

cdef TensorBase _last_put(TensorBase x, list dims, list tensors, int at):
    """Whether each position of the index tensors is the last that points to its place, the one that index_put writes;
    broadcastable to the result of indexing."""
    cdef TensorBase first = <TensorBase> tensors[0], order, last
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int d, k = <int> len(dims)
    cdef list own = list(range(k))
    for d in range(k):
        shape[d] = shape_of(x)[<int> dims[d]]
    last = new_tensor(k, shape, FX_I64, x.a.device_type, x.a.device_index)
    order = operators()["arange"](first.a.numel, device=x.device)
    order = reshape(order, shape_tuple(&first.a))
    _put(last, own, tensors, 0, order, False, True)
    kept = operators()["eq"](_index(last, own, tensors, 0), order)
    return reshape(kept, shape_tuple(&first.a) + (1,) * (x.a.ndim - k - at))


cdef object _put_vjp(Node n, object g):
    dims, at, accumulate = n.params
    tensors = [saved_input(n, i + 2) for i in range(n.n_in - 2)]
    cdef object gx = None, gv = None
    if wants(n, 0):
        gx = g if accumulate else put(operators()["clone"](g), dims, tensors, at,
                                      zeros((), (<TensorBase> g).a.dtype, <TensorBase> g), False)
    if wants(n, 1):
        gv = _index(<TensorBase> g, dims, tensors, at)
        if not accumulate and (<TensorBase> tensors[0]).a.numel > 1:
            gv = operators()["mul"](gv, _last_put(<TensorBase> g, dims, tensors, at))
    return (gx, gv) + (None,) * (n.n_in - 2)

cdef Op INDEX_PUT = row("_index_put", kernel="index_put", rule=rule(_put_vjp), needs=("234567", "234567"), public=False,
                        doc="A tensor with values put at indices.")


cdef TensorBase put(TensorBase out, list dims, list tensors, int at, TensorBase values, bint accumulate):
    """Write values into `out`, a tensor that nobody else sees, and record it as index_put of what `out` was."""
    cdef PyObject *inputs[MAX_INDICES + 2]
    cdef TensorBase before
    cdef int i
    if grad_enabled() and (needs_grad(out) or needs_grad(values)):
        before = shadow(out)
        inputs[0] = <PyObject *> before
        inputs[1] = <PyObject *> values
        for i in range(<int> len(tensors)):
            inputs[i + 2] = <PyObject *> <TensorBase> tensors[i]
        if len(tensors) > 6:
            raise NotImplementedError("[index_put] more than 6 index tensors under gradients")
        _put(out, dims, tensors, at, values, accumulate, True)
        record(INDEX_PUT, inputs, <int> len(tensors) + 2, out, (dims, at, accumulate))
        return out
    _put(out, dims, tensors, at, values, accumulate, True)
    return out


cdef int _put(TensorBase x, list dims, list tensors, int at, TensorBase values, bint accumulate, bint fresh) except -1:
    """x[indices] (+)= values in x's memory; `fresh`: nobody else has seen it."""
    cdef frame f
    cdef fx_scalar room[FX_MAX_DIMS + 3]
    cdef TensorBase each
    shape = _result_shape(x, dims, tensors, at)
    cdef TensorBase spread
    try:
        spread = expand(to_dtype(values, x.a.dtype), shape)
    except RuntimeError:
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(shape_tuple(&values.a))} cannot be broadcast "
                           f"to indexing result of shape {list(shape)}") from None
    begin(&f, INDEX_PUT.kernel, x.a.dtype)
    more_params(&f, room)
    more_arrays(&f, <int> len(tensors) + 2)
    try:
        if fresh:
            adopt(&f, x)
        else:
            write(&f, x)
        read(&f, spread)
        for each in tensors:
            read(&f, each)
        whole(&f, len(dims))
        whole(&f, at)
        whole(&f, accumulate)
        _read_dims(&f, x, dims)
        run(&f, "setitem")
    finally:
        close_arrays(&f)
    return 0


cdef TensorBase _value(TensorBase x, object value):
    """The assigned value as a tensor; of more dimensions than the place, leading ones of size 1 are dropped."""
    if isinstance(value, TensorBase):
        if (<TensorBase> value).a.ndim == 0 and (<TensorBase> value).a.device_type != x.a.device_type:
            return value.to(x.device)
        return <TensorBase> value
    if is_number(value):
        return operators()["full"]((), value, dtype=x.dtype, device=x.device)
    try:
        return as_operand(value, "setitem")
    except TypeError:
        if isinstance(value, (list, tuple)):
            raise TypeError(f"can't assign a {type(value).__name__} to a tensor; use ferrox.tensor(...) "
                            "first") from None
        raise


cdef int set_item(TensorBase x, object key, object value) except -1:
    cdef list advanced = []
    cdef TensorBase view, given
    cdef int lead = 0
    view = _basic(x, _keys(x, key), advanced)
    given = _value(x, value)
    if not advanced:
        while given.a.ndim - lead > view.a.ndim and shape_of(given)[lead] == 1:
            lead += 1
        if lead:
            given = reshape(given, shape_tuple(&given.a)[lead:])
        view.copy_(given)
        return 0
    dims, tensors, at = _resolved(view, advanced)
    put_into(view, dims, tensors, at, given, False)
    return 0


cdef int put_into(TensorBase target, list dims, list tensors, int at, TensorBase values, bint accumulate) except -1:
    """index_put in place on a tensor that others may see."""
    cdef TensorBase changed
    if grad_enabled() and (needs_grad(target) or needs_grad(values)):
        changed = operators()["clone"](shadow(target))
        changed = put(changed, dims, tensors, at, values, accumulate)
        assign(INDEX_PUT, target, changed)
        return 0
    _put(target, dims, tensors, at, values, accumulate, False)
    return 0


cdef tuple _given_indices(TensorBase x, object indices):
    """The index tensors of index_put; None stands for a whole dimension."""
    cdef list advanced = []
    cdef TensorBase index
    cdef int d = 0
    if not isinstance(indices, (tuple, list)):
        raise TypeError(f"[index_put] indices must be a tuple of tensors, got {type(indices).__name__}")
    for each in indices:
        if each is None:
            d += 1
            continue
        index = _checked_index(as_operand(each, "index_put"))
        if index.a.ndim == 0 and index.a.dtype == FX_BOOL:
            raise IndexError("[index_put] a 0-dim mask selects no dimension")
        advanced.append((d, index))
        d += index.a.ndim if index.a.dtype in (FX_BOOL, FX_U8) else 1
    if not advanced:
        raise IndexError("[index_put] at least one index tensor is needed")
    if d > x.a.ndim:
        raise IndexError(f"[index_put] too many indices for tensor of dimension {x.a.ndim} (got {d})")
    return _resolved(x, advanced)


def _index_put(input, indices, values, accumulate=False):
    """A copy with `values` written (or added, if `accumulate`) at the index tensors `indices`."""
    cdef TensorBase x = <TensorBase?> input
    dims, tensors, at = _given_indices(x, indices)
    given = _value(x, values)
    if (<TensorBase> given).a.dtype != x.a.dtype:
        raise RuntimeError("[index_put] Index put requires the source and destination dtypes match, got "
                           f"{dtype_name(x.a.dtype)} for the destination and "
                           f"{dtype_name((<TensorBase> given).a.dtype)} for the source.")
    return put(operators()["clone"](x), dims, tensors, at, given, accumulate)

row("index_put", function=_index_put, composite=True, method=True, inplace=True,
    reference="(lambda y: (np.add.at(y, tuple(indices), values) if accumulate "
              "else y.__setitem__(tuple(indices), values), y)[1])(input.copy())",
    sample="[(t(4, 3), [np.array([0, 2])], t(2, 3)), "
           "(t(4, 3), [np.array([0, 2, 0]), np.array([1, 1, 1])], t(3), True)]")


# masks and positions

cdef TensorBase nonzero(TensorBase x):
    """(count, ndim) int64 positions of the elements that are not zero."""
    cdef frame f
    cdef int64_t shape[2]
    cdef TensorBase count, out
    begin(&f, _count_true, x.a.dtype)
    count = make(&f, 0, NULL, FX_I64, x)
    read(&f, x)
    run(&f, "nonzero")
    shape[0] = int(count)
    shape[1] = x.a.ndim
    begin(&f, NONZERO.kernel, x.a.dtype)
    out = make(&f, 2, shape, FX_I64, x)
    read(&f, x)
    run(&f, "nonzero")
    return out


def _nonzero(input, *, as_tuple=False):
    """Positions of the non-zero elements: rows of a (count, ndim) tensor, or a tuple of a tensor per dimension."""
    cdef TensorBase x = <TensorBase?> input
    cdef int d
    if as_tuple and x.a.ndim == 0:
        x = reshape(x, (1,))
    found = nonzero(x)
    return tuple([select_dim(found, 1, d) for d in range(x.a.ndim)]) if as_tuple else found

cdef Op NONZERO = row("nonzero", function=_nonzero, out=True, method=True, reference="np.argwhere(input)",
                      sample="i(3, 4, low=0, high=2)")


def _argwhere(input):
    """Positions of the elements that are not zero, rows of a (count, ndim) tensor."""
    return nonzero(<TensorBase?> input)

row("argwhere", function=_argwhere, composite=True, method=True, reference="np.argwhere(input)",
    sample="i(3, 4, low=0, high=2)")


def _masked_select(input, mask):
    """The elements where `mask` is true, in one dimension; both are broadcast."""
    cdef TensorBase m = as_operand(mask, "masked_select")
    if m.a.dtype != FX_BOOL:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    x, m = operators()["broadcast_tensors"](input, m)
    if m.a.ndim == 0:
        x, m = reshape(x, (1,)), reshape(m, (1,))
    dims, tensors, at = _resolved(x, [(0, m)])
    return _index(x, dims, tensors, at)

row("masked_select", function=_masked_select, out=True, composite=True, method=True, reference="input[mask]",
    sample="t(3, 4), b(3, 4)")
