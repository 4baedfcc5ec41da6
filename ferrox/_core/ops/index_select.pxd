# Reading and writing whole slices by an index vector, for gradient rules.  See index_select.pyx.
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase index_select_dim(TensorBase x, int dim, TensorBase index)
cdef TensorBase index_add_zeros(tuple shape, int dim, TensorBase index, TensorBase src)
