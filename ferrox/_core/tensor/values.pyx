"""Elements as Python objects: one element, nested lists, tensors made of nested sequences; and moves between devices.

Note [Nested sequences].  Lists and tuples of plain numbers are walked twice in C, by borrowed items: once for shape
and dtype, once to store.  No code of the user's can run meanwhile, for a plain number is of the very class.  Anything
else in them (tensors, arrays and scalars of others, ranges, other sequences, subclasses of int) sends the whole through
`_plain`, which holds what it looks at and turns it into fresh lists of plain numbers first.
"""
from cpython.bool cimport PyBool_Check
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_AsDouble, PyLong_AsLongLongAndOverflow, PyLong_Check, PyLong_CheckExact
from cpython.object cimport PyObject, PyObject_IsTrue
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t

from ferrox._core.abi cimport FX_AUTO, FX_BF16, FX_BOOL, FX_CONTIGUOUS, FX_CPU, FX_F16, FX_F32, FX_F64, FX_I8, \
    FX_I32, FX_I64, FX_MAX_DIMS, FX_OK, FX_U8, fx_itemsize
from ferrox._core.door.backend cimport backends
from ferrox._core.door.ending cimport begin_released, end_released
from ferrox._core.dtype cimport FLOATING, categories, default_dtype, dtype_name, promotions
from ferrox._core.errors cimport raise_status
from ferrox._core.door.profile cimport begin_transfer, end_entry, recording
from ferrox._core.memory.residence cimport copy_between
from ferrox._core.tensor.base cimport TensorBase, new_tensor
from ferrox._core.tensor.frame cimport converted

# Kinds of numbers seen by a walk.
cdef enum:
    SAW_BOOL = 1
    SAW_INT = 2
    SAW_FLOAT = 4

cdef struct Plan:
    int64_t shape[64]
    int ndim            # depth of the deepest sequence so far
    int leaf            # depth of the numbers, -1 before the first
    int kinds

foreign_tensor = None   # set by interchange: a tensor for an array or tensor of another library, None for anything else


# Moves

cdef int transfer(TensorBase out, TensorBase x, bint wait) except -1:
    """Bytes of x into out, on whatever devices; both are contiguous, of one dtype and size."""
    cdef int to = out.a.device_index if out.a.device_type != FX_CPU else -1
    cdef int source = x.a.device_index if x.a.device_type != FX_CPU else -1
    cdef int by = x.a.device_type if source >= 0 else out.a.device_type, status
    cdef size_t size = <size_t> (x.a.numel * fx_itemsize(x.a.dtype))
    if out.a.device_type == FX_AUTO or x.a.device_type == FX_AUTO:
        return copy_between(out.a.data, to, x.a.data, source, size, wait)
    cdef int64_t entry = -1
    if recording:
        entry = begin_transfer("to", 0 if source < 0 else 1 if to < 0 else 2, by, to if source < 0 else source, size)
    with nogil:
        begin_released()
        status = backends[by].copy(out.a.data, to, x.a.data, source, size, wait)
        end_released()
    end_entry(entry)
    if status != FX_OK:
        raise_status(status, "to", b"the copy failed")
    if to >= 0 and backends[by].label != NULL:
        backends[by].label(out.a.data, to, b"to")
    return 0


cdef TensorBase moved(TensorBase x, int device_type, int device_index, bint wait=True):
    """A contiguous copy of x on a device, outside the graph."""
    cdef TensorBase out
    if x.a.device_type == device_type and x.a.device_index == device_index:
        return converted(x, x.a.dtype)
    if not x.a.flags & FX_CONTIGUOUS:
        x = converted(x, x.a.dtype)
    out = new_tensor(x.a.ndim, x.a.dims, x.a.dtype, device_type, device_index)
    transfer(out, x, wait)
    return out


cdef TensorBase readable(TensorBase x):
    """x on the host and in a dtype that C has."""
    if x.a.device_type != FX_CPU:
        x = moved(x, FX_CPU, 0)
    if x.a.dtype == FX_F16 or x.a.dtype == FX_BF16:
        x = converted(x, FX_F32)
    return x


# From elements to Python

cdef object _read(const char *p, int dtype):
    if dtype == FX_F32:
        return <double> (<const float *> p)[0]
    if dtype == FX_F64:
        return (<const double *> p)[0]
    if dtype == FX_I64:
        return (<const int64_t *> p)[0]
    if dtype == FX_BOOL:
        return (<const uint8_t *> p)[0] != 0
    if dtype == FX_I32:
        return (<const int32_t *> p)[0]
    if dtype == FX_U8:
        return (<const uint8_t *> p)[0]
    if dtype == FX_I8:
        return (<const int8_t *> p)[0]
    return (<const int16_t *> p)[0]


cdef object element(TensorBase x):
    """The only element as a Python number."""
    if x.a.numel != 1:
        raise RuntimeError(f"a Tensor with {x.a.numel} elements cannot be converted to Scalar")
    x = readable(x)
    return _read(<const char *> x.a.data, x.a.dtype)


