/* Scaled dot-product attention, blockwise (Dao, FlashAttention-2, 2023), on the plain arithmetic units.
 *
 * Tiles of 64 queries by 64 keys are made by 256 threads, 4 x 4 values each, in registers; thread t has rows
 * t / 16 * 4 and columns t % 16 * 4.  The gradient is taken in two kernels that make the tiles anew, one for each block
 * of queries and one for each block of keys, so that every sum has one thread and one order.  Results wider than a
 * kernel's columns are made by several blocks (along z).
 */
#ifndef FX_ATTENTION_CUH
#define FX_ATTENTION_CUH
#include "fx/attention_args.h"
#include "gemm.cuh"

namespace fx {

enum { ATTENTION_ROWS = 64, ATTENTION_PITCH = 68, ATTENTION_DEPTH = 16 };

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }

/* One operand of one head. */
template <class T> struct head_matrix {
    const T *data;
    int64_t row, column;
    bool whole; /* rows can be read 16 bytes at a time (8 of half precision) */
    __device__ __forceinline__ head_matrix(const fx_attention_args &s, int operand, int64_t head)
        : row(s.row[operand]), column(s.column[operand]) {
        int64_t at = 0;
#pragma unroll
        for (int i = 0; i < FX_ATTENTION_DIMS; i++) {
            if (head == 0) break;
            at += head % s.size[i] * s.step[i][operand];
            head /= s.size[i];
        }
        constexpr int width = 16 / int(sizeof(T)) < 4 ? 16 / int(sizeof(T)) : 4;
        data = static_cast<const T *>(s.data[operand]) + at;
        whole = column == 1 && row % width == 0 && reinterpret_cast<uintptr_t>(data) % (width * sizeof(T)) == 0;
    }
};

template <class Work> struct attention_shared {
    Work weights[ATTENTION_ROWS * ATTENTION_PITCH]; /* a tile, transposed */
    Work tiles[2 * ATTENTION_DEPTH * ATTENTION_PITCH]; /* also one of 16 rows of 128 columns and 4 */
};

/* s = a b^T for 64 rows of a and of b from the given ones. */
template <class T, class Work>
__device__ __forceinline__ void row_products(const head_matrix<T> &a, int64_t a_first, int64_t a_rows,
                                             const head_matrix<T> &b, int64_t b_first, int64_t b_rows, int64_t width,
                                             Work (&s)[4][4], Work *tiles) {
    constexpr int depth = ATTENTION_DEPTH, pitch = ATTENTION_PITCH;
    tile_loader<T, Work, 64, depth, 256, true, false> a_loader, b_loader;
    a_loader.start(a.data + a_first * a.row, a_rows - a_first, a.row, a.column, 0, a.whole);
    b_loader.start(b.data + b_first * b.row, b_rows - b_first, b.row, b.column, 0, b.whole);
    Work *b_tile = tiles + depth * pitch;
    const int y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) s[i][j] = 0;
    }
    a_loader.fetch(width < depth ? int(width) : depth);
    b_loader.fetch(width < depth ? int(width) : depth);
#pragma unroll 1
    for (int64_t rest = width; rest > 0; rest -= depth) {
        __syncthreads();
        a_loader.keep(tiles);
        b_loader.keep(b_tile);
        __syncthreads();
        if (rest > depth) {
            a_loader.fetch(rest - depth < depth ? int(rest) - depth : depth);
            b_loader.fetch(rest - depth < depth ? int(rest) - depth : depth);
        }
#pragma unroll
        for (int k = 0; k < depth; k++) {
            const group<Work, 4> p = *reinterpret_cast<const group<Work, 4> *>(tiles + k * pitch + y);
            const group<Work, 4> q = *reinterpret_cast<const group<Work, 4> *>(b_tile + k * pitch + x);
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) s[i][j] = multiply_add(p.v[i], q.v[j], s[i][j]);
            }
        }
    }
}

