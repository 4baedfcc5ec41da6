/* Sorting pairs of a key and a 32-bit value, stable: a radix sort of long rows, a bitonic sort of short ones.
 *
 * A pass of the radix sort counts the digits of each tile, adds the counts up over the tiles of a row (order.cu), and
 * deals the pairs of each tile out.  In a tile the rank of a pair among those of its digit follows from votes of its
 * warp, which takes a run of neighbours; the tile is put in order in shared memory first, so that the pairs of a digit
 * are written side by side.  The bitonic sort is made stable by the place, which it compares where keys are equal.
 */
#ifndef FX_RADIX_CUH
#define FX_RADIX_CUH
#include "scan.cuh"

namespace fx {

enum { DIGITS = 1 << FX_RADIX_BITS };

template <class K> struct radix {
    static constexpr int tile = FX_RADIX_TILE / int(sizeof(K)), rounds = tile / THREADS;
};

template <class K> __device__ __forceinline__ uint32_t digit_of(K key, int shift, int bits) {
    return uint32_t(key >> shift) & ((1u << bits) - 1);
}

/* The lanes whose digit is this lane's. */
__device__ __forceinline__ uint32_t same_digit(uint32_t digit, int bits) {
    uint32_t same = 0xffffffffu;
    for (int b = 0; b < bits; b++) {
        const bool set = digit >> b & 1;
        const uint32_t votes = __ballot_sync(0xffffffffu, set);
        same &= set ? votes : ~votes;
    }
    return same;
}

template <class K> __device__ __forceinline__ void radix_count(const fx_radix_args &a) {
    __shared__ uint32_t counts[DIGITS];
    const int digits = 1 << a.bits;
    for (int64_t work = blockIdx.x; work < a.rows * a.tiles; work += gridDim.x) {
        const int64_t row = work / a.tiles, tile = work % a.tiles, first = tile * radix<K>::tile;
        const K *keys = static_cast<const K *>(a.keys) + row * a.n;
        counts[threadIdx.x] = 0;
        __syncthreads();
#pragma unroll 4
        for (int round = 0; round < radix<K>::rounds; round++) {
            const int64_t i = first + round * THREADS + threadIdx.x;
            if (i < a.n) atomicAdd(&counts[digit_of(keys[i], a.shift, a.bits)], 1u);
        }
        __syncthreads();
        if (threadIdx.x < digits) a.counts[(row * digits + threadIdx.x) * a.tiles + tile] = counts[threadIdx.x];
        __syncthreads();
    }
}

template <class K> __device__ __forceinline__ void radix_deal(const fx_radix_args &a) {
    constexpr int rounds = radix<K>::rounds;
    __shared__ K keys_here[radix<K>::tile];
    __shared__ uint32_t values_here[radix<K>::tile];
    __shared__ uint32_t ranks[WARPS][DIGITS]; /* of the next pair of a warp and digit, from the digit's first */
    __shared__ uint32_t starts[DIGITS];       /* of a digit in the tile */
    __shared__ uint32_t moves[DIGITS];        /* from the place in the tile to that in the row, modulo 2^32 */
    __shared__ uint32_t slots[FX_SLOTS];
    const int digits = 1 << a.bits, warp = threadIdx.x / 32;
    for (int64_t work = blockIdx.x; work < a.rows * a.tiles; work += gridDim.x) {
        const int64_t row = work / a.tiles, tile = work % a.tiles, first = tile * radix<K>::tile;
        const int here = int(a.n - first < radix<K>::tile ? a.n - first : radix<K>::tile);
        const K *keys = static_cast<const K *>(a.keys) + row * a.n + first;
        K key[rounds];
        uint32_t rank[rounds];
#pragma unroll
        for (int w = 0; w < WARPS; w++) ranks[w][threadIdx.x] = 0;
        __syncthreads();
#pragma unroll
        for (int round = 0; round < rounds; round++) {
            /* What is beyond the end has the greatest key, and so stands behind all in the tile. */
            const int i = (warp * rounds + round) * 32 + int(lane_of());
            key[round] = i < here ? keys[i] : ~K(0);
        }
#pragma unroll
        for (int round = 0; round < rounds; round++) {
            const uint32_t digit = digit_of(key[round], a.shift, a.bits), same = same_digit(digit, a.bits);
            const uint32_t before = ranks[warp][digit];
            __syncwarp();
            rank[round] = before + __popc(same & lower_lanes());
            if ((same & lower_lanes()) == 0) ranks[warp][digit] = before + __popc(same);
            __syncwarp();
        }
        __syncthreads();
        uint32_t sum = 0, all, total = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            const uint32_t count = ranks[w][threadIdx.x];
            ranks[w][threadIdx.x] = sum;
            sum += count;
        }
        const uint32_t start = block_exclusive(sum, slots, &all);
        if (threadIdx.x < digits) total = a.totals[row * digits + threadIdx.x];
        uint32_t to = block_exclusive(total, slots, &all);
        if (threadIdx.x < digits) to += a.counts[(row * digits + threadIdx.x) * a.tiles + tile];
        starts[threadIdx.x] = start;
        moves[threadIdx.x] = to - start;
        __syncthreads();
#pragma unroll
        for (int round = 0; round < rounds; round++) {
            const uint32_t digit = digit_of(key[round], a.shift, a.bits);
            const uint32_t place = starts[digit] + ranks[warp][digit] + rank[round];
            keys_here[place] = key[round];
            const int i = (warp * rounds + round) * 32 + int(lane_of());
            values_here[place] = i >= here ? 0 : a.values ? a.values[row * a.n + first + i] : uint32_t(first + i);
        }
        __syncthreads();
        for (int i = threadIdx.x; i < here; i += THREADS) {
            const K k = keys_here[i];
            const int64_t place = row * a.n + uint32_t(i + moves[digit_of(k, a.shift, a.bits)]);
            static_cast<K *>(a.keys_out)[place] = k;
            a.values_out[place] = values_here[i];
        }
        __syncthreads();
    }
}

/* Sorts rows of `width` keys (a power of two, up to FX_SHORT_ROW) that lie one behind the other in shared memory,
 * FX_SHORT_ROW in all, with their places. */
template <class K> __device__ __forceinline__ void bitonic_sort(K *keys, uint16_t *places, int width) {
    for (int size = 2; size <= width; size *= 2) {
        for (int step = size / 2; step > 0; step /= 2) {
            __syncthreads();
            for (int t = threadIdx.x; t < FX_SHORT_ROW / 2; t += THREADS) {
                const int i = 2 * t - (t & (step - 1)), j = i + step;
                const bool up = (i & (width - 1) & size) == 0;
                const K a = keys[i], b = keys[j];
                const uint16_t pa = places[i], pb = places[j];
                const bool greater = a > b || (a == b && pa > pb);
                if (greater == up) {
                    keys[i] = b;
                    keys[j] = a;
                    places[i] = pb;
                    places[j] = pa;
                }
            }
        }
    }
    __syncthreads();
}

} // namespace fx
#endif
