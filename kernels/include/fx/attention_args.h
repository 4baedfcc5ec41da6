/* What the kernels of attention (kernels/cuda/attention.cuh) are launched with; filled by
 * ferrox/_core/cuda/attention.pyx.  Strides in elements.  Results and lse have no gaps.  C. */
#ifndef FX_ATTENTION_ARGS_H
#define FX_ATTENTION_ARGS_H
#include <stdint.h>

#define FX_ATTENTION_DIMS 4

enum fx_attention_operand { FX_Q, FX_K, FX_V, FX_G, FX_MASK, FX_ATTENTION_OPERANDS };
enum fx_attention_mask { FX_NO_MASK, FX_BOOL_MASK, FX_ADDED_MASK };

typedef struct fx_attention_args {
    const void *data[FX_ATTENTION_OPERANDS];
    void *out, *lse, *delta, *dq, *dk, *dv;
    double scale;
    int64_t heads, first;                          /* in all, and the first one of this launch: blocks along y */
    int64_t length, keys, width, v_width;          /* L, S, E, Ev */
    int64_t row[FX_ATTENTION_OPERANDS], column[FX_ATTENTION_OPERANDS];
    int64_t size[FX_ATTENTION_DIMS];               /* leading dimensions, innermost first */
    int64_t step[FX_ATTENTION_DIMS][FX_ATTENTION_OPERANDS];
    int32_t causal, mask;
} fx_attention_args;

#endif