/* A tile becomes the weights of `add_rows`. */
template <class Work> __device__ __forceinline__ void keep_weights(const Work (&s)[4][4], Work *weights) {
    const int y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < 4; j++) {
        group<Work, 4> column;
#pragma unroll
        for (int i = 0; i < 4; i++) column.v[i] = s[i][j];
        *reinterpret_cast<group<Work, 4> *>(weights + (x + j) * ATTENTION_PITCH + y) = column;
    }
}

/* sums += weights times 64 rows of x from the given one, of which this block has columns from `column`. */
template <class T, class Work, int columns>
__device__ __forceinline__ void add_rows(const Work *weights, const head_matrix<T> &x, int64_t first, int64_t rows,
                                         int64_t column, int64_t width, Work (&sums)[4][columns / 16], Work *tile) {
    constexpr int depth = ATTENTION_DEPTH;
    tile_loader<T, Work, columns, depth, 256, false, false> loader;
    const int64_t left = rows - first;
    const int available = left < 64 ? int(left) : 64;
    loader.start(x.data + first * x.row + column * x.column, width - column, x.column, x.row, 0, x.whole);
    loader.fetch(available);
    const int y = threadIdx.x / 16 * 4, across = threadIdx.x % 16 * 4;
#pragma unroll 1
    for (int done = 0; done < available; done += depth) {
        __syncthreads();
        loader.keep(tile);
        __syncthreads();
        if (done + depth < available) loader.fetch(available - done - depth);
#pragma unroll
        for (int k = 0; k < depth; k++) {
            const group<Work, 4> p =
                *reinterpret_cast<const group<Work, 4> *>(weights + (done + k) * ATTENTION_PITCH + y);
#pragma unroll
            for (int g = 0; g < columns / 64; g++) {
                const group<Work, 4> q =
                    *reinterpret_cast<const group<Work, 4> *>(tile + k * (columns + 4) + g * 64 + across);
#pragma unroll
                for (int i = 0; i < 4; i++) {
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        sums[i][g * 4 + j] = multiply_add(p.v[i], q.v[j], sums[i][g * 4 + j]);
                }
            }
        }
    }
}

/* A score from a product: scaled, masked; -inf where query and key do not meet. */
template <class T, class Work>
__device__ __forceinline__ Work score(const fx_attention_args &s, const head_matrix<uint8_t> &kept,
                                      const head_matrix<T> &added, int64_t query, int64_t key, Work product) {
    if (query >= s.length || key >= s.keys || (s.causal && key > query)) return -ieee<Work>::infinity;
    Work y = product * Work(s.scale);
    if (s.mask == FX_BOOL_MASK) return kept.data[query * kept.row + key * kept.column] ? y : -ieee<Work>::infinity;
    if (s.mask == FX_ADDED_MASK) {
        Work x;
        convert_to(&x, added.data[query * added.row + key * added.column]);
        y += x;
    }
    return y;
}

template <class T, class Work, int columns>
__device__ __forceinline__ void store_rows(const Work (&sums)[4][columns / 16], void *to, int64_t before, int64_t first,
                                           int64_t rows, int64_t column, int64_t width) {
    const int y = threadIdx.x / 16 * 4, across = threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (first + y + i >= rows) break;
        T *row = static_cast<T *>(to) + (before + first + y + i) * width + column;
#pragma unroll
        for (int j = 0; j < columns / 16; j++) {
            const int c = j / 4 * 64 + across + j % 4;
            if (column + c < width) convert_to(&row[c], sums[i][j]);
        }
    }
}

