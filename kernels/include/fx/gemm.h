/* Register tiles of the matrix product, and the vector ends that GEMV and dot are made of.  C++, no Python.h.
 *
 * One source for 16-, 32- and 64-byte vectors: GCC vector extensions, so that the compiler level decides.  A tile is
 * MR rows by NV vectors of C, held in registers over the whole of K; the blocking around it is in cpu/gemm.pyx.
 *
 * Ends without masks: the last vector of a tile starts at an offset of the caller's choice, so a tile whose width is no
 * multiple of the vector computes some columns twice, to the same bits, instead of masking.  Only a matrix narrower
 * than one vector needs partial loads and stores.
 *
 * Every element of C is one chain of multiply-adds over k in order, whatever the tile: results do not depend on how
 * rows and columns were cut, and so not on the number of threads.
 */
#ifndef FX_GEMM_H
#define FX_GEMM_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX__)
#include <immintrin.h>
#endif

/* FX_WIDE: the shapes of AVX-512 in pairs of registers, to test them on machines without it. */
#if defined(__AVX512F__) || defined(FX_WIDE)
#define FX_VECTOR_BYTES 64
#define FX_TILE_ROWS 12
#define FX_TILE_VECTORS 2
#elif defined(__AVX__)
#define FX_VECTOR_BYTES 32
#define FX_TILE_ROWS 6
#define FX_TILE_VECTORS 2
#elif defined(__aarch64__)
#define FX_VECTOR_BYTES 16
#define FX_TILE_ROWS 6
#define FX_TILE_VECTORS 4
#else
#define FX_VECTOR_BYTES 16
#define FX_TILE_ROWS 6
#define FX_TILE_VECTORS 2
#endif

#define FX_NARROW_ROWS 12 /* rows of a tile of one vector */
#define FX_PREFETCH 12 /* rows of B ahead */
#define FX_UNROLL _Pragma("GCC unroll 16")

