/* The elementwise kernels over the lines of fx/elementwise.h.
 *
 * A .cu file defines the line macros it wants as FX_KERNELS(name, dtypes, arity) and includes fx/elementwise.h.  Each
 * line gives, by dtype, `name_dtype` (flat form, per storage dtype) and `name_dtype_strided` (per compute dtype:
 * float16 and bfloat16 are computed in float32 and served by its strided form).  See fx/elementwise_args.h.
 */
#ifndef FX_ELEMENTWISE_CUH
#define FX_ELEMENTWISE_CUH
#include "device.cuh"
#include "fault.cuh"
#include "fx/abi.h"
#include "fx/elementwise_args.h"
#include "fx/loops.h"

namespace fx {

template <class T> struct storage;
#define FX_STORAGE(code, suffix, name, type, category, ...)                                       \
    template <> struct storage<type> {                                                            \
        static constexpr int dtype = FX_##code;                                                   \
        using compute = std::conditional_t<FX_##category == FX_FLOATING, fx::sum_of<type>, type>; \
    };
FX_EACH_DTYPE(FX_STORAGE)
#undef FX_STORAGE

template <class T, int n> struct alignas(sizeof(T) * n) pack {
    T v[n];
};

/* A value of the compute dtype from the bits in the arguments. */
template <class T> __device__ __forceinline__ T from_value(uint64_t bits) {
    T x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Operators that have no value for an integer divided by zero: they give 0, and say so. */
template <class Op, class T> constexpr bool divides = false;
#define FX_DIVIDES(name) template <class T> constexpr bool divides<name##_op, T> = !fx::dtype<T>::floating;
FX_DIVIDES(floor_divide)
FX_DIVIDES(div_trunc)
FX_DIVIDES(remainder)
FX_DIVIDES(fmod)
#undef FX_DIVIDES

template <int arity> struct call;
template <> struct call<1> {
    template <class Op, class T> static __device__ __forceinline__ auto of(const Op &op, T x, T, T) {
        return op.apply(x);
    }
};
template <> struct call<2> {
    template <class Op, class T> static __device__ __forceinline__ auto of(const Op &op, T x, T y, T) {
        return op.apply(x, y);
    }
};
template <> struct call<3> {
    template <class Op, class T> static __device__ __forceinline__ auto of(const Op &op, T x, T y, T z) {
        return op.apply(x, y, z);
    }
};

template <class Op> __device__ __forceinline__ Op with_parameters(const fx_scalar *p) {
    Op op;
    for (int i = 0; i < 4; i++) op.p[i] = p[i];
    return op;
}

/* One 16-byte access per thread and operand (of small integers four elements: their kernels would grow for nothing).
 * The last, partial pack goes through the same arithmetic, so that a kernel holds it once. */
template <class Op, class S, class Out, int arity> __device__ __forceinline__ void flat(const fx_flat_args &a) {
    using T = typename storage<S>::compute;
    constexpr int width = sizeof(S) == 1 ? 4 : 16 / int(sizeof(S));
    const Op op = with_parameters<Op>(a.p);
    T single[3];
#pragma unroll
    for (int k = 0; k < arity; k++) {
        if (a.kind[k + 1] == FX_FROM_ELEMENT)
            convert_to(&single[k], *static_cast<const S *>(a.data[k + 1]));
        else
            single[k] = from_value<T>(a.value[k]);
    }
    const int64_t step = int64_t(gridDim.x) * blockDim.x * width;
    bool zero = false;
#pragma unroll 1
    for (int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * width; i < a.n; i += step) {
        const bool whole = i + width <= a.n;
        pack<S, width> in[3] = {};
        pack<Out, width> out;
#pragma unroll
        for (int k = 0; k < arity; k++) {
            if (a.kind[k + 1] != FX_FROM_ARRAY) continue;
            const S *from = static_cast<const S *>(a.data[k + 1]) + i;
            if (whole) {
                in[k] = *reinterpret_cast<const pack<S, width> *>(from);
            } else {
#pragma unroll
                for (int j = 0; j < width; j++)
                    if (i + j < a.n) in[k].v[j] = from[j];
            }
        }
#pragma unroll
        for (int j = 0; j < width; j++) {
            T x[3] = {};
#pragma unroll
            for (int k = 0; k < arity; k++) {
                if (a.kind[k + 1] == FX_FROM_ARRAY)
                    convert_to(&x[k], in[k].v[j]);
                else
                    x[k] = single[k];
            }
            if constexpr (divides<Op, T>)
                if (x[1] == T(0) && i + j < a.n) zero = true;
            convert_to(&out.v[j], call<arity>::of(op, x[0], x[1], x[2]));
        }
        Out *to = static_cast<Out *>(a.data[0]) + i;
        if (whole) {
            *reinterpret_cast<pack<Out, width> *>(to) = out;
        } else {
#pragma unroll
            for (int j = 0; j < width; j++)
                if (i + j < a.n) to[j] = out.v[j];
        }
    }
    if (zero) fx_report(static_cast<fx_fault *>(a.fault), FX_FAULT_DIVISION, a.kernel, 0, 0);
}

/* Casts that are rare stay out of line, so that a kernel does not hold a copy for every operand. */
template <class T> __device__ __noinline__ T load_cast(const char *p, int dtype) {
    T x{};
    switch (dtype) {
#define FX_CASE(code, suffix, name, type, ...) \
    case FX_##code: convert_to(&x, *reinterpret_cast<const type *>(p)); break;
        FX_EACH_DTYPE(FX_CASE)
#undef FX_CASE
    }
    return x;
}
__device__ __noinline__ static int64_t load_by(const char *p, int dtype, int by) {
    switch (by) {
#define FX_CASE(code, suffix, name, type, ...) \
    case FX_##code: return load_cast<type>(p, dtype);
        FX_EACH_BOOLEAN(FX_CASE) FX_EACH_INTEGRAL(FX_CASE)
#undef FX_CASE
    }
    return 0;
}
template <class T> __device__ __noinline__ void store_cast(char *p, int dtype, T x) {
    switch (dtype) {
#define FX_CASE(code, suffix, name, type, ...) \
    case FX_##code: convert_to(reinterpret_cast<type *>(p), x); break;
        FX_EACH_DTYPE(FX_CASE)
#undef FX_CASE
    }
}
template <class T> __device__ __forceinline__ T load(const char *p, int dtype, int by) {
    if constexpr (storage<T>::dtype == FX_I64)
        if (by != FX_I64) return load_by(p, dtype, by);
    if (dtype == storage<T>::dtype) return *reinterpret_cast<const T *>(p);
    if constexpr (storage<T>::dtype == FX_F32) {
        if (dtype == FX_F16) return float16_to_float(*reinterpret_cast<const uint16_t *>(p));
        if (dtype == FX_BF16) return bfloat16_to_float(*reinterpret_cast<const uint16_t *>(p));
    }
    return load_cast<T>(p, dtype);
}
/* What gives bool gives 0 or 1 as uint8_t. */
template <class T> __device__ __forceinline__ void store(char *p, int dtype, T x) {
    if (dtype == storage<T>::dtype || (sizeof(T) == 1 && dtype == FX_BOOL))
        *reinterpret_cast<T *>(p) = x;
    else
        store_cast<T>(p, dtype, x);
}
template <> __device__ __forceinline__ void store<float>(char *p, int dtype, float x) {
    if (dtype == FX_F32)
        *reinterpret_cast<float *>(p) = x;
    else if (dtype == FX_F16)
        *reinterpret_cast<uint16_t *>(p) = float_to_float16(x);
    else if (dtype == FX_BF16)
        *reinterpret_cast<uint16_t *>(p) = float_to_bfloat16(x);
    else
        store_cast<float>(p, dtype, x);
}

template <class Op, class T, int arity> __device__ __forceinline__ void strided(const fx_strided_args &a) {
    const Op op = with_parameters<Op>(a.p);
    const uint32_t step = gridDim.x * blockDim.x;
#pragma unroll 1
    for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < a.n; i += step) {
        int64_t at[4] = {};
        uint32_t rest = i;
#pragma unroll 1
        for (int d = 0; d < a.ndim; d++) {
            const uint32_t quotient = (__umulhi(rest, a.size[d].magic) + rest) >> a.size[d].shift;
            const uint32_t place = rest - quotient * a.size[d].divisor;
            rest = quotient;
#pragma unroll
            for (int k = 0; k <= arity; k++) at[k] += place * a.stride[d][k];
        }
        T x[3] = {};
#pragma unroll
        for (int k = 0; k < arity; k++)
            x[k] = a.kind[k + 1] == FX_FROM_VALUE ? from_value<T>(a.value[k])
                                                  : load<T>(a.data[k + 1] + at[k + 1], a.dtype[k + 1], a.cast[k + 1]);
        if constexpr (divides<Op, T>)
            if (x[1] == T(0)) fx_report(static_cast<fx_fault *>(a.fault), FX_FAULT_DIVISION, a.kernel, 0, 0);
        store(a.data[0] + at[0], a.dtype[0], call<arity>::of(op, x[0], x[1], x[2]));
    }
}

} // namespace fx

