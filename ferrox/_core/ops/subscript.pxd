# Indexing: what x[...] and x[...] = value do.  See subscript.pyx.
from ferrox._core.tensor.base cimport TensorBase

cdef TensorBase get_item(TensorBase x, object key)
cdef int set_item(TensorBase x, object key, object value) except -1
