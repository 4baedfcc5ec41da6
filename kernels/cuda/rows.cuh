/* What kernels along rows share: dtypes of storage and of arithmetic, packs of elements, stores by dtype. */
#ifndef FX_ROWS_CUH
#define FX_ROWS_CUH
#include "block.cuh"
#include "fx/abi.h"
#include "fx/half.h"
#include "fx/rows_args.h"
#include "fx/scalar.h"

#define FX_THREADS 256

namespace fx {

/* Integers are computed in int64, float16 and bfloat16 in float. */
template <class S> using computed = sum_of<S>;
template <class T> constexpr bool is_floating = dtype<T>::floating;
/* Where sums are kept: double or int64. */
template <class T> struct summed {
    using type = double;
};
template <> struct summed<int64_t> {
    using type = int64_t;
};
template <class T> using total = typename summed<T>::type;

template <class T, class S> __device__ __forceinline__ T to(S x) {
    T y;
    convert_to(&y, x);
    return y;
}

/* n elements moved together, by accesses of at most 16 bytes. */
template <class S, int n> struct alignas(sizeof(S) * n < 16 ? sizeof(S) * n : 16) elements {
    S v[n];
};
template <class S, int n> __device__ __forceinline__ bool is_aligned(const S *p) {
    return reinterpret_cast<uintptr_t>(p) % alignof(elements<S, n>) == 0;
}

/* Rare, so that a kernel holds one copy of the switch. */
template <class V> __device__ __noinline__ void store_by(void *data, int64_t at, int dtype, V value) {
    switch (dtype) {
#define FX_CASE(code, suffix, name, type, ...) \
    case FX_##code: convert_to(static_cast<type *>(data) + at, value); break;
        FX_EACH_DTYPE(FX_CASE)
#undef FX_CASE
    }
}
template <class V> __device__ __noinline__ V load_by_dtype(const void *data, int64_t at, int dtype) {
    V value{};
    switch (dtype) {
#define FX_CASE(code, suffix, name, type, ...) \
    case FX_##code: convert_to(&value, static_cast<const type *>(data)[at]); break;
        FX_EACH_FLOATING(FX_CASE)
#undef FX_CASE
    }
    return value;
}

/* Four packs of four from place `first` on, `step` apart, of a row of n, `nothing` beyond it; returns how many there
 * are.  The places do not depend on the alignment. */
template <class S, class T>
__device__ __forceinline__ int load_block(T (&x)[16], const S *p, int64_t first, int64_t step, int64_t n, bool aligned,
                                          T nothing = T(0)) {
    if (aligned && first + 3 * step + 4 <= n) {
        elements<S, 4> pack[4];
#pragma unroll
        for (int u = 0; u < 4; u++) pack[u] = *reinterpret_cast<const elements<S, 4> *>(p + first + u * step);
#pragma unroll
        for (int j = 0; j < 16; j++) x[j] = to<T>(pack[j / 4].v[j % 4]);
        return 16;
    }
    int m = 0;
#pragma unroll
    for (int u = 0; u < 4; u++) {
        const int64_t i = first + u * step;
        if (aligned && i + 4 <= n) {
            const elements<S, 4> pack = *reinterpret_cast<const elements<S, 4> *>(p + i);
#pragma unroll
            for (int j = 0; j < 4; j++) x[4 * u + j] = to<T>(pack.v[j]);
            m += 4;
            continue;
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            x[4 * u + j] = nothing;
            if (i + j < n) {
                x[4 * u + j] = to<T>(p[i + j]);
                m++;
            }
        }
    }
    return m;
}
template <class S, class T>
__device__ __forceinline__ void store_block(const T (&y)[16], S *p, int64_t first, int64_t step, int64_t n,
                                            bool aligned) {
#pragma unroll
    for (int u = 0; u < 4; u++) {
        const int64_t i = first + u * step;
        if (aligned && i + 4 <= n) {
            elements<S, 4> pack;
#pragma unroll
            for (int j = 0; j < 4; j++) pack.v[j] = to<S>(y[4 * u + j]);
            *reinterpret_cast<elements<S, 4> *>(p + i) = pack;
            continue;
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (i + j < n) p[i + j] = to<S>(y[4 * u + j]);
    }
}

/* The sum of a power of two of values, pairwise.  (A loop over the levels would not be unrolled, and the values kept in
 * memory.) */
template <int N, class A> __device__ __forceinline__ A tree_sum(const A (&v)[N]) {
    if constexpr (N == 1) {
        return v[0];
    } else {
        A half[N / 2];
#pragma unroll
        for (int j = 0; j < N / 2; j++) half[j] = v[j] + v[j + N / 2];
        return tree_sum(half);
    }
}

/* Over the `group` threads of a row; every one of them gets the result. */
template <class T, class F> __device__ __forceinline__ T row_reduce(T x, F f, int group, T *slots) {
    return group <= 32 ? group_reduce(x, f, group) : block_reduce(x, f, slots);
}

/* Rows dealt out to groups of threads: each(row) is called by whole warps, with a row >= rows for threads without
 * one. */
template <class Each> __device__ __forceinline__ void each_row(int64_t rows, int group, const Each &each) {
    const int per_block = FX_THREADS / group;
    for (int64_t base = int64_t(blockIdx.x) * per_block; base < rows; base += int64_t(gridDim.x) * per_block)
        each(base + threadIdx.x / group);
}

/* Long rows, or pieces of them (fx_pieces), a block to each: gather(state, row, first, end) takes in what this thread has
 * of [first, end), every 4 * FX_THREADS-th pack of four, merge joins states, spread(state, row, first, end) gets that of
 * the row.  first is a multiple of four. */
template <class State, class Merge, class Gather, class Spread>
__device__ __forceinline__ void each_long_row(int64_t rows, int64_t n, const fx_pieces &by, State start, State *shared,
                                              const Merge &merge, const Gather &gather, const Spread &spread) {
    State *partial = static_cast<State *>(by.partial);
    for (int64_t task = blockIdx.x; task < rows * by.count; task += gridDim.x) {
        const int64_t row = task / by.count, begin = (task - row * by.count) * by.size;
        const int64_t first = begin + 4 * threadIdx.x, end = n - begin < by.size ? n : begin + by.size;
        State s = start;
        if (!by.merging)
            gather(s, row, first, end);
        else if (threadIdx.x < by.count)
            s = partial[row * by.count + threadIdx.x];
        s = block_reduce(s, merge, shared);
        if (by.count > 1 && !by.merging) {
            if (threadIdx.x == 0) partial[task] = s;
        } else {
            spread(s, row, first, end);
        }
    }
}

/* Columns of [outer, n, inner] in chunks along n: `wide` neighbours side by side, the other threads share what lies
 * along n.  part(state, place, r, column) takes in an element, merge joins the states of two threads of a column, and
 * done(state, share) is called by each of them at the end. */
struct column_share {
    int64_t piece, column, base; /* piece: slice * chunks + chunk; base: the place of r = 0 */
    int64_t first, last, step;   /* along n, for this thread; the first thread of a column has leads */
    bool leads;
};
template <class State, class Part, class Merge, class Done>
__device__ __forceinline__ void each_column(int64_t outer, int64_t n, int64_t inner, int64_t chunk, int wide,
                                            State start, State *shared, const Part &part, const Merge &merge,
                                            const Done &done) {
    const int high = FX_THREADS / wide, x = threadIdx.x & (wide - 1), y = threadIdx.x / wide;
    const int64_t strips = (inner + wide - 1) / wide, chunks = n > chunk ? (n + chunk - 1) / chunk : 1;
    for (int64_t task = blockIdx.x; task < outer * chunks * strips; task += gridDim.x) {
        column_share c;
        c.piece = task / strips;
        const int64_t slice = c.piece / chunks, begin = (c.piece - slice * chunks) * chunk;
        c.column = (task - c.piece * strips) * wide + x;
        c.base = slice * n * inner + c.column;
        c.first = begin + y;
        c.last = n - begin < chunk ? n : begin + chunk;
        c.step = high;
        c.leads = y == 0;
        State s = start;
        if (c.column < inner) {
#pragma unroll 4
            for (int64_t r = c.first; r < c.last; r += high) part(s, c.base + r * inner, r, c.column);
        }
        __syncthreads(); /* what the round before left has been read */
        shared[threadIdx.x] = s;
        for (int half = high / 2; half; half /= 2) {
            __syncthreads();
            if (y < half) shared[threadIdx.x] = merge(shared[threadIdx.x], shared[threadIdx.x + half * wide]);
        }
        __syncthreads();
        s = shared[x];
        if (c.column < inner) done(s, c);
    }
}

/* Largest element, and the sum of exp(x - shift(top)): an infinity or NaN is not subtracted. */
template <class T> struct exponentials {
    T top;
    double sum;
};
template <> struct exponentials<float> {
    float top;
    int32_t unused;
    double sum;
};
template <class T> __device__ __forceinline__ T shift(T top) { return top - top == T(0) ? top : T(0); }

struct log_sum {
    template <class T> using state = exponentials<T>;
    template <class T> static __device__ __forceinline__ exponentials<T> start() {
        exponentials<T> s{};
        s.top = -ieee<T>::infinity;
        return s;
    }
    template <class T>
    static __device__ __forceinline__ exponentials<T> merge(exponentials<T> x, const exponentials<T> &y) {
        const T top = greater_value()(x.top, y.top);
        double left = 0, right = 0;
        if (x.sum != 0) left = x.sum * fx::exp(double(shift(x.top)) - double(shift(top)));
        if (y.sum != 0) right = y.sum * fx::exp(double(shift(y.top)) - double(shift(top)));
        x.top = top;
        x.sum = left + right;
        return x;
    }
    template <class T> __device__ __forceinline__ T operator()(const T &x, const T &y) const { return merge(x, y); }
    /* The first m of N items. */
    template <int N, class T>
    static __device__ __forceinline__ void add(exponentials<T> &s, const T (&x)[N], int m) {
        T top = s.top;
#pragma unroll
        for (int j = 0; j < N; j++)
            if (j < m) top = x[j] > top || x[j] != x[j] ? x[j] : top;
        const T by = shift(top), was = shift(s.top);
        if (was != by && s.sum != 0) s.sum *= fx::exp(double(was) - double(by));
        T v[N];
#pragma unroll
        for (int j = 0; j < N; j++) v[j] = j < m ? fx::exp(x[j] - by) : T(0);
        s.top = top;
        s.sum += double(tree_sum(v));
    }
};

/* Mean and sum of squared deviations (Chan, Golub and LeVeque 1983), in double. */
struct moments {
    double mean, squares, count;
};
struct join_moments {
    __device__ __forceinline__ moments operator()(const moments &x, const moments &y) const {
        if (y.count == 0) return x;
        if (x.count == 0) return y;
        const double delta = y.mean - x.mean, count = x.count + y.count, share = y.count / count;
        /* Of an infinite difference it is the sum that is right, as of the elements themselves. */
        return {delta - delta == 0 ? x.mean + delta * share : x.mean + y.mean, x.squares + (y.squares + delta * delta * x.count * share), count};
    }
};
/* The first m of N items. */
template <int N, class T> __device__ __forceinline__ void add_moments(moments &s, const T (&x)[N], int m) {
    if (m == 0) return;
    const double inverse = m == N ? 1.0 / N : 1.0 / m;
    double mean = 0, squares = 0, rest = 0;
#pragma unroll
    for (int j = 0; j < N; j++)
        if (j < m) mean += double(x[j]);
    mean *= inverse;
    if constexpr (sizeof(T) == 8 && N > 1) {
#pragma unroll
        for (int j = 0; j < N; j++)
            if (j < m) rest += x[j] - mean;
        if (mean - mean == 0) mean += rest * inverse;
    }
#pragma unroll
    for (int j = 0; j < N; j++)
        if (j < m) squares += (double(x[j]) - mean) * (double(x[j]) - mean);
    s = join_moments()(s, moments{mean, squares, double(m)});
}

template <class S> constexpr int dtype_of = dtype<S>::code;

} // namespace fx

/* M(suffix, type) for the dtypes of storage; bool is stored as uint8_t. */
// clang-format off
#define FX_BY_SUFFIX(code, suffix, name, type, category, is_signed, digits, sum, typestr, letter, M, ...) \
    M(suffix, type, __VA_ARGS__)
#define FX_EACH_REAL(M, ...) FX_EACH_FLOATING(FX_BY_SUFFIX, M, __VA_ARGS__)
#define FX_EACH_INTEGER(M, ...) FX_EACH_INTEGRAL(FX_BY_SUFFIX, M, __VA_ARGS__)
// clang-format on
#endif
