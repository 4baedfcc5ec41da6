/* Small matrix products in cache, for kernels that fuse them with something else (attention): C = A B or C += A B with
 * A of any strides and B and C padded to whole tiles of columns.  C++, host only.
 */
#ifndef FX_TILE_H
#define FX_TILE_H
#include <stdint.h>

namespace fx {

#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64 };
#elif defined(__AVX__)
enum { VECTOR_BYTES = 32 };
#else
enum { VECTOR_BYTES = 16 };
#endif

template <class T> struct vector_of;
template <> struct vector_of<float> {
    typedef float type __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
};
template <> struct vector_of<double> {
    typedef double type __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
};

/* Columns of B and C come in multiples of this. */
template <class T> constexpr int64_t tile_columns = 2 * VECTOR_BYTES / sizeof(T);

template <class T, int M>
inline void tile(const T *a, int64_t rsa, int64_t csa, const T *b, int64_t ldb, T *c, int64_t ldc, int64_t k,
                 bool add) {
    typedef typename vector_of<T>::type V;
    constexpr int W = VECTOR_BYTES / sizeof(T);
    V left[M], right[M];
#pragma GCC unroll 8
    for (int i = 0; i < M; i++) left[i] = right[i] = V{};
    for (int64_t p = 0; p < k; p++) {
        const V b0 = *(const V *)(b + p * ldb), b1 = *(const V *)(b + p * ldb + W);
#pragma GCC unroll 8
        for (int i = 0; i < M; i++) {
            const T v = a[i * rsa + p * csa];
            left[i] += v * b0;
            right[i] += v * b1;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < M; i++) {
        V *o = (V *)(c + i * ldc), *o1 = (V *)(c + i * ldc + W);
        *o = add ? *o + left[i] : left[i];
        *o1 = add ? *o1 + right[i] : right[i];
    }
}

template <class T>
inline void small_product(int64_t m, int64_t n, int64_t k, const T *a, int64_t rsa, int64_t csa, const T *b,
                          int64_t ldb, T *c, int64_t ldc, bool add) {
    for (int64_t j = 0; j < n; j += tile_columns<T>) {
        int64_t i = 0;
        for (; i + 6 <= m; i += 6) tile<T, 6>(a + i * rsa, rsa, csa, b + j, ldb, c + i * ldc + j, ldc, k, add);
        const T *rest = a + i * rsa;
        T *o = c + i * ldc + j;
        switch (m - i) {
        case 5: tile<T, 5>(rest, rsa, csa, b + j, ldb, o, ldc, k, add); break;
        case 4: tile<T, 4>(rest, rsa, csa, b + j, ldb, o, ldc, k, add); break;
        case 3: tile<T, 3>(rest, rsa, csa, b + j, ldb, o, ldc, k, add); break;
        case 2: tile<T, 2>(rest, rsa, csa, b + j, ldb, o, ldc, k, add); break;
        case 1: tile<T, 1>(rest, rsa, csa, b + j, ldb, o, ldc, k, add); break;
        }
    }
}

inline int64_t whole_tiles(const float *, int64_t n) {
    return (n + tile_columns<float> - 1) / tile_columns<float> * tile_columns<float>;
}
inline int64_t whole_tiles(const double *, int64_t n) {
    return (n + tile_columns<double> - 1) / tile_columns<double> * tile_columns<double>;
}

}  // namespace fx
#endif
