# Reading and writing through index tensors of the input's dimensions, for gradient rules.  See gather_scatter.pyx.
from libc.stdint cimport int64_t

from ferrox._core.graph.op cimport Op
from ferrox._core.tensor.base cimport TensorBase
from ferrox._core.tensor.frame cimport frame

cdef TensorBase gather_dim(TensorBase x, int dim, TensorBase index)
cdef TensorBase scatter_add_dim(TensorBase x, int dim, TensorBase index, TensorBase src)
cdef TensorBase scatter_zeros(tuple shape, int dim, TensorBase index, TensorBase src)
cdef TensorBase changed(frame *f, Op op, TensorBase x, TensorBase index, TensorBase src, object kept, bint here)
cdef int added_to_zeros(frame *f, Op op, TensorBase out, TensorBase index, TensorBase src, object kept) except -1
cdef TensorBase last_written(tuple shape, int dim, TensorBase index)
cdef TensorBase number_like(object value, int dtype, TensorBase like)
cdef TensorBase whole_numbers(str name, object index)
cdef TensorBase counting(int64_t n, TensorBase like)
cdef object unless(object mask, object x)
