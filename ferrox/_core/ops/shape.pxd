# Views and movement, for gradient rules and the layers above.  See shape.pyx.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from ferrox._core.graph.node cimport Node
from ferrox._core.graph.op cimport Op
from ferrox._core.tensor.base cimport TensorBase

# A view of x recorded under op; params go to its node.
cdef TensorBase view_as(Op op, TensorBase x, int ndim, const int64_t *shape, const int64_t *strides, int64_t offset,
                        object params)
cdef int read_sizes(str name, object sizes, int64_t *into) except -1
cdef int read_dim(object dim, int ndim) except -1
cdef int64_t read_int(str name, str argument, object value) except? -1
cdef TensorBase contiguous(TensorBase x)
cdef TensorBase reshape(TensorBase x, object shape)
cdef TensorBase permute(TensorBase x, object dims)
cdef TensorBase transpose(TensorBase x, int dim0, int dim1)
cdef TensorBase expand(TensorBase x, object shape)
cdef TensorBase to_dtype(TensorBase x, int dtype)
cdef TensorBase viewed(Op op, TensorBase x, object sizes, bint must_view)
cdef TensorBase permuted(Op op, TensorBase x, list order)
cdef object reshape_vjp(Node n, object g)
cdef object permute_vjp(Node n, object g)
cdef object identity_vjp(Node n, object g)
