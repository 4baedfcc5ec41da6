# Memory shared with others.  See interchange.pyx.
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase from_buffer(object source)
cdef TensorBase numpy_array(object value)
cdef object plain_operand(object value)
cdef bint holds_bools(TensorBase x) noexcept
cdef TensorBase with_bools(TensorBase x)
cdef int export_buffer(TensorBase x, Py_buffer *buffer, int flags) except -1
cdef void release_buffer(Py_buffer *buffer) noexcept
cdef object to_numpy(TensorBase x, bint force)
