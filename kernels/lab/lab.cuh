/* What the programs of the lab share: errors, timing by events, the card's limits, deviations from a reference. */
#ifndef LAB_CUH
#define LAB_CUH
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <vector>

#define CHECK(call)                                                                                    \
    do {                                                                                               \
        const cudaError_t status = call;                                                               \
        if (status != cudaSuccess) {                                                                   \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(status)); \
            exit(1);                                                                                   \
        }                                                                                              \
    } while (0)

/* Deterministic values of size 1, the same on every machine. */
inline std::vector<float> sample(size_t n, uint32_t seed) {
    std::vector<float> x(n);
    uint32_t state = seed * 2654435761u + 1;
    for (float &v : x) {
        state = state * 1664525u + 1013904223u;
        v = float(int32_t(state)) * 0x1p-31f;
    }
    return x;
}

template <class T> struct device_array {
    T *data = nullptr;
    size_t n;
    explicit device_array(size_t count) : n(count) { CHECK(cudaMalloc(&data, n * sizeof(T))); }
    explicit device_array(const std::vector<T> &x) : device_array(x.size()) {
        CHECK(cudaMemcpy(data, x.data(), n * sizeof(T), cudaMemcpyHostToDevice));
    }
    device_array(const device_array &) = delete;
    ~device_array() { cudaFree(data); }
    std::vector<T> host() const {
        std::vector<T> x(n);
        CHECK(cudaMemcpy(x.data(), data, n * sizeof(T), cudaMemcpyDeviceToHost));
        return x;
    }
    /* All ones are NaN: a result that is not written shows. */
    void spoil() { CHECK(cudaMemset(data, 0xff, n * sizeof(T))); }
};

/* Median seconds of one run, of several after a warm start. */
template <class Run> double seconds_of(Run run, int rounds = 21) {
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    std::vector<float> times;
    for (int i = 0; i < rounds + 3; i++) {
        CHECK(cudaEventRecord(start));
        run();
        CHECK(cudaEventRecord(stop));
        CHECK(cudaEventSynchronize(stop));
        float milliseconds;
        CHECK(cudaEventElapsedTime(&milliseconds, start, stop));
        if (i >= 3) times.push_back(milliseconds);
    }
    CHECK(cudaGetLastError());
    CHECK(cudaEventDestroy(start));
    CHECK(cudaEventDestroy(stop));
    std::sort(times.begin(), times.end());
    return times[times.size() / 2] * 1e-3;
}

/* What the card could do: from its clocks and widths, by nobody reached in full. */
struct card {
    cudaDeviceProp is;
    double tera_flops, giga_bytes; /* float32 on the plain units; memory */
    card() {
        int device, clock, memory_clock, lanes;
        CHECK(cudaGetDevice(&device));
        CHECK(cudaGetDeviceProperties(&is, device));
        CHECK(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, device));
        CHECK(cudaDeviceGetAttribute(&memory_clock, cudaDevAttrMemoryClockRate, device));
        lanes = is.major == 8 && is.minor == 0 ? 64 : 128;
        tera_flops = 2.0 * lanes * is.multiProcessorCount * clock * 1e-9;
        giga_bytes = 2.0 * memory_clock * (is.memoryBusWidth / 8) * 1e-6;
        printf("%s: %d multiprocessors, %.1f TFLOP/s in float32, %.0f GB/s\n", is.name, is.multiProcessorCount,
               tera_flops, giga_bytes);
    }
};

/* The largest deviation relative to the reference's scale; infinity where a value is NaN. */
inline double deviation(const std::vector<float> &got, const std::vector<double> &expected) {
    double worst = 0, scale = 0;
    for (size_t i = 0; i < expected.size(); i++) {
        const double d = std::fabs(got[i] - expected[i]);
        worst = d == d ? std::max(worst, d) : INFINITY;
        scale = std::max(scale, std::fabs(expected[i]));
    }
    return worst / scale;
}
#endif
