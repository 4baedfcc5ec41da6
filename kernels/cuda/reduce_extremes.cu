/* Extreme values, and where they are.  NaN wins, the first of several; of equal values the first wins. */
#include "reduce.cuh"

namespace fx {

template <class Way> struct extreme {
    template <class T> using state = T;
    template <class T> static __device__ __forceinline__ T start() { return Way::template start<T>; }
    template <class T> static __device__ __forceinline__ T merge(T x, T y) {
        return Way::beats(y, x) || y != y ? y : x;
    }
    template <int W, int N, class T>
    static __device__ __forceinline__ void fold(T &s, const T (&x)[N], int m, int64_t, int64_t,
                                                const fx_reduce_args &) {
#pragma unroll
        for (int j = 0; j < N; j++)
            if (j < m) s = merge(s, Way::item(x[j]));
    }
    template <class T> static __device__ __forceinline__ void put(const fx_reduce_args &a, int64_t at, T s) {
        store_by(a.out, at, a.out_dtype, s);
    }
};

template <class T> struct located {
    T value;
    int64_t index; /* -1: of nothing */
};
template <> struct located<float> {
    float value;
    int32_t unused;
    int64_t index;
};

template <class Way> struct arg_extreme {
    template <class T> using state = located<T>;
    template <class T> static __device__ __forceinline__ located<T> start() {
        located<T> s{};
        s.value = Way::template start<T>;
        s.index = -1;
        return s;
    }
    template <class T> static __device__ __forceinline__ located<T> merge(const located<T> &x, const located<T> &y) {
        if (y.index < 0) return x;
        if (x.index < 0) return y;
        const bool x_nan = x.value != x.value, y_nan = y.value != y.value;
        const bool better = y_nan ? !x_nan : !x_nan && Way::beats(y.value, x.value);
        const bool level = y_nan ? x_nan : x.value == y.value;
        return better || (level && y.index < x.index) ? y : x;
    }
    template <int W, int N, class T>
    static __device__ __forceinline__ void fold(located<T> &s, const T (&x)[N], int m, int64_t first, int64_t step,
                                                const fx_reduce_args &) {
        /* Indices rise within a thread: only what is better takes over. */
#pragma unroll
        for (int j = 0; j < N; j++) {
            const T v = x[j];
            if (j < m && (s.index < 0 || Way::beats(v, s.value) || (v != v && s.value == s.value))) {
                s.value = v;
                s.index = first + j / W * step + j % W;
            }
        }
    }
    template <class T> static __device__ __forceinline__ void put(const fx_reduce_args &a, int64_t at, located<T> s) {
        if (a.finish == FX_FINISH_INDEX) {
            store_by(a.out, at, a.out_dtype, s.index);
        } else {
            store_by(a.out, at, a.out_dtype, s.value);
            store_by(a.second, at, a.second_dtype, s.index);
        }
    }
};

#define FX_EXTREME(name, dtypes, start_, item_, beats_, finish)                                      \
    struct name##_way {                                                                              \
        template <class A> static constexpr A start = start_;                                        \
        template <class V> static __device__ __forceinline__ V item(V x) { return item_; }           \
        template <class V> static __device__ __forceinline__ bool beats(V x, V a) { return beats_; } \
    };                                                                                               \
    using name##_op = extreme<name##_way>;
#define FX_PLACE(name, dtypes, of, finish) using name##_op = arg_extreme<of##_way>;
#include "fx/reductions.h"

} // namespace fx

#define FX_EXTREME(name, dtypes, ...) FX_REDUCE_##dtypes(name, name##_op)
#define FX_PLACE(name, dtypes, ...) FX_REDUCE_##dtypes(name, name##_op)
#include "fx/reductions.h"
