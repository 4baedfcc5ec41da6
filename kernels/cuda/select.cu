/* Masks, counts and runs: kernels whose result follows the values.  Ranks come from the tiles of scan.cuh. */
#include "elementwise.cuh"
#include "fault.cuh"
#include "fx/select_args.h"
#include "scan.cuh"

namespace fx {

__device__ __forceinline__ int64_t first_element() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int64_t all_threads() { return int64_t(gridDim.x) * blockDim.x; }

/* Masks. */

template <class W> __device__ __forceinline__ void count_tiles(const fx_mask_args &a) {
    __shared__ uint32_t slots[FX_SLOTS];
    const W *x = static_cast<const W *>(a.x), kept = W(a.kept);
    for (int64_t tile = blockIdx.x; tile < a.tiles; tile += gridDim.x) {
        const uint32_t count = tile_count(tile * FX_TILE, a.n, [&](int64_t i) { return (x[i] & kept) != 0; }, slots);
        if (threadIdx.x == 0) a.before[tile] = count;
    }
}

template <class W> __device__ __forceinline__ void nonzero(const fx_mask_args &a) {
    __shared__ uint32_t slots[FX_SLOTS];
    const W *x = static_cast<const W *>(a.x), kept = W(a.kept);
    int64_t *out = static_cast<int64_t *>(a.out);
    for (int64_t tile = blockIdx.x; tile < a.tiles; tile += gridDim.x)
        tile_each(
            tile * FX_TILE, a.n, a.before[tile], [&](int64_t i) { return (x[i] & kept) != 0; },
            [&](int64_t i, bool is, int64_t rank, int) {
                if (!is || rank >= a.limit) return;
                for (int d = a.ndim - 1; d > 0; d--) {
                    const int64_t rest = i / a.size[d];
                    out[rank * a.ndim + d] = i - rest * a.size[d];
                    i = rest;
                }
                out[rank * a.ndim] = i;
            },
            slots);
}

template <class W> __device__ __forceinline__ void masked_select(const fx_mask_args &a) {
    __shared__ uint32_t slots[FX_SLOTS];
    for (int64_t tile = blockIdx.x; tile < a.tiles; tile += gridDim.x)
        tile_each(
            tile * FX_TILE, a.n, a.before[tile], [&](int64_t i) { return a.mask[i] != 0; },
            [&](int64_t i, bool is, int64_t rank, int) {
                if (is && rank < a.limit) static_cast<W *>(a.out)[rank] = static_cast<const W *>(a.x)[i];
            },
            slots);
}

/* Nothing is written when src is too short. */
template <class W> __device__ __forceinline__ void masked_scatter(const fx_mask_args &a) {
    __shared__ uint32_t slots[FX_SLOTS];
    const int64_t needed = a.before[a.tiles];
    if (needed > a.limit) {
        if (first_element() == 0)
            fx_report(static_cast<fx_fault *>(a.fault), FX_FAULT_INDEX, a.kernel, needed - 1, a.limit);
        return;
    }
    for (int64_t tile = blockIdx.x; tile < a.tiles; tile += gridDim.x)
        tile_each(
            tile * FX_TILE, a.n, a.before[tile], [&](int64_t i) { return a.mask[i] != 0; },
            [&](int64_t i, bool is, int64_t rank, int) {
                if (is) static_cast<W *>(a.out)[i] = static_cast<const W *>(a.src)[rank];
            },
            slots);
}

/* Counting.  Sums of integers: atomics give the same in any order. */

__device__ __forceinline__ void add_count(int64_t *to, int64_t n) {
    atomicAdd(reinterpret_cast<unsigned long long *>(to), (unsigned long long)n);
}

__device__ __forceinline__ void one_hot(const fx_bins_args &a) {
    const int64_t *index = static_cast<const int64_t *>(a.x);
    for (int64_t i = first_element(); i < a.n * a.bins; i += all_threads()) {
        const int64_t row = i / a.bins, column = i - row * a.bins, at = index[row];
        static_cast<int64_t *>(a.out)[i] = at == column;
        if (column == 0 && (at < 0 || at >= a.bins))
            fx_report(static_cast<fx_fault *>(a.fault), FX_FAULT_INDEX, a.kernel, at, a.bins);
    }
}

/* bin_of(i): the bin of element i, -1 for none. */
template <class BinOf> __device__ __forceinline__ void count_bins(const fx_bins_args &a, BinOf bin_of) {
    __shared__ uint32_t here[FX_SHARED_BINS];
    const bool shared = a.bins <= FX_SHARED_BINS && !a.weights;
    /* A block sees fewer than 2^32 elements unless there are 2^32 times the blocks: then it counts in memory. */
    const bool few = a.n >> 32 == 0;
    if (shared && few) {
        for (int b = threadIdx.x; b < a.bins; b += THREADS) here[b] = 0;
        __syncthreads();
    }
    for (int64_t i = first_element(); i < a.n; i += all_threads()) {
        const int64_t bin = bin_of(i);
        if (bin < 0) continue;
        if (shared && few)
            atomicAdd(&here[bin], 1u);
        else
            add_count(a.counts + bin, a.weights ? a.weights[i] : 1);
    }
    if (!(shared && few)) return;
    __syncthreads();
    for (int b = threadIdx.x; b < a.bins; b += THREADS)
        if (here[b]) add_count(a.counts + b, here[b]);
}

__device__ __forceinline__ void bincount(const fx_bins_args &a) {
    const int64_t *x = static_cast<const int64_t *>(a.x);
    count_bins(a, [&](int64_t i) {
        const int64_t at = x[i];
        if (at >= 0 && at < a.bins) return at;
        fx_report(static_cast<fx_fault *>(a.fault), FX_FAULT_INDEX, a.kernel, at, a.bins);
        return int64_t(-1);
    });
}

template <class T> __device__ __forceinline__ void histogram(const fx_bins_args &a) {
    const T *x = static_cast<const T *>(a.x);
    const T low = T(a.low), high = T(a.high);
    count_bins(a, [&](int64_t i) {
        const T v = x[i];
        if (!(v >= low && v <= high)) return int64_t(-1);
        const int64_t at = int64_t((v - low) * T(a.bins) / (high - low));
        return at < a.bins ? at : a.bins - 1;
    });
}
template <class T> __device__ __forceinline__ void histogram_end(const fx_bins_args &a) {
    for (int64_t b = first_element(); b < a.bins; b += all_threads()) static_cast<T *>(a.out)[b] = T(a.counts[b]);
}

/* Runs of equal neighbours. */

template <class S> __device__ __forceinline__ bool differs(const S *x, int64_t i) {
    typename storage<S>::compute a, b;
    if (i == 0) return true;
    convert_to(&a, x[i]);
    convert_to(&b, x[i - 1]);
    return a != b;
}

template <class S> __device__ __forceinline__ void run_tiles(const fx_runs_args &a) {
    __shared__ uint32_t slots[FX_SLOTS];
    const S *x = static_cast<const S *>(a.x);
    for (int64_t tile = blockIdx.x; tile < a.tiles; tile += gridDim.x) {
        const uint32_t count = tile_count(tile * FX_TILE, a.n, [&](int64_t i) { return differs(x, i); }, slots);
        if (threadIdx.x == 0) a.before[tile] = count;
    }
}

template <class S> __device__ __forceinline__ void runs(const fx_runs_args &a) {
    __shared__ uint32_t slots[FX_SLOTS];
    const S *x = static_cast<const S *>(a.x);
    for (int64_t tile = blockIdx.x; tile < a.tiles; tile += gridDim.x)
        tile_each(
            tile * FX_TILE, a.n, a.before[tile], [&](int64_t i) { return differs(x, i); },
            [&](int64_t i, bool fresh, int64_t rank, int) {
                const int64_t run = fresh ? rank : rank - 1;
                if (a.inverse) a.inverse[a.indices ? a.indices[i] : i] = run;
                if (!fresh || run >= a.runs) return;
                static_cast<S *>(a.values)[run] = x[i];
                if (a.starts) a.starts[run] = i;
            },
            slots);
}

__device__ __forceinline__ void run_lengths(const fx_runs_args &a) {
    for (int64_t r = first_element(); r < a.runs; r += all_threads())
        a.counts[r] = (r + 1 < a.runs ? a.starts[r + 1] : a.n) - a.starts[r];
}

} // namespace fx

