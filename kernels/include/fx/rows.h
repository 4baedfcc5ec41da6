/* Rows of arrays for kernels that work along one dimension: a row is read as contiguous float or double whatever the
 * array's dtype and stride, and written back.  C++, host only, no Python.h.
 */
#ifndef FX_ROWS_H
#define FX_ROWS_H
#include <string.h>

#include "abi.h"
#include "half.h"
#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace fx {

template <class T> inline int dtype_of(const T *) { return dtype<T>::code; }

template <class T, class S, class F>
inline void gather(T *o, const S *x, int64_t stride, int64_t n, F convert) {
    if (stride == 1)
        for (int64_t i = 0; i < n; i++) o[i] = (T)convert(x[i]);
    else
        for (int64_t i = 0; i < n; i++) o[i] = (T)convert(x[i * stride]);
}

/* n elements from `offset` on, `stride` apart: a pointer to them where they lie, or their copy in scratch. */
template <class T>
inline const T *load_row(const void *data, int dtype, int64_t offset, int64_t stride, int64_t n, T *scratch) {
    if (dtype == dtype_of(scratch) && stride == 1) return (const T *)data + offset;
    switch (dtype) {
#define FX_CASE(code, suffix, name, type, ...)                                     \
    case FX_##code:                                                                \
        gather(scratch, (const type *)data + offset, stride, n,                    \
               [](type v) { return conversion<sum_of<type>, type>::convert(v); }); \
        break;
        FX_EACH_FLOATING(FX_CASE)
#undef FX_CASE
    }
    return scratch;
}

template <class T, class D, class F>
inline void scatter(D *o, const T *x, int64_t stride, int64_t n, F convert) {
    if (stride == 1)
        for (int64_t i = 0; i < n; i++) o[i] = convert(x[i]);
    else
        for (int64_t i = 0; i < n; i++) o[i * stride] = convert(x[i]);
}

template <class T>
inline void store_row(const T *x, void *data, int dtype, int64_t offset, int64_t stride, int64_t n) {
    switch (dtype) {
#define FX_CASE(code, suffix, name, type, ...)                                                             \
    case FX_##code:                                                                                        \
        scatter((type *)data + offset, x, stride, n, [](T v) { return conversion<type, T>::convert(v); }); \
        break;
        FX_EACH_FLOATING(FX_CASE)
#undef FX_CASE
    }
}

template <class T> inline void load_one(T *v, const fx_array *a, int64_t i) {
    T scratch = 0;
    *v = *load_row<T>(a->data, a->dtype, i, 1, 1, &scratch);
}

template <class T> inline void store_one(T v, const fx_array *a, int64_t i) {
    store_row<T>(&v, a->data, a->dtype, i, 1, 1);
}

/* Where the row-major element number `flat` of an array lies, `skip` being a dimension left out of the count, or -1. */
inline int64_t offset_of(const fx_array *a, int64_t flat, int skip) {
    int64_t offset = 0;
    for (int d = a->ndim - 1; d >= 0; d--) {
        if (d == skip || a->dims[d] == 1) continue;
        offset += flat % a->dims[d] * a->dims[a->ndim + d];
        flat /= a->dims[d];
    }
    return offset;
}

/* The n elements from row-major number `start` on, of an array with any strides. */
template <class T> inline const T *load_flat(const fx_array *a, int64_t start, int64_t n, T *scratch) {
    if (a->flags & FX_CONTIGUOUS) return load_row<T>(a->data, a->dtype, start, 1, n, scratch);
    const int64_t last = a->dims[a->ndim - 1], stride = a->dims[2 * a->ndim - 1];
    if (last >= n && start % last + n <= last)
        return load_row<T>(a->data, a->dtype, offset_of(a, start, -1), stride, n, scratch);
    for (int64_t done = 0; done < n;) {
        int64_t run = last - (start + done) % last;
        if (run > n - done) run = n - done;
        const T *row = load_row<T>(a->data, a->dtype, offset_of(a, start + done, -1), stride, run, scratch + done);
        if (row != scratch + done) memcpy(scratch + done, row, run * sizeof(T));
        done += run;
    }
    return scratch;
}

/* The counterpart of load_flat for results; y may be where they lie already. */
template <class T> inline void store_flat(const T *y, const fx_array *a, int64_t start, int64_t n) {
    if (a->flags & FX_CONTIGUOUS) {
        if (a->dtype != dtype_of(y) || y != (const T *)a->data + start) store_row<T>(y, a->data, a->dtype, start, 1, n);
        return;
    }
    const int64_t last = a->dims[a->ndim - 1], stride = a->dims[2 * a->ndim - 1];
    for (int64_t done = 0; done < n;) {
        int64_t run = last - (start + done) % last;
        if (run > n - done) run = n - done;
        store_row<T>(y + done, a->data, a->dtype, offset_of(a, start + done, -1), stride, run);
        done += run;
    }
}

