"""Memory shared with others through the buffer protocol: NumPy arrays and whatever else has a buffer, without a copy.

NumPy itself is never imported here unless somebody asks for an array: an object can only be a NumPy one when the module
is loaded already.
"""
cimport cython
import sys
from importlib import import_module

from cpython.buffer cimport PyBUF_ANY_CONTIGUOUS, PyBUF_C_CONTIGUOUS, PyBUF_F_CONTIGUOUS, PyBUF_FORMAT, PyBUF_ND, \
    PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc

from ferrox._core.tensor import values
from ferrox._core.abi cimport FX_BF16, FX_BOOL, FX_CONTIGUOUS, FX_CPU, FX_DTYPES, FX_MAX_DIMS, FX_U8, fx_itemsize, \
    fx_letter, fx_storage
from ferrox._core.dtype cimport as_dtype
from ferrox._core.memory.storage cimport storage_foreign, storage_release, storage_retain
from ferrox._core.sizes cimport fx_reach
from ferrox._core.tensor.base cimport TensorBase, alias, bare, needs_grad
from ferrox._core.tensor.frame cimport converted
from ferrox._core.tensor.values cimport with_grad

# Formats of the struct module; long and long long have the same size here, and q says it everywhere.
cdef dict _formats = {chr(fx_letter(code)): code for code in range(FX_DTYPES) if fx_letter(code)}
_formats["q"] = _formats["l"]
cdef char _format_strings[FX_DTYPES][2]

# What an exported buffer keeps: the storage, and shape and strides (in bytes) as they were.
cdef struct Export:
    fx_storage *storage
    Py_ssize_t dims[1]


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class _Buffer:
    """Holds a Py_buffer as long as a storage needs it."""
    cdef Py_buffer view
    cdef bint held

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef _Buffer _buffer_of(object source, bint *read_only):
    cdef _Buffer buffer = _Buffer()
    read_only[0] = False
    try:
        PyObject_GetBuffer(source, &buffer.view, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE)
    except (BufferError, ValueError):
        PyObject_GetBuffer(source, &buffer.view, PyBUF_STRIDES | PyBUF_FORMAT)
        read_only[0] = True
    buffer.held = True
    return buffer


cdef TensorBase from_buffer(object source):
    """A tensor on the memory of an object with a buffer."""
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int64_t low, high
    cdef int d, dtype
    cdef TensorBase tensor
    cdef bint read_only
    cdef _Buffer buffer = _buffer_of(source, &read_only)
    form = buffer.view.format.decode() if buffer.view.format != NULL else "B"
    if form.lstrip("@=<") not in _formats:
        raise TypeError(f"can't convert elements of type {form!r}: supported are bool, uint8, int8 to int64, float16 "
                        "to float64, in native byte order")
    dtype = _formats[form.lstrip("@=<")]
    for d in range(buffer.view.ndim):
        shape[d] = buffer.view.shape[d]
    for d in range(buffer.view.ndim):
        if buffer.view.strides[d] % fx_itemsize(dtype) and shape[d] > 1:
            raise ValueError("strides that are not a multiple of the element size are not supported; copy the array "
                             "first")
        strides[d] = buffer.view.strides[d] // fx_itemsize(dtype)
    if not fx_reach(buffer.view.ndim, shape, strides, fx_itemsize(dtype), &low, &high):
        raise ValueError("the array reaches further than memory does")
    tensor = bare(buffer.view.ndim, shape, strides, dtype)
    tensor.a.storage = storage_foreign(<char *> buffer.view.buf + low, <size_t> (high - low), buffer, FX_CPU, 0)
    tensor.a.storage.read_only = read_only
    tensor.a.data = buffer.view.buf
    return with_bools(tensor)