#define FX_KERNEL(name, type, body)                                                                     \
    extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ type a) { body(a); } \
    FX_EXPORT(name)
#define FX_WORDS(name)                                    \
    FX_KERNEL(name##_1, fx_mask_args, fx::name<uint8_t>)  \
    FX_KERNEL(name##_2, fx_mask_args, fx::name<uint16_t>) \
    FX_KERNEL(name##_4, fx_mask_args, fx::name<uint32_t>) \
    FX_KERNEL(name##_8, fx_mask_args, fx::name<uint64_t>)
FX_WORDS(count_tiles)
FX_WORDS(nonzero)
FX_WORDS(masked_select)
FX_WORDS(masked_scatter)
FX_KERNEL(one_hot, fx_bins_args, fx::one_hot)
FX_KERNEL(bincount, fx_bins_args, fx::bincount)
FX_KERNEL(histogram_f32, fx_bins_args, fx::histogram<float>)
FX_KERNEL(histogram_f64, fx_bins_args, fx::histogram<double>)
FX_KERNEL(histogram_end_f32, fx_bins_args, fx::histogram_end<float>)
FX_KERNEL(histogram_end_f64, fx_bins_args, fx::histogram_end<double>)
#define FX_RUNS(code, suffix, name, type, ...)                       \
    FX_KERNEL(run_tiles_##suffix, fx_runs_args, fx::run_tiles<type>) \
    FX_KERNEL(runs_##suffix, fx_runs_args, fx::runs<type>)
FX_EACH_INTEGRAL(FX_RUNS)
FX_EACH_FLOATING(FX_RUNS)
FX_KERNEL(run_lengths, fx_runs_args, fx::run_lengths)
