# Bounds, for gradient rules and the modules above.  See clamp.pyx.
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase clamp_numbers(object x, double low, double high)
cdef TensorBase clamp(object input, object low, object high)
