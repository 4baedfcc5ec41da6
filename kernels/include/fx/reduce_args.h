/* What a reduction kernel of kernels/cuda/ is launched with; filled by ferrox/_core/cuda/reduce.pyx.  C.
 *
 * A pass sees a contiguous array [outer, n, inner] and takes n away, in `chunks` pieces of `chunk`: it leaves
 * [outer, chunks, inner] states, or results where it is the last.  The first pass reads items, later ones states.
 */
#ifndef FX_REDUCE_ARGS_H
#define FX_REDUCE_ARGS_H
#include <stdint.h>
#include "reduce_table.h"

typedef struct fx_reduce_args {
    const void *in;
    void *out;
    void *second; /* indices beside values, the mean beside a variance; may be NULL */
    int64_t outer, n, inner;
    int64_t chunk, chunks;
    int64_t count; /* items of one result */
    double p;      /* factor, order or correction */
    int32_t group; /* rows: threads of one; columns: threads side by side; a power of two */
    int32_t last;
    int32_t finish; /* fx_reduce_finish */
    uint8_t out_dtype, second_dtype;
    uint8_t root; /* the standard deviation, not the variance */
    uint8_t unused;
} fx_reduce_args;

#endif
