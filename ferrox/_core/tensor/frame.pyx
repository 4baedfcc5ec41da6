"""The call frame: every operator puts the call of its kernel together in one, and runs it.

    cdef frame f
    begin(&f, op.kernel, x.a.dtype)
    out = make_like(&f, x, x.a.dtype)       # outputs first: made here, or `write(&f, tensor)` for one that exists
    read(&f, x)                             # then inputs; None for an absent one
    whole(&f, dim)                          # then parameters: exact integers and real numbers
    run(&f, op.name)
    record_frame(op, &f, out, None)         # graph/node.pyx: joins the output to the graph where a gradient is wanted

What was made for the call is known to be nobody else's: the door guards the other outputs (dispatch.pyx, Note [Guarded
outputs]).  A frame lies on the stack and borrows its tensors from the caller's variables.
"""
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_Check
from cpython.object cimport PyObject, PyObject_IsTrue
from libc.math cimport isfinite, ldexp
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc

from ferrox._core.abi cimport FX_BOOL, FX_CONTIGUOUS, FX_CPU, FX_F32, FX_F64, FX_HOST_SCALAR, FX_I8, FX_I16, FX_I32, \
    FX_I64, FX_MAX_DIMS, FX_U8, fx_array, fx_is_signed, fx_itemsize, fx_scalar
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.door.dispatch cimport check_outputs
from ferrox._core.dtype cimport FLOATING, categories, dtype_name
from ferrox._core.tensor.base cimport TensorBase

cdef enum:
    ROOM_FOR_ARRAYS = 16
    ROOM_FOR_NUMBERS = 4

cdef int _fill = kernel_id("fill"), _copy = kernel_id("copy")


cdef TensorBase make_shaped(frame *f, tuple shape, int dtype, TensorBase like):
    """A fresh output whose shape is a tuple, on the device of `like`."""
    cdef int64_t sizes[FX_MAX_DIMS]
    cdef int d, ndim = <int> len(shape)
    if ndim > FX_MAX_DIMS:
        raise RuntimeError(f"a tensor has at most {FX_MAX_DIMS} dimensions, got {ndim}")
    for d in range(ndim):
        sizes[d] = shape[d]
    return make(f, ndim, sizes, dtype, like)


cdef int _describe_number(fx_array *a, fx_scalar *room, object value, int dtype, str name) except -1:
    """Describe a Python number as an operand in the given dtype (float32 for halves); its value is put into `room`."""
    cdef long long exact = 0
    cdef int overflow = 0
    a.data = room
    a.dims = NULL
    a.numel = 1
    a.storage = NULL
    a.ndim = 0
    a.flags = FX_CONTIGUOUS | FX_HOST_SCALAR
    a.device_type = FX_CPU
    a.device_index = 0
    if categories[dtype] == FLOATING:
        if dtype == FX_F64:
            (<double *> room)[0] = PyFloat_AS_DOUBLE(value) if PyFloat_Check(value) else <double> value
        else:
            dtype = FX_F32      # float16 and bfloat16 are computed in float32
            (<float *> room)[0] = <float> (PyFloat_AS_DOUBLE(value) if PyFloat_Check(value) else <double> value)
        a.dtype = dtype
        return 0
    a.dtype = dtype
    if dtype == FX_BOOL:
        (<uint8_t *> room)[0] = PyObject_IsTrue(value)
        return 0
    if not PyFloat_Check(value):
        exact = PyLong_AsLongLongAndOverflow(value, &overflow)
    elif isfinite(PyFloat_AS_DOUBLE(value)):
        exact = PyLong_AsLongLongAndOverflow(int(value), &overflow)
    else:
        overflow = 1
    if dtype == FX_I64:
        (<int64_t *> room)[0] = exact
    elif dtype == FX_U8:
        (<uint8_t *> room)[0] = <uint8_t> exact
        overflow |= not -255 <= exact <= 255
    elif dtype == FX_I8:
        (<int8_t *> room)[0] = <int8_t> exact
        overflow |= <int8_t> exact != exact
    elif dtype == FX_I16:
        (<int16_t *> room)[0] = <int16_t> exact
        overflow |= <int16_t> exact != exact
    elif dtype == FX_I32:
        (<int32_t *> room)[0] = <int32_t> exact
        overflow |= <int32_t> exact != exact
    else:
        raise NotImplementedError(f"[{name}] a number cannot be an operand of {dtype_name(dtype)}")
    if overflow:
        raise RuntimeError(f"[{name}] value {value} cannot be converted to type {dtype_name(dtype)} without overflow")
    return 0


