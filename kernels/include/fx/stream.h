/* Stores that bypass the caches, strided moves and transposed tiles: what the copying loops cannot say in Cython. */
#ifndef FX_STREAM_H
#define FX_STREAM_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Copies with non-temporal stores where the machine has them; call fx_stream_fence before others read. */
static inline void fx_stream_copy(void *to, const void *from, size_t bytes) {
#ifdef __SSE2__
    char *d = (char *)to;
    const char *s = (const char *)from;
    size_t head = (size_t)(-(uintptr_t)d & 63);
    if (head >= bytes) {
        memcpy(d, s, bytes);
        return;
    }
    memcpy(d, s, head);
    d += head, s += head, bytes -= head;
    for (; bytes >= 64; d += 64, s += 64, bytes -= 64) {
        __m128i a = _mm_loadu_si128((const __m128i *)s), b = _mm_loadu_si128((const __m128i *)(s + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(s + 32)), e = _mm_loadu_si128((const __m128i *)(s + 48));
        _mm_stream_si128((__m128i *)d, a);
        _mm_stream_si128((__m128i *)(d + 16), b);
        _mm_stream_si128((__m128i *)(d + 32), c);
        _mm_stream_si128((__m128i *)(d + 48), e);
    }
    memcpy(d, s, bytes);
#else
    memcpy(to, from, bytes);
#endif
}

static inline void fx_stream_fence(void) {
#ifdef __SSE2__
    _mm_sfence();
#endif
}

/* memcpy without its switch to "rep movsb", which virtual machines can run at a GB/s. */
static inline void fx_copy_row(void *to, const void *from, size_t bytes) {
    char *d = (char *)to;
    const char *s = (const char *)from;
#ifdef __SSE2__
    for (; bytes >= 64; d += 64, s += 64, bytes -= 64) {
        __m128i a = _mm_loadu_si128((const __m128i *)s), b = _mm_loadu_si128((const __m128i *)(s + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(s + 32)), e = _mm_loadu_si128((const __m128i *)(s + 48));
        _mm_storeu_si128((__m128i *)d, a);
        _mm_storeu_si128((__m128i *)(d + 16), b);
        _mm_storeu_si128((__m128i *)(d + 32), c);
        _mm_storeu_si128((__m128i *)(d + 48), e);
    }
#endif
    memcpy(d, s, bytes);
}

/* Compiled for AVX2 as well, and chosen by the loader, where compiler and loader can. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(__AVX2__)
#define FX_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define FX_CLONES
#endif

/* Strides in items.  The constant strides are those that the compiler turns into shuffles. */
#define FX_MOVES(BITS)                                                                                           \
    FX_CLONES static void fx_fill##BITS(uint##BITS##_t *d, uint##BITS##_t value, ptrdiff_t n) {                  \
        for (ptrdiff_t i = 0; i < n; i++) d[i] = value;                                                          \
    }                                                                                                            \
    FX_CLONES static void fx_gather##BITS(uint##BITS##_t *restrict d, const uint##BITS##_t *restrict s,          \
                                          ptrdiff_t stride, ptrdiff_t n) {                                       \
        ptrdiff_t i = 0;                                                                                         \
        if (stride == 2) {                                                                                       \
            for (; i + 1 < n; i++) d[i] = s[2 * i];                                                              \
        } else if (stride == -1) {                                                                               \
            for (; i < n; i++) d[i] = s[-i];                                                                     \
        } else {                                                                                                 \
            for (; i + 4 <= n; i += 4) {                                                                         \
                const uint##BITS##_t *t = s + i * stride;                                                        \
                d[i] = t[0], d[i + 1] = t[stride], d[i + 2] = t[2 * stride], d[i + 3] = t[3 * stride];           \
            }                                                                                                    \
        }                                                                                                        \
        for (; i < n; i++) d[i] = s[i * stride];                                                                 \
    }                                                                                                            \
    static void fx_scatter##BITS(uint##BITS##_t *restrict d, ptrdiff_t stride, const uint##BITS##_t *restrict s, \
                                 ptrdiff_t from, ptrdiff_t n) {                                                  \
        ptrdiff_t i = 0;                                                                                         \
        for (; i + 4 <= n; i += 4) {                                                                             \
            uint##BITS##_t *t = d + i * stride;                                                                  \
            const uint##BITS##_t *u = s + i * from;                                                              \
            t[0] = u[0], t[stride] = u[from], t[2 * stride] = u[2 * from], t[3 * stride] = u[3 * from];          \
        }                                                                                                        \
        for (; i < n; i++) d[i * stride] = s[i * from];                                                          \
    }

FX_MOVES(8)
FX_MOVES(16)
FX_MOVES(32)
FX_MOVES(64)

/* d[r * drs + c] = s[r + c * scs] for r < rows, c < cols; strides in items.  Columns are outside, so that each line of
 * s is used up at once, however the columns collide in the cache. */
#ifdef __SSE2__
#define FX_LOW(p) _mm_loadl_epi64((const __m128i *)(p))
#define FX_ALL(p) _mm_loadu_si128((const __m128i *)(p))
#define FX_TWO_ROWS(o, drs, v) \
    (_mm_storel_epi64((__m128i *)(o), v), _mm_storel_epi64((__m128i *)((o) + (drs)), _mm_unpackhi_epi64(v, v)))

