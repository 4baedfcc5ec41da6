/* Optimiser steps, gradient norm and scaling over many tensors in one launch.  Formulae and order of operations as in
 * ferrox/_core/cpu/optim.pyx. */
#include "device.cuh"
#include "fx/abi.h"
#include "fx/half.h"
#include "fx/step_args.h"

namespace fx {

template <class T> struct alignas(16) sixteen {
    T v[16 / sizeof(T)];
};

template <class R> __device__ __forceinline__ R load_as(const void *p, int dtype, int64_t i) {
    R x{};
    switch (dtype) {
#define FX_CASE(code, suffix, name, type, ...) \
    case FX_##code: convert_to(&x, static_cast<const type *>(p)[i]); break;
        FX_EACH_FLOATING(FX_CASE)
#undef FX_CASE
    }
    return x;
}
template <class R> __device__ __forceinline__ void store_as(void *p, int dtype, int64_t i, R x) {
    switch (dtype) {
#define FX_CASE(code, suffix, name, type, ...) \
    case FX_##code: convert_to(static_cast<type *>(p) + i, x); break;
        FX_EACH_FLOATING(FX_CASE)
#undef FX_CASE
    }
}

/* The tensor that a block belongs to. */
__device__ __forceinline__ int tensor_of(const uint32_t *first_block, int count, uint32_t block) {
    int low = 0, high = count; /* first_block[low] <= block < first_block[high] */
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (first_block[middle] <= block)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* One element: x[0] the parameter, x[1] the gradient, the rest state. */
template <class R> struct sgd_rule {
    static constexpr int width = 3;
    R step, sign, decay, momentum, fresh;
    bool l2, nesterov, first, has_state;
    __device__ __forceinline__ sgd_rule(const fx_step_args &a, int tensor)
        : step(R(a.factor[FX_STEP_SIZE])), sign(R(a.factor[FX_STEP_SIGN])), decay(R(a.factor[FX_STEP_WEIGHT])),
          momentum(R(a.factor[FX_SGD_MOMENTUM])), fresh(R(a.factor[FX_SGD_FRESH])), l2(a.flags & FX_STEP_DECAY),
          nesterov(a.flags & FX_STEP_NESTEROV), first(a.flags & FX_STEP_FIRST), has_state(a.data[tensor][2]) {}
    __device__ __forceinline__ void apply(R *x) const {
        R d = sign * x[1];
        if (l2) d += decay * x[0];
        if (!has_state) {
            x[0] += step * d;
            return;
        }
        const R b = first ? d : x[2] * momentum + fresh * d;
        x[2] = b;
        x[0] += step * (nesterov ? d + momentum * b : b);
    }
};

template <class R> struct adam_rule {
    static constexpr int width = 5;
    R step, sign, decay, shrink, fresh1, kept1, fresh2, kept2, root, eps;
    bool l2, near, amsgrad;
    __device__ __forceinline__ adam_rule(const fx_step_args &a, int tensor)
        : step(R(a.live ? a.live[FX_LIVE_SIZE] : a.factor[FX_STEP_SIZE])), sign(R(a.factor[FX_STEP_SIGN])),
          decay(R(a.factor[FX_STEP_WEIGHT])), shrink(R(a.live ? a.live[FX_LIVE_SHRINK] : a.factor[FX_ADAM_SHRINK])),
          fresh1(R(a.factor[FX_ADAM_FRESH1])), kept1(R(1) - fresh1), fresh2(R(a.factor[FX_ADAM_FRESH2])),
          kept2(R(a.factor[FX_ADAM_KEPT2])), root(R(a.live ? a.live[FX_LIVE_ROOT] : a.factor[FX_ADAM_ROOT])),
          eps(R(a.factor[FX_ADAM_EPS])), l2(a.flags & FX_STEP_DECAY), near(a.flags & FX_STEP_NEAR),
          amsgrad(a.data[tensor][4]) {}
    __device__ __forceinline__ void apply(R *x) const {
        const R w = x[0] * shrink;
        R d = sign * x[1];
        if (l2) d += decay * w;
        const R m = near ? x[2] + fresh1 * (d - x[2]) : d - (d - x[2]) * kept1;
        R u = x[3] * kept2 + fresh2 * d * d;
        x[2] = m;
        x[3] = u;
        if (amsgrad) {
            u = u < x[4] || x[4] != x[4] ? x[4] : u;
            x[4] = u;
        }
        x[0] = w + step * m / (sqrt(u) / root + eps);
    }
};

template <class R, class Rule> __device__ __forceinline__ void step(const fx_step_args &a) {
    constexpr int width = 16 / int(sizeof(R));
    const int t = tensor_of(a.first_block, a.count, blockIdx.x);
    const Rule rule(a, t);
    const int64_t begin = int64_t(blockIdx.x - a.first_block[t]) * FX_STEP_CHUNK;
    const int64_t end = begin + FX_STEP_CHUNK < a.numel[t] ? begin + FX_STEP_CHUNK : a.numel[t];
    if (a.direct[t]) {
        for (int64_t i = begin + threadIdx.x * width; i < end; i += 256 * width) {
            sixteen<R> x[Rule::width];
            const bool whole = i + width <= end;
#pragma unroll
            for (int k = 0; k < Rule::width; k++) {
                if (!a.data[t][k]) continue;
                const R *from = static_cast<const R *>(a.data[t][k]) + i;
                if (whole) {
                    x[k] = *reinterpret_cast<const sixteen<R> *>(from);
                } else {
#pragma unroll
                    for (int j = 0; j < width; j++)
                        if (i + j < end) x[k].v[j] = from[j];
                }
            }
#pragma unroll
            for (int j = 0; j < width; j++) {
                R one[Rule::width];
#pragma unroll
                for (int k = 0; k < Rule::width; k++) one[k] = x[k].v[j];
                rule.apply(one);
#pragma unroll
                for (int k = 0; k < Rule::width; k++) x[k].v[j] = one[k];
            }
#pragma unroll
            for (int k = 0; k < Rule::width; k++) {
                if (k == 1 || !a.data[t][k]) continue;
                R *to = static_cast<R *>(a.data[t][k]) + i;
                if (whole) {
                    *reinterpret_cast<sixteen<R> *>(to) = x[k];
                } else {
#pragma unroll
                    for (int j = 0; j < width; j++)
                        if (i + j < end) to[j] = x[k].v[j];
                }
            }
        }
        return;
    }
    for (int64_t i = begin + threadIdx.x; i < end; i += 256) {
        R one[Rule::width];
#pragma unroll
        for (int k = 0; k < Rule::width; k++) one[k] = a.data[t][k] ? load_as<R>(a.data[t][k], a.dtype[t][k], i) : R(0);
        rule.apply(one);
#pragma unroll
        for (int k = 0; k < Rule::width; k++)
            if (k != 1 && a.data[t][k]) store_as<R>(a.data[t][k], a.dtype[t][k], i, one[k]);
    }
}

__device__ __forceinline__ void count_step(const fx_count_args &a) {
    const double count = load_as<double>(a.count, a.count_dtype, 0) + 1;
    const double lr = a.lr_there ? load_as<double>(a.lr_there, a.lr_dtype, 0) : a.lr;
    store_as<double>(a.count, a.count_dtype, 0, count);
    a.live[FX_LIVE_SIZE] = -lr / (1 - pow(a.beta1, count));
    a.live[FX_LIVE_SHRINK] = 1 - lr * a.decay;
    a.live[FX_LIVE_ROOT] = sqrt(1 - pow(a.beta2, count));
}

template <class R> __device__ __forceinline__ void scale(const fx_list_args &a) {
    const int t = tensor_of(a.first_block, a.count, blockIdx.x), dtype = a.dtype[t];
    const int64_t begin = int64_t(blockIdx.x - a.first_block[t]) * FX_LIST_CHUNK;
    const int64_t end = begin + FX_LIST_CHUNK < a.numel[t] ? begin + FX_LIST_CHUNK : a.numel[t];
    const R factor = a.factor ? R(load_as<double>(a.factor, a.factor_dtype, 0)) : R(a.p);
    constexpr int width = 16 / int(sizeof(R));
    int64_t i = begin + threadIdx.x;
    if (dtype == fx::dtype<R>::code && reinterpret_cast<uintptr_t>(a.data[t]) % 16 == 0) {
        sixteen<R> *x = reinterpret_cast<sixteen<R> *>(static_cast<R *>(a.data[t]) + begin);
        const int64_t whole = (end - begin) / width;
        for (int64_t j = threadIdx.x; j < whole; j += 256) {
            sixteen<R> y = x[j];
#pragma unroll
            for (int k = 0; k < width; k++) y.v[k] *= factor;
            x[j] = y;
        }
        i += whole * width;
    }
    for (; i < end; i += 256) store_as<R>(a.data[t], dtype, i, load_as<R>(a.data[t], dtype, i) * factor);
}

/* Of a norm, before the root is taken: NaN wins. */
__device__ __forceinline__ double join(int kind, double s, double v) {
    if (kind == FX_NORM_MAX) return v > s || v != v ? v : s;
    if (kind == FX_NORM_MIN) return v < s || v != v ? v : s;
    return s + v;
}
__device__ __forceinline__ double start(int kind) { return kind == FX_NORM_MIN ? ieee<double>::infinity : 0; }
__device__ __forceinline__ double term(int kind, double x, double p) {
    const double v = absolute(x);
    return kind == FX_NORM_2 ? v * v : kind == FX_NORM_P ? pow(v, p) : v;
}
/* Over the 256 threads of a block; the result is that of thread 0. */
__device__ __forceinline__ double join_block(int kind, double s) {
    FX_DYNAMIC_SHARED(double, warps);
#pragma unroll
    for (int other = 16; other > 0; other /= 2) s = join(kind, s, __shfl_xor_sync(0xffffffffu, s, other));
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = s;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int w = 1; w < 8; w++) s = join(kind, s, warps[w]);
    return s;
}

template <class R> __device__ __forceinline__ void norm(const fx_list_args &a) {
    const int t = tensor_of(a.first_block, a.count, blockIdx.x), dtype = a.dtype[t];
    const int64_t begin = int64_t(blockIdx.x - a.first_block[t]) * FX_LIST_CHUNK;
    const int64_t end = begin + FX_LIST_CHUNK < a.numel[t] ? begin + FX_LIST_CHUNK : a.numel[t];
    constexpr int width = 16 / int(sizeof(R));
    const bool direct = dtype == fx::dtype<R>::code && reinterpret_cast<uintptr_t>(a.data[t]) % 16 == 0;
    double s[width];
#pragma unroll
    for (int k = 0; k < width; k++) s[k] = start(a.kind);
#pragma unroll 4
    for (int64_t i = begin + threadIdx.x * width; i < end; i += 256 * width) {
        if (direct && i + width <= end) {
            const sixteen<R> x = *reinterpret_cast<const sixteen<R> *>(static_cast<const R *>(a.data[t]) + i);
#pragma unroll
            for (int k = 0; k < width; k++) s[k] = join(a.kind, s[k], term(a.kind, double(x.v[k]), a.p));
        } else {
#pragma unroll
            for (int k = 0; k < width; k++)
                if (i + k < end)
                    s[k] = join(a.kind, s[k], term(a.kind, double(load_as<R>(a.data[t], dtype, i + k)), a.p));
        }
    }
#pragma unroll
    for (int k = 1; k < width; k++) s[0] = join(a.kind, s[0], s[k]);
    const double all = join_block(a.kind, s[0]);
    if (threadIdx.x == 0) a.sums[blockIdx.x] = all;
}

__device__ __forceinline__ void norm_of_sums(const fx_list_args &a) {
    double s = start(a.kind);
    for (int64_t i = threadIdx.x; i < a.n_sums; i += 256) s = join(a.kind, s, a.sums[i]);
    s = join_block(a.kind, s);
    if (threadIdx.x) return;
    if (a.n_sums == 0) s = 0;
    if (a.kind == FX_NORM_2) s = sqrt(s);
    if (a.kind == FX_NORM_P) s = pow(s, 1 / a.p);
    store_as<double>(a.norm, a.norm_dtype, 0, s);
}

} // namespace fx

#define FX_OVER_TENSORS(name, args, ...)                                                                           \
    extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ args a) { fx::__VA_ARGS__(a); } \
    FX_EXPORT(name)
FX_OVER_TENSORS(sgd_f32, fx_step_args, step<float, fx::sgd_rule<float>>)
FX_OVER_TENSORS(sgd_f64, fx_step_args, step<double, fx::sgd_rule<double>>)
FX_OVER_TENSORS(adam_f32, fx_step_args, step<float, fx::adam_rule<float>>)
FX_OVER_TENSORS(adam_f64, fx_step_args, step<double, fx::adam_rule<double>>)
FX_OVER_TENSORS(adam_count, fx_count_args, count_step)
FX_OVER_TENSORS(scale_f32, fx_list_args, scale<float>)
FX_OVER_TENSORS(scale_f64, fx_list_args, scale<double>)
FX_OVER_TENSORS(norm_f32, fx_list_args, norm<float>)
FX_OVER_TENSORS(norm_f64, fx_list_args, norm<double>)
FX_OVER_TENSORS(norm_finish, fx_list_args, norm_of_sums)
