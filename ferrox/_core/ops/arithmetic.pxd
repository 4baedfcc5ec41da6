# Arithmetic, for gradient rules.  See arithmetic.pyx.
from ferrox._core.tensor cimport TensorBase

cdef TensorBase add(object a, object b)
cdef TensorBase sub(object a, object b)
cdef TensorBase mul(object a, object b)
cdef TensorBase div(object a, object b)
cdef TensorBase neg(object a)
