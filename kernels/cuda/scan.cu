/* Scans along one dimension of [outer, n, inner]: running sums, products, extremes, log-sums, and the recurrence
 * h = a h + b.
 *
 * An operator lifts an element to a state, merges states of neighbours (earlier first) and stores a state's value.
 * _rows: nothing lies inside; `group` threads share a row, four elements each.  _columns: a thread for each column.
 * Long scans are cut: one launch for the states of chunks, _carry for what comes before each, one launch for the rest.
 */
#include "fx/rows_args.h"
#include "rows.cuh"

namespace fx {

/* What comes before this thread's state among those of its group, and what all of them make. */
template <class State, class Merge>
__device__ __forceinline__ State group_before(State x, State nothing, const Merge &merge, int group, State *slots,
                                              State *all) {
    const int lane = threadIdx.x & 31, width = group < 32 ? group : 32, place = lane & (width - 1);
    for (int by = 1; by < width; by *= 2) {
        const State other = shuffle_up(x, by);
        if (place >= by) x = merge(other, x);
    }
    State before = shuffle_up(x, 1);
    if (place == 0) before = nothing;
    if (group <= 32) {
        *all = shuffle_from(x, lane | (width - 1));
        return before;
    }
    __syncthreads(); /* an earlier call's slots have been read */
    if (lane == 31) slots[threadIdx.x / 32] = x;
    __syncthreads();
    State earlier = nothing, total = nothing;
    for (int w = 0; w < FX_THREADS / 32; w++) {
        if (w == int(threadIdx.x) / 32) earlier = total;
        total = merge(total, slots[w]);
    }
    *all = total;
    return merge(earlier, before);
}

template <class Op> struct scanning {
    template <class State> __device__ __forceinline__ State operator()(const State &x, const State &y) const {
        return Op::merge(x, y);
    }
};

template <class Op, class S> __device__ __forceinline__ void scan_rows(const fx_scan_args &a, void *shared) {
    using State = typename Op::template state<computed<S>>;
    const int group = a.group, lane = threadIdx.x & (group - 1);
    State *states = static_cast<State *>(a.states);
    each_row(a.outer * a.chunks, group, [&](int64_t task) {
        const bool live = task < a.outer * a.chunks;
        const int64_t row = live ? task / a.chunks : 0, begin = live ? (task - row * a.chunks) * a.chunk : a.n;
        const int64_t last = a.n - begin < a.chunk ? a.n : begin + a.chunk, start = row * a.n;
        State carry = Op::template start<computed<S>>();
        if (live && a.carried) carry = states[task];
        /* Lanes of a warp may have different rows, but all of them of one length: they take the same rounds. */
        const int64_t rounds = (a.n < a.chunk ? a.n : a.chunk) + 4 * group - 1;
#pragma unroll 1
        for (int64_t round = 0; round < rounds / (4 * group); round++) {
            const int64_t first = begin + (round * group + lane) * 4;
            State s[4], all;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                s[j] = Op::template start<computed<S>>();
                const int64_t t = first + j;
                if (t < last) s[j] = Op::template lift<S>(a, start + (a.reverse ? a.n - 1 - t : t), t);
            }
#pragma unroll
            for (int j = 1; j < 4; j++) s[j] = Op::merge(s[j - 1], s[j]);
            const State nothing = Op::template start<computed<S>>();
            State before =
                group_before(s[3], nothing, scanning<Op>(), group, static_cast<State *>(shared), &all);
            before = Op::merge(carry, before);
            carry = Op::merge(carry, all);
            if (a.totals) continue;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int64_t t = first + j;
                const int64_t at = start + (a.reverse ? a.n - 1 - t : t);
                if (t < last) Op::template put<S>(a, at, Op::merge(before, s[j]), t);
            }
        }
        if (a.totals && live && lane == 0) states[task] = carry;
    });
}

