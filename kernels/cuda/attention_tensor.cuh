/* Scaled dot-product attention on tensor cores (Dao, FlashAttention-2, 2023): float16 and bfloat16, float32 by way of
 * tf32; sums and exponentials in float32.
 *
 * A block of four warps has tiles of rows in shared memory, the operands of its products on the left, and goes over
 * tiles of columns, which come through two buffers by asynchronous copies of 16 bytes: the next ones travel while the
 * present ones are multiplied.  Every warp has 16 or 32 rows of its own, so that maxima and sums of a row are
 * exchanged among four lanes only, and probabilities go from the sums of one product to the left operand of the next
 * within the lane.  The gradient makes the probabilities anew, once for blocks of queries and once for blocks of keys:
 * every sum has one owner and one order.
 *
 * A tile lies as rows of D elements, D the width of a head rounded up to 64 or 128 and filled with zeros, in chunks of
 * 16 bytes that are exchanged within a row, so that the same chunk of eight rows meets all the banks.
 */
#ifndef FX_ATTENTION_TENSOR_CUH
#define FX_ATTENTION_TENSOR_CUH
#include "attention.cuh"
#include "mma.cuh"

namespace fx {

enum { ATTENTION_THREADS = 128 };

template <class T, int D> struct head_tile {
    static constexpr int width = 16 / int(sizeof(T)), chunks = D / width, pitch = D * int(sizeof(T));
    static constexpr int steps = pitch / 32; /* of a product along D */
    static __device__ __forceinline__ int place(int row, int chunk) { return row * pitch + (chunk ^ row % 8) * 16; }
    template <int rows>
    static __device__ __forceinline__ void copy(unsigned char *to, const head_matrix<T> &x, int64_t first, int64_t end,
                                                int64_t columns) {
        constexpr int step = ATTENTION_THREADS / chunks;
        static_assert(rows % step == 0, "every thread copies as much");
        const int row = threadIdx.x / chunks, chunk = threadIdx.x % chunks;
        const int left = chunk * width < columns ? int(end - first < rows ? end - first : rows) : 0;
        const T *from = x.data + (first + row) * x.row + chunk * width;
#pragma unroll
        for (int i = 0; i < rows; i += step) {
            copy_async(to + place(row + i, chunk), row + i < left ? from : x.data, row + i < left);
            from += step * x.row;
        }
    }
    static __device__ __forceinline__ void round(uint32_t (&r)[4]) {
        if constexpr (sizeof(T) == 4) {
#pragma unroll
            for (int i = 0; i < 4; i++) r[i] = to_tf32(r[i]);
        }
    }
    /* Left operand: 16 rows by 32 bytes. */
    static __device__ __forceinline__ void load_left(uint32_t (&r)[4], const unsigned char *tile, int row, int step) {
        const int lane = threadIdx.x % 32;
        load_matrices(r, tile + place(row + lane % 16, step * 2 + lane / 16));
        round(r);
    }
    /* Right operand, the tile's transpose: two times 8 of its rows by 32 bytes. */
    static __device__ __forceinline__ void load_across(uint32_t (&r)[4], const unsigned char *tile, int row, int step) {
        const int lane = threadIdx.x % 32;
        load_matrices(r, tile + place(row + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
        round(r);
    }
    /* Right operand: as many rows as fill 32 bytes by two times 8 columns.  Rows of float32 go in the order that
     * `left_of` takes the columns of weights in. */
    static __device__ __forceinline__ void load_down(uint32_t (&r)[4], const unsigned char *tile, int step,
                                                     int column) {
        const int lane = threadIdx.x % 32;
        if constexpr (sizeof(T) == 2) {
            load_matrices_transposed(
                r, tile + place(step * 16 + lane / 8 % 2 * 8 + lane % 8, column / 8 + lane / 16));
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int c = column + i / 2 * 8 + lane / 4;
                r[i] = *reinterpret_cast<const uint32_t *>(tile + place(step * 8 + lane % 4 * 2 + i % 2, c / 4) +
                                                           c % 4 * 4);
            }
            round(r);
        }
    }
};

/* A left operand from sums of a product: columns of 32 bytes. */
template <class T, int n>
__device__ __forceinline__ void left_of(uint32_t (&r)[4], const float (&w)[n][4], int step) {
    if constexpr (sizeof(T) == 2) {
#pragma unroll
        for (int i = 0; i < 4; i++) r[i] = pack(T{}, w[step * 2 + i / 2][i % 2 * 2], w[step * 2 + i / 2][i % 2 * 2 + 1]);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) r[i] = to_tf32(bit_cast<uint32_t>(w[step][i % 2 * 2 + i / 2]));
    }
}

/* A warp's rows of a tile as left operands: in registers where they are few, otherwise read again at every use. */
template <class T, int D, int height, bool kept> struct left_rows {
    using Tile = head_tile<T, D>;
    const unsigned char *tile;
    int row;
    uint32_t r[kept ? Tile::steps : 1][height][4];
    __device__ __forceinline__ left_rows(const unsigned char *from, int first) : tile(from), row(first) {}
    __device__ __forceinline__ void load(int place, int step) {
#pragma unroll
        for (int h = 0; h < height; h++) Tile::load_left(r[place][h], tile, row + h * 16, step);
    }
    /* Once the tile has arrived. */
    __device__ __forceinline__ void start() {
        if constexpr (kept) {
#pragma unroll
            for (int i = 0; i < Tile::steps; i++) load(i, i);
        }
    }
    /* sums = rows times the transpose of N rows of a tile. */
    template <int N>
    __device__ __forceinline__ void times(const unsigned char *other, float (&sums)[height][N / 8][4]) {
#pragma unroll
        for (int i = 0; i < height * N / 2; i++) sums[i / (N / 2)][i / 4 % (N / 8)][i % 4] = 0;
#pragma unroll
        for (int step = 0; step < Tile::steps; step++) {
            if constexpr (!kept) load(0, step);
#pragma unroll
            for (int j = 0; j < N / 16; j++) {
                uint32_t y[4];
                Tile::load_across(y, other, j * 16, step);
#pragma unroll
                for (int h = 0; h < height; h++) {
                    multiply_matrices(T{}, sums[h][j * 2], r[kept ? step : 0][h], y[0], y[1]);
                    multiply_matrices(T{}, sums[h][j * 2 + 1], r[kept ? step : 0][h], y[2], y[3]);
                }
            }
        }
    }
};

/* sums += weights times N rows of a tile. */
template <class T, int D, int height, int N>
__device__ __forceinline__ void add_weighted(const float (&w)[height][N / 8][4], const unsigned char *tile,
                                             float (&sums)[height][D / 8][4]) {
#pragma unroll
    for (int step = 0; step < N * int(sizeof(T)) / 32; step++) {
        uint32_t x[height][4];
#pragma unroll
        for (int h = 0; h < height; h++) left_of<T>(x[h], w[h], step);
#pragma unroll
        for (int j = 0; j < D / 16; j++) {
            uint32_t y[4];
            head_tile<T, D>::load_down(y, tile, step, j * 16);
#pragma unroll
            for (int h = 0; h < height; h++) {
                multiply_matrices(T{}, sums[h][j * 2], x[h], y[0], y[1]);
                multiply_matrices(T{}, sums[h][j * 2 + 1], x[h], y[2], y[3]);
            }
        }
    }
}

/* A warp's rows of a result, by way of a tile whose rows nobody else reads, so that they are written 16 bytes at a time.
 */
template <class T, int D, int height>
__device__ __forceinline__ void store_tile(const float (&sums)[height][D / 8][4], const float (&factor)[height][2],
                                           unsigned char *tile, int row, void *to, int64_t before, int64_t first,
                                           int64_t rows, int64_t width) {
    using Tile = head_tile<T, D>;
    const int lane = threadIdx.x % 32;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < height * D / 4; i++) {
        const int h = i / (D / 4), j = i / 2 % (D / 8), half = i % 2, column = j * 8 + lane % 4 * 2;
        group<T, 2> two;
        convert_to(&two.v[0], sums[h][j][half * 2] * factor[h][half]);
        convert_to(&two.v[1], sums[h][j][half * 2 + 1] * factor[h][half]);
        *reinterpret_cast<group<T, 2> *>(tile +
                                         Tile::place(row + h * 16 + half * 8 + lane / 4, column / Tile::width) +
                                         column % Tile::width * int(sizeof(T))) = two;
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < height * 16 * Tile::chunks / 32; i++) {
        const int p = i * 32 + lane, r = row + p / Tile::chunks, chunk = p % Tile::chunks;
        if (first + r < rows && chunk * Tile::width < width)
            *reinterpret_cast<group<T, Tile::width> *>(static_cast<T *>(to) + (before + first + r) * width +
                                                       chunk * Tile::width) =
                *reinterpret_cast<const group<T, Tile::width> *>(tile + Tile::place(r, chunk));
    }
}