cdef object _lists(TensorBase x, int d, const char *p, int64_t edge):
    cdef int64_t n, i, step
    cdef list out
    if d == x.a.ndim:
        return _read(p, x.a.dtype)
    n = x.a.dims[d]
    step = x.a.dims[x.a.ndim + d] * fx_itemsize(x.a.dtype)
    if edge >= 0 and n > 2 * edge:
        out = [_lists(x, d + 1, p + i * step, edge) for i in range(edge)]
        out.append(Ellipsis)
        out.extend([_lists(x, d + 1, p + i * step, edge) for i in range(n - edge, n)])
        return out
    if d == x.a.ndim - 1:
        return [_read(p + i * step, x.a.dtype) for i in range(n)]
    return [_lists(x, d + 1, p + i * step, edge) for i in range(n)]


cdef object nested(TensorBase x, int64_t edge):
    """Nested lists of the elements, or the number of a tensor without dimensions.

    With `edge` >= 0, of every dimension longer than 2 * edge only the first and last `edge` entries, around Ellipsis.
    """
    x = readable(x)
    return _lists(x, 0, <const char *> x.a.data, edge)


# From Python to elements

cdef int _refuse(str dtype) except -1:
    raise RuntimeError(f"value cannot be converted to type {dtype} without overflow")


cdef int64_t _whole(object value) except? -1:
    """A number as an int64, truncated."""
    cdef int overflow = 0
    cdef int64_t whole
    cdef double real
    if PyLong_Check(value):
        whole = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow:
            raise ValueError("Overflow when unpacking long long")
        return whole
    real = PyFloat_AS_DOUBLE(value)
    if not -9223372036854775808.0 <= real < 9223372036854775808.0:
        _refuse("int64")
    return <int64_t> real


cdef int _store(char *p, object value, int dtype) except -1:
    """Write one Python number; dtype is not a 16-bit float."""
    cdef int64_t whole
    if categories[dtype] == FLOATING:
        real = PyFloat_AS_DOUBLE(value) if PyFloat_Check(value) else PyLong_AsDouble(value)
        if dtype == FX_F32:
            (<float *> p)[0] = <float> real
        else:
            (<double *> p)[0] = real
        return 0
    if dtype == FX_BOOL:
        (<uint8_t *> p)[0] = PyObject_IsTrue(value)
        return 0
    whole = _whole(value)
    if dtype == FX_I64:
        (<int64_t *> p)[0] = whole
    elif dtype == FX_I32:
        (<int32_t *> p)[0] = <int32_t> whole
        if <int32_t> whole != whole:
            _refuse("int32")
    elif dtype == FX_U8:    # negative values wrap, as in PyTorch
        (<uint8_t *> p)[0] = <uint8_t> whole
        if not -255 <= whole <= 255:
            _refuse("uint8")
    elif dtype == FX_I8:
        (<int8_t *> p)[0] = <int8_t> whole
        if <int8_t> whole != whole:
            _refuse("int8")
    else:
        (<int16_t *> p)[0] = <int16_t> whole
        if <int16_t> whole != whole:
            _refuse("int16")
    return 0


cdef inline bint _sequence(object data) noexcept:
    return PyList_CheckExact(data) or PyTuple_CheckExact(data)


cdef inline Py_ssize_t _length(object data) noexcept:
    return PyList_GET_SIZE(data) if PyList_CheckExact(data) else PyTuple_GET_SIZE(data)


cdef inline PyObject *_item(object data, Py_ssize_t i) noexcept:
    return PyList_GET_ITEM(data, i) if PyList_CheckExact(data) else PyTuple_GET_ITEM(data, i)


cdef int _ragged(object data, int depth, Plan *plan) except -1:
    if _sequence(data):
        if plan.leaf == depth:
            raise ValueError(f"expected a number at dim {depth} (got a sequence of length {_length(data)})")
        raise ValueError(f"expected sequence of length {plan.shape[depth]} at dim {depth} (got {_length(data)})")
    raise ValueError(f"expected sequence of length {plan.shape[depth]} at dim {depth} (got a number)")


cdef int _walk(object data, int depth, Plan *plan) except -1:
    """Shape and kinds of nested lists and tuples of plain numbers; 1 when there is something else in them."""
    cdef Py_ssize_t n, i
    if PyFloat_CheckExact(data):
        plan.kinds |= SAW_FLOAT
    elif PyBool_Check(data):
        plan.kinds |= SAW_BOOL
    elif PyLong_CheckExact(data):
        plan.kinds |= SAW_INT
    elif not _sequence(data):
        return 1
    else:
        n = _length(data)
        if plan.leaf >= 0 and depth >= plan.leaf:
            return _ragged(data, depth, plan)
        if depth == plan.ndim:
            if depth == FX_MAX_DIMS:
                raise ValueError(f"too many dimensions: a tensor has at most {FX_MAX_DIMS}")
            plan.shape[depth] = n
            plan.ndim = depth + 1
        elif plan.shape[depth] != n:
            return _ragged(data, depth, plan)
        if n == 0:
            plan.leaf = depth + 1
        for i in range(n):
            if _walk(<object> _item(data, i), depth + 1, plan):
                return 1
        return 0
    if plan.leaf < 0 and depth == plan.ndim:
        plan.leaf = depth
    elif plan.leaf != depth:
        return _ragged(data, depth, plan)
    return 0


