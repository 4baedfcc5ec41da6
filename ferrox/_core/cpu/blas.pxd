# The only module that knows BLAS names: OpenBLAS, on our thread pool and thread setting.  See blas.pyx.
from libc.stdint cimport int64_t

# C = alpha A B + beta C as fx_gemm of matmul.pxd, for FX_F32 and FX_F64; one stride of A and of B must be 1, every size
# below 2^31.  Returns 0 where that does not hold, and nothing was computed; else 1.
cdef bint blas_gemm(int dtype, int64_t m, int64_t n, int64_t k, double alpha, const void *a, int64_t rsa, int64_t csa,
                    const void *b, int64_t rsb, int64_t csb, double beta, void *c, int64_t ldc) noexcept nogil

# To be called before any other routine of the library (LAPACK): takes over the thread setting.
cdef void blas_threads() noexcept nogil
