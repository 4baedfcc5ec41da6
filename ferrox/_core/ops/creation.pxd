# Fresh tensors, for the modules above.  See creation.pyx.
from libc.stdint cimport int64_t

from ferrox._core.tensor.base cimport TensorBase

# What the factories' keywords mean.
cdef int read_shape(str name, tuple args, object size, int64_t *shape) except -1
cdef int read_dtype(object dtype, int default) except -1
cdef object read_number(str name, str argument, object value)
cdef TensorBase allocate(str name, int ndim, const int64_t *shape, object out, object dtype, int default, object device)
