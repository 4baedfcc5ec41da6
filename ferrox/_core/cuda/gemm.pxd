# Matrix products on device memory, for every kernel's driver that needs one.  See gemm.pyx.
from ferrox._core.cuda.product cimport product

# A status.  `p` may be changed.  No dimension of C is 0.
cdef int multiply(product *p) noexcept nogil
# Whether float32 may be rounded to tf32 for the tensor cores.
cdef bint tf32_is_allowed() noexcept nogil
