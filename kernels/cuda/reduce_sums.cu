/* Sums of all kinds, products, counts. */
#include "reduce.cuh"

namespace fx {

/* Sums: a tree over the items of a thread, then in double or int64. */
template <class Item> struct summing {
    template <class T> using state = total<T>;
    template <class T> static __device__ __forceinline__ total<T> start() { return 0; }
    template <int W, int N, class T>
    static __device__ __forceinline__ void fold(total<T> &s, const T (&x)[N], int m, int64_t, int64_t,
                                                const fx_reduce_args &a) {
        typename Item::template within<T> v[N];
#pragma unroll
        for (int j = 0; j < N; j++) {
            v[j] = 0;
            if (j < m) v[j] = Item::of(static_cast<typename Item::template within<T>>(x[j]), &a.p);
        }
        s += total<T>(tree_sum(v));
    }
    template <class S> static __device__ __forceinline__ S merge(S x, S y) { return x + y; }
    static __device__ __forceinline__ void put(const fx_reduce_args &a, int64_t at, int64_t s) {
        store_by(a.out, at, a.out_dtype, s);
    }
    static __device__ __forceinline__ void put(const fx_reduce_args &a, int64_t at, double s) {
        store_by(a.out, at, a.out_dtype, finished(a, s));
    }
};

/* Anything else that is folded item by item. */
template <class Op> struct folding {
    template <class T> using state = typename Op::template kept<T>;
    template <class T> static __device__ __forceinline__ state<T> start() { return Op::template start<state<T>>; }
    template <int W, int N, class S, class T>
    static __device__ __forceinline__ void fold(S &s, const T (&x)[N], int m, int64_t, int64_t,
                                                const fx_reduce_args &a) {
#pragma unroll
        for (int j = 0; j < N; j++)
            if (j < m) s = Op::step(s, S(x[j]), &a.p);
    }
    template <class S> static __device__ __forceinline__ S merge(S x, S y) { return Op::merge(x, y); }
    template <class S> static __device__ __forceinline__ void put(const fx_reduce_args &a, int64_t at, S s) {
        store_by(a.out, at, a.out_dtype, s);
    }
};

struct count_states {
    template <class T> using state = int64_t;
    template <class T> static __device__ __forceinline__ int64_t start() { return 0; }
    template <int W, int N, class T>
    static __device__ __forceinline__ void fold(int64_t &s, const T (&x)[N], int, int64_t, int64_t,
                                                const fx_reduce_args &) {
        int found = 0; /* items that are not there are 0 */
#pragma unroll
        for (int j = 0; j < N; j++) found += x[j] != T(0);
        s += found;
    }
    static __device__ __forceinline__ int64_t merge(int64_t x, int64_t y) { return x + y; }
    static __device__ __forceinline__ void put(const fx_reduce_args &a, int64_t at, int64_t s) {
        if (a.finish == FX_FINISH_ALL) s = s == a.count;
        if (a.finish == FX_FINISH_ANY) s = s != 0;
        store_by(a.out, at, a.out_dtype, s);
    }
};

#define FX_KEPT_T(T) T
#define FX_KEPT_double(T) total<T>
#define FX_SUM(name, dtypes, within_, counted, item, finish)                                               \
    struct name##_item {                                                                                   \
        template <class T> using within = within_;                                                         \
        template <class V> static __device__ __forceinline__ V of(V x, [[maybe_unused]] const double *p) { \
            return counted ? V(item) : V(0);                                                               \
        }                                                                                                  \
    };                                                                                                     \
    using name##_op = summing<name##_item>;
#define FX_FOLD(name, dtypes, within, start_, step_, merge_, finish)                              \
    struct name##_fold {                                                                          \
        template <class T> using kept = FX_KEPT_##within(T);                                      \
        template <class A> static constexpr A start = start_;                                     \
        template <class V>                                                                        \
        static __device__ __forceinline__ V step(V a, V x, [[maybe_unused]] const double *p) {    \
            return step_;                                                                         \
        }                                                                                         \
        template <class V> static __device__ __forceinline__ V merge(V a, V b) { return merge_; } \
    };                                                                                            \
    using name##_op = folding<name##_fold>;
#include "fx/reductions.h"

} // namespace fx

#define FX_SUM(name, dtypes, ...) FX_REDUCE_##dtypes(name, name##_op)
#define FX_FOLD(name, dtypes, ...) FX_REDUCE_##dtypes(name, name##_op)
#define FX_OF_sums(...) __VA_ARGS__
#define FX_OF_moments(...)
#define FX_STATES(name, dtypes, source, ...) FX_OF_##source(FX_REDUCE_##dtypes(name, name##_states))
#include "fx/reductions.h"