def from_numpy(ndarray, /):
    """A tensor on the memory of a NumPy array; neither copies, each sees the other's changes.

    Parameters
    ----------
    ndarray : numpy.ndarray
        Of bool, uint8, int8 to int64, float16 to float64, or `ml_dtypes.bfloat16`.  The tensor of a read-only array
        refuses to be changed in place.

    Examples
    --------
    >>> import numpy as np
    >>> import ferrox as fx
    >>> a = np.zeros(2)
    >>> fx.from_numpy(a).add_(1)
    tensor([1., 1.], dtype=ferrox.float64)
    >>> a
    array([1., 1.])
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(ndarray, numpy.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    return numpy_array(ndarray)


cdef TensorBase numpy_array(object value):
    """A tensor on the memory of a NumPy array, which may be one of `ml_dtypes.bfloat16`."""
    cdef TensorBase tensor
    kind = value.dtype
    if kind.kind == "V" and kind.name == "bfloat16":
        tensor = from_buffer(value.view("int16"))
        tensor.a.dtype = FX_BF16
        return tensor
    if kind.char not in _formats or not kind.isnative:
        raise TypeError(f"can't convert np.ndarray of type numpy.{kind.type.__name__}. The only supported types are: "
                        "float64, float32, float16, int64, int32, int16, int8, uint8, and bool, in native byte order.")
    return from_buffer(value)


# Bools

cdef bint _bools(const uint8_t *p, int ndim, const int64_t *dims, const int64_t *strides) noexcept nogil:
    """Whether a window of bytes holds 0 and 1 alone."""
    cdef int64_t i
    cdef uint8_t every = 0
    if ndim == 0:
        return p[0] <= 1
    if ndim == 1:
        for i in range(dims[0]):
            every |= p[i * strides[0]]
        return every <= 1
    for i in range(dims[0]):
        if not _bools(p + i * strides[0], ndim - 1, dims + 1, strides + 1):
            return False
    return True


cdef bint holds_bools(TensorBase x) noexcept:
    """Whether the host memory of x, of dtype bool, holds 0 and 1 alone."""
    cdef int64_t step = 1
    cdef bint clean
    if x.a.numel == 0:
        return True
    with nogil:
        if x.a.flags & FX_CONTIGUOUS:
            clean = _bools(<const uint8_t *> x.a.data, 1, &x.a.numel, &step)
        else:
            clean = _bools(<const uint8_t *> x.a.data, x.a.ndim, x.a.dims, x.a.dims + x.a.ndim)
    return clean


cdef TensorBase with_bools(TensorBase x):
    """x, or, if it is of dtype bool and its memory holds others than 0 and 1, a copy in which they are 1.

    Kernels take a bool for 0 or 1: they add it up as it lies.  What others wrote into memory that is shared with them
    is looked at once, when it comes in; with 0 and 1 in it, it stays shared.
    """
    cdef TensorBase numbers
    if x.a.dtype != FX_BOOL or x.a.device_type != FX_CPU or holds_bools(x):
        return x
    numbers = alias(x)
    numbers.a.dtype = FX_U8
    return converted(numbers, FX_BOOL)


# Objects of other libraries

def foreign_tensor(value):
    """A tensor for what another library has for one, on its memory where it can be; None for anything else.

    Taken are arrays and scalars of NumPy, objects with `__dlpack__`, `__cuda_array_interface__` or `__array__`.
    """
    made = _numpy_tensor(value)
    kind = type(value)
    if made is not None or kind in (list, tuple, float, int, bool, str, range) or isinstance(value, TensorBase):
        return made
    if hasattr(kind, "__dlpack__") and hasattr(kind, "__dlpack_device__"):
        return import_module("ferrox._core.api.dlpack").from_dlpack(value)
    if hasattr(value, "__cuda_array_interface__"):
        return import_module("ferrox._core.api.dlpack").from_cuda_array(value)
    if hasattr(kind, "__array__"):
        import numpy

        return _numpy_tensor(numpy.asarray(value))
    return None


def _numpy_tensor(value):
    """A tensor for a NumPy array (on its memory) or a NumPy scalar, None for anything else."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, (numpy.ndarray, numpy.generic)):
        return None
    return numpy_array(value if isinstance(value, numpy.ndarray) else numpy.asarray(value))


