# Comparisons and choosing, for gradient rules.  See logic.pyx.
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase where(object condition, object x, object y)
cdef TensorBase eq(object a, object b)
cdef TensorBase lt(object a, object b)
cdef TensorBase le(object a, object b)
cdef TensorBase gt(object a, object b)
cdef TensorBase ge(object a, object b)
cdef TensorBase isnan(object x)
cdef TensorBase isfinite(object x)
cdef TensorBase both(object a, object b)
cdef TensorBase either(object a, object b)
cdef bint all_true(TensorBase x) except -1
