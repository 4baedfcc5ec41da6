/* Kernels for the tests of the simulator and of the launch. */
#include "device.cuh"
#include "fault.cuh"

extern "C" __global__ void scale(float *y, const float *x, float factor, int n) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] = factor * x[i];
}
FX_EXPORT(scale)

/* Reads and writes where it is told to. */
extern "C" __global__ void poke(float *y, const float *x, long long read, long long write) { y[write] = x[read]; }
FX_EXPORT(poke)

/* A block's sum through shared memory. */
extern "C" __global__ void block_sum(float *y, const float *x, int n) {
    __shared__ float part[256];
    const int t = int(threadIdx.x), i = int(blockIdx.x * blockDim.x) + t;
    part[t] = i < n ? x[i] : 0.0f;
    __syncthreads();
    for (int half = int(blockDim.x) / 2; half > 0; half /= 2) {
        if (t < half) part[t] += part[t + half];
        __syncthreads();
    }
    if (t == 0) y[blockIdx.x] = part[0];
}
FX_EXPORT(block_sum)

/* Without the barrier before the read: what comes out depends on the order of the threads. */
extern "C" __global__ void race(int *y) {
    __shared__ int part[64];
    part[threadIdx.x] = int(threadIdx.x);
    y[threadIdx.x] = part[63 - threadIdx.x];
}
FX_EXPORT(race)

extern "C" __global__ void warp(int *y) {
    const int lane = int(threadIdx.x) & 31, t = int(threadIdx.x);
    int sum = t;
    for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, by);
    y[8 * t + 0] = sum;
    y[8 * t + 1] = __shfl_down_sync(0xffffffffu, t, 1);
    y[8 * t + 2] = __shfl_up_sync(0xffffffffu, t, 3, 8);
    y[8 * t + 3] = __shfl_sync(0xffffffffu, t, 5, 16);
    y[8 * t + 4] = int(__ballot_sync(0xffffffffu, lane % 3 == 0));
    y[8 * t + 5] = int(__match_any_sync(0xffffffffu, lane / 8));
    /* halves of a warp on their own, then all again */
    int half = 0;
    if (lane < 16)
        half = __shfl_xor_sync(0x0000ffffu, t, 15) + __shfl_xor_sync(0x0000ffffu, t, 1);
    else
        half = -__shfl_xor_sync(0xffff0000u, t, 1);
    y[8 * t + 6] = half;
    y[8 * t + 7] = int(__reduce_max_sync(0xffffffffu, unsigned(half + 1000)));
}
FX_EXPORT(warp)

extern "C" __global__ void diverge(int *y) {
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, int(threadIdx.x), 1);
}
FX_EXPORT(diverge)

extern "C" __global__ void stuck() {
    if (threadIdx.x == 0)
        __syncwarp(0x3u);
    else
        __syncthreads();
}
FX_EXPORT(stuck)

extern "C" __global__ void dynamic(unsigned *y, int n, int beyond) {
    FX_DYNAMIC_SHARED(unsigned, room);
    for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) room[i] = unsigned(i * i);
    __syncthreads();
    if (threadIdx.x == 0) y[0] = room[n - 1 + beyond];
    atomicAdd(&y[1], 1u);
    y[2] = unsigned(__syncthreads_count(threadIdx.x % 3 == 0));
}
FX_EXPORT(dynamic)

/* What fresh shared memory holds. */
extern "C" __global__ void unset(unsigned *y) {
    FX_DYNAMIC_SHARED(unsigned, room);
    y[threadIdx.x] = room[threadIdx.x];
}
FX_EXPORT(unset)

extern "C" __global__ void where(unsigned *y) {
    const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    y[block * (blockDim.x * blockDim.y * blockDim.z) + thread] = blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z +
                                                                 1000 * threadIdx.x + 10000 * threadIdx.y +
                                                                 100000 * threadIdx.z;
}
FX_EXPORT(where)

/* Every thread finds the same fault. */
extern "C" __global__ void report(fx_fault *fault, int kind, int kernel, long long value, long long size) {
    fx_report(fault, kind, kernel, value, size);
}
FX_EXPORT(report)
