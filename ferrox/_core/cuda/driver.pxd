# The CUDA driver: its entry points, its errors.  See driver.pyx.
from ferrox._core.cuda.abi cimport CUresult, cuda_driver

cdef enum:
    # Beside the driver's own: what stops a call before it reaches the driver.
    CUDA_UNAVAILABLE = -1   # open_driver() has not succeeded
    CUDA_FORKED = -2        # a child process of the one that opened the driver
    CUDA_BROKEN = -3        # an earlier error has destroyed the context (Note [Sticky errors])
    CUDA_CAPTURING = -6     # it would break the capture of a graph (capturing.pyx)
    # Of the driver's own, those that are more than a failure.
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209
    CUDA_ERROR_NOT_FOUND = 500
    CUDA_ERROR_NOT_READY = 600

# Valid once open_driver() has returned.
cdef cuda_driver cu

cdef int open_driver() except -1
# CUDA_FORKED, CUDA_BROKEN or CUDA_UNAVAILABLE when the driver must not be called (memory is then not freed), else 0.
cdef CUresult usable() noexcept nogil
# Every status goes through one of these: `check` raises, `noted` only remembers what Note [Sticky errors] is about.
cdef int check(CUresult status, str doing) except -1
cdef CUresult noted(CUresult status) noexcept nogil
# A CudaError to be raised; `kernel` and `shape` of the launch, where there was one.
cdef object error(CUresult status, str doing, str kernel=*, object shape=*)
