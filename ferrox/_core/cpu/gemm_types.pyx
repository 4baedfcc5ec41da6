"""Products of the types that the register tiles do not know: half precision through float32, integers by wrapping."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from ferrox._core.abi cimport FX_BF16, FX_ERROR_MEMORY, FX_F16, FX_F32, FX_I8, FX_I16, FX_I32, FX_I64, FX_OK, FX_U8
from ferrox._core.cpu.matmul cimport gemm_product, multiply, provide_gemm

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline float fx_widen_f16(uint16_t bits) {
        _Float16 h;
        memcpy(&h, &bits, 2);
        return (float)h;
    }
    static inline uint16_t fx_narrow_f16(float f) {
        _Float16 h = (_Float16)f;
        uint16_t bits;
        memcpy(&bits, &h, 2);
        return bits;
    }
    """
    float fx_widen_f16(uint16_t bits) nogil
    uint16_t fx_narrow_f16(float f) nogil


# The unsigned type of each width: multiplication and addition modulo 2^n serve both signs.
ctypedef fused word:
    uint8_t
    uint16_t
    uint32_t
    uint64_t


cdef inline float widen(uint16_t x, bint brain) noexcept nogil:
    cdef uint32_t bits
    cdef float f
    if not brain:
        return fx_widen_f16(x)
    bits = <uint32_t> x << 16
    memcpy(&f, &bits, 4)
    return f


cdef inline uint16_t narrow(float f, bint brain) noexcept nogil:
    """To nearest, ties to even."""
    cdef uint32_t bits
    if not brain:
        return fx_narrow_f16(f)
    memcpy(&bits, &f, 4)
    if f != f:
        return <uint16_t> (bits >> 16 | 0x40)
    return <uint16_t> ((bits + 0x7fff + (bits >> 16 & 1)) >> 16)


cdef void widen_matrix(const uint16_t *x, int64_t rs, int64_t cs, int64_t m, int64_t n, float *to,
                       bint brain) noexcept nogil:
    cdef int64_t i, j
    for i in range(m):
        if cs == 1 and brain:
            for j in range(n):
                to[i * n + j] = widen(x[i * rs + j], True)
        elif cs == 1:
            for j in range(n):
                to[i * n + j] = widen(x[i * rs + j], False)
        else:
            for j in range(n):
                to[i * n + j] = widen(x[i * rs + j * cs], brain)


cdef int half_product(const gemm_product *p, bint brain) noexcept nogil:
    """Whole operands in float32: the accumulation is float32 and each element of C is rounded once."""
    cdef int64_t i, j, m = p.m, n = p.n, k = p.k, d_rows = 0
    cdef gemm_product q = p[0]
    cdef float *a
    cdef float *b
    cdef float *c
    cdef float *d
    cdef uint16_t *out = <uint16_t *> p.c
    cdef int status
    if m <= 0 or n <= 0:
        return FX_OK
    if p.beta != 0:
        d_rows = m if p.ldd else 1
    a = <float *> malloc((m * k + k * n + m * n + d_rows * n) * sizeof(float))
    if a == NULL:
        return FX_ERROR_MEMORY
    b = a + m * k
    c = b + k * n
    d = c + m * n
    # The adjacent dimension stays adjacent, so that the conversion reads in order.
    if p.csa == 1 or p.rsa != 1:
        widen_matrix(<const uint16_t *> p.a, p.rsa, p.csa, m, k, a, brain)
        q.rsa, q.csa = k, 1
    else:
        widen_matrix(<const uint16_t *> p.a, p.csa, p.rsa, k, m, a, brain)
        q.rsa, q.csa = 1, m
    if p.csb == 1 or p.rsb != 1:
        widen_matrix(<const uint16_t *> p.b, p.rsb, p.csb, k, n, b, brain)
        q.rsb, q.csb = n, 1
    else:
        widen_matrix(<const uint16_t *> p.b, p.csb, p.rsb, n, k, b, brain)
        q.rsb, q.csb = 1, k
    if d_rows:
        widen_matrix(<const uint16_t *> p.d, p.ldd, 1, d_rows, n, d, brain)
    q.a, q.b, q.c, q.d = a, b, c, d
    q.ldc = n
    q.ldd = n if d_rows > 1 else 0
    status = multiply(FX_F32, &q)
    if status == FX_OK:
        for i in range(m):
            for j in range(n):
                out[i * p.ldc + j] = narrow(c[i * n + j], brain)
    free(a)
    return status


cdef int product_f16(const gemm_product *p) noexcept nogil:
    return half_product(p, False)


cdef int product_bf16(const gemm_product *p) noexcept nogil:
    return half_product(p, True)


cdef int integer_product(const gemm_product *p, word zero) noexcept nogil:
    """Rows of C, each the sum of rows of B; alpha and beta are integers."""
    cdef int64_t i, j, k, rsb = p.rsb, csb = p.csb
    cdef const word *a = <const word *> p.a
    cdef const word *b = <const word *> p.b
    cdef const word *d
    cdef word *c
    cdef word *packed = NULL
    cdef word e, alpha = <word> p.alpha_whole, beta = <word> p.beta_whole
    if csb != 1 and p.m > 1 and p.k > 0 and p.n > 0:
        packed = <word *> malloc(p.k * p.n * sizeof(word))
        if packed == NULL:
            return FX_ERROR_MEMORY
        for j in range(p.n):
            for k in range(p.k):
                packed[k * p.n + j] = b[k * rsb + j * csb]
        b = packed
        rsb, csb = p.n, 1
    for i in range(p.m):
        c = <word *> p.c + i * p.ldc
        d = <const word *> p.d + i * p.ldd
        if beta == 0:
            for j in range(p.n):
                c[j] = 0
        else:
            for j in range(p.n):
                c[j] = <word> (beta * d[j])
        for k in range(p.k):
            e = <word> (alpha * a[i * p.rsa + k * p.csa])
            if csb == 1:
                for j in range(p.n):
                    c[j] = <word> (c[j] + e * b[k * rsb + j])
            else:
                for j in range(p.n):
                    c[j] = <word> (c[j] + e * b[k * rsb + j * csb])
    free(packed)
    return FX_OK


cdef int product_8(const gemm_product *p) noexcept nogil:
    return integer_product[uint8_t](p, 0)


cdef int product_16(const gemm_product *p) noexcept nogil:
    return integer_product[uint16_t](p, 0)


cdef int product_32(const gemm_product *p) noexcept nogil:
    return integer_product[uint32_t](p, 0)


cdef int product_64(const gemm_product *p) noexcept nogil:
    return integer_product[uint64_t](p, 0)


provide_gemm(FX_F16, product_f16)
provide_gemm(FX_BF16, product_bf16)
provide_gemm(FX_U8, product_8)
provide_gemm(FX_I8, product_8)
provide_gemm(FX_I16, product_16)
provide_gemm(FX_I32, product_32)
provide_gemm(FX_I64, product_64)
