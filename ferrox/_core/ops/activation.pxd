# Fused gradients of activations, for the operators that apply one to what they make.  See activation.pyx.
from ferrox._core.graph.op cimport Op

cdef Op THRESHOLD_BACKWARD
cdef Op GELU_ERF_BACKWARD
