# Reductions, for gradient rules.  See reduction.pyx.
from libc.stdint cimport int64_t

from ferrox._core.graph.op cimport Op
from ferrox._core.tensor.base cimport TensorBase
from ferrox._core.tensor.frame cimport frame

cdef int64_t dims_mask(object dim, int ndim) except? -1
cdef int64_t reduced_size(TensorBase x, int64_t mask) noexcept
cdef TensorBase make_reduced(frame *f, TensorBase x, int64_t mask, bint keepdim, int dtype)
cdef object named(str name, tuple values)
cdef tuple kept_shape(int64_t mask, tuple full)
cdef int check_not_empty(str name, TensorBase x, int64_t mask, bint whole) except -1
cdef TensorBase reduced(Op op, TensorBase x, int64_t mask, bint keepdim, int out_dtype, int dtype, double p1,
                        object kept)
cdef TensorBase sum_dims(TensorBase x, list dims, bint keepdim)
cdef TensorBase sum_mask(TensorBase x, int64_t mask, bint keepdim)
cdef TensorBase mean_mask(TensorBase x, int64_t mask, bint keepdim)
cdef TensorBase extreme(TensorBase x, int64_t mask, bint keepdim, bint largest, bint whole)
cdef TensorBase sum_to(TensorBase x, tuple shape)
cdef TensorBase spread(TensorBase g, tuple params)
