/* C = A B in float32, from three loops to Ferrox's own kernel: each version checked, then timed.
 *
 *     make gemm && ./gemm [version [m n k]]
 */
#include "../cuda/gemm.cuh"
#include "lab.cuh"

/* Version 1: a thread for each element of C, straight from memory. */
__global__ void one_element(int m, int n, int k, const float *a, const float *b, float *c) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
    if (row >= m || column >= n) return;
    float sum = 0;
    for (int i = 0; i < k; i++) sum += a[size_t(row) * k + i] * b[size_t(i) * n + column];
    c[size_t(row) * n + column] = sum;
}

/* Version 2: tiles of 32 x 32 in shared memory, so that each value is read from memory m / 32 or n / 32 times. */
__global__ void shared_tiles(int m, int n, int k, const float *a, const float *b, float *c) {
    __shared__ float a_tile[32][32], b_tile[32][32];
    const int x = threadIdx.x, y = threadIdx.y, column = blockIdx.x * 32 + x, row = blockIdx.y * 32 + y;
    float sum = 0;
    for (int first = 0; first < k; first += 32) {
        a_tile[y][x] = row < m && first + x < k ? a[size_t(row) * k + first + x] : 0;
        b_tile[y][x] = column < n && first + y < k ? b[size_t(first + y) * n + column] : 0;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 32; i++) sum += a_tile[y][i] * b_tile[i][x];
        __syncthreads();
    }
    if (row < m && column < n) c[size_t(row) * n + column] = sum;
}

/* Version 3: 64 x 64 by 256 threads, 4 x 4 sums each in registers: 16 products for 8 reads of shared memory. */
__global__ void __launch_bounds__(256) register_tiles(int m, int n, int k, const float *a, const float *b, float *c) {
    __shared__ float a_tile[16][64], b_tile[16][64];
    const int t = threadIdx.x, first_row = blockIdx.y * 64, first_column = blockIdx.x * 64;
    float sums[4][4] = {};
    for (int first = 0; first < k; first += 16) {
        for (int e = t; e < 1024; e += 256) {
            const int row = first_row + e / 16, i = first + e % 16;
            a_tile[e % 16][e / 16] = row < m && i < k ? a[size_t(row) * k + i] : 0;
        }
        for (int e = t; e < 1024; e += 256) {
            const int i = first + e / 64, column = first_column + e % 64;
            b_tile[e / 64][e % 64] = i < k && column < n ? b[size_t(i) * n + column] : 0;
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 16; i++) {
#pragma unroll
            for (int p = 0; p < 4; p++) {
#pragma unroll
                for (int q = 0; q < 4; q++) sums[p][q] += a_tile[i][t / 16 * 4 + p] * b_tile[i][t % 16 * 4 + q];
            }
        }
        __syncthreads();
    }
    for (int p = 0; p < 4; p++)
        for (int q = 0; q < 4; q++) {
            const int row = first_row + t / 16 * 4 + p, column = first_column + t % 16 * 4 + q;
            if (row < m && column < n) c[size_t(row) * n + column] = sums[p][q];
        }
}

/* Versions 4 to 6: Ferrox's kernel (kernels/cuda/gemm.cuh) in its three sizes of tiles.  The largest wants n and k to
 * be multiples of 4. */
FX_GEMM_KERNEL(ferrox_128, 256, 2, gemm_tile<float, 128, 128, 8, 8, 8, true, true, false>)
FX_GEMM_KERNEL(ferrox_64, 256, 3, gemm_tile<float, 64, 64, 16, 4, 4, false, true, false>)
FX_GEMM_KERNEL(ferrox_32, 64, 8, gemm_tile<float, 32, 32, 32, 4, 4, false, true, false>)