cdef int read_number(frame *f, object value, int dtype, str name) except -1:
    """An input that is a Python number; the caller keeps the number alive."""
    cdef fx_array *a = &f.numbers[f.n_numbers]
    if f.n_numbers == ROOM_FOR_NUMBERS:
        raise RuntimeError(f"[{name}] more than {ROOM_FOR_NUMBERS} numbers among the operands")
    _describe_number(a, &f.rooms[f.n_numbers], value, dtype, name)
    f.n_numbers += 1
    f.call.arrays[f.call.n_out + f.call.n_in] = a
    f.inputs[f.call.n_in] = <PyObject *> value
    f.call.n_in += 1
    return 0


cdef int number(frame *f, object value) except -1:
    """A parameter that is an integer where the arithmetic is."""
    if categories[f.call.dtype] == FLOATING:
        real(f, value)
    else:
        whole(f, value if PyLong_Check(value) else int(value))
    return 0


cdef int more_arrays(frame *f, int n) except -1:
    """Room for n arrays, before the first one is added; `close_arrays` gives it back."""
    if n <= ROOM_FOR_ARRAYS:
        return 0
    f.call.arrays = <fx_array **> malloc(2 * <size_t> n * sizeof(void *))
    if f.call.arrays == NULL:
        f.call.arrays = f.few_arrays
        raise MemoryError()
    f.inputs = <PyObject **> (f.call.arrays + n)
    return 0


cdef void close_arrays(frame *f) noexcept:
    if f.call.arrays != f.few_arrays:
        free(f.call.arrays)


cdef int check_call(str name, frame *f) except -1:
    """Judge what a call would write, as `run` does, without running it."""
    return check_outputs(name, &f.call)


cdef int64_t nearest_whole(double value, int dtype) noexcept nogil:
    """The value of an integer dtype that is nearest to a number; 0 for NaN."""
    cdef int bits = 8 * fx_itemsize(dtype)
    cdef bint is_signed = fx_is_signed(dtype)
    cdef double top = ldexp(1.0, bits - is_signed)
    if value >= top:
        return <int64_t> ((<uint64_t> 1 << (bits - is_signed)) - 1)
    if is_signed and value <= -top:
        return -<int64_t> (<uint64_t> 1 << (bits - 2)) * 2
    return <int64_t> value if value > 0 or (is_signed and value < 0) else 0


# What everybody needs.

cdef TensorBase converted(TensorBase x, int dtype):
    """A contiguous copy of x in a dtype, on its device, outside the graph."""
    cdef frame f
    cdef TensorBase out
    begin(&f, _copy, dtype)
    out = make_like(&f, x, dtype)
    read(&f, x)
    run(&f, "to")
    return out


cdef void into(frame *f, TensorBase target, bint fresh) noexcept:
    """`adopt` or `write`."""
    if fresh:
        adopt(f, target)
    else:
        write(f, target)


cdef int fill(str name, TensorBase target, object value, bint fresh) except -1:
    """Set every element to a Python number, outside the graph; `fresh`: nobody else has seen the tensor."""
    cdef frame f
    if not PyFloat_Check(value) and not PyLong_Check(value):
        raise TypeError(f"{name}(): argument 'value' must be Number, not {type(value).__name__}")
    begin(&f, _fill, target.a.dtype)
    into(&f, target, fresh)
    read_number(&f, value, target.a.dtype, name)
    return run(&f, name)


cdef int set_to(TensorBase target, double value) except -1:
    """Fill a tensor that nobody else has seen with a number."""
    cdef frame f
    begin(&f, _fill, target.a.dtype)
    adopt(&f, target)
    read_number(&f, value, FX_F64, "fill")
    return run(&f, "fill")


cdef int copy_into(str name, TensorBase target, TensorBase source, bint fresh) except -1:
    """Copy the values of `source`, broadcast and cast, outside the graph; `fresh`: nobody else has seen `target`."""
    cdef frame f
    begin(&f, _copy, target.a.dtype)
    into(&f, target, fresh)
    read(&f, source)
    return run(&f, name)
