# Powers, for gradient rules.  See power.pyx.
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase power(object x, object e)
