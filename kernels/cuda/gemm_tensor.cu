/* Matrix products on tensor cores: float16 and bfloat16 with float32 sums, float32 by way of tf32.
 *
 * Tiles of A and B, 64 bytes deep along k, come through `stages` buffers of shared memory by asynchronous copies of
 * 16 bytes, so that operands have to allow these everywhere (`even` in matmul.pyx).  A tile lies as its operand does,
 * in rows of 16-byte chunks, which are exchanged within a row so that the eight rows of a matrix are read without
 * conflicts; what is adjacent along rows is transposed on the way to registers.
 */
#include "gemm.cuh"
#include "mma.cuh"

namespace fx {

/* A tile of `size` rows (or columns, of B) by `depth` of k, in shared memory. */
template <class T, int size, bool by_k> struct tensor_tile {
    static constexpr int width = 16 / int(sizeof(T)), depth = 64 / int(sizeof(T));
    static constexpr int chunks = by_k ? 4 : size / width; /* of a row */
    static constexpr int count = size * depth / width;     /* of all */
    static constexpr int bytes = count * 16;
    static __device__ __forceinline__ int place(int row, int chunk) {
        /* two rows of four chunks, or eighth of a longer row, are what the banks serve at a time */
        return (row * chunks + (by_k ? chunk ^ (row / 2 % 4) : chunk ^ (row % 8))) * 16;
    }
    /* Columns of half precision that are adjacent along rows in tf32 are read one by one: other chunks of a row then. */
    template <int threads>
    static __device__ __forceinline__ void copy(unsigned char *to, const T *base, int64_t rows, int64_t step_row,
                                                int64_t step_k, int64_t k, int64_t end) {
#pragma unroll
        for (int i = 0; i < count / threads; i++) {
            const int p = int(threadIdx.x) + i * threads, row = p / chunks, chunk = p % chunks;
            const bool there = by_k ? row < rows && k + chunk * width < end : k + row < end && chunk * width < rows;
            const T *from = by_k ? base + row * step_row + k + chunk * width : base + (k + row) * step_k + chunk * width;
            copy_async(to + place(row, chunk), there ? from : base, there);
        }
    }
    /* 16 rows of A by 32 bytes of k, from `first` and 32 bytes times `half`. */
    static __device__ __forceinline__ void load_a(uint32_t (&r)[4], const unsigned char *tile, int first, int half) {
        const int lane = threadIdx.x % 32;
        if constexpr (by_k)
            load_matrices(r, tile + place(first + lane % 16, half * 2 + lane / 16));
        else if constexpr (sizeof(T) == 2)
            load_matrices_transposed(r, tile + place(half * 16 + lane / 16 * 8 + lane % 8, first / 8 + lane / 8 % 2));
        else
#pragma unroll
            for (int i = 0; i < 4; i++) r[i] = one(tile, first + i % 2 * 8 + lane / 4, half * 8 + i / 2 * 4 + lane % 4);
        if constexpr (sizeof(T) == 4) {
#pragma unroll
            for (int i = 0; i < 4; i++) r[i] = to_tf32(r[i]);
        }
    }
    /* Two times 8 columns of B. */
    static __device__ __forceinline__ void load_b(uint32_t (&r)[4], const unsigned char *tile, int first, int half) {
        const int lane = threadIdx.x % 32;
        if constexpr (by_k)
            load_matrices(r, tile + place(first + lane / 16 * 8 + lane % 8, half * 2 + lane / 8 % 2));
        else if constexpr (sizeof(T) == 2)
            load_matrices_transposed(r, tile + place(half * 16 + lane / 8 % 2 * 8 + lane % 8, first / 8 + lane / 16));
        else
#pragma unroll
            for (int i = 0; i < 4; i++) r[i] = one(tile, first + i / 2 * 8 + lane / 4, half * 8 + i % 2 * 4 + lane % 4);
        if constexpr (sizeof(T) == 4) {
#pragma unroll
            for (int i = 0; i < 4; i++) r[i] = to_tf32(r[i]);
        }
    }
    /* One float32 of a tile that is adjacent along rows.  Lanes 4 t + g ask for k = t and rows g: four rows of the tile
     * and two chunks of each, all in banks of their own. */
    static __device__ __forceinline__ uint32_t one(const unsigned char *tile, int row, int k) {
        return *reinterpret_cast<const uint32_t *>(tile + place(k, row / 4) + row % 4 * 4);
    }
};

/* down x across: the warps of a block. */
template <class T, int rows, int columns, int down, int across, int stages, bool a_by_k, bool b_by_k>
__device__ __forceinline__ void tensor_gemm(const fx_gemm_args &s) {
    using A = tensor_tile<T, rows, a_by_k>;
    using B = tensor_tile<T, columns, b_by_k>;
    constexpr int threads = down * across * 32, depth = A::depth, stage = A::bytes + B::bytes;
    constexpr int height = rows / down / 16, width = columns / across / 8, pitch = columns + 8;
    static_assert(down * 16 * pitch * 4 <= stages * stage, "the results pass through the same memory");
    FX_DYNAMIC_SHARED(unsigned char, shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int first_row = warp / across * (rows / down), first_column = warp % across * (columns / across);
    const int64_t index = s.first + blockIdx.y;
    const int64_t begin = blockIdx.z * s.slice, end = begin + s.slice < s.k ? begin + s.slice : s.k;
    int64_t row, column;
    tile_place<rows, columns>(s, &row, &column);
    const gemm_operands<T> at(s, index);
    const T *a = at.a + row * s.a_row, *b = at.b + column * s.b_column;
    float sums[height][width][4] = {};
    const int steps = int((end - begin + depth - 1) / depth);
    auto copy = [&](int step) {
        if (step < steps) {
            unsigned char *to = shared + step % stages * stage;
            const int64_t k = begin + int64_t(step) * depth;
            A::template copy<threads>(to, a, s.m - row, s.a_row, s.a_column, k, end);
            B::template copy<threads>(to + A::bytes, b, s.n - column, s.b_column, s.b_row, k, end);
        }
        copies_commit(); /* an empty group too, so that their number says which ones have arrived */
    };
#pragma unroll
    for (int i = 0; i < stages - 1; i++) copy(i);
#pragma unroll 1
    for (int i = 0; i < steps; i++) {
        copies_wait<stages - 2>();
        __syncthreads(); /* everybody's copies have arrived, and nobody reads the buffer that is filled next */
        copy(i + stages - 1);
        const unsigned char *a_tile = shared + i % stages * stage, *b_tile = a_tile + A::bytes;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t x[height][4], y[width / 2][4];
#pragma unroll
            for (int p = 0; p < height; p++) A::load_a(x[p], a_tile, first_row + p * 16, half);
#pragma unroll
            for (int q = 0; q < width / 2; q++) B::load_b(y[q], b_tile, first_column + q * 16, half);
#pragma unroll
            for (int p = 0; p < height; p++) {
#pragma unroll
                for (int q = 0; q < width; q++)
                    multiply_matrices(T{}, sums[p][q], x[p], y[q / 2][q % 2 * 2], y[q / 2][q % 2 * 2 + 1]);
            }
        }
    }
    copies_wait<0>();
    float *ready = reinterpret_cast<float *>(shared);
#pragma unroll
    for (int p = 0; p < height; p++) {
        __syncthreads();
#pragma unroll
        for (int q = 0; q < width; q++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                group<float, 2> two = {{sums[p][q][half * 2], sums[p][q][half * 2 + 1]}};
                float *to = ready + (warp / across * 16 + half * 8 + lane / 4) * pitch + first_column + q * 8 + lane % 4 * 2;
                *reinterpret_cast<group<float, 2> *>(to) = two;
            }
        }
        __syncthreads();
#pragma unroll 1
        for (int e = threadIdx.x; e < down * 16 * (columns / 4); e += threads) {
            const int r = e / (columns / 4), c = e % (columns / 4) * 4;
            const group<float, 4> four = *reinterpret_cast<const group<float, 4> *>(ready + r * pitch + c);
            finish<T, float, 4>(s, at, index, row + r / 16 * (rows / down) + p * 16 + r % 16, column + c, four.v);
        }
    }
}

} // namespace fx

