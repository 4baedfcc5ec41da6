/* Matrix products: what their kernels share (blocks of a batch, epilogue), and the one on plain arithmetic units.
 *
 * A block computes a tile of C.  Tiles of A and B pass through shared memory, two of each: the next ones are on their
 * way from memory to registers while the present ones are used.  A tile of A is kept transposed, so that a thread reads
 * four neighbouring rows, and four columns of B, by one access.
 */
#ifndef FX_GEMM_CUH
#define FX_GEMM_CUH
#include "device.cuh"
#include "fx/abi.h"
#include "fx/gemm_args.h"
#include "fx/half.h"
#include "fx/scalar.h"

#include <type_traits>

namespace fx {

/* The activation, an fx_gemm_activation; of integers there is none. */
template <class Sum> __device__ __forceinline__ Sum activated(int64_t which, Sum y) {
    if constexpr (std::is_floating_point<Sum>::value) {
        if (which == FX_GEMM_RELU) return y < 0 ? Sum(0) : y;
        if (which == FX_GEMM_GELU) return y * normal_cdf(y);
    }
    return y;
}

template <class T, int n> struct alignas(sizeof(T) * n < 16 ? sizeof(T) * n : 16) group {
    T v[n];
};

/* What a dtype is computed in.  Integers wrap: unsigned ones serve both signs. */
template <class T> struct computed {
    using type = T;
};
template <> struct computed<float16> {
    using type = float;
};
template <> struct computed<bfloat16> {
    using type = float;
};
template <class T> __device__ __forceinline__ T scalar_of(double, int64_t whole) { return T(whole); }
template <> __device__ __forceinline__ float scalar_of<float>(double x, int64_t) { return float(x); }
template <> __device__ __forceinline__ double scalar_of<double>(double x, int64_t) { return x; }

__device__ __forceinline__ float multiply_add(float a, float b, float c) { return madd(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return madd(a, b, c); }
template <class T> __device__ __forceinline__ T multiply_add(T a, T b, T c) {
    return T(uint32_t(a) * uint32_t(b) + uint32_t(c)); /* uint8_t would be promoted to int, and overflow */
}
__device__ __forceinline__ uint64_t multiply_add(uint64_t a, uint64_t b, uint64_t c) { return a * b + c; }

/* The operands of one product of the batch. */
template <class T> struct gemm_operands {
    const T *a, *b, *d;
    T *c;
    __device__ __forceinline__ gemm_operands(const fx_gemm_args &s, int64_t index) {
        int64_t at[4] = {};
#pragma unroll
        for (int i = 0; i < FX_GEMM_DIMS; i++) {
            if (index == 0) break;
            const int64_t place = index % s.size[i];
            index /= s.size[i];
#pragma unroll
            for (int o = 0; o < 4; o++) at[o] += place * s.step[i][o];
        }
        a = static_cast<const T *>(s.a) + at[FX_GEMM_A];
        b = static_cast<const T *>(s.b) + at[FX_GEMM_B];
        d = static_cast<const T *>(s.d) + at[FX_GEMM_D];
        c = static_cast<T *>(s.c) + at[FX_GEMM_C];
    }
};

/* First row and column of this block's tile.  Blocks that run at the same time form a near-square of tiles (8 rows of
 * them), so that what they read meets in the L2 cache. */
template <int M, int N>
__device__ __forceinline__ void tile_place(const fx_gemm_args &s, int64_t *row, int64_t *column) {
    const uint32_t rows = uint32_t((s.m + M - 1) / M), columns = uint32_t((s.n + N - 1) / N);
    const uint64_t strip_size = uint64_t(8) * columns;
    const uint32_t strip = uint32_t(blockIdx.x / strip_size), rest = uint32_t(blockIdx.x % strip_size);
    const uint32_t height = rows - strip * 8 < 8 ? rows - strip * 8 : 8;
    *row = int64_t(strip * 8 + rest % height) * M;
    *column = int64_t(rest / height) * N;
}

/* Elements [column, column + n) of a row of C from their sums, or the sums themselves for a slice of k. */
template <class T, class Sum, int n>
__device__ __forceinline__ void finish(const fx_gemm_args &s, const gemm_operands<T> &at, int64_t index, int64_t row,
                                       int64_t column, const Sum *sums) {
    if (row >= s.m || column >= s.n) return;
    const bool all = column + n <= s.n;
    if (s.slices > 1) {
        Sum *to = static_cast<Sum *>(s.sums) + ((blockIdx.z * s.batch + index) * s.m + row) * s.n + column;
        if (all && s.n % n == 0) {
            group<Sum, n> whole;
#pragma unroll
            for (int i = 0; i < n; i++) whole.v[i] = sums[i];
            *reinterpret_cast<group<Sum, n> *>(to) = whole;
        } else {
#pragma unroll
            for (int i = 0; i < n; i++)
                if (column + i < s.n) to[i] = sums[i];
        }
        return;
    }
    const Sum alpha = scalar_of<Sum>(s.alpha, s.alpha_whole), beta = scalar_of<Sum>(s.beta, s.beta_whole);
    Sum y[n];
#pragma unroll
    for (int i = 0; i < n; i++) y[i] = Sum(alpha * sums[i]);
    if (s.beta != 0) {
        const T *from = at.d + row * s.d_row + column * s.d_column;
        if (all && (s.flags & FX_GEMM_WHOLE_D)) {
            const group<T, n> old = *reinterpret_cast<const group<T, n> *>(from);
#pragma unroll
            for (int i = 0; i < n; i++) {
                Sum x;
                convert_to(&x, old.v[i]);
                y[i] = multiply_add(beta, x, y[i]);
            }
        } else {
#pragma unroll
            for (int i = 0; i < n; i++)
                if (column + i < s.n) {
                    Sum x;
                    convert_to(&x, from[i * s.d_column]);
                    y[i] = multiply_add(beta, x, y[i]);
                }
        }
    }
    if (s.activation) {
#pragma unroll
        for (int i = 0; i < n; i++) y[i] = activated(s.activation, y[i]);
    }
    T *to = at.c + row * s.c_row + column;
    if (all && (s.flags & FX_GEMM_WHOLE_C)) {
        group<T, n> whole;
#pragma unroll
        for (int i = 0; i < n; i++) convert_to(&whole.v[i], y[i]);
        *reinterpret_cast<group<T, n> *>(to) = whole;
    } else {
#pragma unroll
        for (int i = 0; i < n; i++)
            if (column + i < s.n) convert_to(&to[i], y[i]);
    }
}

/* One thread's part of a tile, on its way through registers.  `by_k`: k is the adjacent dimension.  What is outside the
 * matrix is 0.  `even`: 16-byte accesses everywhere, and the adjacent dimension has a multiple of them: without the
 * other way the largest tiles keep to their registers. */
template <class T, class Work, int size, int depth, int threads, bool by_k, bool even> struct tile_loader {
    static constexpr int width = 16 / int(sizeof(T)) < 4 ? 16 / int(sizeof(T)) : 4;
    static constexpr int count = size * depth / (width * threads), pitch = size + 4;
    static_assert(size * depth % (width * threads) == 0, "every thread loads as much");
    const T *from[count];
    group<T, width> held[count];
    int64_t step, advance;
    int left[count]; /* rows from the thread's first one to the matrix's last */
    bool whole;

    static __device__ __forceinline__ int row(int i) {
        const int p = int(threadIdx.x) + i * threads;
        return by_k ? p / (depth / width) : p % (size / width) * width;
    }
    static __device__ __forceinline__ int place(int i) {
        const int p = int(threadIdx.x) + i * threads;
        return by_k ? p % (depth / width) * width : p / (size / width);
    }
    __device__ __forceinline__ void start(const T *base, int64_t rows, int64_t step_row, int64_t step_k, int64_t k,
                                          bool whole_accesses) {
        step = by_k ? step_k : step_row;
        advance = even && by_k ? depth : depth * step_k;
        whole = whole_accesses;
        const int available = rows < size ? int(rows) : size;
#pragma unroll
        for (int i = 0; i < count; i++) {
            left[i] = available - row(i);
            from[i] = base + row(i) * step_row + (k + place(i)) * step_k;
        }
    }
    /* `rest`: how many of k are left */
    __device__ __forceinline__ void fetch(int rest) {
#pragma unroll
        for (int i = 0; i < count; i++) {
            const int across = by_k ? left[i] : rest - place(i), along = by_k ? rest - place(i) : left[i];
            if (even) {
                held[i] = group<T, width>{};
                if (across > 0 && along > 0) held[i] = *reinterpret_cast<const group<T, width> *>(from[i]);
            } else if (whole && across > 0 && along >= width) {
                held[i] = *reinterpret_cast<const group<T, width> *>(from[i]);
            } else {
#pragma unroll
                for (int j = 0; j < width; j++) {
                    T x{};
                    if (across > 0 && along > j) x = from[i][j * step];
                    held[i].v[j] = x;
                }
            }
            from[i] += advance;
        }
    }
    __device__ __forceinline__ void keep(Work *to) const {
#pragma unroll
        for (int i = 0; i < count; i++) {
            group<Work, width> x;
#pragma unroll
            for (int j = 0; j < width; j++) convert_to(&x.v[j], held[i].v[j]);
            if (by_k) {
#pragma unroll
                for (int j = 0; j < width; j++) to[(place(i) + j) * pitch + row(i)] = x.v[j];
            } else {
                *reinterpret_cast<group<Work, width> *>(to + place(i) * pitch + row(i)) = x;
            }
        }
    }
};

/* rows x columns: of a block's tile; depth: how much of k is in shared memory; height x width: a thread's part, in
 * groups of four.  A warp is 4 lanes high and 8 wide: it reads 16 rows and 32 columns at a time, without conflicts. */
template <class T, int rows, int columns, int depth, int height, int width, bool even, bool a_by_k, bool b_by_k>
__device__ __forceinline__ void gemm_tile(const fx_gemm_args &s) {
    using Sum = typename computed<T>::type;
    constexpr int threads = rows / height * (columns / width);
    constexpr int across = columns / (8 * width); /* warps side by side */
    constexpr int a_pitch = rows + 4, b_pitch = columns + 4;
    FX_DYNAMIC_SHARED(Sum, a_tiles);
    Sum *b_tiles = a_tiles + 2 * depth * a_pitch;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int first_row = warp / across * (4 * height) + lane / 8 * 4;
    const int first_column = warp % across * (8 * width) + lane % 8 * 4;
    const int64_t begin = blockIdx.z * s.slice, end = begin + s.slice < s.k ? begin + s.slice : s.k;
    const int64_t index = s.first + blockIdx.y;
    tile_loader<T, Sum, rows, depth, threads, a_by_k, even> a_loader;
    tile_loader<T, Sum, columns, depth, threads, b_by_k, even> b_loader;
    {
        int64_t row, column;
        tile_place<rows, columns>(s, &row, &column);
        const gemm_operands<T> at(s, index);
        a_loader.start(at.a + row * s.a_row, s.m - row, s.a_row, s.a_column, begin, s.flags & FX_GEMM_WHOLE_A);
        b_loader.start(at.b + column * s.b_column, s.n - column, s.b_column, s.b_row, begin, s.flags & FX_GEMM_WHOLE_B);
    }
    Sum sums[height][width] = {};
    int64_t rest = end - begin; /* of k, from the tile that is in use */
    if (rest > 0) {
        a_loader.fetch(rest < depth ? int(rest) : depth);
        b_loader.fetch(rest < depth ? int(rest) : depth);
        a_loader.keep(a_tiles);
        b_loader.keep(b_tiles);
    }
    __syncthreads();
    int now = 0;
#pragma unroll 1
    for (; rest > 0; rest -= depth, now ^= 1) {
        if (rest > depth) {
            const int next = rest - depth < depth ? int(rest) - depth : depth;
            a_loader.fetch(next);
            b_loader.fetch(next);
        }
        const Sum *a = a_tiles + now * depth * a_pitch + first_row;
        const Sum *b = b_tiles + now * depth * b_pitch + first_column;
#pragma unroll
        for (int k = 0; k < depth; k++) {
            group<Sum, 4> x[height / 4], y[width / 4];
#pragma unroll
            for (int g = 0; g < height / 4; g++)
                x[g] = *reinterpret_cast<const group<Sum, 4> *>(a + k * a_pitch + g * 16);
#pragma unroll
            for (int g = 0; g < width / 4; g++)
                y[g] = *reinterpret_cast<const group<Sum, 4> *>(b + k * b_pitch + g * 32);
#pragma unroll
            for (int p = 0; p < height; p++) {
#pragma unroll
                for (int q = 0; q < width; q++)
                    sums[p][q] = multiply_add(x[p / 4].v[p % 4], y[q / 4].v[q % 4], sums[p][q]);
            }
        }
        if (rest > depth) {
            a_loader.keep(a_tiles + (1 - now) * depth * a_pitch);
            b_loader.keep(b_tiles + (1 - now) * depth * b_pitch);
        }
        __syncthreads();
    }
    /* Row by row of each thread by way of shared memory, so that whole rows are written, and by little code: it
     * would otherwise take registers from the loop above. */
    int64_t row, column;
    tile_place<rows, columns>(s, &row, &column);
    const gemm_operands<T> at(s, index);
    Sum *stage = a_tiles;
#pragma unroll
    for (int p = 0; p < height; p++) {
#pragma unroll
        for (int g = 0; g < width / 4; g++) {
            group<Sum, 4> whole;
#pragma unroll
            for (int q = 0; q < 4; q++) whole.v[q] = sums[p][g * 4 + q];
            *reinterpret_cast<group<Sum, 4> *>(stage + (warp / across * 4 + lane / 8) * b_pitch + first_column +
                                               g * 32) = whole;
        }
        __syncthreads();
#pragma unroll 1
        for (int e = threadIdx.x; e < rows / height * (columns / 4); e += threads) {
            const int r = e / (columns / 4), c = e % (columns / 4) * 4;
            const group<Sum, 4> ready = *reinterpret_cast<const group<Sum, 4> *>(stage + r * b_pitch + c);
            finish<T, Sum, 4>(s, at, index, row + r / 4 * (4 * height) + r % 4 * 4 + p / 4 * 16 + p % 4, column + c,
                              ready.v);
        }
        __syncthreads();
    }
}

/* The second stage of a sum in slices: they are added in order, each element by one thread. */
template <class T> __device__ __forceinline__ void gemm_add_slices(const fx_gemm_args &s) {
    using Sum = typename computed<T>::type;
    const int64_t matrix = s.m * s.n, all = s.batch * matrix;
    const Sum *from = static_cast<const Sum *>(s.sums);
    const Sum alpha = scalar_of<Sum>(s.alpha, s.alpha_whole), beta = scalar_of<Sum>(s.beta, s.beta_whole);
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < all; i += int64_t(gridDim.x) * blockDim.x) {
        Sum total = from[i];
#pragma unroll 4
        for (int j = 1; j < s.slices; j++) total = Sum(total + from[j * all + i]);
        const int64_t index = i / matrix, row = (i - index * matrix) / s.n, column = i - index * matrix - row * s.n;
        const gemm_operands<T> at(s, index);
        Sum y = Sum(alpha * total);
        if (s.beta != 0) {
            Sum x;
            convert_to(&x, at.d[row * s.d_row + column * s.d_column]);
            y = multiply_add(beta, x, y);
        }
        convert_to(&at.c[row * s.c_row + column], activated(s.activation, y));
    }
}

} // namespace fx

#define FX_GEMM_KERNEL(name, threads, blocks, ...)                                                               \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ fx_gemm_args s) { \
        fx::__VA_ARGS__(s);                                                                                      \
    }                                                                                                            \
    FX_EXPORT(name)
/* By which dimension of A and of B is adjacent: n, a row's elements; t, a column's. */
#define FX_GEMM_TILES(suffix, type, rows, columns, depth, height, width, even, threads, blocks) \
    FX_GEMM_KERNEL(gemm_##suffix##_nn_##rows, threads, blocks,                                  \
                   gemm_tile<type, rows, columns, depth, height, width, even, true, false>)     \
    FX_GEMM_KERNEL(gemm_##suffix##_nt_##rows, threads, blocks,                                  \
                   gemm_tile<type, rows, columns, depth, height, width, even, true, true>)      \
    FX_GEMM_KERNEL(gemm_##suffix##_tn_##rows, threads, blocks,                                  \
                   gemm_tile<type, rows, columns, depth, height, width, even, false, false>)    \
    FX_GEMM_KERNEL(gemm_##suffix##_tt_##rows, threads, blocks,                                  \
                   gemm_tile<type, rows, columns, depth, height, width, even, false, true>)
#endif