template <class T, int columns> __device__ __forceinline__ void attention_forward(const fx_attention_args &s) {
    using Work = typename computed<T>::type;
    FX_DYNAMIC_SHARED(attention_shared<Work>, shared);
    const int64_t head = s.first + blockIdx.y, column = int64_t(blockIdx.z) * columns;
    const int64_t first = int64_t(gridDim.x - 1 - blockIdx.x) * 64; /* the longest ones first where causal */
    const int y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
    const head_matrix<T> q(s, FX_Q, head), k(s, FX_K, head), v(s, FX_V, head), added(s, FX_MASK, head);
    const head_matrix<uint8_t> kept(s, FX_MASK, head);
    Work sums[4][columns / 16] = {}, top[4], total[4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) top[i] = -ieee<Work>::infinity;
    const int64_t end = s.causal && first + 64 < s.keys ? first + 64 : s.keys;
#pragma unroll 1
    for (int64_t key = 0; key < end; key += 64) {
        Work p[4][4];
        row_products(q, first, s.length, k, key, s.keys, s.width, p, shared->tiles);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            Work largest = top[i];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                p[i][j] = score(s, kept, added, first + y + i, key + x + j, p[i][j]);
                largest = p[i][j] > largest ? p[i][j] : largest; /* NaN is passed over here, and stays below */
            }
#pragma unroll
            for (int other = 8; other > 0; other /= 2) {
                const Work theirs = __shfl_xor_sync(0xffffffffu, largest, other);
                largest = theirs > largest ? theirs : largest;
            }
            const Work base = largest == -ieee<Work>::infinity ? Work(0) : largest;
            const Work factor = exponential(top[i] - base);
            top[i] = largest;
            total[i] *= factor;
#pragma unroll
            for (int j = 0; j < columns / 16; j++) sums[i][j] *= factor;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                p[i][j] = exponential(p[i][j] - base);
                total[i] += p[i][j];
            }
        }
        keep_weights(p, shared->weights);
        add_rows<T, Work, columns>(shared->weights, v, key, s.keys, column, s.v_width, sums, shared->tiles);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int other = 8; other > 0; other /= 2) total[i] += __shfl_xor_sync(0xffffffffu, total[i], other);
        const Work factor = total[i] != 0 ? 1 / total[i] : Work(0); /* NaN stays */
#pragma unroll
        for (int j = 0; j < columns / 16; j++) sums[i][j] *= factor;
        if (s.lse && blockIdx.z == 0 && x == 0 && first + y + i < s.length)
            static_cast<Work *>(s.lse)[head * s.length + first + y + i] = top[i] + logarithm(total[i]);
    }
    store_rows<T, Work, columns>(sums, s.out, head * s.length, first, s.length, column, s.v_width);
}

/* delta = the sum of g times out, for each query: a warp each. */
template <class T> __device__ __forceinline__ void attention_delta(const fx_attention_args &s) {
    using Work = typename computed<T>::type;
    const int64_t head = s.first + blockIdx.y, row = int64_t(blockIdx.x) * 8 + threadIdx.x / 32;
    if (row >= s.length) return;
    const head_matrix<T> g(s, FX_G, head);
    const T *out = static_cast<const T *>(s.out) + (head * s.length + row) * s.v_width;
    Work sum = 0;
    for (int64_t i = threadIdx.x % 32; i < s.v_width; i += 32) {
        Work a, b;
        convert_to(&a, g.data[row * g.row + i * g.column]);
        convert_to(&b, out[i]);
        sum = multiply_add(a, b, sum);
    }
#pragma unroll
    for (int other = 16; other > 0; other /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
    if (threadIdx.x % 32 == 0) static_cast<Work *>(s.delta)[head * s.length + row] = sum;
}

/* Probabilities and the gradient of the scores from a tile of products and one of g v^T; lse and delta by query. */
template <class Work> struct query_sums {
    Work lse, delta;
    __device__ __forceinline__ query_sums(const fx_attention_args &s, int64_t head, int64_t query) : lse(0), delta(0) {
        if (query >= s.length) return;
        lse = static_cast<const Work *>(s.lse)[head * s.length + query];
        delta = static_cast<const Work *>(s.delta)[head * s.length + query];
        if (lse == -ieee<Work>::infinity) lse = 0; /* sees no key */
    }
};

template <class T, int columns> __device__ __forceinline__ void attention_queries(const fx_attention_args &s) {
    using Work = typename computed<T>::type;
    FX_DYNAMIC_SHARED(attention_shared<Work>, shared);
    const int64_t head = s.first + blockIdx.y, column = int64_t(blockIdx.z) * columns;
    const int64_t first = int64_t(gridDim.x - 1 - blockIdx.x) * 64;
    const int y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
    const head_matrix<T> q(s, FX_Q, head), k(s, FX_K, head), v(s, FX_V, head), g(s, FX_G, head),
        added(s, FX_MASK, head);
    const head_matrix<uint8_t> kept(s, FX_MASK, head);
    Work dq[4][columns / 16] = {};
    const int64_t end = s.causal && first + 64 < s.keys ? first + 64 : s.keys;
#pragma unroll 1
    for (int64_t key = 0; key < end; key += 64) {
        Work p[4][4], dp[4][4];
        row_products(q, first, s.length, k, key, s.keys, s.width, p, shared->tiles);
        row_products(g, first, s.length, v, key, s.keys, s.v_width, dp, shared->tiles);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const query_sums<Work> of(s, head, first + y + i);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const Work w =
                    exponential(score(s, kept, added, first + y + i, key + x + j, p[i][j]) - of.lse);
                dp[i][j] = w * (dp[i][j] - of.delta) * Work(s.scale);
            }
        }
        keep_weights(dp, shared->weights);
        add_rows<T, Work, columns>(shared->weights, k, key, s.keys, column, s.width, dq, shared->tiles);
    }
    store_rows<T, Work, columns>(dq, s.dq, head * s.length, first, s.length, column, s.width);
}

