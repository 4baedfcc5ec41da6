# Matrix products, for gradient rules.  See matmul.pyx.
from ferrox._core.tensor cimport TensorBase

cdef TensorBase matmul(object a, object b)
cdef TensorBase linear(TensorBase x, TensorBase weight, object bias)
