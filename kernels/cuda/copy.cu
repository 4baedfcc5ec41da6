/* Transposing copies, by way of shared memory: both sides are accessed in whole sectors.
 *
 * A block takes tiles of 32 x 32 in turn.  A warp reads 32 neighbours of the source along a column of the matrix, and
 * writes 32 neighbours of the target along a row; in between they lie in shared memory, whose rows have one element more
 * than they need, so that a column of it lies in 32 different banks.
 */
#include "device.cuh"
#include "fx/copy_args.h"

namespace fx {

template <class T> __device__ __forceinline__ void transpose(const fx_transpose_args &a) {
    constexpr int tile = FX_TRANSPOSE_TILE;
    __shared__ T part[tile][tile + 1];
    const int x = int(threadIdx.x) & 31, y = int(threadIdx.x) >> 5; /* 256 threads: 8 rows at a time */
    const int64_t across = (a.columns + tile - 1) / tile, down = (a.rows + tile - 1) / tile;
    const int64_t tiles = across * down * a.size[0] * a.size[1];
    for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
        const int64_t column = t % across * tile, row = t / across % down * tile;
        const int64_t around = t / across / down, inner = around % a.size[0], outer = around / a.size[0];
        const T *in = static_cast<const T *>(a.in) + inner * a.in_step[0] + outer * a.in_step[1];
        T *out = static_cast<T *>(a.out) + inner * a.out_step[0] + outer * a.out_step[1];
#pragma unroll
        for (int k = 0; k < tile; k += 8)
            if (row + x < a.rows && column + y + k < a.columns)
                part[y + k][x] = in[row + x + (column + y + k) * a.in_column];
        __syncthreads();
#pragma unroll
        for (int k = 0; k < tile; k += 8)
            if (row + y + k < a.rows && column + x < a.columns)
                out[(row + y + k) * a.out_row + column + x] = part[x][y + k];
        __syncthreads();
    }
}

} // namespace fx

#define FX_TRANSPOSE(bytes, type)                                                                                   \
    extern "C" __global__ void __launch_bounds__(256) transpose_##bytes(const __grid_constant__ fx_transpose_args a) { \
        fx::transpose<type>(a);                                                                                     \
    }                                                                                                               \
    FX_EXPORT(transpose_##bytes)
FX_TRANSPOSE(1, uint8_t)
FX_TRANSPOSE(2, uint16_t)
FX_TRANSPOSE(4, uint32_t)
FX_TRANSPOSE(8, uint64_t)