#define FX_TENSOR(suffix, type, size, down, across, stages, blocks)                                             \
    FX_GEMM_KERNEL(mma_##suffix##_nn_##size, down * across * 32, blocks,                                        \
                   tensor_gemm<type, size, size, down, across, stages, true, false>)                            \
    FX_GEMM_KERNEL(mma_##suffix##_nt_##size, down * across * 32, blocks,                                        \
                   tensor_gemm<type, size, size, down, across, stages, true, true>)                             \
    FX_GEMM_KERNEL(mma_##suffix##_tn_##size, down * across * 32, blocks,                                        \
                   tensor_gemm<type, size, size, down, across, stages, false, false>)                           \
    FX_GEMM_KERNEL(mma_##suffix##_tt_##size, down * across * 32, blocks,                                        \
                   tensor_gemm<type, size, size, down, across, stages, false, true>)
FX_TENSOR(f16, fx::float16, 128, 2, 4, 4, 2)
FX_TENSOR(f16, fx::float16, 64, 2, 2, 4, 4)
FX_TENSOR(bf16, fx::bfloat16, 128, 2, 4, 4, 2)
FX_TENSOR(bf16, fx::bfloat16, 64, 2, 2, 4, 4)
FX_TENSOR(tf32, float, 128, 2, 4, 4, 2)
FX_TENSOR(tf32, float, 64, 2, 2, 4, 4)
