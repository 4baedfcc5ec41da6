/* Reductions and scans over the threads of a warp and of a block, of any trivially copyable type, by any functor.
 *
 *     warp_reduce<width>(x, f)    over groups of `width` neighbouring lanes; every lane gets the result
 *     block_reduce(x, f, slots)   over a block; every thread gets the result
 *     warp_scan(x, f)             lane i gets f over lanes 0 to i
 *     block_scan(x, f, slots)     thread i gets f over threads 0 to i; the total of the block is left in slots[32]
 *
 * Blocks are one-dimensional, of whole warps.  `slots` is shared memory of FX_SLOTS of T; it may be used again by the
 * next call at once.  Every thread of the warp or block has to call.  The trees are fixed: the same bits every time.
 * f(x, y) is associative; x comes before y, by lanes, so that it need not be commutative.
 */
#ifndef FX_BLOCK_CUH
#define FX_BLOCK_CUH
#include "device.cuh"
#include <stdint.h>
#include <string.h>

#define FX_SLOTS 33

namespace fx {

enum : unsigned { EVERY_LANE = 0xffffffffu };

struct add_values {
    template <class T> __device__ __forceinline__ T operator()(T x, T y) const { return x + y; }
};
/* NaN wins. */
struct greater_value {
    template <class T> __device__ __forceinline__ T operator()(T x, T y) const { return x > y || x != x ? x : y; }
};
struct lesser_value {
    template <class T> __device__ __forceinline__ T operator()(T x, T y) const { return x < y || x != x ? x : y; }
};

/* Lanes exchange words of 8 or 4 bytes; smaller types are widened. */
template <class Word, class T, class Exchange> __device__ __forceinline__ T exchange_words(T x, Exchange exchange) {
    constexpr int n = int((sizeof(T) + sizeof(Word) - 1) / sizeof(Word));
    Word words[n] = {};
    memcpy(words, &x, sizeof x);
#pragma unroll
    for (int i = 0; i < n; i++) words[i] = exchange(words[i]);
    memcpy(&x, words, sizeof x);
    return x;
}
template <class T, class Exchange> __device__ __forceinline__ T exchanged(T x, Exchange exchange) {
    if constexpr (sizeof(T) % 8 == 0)
        return exchange_words<unsigned long long>(x, exchange);
    else
        return exchange_words<unsigned>(x, exchange);
}
struct exchange_xor {
    int by;
    template <class W> __device__ __forceinline__ W operator()(W w) const { return __shfl_xor_sync(EVERY_LANE, w, by); }
};
struct exchange_up {
    int by;
    template <class W> __device__ __forceinline__ W operator()(W w) const { return __shfl_up_sync(EVERY_LANE, w, by); }
};
struct exchange_from {
    int lane;
    template <class W> __device__ __forceinline__ W operator()(W w) const { return __shfl_sync(EVERY_LANE, w, lane); }
};
template <class T> __device__ __forceinline__ T shuffle_xor(T x, int by) { return exchanged(x, exchange_xor{by}); }
template <class T> __device__ __forceinline__ T shuffle_up(T x, int by) { return exchanged(x, exchange_up{by}); }
template <class T> __device__ __forceinline__ T shuffle_from(T x, int lane) {
    return exchanged(x, exchange_from{lane});
}

/* The width is a power of two, at most 32; it may differ between warps only. */
template <class T, class F> __device__ __forceinline__ T group_reduce(T x, F f, int width) {
    const int lane = threadIdx.x & 31;
    for (int by = 1; by < width; by *= 2) {
        const T other = shuffle_xor(x, by);
        x = lane & by ? f(other, x) : f(x, other);
    }
    return x;
}
template <int width = 32, class T, class F> __device__ __forceinline__ T warp_reduce(T x, F f) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int by = 1; by < width; by *= 2) {
        const T other = shuffle_xor(x, by);
        x = lane & by ? f(other, x) : f(x, other);
    }
    return x;
}

template <class T, class F> __device__ __forceinline__ T block_reduce(T x, F f, T *slots) {
    const int warps = int(blockDim.x) / 32;
    x = warp_reduce(x, f);
    if (warps == 1) return x;
    __syncthreads(); /* an earlier call's slots have been read */
    if ((threadIdx.x & 31) == 0) slots[threadIdx.x / 32] = x;
    __syncthreads();
    x = slots[0];
    for (int i = 1; i < warps; i++) x = f(x, slots[i]);
    return x;
}

template <class T, class F> __device__ __forceinline__ T warp_scan(T x, F f) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int by = 1; by < 32; by *= 2) {
        const T other = shuffle_up(x, by);
        if (lane >= by) x = f(other, x);
    }
    return x;
}

template <class T, class F> __device__ __forceinline__ T block_scan(T x, F f, T *slots) {
    const int warps = int(blockDim.x) / 32, warp = threadIdx.x / 32;
    x = warp_scan(x, f);
    __syncthreads(); /* an earlier call's slots have been read */
    if ((threadIdx.x & 31) == 31) slots[warp] = x;
    __syncthreads();
    T before = slots[0], total = slots[0];
    for (int i = 1; i < warps; i++) {
        if (i == warp) before = total;
        total = f(total, slots[i]);
    }
    if (warp) x = f(before, x);
    if (threadIdx.x == 0) slots[32] = total;
    __syncthreads();
    return x;
}

} // namespace fx
#endif
