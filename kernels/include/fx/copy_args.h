/* What the transposing copy of kernels/cuda/copy.cu is launched with; filled by ferrox/_core/cuda/copying.pyx.  C.
 *
 * rows x columns, up to two dimensions more around them: the source lies along the rows (elements of a column follow one
 * another), the target along the columns.  Strides in elements.
 */
#ifndef FX_COPY_ARGS_H
#define FX_COPY_ARGS_H
#include <stdint.h>

#define FX_TRANSPOSE_TILE 32

typedef struct fx_transpose_args {
    void *out;
    const void *in;
    int64_t rows, columns;
    int64_t out_row, in_column;
    int64_t size[2], out_step[2], in_step[2]; /* around; size 1 where there is none */
} fx_transpose_args;

#endif
