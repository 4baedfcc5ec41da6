# Views that select elements: slices, diagonals, sliding windows.  See views.pyx.
from libc.stdint cimport int64_t

from ferrox._core.graph.node cimport Node
from ferrox._core.graph.op cimport Op
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase window(Op op, TensorBase x, int ndim, const int64_t *shape, const int64_t *strides, int64_t offset,
                       const int64_t *dense_strides, int64_t dense_offset)
cdef TensorBase select_dim(TensorBase x, int dim, int64_t index)
cdef TensorBase narrow_dim(TensorBase x, int dim, int64_t start, int64_t length)
cdef TensorBase slice_dim(TensorBase x, int dim, int64_t start, int64_t step, int64_t length)
cdef void dense_strides_of(TensorBase x, int64_t *strides) noexcept
cdef TensorBase zeros(tuple sizes, int dtype, TensorBase like)
cdef int zero_out(TensorBase out) except -1
cdef object window_vjp(Node n, object g)
