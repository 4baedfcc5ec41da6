/* Softmax and log-softmax along one dimension, and their gradients.
 *
 * _rows: rows of up to 4096 elements, kept in registers.  _long: longer rows, or pieces of them, read twice, the first
 * time online.
 * _columns: along a dimension that others lie inside of, as _long.  A row whose largest element is infinite or NaN
 * gives NaN.
 */
#include "fx/rows_args.h"
#include "rows.cuh"

namespace fx {

template <class T> __device__ __forceinline__ T softmax_value(T x, T top, T factor, int log) {
    return log ? x - top - factor : fx::exp(x - top) * factor;
}
/* log(sum), or 1 / sum. */
template <class T> __device__ __forceinline__ T softmax_factor(T top, double sum, int log) {
    if (!(top - top == T(0))) return not_a_number<T>();
    return log ? fx::log(T(sum)) : T(1) / T(sum);
}
template <class T> __device__ __forceinline__ T softmax_slope(T g, T y, T sum, int log) {
    return log ? g - fx::exp(y) * sum : (g - sum) * y;
}

template <class S> __device__ __forceinline__ void softmax_rows(const fx_softmax_args &a, void *shared) {
    using T = computed<S>;
    const int group = a.group, lane = threadIdx.x & (group - 1), step = 4 * group;
    each_row(a.outer, group, [&](int64_t row) {
        const bool live = row < a.outer;
        const int64_t n = live ? a.n : 0, start = live ? row * a.n : 0;
        const S *p = static_cast<const S *>(a.x) + start;
        S *to = static_cast<S *>(a.out) + start;
        T x[16], e[16], top = -ieee<T>::infinity;
        const int m = load_block(x, p, 4 * lane, step, n, is_aligned<S, 4>(p));
#pragma unroll
        for (int j = 0; j < 16; j++)
            if (j < m) top = x[j] > top || x[j] != x[j] ? x[j] : top;
        top = row_reduce(top, greater_value(), group, static_cast<T *>(shared));
#pragma unroll
        for (int j = 0; j < 16; j++) {
            e[j] = 0;
            if (j < m) e[j] = fx::exp(x[j] - top);
        }
        if (!a.log) {
#pragma unroll
            for (int j = 0; j < 16; j++) x[j] = e[j];
        }
        const T sum = row_reduce(tree_sum(e), add_values(), group, static_cast<T *>(shared));
        const T factor = softmax_factor(top, double(sum), a.log);
#pragma unroll
        for (int j = 0; j < 16; j++) x[j] = a.log ? x[j] - top - factor : x[j] * factor;
        store_block(x, to, 4 * lane, step, n, is_aligned<S, 4>(to));
    });
}

template <class S> __device__ __forceinline__ void softmax_long(const fx_softmax_args &a, void *shared) {
    using T = computed<S>;
    using State = exponentials<T>;
    const S *x = static_cast<const S *>(a.x);
    S *out = static_cast<S *>(a.out);
    const int step = 4 * FX_THREADS;
    each_long_row(
        a.outer, a.n, a.pieces, log_sum::start<T>(), static_cast<State *>(shared), log_sum(),
        [&](State &s, int64_t row, int64_t first, int64_t end) {
            const S *p = x + row * a.n;
            const bool aligned = is_aligned<S, 4>(p);
            T v[16];
#pragma unroll 1
            for (int64_t i = first; i < end; i += 4 * step) {
                const int m = load_block(v, p, i, step, end, aligned);
                log_sum::add(s, v, m);
            }
        },
        [&](const State &s, int64_t row, int64_t first, int64_t end) {
            const S *p = x + row * a.n;
            S *to = out + row * a.n;
            const T factor = softmax_factor(s.top, s.sum, a.log);
            T v[16];
#pragma unroll 1
            for (int64_t i = first; i < end; i += 4 * step) {
                load_block(v, p, i, step, end, is_aligned<S, 4>(p));
#pragma unroll
                for (int j = 0; j < 16; j++) v[j] = softmax_value(v[j], s.top, factor, a.log);
                store_block(v, to, i, step, end, is_aligned<S, 4>(to));
            }
        });
}

template <class S> __device__ __forceinline__ void softmax_columns(const fx_softmax_args &a, void *shared) {
    using T = computed<S>;
    using State = exponentials<T>;
    const S *p = static_cast<const S *>(a.x);
    S *o = static_cast<S *>(a.out);
    each_column(
        a.outer, a.n, a.inner, a.n, a.group, log_sum::start<T>(), static_cast<State *>(shared),
        [&](State &s, int64_t at, int64_t, int64_t) {
            const T x[1] = {to<T>(p[at])};
            log_sum::add(s, x, 1);
        },
        log_sum(),
        [&](const State &s, const column_share &c) {
            const T factor = softmax_factor(s.top, s.sum, a.log);
            for (int64_t r = c.first; r < a.n; r += c.step) {
                const int64_t at = c.base + r * a.inner;
                o[at] = to<S>(softmax_value(to<T>(p[at]), s.top, factor, a.log));
            }
        });
}

template <class S> __device__ __forceinline__ void softmax_backward_rows(const fx_softmax_args &a, void *shared) {
    using T = computed<S>;
    const int group = a.group, lane = threadIdx.x & (group - 1), step = 4 * group;
    each_row(a.outer, group, [&](int64_t row) {
        const bool live = row < a.outer;
        const int64_t n = live ? a.n : 0, start = live ? row * a.n : 0;
        const S *gp = static_cast<const S *>(a.x) + start, *yp = static_cast<const S *>(a.y) + start;
        S *to = static_cast<S *>(a.out) + start;
        T g[16], y[16], v[16];
        load_block(g, gp, 4 * lane, step, n, is_aligned<S, 4>(gp));
        load_block(y, yp, 4 * lane, step, n, is_aligned<S, 4>(yp));
#pragma unroll
        for (int j = 0; j < 16; j++) v[j] = a.log ? g[j] : g[j] * y[j];
        const T sum = row_reduce(tree_sum(v), add_values(), group, static_cast<T *>(shared));
#pragma unroll
        for (int j = 0; j < 16; j++) v[j] = softmax_slope(g[j], y[j], sum, a.log);
        store_block(v, to, 4 * lane, step, n, is_aligned<S, 4>(to));
    });
}

template <class S> __device__ __forceinline__ void softmax_backward_long(const fx_softmax_args &a, void *shared) {
    using T = computed<S>;
    const S *gs = static_cast<const S *>(a.x), *ys = static_cast<const S *>(a.y);
    S *out = static_cast<S *>(a.out);
    const int step = 4 * FX_THREADS;
    each_long_row(
        a.outer, a.n, a.pieces, 0.0, static_cast<double *>(shared), add_values(),
        [&](double &s, int64_t row, int64_t first, int64_t end) {
            const S *gp = gs + row * a.n, *yp = ys + row * a.n;
            T g[16], y[16];
#pragma unroll 1
            for (int64_t i = first; i < end; i += 4 * step) {
                load_block(g, gp, i, step, end, is_aligned<S, 4>(gp));
                if (!a.log) {
                    load_block(y, yp, i, step, end, is_aligned<S, 4>(yp));
#pragma unroll
                    for (int j = 0; j < 16; j++) g[j] *= y[j];
                }
                s += double(tree_sum(g));
            }
        },
        [&](double s, int64_t row, int64_t first, int64_t end) {
            const S *gp = gs + row * a.n, *yp = ys + row * a.n;
            S *to = out + row * a.n;
            T g[16], y[16];
#pragma unroll 1
            for (int64_t i = first; i < end; i += 4 * step) {
                load_block(g, gp, i, step, end, is_aligned<S, 4>(gp));
                load_block(y, yp, i, step, end, is_aligned<S, 4>(yp));
#pragma unroll
                for (int j = 0; j < 16; j++) g[j] = softmax_slope(g[j], y[j], T(s), a.log);
                store_block(g, to, i, step, end, is_aligned<S, 4>(to));
            }
        });
}

template <class S> __device__ __forceinline__ void softmax_backward_columns(const fx_softmax_args &a, void *shared) {
    using T = computed<S>;
    const S *g = static_cast<const S *>(a.x), *y = static_cast<const S *>(a.y);
    S *o = static_cast<S *>(a.out);
    each_column(
        a.outer, a.n, a.inner, a.n, a.group, 0.0, static_cast<double *>(shared),
        [&](double &s, int64_t at, int64_t, int64_t) {
            s += double(a.log ? to<T>(g[at]) : to<T>(g[at]) * to<T>(y[at]));
        },
        add_values(),
        [&](double s, const column_share &c) {
            for (int64_t r = c.first; r < a.n; r += c.step) {
                const int64_t at = c.base + r * a.inner;
                o[at] = to<S>(softmax_slope(to<T>(g[at]), to<T>(y[at]), T(s), a.log));
            }
        });
}

} // namespace fx

#define FX_SOFTMAX(suffix, type, name, slots)                        \
    extern "C" __global__ void __launch_bounds__(FX_THREADS)         \
        name##_##suffix(const __grid_constant__ fx_softmax_args a) { \
        __shared__ __align__(16) unsigned char shared[16 * slots];   \
        fx::name<type>(a, shared);                                   \
    }                                                                \
    FX_EXPORT(name##_##suffix)
FX_EACH_REAL(FX_SOFTMAX, softmax_rows, FX_SLOTS)
FX_EACH_REAL(FX_SOFTMAX, softmax_long, FX_SLOTS)
FX_EACH_REAL(FX_SOFTMAX, softmax_columns, FX_THREADS)
FX_EACH_REAL(FX_SOFTMAX, softmax_backward_rows, FX_SLOTS)
FX_EACH_REAL(FX_SOFTMAX, softmax_backward_long, FX_SLOTS)
FX_EACH_REAL(FX_SOFTMAX, softmax_backward_columns, FX_THREADS)
