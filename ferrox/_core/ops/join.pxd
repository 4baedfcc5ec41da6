# Joining tensors.  See join.pyx.
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase concatenate(list tensors, int dim)
