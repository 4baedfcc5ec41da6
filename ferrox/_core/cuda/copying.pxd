# Copies of any layout and dtype.  See copying.pyx.
from ferrox._core.abi cimport fx_call

# out, in: any dtypes and strides, `in` broadcast; a host scalar or a CPU tensor of one element too.
cdef int copy(fx_call *call) noexcept nogil
