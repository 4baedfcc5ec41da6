# Scans along a dimension, for gradient rules.  See scan.pyx.
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase cumsum_dim(TensorBase x, int dim, bint reverse)
cdef TensorBase cumprod_dim(TensorBase x, int dim, bint reverse)
cdef TensorBase linear_scan(TensorBase a, TensorBase b, int dim, bint reverse)
