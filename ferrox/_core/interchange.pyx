"""Memory shared with others: NumPy arrays and whatever else has a buffer, without a copy."""
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_CPU, FX_MAX_DIMS
from ferrox._core.dtype cimport itemsizes
from ferrox._core.storage cimport storage_foreign
from ferrox._core.tensor cimport TensorBase, bare

# struct format characters of native types by dtype number; long and long long have the same size here.
cdef dict _formats = {"?": 0, "B": 1, "b": 2, "h": 3, "i": 4, "l": 5, "q": 5, "e": 6, "f": 8, "d": 9}


cdef class _Buffer:
    """Holds a Py_buffer as long as a storage needs it."""
    cdef Py_buffer view
    cdef bint held

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef TensorBase from_buffer(object source):
    """A tensor on the memory of an object with a buffer."""
    cdef _Buffer buffer = _Buffer()
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int64_t low = 0, high = 0, span
    cdef int d, dtype
    cdef TensorBase tensor
    cdef bint read_only = False
    try:
        PyObject_GetBuffer(source, &buffer.view, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE)
    except (BufferError, ValueError):
        PyObject_GetBuffer(source, &buffer.view, PyBUF_STRIDES | PyBUF_FORMAT)
        read_only = True
    buffer.held = True
    form = buffer.view.format.decode() if buffer.view.format != NULL else "B"
    if form.lstrip("@=<") not in _formats:
        raise TypeError(f"can't convert elements of type {form!r}: supported are bool, uint8, int8 to int64, float16 to "
                        "float64, in native byte order")
    dtype = _formats[form.lstrip("@=<")]
    for d in range(buffer.view.ndim):
        shape[d] = buffer.view.shape[d]
        if buffer.view.strides[d] % itemsizes[dtype]:
            raise ValueError("strides that are not a multiple of the element size are not supported; copy the array first")
        strides[d] = buffer.view.strides[d] // itemsizes[dtype]
        span = (shape[d] - 1) * buffer.view.strides[d] if shape[d] else 0
        low += min(span, 0)
        high += max(span, 0)
    tensor = bare(buffer.view.ndim, shape, strides, dtype)
    tensor.storage = storage_foreign(<char *> buffer.view.buf + low, <size_t> (high - low + itemsizes[dtype]), buffer,
                                     FX_CPU, 0)
    tensor.storage.read_only = read_only
    tensor.a.data = buffer.view.buf
    return tensor


def from_numpy(array):
    """A tensor on the memory of a NumPy array; neither copies, each sees the other's changes."""
    return from_buffer(array)
