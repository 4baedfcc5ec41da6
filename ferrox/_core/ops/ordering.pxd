# Ordering, for what is built on it.  See ordering.pyx.
from ferrox._core.tensor.base cimport TensorBase
from libc.stdint cimport int64_t

cdef tuple sort_dim(TensorBase x, int dim, bint descending, bint stable)
cdef tuple kth_dim(TensorBase x, int64_t k, int dim, bint keepdim)
