/* Matrix products on the plain arithmetic units: float32, float64, integers.  Tiles and sizes of shared memory as in the
 * table of ferrox/_core/cuda/matmul.pyx. */
#include "gemm.cuh"

FX_GEMM_TILES(f32, float, 128, 128, 8, 8, 8, true, 256, 2)
FX_GEMM_TILES(f32, float, 64, 64, 16, 4, 4, false, 256, 3)
FX_GEMM_TILES(f32, float, 32, 32, 32, 4, 4, false, 64, 8)
FX_GEMM_TILES(f64, double, 64, 64, 16, 4, 4, false, 256, 2)
FX_GEMM_TILES(f64, double, 32, 32, 16, 4, 4, false, 64, 6)
FX_GEMM_TILES(f16, fx::float16, 64, 64, 16, 4, 4, false, 256, 2)
FX_GEMM_TILES(bf16, fx::bfloat16, 64, 64, 16, 4, 4, false, 256, 2)
FX_GEMM_TILES(u8, uint8_t, 32, 32, 32, 4, 4, false, 64, 8)
FX_GEMM_TILES(u16, uint16_t, 32, 32, 32, 4, 4, false, 64, 8)
FX_GEMM_TILES(u32, uint32_t, 32, 32, 32, 4, 4, false, 64, 8)
FX_GEMM_TILES(u32, uint32_t, 64, 64, 16, 4, 4, false, 256, 3)
FX_GEMM_TILES(u64, uint64_t, 32, 32, 16, 4, 4, false, 64, 6)
FX_GEMM_TILES(u64, uint64_t, 64, 64, 16, 4, 4, false, 256, 2)

FX_GEMM_KERNEL(gemm_f32_slices, 256, 1, gemm_add_slices<float>)
FX_GEMM_KERNEL(gemm_f64_slices, 256, 1, gemm_add_slices<double>)
FX_GEMM_KERNEL(gemm_f16_slices, 256, 1, gemm_add_slices<fx::float16>)
FX_GEMM_KERNEL(gemm_bf16_slices, 256, 1, gemm_add_slices<fx::bfloat16>)
FX_GEMM_KERNEL(gemm_u8_slices, 256, 1, gemm_add_slices<uint8_t>)
FX_GEMM_KERNEL(gemm_u16_slices, 256, 1, gemm_add_slices<uint16_t>)
FX_GEMM_KERNEL(gemm_u32_slices, 256, 1, gemm_add_slices<uint32_t>)
FX_GEMM_KERNEL(gemm_u64_slices, 256, 1, gemm_add_slices<uint64_t>)
