/* What the kernels along rows (softmax, normalisation, losses, scans) are launched with.  C.
 *
 * Arrays are contiguous [outer, n, inner], worked on along n.  `group` threads share a row: 1 to 32, or the block.
 */
#ifndef FX_ROWS_ARGS_H
#define FX_ROWS_ARGS_H
#include <stdint.h>

/* How a long row is cut where there are few: into `count` pieces of `size` elements, a block each.  The first of two
 * launches leaves a state of each piece in `partial`, the second merges those of a row. */
typedef struct fx_pieces {
    void *partial;
    int64_t count, size;
    int32_t merging, unused;
} fx_pieces;

typedef struct fx_softmax_args {
    const void *x; /* of a gradient: g */
    const void *y;
    void *out;
    int64_t outer, n, inner;
    int32_t group, log;
    fx_pieces pieces;
} fx_softmax_args;

/* Layer and RMS normalisation: rows of n, of which all elements are channels.  Batch normalisation: rows of n, one
 * channel each, or rows of channels (n = 1). */
typedef struct fx_norm_args {
    const void *x, *g, *weight, *bias;
    void *y;            /* of a gradient: dx */
    void *mean, *rstd;
    void *running_mean, *running_var;
    void *dweight, *dbias;
    void *partial;      /* states of [chunks, channels], and behind them merged ones of [channels] */
    int64_t rows, n, channels, chunk, chunks;
    int64_t count;      /* elements of a channel */
    double eps, momentum;
    int32_t group, centred, training, unused;
    uint8_t weight_dtype, bias_dtype, mean_dtype, rstd_dtype, running_mean_dtype, running_var_dtype, dweight_dtype,
        dbias_dtype;
    fx_pieces pieces;
} fx_norm_args;

typedef struct fx_loss_args {
    const void *x, *weight, *g;
    const double *all_weights; /* their sum; NULL without weight or smoothing */
    const int64_t *target;
    void *out, *lse, *sample_weight;
    void *fault;
    int64_t outer, n, inner, ignored;
    double smoothing;
    int32_t group, kernel;
    uint8_t weight_dtype, g_dtype, out_dtype, lse_dtype, sample_weight_dtype, unused[3];
    fx_pieces pieces;
} fx_loss_args;

typedef struct fx_scan_args {
    const void *x, *a;
    void *out, *index;
    void *states; /* of chunks: [outer, chunks, inner] */
    int64_t outer, n, inner, chunk, chunks;
    int32_t reverse, group;
    int32_t totals; /* only the states of the chunks are wanted */
    int32_t carried; /* `states` holds what comes before each chunk */
} fx_scan_args;

#endif
