/* Stores that bypass the caches, and transposition of small tiles: what the CPU's copying loops cannot say in Cython. */
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

/* d[r * drs + c] = s[r + c * scs] for r < rows, c < cols; strides in elements. */
static inline void fx_transpose32(uint32_t *d, ptrdiff_t drs, const uint32_t *s, ptrdiff_t scs, ptrdiff_t rows,
                                  ptrdiff_t cols) {
    ptrdiff_t r = 0, c;
#ifdef __SSE2__
    for (; r + 4 <= rows; r += 4) {
        for (c = 0; c + 4 <= cols; c += 4) {
            const uint32_t *t = s + r + c * scs;
            uint32_t *o = d + r * drs + c;
            __m128i a = _mm_loadu_si128((const __m128i *)t), b = _mm_loadu_si128((const __m128i *)(t + scs));
            __m128i e = _mm_loadu_si128((const __m128i *)(t + 2 * scs)), f = _mm_loadu_si128((const __m128i *)(t + 3 * scs));
            __m128i ab = _mm_unpacklo_epi32(a, b), ef = _mm_unpacklo_epi32(e, f);
            __m128i ab2 = _mm_unpackhi_epi32(a, b), ef2 = _mm_unpackhi_epi32(e, f);
            _mm_storeu_si128((__m128i *)o, _mm_unpacklo_epi64(ab, ef));
            _mm_storeu_si128((__m128i *)(o + drs), _mm_unpackhi_epi64(ab, ef));
            _mm_storeu_si128((__m128i *)(o + 2 * drs), _mm_unpacklo_epi64(ab2, ef2));
            _mm_storeu_si128((__m128i *)(o + 3 * drs), _mm_unpackhi_epi64(ab2, ef2));
        }
        for (; c < cols; c++)
            for (int k = 0; k < 4; k++) d[(r + k) * drs + c] = s[r + k + c * scs];
    }
#endif
    for (; r < rows; r++)
        for (c = 0; c < cols; c++) d[r * drs + c] = s[r + c * scs];
}

static inline void fx_transpose64(uint64_t *d, ptrdiff_t drs, const uint64_t *s, ptrdiff_t scs, ptrdiff_t rows,
                                  ptrdiff_t cols) {
    ptrdiff_t r = 0, c;
#ifdef __SSE2__
    for (; r + 2 <= rows; r += 2) {
        for (c = 0; c + 2 <= cols; c += 2) {
            const uint64_t *t = s + r + c * scs;
            uint64_t *o = d + r * drs + c;
            __m128i a = _mm_loadu_si128((const __m128i *)t), b = _mm_loadu_si128((const __m128i *)(t + scs));
            _mm_storeu_si128((__m128i *)o, _mm_unpacklo_epi64(a, b));
            _mm_storeu_si128((__m128i *)(o + drs), _mm_unpackhi_epi64(a, b));
        }
        for (; c < cols; c++)
            for (int k = 0; k < 2; k++) d[(r + k) * drs + c] = s[r + k + c * scs];
    }
#endif
    for (; r < rows; r++)
        for (c = 0; c < cols; c++) d[r * drs + c] = s[r + c * scs];
}
#endif
