/* softmax(Q K^T / 8) V for heads of 64 columns, from a thread for each query to Ferrox's own kernels on tensor cores:
 * each version checked, then timed.
 *
 *     make attention && ./attention [version [heads length [causal]]]
 */
#include <cuda_fp16.h>

#include "../cuda/attention_tensor.cuh"
#include "lab.cuh"

constexpr int WIDTH = 64;

/* A query's results so far: the sum of exp(s - top) v, and of exp(s - top). */
struct partial {
    float sums[WIDTH] = {}, top = -INFINITY, total = 0;
    __device__ void add(float score, const float *v) {
        if (score > top) {
            const float shrink = expf(top - score);
            for (float &each : sums) each *= shrink;
            total *= shrink;
            top = score;
        }
        const float weight = expf(score - top);
        total += weight;
#pragma unroll
        for (int i = 0; i < WIDTH; i++) sums[i] += weight * v[i];
    }
    __device__ void store(float *out) const {
        for (int i = 0; i < WIDTH; i++) out[i] = sums[i] / total;
    }
};

/* Version 1: a thread for each query, keys and values straight from memory. */
__global__ void one_thread(int length, bool causal, const float *q, const float *k, const float *v, float *out) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    const size_t head = size_t(blockIdx.y) * length * WIDTH;
    if (row >= length) return;
    partial mine;
    for (int key = 0; key < (causal ? row + 1 : length); key++) {
        float score = 0;
        for (int i = 0; i < WIDTH; i++)
            score += q[head + size_t(row) * WIDTH + i] * k[head + size_t(key) * WIDTH + i];
        mine.add(score * 0.125f, v + head + size_t(key) * WIDTH);
    }
    mine.store(out + head + size_t(row) * WIDTH);
}

/* Version 2: 64 queries share tiles of 32 keys and values; a query and its sums are in registers. */
__global__ void __launch_bounds__(64) shared_tiles(int length, bool causal, const float *q, const float *k,
                                                   const float *v, float *out) {
    __shared__ float k_tile[32 * WIDTH], v_tile[32 * WIDTH];
    const int row = blockIdx.x * 64 + threadIdx.x, last = min(length, int(blockIdx.x + 1) * 64);
    const size_t head = size_t(blockIdx.y) * length * WIDTH;
    float mine_q[WIDTH];
    partial mine;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) mine_q[i] = row < length ? q[head + size_t(row) * WIDTH + i] * 0.125f : 0;
    for (int first = 0; first < (causal ? last : length); first += 32) {
        const int keys = min(32, length - first);
        __syncthreads();
        for (int i = threadIdx.x; i < keys * WIDTH; i += 64) {
            k_tile[i] = k[head + size_t(first) * WIDTH + i];
            v_tile[i] = v[head + size_t(first) * WIDTH + i];
        }
        __syncthreads();
        for (int key = 0; key < keys && !(causal && first + key > row); key++) {
            float score = 0;
#pragma unroll
            for (int i = 0; i < WIDTH; i++) score += mine_q[i] * k_tile[key * WIDTH + i];
            mine.add(score, v_tile + key * WIDTH);
        }
    }
    if (row < length) mine.store(out + head + size_t(row) * WIDTH);
}

/* Versions 3 to 6: Ferrox's kernels (kernels/cuda/), on the plain units and on tensor cores. */
FX_ATTENTION_KERNEL(plain_units, 2, attention_forward<float, WIDTH>)
FX_TENSOR_ATTENTION(tensor_tf32, tensor_attention<float, WIDTH, 1, 64>)
FX_TENSOR_ATTENTION(tensor_half, tensor_attention<fx::float16, WIDTH, 1, 64>)
FX_TENSOR_ATTENTION(tensor_half_128, tensor_attention<fx::float16, WIDTH, 2, 64>)

static void run_ferrox(void (*kernel)(fx_attention_args), int rows, int threads, size_t shared, int heads, int length,
                       bool causal, const void *q, const void *k, const void *v, void *out) {
    fx_attention_args s = {};
    s.data[FX_Q] = q, s.data[FX_K] = k, s.data[FX_V] = v, s.out = out;
    s.scale = 0.125, s.causal = causal;
    s.heads = heads, s.length = s.keys = length, s.width = s.v_width = WIDTH;
    for (int i = 0; i < FX_ATTENTION_DIMS; i++) s.size[i] = i ? 1 : heads;
    for (int operand : {FX_Q, FX_K, FX_V}) {
        s.row[operand] = WIDTH, s.column[operand] = 1;
        s.step[0][operand] = int64_t(length) * WIDTH;
    }
    CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared)));
    kernel<<<dim3((length + rows - 1) / rows, heads), threads, shared>>>(s);
}