template <class Op, class S> __device__ __forceinline__ void scan_columns(const fx_scan_args &a, void *) {
    using State = typename Op::template state<computed<S>>;
    State *states = static_cast<State *>(a.states);
    const int64_t tasks = a.outer * a.chunks * a.inner;
    for (int64_t task = int64_t(blockIdx.x) * FX_THREADS + threadIdx.x; task < tasks;
         task += int64_t(gridDim.x) * FX_THREADS) {
        const int64_t piece = task / a.inner, column = task - piece * a.inner, slice = piece / a.chunks;
        const int64_t begin = (piece - slice * a.chunks) * a.chunk, start = slice * a.n * a.inner + column;
        const int64_t last = a.n - begin < a.chunk ? a.n : begin + a.chunk;
        State s = a.carried ? states[task] : Op::template start<computed<S>>();
#pragma unroll 4
        for (int64_t t = begin; t < last; t++) {
            const int64_t at = start + (a.reverse ? a.n - 1 - t : t) * a.inner;
            s = Op::merge(s, Op::template lift<S>(a, at, t));
            if (!a.totals) Op::template put<S>(a, at, s, t);
        }
        if (a.totals) states[task] = s;
    }
}

/* In place: the states of chunks become those of all chunks before. */
template <class Op, class T> __device__ __forceinline__ void scan_carry(const fx_scan_args &a) {
    using State = typename Op::template state<T>;
    for (int64_t i = int64_t(blockIdx.x) * FX_THREADS + threadIdx.x; i < a.outer * a.inner;
         i += int64_t(gridDim.x) * FX_THREADS) {
        const int64_t slice = i / a.inner;
        State *p = static_cast<State *>(a.states) + slice * a.chunks * a.inner + (i - slice * a.inner);
        State s = Op::template start<T>();
#pragma unroll 4
        for (int64_t c = 0; c < a.chunks; c++) {
            const State mine = p[c * a.inner];
            p[c * a.inner] = s;
            s = Op::merge(s, mine);
        }
    }
}

template <class S> __device__ __forceinline__ computed<S> item_at(const void *p, int64_t at) {
    return to<computed<S>>(static_cast<const S *>(p)[at]);
}
template <class S, class V> __device__ __forceinline__ void put_at(void *p, int64_t at, V value) {
    static_cast<S *>(p)[at] = to<S>(computed<S>(value));
}

template <bool product> struct accumulate {
    template <class T> using state = total<T>;
    template <class T> static __device__ __forceinline__ total<T> start() { return product; }
    template <class S>
    static __device__ __forceinline__ total<computed<S>> lift(const fx_scan_args &a, int64_t at, int64_t) {
        return total<computed<S>>(item_at<S>(a.x, at));
    }
    template <class V> static __device__ __forceinline__ V merge(V x, V y) { return product ? x * y : x + y; }
    template <class S, class V>
    static __device__ __forceinline__ void put(const fx_scan_args &a, int64_t at, V s, int64_t) {
        put_at<S>(a.out, at, s);
    }
};

/* Of equal values the later one; NaN stays once it came, the latest of several. */
template <class T> struct extreme_so_far {
    T value;
    int64_t index; /* in the order of the scan; -1: of nothing */
};
template <> struct extreme_so_far<float> {
    float value;
    int32_t unused;
    int64_t index;
};
template <bool largest> struct extreme {
    template <class T> using state = extreme_so_far<T>;
    template <class T> static __device__ __forceinline__ extreme_so_far<T> start() {
        extreme_so_far<T> s{};
        s.index = -1;
        return s;
    }
    template <class S>
    static __device__ __forceinline__ extreme_so_far<computed<S>> lift(const fx_scan_args &a, int64_t at, int64_t t) {
        extreme_so_far<computed<S>> s{};
        s.value = item_at<S>(a.x, at);
        s.index = t;
        return s;
    }
    template <class V> static __device__ __forceinline__ V merge(const V &x, const V &y) {
        if (x.index < 0 || y.index < 0) return x.index < 0 ? y : x;
        if (y.value != y.value) return y;
        return (largest ? y.value >= x.value : y.value <= x.value) ? y : x;
    }
    template <class S, class V>
    static __device__ __forceinline__ void put(const fx_scan_args &a, int64_t at, const V &s, int64_t) {
        put_at<S>(a.out, at, s.value);
        static_cast<int64_t *>(a.index)[at] = a.reverse ? a.n - 1 - s.index : s.index;
    }
};