/* Exponents of two from products: y = score * `factor`; scaled products are left as they are where no mask is added,
 * which takes a multiplication less. */
template <class T> struct scores {
    const fx_attention_args &s;
    const head_matrix<T> added;
    const head_matrix<uint8_t> kept;
    float scale, factor;
    __device__ __forceinline__ scores(const fx_attention_args &args, int64_t head)
        : s(args), added(args, FX_MASK, head), kept(args, FX_MASK, head), scale(float(s.scale * 1.4426950408889634)) {
        factor = s.mask == FX_ADDED_MASK || !(scale > 0) ? 1.0f : scale;
    }
    /* Of a tile; rows are queries, or keys.  Away from the edges there is nothing to do. */
    template <bool by_keys, int height, int n>
    __device__ __forceinline__ void apply(float (&w)[height][n][4], int64_t row, int64_t column) const {
        const int lane = threadIdx.x % 32, here = lane / 4, across = lane % 4 * 2;
        constexpr int rows = height * 16, columns = n * 8;
        const int64_t query = by_keys ? column : row, key = by_keys ? row : column;
        constexpr int queries = by_keys ? columns : rows, keys = by_keys ? rows : columns;
        if (s.mask == FX_BOOL_MASK) {
            const int64_t down = by_keys ? kept.column : kept.row, over = by_keys ? kept.row : kept.column;
            each<by_keys>(w, row, column, kept.data + (row + here) * down + (column + across) * over, down, over,
                          [](float x, uint8_t keep) { return keep ? x : -ieee<float>::infinity; });
        } else if (s.mask == FX_ADDED_MASK) {
            const int64_t down = by_keys ? added.column : added.row, over = by_keys ? added.row : added.column;
            each<by_keys>(w, row, column, added.data + (row + here) * down + (column + across) * over, down, over,
                          [this](float x, T more) {
                              float y;
                              convert_to(&y, more);
                              return multiply_add(y, 1.4426950408889634f, x * scale);
                          });
        } else if (factor != scale) {
#pragma unroll
            for (int i = 0; i < height * n * 4; i++) w[i / (n * 4)][i / 4 % n][i % 4] *= scale;
        }
        const int64_t keys_left = s.keys - key, ahead = s.causal ? key - query : -keys;
        const int64_t queries_left = by_keys ? s.length - query : queries;
        if (keys_left >= keys && queries_left >= queries && ahead <= 1 - keys) return;
        /* Keys beyond the last are masked, and where sums run over queries those too: 0 times an infinite key is NaN. */
        const int last = int(queries_left < queries ? queries_left : queries);
        const int most = int(keys_left < keys ? keys_left : keys);
        const int least = int(ahead > -keys ? (ahead < queries ? ahead : queries) : -keys);
#pragma unroll
        for (int i = 0; i < height * n * 4; i++) {
            const int e = i % 4, r = i / (n * 4) * 16 + e / 2 * 8 + here, c = i / 4 % n * 8 + across + e % 2;
            const int q = by_keys ? c : r, k = by_keys ? r : c;
            if (k >= most || q >= last || (s.causal && k + least > q)) w[i / (n * 4)][i / 4 % n][e] = -ieee<float>::infinity;
        }
    }

  private:
    /* change(value, mask) where there is a mask, from that of this lane's first element on. */
    template <bool by_keys, int height, int n, class M, class Change>
    __device__ __forceinline__ void each(float (&w)[height][n][4], int64_t row, int64_t column, const M *mask,
                                         int64_t down, int64_t over, const Change &change) const {
        const int64_t rows = by_keys ? s.keys - row : s.length - row,
                      columns = by_keys ? s.length - column : s.keys - column;
        const int lane = threadIdx.x % 32, rows_left = int(rows < 128 ? rows : 128) - lane / 4,
                  columns_left = int(columns < 128 ? columns : 128) - lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < height * 2; i++) {
            const M *at = mask + i * 8 * down;
            if (i * 8 >= rows_left) break;
#pragma unroll
            for (int j = 0; j < n; j++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    if (j * 8 + e < columns_left) {
                        float &x = w[i / 2][j][i % 2 * 2 + e];
                        x = change(x, at[e * over]);
                    }
                }
                at += 8 * over;
            }
        }
    }
};

