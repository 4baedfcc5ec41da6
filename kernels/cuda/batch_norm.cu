/* Batch normalisation over every dimension but the second, and its gradient.
 *
 * With trailing dimensions x is [rows = batch * channels, n], and a row has one channel (_rows); without, it is
 * [batch, channels], and a column has one (_columns).  Statistics and sums of gradients go in two stages (norm.cuh);
 * then every element is  u * factor + (x - mean) * slope + by,  u being the gradient.
 */
#include "norm.cuh"

namespace fx {

/* A row of several pieces of `chunk` elements, each by `group` threads: state [batch, pieces, channels]. */
template <class State, class Start, class Part, class Merge>
__device__ __forceinline__ void each_channel_row(const fx_norm_args &a, State *slots, const Start &start,
                                                 const Part &part, const Merge &merge) {
    const int group = a.group, lane = threadIdx.x & (group - 1);
    const int64_t pieces = a.n > a.chunk ? (a.n + a.chunk - 1) / a.chunk : 1;
    each_row(a.rows * pieces, group, [&](int64_t task) {
        const bool live = task < a.rows * pieces;
        const int64_t row = live ? task / pieces : 0, piece = task - row * pieces, begin = piece * a.chunk;
        const int64_t left = live ? a.n - begin : 0, batch = row / a.channels, channel = row - batch * a.channels;
        State s = start();
        part(s, row * a.n + begin, left < a.chunk ? left : a.chunk, channel, lane);
        s = row_reduce(s, merge, group, slots);
        if (live && lane == 0) static_cast<State *>(a.partial)[(batch * pieces + piece) * a.channels + channel] = s;
    });
}

template <class S> __device__ __forceinline__ void batch_norm_moments_rows(const fx_norm_args &a, void *shared) {
    each_channel_row(
        a, static_cast<moments *>(shared), []() { return moments{0, 0, 0}; },
        [&](moments &s, int64_t start, int64_t n, int64_t, int lane) {
            const S *p = static_cast<const S *>(a.x) + start;
            const bool aligned = is_aligned<S, 4>(p);
            computed<S> x[16];
#pragma unroll 1
            for (int64_t i = 4 * lane; i < n; i += 16 * a.group) {
                const int m = load_block(x, p, i, 4 * a.group, n, aligned);
                add_moments(s, x, m);
            }
        },
        join_moments());
}

template <class S> __device__ __forceinline__ void batch_norm_moments_columns(const fx_norm_args &a, void *shared) {
    const S *x = static_cast<const S *>(a.x);
    each_column(
        1, a.rows, a.channels, a.chunk, 32, moments{0, 0, 0}, static_cast<moments *>(shared),
        [&](moments &s, int64_t at, int64_t, int64_t) {
            const computed<S> v[1] = {to<computed<S>>(x[at])};
            add_moments(s, v, 1);
        },
        join_moments(),
        [&](const moments &s, const column_share &c) {
            if (c.leads) static_cast<moments *>(a.partial)[c.piece * a.channels + c.column] = s;
        });
}

template <class S> __device__ __forceinline__ void batch_norm_sums_rows(const fx_norm_args &a, void *shared) {
    using T = computed<S>;
    each_channel_row(
        a, static_cast<pair_sum *>(shared), []() { return pair_sum{0, 0}; },
        [&](pair_sum &s, int64_t start, int64_t n, int64_t channel, int lane) {
            const S *xp = static_cast<const S *>(a.x) + start, *gp = static_cast<const S *>(a.g) + start;
            const bool x_aligned = is_aligned<S, 4>(xp), g_aligned = is_aligned<S, 4>(gp);
            const T mean = statistic<T>(a.mean, a.mean_dtype, channel, T(0));
            T x[16], g[16];
#pragma unroll 1
            for (int64_t i = 4 * lane; i < n; i += 16 * a.group) {
                load_block(x, xp, i, 4 * a.group, n, x_aligned, mean);
                load_block(g, gp, i, 4 * a.group, n, g_aligned);
#pragma unroll
                for (int j = 0; j < 16; j++) x[j] = g[j] * (x[j] - mean);
                s.product += double(tree_sum(x));
                s.plain += double(tree_sum(g));
            }
        },
        add_pairs());
}

template <class S> __device__ __forceinline__ void batch_norm_sums_columns(const fx_norm_args &a, void *shared) {
    using T = computed<S>;
    const S *x = static_cast<const S *>(a.x), *g = static_cast<const S *>(a.g);
    each_column(
        1, a.rows, a.channels, a.chunk, 32, pair_sum{0, 0}, static_cast<pair_sum *>(shared),
        [&](pair_sum &s, int64_t at, int64_t, int64_t column) {
            const T mean = statistic<T>(a.mean, a.mean_dtype, column, T(0)), slope = to<T>(g[at]);
            s.plain += double(slope);
            s.product += double(slope * (to<T>(x[at]) - mean));
        },
        add_pairs(),
        [&](const pair_sum &s, const column_share &c) {
            if (c.leads) static_cast<pair_sum *>(a.partial)[c.piece * a.channels + c.column] = s;
        });
}

/* The statistics of each channel from those of its chunks, and the running ones. */
__device__ __forceinline__ void settle_channels(const fx_norm_args &a, void *shared) {
    const moments *partial = static_cast<const moments *>(a.partial);
    each_column(
        1, a.chunks, a.channels, a.chunks, 8, moments{0, 0, 0}, static_cast<moments *>(shared),
        [&](moments &s, int64_t at, int64_t, int64_t) { s = join_moments()(s, partial[at]); }, join_moments(),
        [&](const moments &s, const column_share &c) {
            if (!c.leads) return;
            const double m = a.momentum;
            if (a.mean) store_by(a.mean, c.column, a.mean_dtype, s.mean);
            if (a.rstd) store_by(a.rstd, c.column, a.rstd_dtype, 1 / fx::sqrt(s.squares / s.count + a.eps));
            if (a.running_mean) {
                const double old = statistic<double>(a.running_mean, a.running_mean_dtype, c.column, 0.0);
                store_by(a.running_mean, c.column, a.running_mean_dtype, (1 - m) * old + m * s.mean);
            }
            if (a.running_var) {
                const double old = statistic<double>(a.running_var, a.running_var_dtype, c.column, 1.0);
                const double unbiased = s.squares / (s.count - 1);
                store_by(a.running_var, c.column, a.running_var_dtype, (1 - m) * old + m * unbiased);
            }
        });
}

template <class T> struct line {
    T mean, factor, slope, by;
};
/* Forward (no g): the statistics are mean and rstd, or running_mean and running_var.  Backward: factor for g, and with
 * `training` what the statistics add, from the merged sums. */
template <class T> __device__ __forceinline__ line<T> channel_line(const fx_norm_args &a, int64_t channel) {
    line<T> l;
    const T weight = statistic<T>(a.weight, a.weight_dtype, channel, T(1));
    if (a.running_var && !a.training && !a.g) {
        l.mean = statistic<T>(a.running_mean, a.running_mean_dtype, channel, T(0));
        const T var = statistic<T>(a.running_var, a.running_var_dtype, channel, T(1));
        l.factor = weight / fx::sqrt(var + T(a.eps));
    } else {
        l.mean = statistic<T>(a.mean, a.mean_dtype, channel, T(0));
        l.factor = weight * statistic<T>(a.rstd, a.rstd_dtype, channel, T(1));
    }
    if (!a.g) {
        l.slope = l.factor;
        l.by = statistic<T>(a.bias, a.bias_dtype, channel, T(0));
        return l;
    }
    l.slope = l.by = 0;
    if (a.training) {
        const pair_sum s = static_cast<const pair_sum *>(a.partial)[a.chunks * a.channels + channel];
        const T rstd = statistic<T>(a.rstd, a.rstd_dtype, channel, T(1)), count = T(a.count);
        l.slope = T(-s.product) * rstd * rstd * l.factor / count;
        l.by = T(-s.plain) * l.factor / count;
    }
    return l;
}

template <class S> __device__ __forceinline__ void batch_norm_apply_rows(const fx_norm_args &a, void *) {
    using T = computed<S>;
    const int group = a.group, lane = threadIdx.x & (group - 1);
    const int64_t pieces = a.n > a.chunk ? (a.n + a.chunk - 1) / a.chunk : 1;
    each_row(a.rows * pieces, group, [&](int64_t task) {
        if (task >= a.rows * pieces) return;
        const int64_t row = task / pieces, begin = (task - row * pieces) * a.chunk;
        const int64_t n = a.n - begin < a.chunk ? a.n - begin : a.chunk, start = row * a.n + begin;
        const line<T> l = channel_line<T>(a, row % a.channels);
        const S *xp = static_cast<const S *>(a.x) + start, *gp = a.g ? static_cast<const S *>(a.g) + start : xp;
        S *o = static_cast<S *>(a.y) + start;
        T x[16], g[16];
#pragma unroll 1
        for (int64_t i = 4 * lane; i < n; i += 16 * group) {
            load_block(x, xp, i, 4 * group, n, is_aligned<S, 4>(xp));
            if (a.g) {
                load_block(g, gp, i, 4 * group, n, is_aligned<S, 4>(gp));
#pragma unroll
                for (int j = 0; j < 16; j++)
                    x[j] = a.training ? g[j] * l.factor + ((x[j] - l.mean) * l.slope + l.by) : g[j] * l.factor;
            } else {
#pragma unroll
                for (int j = 0; j < 16; j++) x[j] = (x[j] - l.mean) * l.slope + l.by;
            }
            store_block(x, o, i, 4 * group, n, is_aligned<S, 4>(o));
        }
    });
}

template <class S> __device__ __forceinline__ void batch_norm_apply_columns(const fx_norm_args &a, void *shared) {
    using T = computed<S>;
    const S *x = static_cast<const S *>(a.x), *g = static_cast<const S *>(a.g);
    S *o = static_cast<S *>(a.y);
    each_column(
        1, a.rows, a.channels, a.chunk, 32, 0.0f, static_cast<float *>(shared),
        [](float &, int64_t, int64_t, int64_t) {}, add_values(),
        [&](float, const column_share &c) {
            const line<T> l = channel_line<T>(a, c.column);
            for (int64_t r = c.first; r < c.last; r += c.step) {
                const int64_t at = c.base + r * a.channels;
                const T centred = (to<T>(x[at]) - l.mean) * l.slope + l.by;
                o[at] = to<S>(!g ? centred : a.training ? to<T>(g[at]) * l.factor + centred : to<T>(g[at]) * l.factor);
            }
        });
}

} // namespace fx

FX_EACH_REAL(FX_NORM, batch_norm_moments_rows, FX_SLOTS)
FX_EACH_REAL(FX_NORM, batch_norm_moments_columns, FX_THREADS)
FX_EACH_REAL(FX_NORM, batch_norm_sums_rows, FX_SLOTS)
FX_EACH_REAL(FX_NORM, batch_norm_sums_columns, FX_THREADS)
FX_EACH_REAL(FX_NORM, batch_norm_apply_rows, 1)
FX_EACH_REAL(FX_NORM, batch_norm_apply_columns, FX_THREADS)

extern "C" __global__ void __launch_bounds__(FX_THREADS) batch_norm_settle(const __grid_constant__ fx_norm_args a) {
    __shared__ __align__(16) unsigned char shared[24 * FX_THREADS];
    fx::settle_channels(a, shared);
}
FX_EXPORT(batch_norm_settle)
extern "C" __global__ void __launch_bounds__(FX_THREADS) batch_norm_gradients(const __grid_constant__ fx_norm_args a) {
    __shared__ __align__(16) unsigned char shared[16 * FX_THREADS];
    fx::merge_gradients(a, 1, shared);
}
FX_EXPORT(batch_norm_gradients)
