/* Where an index points to.  See fx/index_args.h. */
#ifndef FX_INDEXED_CUH
#define FX_INDEXED_CUH
#include "device.cuh"
#include "fault.cuh"
#include "fx/index_args.h"

namespace fx {

__device__ __forceinline__ int64_t first_element() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int64_t all_threads() { return int64_t(gridDim.x) * blockDim.x; }

/* n / by, n >= 0 and by > 0: in 32 bits where that will do. */
__device__ __forceinline__ int64_t quotient(int64_t n, int64_t by) {
    return (uint64_t(n) | uint64_t(by)) >> 32 ? n / by : int64_t(uint32_t(n) / uint32_t(by));
}

__device__ __forceinline__ int64_t offset_in(const fx_layout &l, int64_t i) {
    if (l.ndim == 1) return i * l.stride[0];
    int64_t at = 0;
    for (int d = 0; d < l.ndim; d++) {
        const int64_t rest = quotient(i, l.size[d]);
        at += (i - rest * l.size[d]) * l.stride[d];
        i = rest;
    }
    return at;
}

/* Element k of position p in y. */
__device__ __forceinline__ int64_t offset_in_y(int64_t p, int64_t k, int64_t m, int64_t q, int64_t inner) {
    if (inner == q) return p * q + k;
    const int64_t before = quotient(k, inner);
    return (before * m + p) * inner + (k - before * inner);
}

/* False, and reported, when an index of position p is out of range. */
__device__ __forceinline__ bool locate(const fx_index_args &a, int64_t p, int64_t *offset, int64_t *key) {
    const int64_t base = a.base.ndim ? offset_in(a.base, p) : 0;
    *offset = *key = base;
    for (int j = 0; j < a.k; j++) {
        int64_t v = a.index[j][p];
        const int64_t size = a.size[j];
        if (v < (a.wrap ? -size : 0) || v >= size) {
            fx_report(static_cast<fx_fault *>(a.fault), FX_FAULT_INDEX, a.kernel, v, size);
            return false;
        }
        v += v < 0 ? size : 0;
        *offset += v * a.stride[j];
        *key += v * a.key_stride[j];
    }
    return true;
}

} // namespace fx
#endif
