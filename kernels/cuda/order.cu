/* Sorting pairs, and prefix sums of counts: what sort, select, indexing and random share. */
#include "radix.cuh"

namespace fx {

template <class T> __device__ __forceinline__ void prefix_by_warp(const fx_prefix_args &a) {
    const int64_t warps = int64_t(gridDim.x) * WARPS;
    for (int64_t s = int64_t(blockIdx.x) * WARPS + threadIdx.x / 32; s < a.sequences; s += warps) {
        T *counts = static_cast<T *>(a.counts) + s * a.n;
        T sum = 0;
        for (int64_t first = 0; first < a.n; first += 32) {
            const int64_t i = first + lane_of();
            const T mine = i < a.n ? counts[i] : T(0), inclusive = warp_scan(mine, add_values{});
            if (i < a.n) counts[i] = sum + inclusive - mine;
            sum += __shfl_sync(0xffffffffu, inclusive, 31);
        }
        if (lane_of() == 0) static_cast<T *>(a.totals)[s] = sum;
    }
}

template <class T> __device__ __forceinline__ void prefix_by_block(const fx_prefix_args &a) {
    constexpr int each = 4;
    __shared__ T slots[FX_SLOTS];
    for (int64_t s = blockIdx.x; s < a.sequences; s += gridDim.x) {
        T *counts = static_cast<T *>(a.counts) + s * a.n;
        T sum = 0, all;
        for (int64_t first = 0; first < a.n; first += THREADS * each) {
            const int64_t i = first + threadIdx.x * each;
            T mine[each], together = 0;
#pragma unroll
            for (int j = 0; j < each; j++) {
                mine[j] = i + j < a.n ? counts[i + j] : T(0);
                together += mine[j];
            }
            T before = sum + block_exclusive(together, slots, &all);
#pragma unroll
            for (int j = 0; j < each; j++) {
                if (i + j < a.n) counts[i + j] = before;
                before += mine[j];
            }
            sum += all;
        }
        if (threadIdx.x == 0) static_cast<T *>(a.totals)[s] = sum;
    }
}

template <class K> __device__ __forceinline__ void sort_short(const fx_short_args &a) {
    __shared__ K keys[FX_SHORT_ROW];
    __shared__ uint16_t places[FX_SHORT_ROW];
    const int width = int(a.width), together = FX_SHORT_ROW / width;
    for (int64_t first = int64_t(blockIdx.x) * together; first < a.rows; first += int64_t(gridDim.x) * together) {
        for (int t = threadIdx.x; t < FX_SHORT_ROW; t += THREADS) {
            const int64_t row = first + t / width;
            const int i = t & (width - 1);
            keys[t] = i < a.n && row < a.rows ? static_cast<const K *>(a.keys)[row * a.n + i] : ~K(0);
            places[t] = uint16_t(i);
        }
        bitonic_sort(keys, places, width);
        for (int t = threadIdx.x; t < FX_SHORT_ROW; t += THREADS) {
            const int64_t row = first + t / width;
            const int i = t & (width - 1);
            if (i >= a.n || row >= a.rows) continue;
            static_cast<K *>(a.keys_out)[row * a.n + i] = keys[t];
            a.values_out[row * a.n + i] = a.values ? a.values[row * a.n + places[t]] : uint32_t(places[t]);
        }
        __syncthreads();
    }
}

} // namespace fx

#define FX_KERNEL(name, least, type, body)                                                                         \
    extern "C" __global__ void __launch_bounds__(256, least) name(const __grid_constant__ type a) { fx::body(a); } \
    FX_EXPORT(name)
FX_KERNEL(prefix_warp_u32, 1, fx_prefix_args, prefix_by_warp<uint32_t>)
FX_KERNEL(prefix_warp_i64, 1, fx_prefix_args, prefix_by_warp<int64_t>)
FX_KERNEL(prefix_block_u32, 1, fx_prefix_args, prefix_by_block<uint32_t>)
FX_KERNEL(prefix_block_i64, 1, fx_prefix_args, prefix_by_block<int64_t>)
FX_KERNEL(radix_count_k32, 1, fx_radix_args, radix_count<uint32_t>)
FX_KERNEL(radix_count_k64, 1, fx_radix_args, radix_count<uint64_t>)
FX_KERNEL(radix_deal_k32, 4, fx_radix_args, radix_deal<uint32_t>)
FX_KERNEL(radix_deal_k64, 4, fx_radix_args, radix_deal<uint64_t>)
FX_KERNEL(sort_short_k32, 1, fx_short_args, sort_short<uint32_t>)
FX_KERNEL(sort_short_k64, 1, fx_short_args, sort_short<uint64_t>)