namespace fx {

template <class T> struct simd {
    typedef T vec __attribute__((vector_size(FX_VECTOR_BYTES)));
    typedef T loose __attribute__((vector_size(FX_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
    static constexpr int lanes = FX_VECTOR_BYTES / sizeof(T);
};

template <class T> static inline typename simd<T>::vec load(const T *p) { return *(const typename simd<T>::loose *)p; }
template <class T> static inline void store(T *p, typename simd<T>::vec v) { *(typename simd<T>::loose *)p = v; }

/* The first n < lanes elements; the others read as zero and are not touched in memory. */
template <class T> static inline typename simd<T>::vec load_part(const T *p, int n) {
    typename simd<T>::vec v = {};
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        v = (typename simd<T>::vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
    else
        v = (typename simd<T>::vec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#elif defined(__AVX2__) && FX_VECTOR_BYTES == 32
    if constexpr (sizeof(T) == 4)
        v = (typename simd<T>::vec)_mm256_maskload_ps(
            (const float *)p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
    else
        v = (typename simd<T>::vec)_mm256_maskload_pd(
            (const double *)p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3)));
#else
    for (int i = 0; i < n; i++) v[i] = p[i];
#endif
    return v;
}
template <class T> static inline void store_part(T *p, typename simd<T>::vec v, int n) {
    for (int i = 0; i < n; i++) p[i] = v[i];
}

/* What the tiles of one block have in common.  C = alpha A B + beta D over an MR by width block; D may be C itself,
 * or a row repeated (ldd = 0), and is not read when beta is zero. */
template <class T> struct block {
    int64_t k;
    int64_t rsa, csa; /* strides of A in elements */
    int64_t ldb;      /* from one row of B to the next; columns are adjacent */
    int64_t ldc, ldd;
    T alpha, beta;
};

/* last_b and last_c: column of the last vector, in B's row (NV vectors apart when packed) and in C's. */
template <class T, int MR, int NV, bool PART>
static void tile(const block<T> *s, const T *a, const T *b, T *c, const T *d, int64_t last_b, int64_t last_c,
                 int part) {
    typedef typename simd<T>::vec vec;
    constexpr int L = simd<T>::lanes;
    const int64_t rsa = s->rsa, csa = s->csa, ldb = s->ldb;
    vec acc[MR][NV];
    FX_UNROLL
    for (int i = 0; i < MR; i++) __builtin_prefetch(c + i * s->ldc, 1);
    FX_UNROLL
    for (int i = 0; i < MR; i++) {
        FX_UNROLL
        for (int v = 0; v < NV; v++) acc[i][v] = vec{};
    }
    for (int64_t k = s->k; k > 0; k--) {
        vec x[NV];
        /* Panels of B stream from L2 or beyond. */
        if (!PART) {
            FX_UNROLL
            for (int v = 0; v * FX_VECTOR_BYTES < NV * FX_VECTOR_BYTES; v += 64 / FX_VECTOR_BYTES)
                __builtin_prefetch(b + FX_PREFETCH * ldb + v * L);
        }
        FX_UNROLL
        for (int v = 0; v < NV - 1; v++) x[v] = load(b + v * L);
        x[NV - 1] = PART ? load_part(b + last_b, part) : load(b + last_b);
        FX_UNROLL
        for (int i = 0; i < MR; i++) {
            const T e = a[i * rsa];
            FX_UNROLL
            for (int v = 0; v < NV; v++) acc[i][v] += e * x[v];
        }
        a += csa;
        b += ldb;
    }
    const T alpha = s->alpha, beta = s->beta;
    const int64_t ldc = s->ldc, ldd = s->ldd;
    FX_UNROLL
    for (int i = 0; i < MR; i++) {
        FX_UNROLL
        for (int v = 0; v < NV; v++) acc[i][v] *= alpha;
        if (beta != 0) {
            vec old[NV];
            FX_UNROLL
            for (int v = 0; v < NV; v++) {
                const T *p = d + i * ldd + (v == NV - 1 ? last_c : v * L);
                old[v] = PART ? load_part(p, part) : load(p);
            }
            FX_UNROLL
            for (int v = 0; v < NV; v++) acc[i][v] += beta * old[v];
        }
        FX_UNROLL
        for (int v = 0; v < NV; v++) {
            T *p = c + i * ldc + (v == NV - 1 ? last_c : v * L);
            if (PART)
                store_part(p, acc[i][v], part);
            else
                store(p, acc[i][v]);
        }
    }
}

template <class T>
using tile_function = void (*)(const block<T> *, const T *, const T *, T *, const T *, int64_t, int64_t, int);

#define FX_ROWS_6(NV, PART)                                                                                          \
    0, tile<T, 1, NV, PART>, tile<T, 2, NV, PART>, tile<T, 3, NV, PART>, tile<T, 4, NV, PART>, tile<T, 5, NV, PART>, \
        tile<T, 6, NV, PART>
#define FX_ROWS_12(NV, PART)                                                                                      \
    FX_ROWS_6(NV, PART), tile<T, 7, NV, PART>, tile<T, 8, NV, PART>, tile<T, 9, NV, PART>, tile<T, 10, NV, PART>, \
        tile<T, 11, NV, PART>, tile<T, 12, NV, PART>

/* By number of vectors (0: a part of one) and rows. */
template <class T> struct tiles {
    static constexpr tile_function<T> table[FX_TILE_VECTORS + 1][FX_NARROW_ROWS + 1] = {
        {FX_ROWS_12(1, true)},  {FX_ROWS_12(1, false)},
#if FX_TILE_ROWS == 12
        {FX_ROWS_12(2, false)},
#else
        {FX_ROWS_6(2, false)},
#endif
#if FX_TILE_VECTORS == 4
        {FX_ROWS_6(3, false)},  {FX_ROWS_6(4, false)},
#endif
    };
};

template <class T>
static inline void run_tile(int vectors, int64_t rows, const block<T> *s, const T *a, const T *b, T *c, const T *d,
                            int64_t last_b, int64_t last_c, int part) {
    tiles<T>::table[vectors][rows](s, a, b, c, d, last_b, last_c, part);
}

/* `panels` whole panels side by side: rows of B are read in order, whatever their pitch. */
template <class T> static inline void pack_panels(T *to, const T *b, int64_t ldb, int64_t k, int64_t panels) {
    constexpr int L = simd<T>::lanes;
    for (int64_t l = 0; l < k; l++)
        for (int64_t p = 0; p < panels; p++) {
            FX_UNROLL
            for (int v = 0; v < FX_TILE_VECTORS; v++)
                store(to + ((p * k + l) * FX_TILE_VECTORS + v) * L, load(b + l * ldb + (p * FX_TILE_VECTORS + v) * L));
        }
}

/* One row of a packed panel: `vectors` vectors of B's row, the last one from column last_c. */
template <class T> static inline void copy_row(T *to, const T *from, int vectors, int64_t last_c) {
    constexpr int L = simd<T>::lanes;
    for (int v = 0; v < vectors - 1; v++) store(to + v * L, load(from + v * L));
    store(to + (vectors - 1) * L, load(from + last_c));
}

/* to[r * ld_to + c] = from[c * ld_from + r] for c < lanes, r < rows: rows of a panel out of adjacent elements. */
template <class T>
static inline void transpose_lanes(T *to, int64_t ld_to, const T *from, int64_t ld_from, int64_t rows) {
    constexpr int L = simd<T>::lanes;
    int64_t r = 0;
#if defined(__AVX__)
    if constexpr (sizeof(T) == 4) {
        for (; r + 8 <= rows; r += 8) {
            for (int half = 0; half < L; half += 8) {
                __m256 x[8], y[8];
                FX_UNROLL
                for (int i = 0; i < 4; i++) {
                    const float *p = (const float *)from + (half + i) * ld_from + r, *q = p + 4 * ld_from;
                    x[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(q), 1);
                    x[i + 4] = _mm256_castps128_ps256(_mm_loadu_ps(p + 4));
                    x[i + 4] = _mm256_insertf128_ps(x[i + 4], _mm_loadu_ps(q + 4), 1);
                }
                FX_UNROLL
                for (int i = 0; i < 8; i += 4) {
                    y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
                    y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
                    y[i + 2] = _mm256_unpacklo_ps(x[i + 2], x[i + 3]);
                    y[i + 3] = _mm256_unpackhi_ps(x[i + 2], x[i + 3]);
                    float *o = (float *)to + (r + i) * ld_to + half;
                    _mm256_storeu_ps(o, _mm256_shuffle_ps(y[i], y[i + 2], 0x44));
                    _mm256_storeu_ps(o + ld_to, _mm256_shuffle_ps(y[i], y[i + 2], 0xee));
                    _mm256_storeu_ps(o + 2 * ld_to, _mm256_shuffle_ps(y[i + 1], y[i + 3], 0x44));
                    _mm256_storeu_ps(o + 3 * ld_to, _mm256_shuffle_ps(y[i + 1], y[i + 3], 0xee));
                }
            }
        }
    } else {
        for (; r + 2 <= rows; r += 2) {
            for (int half = 0; half < L; half += 4) {
                const double *p = (const double *)from + half * ld_from + r;
                const double *q = p + ld_from;
                __m256d x = _mm256_castpd128_pd256(_mm_loadu_pd(p)), y = _mm256_castpd128_pd256(_mm_loadu_pd(q));
                x = _mm256_insertf128_pd(x, _mm_loadu_pd(p + 2 * ld_from), 1);
                y = _mm256_insertf128_pd(y, _mm_loadu_pd(q + 2 * ld_from), 1);
                double *o = (double *)to + r * ld_to + half;
                _mm256_storeu_pd(o, _mm256_unpacklo_pd(x, y));
                _mm256_storeu_pd(o + ld_to, _mm256_unpackhi_pd(x, y));
            }
        }
    }
#endif
    for (; r < rows; r++)
        for (int c = 0; c < L; c++) to[r * ld_to + c] = from[c * ld_from + r];
}

/* The same for a tile of A, whose rows are no multiple of a vector: 16-byte blocks, the last one overlapping.
 * to[l * rows + i] = a[i * rsa + l] for l < k. */
template <class T> static inline void pack_rows(T *to, int64_t rows, const T *a, int64_t rsa, int64_t k) {
    constexpr int Q = 16 / sizeof(T);
    typedef T quad __attribute__((vector_size(16), aligned(sizeof(T)), may_alias));
    int64_t l = 0;
    if (rows >= Q)
        for (; l + Q <= k; l += Q)
            for (int64_t i = 0; i < rows; i += Q) {
                if (i + Q > rows) i = rows - Q;
                const T *p = a + i * rsa + l;
                T *o = to + l * rows + i;
                if constexpr (Q == 4) {
                    typedef int mask __attribute__((vector_size(16)));
                    const quad x0 = *(const quad *)p, x1 = *(const quad *)(p + rsa);
                    const quad x2 = *(const quad *)(p + 2 * rsa), x3 = *(const quad *)(p + 3 * rsa);
                    const quad y0 = __builtin_shuffle(x0, x1, mask{0, 4, 1, 5});
                    const quad y1 = __builtin_shuffle(x0, x1, mask{2, 6, 3, 7});
                    const quad y2 = __builtin_shuffle(x2, x3, mask{0, 4, 1, 5});
                    const quad y3 = __builtin_shuffle(x2, x3, mask{2, 6, 3, 7});
                    *(quad *)o = __builtin_shuffle(y0, y2, mask{0, 1, 4, 5});
                    *(quad *)(o + rows) = __builtin_shuffle(y0, y2, mask{2, 3, 6, 7});
                    *(quad *)(o + 2 * rows) = __builtin_shuffle(y1, y3, mask{0, 1, 4, 5});
                    *(quad *)(o + 3 * rows) = __builtin_shuffle(y1, y3, mask{2, 3, 6, 7});
                } else {
                    typedef int64_t mask __attribute__((vector_size(16)));
                    const quad x0 = *(const quad *)p, x1 = *(const quad *)(p + rsa);
                    *(quad *)o = __builtin_shuffle(x0, x1, mask{0, 2});
                    *(quad *)(o + rows) = __builtin_shuffle(x0, x1, mask{1, 3});
                }
            }
    for (; l < k; l++)
        for (int64_t i = 0; i < rows; i++) to[l * rows + i] = a[i * rsa + l];
}

template <class T, int R> static void copy_columns(T *to, const T *a, int64_t csa, int64_t k) {
    for (; k > 0; k--, to += R, a += csa) memcpy(to, a, R * sizeof(T));
}
template <class T> struct column_copies {
    // clang-format off
    static constexpr void (*table[FX_NARROW_ROWS + 1])(T *, const T *, int64_t, int64_t) = {
        0, copy_columns<T, 1>, copy_columns<T, 2>, copy_columns<T, 3>, copy_columns<T, 4>, copy_columns<T, 5>,
        copy_columns<T, 6>, copy_columns<T, 7>, copy_columns<T, 8>, copy_columns<T, 9>, copy_columns<T, 10>,
        copy_columns<T, 11>, copy_columns<T, 12>};
    // clang-format on
};

/* Tiles of A out of adjacent columns, `count` side by side (the first `extra` a row taller than `low`): tile t holds
 * to_t[l * rows + i] = a_t[l * csa + i] for l < k.  A few columns at a time, as all of them need not fit in a cache
 * when their pitch is a power of two. */
template <class T>
static inline void pack_columns(T *to, int64_t count, int64_t low, int64_t extra, const T *a, int64_t csa, int64_t k) {
    for (int64_t l = 0; l < k; l += 8) {
        const T *from = a + l * csa;
        T *tile = to;
        for (int64_t t = 0; t < count; t++) {
            const int64_t rows = low + (t < extra);
            column_copies<T>::table[rows](tile + l * rows, from, csa, k - l < 8 ? k - l : 8);
            from += rows;
            tile += rows * k;
        }
    }
}

template <class T> static inline T sum_lanes(typename simd<T>::vec v) {
    T s[simd<T>::lanes];
    store(s, v);
    for (int n = simd<T>::lanes / 2; n; n /= 2)
        for (int i = 0; i < n; i++) s[i] += s[i + n];
    return s[0];
}

/* out[i + R j] = sum over k of a[i lda + k] b[j ldb + k] for R rows and J columns: both operands adjacent along k.
 * U chains per sum hide the latency of an addition; the order of a sum depends on U alone. */
template <class T, int R, int J, int U>
static inline void dots(int64_t n, const T *a, int64_t lda, const T *b, int64_t ldb, T *out) {
    typedef typename simd<T>::vec vec;
    constexpr int L = simd<T>::lanes;
    vec acc[U][R][J];
    FX_UNROLL
    for (int u = 0; u < U; u++) {
        FX_UNROLL
        for (int i = 0; i < R; i++) {
            FX_UNROLL
            for (int j = 0; j < J; j++) acc[u][i][j] = vec{};
        }
    }
    int64_t k = 0;
    for (; k + U * L <= n; k += U * L) {
        FX_UNROLL
        for (int u = 0; u < U; u++) {
            vec x[J];
            FX_UNROLL
            for (int j = 0; j < J; j++) x[j] = load(b + j * ldb + k + u * L);
            FX_UNROLL
            for (int i = 0; i < R; i++) {
                const vec y = load(a + i * lda + k + u * L);
                FX_UNROLL
                for (int j = 0; j < J; j++) acc[u][i][j] += y * x[j];
            }
        }
    }
    for (; k < n; k += L) {
        const int part = n - k < L ? (int)(n - k) : L;
        FX_UNROLL
        for (int i = 0; i < R; i++) {
            const vec y = part < L ? load_part(a + i * lda + k, part) : load(a + i * lda + k);
            FX_UNROLL
            for (int j = 0; j < J; j++)
                acc[0][i][j] += y * (part < L ? load_part(b + j * ldb + k, part) : load(b + j * ldb + k));
        }
    }
    FX_UNROLL
    for (int i = 0; i < R; i++) {
        FX_UNROLL
        for (int j = 0; j < J; j++) {
            FX_UNROLL
            for (int u = 1; u < U; u++) acc[0][i][j] += acc[u][i][j];
            out[i + R * j] = sum_lanes<T>(acc[0][i][j]);
        }
    }
}

template <class T> static inline T dot(int64_t n, const T *a, const T *b) {
    T out;
    dots<T, 1, 1, 8>(n, a, 0, b, 0, &out);
    return out;
}

/* y[i] = row i of a times x, for m rows. */
template <class T> static inline void dot_rows(int64_t m, int64_t n, const T *a, int64_t lda, const T *x, T *y) {
    int64_t i = 0;
    for (; i + 4 <= m; i += 4) dots<T, 4, 1, 2>(n, a + i * lda, lda, x, 0, y + i);
    for (; i < m; i++) dots<T, 1, 1, 2>(n, a + i * lda, lda, x, 0, y + i);
}

/* C = alpha A B + beta D where rows of A and columns of B are adjacent along k: nothing to pack for few rows. */
template <class T, int R, int J>
static inline void dot_tile(const block<T> *s, const T *a, const T *b, T *c, const T *d) {
    T sums[R * J];
    dots<T, R, J, 1>(s->k, a, s->rsa, b, s->ldb, sums);
    for (int i = 0; i < R; i++)
        for (int j = 0; j < J; j++) {
            const T y = s->alpha * sums[i + R * j];
            c[i * s->ldc + j] = s->beta == 0 ? y : y + s->beta * d[i * s->ldd + j];
        }
}
template <class T>
static inline void dot_tiles(const block<T> *s, int64_t m, int64_t n, const T *a, const T *b, T *c, const T *d) {
    int64_t j = 0;
    for (; j + 3 <= n; j += 3) {
        int64_t i = 0;
        for (; i + 4 <= m; i += 4)
            dot_tile<T, 4, 3>(s, a + i * s->rsa, b + j * s->ldb, c + i * s->ldc + j, d + i * s->ldd + j);
        for (; i < m; i++) dot_tile<T, 1, 3>(s, a + i * s->rsa, b + j * s->ldb, c + i * s->ldc + j, d + i * s->ldd + j);
    }
    for (; j < n; j++)
        for (int64_t i = 0; i < m; i++)
            dot_tile<T, 1, 1>(s, a + i * s->rsa, b + j * s->ldb, c + i * s->ldc + j, d + i * s->ldd + j);
}

/* y[j] (+)= sum over R rows of x[i] b[i ldb + j]: a strip of a row vector times a matrix, reading b in streams. */
template <class T, int R>
static inline void axpys(int64_t n, const T *x, const T *b, int64_t ldb, T *y, bool accumulate) {
    typedef typename simd<T>::vec vec;
    constexpr int L = simd<T>::lanes;
    int64_t j = 0;
    for (; j + 2 * L <= n; j += 2 * L) {
        vec s = vec{}, t = vec{};
        if (accumulate) s = load(y + j), t = load(y + j + L);
        FX_UNROLL
        for (int i = 0; i < R; i++) {
            s += x[i] * load(b + i * ldb + j);
            t += x[i] * load(b + i * ldb + j + L);
        }
        store(y + j, s);
        store(y + j + L, t);
    }
    for (; j < n; j += L) {
        const int part = n - j < L ? (int)(n - j) : L;
        vec s = vec{};
        if (accumulate) s = load_part(y + j, part);
        FX_UNROLL
        for (int i = 0; i < R; i++) s += x[i] * load_part(b + i * ldb + j, part);
        store_part(y + j, s, part);
    }
}

/* y[j] = sum over k of x[k] b[k ldb + j] for n columns, the sum in the order of k. */
template <class T> static inline void axpy_rows(int64_t n, int64_t k, const T *x, const T *b, int64_t ldb, T *y) {
    int64_t i = 0;
    for (; i + 8 <= k; i += 8) axpys<T, 8>(n, x + i, b + i * ldb, ldb, y, i > 0);
    for (; i + 2 <= k; i += 2) axpys<T, 2>(n, x + i, b + i * ldb, ldb, y, i > 0);
    for (; i < k; i++) axpys<T, 1>(n, x + i, b + i * ldb, ldb, y, i > 0);
}

/* A buffer of at least `bytes` that the calling thread keeps between calls (fresh pages cost more than packing does).
 * Its content is lost at the next call with the same slot.  NULL when there is no memory. */
struct scratch_buffer {
    void *data = nullptr;
    size_t bytes = 0;
    ~scratch_buffer() { free(data); }
};
static inline void *scratch(int slot, size_t bytes) {
    static thread_local scratch_buffer buffers[4];
    scratch_buffer &s = buffers[slot];
    if (s.bytes < bytes) {
        free(s.data);
        s.bytes = (bytes + 4095) & ~(size_t)4095;
        s.data = aligned_alloc(4096, s.bytes);
        if (!s.data) s.bytes = 0;
    }
    return s.data;
}

} // namespace fx
#endif
