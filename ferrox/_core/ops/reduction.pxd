# Reductions, for gradient rules.  See reduction.pyx.
from ferrox._core.tensor cimport TensorBase

cdef TensorBase sum_dims(TensorBase x, list dims, bint keepdim)
cdef TensorBase sum_to(TensorBase x, tuple shape)
cdef TensorBase spread(TensorBase g, tuple params)
