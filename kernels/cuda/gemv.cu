/* A matrix times a vector (s.n is 1): bound by reading the matrix once.  Blocks of 256; element k of a sum belongs to
 * the same lane and register whether or not it can be read 16 bytes at a time. */
#include "gemm.cuh"

namespace fx {

/* k is the adjacent dimension: a warp for each row. */
template <class T> __device__ __forceinline__ void gemv_along(const fx_gemm_args &s) {
    using Sum = typename computed<T>::type;
    constexpr int width = 16 / int(sizeof(T));
    const int lane = threadIdx.x % 32;
    const int64_t row = int64_t(blockIdx.x) * 8 + threadIdx.x / 32, index = s.first + blockIdx.y;
    const int64_t begin = blockIdx.z * s.slice, end = begin + s.slice < s.k ? begin + s.slice : s.k;
    if (row >= s.m) return; /* the whole warp */
    const gemm_operands<T> at(s, index);
    const T *a = at.a + row * s.a_row;
    const bool whole = (s.flags & FX_GEMM_WHOLE_A) && (s.flags & FX_GEMM_WHOLE_B);
    Sum sums[width] = {};
#pragma unroll 4
    for (int64_t k = begin + lane * width; k < end; k += 32 * width) {
        group<T, width> x, y;
        if (whole && k + width <= end) {
            x = *reinterpret_cast<const group<T, width> *>(a + k);
            y = *reinterpret_cast<const group<T, width> *>(at.b + k);
        } else {
#pragma unroll
            for (int i = 0; i < width; i++) {
                x.v[i] = y.v[i] = T{};
                if (k + i < end) {
                    x.v[i] = a[(k + i) * s.a_column];
                    y.v[i] = at.b[(k + i) * s.b_row];
                }
            }
        }
#pragma unroll
        for (int i = 0; i < width; i++) {
            Sum p, q;
            convert_to(&p, x.v[i]);
            convert_to(&q, y.v[i]);
            sums[i] = multiply_add(p, q, sums[i]);
        }
    }
#pragma unroll
    for (int half = width / 2; half > 0; half /= 2) {
#pragma unroll
        for (int i = 0; i < half; i++) sums[i] += sums[i + half];
    }
#pragma unroll
    for (int other = 16; other > 0; other /= 2) sums[0] += __shfl_xor_sync(0xffffffffu, sums[0], other);
    if (lane == 0) finish<T, Sum, 1>(s, at, index, row, 0, sums);
}

/* Rows are adjacent: a block takes 128 of them, each warp every eighth of k; the warps' sums are added in order. */
template <class T> __device__ __forceinline__ void gemv_across(const fx_gemm_args &s) {
    using Sum = typename computed<T>::type;
    FX_DYNAMIC_SHARED(Sum, shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t first = int64_t(blockIdx.x) * 128, row = first + lane * 4, index = s.first + blockIdx.y;
    const int64_t begin = blockIdx.z * s.slice, end = begin + s.slice < s.k ? begin + s.slice : s.k;
    const gemm_operands<T> at(s, index);
    const bool whole = (s.flags & FX_GEMM_WHOLE_A) && row + 4 <= s.m;
    Sum sums[4] = {};
#pragma unroll 4
    for (int64_t k = begin + warp; k < end; k += 8) {
        group<T, 4> x;
        Sum y;
        convert_to(&y, at.b[k * s.b_row]);
        if (whole) {
            x = *reinterpret_cast<const group<T, 4> *>(at.a + k * s.a_column + row);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                x.v[i] = T{};
                if (row + i < s.m) x.v[i] = at.a[k * s.a_column + (row + i) * s.a_row];
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            Sum p;
            convert_to(&p, x.v[i]);
            sums[i] = multiply_add(p, y, sums[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) shared[warp * 128 + lane * 4 + i] = sums[i];
    __syncthreads();
    if (threadIdx.x < 128) {
        Sum total = shared[threadIdx.x];
#pragma unroll
        for (int w = 1; w < 8; w++) total += shared[w * 128 + threadIdx.x];
        finish<T, Sum, 1>(s, at, index, first + threadIdx.x, 0, &total);
    }
}

} // namespace fx

#define FX_GEMV(code, suffix, name, type, ...)                      \
    FX_GEMM_KERNEL(gemv_##suffix##_along, 256, 2, gemv_along<type>) \
    FX_GEMM_KERNEL(gemv_##suffix##_across, 256, 2, gemv_across<type>)
FX_EACH_FLOATING(FX_GEMV)
