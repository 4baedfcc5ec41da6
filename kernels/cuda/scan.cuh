/* Prefix sums of warps, blocks and tiles, for blocks of 256 threads.
 *
 * A tile is FX_TILE neighbouring elements; each warp takes a run of them, in rounds of 32, so that ranks follow from
 * votes.  Counts of tiles are added up by the kernels of order.cu in between.
 */
#ifndef FX_SCAN_CUH
#define FX_SCAN_CUH
#include "block.cuh"
#include "fx/order_args.h"

namespace fx {

enum { THREADS = 256, WARPS = THREADS / 32, TILE_ROUNDS = FX_TILE / THREADS };

__device__ __forceinline__ unsigned lane_of() { return threadIdx.x & 31; }
__device__ __forceinline__ unsigned lower_lanes() { return (1u << lane_of()) - 1; }

/* The sum of the values of the threads before, and of all; `slots` may be used again at once. */
template <class T> __device__ __forceinline__ T block_exclusive(T x, T (&slots)[FX_SLOTS], T *total) {
    const T inclusive = block_scan(x, add_values{}, slots);
    *total = slots[32];
    return inclusive - x;
}

/* Where this thread's element of a round stands in its tile. */
__device__ __forceinline__ int tile_place(int round) {
    return (threadIdx.x / 32 * TILE_ROUNDS + round) * 32 + int(lane_of());
}

/* How many elements of the tile that begins at `first` satisfy is(i), i < n: the same for all threads. */
template <class Is>
__device__ __forceinline__ uint32_t tile_count(int64_t first, int64_t n, const Is &is, uint32_t (&slots)[FX_SLOTS]) {
    uint32_t mine = 0, total;
#pragma unroll
    for (int round = 0; round < TILE_ROUNDS; round++) {
        const int64_t i = first + tile_place(round);
        mine += i < n && is(i) ? 1 : 0;
    }
    block_exclusive(mine, slots, &total);
    return total;
}

/* each(i, is(i), rank, round) for all elements of the tile; rank: `before`, and how many before i in the tile satisfy
 * it. */
template <class Is, class Each>
__device__ __forceinline__ void tile_each(int64_t first, int64_t n, int64_t before, const Is &is, const Each &each,
                                          uint32_t (&slots)[FX_SLOTS]) {
    uint32_t votes[TILE_ROUNDS], mine = 0;
#pragma unroll
    for (int round = 0; round < TILE_ROUNDS; round++) {
        const int64_t i = first + tile_place(round);
        votes[round] = __ballot_sync(0xffffffffu, i < n && is(i));
        mine += __popc(votes[round]);
    }
    const int warp = threadIdx.x / 32;
    __syncthreads(); /* an earlier call's slots have been read */
    if (lane_of() == 0) slots[warp] = mine;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < WARPS; w++) before += w < warp ? slots[w] : 0;
#pragma unroll
    for (int round = 0; round < TILE_ROUNDS; round++) {
        const int64_t i = first + tile_place(round);
        if (i < n) each(i, (votes[round] >> lane_of() & 1) != 0, before + __popc(votes[round] & lower_lanes()), round);
        before += __popc(votes[round]);
    }
}

} // namespace fx
#endif
