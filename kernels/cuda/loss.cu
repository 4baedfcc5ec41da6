/* Cross-entropy and negative log-likelihood over classes, per sample, and their gradients.
 *
 * x is [outer, n classes, inner]; samples are numbered along outer, then inner.  A target that is no class is
 * reported and counts as ignored.
 */
#include "fault.cuh"
#include "fx/rows_args.h"
#include "rows.cuh"

namespace fx {

__device__ __forceinline__ double class_weight(const fx_loss_args &a, int64_t k) {
    return a.weight ? load_by_dtype<double>(a.weight, k, a.weight_dtype) : 1.0;
}
/* The target of a sample, -1 where it is ignored. */
__device__ __forceinline__ int64_t target_of(const fx_loss_args &a, int64_t sample, bool report) {
    const int64_t k = a.target[sample];
    if (k == a.ignored) return -1;
    if (k >= 0 && k < a.n) return k;
    if (report) fx_report(static_cast<fx_fault *>(a.fault), FX_FAULT_TARGET, a.kernel, k, a.n);
    return -1;
}
__device__ __forceinline__ double weight_total(const fx_loss_args &a) {
    return a.all_weights ? *a.all_weights : double(a.n);
}

/* Of the logits of a sample: what log_sum keeps, and the sum of weight * logit. */
template <class T> struct loss_state {
    exponentials<T> exps;
    double weighted;
};
struct join_losses {
    template <class T> __device__ __forceinline__ T operator()(const T &x, const T &y) const {
        return {log_sum::merge(x.exps, y.exps), x.weighted + y.weighted};
    }
};
template <class T> __device__ __forceinline__ loss_state<T> no_loss() { return {log_sum::start<T>(), 0}; }

template <class T>
__device__ __forceinline__ void finish_loss(const fx_loss_args &a, const loss_state<T> &s, int64_t sample,
                                            double picked, int64_t k) {
    const double top = s.exps.top, log_of_sum = top - top == 0 ? fx::log(s.exps.sum) : not_a_number<double>();
    double weight = 0, loss = 0;
    if (k >= 0) {
        weight = class_weight(a, k);
        loss = weight * (log_of_sum - (picked - top));
        if (a.smoothing != 0) {
            const double all = weight_total(a);
            loss = (1 - a.smoothing) * loss + a.smoothing / double(a.n) * (all * log_of_sum - (s.weighted - top * all));
        }
    }
    store_by(a.out, sample, a.out_dtype, loss);
    store_by(a.lse, sample, a.lse_dtype, top + log_of_sum);
    if (a.sample_weight) store_by(a.sample_weight, sample, a.sample_weight_dtype, weight);
}

/* What a thread has of a row: every 16 * group-th block from `first` on. */
template <class S, class T>
__device__ __forceinline__ void add_losses(const fx_loss_args &a, loss_state<T> &s, const S *p, int64_t first,
                                           int64_t end, int group) {
    const bool aligned = is_aligned<S, 4>(p);
    T x[16];
#pragma unroll 1
    for (int64_t i = first; i < end; i += 16 * group) {
        const int m = load_block(x, p, i, 4 * group, end, aligned);
        log_sum::add(s.exps, x, m);
        if (a.smoothing != 0) {
#pragma unroll
            for (int j = 0; j < 16; j++) {
                const int64_t c = i + j / 4 * (4 * group) + j % 4;
                if (c < end) s.weighted += class_weight(a, c) * double(x[j]);
            }
        }
    }
}
template <class S, class T>
__device__ __forceinline__ void finish_row(const fx_loss_args &a, const loss_state<T> &s, const S *p, int64_t row) {
    const int64_t k = target_of(a, row, true);
    finish_loss(a, s, row, k >= 0 ? to<double>(p[k]) : 0.0, k);
}

template <class S> __device__ __forceinline__ void cross_entropy_rows(const fx_loss_args &a, void *shared) {
    using T = computed<S>;
    const int group = a.group, lane = threadIdx.x & (group - 1);
    each_row(a.outer, group, [&](int64_t row) {
        const bool live = row < a.outer;
        const S *p = static_cast<const S *>(a.x) + (live ? row * a.n : 0);
        loss_state<T> s = no_loss<T>();
        add_losses(a, s, p, 4 * lane, live ? a.n : 0, group);
        s = row_reduce(s, join_losses(), group, static_cast<loss_state<T> *>(shared));
        if (live && lane == 0) finish_row(a, s, p, row);
    });
}

template <class S> __device__ __forceinline__ void cross_entropy_long(const fx_loss_args &a, void *shared) {
    using T = computed<S>;
    using State = loss_state<T>;
    const S *x = static_cast<const S *>(a.x);
    each_long_row(
        a.outer, a.n, a.pieces, no_loss<T>(), static_cast<State *>(shared), join_losses(),
        [&](State &s, int64_t row, int64_t first, int64_t end) {
            add_losses(a, s, x + row * a.n, first, end, FX_THREADS);
        },
        [&](const State &s, int64_t row, int64_t first, int64_t) {
            if (first == 0) finish_row(a, s, x + row * a.n, row);
        });
}

template <class S> __device__ __forceinline__ void cross_entropy_columns(const fx_loss_args &a, void *shared) {
    using T = computed<S>;
    const S *p = static_cast<const S *>(a.x);
    each_column(
        a.outer, a.n, a.inner, a.n, a.group, no_loss<T>(), static_cast<loss_state<T> *>(shared),
        [&](loss_state<T> &s, int64_t at, int64_t c, int64_t) {
            const T x[1] = {to<T>(p[at])};
            log_sum::add(s.exps, x, 1);
            if (a.smoothing != 0) s.weighted += class_weight(a, c) * double(x[0]);
        },
        join_losses(),
        [&](const loss_state<T> &s, const column_share &c) {
            if (!c.leads) return;
            const int64_t sample = c.piece * a.inner + c.column, k = target_of(a, sample, true);
            finish_loss(a, s, sample, k >= 0 ? to<double>(p[c.base + k * a.inner]) : 0.0, k);
        });
}

/* dlogits[c] = on_p exp(logits[c] - lse) - on_class weight[c] - (on_target where c is the target) */
template <class T> struct loss_slopes {
    T lse, on_p, on_target, on_class;
    int64_t target;
};
template <class T> __device__ __forceinline__ loss_slopes<T> slopes_of(const fx_loss_args &a, int64_t sample) {
    loss_slopes<T> s{};
    s.target = target_of(a, sample, false);
    if (s.target < 0) return s;
    const double g = load_by_dtype<double>(a.g, sample, a.g_dtype);
    const double on_target = g * (1 - a.smoothing) * class_weight(a, s.target);
    const double on_class = g * a.smoothing / double(a.n);
    s.lse = T(load_by_dtype<double>(a.lse, sample, a.lse_dtype));
    s.on_target = T(on_target);
    s.on_class = T(on_class);
    s.on_p = T(a.smoothing != 0 ? on_target + on_class * weight_total(a) : on_target);
    return s;
}
template <class T>
__device__ __forceinline__ T loss_slope(const fx_loss_args &a, const loss_slopes<T> &s, T x, int64_t c) {
    if (s.target < 0) return 0; /* whatever the logits: NaN times 0 is not 0 */
    T slope = fx::exp(x - s.lse) * s.on_p;
    if (s.on_class != 0) slope -= s.on_class * T(class_weight(a, c));
    return c == s.target ? slope - s.on_target : slope;
}

template <class S> __device__ __forceinline__ void cross_entropy_backward_rows(const fx_loss_args &a, void *) {
    using T = computed<S>;
    const int group = a.group, lane = threadIdx.x & (group - 1), step = 4 * group;
    each_row(a.outer * a.pieces.count, group, [&](int64_t task) {
        const int64_t row = task / a.pieces.count, begin = (task - row * a.pieces.count) * a.pieces.size;
        if (row >= a.outer) return;
        const int64_t end = a.n - begin < a.pieces.size ? a.n : begin + a.pieces.size;
        const S *p = static_cast<const S *>(a.x) + row * a.n;
        S *o = static_cast<S *>(a.out) + row * a.n;
        const loss_slopes<T> s = slopes_of<T>(a, row);
        T x[16];
#pragma unroll 1
        for (int64_t i = begin + 4 * lane; i < end; i += 4 * step) {
            load_block(x, p, i, step, end, is_aligned<S, 4>(p));
#pragma unroll
            for (int j = 0; j < 16; j++) {
                const int64_t c = i + j / 4 * step + j % 4;
                if (c < end) x[j] = loss_slope(a, s, x[j], c);
            }
            store_block(x, o, i, step, end, is_aligned<S, 4>(o));
        }
    });
}

template <class S> __device__ __forceinline__ void cross_entropy_backward_columns(const fx_loss_args &a, void *shared) {
    using T = computed<S>;
    const S *p = static_cast<const S *>(a.x);
    S *o = static_cast<S *>(a.out);
    each_column(
        a.outer, a.n, a.inner, a.n, a.group, 0.0f, static_cast<float *>(shared),
        [](float &, int64_t, int64_t, int64_t) {}, add_values(),
        [&](float, const column_share &c) {
            const loss_slopes<T> s = slopes_of<T>(a, c.piece * a.inner + c.column);
            for (int64_t r = c.first; r < c.last; r += c.step)
                o[c.base + r * a.inner] = to<S>(loss_slope(a, s, to<T>(p[c.base + r * a.inner]), r));
        });
}

/* One thread for each sample. */
template <class Each> __device__ __forceinline__ void each_sample(const fx_loss_args &a, const Each &each) {
    const int64_t samples = a.outer * a.inner;
    for (int64_t r = int64_t(blockIdx.x) * FX_THREADS + threadIdx.x; r < samples;
         r += int64_t(gridDim.x) * FX_THREADS) {
        const int64_t k = target_of(a, r, true), outer = r / a.inner;
        each(r, k, (outer * a.n + k) * a.inner + (r - outer * a.inner));
    }
}

} // namespace fx