#define FX_FLAT(name, arity, suffix, type, out)                                                                 \
    extern "C" __global__ void __launch_bounds__(256) name##_##suffix(const __grid_constant__ fx_flat_args a) { \
        fx::flat<fx::name##_op, type, out, arity>(a);                                                           \
    }                                                                                                           \
    FX_EXPORT(name##_##suffix)
#define FX_STRIDED(name, arity, suffix, type)                                  \
    extern "C" __global__ void __launch_bounds__(256)                          \
        name##_##suffix##_strided(const __grid_constant__ fx_strided_args a) { \
        fx::strided<fx::name##_op, type, arity>(a);                            \
    }                                                                          \
    FX_EXPORT(name##_##suffix##_strided)
#define FX_BOTH(name, arity, suffix, type, out) \
    FX_FLAT(name, arity, suffix, type, out) FX_STRIDED(name, arity, suffix, type)

/* `out` is the type of the result in the flat form: FX_SAME or FX_TRUTH. */
#define FX_SAME(type) type
#define FX_TRUTH(type) uint8_t
#define FX_DTYPES_REAL(name, arity, out)                     \
    FX_BOTH(name, arity, f32, float, out(float))             \
    FX_BOTH(name, arity, f64, double, out(double))           \
    FX_FLAT(name, arity, f16, fx::float16, out(fx::float16)) \
    FX_FLAT(name, arity, bf16, fx::bfloat16, out(fx::bfloat16))
#define FX_DTYPES_INTEGER(name, arity, out)          \
    FX_FLAT(name, arity, u8, uint8_t, out(uint8_t))  \
    FX_FLAT(name, arity, i32, int32_t, out(int32_t)) \
    FX_BOTH(name, arity, i64, int64_t, out(int64_t))
#define FX_DTYPES_BITS FX_DTYPES_INTEGER
#define FX_DTYPES_NUMBER(name, arity, out) FX_DTYPES_REAL(name, arity, out) FX_DTYPES_INTEGER(name, arity, out)
#define FX_DTYPES_ANY FX_DTYPES_NUMBER
#endif
