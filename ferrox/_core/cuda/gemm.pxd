# Matrix products on device memory, for every kernel's driver that needs one.  See gemm.pyx.
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_MAX_DIMS

cdef enum:      # operands, as fx/gemm_args.h numbers them
    A
    B
    D
    C

# C = alpha A B + beta D for each of a batch.  Strides in elements, any; the columns of C are adjacent.  D is not read
# when beta is 0; it may be C.
cdef struct product:
    int dtype, device
    int64_t m, n, k
    double alpha, beta
    char *data[4]
    int64_t row[4]
    int64_t column[4]
    int ndim                        # of the batch
    int64_t size[FX_MAX_DIMS]       # innermost first
    int64_t step[FX_MAX_DIMS][4]

# A status.  `p` may be changed.  No dimension of C is 0.
cdef int multiply(product *p) noexcept nogil
