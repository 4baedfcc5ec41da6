/* Softmax over rows of float32: from three passes over memory to one; each version checked, then timed.
 *
 *     make softmax && ./softmax [version [rows columns]]
 */
#include "lab.cuh"
#include <cfloat>

/* Version 1: a thread for each row. */
__global__ void one_thread(int rows, int columns, const float *x, float *y) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    x += size_t(row) * columns;
    y += size_t(row) * columns;
    float top = -FLT_MAX, total = 0;
    for (int i = 0; i < columns; i++) top = fmaxf(top, x[i]);
    for (int i = 0; i < columns; i++) total += expf(x[i] - top);
    for (int i = 0; i < columns; i++) y[i] = expf(x[i] - top) / total;
}

template <class Join> __device__ float join_warp(float v, Join join) {
    for (int other = 16; other > 0; other /= 2) v = join(v, __shfl_xor_sync(0xffffffffu, v, other));
    return v;
}
struct larger {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct sum {
    __device__ float operator()(float a, float b) const { return a + b; }
};
template <class Join> __device__ float join_block(float v, float first, Join join) {
    __shared__ float warps[32];
    v = join_warp(v, join);
    __syncthreads(); /* whoever still reads the result before this one */
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
    __syncthreads();
    return join_warp(threadIdx.x % 32 < blockDim.x / 32 ? warps[threadIdx.x % 32] : first, join);
}

/* Version 2: a block for each row, neighbours by neighbours; three passes. */
__global__ void one_block(int columns, const float *x, float *y) {
    x += size_t(blockIdx.x) * columns;
    y += size_t(blockIdx.x) * columns;
    float top = -FLT_MAX, total = 0;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) top = fmaxf(top, x[i]);
    top = join_block(top, -FLT_MAX, larger());
    for (int i = threadIdx.x; i < columns; i += blockDim.x) total += expf(x[i] - top);
    total = join_block(total, 0, sum());
    for (int i = threadIdx.x; i < columns; i += blockDim.x) y[i] = expf(x[i] - top) / total;
}

/* Version 3: the maximum and the sum in one pass: a new maximum rescales the sum (Milakov and Gimelshein, 2018). */
__global__ void online(int columns, const float *x, float *y) {
    x += size_t(blockIdx.x) * columns;
    y += size_t(blockIdx.x) * columns;
    float mine = -FLT_MAX, total = 0;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        const float v = x[i], next = fmaxf(mine, v);
        total = total * expf(mine - next) + expf(v - next);
        mine = next;
    }
    const float top = join_block(mine, -FLT_MAX, larger());
    total = join_block(total * expf(mine - top), 0, sum());
    for (int i = threadIdx.x; i < columns; i += blockDim.x) y[i] = expf(x[i] - top) / total;
}

/* Version 4: the row stays in registers, read and written once, 16 bytes at a time; up to 8192 columns, in fours. */
__global__ void __launch_bounds__(256) in_registers(int columns, const float *x, float *y) {
    constexpr int most = 8;
    const float4 *from = reinterpret_cast<const float4 *>(x + size_t(blockIdx.x) * columns);
    float4 *to = reinterpret_cast<float4 *>(y + size_t(blockIdx.x) * columns);
    float4 v[most];
    float top = -FLT_MAX, total = 0;
#pragma unroll
    for (int j = 0; j < most; j++) {
        const int i = threadIdx.x + j * 256;
        v[j] = i < columns / 4 ? from[i] : make_float4(-FLT_MAX, -FLT_MAX, -FLT_MAX, -FLT_MAX);
        top = fmaxf(top, fmaxf(fmaxf(v[j].x, v[j].y), fmaxf(v[j].z, v[j].w)));
    }
    top = join_block(top, -FLT_MAX, larger());
#pragma unroll
    for (int j = 0; j < most; j++) {
        v[j] = make_float4(expf(v[j].x - top), expf(v[j].y - top), expf(v[j].z - top), expf(v[j].w - top));
        total += (v[j].x + v[j].y) + (v[j].z + v[j].w);
    }
    const float factor = 1 / join_block(total, 0, sum());
#pragma unroll
    for (int j = 0; j < most; j++) {
        const int i = threadIdx.x + j * 256;
        if (i < columns / 4) to[i] = make_float4(v[j].x * factor, v[j].y * factor, v[j].z * factor, v[j].w * factor);
    }
}

static bool run(int version, int rows, int columns, const float *x, float *y) {
    switch (version) {
    case 1: one_thread<<<(rows + 127) / 128, 128>>>(rows, columns, x, y); break;
    case 2: one_block<<<rows, 256>>>(columns, x, y); break;
    case 3: online<<<rows, 256>>>(columns, x, y); break;
    case 4:
        if (columns % 4 || columns > 8192) return false;
        in_registers<<<rows, 256>>>(columns, x, y);
        break;
    default: return false;
    }
    CHECK(cudaGetLastError());
    return true;
}

static bool validate(int version) {
    bool good = true;
    const int shapes[][2] = {{1, 4}, {3, 1000}, {200, 37}, {7, 8192}};
    for (const auto &[rows, columns] : shapes) {
        std::vector<float> x = sample(size_t(rows) * columns, 1);
        for (float &v : x) v *= 20;
        std::vector<double> expected(x.size());
        for (int r = 0; r < rows; r++) {
            double top = -INFINITY, total = 0;
            for (int i = 0; i < columns; i++) top = std::max(top, double(x[size_t(r) * columns + i]));
            for (int i = 0; i < columns; i++) total += std::exp(x[size_t(r) * columns + i] - top);
            for (int i = 0; i < columns; i++)
                expected[size_t(r) * columns + i] = std::exp(x[size_t(r) * columns + i] - top) / total;
        }
        const device_array<float> dx(x);
        device_array<float> dy(x.size());
        dy.spoil();
        if (!run(version, rows, columns, dx.data, dy.data)) continue;
        const double off = deviation(dy.host(), expected);
        if (!(off < 1e-5)) {
            printf("version %d is wrong at %d x %d: off by %.1e\n", version, rows, columns, off);
            good = false;
        }
    }
    return good;
}

int main(int argc, char **argv) {
    const char *names[] = {"", "one thread", "one block", "online", "in registers"};
    const int only = argc > 1 ? atoi(argv[1]) : 0;
    const int rows = argc > 3 ? atoi(argv[2]) : 16384, columns = argc > 3 ? atoi(argv[3]) : 4096;
    const card card;
    const device_array<float> x(sample(size_t(rows) * columns, 2));
    device_array<float> y(size_t(rows) * columns);
    bool good = true;
    printf("%d x %d\n", rows, columns);
    for (int version = 1; version <= 4; version++) {
        if (only && version != only) continue;
        if (!validate(version)) {
            good = false;
            continue;
        }
        if (!run(version, rows, columns, x.data, y.data)) continue;
        const double seconds = seconds_of([&] { run(version, rows, columns, x.data, y.data); });
        const double rate = 8.0 * rows * columns / seconds * 1e-9; /* each value read once and written once */
        printf("version %d, %-14s %9.3f ms %8.0f GB/s %5.1f %% of the card\n", version, names[version], seconds * 1e3,
               rate, 100 * rate / card.giga_bytes);
    }
    return good ? 0 : 1;
}
