/* Reductions of a contiguous array [outer, n, inner] over n; see fx/reduce_args.h.
 *
 * An operator is a struct of: state<T>, start<T>(), merge(state, state), put(args, at, state), and
 *     fold<W>(state, x, m, first, step, args)   the first m of N items; item j has the index
 *                                               first + j / W * step + j % W
 * T is the dtype of the arithmetic.  Trees depend on the sizes alone: item i of a row goes to the same thread and place
 * whether it is loaded alone (a row that is not aligned) or in a pack.
 */
#ifndef FX_REDUCE_CUH
#define FX_REDUCE_CUH
#include "fx/reduce_args.h"
#include "rows.cuh"

namespace fx {

template <class Op> struct merging {
    template <class State> __device__ __forceinline__ State operator()(const State &x, const State &y) const {
        return Op::merge(x, y);
    }
};

template <class Op, class State>
__device__ __forceinline__ void deliver(const fx_reduce_args &a, int64_t at, const State &s) {
    if (a.last)
        Op::put(a, at, s);
    else
        static_cast<State *>(a.out)[at] = s;
}

/* What becomes of a sum. */
__device__ __forceinline__ double finished(const fx_reduce_args &a, double s) {
    if (a.finish == FX_FINISH_SCALE) return s * a.p;
    if (a.finish == FX_FINISH_ROOT) return fx::sqrt(s);
    if (a.finish == FX_FINISH_POWER) return fx::pow(s, 1 / a.p);
    return s;
}

/* A row by `group` threads: 1 to 32 lanes of a warp, or the block. */
template <class Op, class S> __device__ __forceinline__ void reduce_rows(const fx_reduce_args &a, void *shared) {
    using T = computed<S>;
    using State = typename Op::template state<T>;
    const int group = a.group, lane = threadIdx.x & (group - 1), per_block = FX_THREADS / group;
    const int64_t tasks = a.outer * a.chunks;
    for (int64_t base = int64_t(blockIdx.x) * per_block; base < tasks; base += int64_t(gridDim.x) * per_block) {
        const int64_t task = base + threadIdx.x / group;
        State s = Op::template start<T>();
        if (task < tasks) {
            const int64_t row = a.chunks == 1 ? task : task / a.chunks, begin = (task - row * a.chunks) * a.chunk;
            const int64_t n = a.n - begin < a.chunk ? a.n - begin : a.chunk;
            const S *p = static_cast<const S *>(a.in) + row * a.n + begin;
            const bool aligned = is_aligned<S, 4>(p);
#pragma unroll 1
            for (int64_t i = lane * 4; i < n; i += 16 * group) {
                T x[16];
                const int m = load_block(x, p, i, 4 * group, n, aligned);
                Op::template fold<4>(s, x, m, begin + i, 4 * group, a);
            }
        }
        if (group <= 32)
            s = group_reduce(s, merging<Op>(), group);
        else
            s = block_reduce(s, merging<Op>(), static_cast<State *>(shared));
        if (task < tasks && lane == 0) deliver<Op>(a, task, s);
    }
}

/* Merges what the threads of a column hold, `wide` columns side by side; the first of them gets the result. */
template <class Op, int W, class State>
__device__ __forceinline__ void merge_columns(State (&s)[W], int wide, State *shared) {
    const int high = FX_THREADS / wide, y = threadIdx.x / wide;
    if (high == 1) return;
    __syncthreads(); /* what the round before left has been read */
#pragma unroll
    for (int c = 0; c < W; c++) shared[c * FX_THREADS + threadIdx.x] = s[c];
    for (int half = high / 2; half; half /= 2) {
        __syncthreads();
        if (y >= half) continue;
#pragma unroll
        for (int c = 0; c < W; c++) {
            s[c] = Op::merge(s[c], shared[c * FX_THREADS + threadIdx.x + half * wide]);
            shared[c * FX_THREADS + threadIdx.x] = s[c];
        }
    }
}

/* Columns, four to a thread: `group` threads side by side, the others share the rows. */
template <class Op, class S> __device__ __forceinline__ void reduce_columns(const fx_reduce_args &a, void *shared) {
    using T = computed<S>;
    using State = typename Op::template state<T>;
    const int wide = a.group, high = FX_THREADS / wide, x = threadIdx.x & (wide - 1), y = threadIdx.x / wide;
    const int64_t strips = (a.inner + 4 * wide - 1) / (4 * wide), tasks = a.outer * a.chunks * strips;
    for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
        const int64_t piece = task / strips, outer = piece / a.chunks, begin = (piece - outer * a.chunks) * a.chunk;
        const int64_t column = (task - piece * strips) * (4 * wide) + 4 * x;
        const int64_t end = a.n - begin < a.chunk ? a.n : begin + a.chunk;
        State s[4];
#pragma unroll
        for (int c = 0; c < 4; c++) s[c] = Op::template start<T>();
        if (column < a.inner) {
            const S *p = static_cast<const S *>(a.in) + outer * a.n * a.inner + column;
            const bool packed = a.inner % 4 == 0 && is_aligned<S, 4>(p);
#pragma unroll 1
            for (int64_t r = begin + y; r < end; r += 4 * high) {
                T v[4][4];
                int m = 0;
                if (packed && r + 3 * high < end) {
                    elements<S, 4> pack[4];
#pragma unroll
                    for (int u = 0; u < 4; u++)
                        pack[u] = *reinterpret_cast<const elements<S, 4> *>(p + (r + u * high) * a.inner);
#pragma unroll
                    for (int j = 0; j < 16; j++) v[j % 4][j / 4] = to<T>(pack[j / 4].v[j % 4]);
                    m = 4;
                } else {
#pragma unroll
                    for (int u = 0; u < 4; u++) {
                        const bool there = r + u * high < end;
                        m += there;
#pragma unroll
                        for (int c = 0; c < 4; c++)
                            v[c][u] = there && column + c < a.inner ? to<T>(p[(r + u * high) * a.inner + c]) : T(0);
                    }
                }
#pragma unroll
                for (int c = 0; c < 4; c++) Op::template fold<1>(s[c], v[c], m, r, high, a);
            }
        }
        merge_columns<Op>(s, wide, static_cast<State *>(shared));
        if (y == 0) {
#pragma unroll
            for (int c = 0; c < 4; c++)
                if (column + c < a.inner) deliver<Op>(a, piece * a.inner + column + c, s[c]);
        }
    }
}