/* Operands as float32 and as float16, and the result of the last run. */
struct problem {
    int heads, length;
    bool causal;
    size_t n;
    std::vector<float> host[3];
    device_array<float> q, k, v, out;
    device_array<__half> half_q, half_k, half_v, half_out;
    problem(int h, int l, bool c)
        : heads(h), length(l), causal(c), n(size_t(h) * l * WIDTH), host{given(n, 1), given(n, 2), given(n, 3)},
          q(host[0]), k(host[1]), v(host[2]), out(n), half_q(halves(host[0])), half_k(halves(host[1])),
          half_v(halves(host[2])), half_out(n) {}
    /* Values that float16 holds exactly. */
    static std::vector<float> given(size_t n, uint32_t seed) {
        std::vector<float> x = sample(n, seed);
        for (float &each : x) each = __half2float(__float2half(2 * each));
        return x;
    }
    static std::vector<__half> halves(const std::vector<float> &x) {
        std::vector<__half> y(x.size());
        for (size_t i = 0; i < x.size(); i++) y[i] = __float2half(x[i]);
        return y;
    }
    bool run(int version) {
        constexpr size_t tile = 64 * WIDTH;
        const dim3 over((length + 63) / 64, heads);
        switch (version) {
        case 1: one_thread<<<over, 64>>>(length, causal, q.data, k.data, v.data, out.data); break;
        case 2: shared_tiles<<<over, 64>>>(length, causal, q.data, k.data, v.data, out.data); break;
        case 3: ferrox(plain_units, 64, 256, sizeof(fx::attention_shared<float>), q, k, v, out); break;
        case 4: ferrox(tensor_tf32, 64, 128, 5 * tile * sizeof(float), q, k, v, out); break;
        case 5: ferrox(tensor_half, 64, 128, 5 * tile * 2, half_q, half_k, half_v, half_out); break;
        case 6: ferrox(tensor_half_128, 128, 128, 6 * tile * 2, half_q, half_k, half_v, half_out); break;
        default: return false;
        }
        CHECK(cudaGetLastError());
        return true;
    }
    std::vector<float> result(int version) const {
        if (version < 5) return out.host();
        std::vector<float> y(n);
        const std::vector<__half> x = half_out.host();
        for (size_t i = 0; i < n; i++) y[i] = __half2float(x[i]);
        return y;
    }

  private:
    template <class T>
    void ferrox(void (*kernel)(fx_attention_args), int rows, int threads, size_t shared, const device_array<T> &a,
                const device_array<T> &b, const device_array<T> &c, const device_array<T> &d) {
        run_ferrox(kernel, rows, threads, shared, heads, length, causal, a.data, b.data, c.data, d.data);
    }
};

/* Against sums in double precision, on sizes that no tile divides. */
static bool validate(int version) {
    bool good = true;
    const int cases[][3] = {{1, 1, 0}, {2, 33, 1}, {3, 130, 0}, {1, 200, 1}};
    for (const auto &[heads, length, causal] : cases) {
        problem p(heads, length, causal);
        std::vector<double> expected(p.n);
        for (int row = 0; row < heads * length; row++) {
            const int first = row / length * length, keys = causal ? row - first + 1 : length;
            std::vector<double> weights(keys);
            double total = 0;
            for (int key = 0; key < keys; key++) {
                double score = 0;
                for (int i = 0; i < WIDTH; i++)
                    score += double(p.host[0][size_t(row) * WIDTH + i]) * p.host[1][size_t(first + key) * WIDTH + i];
                total += weights[key] = std::exp(score * 0.125);
            }
            for (int key = 0; key < keys; key++)
                for (int i = 0; i < WIDTH; i++)
                    expected[size_t(row) * WIDTH + i] +=
                        weights[key] / total * p.host[2][size_t(first + key) * WIDTH + i];
        }
        p.out.spoil();
        p.half_out.spoil();
        if (!p.run(version)) continue;
        const double off = deviation(p.result(version), expected);
        if (!(off < (version < 4 ? 1e-5 : 4e-3))) {
            printf("version %d is wrong at %d x %d%s: off by %.1e\n", version, heads, length,
                   causal ? ", causal" : "", off);
            good = false;
        }
    }
    return good;
}

/* Products and additions of a multiprocessor in each cycle: float32, tf32, float16. */
static double products(const card &card, int version) {
    const int major = card.is.major, minor = card.is.minor;
    const double half = major >= 10 ? 4096 : major == 9 ? 2048 : major == 8 && minor == 0 ? 1024 : 512;
    if (version < 4) return major == 8 && minor == 0 ? 64 : 128;
    return version == 4 ? half / 2 : half;
}

int main(int argc, char **argv) {
    const char *names[] = {"", "one thread", "shared tiles", "plain units", "tf32", "float16, 64", "float16, 128"};
    const int only = argc > 1 ? atoi(argv[1]) : 0;
    const int heads = argc > 3 ? atoi(argv[2]) : 64, length = argc > 3 ? atoi(argv[3]) : 4096;
    const bool causal = argc > 4 && atoi(argv[4]);
    const card card;
    const double plain = products(card, 1);
    problem p(heads, length, causal);
    bool good = true;
    printf("%d heads, %d x %d x %d%s\n", heads, length, length, WIDTH, causal ? ", causal" : "");
    for (int version = 1; version <= 6; version++) {
        if (only && version != only) continue;
        if (!validate(version)) {
            good = false;
            continue;
        }
        if (!p.run(version)) continue;
        const double seconds = seconds_of([&] { p.run(version); }, version < 3 ? 3 : 21);
        const double pairs = causal ? 0.5 * length * (length + 1.0) : double(length) * length;
        const double rate = 4.0 * heads * pairs * WIDTH / seconds * 1e-12;
        printf("version %d, %-14s %9.3f ms %8.2f TFLOP/s %5.1f %% of the card\n", version, names[version],
               seconds * 1e3, rate, 100 * rate / (card.tera_flops * products(card, version) / plain));
    }
    return good ? 0 : 1;
}