static void run_ferrox(void (*kernel)(fx_gemm_args), int size, int depth, int threads, int m, int n, int k,
                       const float *a, const float *b, float *c) {
    fx_gemm_args s = {};
    s.a = a, s.b = b, s.c = c, s.d = c;
    s.m = m, s.n = n, s.k = s.slice = k;
    s.alpha = 1, s.slices = 1, s.batch = 1;
    s.a_row = k, s.a_column = 1, s.b_row = n, s.b_column = 1, s.c_row = n;
    for (int64_t &each : s.size) each = 1;
    s.flags = (k % 4 ? 0 : FX_GEMM_WHOLE_A) | (n % 4 ? 0 : FX_GEMM_WHOLE_B | FX_GEMM_WHOLE_C);
    const unsigned tiles = unsigned((m + size - 1) / size) * unsigned((n + size - 1) / size);
    kernel<<<tiles, threads, 2 * depth * (2 * size + 8) * sizeof(float)>>>(s);
}

static bool run(int version, int m, int n, int k, const float *a, const float *b, float *c) {
    const dim3 square(32, 32), over((n + 31) / 32, (m + 31) / 32);
    switch (version) {
    case 1: one_element<<<over, square>>>(m, n, k, a, b, c); break;
    case 2: shared_tiles<<<over, square>>>(m, n, k, a, b, c); break;
    case 3: register_tiles<<<dim3((n + 63) / 64, (m + 63) / 64), 256>>>(m, n, k, a, b, c); break;
    case 4: run_ferrox(ferrox_32, 32, 32, 64, m, n, k, a, b, c); break;
    case 5: run_ferrox(ferrox_64, 64, 16, 256, m, n, k, a, b, c); break;
    case 6:
        if (n % 4 || k % 4) return false;
        run_ferrox(ferrox_128, 128, 8, 256, m, n, k, a, b, c);
        break;
    default: return false;
    }
    CHECK(cudaGetLastError());
    return true;
}

/* Against sums in double precision, on sizes that no tile divides. */
static bool validate(int version) {
    bool good = true;
    const int shapes[][3] = {{1, 4, 4}, {33, 68, 40}, {130, 132, 100}, {64, 256, 12}, {131, 67, 35}};
    for (const auto &[m, n, k] : shapes) {
        const std::vector<float> a = sample(size_t(m) * k, 1), b = sample(size_t(k) * n, 2);
        std::vector<double> expected(size_t(m) * n);
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int l = 0; l < k; l++) sum += double(a[size_t(i) * k + l]) * b[size_t(l) * n + j];
                expected[size_t(i) * n + j] = sum;
            }
        const device_array<float> da(a), db(b);
        device_array<float> dc(size_t(m) * n);
        dc.spoil();
        if (!run(version, m, n, k, da.data, db.data, dc.data)) continue;
        const double off = deviation(dc.host(), expected);
        if (!(off < 1e-5)) {
            printf("version %d is wrong at %d x %d x %d: off by %.1e\n", version, m, n, k, off);
            good = false;
        }
    }
    return good;
}

int main(int argc, char **argv) {
    const char *names[] = {"", "one element", "shared tiles", "register tiles", "ferrox 32", "ferrox 64", "ferrox 128"};
    const int only = argc > 1 ? atoi(argv[1]) : 0;
    const int m = argc > 4 ? atoi(argv[2]) : 4096, n = argc > 4 ? atoi(argv[3]) : 4096,
              k = argc > 4 ? atoi(argv[4]) : 4096;
    const card card;
    const device_array<float> a(sample(size_t(m) * k, 3)), b(sample(size_t(k) * n, 4));
    device_array<float> c(size_t(m) * n);
    bool good = true;
    printf("%d x %d x %d\n", m, n, k);
    for (int version = 1; version <= 6; version++) {
        if (only && version != only) continue;
        if (!validate(version)) {
            good = false;
            continue;
        }
        if (!run(version, m, n, k, a.data, b.data, c.data)) continue;
        const double seconds = seconds_of([&] { run(version, m, n, k, a.data, b.data, c.data); });
        const double rate = 2.0 * m * n * k / seconds * 1e-12;
        printf("version %d, %-14s %9.3f ms %8.2f TFLOP/s %5.1f %% of the card\n", version, names[version],
               seconds * 1e3, rate, 100 * rate / card.tera_flops);
    }
    return good ? 0 : 1;
}
