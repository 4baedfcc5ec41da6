/* Tensor cores by PTX, and asynchronous copies to shared memory; with plain twins for the simulator, where the lanes of
 * a warp exchange what they hold.
 *
 * A lane g * 4 + t holds of a 16 x 16 matrix A of half precision the pairs (g, 2t), (g + 8, 2t), (g, 2t + 8),
 * (g + 8, 2t + 8), along k; of a 16 x 8 matrix B the pairs (2t, g), (2t + 8, g), along k; of a 16 x 8 matrix C the
 * elements (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).  In tf32, 16 x 8 by 8 x 8: A (g, t), (g + 8, t),
 * (g, t + 4), (g + 8, t + 4), B (t, g), (t + 4, g).
 */
#ifndef FX_MMA_CUH
#define FX_MMA_CUH
#include "device.cuh"
#include "fx/half.h"

namespace fx {

#ifndef FX_SIMULATED

__device__ __forceinline__ unsigned shared_address(const void *p) { return unsigned(__cvta_generic_to_shared(p)); }

/* 16 bytes, or as many zeros; `from` is an address in any case. */
__device__ __forceinline__ void copy_async(void *to, const void *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
}
__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* All but the last n groups have arrived, of this thread's. */
template <int n> __device__ __forceinline__ void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

/* Four 8 x 8 matrices of 16 bits; lane i gives the address of row i % 8 of matrix i / 8. */
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

#define FX_MMA_HALF(type, name)                                                                                 \
    __device__ __forceinline__ void multiply_matrices(type, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, \
                                                      uint32_t b1) {                                            \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 "                             \
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                          \
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                           \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                           \
    }
FX_MMA_HALF(float16, "f16")
FX_MMA_HALF(bfloat16, "bf16")
#undef FX_MMA_HALF

/* Two values of half precision in a register, the first one in its low bits. */
__device__ __forceinline__ uint32_t pack(float16, float first, float second) {
    uint32_t y;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(second), "f"(first));
    return y;
}
__device__ __forceinline__ uint32_t pack(bfloat16, float first, float second) {
    uint32_t y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(second), "f"(first));
    return y;
}
/* 2^x within two units of the last place, 0 where that is subnormal. */
__device__ __forceinline__ float power_of_2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* float32 rounded to the 10 bits of mantissa that the tensor cores read. */
__device__ __forceinline__ uint32_t to_tf32(uint32_t x) {
    uint32_t y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(__uint_as_float(x)));
    return y;
}
__device__ __forceinline__ void multiply_matrices(float, float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                  uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#else

static inline void copy_async(void *to, const void *from, bool there) {
    if (there)
        memcpy(to, from, 16);
    else
        memset(to, 0, 16);
}
static inline void copies_commit() {}
template <int n> static inline void copies_wait() {}

static inline void sim_matrices(uint32_t (&r)[4], const void *row, bool transposed) {
    const uint64_t *rows = ::sim::gather(0xffffffffu, reinterpret_cast<uint64_t>(row));
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int i = 0; i < 4; i++) {
        const uint16_t *low = reinterpret_cast<const uint16_t *>(rows[i * 8 + (transposed ? 2 * t : g)]);
        const uint16_t *high = reinterpret_cast<const uint16_t *>(rows[i * 8 + (transposed ? 2 * t + 1 : g)]);
        r[i] = transposed ? low[g] | uint32_t(high[g]) << 16 : low[2 * t] | uint32_t(high[2 * t + 1]) << 16;
    }
}
static inline void load_matrices(uint32_t (&r)[4], const void *row) { sim_matrices(r, row, false); }
static inline void load_matrices_transposed(uint32_t (&r)[4], const void *row) { sim_matrices(r, row, true); }

/* What all lanes hold, then this lane's four elements, along k in order. */
struct sim_operands {
    uint32_t a[4][32], b[2][32];
    sim_operands(const uint32_t (&mine)[4], uint32_t b0, uint32_t b1) {
        for (int i = 0; i < 6; i += 2) {
            const uint64_t low = i < 4 ? mine[i] : b0, high = i < 4 ? mine[i + 1] : b1;
            const uint64_t *all = ::sim::gather(0xffffffffu, low | high << 32);
            for (int lane = 0; lane < 32; lane++) {
                (i < 4 ? a[i] : b[0])[lane] = uint32_t(all[lane]);
                (i < 4 ? a[i + 1] : b[1])[lane] = uint32_t(all[lane] >> 32);
            }
        }
    }
};
template <class T> static inline void multiply_matrices(T, float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                        uint32_t b1) {
    const sim_operands all(a, b0, b1);
    for (int e = 0; e < 4; e++) {
        const int g = threadIdx.x % 32 / 4, row = e / 2, column = threadIdx.x % 4 * 2 + e % 2;
        for (int k = 0; k < 16; k++) {
            const T x = {uint16_t(all.a[row + k / 8 * 2][g * 4 + k % 8 / 2] >> 16 * (k % 2))};
            const T y = {uint16_t(all.b[k / 8][column * 4 + k % 8 / 2] >> 16 * (k % 2))};
            c[e] += conversion<float, T>::convert(x) * conversion<float, T>::convert(y);
        }
    }
}
static inline uint32_t pack(float16, float first, float second) {
    return float_to_float16(first) | uint32_t(float_to_float16(second)) << 16;
}
static inline uint32_t pack(bfloat16, float first, float second) {
    return float_to_bfloat16(first) | uint32_t(float_to_bfloat16(second)) << 16;
}
static inline float power_of_2(float x) { return ::exp2f(x); }
static inline uint32_t to_tf32(uint32_t x) {
    return (x & 0x7f800000u) == 0x7f800000u ? x : (x + 0x1000u) & ~0x1fffu; /* ties away from zero */
}
static inline void multiply_matrices(float, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    const sim_operands all(a, b0, b1);
    for (int e = 0; e < 4; e++) {
        const int g = threadIdx.x % 32 / 4, row = e / 2, column = threadIdx.x % 4 * 2 + e % 2;
        for (int k = 0; k < 8; k++)
            c[e] += bit_cast<float>(all.a[row + k / 4 * 2][g * 4 + k % 4]) *
                    bit_cast<float>(all.b[k / 4][column * 4 + k % 4]);
    }
}

#endif
} // namespace fx
#endif
