/* Rows in order: short ones in shared memory, long ones as pairs for order.cu; and the k first of long rows.
 *
 * The key of rank k is found digit by digit, from the highest: the digits of those that agree in the digits above are
 * counted, and the one that holds the rank is chosen.
 */
#include "keys.cuh"
#include "radix.cuh"

namespace fx {

template <class R>
__device__ __forceinline__ void put(const fx_sort_args &a, int64_t row, int64_t rank, key_type<R> key,
                                    int64_t position) {
    const int64_t to = place_of(row, rank - a.first, a.count, a.inner);
    if (a.indices) a.indices[to] = position;
    if (!a.values) return;
    R u;
    if (!element_of<R>(key, a.kind, &u)) u = static_cast<const R *>(a.x)[place_of(row, position, a.n, a.inner)];
    static_cast<R *>(a.values)[to] = u;
}

template <class R> __device__ __forceinline__ void sort_rows(const fx_sort_args &a) {
    using K = key_type<R>;
    __shared__ K keys[FX_SHORT_ROW];
    __shared__ uint16_t places[FX_SHORT_ROW];
    const int width = int(a.width), together = FX_SHORT_ROW / width;
    for (int64_t first = int64_t(blockIdx.x) * together; first < a.rows; first += int64_t(gridDim.x) * together) {
        for (int t = threadIdx.x; t < FX_SHORT_ROW; t += THREADS) {
            /* Neighbouring threads read neighbours in memory. */
            const int r = a.inner == 1 ? t / width : t % together, i = a.inner == 1 ? t % width : t / together;
            const bool there = i < a.n && first + r < a.rows;
            const int64_t at = there ? place_of(first + r, i, a.n, a.inner) : 0;
            keys[r * width + i] = there ? key_of(static_cast<const R *>(a.x)[at], a.kind) : ~K(0);
            places[r * width + i] = uint16_t(i);
        }
        bitonic_sort(keys, places, width);
        for (int t = threadIdx.x; t < FX_SHORT_ROW; t += THREADS) {
            const int r = a.inner == 1 ? t / width : t % together, i = a.inner == 1 ? t % width : t / together;
            if (i >= a.first && i < a.first + a.count && first + r < a.rows)
                put<R>(a, first + r, i, keys[r * width + i], places[r * width + i]);
        }
        __syncthreads();
    }
}

template <class R> __device__ __forceinline__ void load_keys(const fx_sort_args &a) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t t = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; t < a.n * a.rows; t += step) {
        const int64_t at = a.inner == 1 ? t : place_of(t / a.n, t % a.n, a.n, a.inner);
        static_cast<key_type<R> *>(a.keys)[t] = key_of(static_cast<const R *>(a.x)[at], a.kind);
    }
}

template <class R> __device__ __forceinline__ void store_keys(const fx_sort_args &a) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t t = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; t < a.count * a.rows; t += step) {
        const int64_t row = t / a.count, rank = a.first + (t - row * a.count), from = row * a.pairs + rank;
        put<R>(a, row, rank, static_cast<const key_type<R> *>(a.keys)[from], a.positions[from]);
    }
}

/* Selection. */

template <class R> __device__ __forceinline__ key_type<R> key_at(const fx_select_args &a, int64_t row, int64_t i) {
    return key_of(static_cast<const R *>(a.x)[place_of(row, i, a.n, a.inner)], a.kind);
}

__device__ __forceinline__ void select_begin(const fx_select_args &a) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t t = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; t < a.rows * DIGITS; t += step) {
        a.counts[t] = 0;
        if (t % DIGITS) continue;
        a.bound[t / DIGITS] = 0;
        a.left[t / DIGITS] = uint32_t(a.k - 1);
    }
}

template <class R> __device__ __forceinline__ void select_count(const fx_select_args &a) {
    __shared__ uint32_t counts[DIGITS];
    const uint64_t known = a.shift + 8 >= 64 ? 0 : ~uint64_t(0) << (a.shift + 8);
    for (int64_t work = blockIdx.x; work < a.rows * a.tiles; work += gridDim.x) {
        const int64_t row = work / a.tiles, first = work % a.tiles * FX_TILE;
        const uint64_t bound = a.bound[row];
        counts[threadIdx.x] = 0;
        __syncthreads();
        for (int round = 0; round < TILE_ROUNDS; round++) {
            const int64_t i = first + round * THREADS + threadIdx.x;
            if (i >= a.n) continue;
            const key_type<R> key = key_at<R>(a, row, i);
            if (((key ^ bound) & known) == 0) atomicAdd(&counts[digit_of(key, a.shift, 8)], 1u);
        }
        __syncthreads();
        if (counts[threadIdx.x]) atomicAdd(&a.counts[row * DIGITS + threadIdx.x], counts[threadIdx.x]);
        __syncthreads();
    }
}

