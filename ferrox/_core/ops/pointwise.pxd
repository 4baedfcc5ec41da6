# Functions of one element, for gradient rules.  See pointwise.pyx.
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase exp(object x)
cdef TensorBase log(object x)
cdef TensorBase tanh(object x)
cdef TensorBase sigmoid(object x)
