# Matrix products on host memory, for every CPU kernel that needs one.  See matmul.pyx.
from libc.stdint cimport int64_t

# C = alpha A B + beta D.  A is M by K and B is K by N with any strides (row, column; in elements, 0 allowed); the
# columns of C and D are adjacent, D may be C, a repeated row (ldd = 0) or NULL when beta is zero: then it is not read.
# Returns an fx_status: FX_ERROR_MEMORY when there is none for packing.
cdef struct gemm_product:
    int64_t m, n, k
    double alpha, beta
    int64_t alpha_whole, beta_whole     # the same for integers
    const void *a
    int64_t rsa, csa
    const void *b
    int64_t rsb, csb
    const void *d
    int64_t ldd
    void *c
    int64_t ldc
    int threads

ctypedef int (*gemm_function)(const gemm_product *p) noexcept nogil
ctypedef bint (*blas_function)(int dtype, const gemm_product *p) noexcept nogil
ctypedef double (*dot_function)(int64_t n, const void *a, const void *b, int threads) noexcept nogil

cdef int provide_gemm(int dtype, gemm_function function) except -1
# For the largest products; false where it cannot do one, and then C is untouched but for a copy of D.
cdef int provide_blas(blas_function function) except -1
cdef int provide_dot(int dtype, dot_function function) except -1

# Any fx_dtype but bool; float16 and bfloat16 accumulate in float32, integers wrap.
cdef int multiply(int dtype, const gemm_product *p) noexcept nogil
# The same for C = alpha A B + beta C, on as many threads as the setting allows.
cdef int fx_gemm(int dtype, int64_t m, int64_t n, int64_t k, double alpha, const void *a, int64_t rsa, int64_t csa,
                 const void *b, int64_t rsb, int64_t csb, double beta, void *c, int64_t ldc) noexcept nogil
