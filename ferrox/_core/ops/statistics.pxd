# Deviations and norms, for what is built on them.  See statistics.pyx.
from libc.stdint cimport int64_t

from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase norm_mask(TensorBase x, double order, int64_t mask, bint keepdim, int dtype)
cdef tuple var_mean_mask(TensorBase x, int64_t mask, bint keepdim, double correction)