/* Columns of states, one to a thread. */
template <class Op, class T> __device__ __forceinline__ void reduce_states(const fx_reduce_args &a, void *shared) {
    using State = typename Op::template state<T>;
    const int wide = a.group, high = FX_THREADS / wide, x = threadIdx.x & (wide - 1), y = threadIdx.x / wide;
    const int64_t strips = (a.inner + wide - 1) / wide, tasks = a.outer * strips;
    for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
        const int64_t outer = task / strips, column = (task - outer * strips) * wide + x;
        State s[1] = {Op::template start<T>()};
        if (column < a.inner) {
            const State *p = static_cast<const State *>(a.in) + outer * a.n * a.inner + column;
            for (int64_t r = y; r < a.n; r += high) s[0] = Op::merge(s[0], p[r * a.inner]);
        }
        merge_columns<Op>(s, wide, static_cast<State *>(shared));
        if (y == 0 && column < a.inner) deliver<Op>(a, outer * a.inner + column, s[0]);
    }
}

} // namespace fx

#define FX_REDUCE_ITEMS(suffix, type, name, Op)                                                                    \
    extern "C" __global__ void __launch_bounds__(FX_THREADS)                                                       \
        name##_##suffix##_rows(const __grid_constant__ fx_reduce_args a) {                                         \
        __shared__ __align__(16) unsigned char shared[FX_SLOTS * sizeof(fx::Op::state<fx::computed<type>>)];       \
        fx::reduce_rows<fx::Op, type>(a, shared);                                                                  \
    }                                                                                                              \
    FX_EXPORT(name##_##suffix##_rows)                                                                              \
    extern "C" __global__ void __launch_bounds__(FX_THREADS)                                                       \
        name##_##suffix##_columns(const __grid_constant__ fx_reduce_args a) {                                      \
        __shared__ __align__(16) unsigned char shared[4 * FX_THREADS * sizeof(fx::Op::state<fx::computed<type>>)]; \
        fx::reduce_columns<fx::Op, type>(a, shared);                                                               \
    }                                                                                                              \
    FX_EXPORT(name##_##suffix##_columns)
#define FX_REDUCE_STATES(suffix, type, name, Op)                                                 \
    extern "C" __global__ void __launch_bounds__(FX_THREADS)                                     \
        name##_##suffix##_states(const __grid_constant__ fx_reduce_args a) {                     \
        __shared__ __align__(16) unsigned char shared[FX_THREADS * sizeof(fx::Op::state<type>)]; \
        fx::reduce_states<fx::Op, type>(a, shared);                                              \
    }                                                                                            \
    FX_EXPORT(name##_##suffix##_states)

#define FX_REDUCE_REAL(name, Op)            \
    FX_EACH_REAL(FX_REDUCE_ITEMS, name, Op) \
    FX_REDUCE_STATES(f32, float, name, Op)  \
    FX_REDUCE_STATES(f64, double, name, Op)
#define FX_REDUCE_NUMBER(name, Op)             \
    FX_REDUCE_REAL(name, Op)                   \
    FX_EACH_INTEGER(FX_REDUCE_ITEMS, name, Op) \
    FX_REDUCE_STATES(i64, int64_t, name, Op)
#endif
