# Random fills, for other random operators.  See random.pyx.
from ferrox._core.tensor.base cimport TensorBase

cdef int draw(str name, TensorBase out, int kernel, object generator, double a, double b, TensorBase p) except -1
cdef int put(TensorBase out, TensorBase drawn) except -1
