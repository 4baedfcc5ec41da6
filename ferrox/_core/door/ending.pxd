# Kernels without the GIL at the end of the interpreter.  See door/ending.pyx.
from ferrox._core.abi cimport fx_call, fx_kernel

cdef int run_released(fx_kernel kernel, fx_call *call) noexcept
# Around other work without the GIL on memory that objects own.
cdef void begin_released() noexcept nogil
cdef void end_released() noexcept nogil