struct log_accumulate {
    template <class T> using state = exponentials<T>;
    template <class T> static __device__ __forceinline__ exponentials<T> start() { return log_sum::start<T>(); }
    template <class S>
    static __device__ __forceinline__ exponentials<computed<S>> lift(const fx_scan_args &a, int64_t at, int64_t) {
        exponentials<computed<S>> s{};
        s.top = item_at<S>(a.x, at);
        s.sum = double(fx::exp(s.top - shift(s.top)));
        return s;
    }
    template <class V> static __device__ __forceinline__ V merge(const V &x, const V &y) {
        return log_sum::merge(x, y);
    }
    template <class S, class V>
    static __device__ __forceinline__ void put(const fx_scan_args &a, int64_t at, const V &s, int64_t) {
        put_at<S>(a.out, at, fx::log(s.sum) + double(shift(s.top)));
    }
};

/* h becomes factor h + value.  A value of 0 stays 0 whatever the product of the factors after it has overflowed to. */
struct linear_step {
    double factor, value;
};
struct recurrence {
    template <class T> using state = linear_step;
    template <class T> static __device__ __forceinline__ linear_step start() { return {1, 0}; }
    template <class S>
    static __device__ __forceinline__ linear_step lift(const fx_scan_args &a, int64_t at, int64_t t) {
        return {t ? double(item_at<S>(a.a, at)) : 0.0, double(item_at<S>(a.x, at))};
    }
    static __device__ __forceinline__ double times(double factor, double x) { return x == 0 ? 0 : factor * x; }
    static __device__ __forceinline__ linear_step merge(const linear_step &x, const linear_step &y) {
        return {times(y.factor, x.factor), y.value + times(y.factor, x.value)};
    }
    template <class S>
    static __device__ __forceinline__ void put(const fx_scan_args &a, int64_t at, const linear_step &s, int64_t) {
        put_at<S>(a.out, at, s.value);
    }
};

using running_sum = accumulate<false>;
using running_product = accumulate<true>;
using running_max = extreme<true>;
using running_min = extreme<false>;

} // namespace fx

#define FX_SCAN_ITEMS(suffix, type, name, Op)                                                                \
    extern "C" __global__ void __launch_bounds__(FX_THREADS)                                                 \
        name##_##suffix##_rows(const __grid_constant__ fx_scan_args a) {                                     \
        __shared__ __align__(16) unsigned char shared[FX_SLOTS * sizeof(fx::Op::state<fx::computed<type>>)]; \
        fx::scan_rows<fx::Op, type>(a, shared);                                                              \
    }                                                                                                        \
    FX_EXPORT(name##_##suffix##_rows)                                                                        \
    extern "C" __global__ void __launch_bounds__(FX_THREADS)                                                 \
        name##_##suffix##_columns(const __grid_constant__ fx_scan_args a) {                                  \
        fx::scan_columns<fx::Op, type>(a, nullptr);                                                          \
    }                                                                                                        \
    FX_EXPORT(name##_##suffix##_columns)
#define FX_SCAN_CARRY(suffix, type, name, Op)                             \
    extern "C" __global__ void __launch_bounds__(FX_THREADS)              \
        name##_##suffix##_carry(const __grid_constant__ fx_scan_args a) { \
        fx::scan_carry<fx::Op, type>(a);                                  \
    }                                                                     \
    FX_EXPORT(name##_##suffix##_carry)
#define FX_SCAN_REAL(name, Op)            \
    FX_EACH_REAL(FX_SCAN_ITEMS, name, Op) \
    FX_SCAN_CARRY(f32, float, name, Op)   \
    FX_SCAN_CARRY(f64, double, name, Op)
#define FX_SCAN_NUMBER(name, Op)             \
    FX_SCAN_REAL(name, Op)                   \
    FX_EACH_INTEGER(FX_SCAN_ITEMS, name, Op) \
    FX_SCAN_CARRY(i64, int64_t, name, Op)

FX_SCAN_NUMBER(cumsum, running_sum)
FX_SCAN_NUMBER(cumprod, running_product)
FX_SCAN_NUMBER(cummax, running_max)
FX_SCAN_NUMBER(cummin, running_min)
FX_SCAN_REAL(logcumsumexp, log_accumulate)
FX_SCAN_REAL(linear_scan, recurrence)
