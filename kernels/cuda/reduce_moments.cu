/* Variances and means together, and logarithms of sums of exponentials. */
#include "reduce.cuh"

namespace fx {

struct var_states {
    template <class T> using state = moments;
    template <class T> static __device__ __forceinline__ moments start() { return {0, 0, 0}; }
    static __device__ __forceinline__ moments merge(const moments &x, const moments &y) { return join_moments()(x, y); }
    template <int W, int N, class T>
    static __device__ __forceinline__ void fold(moments &s, const T (&x)[N], int m, int64_t, int64_t,
                                                const fx_reduce_args &) {
        add_moments(s, x, m);
    }
    static __device__ __forceinline__ void put(const fx_reduce_args &a, int64_t at, moments s) {
        double degrees = double(a.count) - a.p;
        if (!(degrees > 0)) degrees = 0;
        if (a.count == 0) s.mean = s.squares = not_a_number<double>();
        s.squares /= degrees;
        store_by(a.out, at, a.out_dtype, a.root ? fx::sqrt(s.squares) : s.squares);
        if (a.second) store_by(a.second, at, a.second_dtype, s.mean);
    }
};

struct logsumexp_states : log_sum {
    template <int W, int N, class T>
    static __device__ __forceinline__ void fold(exponentials<T> &s, const T (&x)[N], int m, int64_t, int64_t,
                                                const fx_reduce_args &) {
        add(s, x, m);
    }
    template <class T>
    static __device__ __forceinline__ void put(const fx_reduce_args &a, int64_t at, const exponentials<T> &s) {
        store_by(a.out, at, a.out_dtype, fx::log(s.sum) + double(shift(s.top)));
    }
};

} // namespace fx

#define FX_OF_sums(...)
#define FX_OF_moments(...) __VA_ARGS__
#define FX_STATES(name, dtypes, source, ...) FX_OF_##source(FX_REDUCE_##dtypes(name, name##_states))
#include "fx/reductions.h"
