# Calls with contiguous arrays only.  See dense.pyx.
from libc.stdint cimport uint64_t

from ferrox._core.abi cimport fx_array, fx_call, fx_kernel

# Run `inner` with every array contiguous and on the device of the first output: what is strided, overlapping, a host
# scalar or a CPU 0-d is copied to scratch first, and outputs back afterwards.  Bit i of `keep`: output i holds values
# to start from (an in-place kernel).  Bit i of `cast`: array i (outputs first) is also cast to call.dtype.
# `inner` may change the call's arrays; absent arrays stay NULL.  The result is a status.
cdef int dense(fx_call *call, fx_kernel inner, uint64_t keep, uint64_t cast) noexcept nogil
# Refuse a call on `device` because of an array that is not there.
cdef int elsewhere(fx_call *call, const fx_array *x, int device) noexcept nogil
