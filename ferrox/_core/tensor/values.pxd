# Elements as Python objects, and moves between devices.  See values.pyx.
from libc.stdint cimport int64_t

from ferrox._core.tensor.base cimport TensorBase

# wait: whether the host may use what is in pinned memory at once.  transfer: both contiguous, of one dtype and size.
cdef TensorBase moved(TensorBase x, int device_type, int device_index, bint wait=*)
cdef int transfer(TensorBase out, TensorBase x, bint wait) except -1
cdef TensorBase readable(TensorBase x)
cdef object element(TensorBase x)
cdef object nested(TensorBase x, int64_t edge)
cdef TensorBase tensor_of(object data, int dtype)
cdef TensorBase with_grad(TensorBase x, object requires_grad)
