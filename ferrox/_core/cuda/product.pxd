# A matrix product on device memory, as drivers of kernels ask for it.
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_MAX_DIMS

cdef enum:      # operands, as fx/gemm_args.h numbers them
    A
    B
    D
    C

# C = f(alpha A B + beta D) for each of a batch, f an activation (fx/gemm_args.h; 0: none).  Strides in elements, any;
# the columns of C are adjacent.  D is not read when beta is 0; it may be C.
cdef struct product:
    int dtype, device
    int64_t m, n, k
    double alpha, beta
    int64_t alpha_whole, beta_whole  # the same for integers
    int activation                  # `multiply` sets it to 0 when it has applied it
    char *data[4]
    int64_t row[4]
    int64_t column[4]
    int ndim                        # of the batch
    int64_t size[FX_MAX_DIMS]       # innermost first
    int64_t step[FX_MAX_DIMS][4]

# Does it, and returns a status.
ctypedef int (*product_function)(product *p) noexcept nogil
