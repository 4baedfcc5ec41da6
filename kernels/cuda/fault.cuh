/* fx_report: say that a value is wrong, once for each device until the host has looked (fx/fault.h). */
#ifndef FX_FAULT_CUH
#define FX_FAULT_CUH
#include "fx/fault.h"

__device__ static inline void fx_report(fx_fault *fault, int kind, int kernel, int64_t value, int64_t size) {
    /* The record lies in the host's memory: one look of a warp costs less than its lanes' exchanges, one by one. */
    if (!fault || *(volatile int *)&fault->kind) return;
    if (atomicCAS((int *)&fault->kind, 0, -1) == 0) {
        fault->kernel = kernel;
        fault->value = value;
        fault->size = size;
        __threadfence_system();
        *(volatile int *)&fault->kind = kind;
    }
}

#endif
