# Shapes as Python sees them.  See size.pyx.
from libc.stdint cimport int64_t

cdef object size_of(int ndim, const int64_t *dims)