__device__ __forceinline__ void select_pick(const fx_select_args &a) {
    __shared__ uint32_t slots[FX_SLOTS];
    for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const uint32_t count = a.counts[row * DIGITS + threadIdx.x], left = a.left[row];
        const uint64_t bound = a.bound[row];
        uint32_t all;
        const uint32_t before = block_exclusive(count, slots, &all);
        a.counts[row * DIGITS + threadIdx.x] = 0;
        if (before <= left && left - before < count) {
            a.bound[row] = bound | uint64_t(threadIdx.x) << a.shift;
            a.left[row] = left - before;
        }
    }
}

template <class R> __device__ __forceinline__ void select_tiles(const fx_select_args &a) {
    __shared__ uint32_t slots[FX_SLOTS];
    for (int64_t work = blockIdx.x; work < a.rows * a.tiles; work += gridDim.x) {
        const int64_t row = work / a.tiles, tile = work % a.tiles;
        const key_type<R> bound = key_type<R>(a.bound[row]);
        const uint32_t less =
            tile_count(tile * FX_TILE, a.n, [&](int64_t i) { return key_at<R>(a, row, i) < bound; }, slots);
        const uint32_t equal =
            tile_count(tile * FX_TILE, a.n, [&](int64_t i) { return key_at<R>(a, row, i) == bound; }, slots);
        if (threadIdx.x == 0) {
            a.tiles_before[2 * row * a.tiles + tile] = less;
            a.tiles_before[(2 * row + 1) * a.tiles + tile] = equal;
        }
    }
}

/* Writes the k least, as they stand in x: all that are less than the bound, and of those equal to it the first. */
template <class R> __device__ __forceinline__ void select_least(const fx_select_args &a) {
    __shared__ uint32_t slots[FX_SLOTS];
    for (int64_t work = blockIdx.x; work < a.rows * a.tiles; work += gridDim.x) {
        const int64_t row = work / a.tiles, tile = work % a.tiles, wanted = int64_t(a.left[row]) + 1;
        const key_type<R> bound = key_type<R>(a.bound[row]);
        const int64_t less = a.tiles_before[2 * row * a.tiles + tile];
        const int64_t equal = a.tiles_before[(2 * row + 1) * a.tiles + tile];
        int64_t ranks[TILE_ROUNDS];
        tile_each(
            tile * FX_TILE, a.n, equal, [&](int64_t i) { return key_at<R>(a, row, i) == bound; },
            [&](int64_t, bool, int64_t rank, int round) { ranks[round] = rank; }, slots);
        tile_each(
            tile * FX_TILE, a.n, less, [&](int64_t i) { return key_at<R>(a, row, i) < bound; },
            [&](int64_t i, bool is_less, int64_t rank, int round) {
                const int64_t ties = ranks[round];
                const key_type<R> key = key_at<R>(a, row, i);
                if (!is_less && (key != bound || ties >= wanted)) return;
                const int64_t to = row * a.k + rank + (ties < wanted ? ties : wanted);
                static_cast<key_type<R> *>(a.keys)[to] = key;
                a.positions[to] = uint32_t(i);
            },
            slots);
    }
}

/* Writes the element of rank k - 1 itself. */
template <class R> __device__ __forceinline__ void select_kth(const fx_select_args &a) {
    __shared__ uint32_t slots[FX_SLOTS];
    for (int64_t work = blockIdx.x; work < a.rows * a.tiles; work += gridDim.x) {
        const int64_t row = work / a.tiles, tile = work % a.tiles, wanted = a.left[row];
        const key_type<R> bound = key_type<R>(a.bound[row]);
        const int64_t before = a.tiles_before[(2 * row + 1) * a.tiles + tile];
        tile_each(
            tile * FX_TILE, a.n, before, [&](int64_t i) { return key_at<R>(a, row, i) == bound; },
            [&](int64_t i, bool is, int64_t rank, int) {
                if (!is || rank != wanted) return;
                if (a.indices) a.indices[row] = i;
                if (a.values)
                    static_cast<R *>(a.values)[row] = static_cast<const R *>(a.x)[place_of(row, i, a.n, a.inner)];
            },
            slots);
    }
}

} // namespace fx

#define FX_KERNEL(name, type, body)                                                                     \
    extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ type a) { body(a); } \
    FX_EXPORT(name)
#define FX_RAW(name, type)                        \
    FX_KERNEL(name##_1, type, fx::name<uint8_t>)  \
    FX_KERNEL(name##_2, type, fx::name<uint16_t>) \
    FX_KERNEL(name##_4, type, fx::name<uint32_t>) \
    FX_KERNEL(name##_8, type, fx::name<uint64_t>)
FX_RAW(sort_rows, fx_sort_args)
FX_RAW(load_keys, fx_sort_args)
FX_RAW(store_keys, fx_sort_args)
FX_RAW(select_count, fx_select_args)
FX_RAW(select_tiles, fx_select_args)
FX_RAW(select_least, fx_select_args)
FX_RAW(select_kth, fx_select_args)
FX_KERNEL(select_begin, fx_select_args, fx::select_begin)
FX_KERNEL(select_pick, fx_select_args, fx::select_pick)
