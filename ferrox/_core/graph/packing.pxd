# What stands in a node for a saved tensor under saved_tensors_hooks.  See packing.pyx.
from ferrox._core.tensor.base cimport TensorBase

cdef class Packed:
    cdef object unpack
    cdef object packed

cdef bint packing() noexcept
cdef object pack(TensorBase tensor)
cdef TensorBase unpack(Packed value)