/* Copies past the cache, for outputs too large to be found there again. */
inline void stream(void *to, const void *from, size_t bytes) {
    char *o = (char *)to;
    const char *x = (const char *)from;
#if defined(__AVX512F__)
    enum { STEP = 64 };
#elif defined(__AVX__)
    enum { STEP = 32 };
#else
    enum { STEP = 16 };
#endif
#if defined(__SSE2__)
    size_t head = (size_t)(-(intptr_t)o & (STEP - 1));
    if (head > bytes) head = bytes;
    memcpy(o, x, head);
    o += head, x += head, bytes -= head;
    for (; bytes >= STEP; o += STEP, x += STEP, bytes -= STEP) {
#if defined(__AVX512F__)
        _mm512_stream_si512((__m512i *)o, _mm512_loadu_si512((const void *)x));
#elif defined(__AVX__)
        _mm256_stream_si256((__m256i *)o, _mm256_loadu_si256((const __m256i *)x));
#else
        _mm_stream_si128((__m128i *)o, _mm_loadu_si128((const __m128i *)x));
#endif
    }
#endif
    memcpy(o, x, bytes);
}

/* Results that come piece by piece, streamed in whole lines: a line that is streamed in two parts costs as much as
 * many. */
enum { STREAM_CHUNK = 2048 };
struct streamer {
    char *to;
    size_t held;
    alignas(64) char block[STREAM_CHUNK];
};

inline void stream_open(streamer *s, void *to) {
    s->to = (char *)to;
    s->held = 0;
}

inline void stream_add(streamer *s, const void *from, size_t bytes) {
    const char *x = (const char *)from;
    while (bytes) {
        /* A chunk ends where a line does. */
        const size_t chunk = STREAM_CHUNK - ((uintptr_t)s->to & 63), room = chunk - s->held;
        const size_t taken = bytes < room ? bytes : room;
        memcpy(s->block + s->held, x, taken);
        s->held += taken, x += taken, bytes -= taken;
        if (s->held == chunk) {
            stream(s->to, s->block, chunk);
            s->to += chunk;
            s->held = 0;
        }
    }
}

/* The rest, and an order before what other threads may read next. */
inline void stream_close(streamer *s) {
    stream(s->to, s->block, s->held);
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

/* Where a row of results is made: in its place when it can be, else in scratch. */
template <class T>
inline T *target(const fx_array *o, int streamed, int64_t stride, int64_t start, T *scratch) {
    return stride == 1 && !streamed && o->dtype == dtype_of(scratch) ? (T *)o->data + start : scratch;
}

/* Brings a row made in scratch to its place. */
template <class T>
inline void deliver(const fx_array *o, int streamed, int64_t stride, int64_t start, const T *y, int64_t n) {
    if (streamed)
        stream((T *)o->data + start, y, n * sizeof(T));
    else if (stride != 1 || o->dtype != dtype_of(y))
        store_row<T>(y, o->data, o->dtype, start, stride, n);
}

/* Rows side by side, row r of `rows` becoming column r of o: o[i * ldo + r].  For rows too short for vectors. */
template <class T>
inline void load_columns(const fx_array *a, int dim, int64_t first, int64_t rows, int64_t n, T *o, int64_t ldo,
                         T *scratch) {
    const int64_t stride = a->ndim ? a->dims[a->ndim + dim] : 1;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t start = a->flags & FX_CONTIGUOUS ? (first + r) * n : offset_of(a, first + r, dim);
        const T *x = load_row<T>(a->data, a->dtype, start, stride, n, scratch);
        for (int64_t i = 0; i < n; i++) o[i * ldo + r] = x[i];
    }
}

/* The counterpart, to rows of a contiguous array. */
template <class T>
inline void store_columns(const T *x, int64_t ldx, const fx_array *a, int64_t first, int64_t rows, int64_t n,
                          T *scratch) {
    for (int64_t r = 0; r < rows; r++) {
        T *o = target(a, 0, 1, (first + r) * n, scratch);
        for (int64_t i = 0; i < n; i++) o[i] = x[i * ldx + r];
        deliver(a, 0, 1, (first + r) * n, o, n);
    }
}

}  // namespace fx
#endif