cdef object plain_operand(object value):
    """A number of a NumPy scalar, a tensor of an array or of others' tensors: for arithmetic; None of anything else."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        value = value.item()
        return value if isinstance(value, (int, float)) else None
    if numpy is not None and isinstance(value, numpy.ndarray):
        return numpy_array(value)
    return foreign_tensor(value) if hasattr(type(value), "__dlpack__") else None


def coerce(value):
    """`plain_operand`, for the elementwise operators."""
    return plain_operand(value)


values.foreign_tensor = foreign_tensor


# Out: the buffer protocol

cdef int export_buffer(TensorBase x, Py_buffer *buffer, int flags) except -1:
    """Fill a Py_buffer for a view of x; it keeps the storage, whatever x becomes."""
    cdef int d, size = fx_itemsize(x.a.dtype)
    cdef Export *kept
    cdef Py_ssize_t step = 1
    cdef bint columns = True
    if needs_grad(x):
        raise BufferError("a tensor that requires grad gives no buffer; use tensor.detach()")
    if x.a.device_type != FX_CPU:
        raise BufferError("a tensor on a GPU gives no buffer; use tensor.cpu()")
    if x.a.dtype == FX_BF16:
        raise BufferError("the buffer protocol has no bfloat16; use tensor.float()")
    if flags & PyBUF_WRITABLE == PyBUF_WRITABLE and x.a.storage.read_only:
        raise BufferError("the tensor shares memory that is read-only")
    for d in range(x.a.ndim):
        columns = columns and (x.a.dims[d] == 1 or x.a.dims[x.a.ndim + d] == step)
        step *= x.a.dims[d]
    if not x.a.flags & FX_CONTIGUOUS and (
            flags & PyBUF_STRIDES != PyBUF_STRIDES or flags & PyBUF_C_CONTIGUOUS == PyBUF_C_CONTIGUOUS
            or (flags & PyBUF_ANY_CONTIGUOUS == PyBUF_ANY_CONTIGUOUS and not columns)):
        raise BufferError("the tensor is not contiguous")
    if flags & PyBUF_F_CONTIGUOUS == PyBUF_F_CONTIGUOUS and not columns:
        raise BufferError("the tensor is not contiguous in column-major order")
    kept = <Export *> malloc(sizeof(Export) + 2 * sizeof(Py_ssize_t) * <size_t> x.a.ndim)
    if kept == NULL:
        raise MemoryError()
    kept.storage = storage_retain(x.a.storage)
    for d in range(x.a.ndim):
        kept.dims[d] = x.a.dims[d]
        kept.dims[x.a.ndim + d] = x.a.dims[x.a.ndim + d] * size
    buffer.internal = kept
    buffer.buf = x.a.data
    buffer.len = x.a.numel * size
    buffer.itemsize = size
    buffer.readonly = x.a.storage.read_only
    buffer.ndim = x.a.ndim
    buffer.format = _format_strings[x.a.dtype] if flags & PyBUF_FORMAT else NULL
    buffer.shape = kept.dims if flags & PyBUF_ND else NULL
    buffer.strides = kept.dims + x.a.ndim if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
    buffer.suboffsets = NULL
    return 0


cdef void release_buffer(Py_buffer *buffer) noexcept:
    storage_release((<Export *> buffer.internal).storage)
    free(buffer.internal)


cdef object to_numpy(TensorBase x, bint force):
    """The NumPy array on x's memory."""
    import numpy

    if force:
        x = x.detach().cpu()
    if needs_grad(x):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
    if x.a.device_type != FX_CPU:
        raise TypeError(f"can't convert {x.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to "
                        "host memory first.")
    if x.a.dtype == FX_BF16:
        raise TypeError("Got unsupported ScalarType BFloat16: NumPy has none; convert with .float() first")
    return numpy.asarray(memoryview(x))


# In: raw bytes

def frombuffer(buffer, *, dtype, count=-1, offset=0, requires_grad=False):
    """A one-dimensional tensor on the bytes of an object with a buffer.

    Parameters
    ----------
    buffer : object
        bytes, bytearray, memoryview, mmap, …; it stays alive as long as the tensor.
    dtype : dtype
        What the bytes are.
    count : int, default -1
        Number of elements; -1 takes all that there are.
    offset : int, default 0
        Bytes to skip.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.frombuffer(bytearray(b"abc"), dtype=fx.uint8)
    tensor([97, 98, 99], dtype=ferrox.uint8)
    """
    cdef int code = as_dtype(dtype), size = fx_itemsize(code)
    cdef bint read_only
    cdef int64_t shape[1]
    cdef int64_t strides[1]
    cdef int64_t n = count, skip = offset, length
    cdef TensorBase tensor
    cdef _Buffer held = _buffer_of(memoryview(buffer).cast("B"), &read_only)
    length = held.view.len
    if length == 0 or n == 0:
        raise ValueError(f"both buffer length ({length}) and count ({n}) must not be 0")
    if not 0 <= skip < length:
        raise ValueError(f"offset ({skip} bytes) must be non-negative and no greater than buffer length ({length} "
                         "bytes) minus 1")
    if n < 0:
        if (length - skip) % size:
            raise ValueError(f"buffer length ({length - skip} bytes) after offset ({skip} bytes) must be a multiple of "
                             f"element size ({size})")
        n = (length - skip) // size
    elif n > (length - skip) // size:
        raise ValueError(f"requested buffer length ({n} * {size} bytes) after offset ({skip} bytes) must not be "
                         f"greater than actual buffer length ({length} bytes)")
    shape[0] = n
    strides[0] = 1
    tensor = bare(1, shape, strides, code)
    tensor.a.storage = storage_foreign(<char *> held.view.buf + skip, <size_t> (n * size), held, FX_CPU, 0)
    tensor.a.storage.read_only = read_only
    tensor.a.data = <char *> held.view.buf + skip
    return with_grad(with_bools(tensor), requires_grad)


cdef int _d
for _d in range(FX_DTYPES):
    _format_strings[_d][0] = b"q" if fx_letter(_d) == b"l" else fx_letter(_d)
    _format_strings[_d][1] = 0
