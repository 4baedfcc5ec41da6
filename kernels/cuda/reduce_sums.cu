/* Sums of all kinds, products, counts. */
#include "reduce.cuh"

namespace fx {

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
            if (j < m) v[j] = Item::of(x[j], a.p);
        }
        s += total<T>(tree_sum(v));
    }
    template <class S> static __device__ __forceinline__ S merge(S x, S y) { return x + y; }
    static __device__ __forceinline__ void put(const fx_reduce_args &a, int64_t at, int64_t s) {
        store_by(a.out, at, a.out_dtype, s);
    }
    static __device__ __forceinline__ void put(const fx_reduce_args &a, int64_t at, double s) {
        store_by(a.out, at, a.out_dtype, Item::result(s, a));
    }
};

struct plain_item {
    template <class T> using within = T;
    template <class T> static __device__ __forceinline__ T of(T x, double) { return x; }
    static __device__ __forceinline__ double result(double s, const fx_reduce_args &a) { return s * a.p; }
};
struct number_item : plain_item {
    template <class T> static __device__ __forceinline__ T of(T x, double) { return x == x ? x : T(0); }
};
struct absolute_item : plain_item {
    template <class T> static __device__ __forceinline__ T of(T x, double) { return absolute(x); }
    static __device__ __forceinline__ double result(double s, const fx_reduce_args &) { return s; }
};
/* Squares of floats would overflow, and lose digits. */
struct square_item {
    template <class T> using within = double;
    template <class T> static __device__ __forceinline__ double of(T x, double) { return double(x) * double(x); }
    static __device__ __forceinline__ double result(double s, const fx_reduce_args &a) {
        return a.finish == FX_FINISH_ROOT ? fx::sqrt(s) : s;
    }
};
struct power_item {
    template <class T> using within = double;
    template <class T> static __device__ __forceinline__ double of(T x, double p) {
        return fx::pow(absolute(double(x)), p);
    }
    static __device__ __forceinline__ double result(double s, const fx_reduce_args &a) { return fx::pow(s, 1 / a.p); }
};

struct product {
    template <class T> using state = total<T>;
    template <class T> static __device__ __forceinline__ total<T> start() { return 1; }
    template <int W, int N, class T>
    static __device__ __forceinline__ void fold(total<T> &s, const T (&x)[N], int m, int64_t, int64_t,
                                                const fx_reduce_args &) {
#pragma unroll
        for (int j = 0; j < N; j++)
            if (j < m) s *= total<T>(x[j]);
    }
    template <class S> static __device__ __forceinline__ S merge(S x, S y) { return x * y; }
    template <class S> static __device__ __forceinline__ void put(const fx_reduce_args &a, int64_t at, S s) {
        store_by(a.out, at, a.out_dtype, s);
    }
};

struct counting {
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

using plain_sum = summing<plain_item>;
using number_sum = summing<number_item>;
using absolute_sum = summing<absolute_item>;
using square_sum = summing<square_item>;
using power_sum = summing<power_item>;

} // namespace fx

FX_REDUCE_NUMBER(sum, plain_sum)
FX_REDUCE_REAL(nansum, number_sum)
FX_REDUCE_REAL(sum_abs, absolute_sum)
FX_REDUCE_REAL(sum_squares, square_sum)
FX_REDUCE_REAL(sum_powers, power_sum)
FX_REDUCE_NUMBER(prod, product)
FX_REDUCE_NUMBER(count, counting)