template <class T, int columns> __device__ __forceinline__ void attention_keys(const fx_attention_args &s) {
    using Work = typename computed<T>::type;
    FX_DYNAMIC_SHARED(attention_shared<Work>, shared);
    const int64_t head = s.first + blockIdx.y, column = int64_t(blockIdx.z) * columns;
    const int64_t first = int64_t(blockIdx.x) * 64;
    const int y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
    const head_matrix<T> q(s, FX_Q, head), k(s, FX_K, head), v(s, FX_V, head), g(s, FX_G, head),
        added(s, FX_MASK, head);
    const head_matrix<uint8_t> kept(s, FX_MASK, head);
    Work dk[4][columns / 16] = {}, dv[4][columns / 16] = {};
#pragma unroll 1
    for (int64_t query = s.causal ? first : 0; query < s.length; query += 64) {
        Work p[4][4], dp[4][4]; /* rows are keys here */
        row_products(k, first, s.keys, q, query, s.length, s.width, p, shared->tiles);
        row_products(v, first, s.keys, g, query, s.length, s.v_width, dp, shared->tiles);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const query_sums<Work> of(s, head, query + x + j);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p[i][j] = exponential(score(s, kept, added, query + x + j, first + y + i, p[i][j]) - of.lse);
                dp[i][j] = p[i][j] * (dp[i][j] - of.delta) * Work(s.scale);
            }
        }
        if (s.dv && column < s.v_width) {
            keep_weights(p, shared->weights);
            add_rows<T, Work, columns>(shared->weights, g, query, s.length, column, s.v_width, dv, shared->tiles);
        }
        if (s.dk && column < s.width) {
            keep_weights(dp, shared->weights);
            add_rows<T, Work, columns>(shared->weights, q, query, s.length, column, s.width, dk, shared->tiles);
        }
    }
    if (s.dv) store_rows<T, Work, columns>(dv, s.dv, head * s.keys, first, s.keys, column, s.v_width);
    if (s.dk) store_rows<T, Work, columns>(dk, s.dk, head * s.keys, first, s.keys, column, s.width);
}

} // namespace fx

#define FX_ATTENTION_KERNEL(name, blocks, ...)                                                                        \
    extern "C" __global__ void __launch_bounds__(256, blocks) name(const __grid_constant__ fx_attention_args s) { \
        fx::__VA_ARGS__(s);                                                                                           \
    }                                                                                                                 \
    FX_EXPORT(name)
#define FX_ATTENTION(suffix, type, columns, blocks)                                                       \
    FX_ATTENTION_KERNEL(attention_##suffix##_##columns, blocks, attention_forward<type, columns>)         \
    FX_ATTENTION_KERNEL(attention_queries_##suffix##_##columns, blocks, attention_queries<type, columns>) \
    FX_ATTENTION_KERNEL(attention_keys_##suffix##_##columns, blocks, attention_keys<type, columns>)
#endif