#define FX_LOSS(suffix, type, name, slots)                         \
    extern "C" __global__ void __launch_bounds__(FX_THREADS)       \
        name##_##suffix(const __grid_constant__ fx_loss_args a) {  \
        __shared__ __align__(16) unsigned char shared[24 * slots]; \
        fx::name<type>(a, shared);                                 \
    }                                                              \
    FX_EXPORT(name##_##suffix)
FX_EACH_REAL(FX_LOSS, cross_entropy_rows, FX_SLOTS)
FX_EACH_REAL(FX_LOSS, cross_entropy_long, FX_SLOTS)
FX_EACH_REAL(FX_LOSS, cross_entropy_columns, FX_THREADS)
FX_EACH_REAL(FX_LOSS, cross_entropy_backward_rows, 1)
FX_EACH_REAL(FX_LOSS, cross_entropy_backward_columns, FX_THREADS)

/* The sum of the weights, to out; one block. */
extern "C" __global__ void __launch_bounds__(FX_THREADS) class_weights(const __grid_constant__ fx_loss_args a) {
    __shared__ double shared[FX_SLOTS];
    double sum = 0;
    for (int64_t c = threadIdx.x; c < a.n; c += FX_THREADS) sum += fx::class_weight(a, c);
    sum = fx::block_reduce(sum, fx::add_values(), shared);
    if (threadIdx.x == 0) *static_cast<double *>(a.out) = sum;
}
FX_EXPORT(class_weights)

/* out_dtype is that of the losses, lse_dtype that of x. */
extern "C" __global__ void __launch_bounds__(FX_THREADS) nll(const __grid_constant__ fx_loss_args a) {
    fx::each_sample(a, [&](int64_t r, int64_t k, int64_t at) {
        const double weight = k >= 0 ? fx::class_weight(a, k) : 0;
        fx::store_by(a.out, r, a.out_dtype, k >= 0 ? -weight * fx::load_by_dtype<double>(a.x, at, a.lse_dtype) : 0.0);
        if (a.sample_weight) fx::store_by(a.sample_weight, r, a.sample_weight_dtype, weight);
    });
}
FX_EXPORT(nll)
/* Into zeros. */
extern "C" __global__ void __launch_bounds__(FX_THREADS) nll_backward(const __grid_constant__ fx_loss_args a) {
    fx::each_sample(a, [&](int64_t r, int64_t k, int64_t at) {
        if (k >= 0)
            fx::store_by(a.out, at, a.out_dtype,
                         -fx::load_by_dtype<double>(a.g, r, a.g_dtype) * fx::class_weight(a, k));
    });
}
FX_EXPORT(nll_backward)