cdef char *_store_all(object data, char *p, int dtype) except NULL:
    cdef Py_ssize_t n, i
    if not _sequence(data):
        _store(p, data, dtype)
        return p + fx_itemsize(dtype)
    n = _length(data)
    if n and dtype == FX_F32 and PyFloat_CheckExact(<object> _item(data, 0)):
        for i in range(n):
            if PyFloat_CheckExact(<object> _item(data, i)):
                (<float *> p)[0] = <float> PyFloat_AS_DOUBLE(<object> _item(data, i))
            else:
                _store(p, <object> _item(data, i), dtype)
            p += 4
        return p
    for i in range(n):
        p = _store_all(<object> _item(data, i), p, dtype)
    return p


cdef list _plain_items(object data, int depth, int *dtype, bint truth):
    """The items of a sequence as `_plain` gives them; user code that runs meanwhile must leave it as long as it is."""
    cdef Py_ssize_t n = len(data), i
    cdef list items = []
    if depth == FX_MAX_DIMS:
        raise ValueError(f"too many dimensions: a tensor has at most {FX_MAX_DIMS}")
    for i in range(n):
        if len(data) != n:
            break
        items.append(_plain(data[i], depth + 1, dtype, truth))
    if len(data) != n:
        raise RuntimeError(f"[tensor] a sequence of length {n} at dim {depth} changed while it was read: its length is "
                           f"{len(data)} now")
    return items


cdef object _plain(object data, int depth, int *dtype, bint truth):
    """`data` as lists of numbers; its dtype is promoted into `dtype`.  With `truth` numbers become bools."""
    cdef int own
    cdef TensorBase tensor
    if isinstance(data, (list, tuple, range)):
        return _plain_items(data, depth, dtype, truth)
    if not isinstance(data, TensorBase):
        made = foreign_tensor(data)
        data = data if made is None else made
    if isinstance(data, TensorBase):
        tensor = <TensorBase> data
        own = tensor.a.dtype
        data = nested(tensor, -1)
    elif PyFloat_Check(data):
        own = default_dtype
        data = bool(data) if truth else float.__float__(data)
    elif PyLong_Check(data):
        own = FX_BOOL if PyBool_Check(data) else FX_I64
        if not PyBool_Check(data):
            data = bool(data) if truth else int.__int__(data)
    elif isinstance(data, (str, bytes)):
        if depth:
            raise ValueError(f"too many dimensions '{type(data).__name__}'")
        raise TypeError(f"[tensor] invalid data type '{type(data).__name__}'")
    elif hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, dict):
        return _plain_items(data, depth, dtype, truth)
    else:
        raise RuntimeError(f"[tensor] Could not infer dtype of {type(data).__name__}")
    dtype[0] = own if dtype[0] < 0 else promotions[dtype[0]][own]
    return data


cdef TensorBase tensor_of(object data, int dtype):
    """A fresh tensor from a number or nested sequences, on the host; dtype -1 infers it from the numbers."""
    cdef Plan plan
    cdef int inferred = -1, stored
    cdef TensorBase out
    plan.ndim = 0
    plan.leaf = -1
    plan.kinds = 0
    if _walk(data, 0, &plan):
        data = _plain(data, 0, &inferred, dtype == FX_BOOL)
        plan.ndim = 0
        plan.leaf = -1
        plan.kinds = 0
        if _walk(data, 0, &plan):
            raise RuntimeError("Could not infer dtype of the data")
    if dtype < 0:
        if inferred >= 0:
            dtype = inferred
        elif plan.kinds & SAW_FLOAT or not plan.kinds:
            dtype = default_dtype
        else:
            dtype = FX_I64 if plan.kinds & SAW_INT else FX_BOOL
    stored = FX_F32 if dtype == FX_F16 or dtype == FX_BF16 else dtype
    out = new_tensor(plan.ndim, plan.shape, stored, FX_CPU, 0)
    if out.a.numel:
        _store_all(data, <char *> out.a.data, stored)
    return out if stored == dtype else converted(out, dtype)


cdef TensorBase with_grad(TensorBase x, object requires_grad):
    """x, a fresh leaf, with its requires_grad flag set."""
    if requires_grad:
        if categories[x.a.dtype] != FLOATING:
            raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients, got "
                               f"{dtype_name(x.a.dtype)}")
        x.requires_grad_ = True
    return x