template <class T, int D, int height, int N>
__device__ __forceinline__ void tensor_attention(const fx_attention_args &s) {
    using Tile = head_tile<T, D>;
    constexpr int rows = 64 * height, q_bytes = rows * Tile::pitch, bytes = N * Tile::pitch;
    FX_DYNAMIC_SHARED(unsigned char, shared);
    const int64_t head = s.first + blockIdx.y;
    const int64_t first = int64_t(gridDim.x - 1 - blockIdx.x) * rows; /* the longest ones first where causal */
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 * height;
    const head_matrix<T> q(s, FX_Q, head), k(s, FX_K, head), v(s, FX_V, head);
    const scores<T> score(s, head);
    const int64_t end = s.causal && first + rows < s.keys ? first + rows : s.keys;
    float sums[height][D / 8][4] = {}, top[height][2], total[height][2] = {};
#pragma unroll
    for (int i = 0; i < height * 2; i++) top[i / 2][i % 2] = -ieee<float>::infinity;
    unsigned char *buffer = shared + q_bytes;
    auto copy = [&](int64_t key) {
        if (key < end) {
            unsigned char *to = buffer + key / N % 2 * 2 * bytes;
            Tile::template copy<N>(to, k, key, s.keys, s.width);
            Tile::template copy<N>(to + bytes, v, key, s.keys, s.v_width);
        }
        copies_commit();
    };
    left_rows<T, D, height, D * height * int(sizeof(T)) <= 256> left(shared, row);
    Tile::template copy<rows>(shared, q, first, s.length, s.width);
    copy(0);
#pragma unroll 1
    for (int64_t key = 0; key < end; key += N) {
        copies_wait<0>();
        __syncthreads(); /* everybody's copies have arrived, and nobody reads the buffer that is filled next */
        copy(key + N);
        if (key == 0) left.start();
        const unsigned char *k_tile = buffer + key / N % 2 * 2 * bytes;
        float p[height][N / 8][4];
        left.template times<N>(k_tile, p);
        score.template apply<false>(p, first + row, key);
#pragma unroll
        for (int i = 0; i < height * 2; i++) {
            const int h = i / 2, half = i % 2;
            float largest = -ieee<float>::infinity;
#pragma unroll
            for (int j = 0; j < N / 4; j++)
                largest = ::fmaxf(largest, p[h][j / 2][half * 2 + j % 2]); /* NaN is passed over, and stays below */
            largest = ::fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
            largest = ::fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
            largest = ::fmaxf(largest * score.factor, top[h][half]);
            const float base = largest == -ieee<float>::infinity ? 0.0f : largest;
            const float factor = power_of_2(top[h][half] - base);
            top[h][half] = largest;
            float sum = 0;
#pragma unroll
            for (int j = 0; j < N / 4; j++) {
                float &x = p[h][j / 2][half * 2 + j % 2];
                x = power_of_2(multiply_add(x, score.factor, -base));
                sum += x;
            }
            total[h][half] = multiply_add(total[h][half], factor, sum);
            if (__any_sync(0xffffffffu, factor != 1)) {
#pragma unroll
                for (int j = 0; j < D / 4; j++) sums[h][j / 2][half * 2 + j % 2] *= factor;
            }
        }
        add_weighted<T, D, height, N>(p, k_tile + bytes, sums);
    }
    copies_wait<0>();
    if (end <= 0) __syncthreads(); /* what others copied to this warp's rows has arrived too */
#pragma unroll
    for (int i = 0; i < height * 2; i++) {
        const int h = i / 2, half = i % 2;
        float sum = total[h][half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        total[h][half] = sum != 0 ? 1 / sum : 0.0f; /* NaN stays */
        const int64_t query = first + row + h * 16 + half * 8 + lane / 4;
        if (s.lse && lane % 4 == 0 && query < s.length)
            static_cast<float *>(s.lse)[head * s.length + query] =
                float((double(top[h][half]) + double(::log2f(sum))) * 0.6931471805599453);
    }
    store_tile<T, D, height>(sums, total, shared, row, s.out, head * s.length, first, s.length, s.v_width);
}

/* dq for 64 queries, over tiles of keys; or dk and dv for 64 keys, over tiles of queries. */
template <class T, int D, int N, bool by_keys>
__device__ __forceinline__ void tensor_gradient(const fx_attention_args &s) {
    using Tile = head_tile<T, D>;
    constexpr int rows = 64, left_bytes = rows * Tile::pitch, bytes = N * Tile::pitch;
    FX_DYNAMIC_SHARED(unsigned char, shared);
    const int64_t head = s.first + blockIdx.y;
    const int64_t first = int64_t(by_keys ? blockIdx.x : gridDim.x - 1 - blockIdx.x) * rows;
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16;
    /* scores = a b^T; slopes = c d^T less delta, times the probabilities */
    const head_matrix<T> a(s, by_keys ? FX_K : FX_Q, head), b(s, by_keys ? FX_Q : FX_K, head);
    const head_matrix<T> c(s, by_keys ? FX_V : FX_G, head), d(s, by_keys ? FX_G : FX_V, head);
    const scores<T> score(s, head);
    const int64_t length = by_keys ? s.keys : s.length, across = by_keys ? s.length : s.keys;
    const int64_t end = !by_keys && s.causal && first + rows < across ? first + rows : across;
    const int64_t begin = by_keys && s.causal ? first / N * N : 0;
    float near[1][D / 8][4] = {}, far[1][by_keys ? D / 8 : 1][4] = {}; /* of a and of c */
    unsigned char *buffer = shared + 2 * left_bytes;
    auto copy = [&](int64_t column) {
        if (column < end) {
            unsigned char *to = buffer + column / N % 2 * 2 * bytes;
            Tile::template copy<N>(to, b, column, across, s.width);
            Tile::template copy<N>(to + bytes, d, column, across, s.v_width);
        }
        copies_commit();
    };
    constexpr bool kept = D * int(sizeof(T)) <= 128;
    left_rows<T, D, 1, kept> for_scores(shared, row), for_slopes(shared + left_bytes, row);
    Tile::template copy<rows>(shared, a, first, length, s.width);
    Tile::template copy<rows>(shared + left_bytes, c, first, length, s.v_width);
    copy(begin);
    float lse[2] = {}, delta[2] = {}; /* of this lane's rows, or of two columns */
    auto load_sums = [&](int64_t query, int i) {
        const query_sums<float> of(s, head, query);
        lse[i] = of.lse * 1.4426950408889634f;
        delta[i] = of.delta;
    };
    if constexpr (!by_keys) {
        load_sums(first + row + lane / 4, 0);
        load_sums(first + row + lane / 4 + 8, 1);
    }
#pragma unroll 1
    for (int64_t column = begin; column < end; column += N) {
        copies_wait<0>();
        __syncthreads();
        copy(column + N);
        if (column == begin) {
            for_scores.start();
            for_slopes.start();
        }
        const unsigned char *tile = buffer + column / N % 2 * 2 * bytes;
        float p[1][N / 8][4], slope[1][N / 8][4];
        for_scores.template times<N>(tile, p);
        for_slopes.template times<N>(tile + bytes, slope);
        score.template apply<by_keys>(p, first + row, column);
#pragma unroll
        for (int j = 0; j < N / 8; j++) {
            if constexpr (by_keys) {
                load_sums(column + j * 8 + lane % 4 * 2, 0);
                load_sums(column + j * 8 + lane % 4 * 2 + 1, 1);
            }
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int i = by_keys ? e % 2 : e / 2;
                p[0][j][e] = power_of_2(multiply_add(p[0][j][e], score.factor, -lse[i]));
                slope[0][j][e] = p[0][j][e] * (slope[0][j][e] - delta[i]);
            }
        }
        if constexpr (by_keys) add_weighted<T, D, 1, N>(p, tile + bytes, far);
        add_weighted<T, D, 1, N>(slope, tile, near);
    }
    copies_wait<0>();
    if (begin >= end) __syncthreads(); /* what others copied to this warp's rows has arrived too */
    const float scale[1][2] = {{float(s.scale), float(s.scale)}}, one[1][2] = {{1, 1}};
    void *to = by_keys ? s.dk : s.dq;
    if (to) store_tile<T, D, 1>(near, scale, shared, row, to, head * length, first, length, s.width);
    if constexpr (by_keys) {
        if (s.dv)
            store_tile<T, D, 1>(far, one, shared + left_bytes, row, s.dv, head * length, first, length, s.v_width);
    }
}

} // namespace fx

#define FX_TENSOR_ATTENTION(name, ...)                               \
    extern "C" __global__ void __launch_bounds__(fx::ATTENTION_THREADS, 2) \
        name(const __grid_constant__ fx_attention_args s) {          \
        fx::__VA_ARGS__(s);                                          \
    }                                                                \
    FX_EXPORT(name)
#endif