static inline void fx_square8(uint8_t *o, ptrdiff_t drs, const uint8_t *t, ptrdiff_t scs) {
    __m128i a = _mm_unpacklo_epi8(FX_LOW(t), FX_LOW(t + scs));
    __m128i b = _mm_unpacklo_epi8(FX_LOW(t + 2 * scs), FX_LOW(t + 3 * scs));
    __m128i c = _mm_unpacklo_epi8(FX_LOW(t + 4 * scs), FX_LOW(t + 5 * scs));
    __m128i e = _mm_unpacklo_epi8(FX_LOW(t + 6 * scs), FX_LOW(t + 7 * scs));
    __m128i ab = _mm_unpacklo_epi16(a, b), ce = _mm_unpacklo_epi16(c, e);
    __m128i ab2 = _mm_unpackhi_epi16(a, b), ce2 = _mm_unpackhi_epi16(c, e);
    FX_TWO_ROWS(o, drs, _mm_unpacklo_epi32(ab, ce));
    FX_TWO_ROWS(o + 2 * drs, drs, _mm_unpackhi_epi32(ab, ce));
    FX_TWO_ROWS(o + 4 * drs, drs, _mm_unpacklo_epi32(ab2, ce2));
    FX_TWO_ROWS(o + 6 * drs, drs, _mm_unpackhi_epi32(ab2, ce2));
}

static inline void fx_square16(uint16_t *o, ptrdiff_t drs, const uint16_t *t, ptrdiff_t scs) {
    __m128i a = _mm_unpacklo_epi16(FX_LOW(t), FX_LOW(t + scs));
    __m128i b = _mm_unpacklo_epi16(FX_LOW(t + 2 * scs), FX_LOW(t + 3 * scs));
    FX_TWO_ROWS(o, drs, _mm_unpacklo_epi32(a, b));
    FX_TWO_ROWS(o + 2 * drs, drs, _mm_unpackhi_epi32(a, b));
}

static inline void fx_square32(uint32_t *o, ptrdiff_t drs, const uint32_t *t, ptrdiff_t scs) {
    __m128i a = FX_ALL(t), b = FX_ALL(t + scs), c = FX_ALL(t + 2 * scs), e = FX_ALL(t + 3 * scs);
    __m128i ab = _mm_unpacklo_epi32(a, b), ce = _mm_unpacklo_epi32(c, e);
    __m128i ab2 = _mm_unpackhi_epi32(a, b), ce2 = _mm_unpackhi_epi32(c, e);
    _mm_storeu_si128((__m128i *)o, _mm_unpacklo_epi64(ab, ce));
    _mm_storeu_si128((__m128i *)(o + drs), _mm_unpackhi_epi64(ab, ce));
    _mm_storeu_si128((__m128i *)(o + 2 * drs), _mm_unpacklo_epi64(ab2, ce2));
    _mm_storeu_si128((__m128i *)(o + 3 * drs), _mm_unpackhi_epi64(ab2, ce2));
}

static inline void fx_square64(uint64_t *o, ptrdiff_t drs, const uint64_t *t, ptrdiff_t scs) {
    __m128i a = FX_ALL(t), b = FX_ALL(t + scs);
    _mm_storeu_si128((__m128i *)o, _mm_unpacklo_epi64(a, b));
    _mm_storeu_si128((__m128i *)(o + drs), _mm_unpackhi_epi64(a, b));
}
#else
#define fx_square8(o, drs, t, scs) (*(o) = *(t))
#define fx_square16 fx_square8
#define fx_square32 fx_square8
#define fx_square64 fx_square8
#endif

#ifdef __SSE2__
#define FX_SIDE(n) (n)
#else
#define FX_SIDE(n) 1
#endif

#define FX_TRANSPOSE(BITS, SIDE)                                                                             \
    static void fx_transpose##BITS(uint##BITS##_t *d, ptrdiff_t drs, const uint##BITS##_t *s, ptrdiff_t scs, \
                                   ptrdiff_t rows, ptrdiff_t cols) {                                         \
        ptrdiff_t r, c, whole = rows / (SIDE) * (SIDE);                                                      \
        for (c = 0; c + (SIDE) <= cols; c += (SIDE))                                                         \
            for (r = 0; r < whole; r += (SIDE)) fx_square##BITS(d + r * drs + c, drs, s + r + c * scs, scs); \
        for (; c < cols; c++)                                                                                \
            for (r = 0; r < whole; r++) d[r * drs + c] = s[r + c * scs];                                     \
        for (r = whole; r < rows; r++)                                                                       \
            for (c = 0; c < cols; c++) d[r * drs + c] = s[r + c * scs];                                      \
    }

FX_TRANSPOSE(8, FX_SIDE(8))
FX_TRANSPOSE(16, FX_SIDE(4))
FX_TRANSPOSE(32, FX_SIDE(4))
FX_TRANSPOSE(64, FX_SIDE(2))
#endif
