# Matrix products, for gradient rules.  See matmul.pyx.
from ferrox._core.graph.node cimport Node
from ferrox._core.graph.op cimport Op
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase matmul(object a, object b)
cdef TensorBase linear(TensorBase x, TensorBase weight, object bias)
cdef object addmm_vjp(Node n, object g)
cdef TensorBase product_added(Op op, str name, object input, object mat1, object mat2, object beta, object alpha,
                              int activation)
