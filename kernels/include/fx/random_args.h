/* What the kernels of kernels/cuda/random.cu are launched with; filled by ferrox/_core/cuda/random.pyx.  C. */
#ifndef FX_RANDOM_ARGS_H
#define FX_RANDOM_ARGS_H
#include <stdint.h>

typedef struct fx_random_args {
    char *out;
    const char *x; /* dropout's input, bernoulli's probabilities (or NULL) */
    uint8_t *mask;
    uint64_t seed, offset;
    const uint64_t *state; /* in a captured graph: seed, and offset to be added, in device memory; otherwise NULL */
    int64_t n;
    uint64_t low, range; /* of integers */
    double a, b;         /* as in cpu/random.pyx */
    int32_t dtype;       /* of out and x */
    int32_t wide;        /* 64-bit draws, two to a block of the stream */
} fx_random_args;

#endif
