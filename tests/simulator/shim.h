/* CUDA C++ for the host compiler: included before a .cu file, it makes of it a library of kernels for the simulator.
 *
 * Only what is asked for is here: a kernel that uses more does not compile, and the missing piece is added.
 * __shared__ variables are static: one block runs at a time.
 */
#ifndef FX_SIM_SHIM_H
#define FX_SIM_SHIM_H
#include "machine.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <type_traits>
#include <utility>
#include <vector>

#define FX_SIMULATED 1
#define __global__ __attribute__((visibility("default")))
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("fx_shared")))
#define FX_DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(::sim::here.dynamic_shared)

#define threadIdx (::sim::here.thread)
#define blockIdx (::sim::here.block)
#define blockDim (::sim::here.block_dim)
#define gridDim (::sim::here.grid_dim)
#define warpSize 32
#undef assert
#define assert(truth) ((truth) ? (void)0 : ::sim::fail(710, "assertion " #truth))

/* Registration. */
namespace {
std::vector<sim::kernel> &sim_kernels() {
    static std::vector<sim::kernel> kernels;
    return kernels;
}
} // namespace
namespace sim {
template <class... A> struct signature {
    static inline const int sizes[] = {int(sizeof(A))..., 0};
    template <void (*f)(A...), size_t... i> static void call(void **args, std::index_sequence<i...>) {
        f(*static_cast<std::remove_const_t<A> *>(args[i])...);
    }
    template <void (*f)(A...)> static void invoke(void **args) { call<f>(args, std::index_sequence_for<A...>()); }
    template <void (*f)(A...)> static kernel describe(const char *name) {
        return {name, &invoke<f>, sizes, int(sizeof...(A))};
    }
};
template <class... A> signature<A...> signature_of(void (*)(A...));
} // namespace sim
#define FX_EXPORT(name)                                  \
    [[maybe_unused]] static const bool name##_exported = \
        (sim_kernels().push_back(decltype(sim::signature_of(&name))::describe<&name>(#name)), true);
extern char __start_fx_shared[] __attribute__((weak)), __stop_fx_shared[] __attribute__((weak));
extern "C" __attribute__((visibility("default"), used)) const sim::kernel *sim_table(int *count) {
    *count = int(sim_kernels().size());
    return sim_kernels().data();
}
extern "C" __attribute__((visibility("default"), used)) void sim_shared(char **start, char **stop) {
    *start = __start_fx_shared;
    *stop = __stop_fx_shared;
}

/* Vectors. */
#define FX_SIM_VECTOR(type, name)                                           \
    struct alignas(2 * sizeof(type)) name##2 { type x, y; };                \
    struct name##3 { type x, y, z; };                                       \
    struct alignas(4 * sizeof(type)) name##4 { type x, y, z, w; };          \
    static inline name##2 make_##name##2(type x, type y) { return {x, y}; } \
    static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
FX_SIM_VECTOR(float, float)
FX_SIM_VECTOR(int, int)
FX_SIM_VECTOR(unsigned, uint)
FX_SIM_VECTOR(short, short)
FX_SIM_VECTOR(unsigned short, ushort)
struct alignas(16) double2 {
    double x, y;
};
struct alignas(16) longlong2 {
    long long x, y;
};
struct alignas(16) ulonglong2 {
    unsigned long long x, y;
};

/* Barriers, votes, shuffles. */
static inline void __syncthreads() { ::sim::barrier(); }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { ::sim::gather(mask, 0); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}
static inline void __trap() { ::sim::fail(719, "__trap()"); }
static inline void __nanosleep(unsigned) {}
static inline unsigned __activemask() { return ::sim::active_lanes(); }

static inline unsigned __ballot_sync(unsigned mask, int truth) {
    const uint64_t *all = ::sim::gather(mask, truth != 0);
    unsigned votes = 0;
    for (int lane = 0; lane < 32; lane++) votes |= (mask >> lane & 1) && all[lane] ? 1u << lane : 0;
    return votes;
}
static inline int __any_sync(unsigned mask, int truth) { return __ballot_sync(mask, truth) != 0; }
static inline int __all_sync(unsigned mask, int truth) { return __ballot_sync(mask, truth) == mask; }
template <class T> static inline uint64_t sim_bits(T x) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "a lane exchanges up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &x, sizeof x);
    return bits;
}
template <class T> static inline T sim_from(uint64_t bits) {
    T x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
/* The value of a lane outside the mask is undefined: it is poison here. */
template <class T> static inline T sim_lane(unsigned mask, T x, int source) {
    const uint64_t *all = ::sim::gather(mask, sim_bits(x));
    return sim_from<T>(mask >> source & 1 ? all[source] : ~uint64_t(0));
}
template <class T> static inline T __shfl_sync(unsigned mask, T x, int source, int width = 32) {
    return sim_lane(mask, x, (::sim::here.lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T x, int other, int width = 32) {
    const int lane = ::sim::here.lane, source = lane ^ other;
    return sim_lane(mask, x, source > (lane | (width - 1)) ? lane : source);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = 32) {
    const int lane = ::sim::here.lane, source = lane + int(by);
    return sim_lane(mask, x, source > (lane | (width - 1)) ? lane : source);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32) {
    const int lane = ::sim::here.lane, source = lane - int(by);
    return sim_lane(mask, x, source < (lane & ~(width - 1)) ? lane : source);
}
template <class T> static inline unsigned __match_any_sync(unsigned mask, T x) {
    const uint64_t mine = sim_bits(x), *all = ::sim::gather(mask, mine);
    unsigned same = 0;
    for (int lane = 0; lane < 32; lane++) same |= (mask >> lane & 1) && all[lane] == mine ? 1u << lane : 0;
    return same;
}
#define FX_SIM_REDUCE(name, type, step)                                \
    static inline type __reduce_##name##_sync(unsigned mask, type x) { \
        const uint64_t *all = ::sim::gather(mask, sim_bits(x));        \
        type r = x;                                                    \
        for (int lane = 0; lane < 32; lane++)                          \
            if (lane != ::sim::here.lane && (mask >> lane & 1)) {      \
                const type y = sim_from<type>(all[lane]);              \
                r = step;                                              \
            }                                                          \
        return r;                                                      \
    }
FX_SIM_REDUCE(add, unsigned, r + y)
FX_SIM_REDUCE(add, int, int(unsigned(r) + unsigned(y)))
FX_SIM_REDUCE(min, unsigned, y < r ? y : r)
FX_SIM_REDUCE(min, int, y < r ? y : r)
FX_SIM_REDUCE(max, unsigned, y > r ? y : r)
FX_SIM_REDUCE(max, int, y > r ? y : r)
FX_SIM_REDUCE(and, unsigned, r &y)
FX_SIM_REDUCE(or, unsigned, r | y)
FX_SIM_REDUCE(xor, unsigned, r ^ y)
/* Every thread's truth goes through a word of shared memory. */
static inline int __syncthreads_count(int truth) {
    static int count;
    ::sim::barrier();
    count = 0;
    ::sim::barrier();
    count += truth != 0;
    ::sim::barrier();
    const int result = count;
    ::sim::barrier();
    return result;
}
static inline int __syncthreads_or(int truth) { return __syncthreads_count(truth) != 0; }
static inline int __syncthreads_and(int truth) { return __syncthreads_count(truth == 0) == 0; }

/* Atomics: threads take turns at barriers only. */
#define FX_SIM_ATOMIC(name, value)                                           \
    template <class T> static inline T name(T *p, std::common_type_t<T> x) { \
        const T old = *p;                                                    \
        *p = T(value);                                                       \
        return old;                                                          \
    }
FX_SIM_ATOMIC(atomicAdd, old + x)
FX_SIM_ATOMIC(atomicSub, old - x)
FX_SIM_ATOMIC(atomicMin, x < old ? x : old)
FX_SIM_ATOMIC(atomicMax, x > old ? x : old)
FX_SIM_ATOMIC(atomicAnd, old &x)
FX_SIM_ATOMIC(atomicOr, old | x)
FX_SIM_ATOMIC(atomicXor, old ^ x)
FX_SIM_ATOMIC(atomicExch, x)
FX_SIM_ATOMIC(atomicInc, old >= x ? 0 : old + 1)
template <class T> static inline T atomicCAS(T *p, std::common_type_t<T> expected, std::common_type_t<T> x) {
    const T old = *p;
    if (old == expected) *p = x;
    return old;
}

/* Loads, bits, arithmetic of the intrinsics. */
template <class T> static inline T __ldg(const T *p) { return *p; }
template <class T> static inline T __ldcs(const T *p) { return *p; }
template <class T> static inline T __ldcg(const T *p) { return *p; }
template <class T> static inline void __stcs(T *p, std::common_type_t<T> x) { *p = x; }
template <class T> static inline void __stcg(T *p, std::common_type_t<T> x) { *p = x; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
static inline uint64_t __umul64hi(uint64_t a, uint64_t b) { return uint64_t((unsigned __int128)a * b >> 64); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline unsigned __brev(unsigned x) {
    unsigned y = 0;
    for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i);
    return y;
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
    return unsigned((uint64_t(high) << 32 | low) << (by & 31) >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return unsigned((uint64_t(high) << 32 | low) >> (by & 31));
}
static inline int __float_as_int(float x) { return sim_from<int>(sim_bits(x)); }
static inline unsigned __float_as_uint(float x) { return sim_from<unsigned>(sim_bits(x)); }
static inline float __int_as_float(int x) { return sim_from<float>(sim_bits(x)); }
static inline float __uint_as_float(unsigned x) { return sim_from<float>(sim_bits(x)); }
static inline long long __double_as_longlong(double x) { return sim_from<long long>(sim_bits(x)); }
static inline double __longlong_as_double(long long x) { return sim_from<double>(sim_bits(x)); }
#define FX_SIM_ROUNDED(name, type, value) \
    static inline type name(type a, type b) { return value; }
FX_SIM_ROUNDED(__fadd_rn, float, a + b)
FX_SIM_ROUNDED(__fsub_rn, float, a - b)
FX_SIM_ROUNDED(__fmul_rn, float, a *b)
FX_SIM_ROUNDED(__fdiv_rn, float, a / b)
FX_SIM_ROUNDED(__dadd_rn, double, a + b)
FX_SIM_ROUNDED(__dsub_rn, double, a - b)
FX_SIM_ROUNDED(__dmul_rn, double, a *b)
FX_SIM_ROUNDED(__ddiv_rn, double, a / b)
FX_SIM_ROUNDED(__fdividef, float, a / b)
static inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
static inline float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
static inline double __dsqrt_rn(double x) { return __builtin_sqrt(x); }
static inline float rsqrtf(float x) { return 1.0f / __builtin_sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
#define __expf(x) (::expf(x)) /* glibc has functions of these names */
#define __logf(x) (::logf(x))
template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }
#endif
