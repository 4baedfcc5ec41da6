/* Kernels that move data: where, cat, tril and triu, ranges.  Elements are moved as words of their size. */
#include "elementwise.cuh"
#include "fx/movement_args.h"
#include "fx/philox.h"

namespace fx {

__device__ __forceinline__ int64_t first_element() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int64_t all_threads() { return int64_t(gridDim.x) * blockDim.x; }

template <class W> __device__ __forceinline__ W chosen(const fx_where_args &a, const W *x, int64_t at, int which) {
    return x ? x[at] : W(a.value[which]);
}

template <class W> __device__ __forceinline__ void where_together(const fx_where_args &a) {
    W *out = static_cast<W *>(a.out);
    const W *x = static_cast<const W *>(a.x), *y = static_cast<const W *>(a.y);
    const bool x_moves = x && a.stride[0][2], y_moves = y && a.stride[0][3];
    const W one_x = x_moves ? W(0) : chosen(a, x, 0, 0), one_y = y_moves ? W(0) : chosen(a, y, 0, 1);
    for (int64_t i = first_element() * 4; i < a.n; i += all_threads() * 4) {
        if (i + 4 > a.n) {
            for (int64_t k = i; k < a.n; k++)
                out[k] = a.condition[k * a.stride[0][1]] ? (x_moves ? x[k] : one_x) : (y_moves ? y[k] : one_y);
            break;
        }
        pack<uint8_t, 4> truth;
        if (a.stride[0][1]) {
            truth = *reinterpret_cast<const pack<uint8_t, 4> *>(a.condition + i);
        } else {
#pragma unroll
            for (int k = 0; k < 4; k++) truth.v[k] = a.condition[0];
        }
        pack<W, 4> from_x, from_y;
        if (x_moves) from_x = *reinterpret_cast<const pack<W, 4> *>(x + i);
        if (y_moves) from_y = *reinterpret_cast<const pack<W, 4> *>(y + i);
        pack<W, 4> o;
#pragma unroll
        for (int k = 0; k < 4; k++)
            o.v[k] = truth.v[k] ? (x_moves ? from_x.v[k] : one_x) : (y_moves ? from_y.v[k] : one_y);
        *reinterpret_cast<pack<W, 4> *>(out + i) = o;
    }
}

template <class W> __device__ __forceinline__ void where(const fx_where_args &a) {
    if (a.together) return where_together<W>(a);
    for (int64_t i = first_element(); i < a.n; i += all_threads()) {
        int64_t at[4] = {}, rest = i;
        for (int d = 0; d < a.ndim; d++) {
            int64_t place;
            if (rest >> 31) {
                place = rest % a.size[d];
                rest /= a.size[d];
            } else { /* a size beyond 32 bits leaves the place as it is */
                const uint32_t size = a.size[d] >> 31 ? 0x80000000u : uint32_t(a.size[d]);
                place = uint32_t(rest) % size;
                rest = uint32_t(rest) / size;
            }
#pragma unroll
            for (int k = 0; k < 4; k++) at[k] += place * a.stride[d][k];
        }
        static_cast<W *>(a.out)[at[0]] = a.condition[at[1]] ? chosen(a, static_cast<const W *>(a.x), at[2], 0)
                                                            : chosen(a, static_cast<const W *>(a.y), at[3], 1);
    }
}

/* One input for each blockIdx.y. */
template <class W> __device__ __forceinline__ void cat(const fx_cat_args &a) {
    const int k = blockIdx.y;
    const int64_t size = a.size[k], n = size * a.outer;
    const W *x = static_cast<const W *>(a.x[k]);
    W *out = static_cast<W *>(a.out) + a.start[k];
    for (int64_t i = first_element(); i < n; i += all_threads()) {
        if (a.outer == 1)
            out[i] = x[i];
        else if (n >> 32)
            out[i / size * a.row + i % size] = x[i];
        else
            out[uint32_t(i) / uint32_t(size) * a.row + uint32_t(i) % uint32_t(size)] = x[i];
    }
}

template <class W> __device__ __forceinline__ void triangle(const fx_triangle_args &a) {
    for (int64_t i = first_element(); i < a.n; i += all_threads()) {
        const int64_t line = i / a.columns, column = i - line * a.columns, row = line % a.rows;
        const bool kept = a.upper ? column >= row + a.k : column <= row + a.k;
        static_cast<W *>(a.out)[i] = kept ? static_cast<const W *>(a.x)[i] : W(0);
    }
}

/* Strict operations, so that the values are those of the CPU. */
__device__ __forceinline__ void range(const fx_range_args &a) {
    const int size = fx_itemsize(a.dtype);
    for (int64_t i = first_element(); i < a.n; i += all_threads()) {
        if (a.form == 0)
            store(a.out + i * size, a.dtype, int64_t(uint64_t(a.first) + uint64_t(i) * uint64_t(a.by)));
        else if (a.form == 1 || i < a.n / 2 || a.n == 1)
            store(a.out + i * size, a.dtype, add(a.start, mul(double(i), a.step)));
        else
            store(a.out + i * size, a.dtype, add(a.end, -mul(double(a.n - 1 - i), a.step)));
    }
}

} // namespace fx

#define FX_KERNEL(name, type, body)                                                                     \
    extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ type a) { body(a); } \
    FX_EXPORT(name)
#define FX_WORDS(name, type, body)            \
    FX_KERNEL(name##_1, type, body<uint8_t>)  \
    FX_KERNEL(name##_2, type, body<uint16_t>) \
    FX_KERNEL(name##_4, type, body<uint32_t>) \
    FX_KERNEL(name##_8, type, body<uint64_t>)
FX_WORDS(where, fx_where_args, fx::where)
FX_WORDS(cat, fx_cat_args, fx::cat)
FX_KERNEL(cat_16, fx_cat_args, fx::cat<uint4>)
FX_WORDS(triangle, fx_triangle_args, fx::triangle)
FX_KERNEL(range, fx_range_args, fx::range)
