/* Extreme values, and where they are.  NaN wins, the first of several; of equal values the first wins. */
#include "reduce.cuh"

namespace fx {

struct greatest {
    template <class T> static __device__ __forceinline__ T lowest() {
        if constexpr (is_floating<T>)
            return -ieee<T>::infinity;
        else
            return T(uint64_t(1) << 63);
    }
    template <class T> static __device__ __forceinline__ bool beats(T x, T y) { return x > y; }
};
struct least {
    template <class T> static __device__ __forceinline__ T lowest() {
        if constexpr (is_floating<T>)
            return ieee<T>::infinity;
        else
            return T(~uint64_t(0) >> 1);
    }
    template <class T> static __device__ __forceinline__ bool beats(T x, T y) { return x < y; }
};

struct greatest_size : greatest { /* of nothing: 0 */
    template <class T> static __device__ __forceinline__ T lowest() { return T(0); }
};

template <class Way, bool by_size> struct extreme {
    template <class T> using state = T;
    template <class T> static __device__ __forceinline__ T start() { return Way::template lowest<T>(); }
    template <class T> static __device__ __forceinline__ T merge(T x, T y) {
        return Way::beats(y, x) || y != y ? y : x;
    }
    template <int W, int N, class T>
    static __device__ __forceinline__ void fold(T &s, const T (&x)[N], int m, int64_t, int64_t,
                                                const fx_reduce_args &) {
#pragma unroll
        for (int j = 0; j < N; j++)
            if (j < m) s = merge(s, by_size ? absolute(x[j]) : x[j]);
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
        s.value = Way::template lowest<T>();
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

using largest = extreme<greatest, false>;
using smallest = extreme<least, false>;
using largest_size = extreme<greatest_size, true>;
using smallest_size = extreme<least, true>;
using place_of_largest = arg_extreme<greatest>;
using place_of_smallest = arg_extreme<least>;

} // namespace fx

FX_REDUCE_NUMBER(amax, largest)
FX_REDUCE_NUMBER(amin, smallest)
FX_REDUCE_REAL(max_abs, largest_size)
FX_REDUCE_REAL(min_abs, smallest_size)
FX_REDUCE_NUMBER(argmax, place_of_largest)
FX_REDUCE_NUMBER(argmin, place_of_smallest)
