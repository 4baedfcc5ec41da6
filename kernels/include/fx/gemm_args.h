/* What the matrix products of kernels/cuda/ are launched with; filled by ferrox/_core/cuda/matmul.pyx.  C.
 *
 * C = f(alpha A B + beta D) for each of a batch, f an activation or nothing.  Operands are read where they lie: any
 * strides, in elements; the columns of C are adjacent.  The sum over k is cut into slices for the blocks along z; with
 * more than one, their sums go to `sums`, and a second kernel adds them in order.
 */
#ifndef FX_GEMM_ARGS_H
#define FX_GEMM_ARGS_H
#include <stdint.h>

#define FX_GEMM_DIMS 4

enum fx_gemm_operand { FX_GEMM_A, FX_GEMM_B, FX_GEMM_D, FX_GEMM_C };
enum fx_gemm_flags {
    FX_GEMM_WHOLE_A = 1, /* 16-byte accesses along the adjacent dimension of A: base and steps allow them */
    FX_GEMM_WHOLE_B = 2,
    FX_GEMM_WHOLE_C = 4,
    FX_GEMM_WHOLE_D = 8
};

enum fx_gemm_activation { FX_GEMM_PLAIN, FX_GEMM_RELU, FX_GEMM_GELU };

typedef struct fx_gemm_args {
    const void *a, *b, *d;
    void *c, *sums;
    double alpha, beta;
    int64_t alpha_whole, beta_whole; /* the same for integers */
    int64_t m, n, k, slice;
    int64_t a_row, a_column, b_row, b_column, d_row, d_column, c_row;
    int64_t batch, first; /* products in all, and the first one of this launch: blocks along y are products */
    int64_t size[FX_GEMM_DIMS];    /* the batch's dimensions, innermost first, 1 where there is none */
    int64_t step[FX_GEMM_DIMS][4]; /* of A, B, D, C */
    int32_t slices, flags;
    int64_t activation;
} fx_gemm_args;

#endif
