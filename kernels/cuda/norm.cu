/* Layer and RMS normalisation, and their gradients.
 *
 * Rows of up to 4096 elements are kept in registers (_rows), longer ones, or pieces of them, read twice (_long).  Weight gradients are
 * summed in two stages, in an order that depends on the shape alone; see norm.cuh.
 */
#include "norm.cuh"

namespace fx {

template <class T> struct two {
    T x, y;
};
struct add_twos {
    template <class T> __device__ __forceinline__ two<T> operator()(two<T> a, two<T> b) const {
        return {a.x + b.x, a.y + b.y};
    }
};

/* The elements of a weight that belong to a block of a row; of the arrays' dtype, or the arithmetic's, or another. */
template <class S, class T>
__device__ __forceinline__ void load_weight(T (&w)[16], const void *p, int dtype, int64_t first, int64_t step,
                                            int64_t n) {
    if (dtype == dtype_of<S>) {
        load_block(w, static_cast<const S *>(p), first, step, n, is_aligned<S, 4>(static_cast<const S *>(p)));
    } else {
#pragma unroll
        for (int j = 0; j < 16; j++) {
            const int64_t i = first + j / 4 * step + j % 4;
            w[j] = i < n ? statistic<T>(p, dtype, i, T(0)) : T(0);
        }
    }
}
/* y = (x - mean) rstd weight + bias, over x. */
template <class S, class T>
__device__ __forceinline__ void normalise(const fx_norm_args &a, T (&x)[16], T mean, T rstd, int64_t first,
                                          int64_t step, int64_t n) {
    T w[16];
#pragma unroll
    for (int j = 0; j < 16; j++) x[j] = (x[j] - mean) * rstd;
    if (a.weight) {
        load_weight<S>(w, a.weight, a.weight_dtype, first, step, n);
#pragma unroll
        for (int j = 0; j < 16; j++) x[j] *= w[j];
    }
    if (a.bias) {
        load_weight<S>(w, a.bias, a.bias_dtype, first, step, n);
#pragma unroll
        for (int j = 0; j < 16; j++) x[j] += w[j];
    }
}
template <class T>
__device__ __forceinline__ void store_statistics(const fx_norm_args &a, int64_t row, T mean, T rstd) {
    if (a.mean) store_by(a.mean, row, a.mean_dtype, mean);
    if (a.rstd) store_by(a.rstd, row, a.rstd_dtype, rstd);
}

template <class S> __device__ __forceinline__ void norm_rows(const fx_norm_args &a, void *shared) {
    using T = computed<S>;
    const int group = a.group, lane = threadIdx.x & (group - 1), step = 4 * group;
    each_row(a.rows, group, [&](int64_t row) {
        const bool live = row < a.rows;
        const int64_t n = live ? a.n : 0, start = live ? row * a.n : 0;
        const S *p = static_cast<const S *>(a.x) + start;
        S *o = static_cast<S *>(a.y) + start;
        T x[16], v[16], mean = 0;
        const int m = load_block(x, p, 4 * lane, step, n, is_aligned<S, 4>(p));
        if (a.centred) {
#pragma unroll
            for (int j = 0; j < 16; j++) v[j] = x[j];
            mean = row_reduce(tree_sum(v), add_values(), group, static_cast<T *>(shared)) / T(a.n);
        }
#pragma unroll
        for (int j = 0; j < 16; j++) v[j] = j < m ? (x[j] - mean) * (x[j] - mean) : T(0);
        const T squares = row_reduce(tree_sum(v), add_values(), group, static_cast<T *>(shared));
        const T rstd = T(1) / fx::sqrt(squares / T(a.n) + T(a.eps));
        if (live && lane == 0) store_statistics(a, row, mean, rstd);
        normalise<S>(a, x, mean, rstd, 4 * lane, step, n);
        store_block(x, o, 4 * lane, step, n, is_aligned<S, 4>(o));
    });
}

template <class S> __device__ __forceinline__ void norm_long(const fx_norm_args &a, void *shared) {
    using T = computed<S>;
    const S *xs = static_cast<const S *>(a.x);
    S *out = static_cast<S *>(a.y);
    const int step = 4 * FX_THREADS;
    each_long_row(
        a.rows, a.n, a.pieces, moments{0, 0, 0}, static_cast<moments *>(shared),
        [&](const moments &x, const moments &y) {
            return a.centred ? join_moments()(x, y) : moments{0, x.squares + y.squares, 0};
        },
        [&](moments &s, int64_t row, int64_t first, int64_t end) {
            const S *p = xs + row * a.n;
            T x[16];
#pragma unroll 1
            for (int64_t i = first; i < end; i += 4 * step) {
                const int m = load_block(x, p, i, step, end, is_aligned<S, 4>(p));
                if (a.centred) {
                    add_moments(s, x, m);
                    continue;
                }
#pragma unroll
                for (int j = 0; j < 16; j++) s.squares += double(x[j]) * double(x[j]);
            }
        },
        [&](const moments &s, int64_t row, int64_t first, int64_t end) {
            const S *p = xs + row * a.n;
            S *o = out + row * a.n;
            const T mean = T(s.mean), rstd = T(1 / fx::sqrt(s.squares / double(a.n) + a.eps));
            if (first == 0) store_statistics(a, row, mean, rstd);
            T x[16];
#pragma unroll 1
            for (int64_t i = first; i < end; i += 4 * step) {
                load_block(x, p, i, step, end, is_aligned<S, 4>(p));
                normalise<S>(a, x, mean, rstd, i, step, end);
                store_block(x, o, i, step, end, is_aligned<S, 4>(o));
            }
        });
}

template <class S> __device__ __forceinline__ void norm_backward_rows(const fx_norm_args &a, void *shared) {
    using T = computed<S>;
    const int group = a.group, lane = threadIdx.x & (group - 1), step = 4 * group;
    each_row(a.rows, group, [&](int64_t row) {
        const bool live = row < a.rows;
        const int64_t n = live ? a.n : 0, start = live ? row * a.n : 0;
        const S *xp = static_cast<const S *>(a.x) + start, *gp = static_cast<const S *>(a.g) + start;
        S *o = static_cast<S *>(a.y) + start;
        const T mean = live && a.centred ? statistic<T>(a.mean, a.mean_dtype, row, T(0)) : T(0);
        const T rstd = live ? statistic<T>(a.rstd, a.rstd_dtype, row, T(1)) : T(0);
        T x[16], g[16], v[16];
        load_block(x, xp, 4 * lane, step, n, is_aligned<S, 4>(xp), mean);
        load_block(g, gp, 4 * lane, step, n, is_aligned<S, 4>(gp));
        if (a.weight) {
            load_weight<S>(v, a.weight, a.weight_dtype, 4 * lane, step, n);
#pragma unroll
            for (int j = 0; j < 16; j++) g[j] *= v[j];
        }
        two<T> s;
#pragma unroll
        for (int j = 0; j < 16; j++) v[j] = g[j];
        s.x = tree_sum(v);
#pragma unroll
        for (int j = 0; j < 16; j++) v[j] = g[j] * (x[j] - mean);
        s.y = tree_sum(v);
        s = row_reduce(s, add_twos(), group, static_cast<two<T> *>(shared));
        const T slope = -s.y * rstd * rstd * rstd / T(a.n), by = a.centred ? -s.x * rstd / T(a.n) : T(0);
#pragma unroll
        for (int j = 0; j < 16; j++) v[j] = g[j] * rstd + ((x[j] - mean) * slope + by);
        store_block(v, o, 4 * lane, step, n, is_aligned<S, 4>(o));
    });
}

template <class S> __device__ __forceinline__ void norm_backward_long(const fx_norm_args &a, void *shared) {
    using T = computed<S>;
    const S *xs = static_cast<const S *>(a.x), *gs = static_cast<const S *>(a.g);
    S *out = static_cast<S *>(a.y);
    const int step = 4 * FX_THREADS;
    /* x, and g times the weight. */
    const auto load = [&](T(&x)[16], T(&g)[16], T mean, int64_t row, int64_t i, int64_t end) {
        const S *xp = xs + row * a.n, *gp = gs + row * a.n;
        load_block(x, xp, i, step, end, is_aligned<S, 4>(xp), mean);
        load_block(g, gp, i, step, end, is_aligned<S, 4>(gp));
        if (!a.weight) return;
        T w[16];
        load_weight<S>(w, a.weight, a.weight_dtype, i, step, end);
#pragma unroll
        for (int j = 0; j < 16; j++) g[j] *= w[j];
    };
    const auto mean_of = [&](int64_t row) {
        return a.centred ? statistic<T>(a.mean, a.mean_dtype, row, T(0)) : T(0);
    };
    each_long_row(
        a.rows, a.n, a.pieces, pair_sum{0, 0}, static_cast<pair_sum *>(shared), add_pairs(),
        [&](pair_sum &s, int64_t row, int64_t first, int64_t end) {
            const T mean = mean_of(row);
            T x[16], g[16];
#pragma unroll 1
            for (int64_t i = first; i < end; i += 4 * step) {
                load(x, g, mean, row, i, end);
#pragma unroll
                for (int j = 0; j < 16; j++) x[j] = g[j] * (x[j] - mean);
                s.product += double(tree_sum(x));
                s.plain += double(tree_sum(g));
            }
        },
        [&](const pair_sum &s, int64_t row, int64_t first, int64_t end) {
            S *o = out + row * a.n;
            const T mean = mean_of(row), rstd = statistic<T>(a.rstd, a.rstd_dtype, row, T(1));
            const T slope = T(-s.product * double(rstd) * double(rstd) * double(rstd) / double(a.n));
            const T by = a.centred ? T(-s.plain * double(rstd) / double(a.n)) : T(0);
            T x[16], g[16];
#pragma unroll 1
            for (int64_t i = first; i < end; i += 4 * step) {
                load(x, g, mean, row, i, end);
#pragma unroll
                for (int j = 0; j < 16; j++) x[j] = g[j] * rstd + ((x[j] - mean) * slope + by);
                store_block(x, o, i, step, end, is_aligned<S, 4>(o));
            }
        });
}

/* Sums of g and g (x - mean) rstd over rows, for the weights of layer and RMS normalisation. */
template <class S> __device__ __forceinline__ void norm_sums(const fx_norm_args &a, void *shared) {
    using T = computed<S>;
    const S *x = static_cast<const S *>(a.x), *g = static_cast<const S *>(a.g);
    each_column(
        1, a.rows, a.n, a.chunk, 32, pair_sum{0, 0}, static_cast<pair_sum *>(shared),
        [&](pair_sum &s, int64_t at, int64_t row, int64_t) {
            const T mean = a.centred ? statistic<T>(a.mean, a.mean_dtype, row, T(0)) : T(0);
            const T slope = to<T>(g[at]), rstd = statistic<T>(a.rstd, a.rstd_dtype, row, T(1));
            s.plain += double(slope);
            s.product += double(slope * ((to<T>(x[at]) - mean) * rstd));
        },
        add_pairs(),
        [&](const pair_sum &s, const column_share &c) {
            if (c.leads) static_cast<pair_sum *>(a.partial)[c.piece * a.n + c.column] = s;
        });
}

} // namespace fx

FX_EACH_REAL(FX_NORM, norm_rows, FX_SLOTS)
FX_EACH_REAL(FX_NORM, norm_long, FX_SLOTS)
FX_EACH_REAL(FX_NORM, norm_backward_rows, FX_SLOTS)
FX_EACH_REAL(FX_NORM, norm_backward_long, FX_SLOTS)
FX_EACH_REAL(FX_NORM, norm_sums, FX_THREADS)

extern "C" __global__ void __launch_bounds__(FX_THREADS) norm_gradients(const __grid_constant__ fx_norm_args a) {
    __shared__ __align__(16) unsigned char shared[16 * FX_THREADS];
    fx::merge_gradients(a, 0, shared);
}
FX_EXPORT(norm_gradients)
