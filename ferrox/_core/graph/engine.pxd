# Backward.  See engine.pyx.
from ferrox._core.tensor.base cimport TensorBase

# What the engine needs of the operators above it; they fill this in (ops/__init__ order: engine before rows).
cdef struct engine_operators:
    TensorBase (*add)(TensorBase a, TensorBase b)
    int (*add_into)(TensorBase a, TensorBase b) except -1           # a += b, unrecorded
    TensorBase (*fit)(TensorBase g, tuple shape, int dtype)         # sum to shape, cast
    TensorBase (*ones_like)(TensorBase like)
    TensorBase (*copy)(TensorBase of)                               # contiguous or of the same strides; recorded

cdef engine_operators operators

cdef object run_backward(tuple roots, tuple cotangents, bint retain, bint create, tuple inputs, bint accumulate)
