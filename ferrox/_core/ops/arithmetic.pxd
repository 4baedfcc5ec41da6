# Arithmetic, for gradient rules.  See arithmetic.pyx.
from ferrox._core.graph.node cimport Node
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase full_like(TensorBase like, double value)
cdef object flat_vjp(Node n, object g)
cdef TensorBase add(object a, object b)
cdef TensorBase sub(object a, object b)
cdef TensorBase mul(object a, object b)
cdef TensorBase div(object a, object b)
cdef TensorBase neg(object a)
cdef TensorBase absolute(object a)
cdef TensorBase sign(object a)
cdef TensorBase square(object a)
cdef TensorBase reciprocal(object a)
cdef TensorBase sqrt(object a)
cdef TensorBase rsqrt(object a)
cdef TensorBase lerp(object a, object b, object weight)
