# The elementwise kernels.  See elementwise.pyx.
from ferrox._core.abi cimport fx_call

cdef int elementwise(fx_call *call) noexcept nogil
