/* What the kernels over many tensors (kernels/cuda/optim.cu) are launched with; filled by ferrox/_core/cuda/optim.pyx.
 *
 * The tensors travel in the arguments, which may have 4 KB: more of them take several launches.  Tensor i has the
 * blocks from first_block[i] to first_block[i + 1]; a block takes FX_STEP_CHUNK elements.  C.
 */
#ifndef FX_STEP_ARGS_H
#define FX_STEP_ARGS_H
#include <stdint.h>

#define FX_STEP_CHUNK 4096
#define FX_STEP_TENSORS 56
#define FX_LIST_CHUNK 16384
#define FX_LIST_TENSORS 180

enum fx_step_flags {
    FX_STEP_DECAY = 1,
    FX_STEP_NESTEROV = 2,
    FX_STEP_FIRST = 4,
    FX_STEP_NEAR = 8 /* the average of the gradient is nearer to its old value than to the gradient */
};

/* SGD: step, momentum, fresh, decay, sign.  Adam: step, shrink, decay, sign, fresh1, fresh2, kept2, root, eps. */
enum fx_step_factor {
    FX_STEP_SIZE,
    FX_STEP_SIGN,
    FX_STEP_WEIGHT,
    FX_SGD_MOMENTUM,
    FX_SGD_FRESH,
    FX_ADAM_SHRINK = FX_SGD_MOMENTUM,
    FX_ADAM_FRESH1,
    FX_ADAM_FRESH2,
    FX_ADAM_KEPT2,
    FX_ADAM_ROOT,
    FX_ADAM_EPS,
    FX_STEP_FACTORS
};

/* What changes from step to step, where the step count lives on the device. */
enum fx_live_factor { FX_LIVE_SIZE, FX_LIVE_SHRINK, FX_LIVE_ROOT, FX_LIVE_FACTORS };

typedef struct fx_step_args {
    double factor[FX_STEP_FACTORS];
    const double *live; /* FX_LIVE_FACTORS in device memory, in place of those in `factor`; or NULL */
    int32_t flags, count;
    void *data[FX_STEP_TENSORS][5]; /* parameter, gradient, state; NULL where there is none */
    int64_t numel[FX_STEP_TENSORS];
    uint32_t first_block[FX_STEP_TENSORS + 2];
    uint8_t dtype[FX_STEP_TENSORS][5], direct[FX_STEP_TENSORS]; /* all of the compute dtype, aligned to 16 bytes */
} fx_step_args;

/* One step of Adam counted on the device, before fx_step_args. */
typedef struct fx_count_args {
    double lr, beta1, beta2, decay; /* decay: of the parameters themselves */
    void *count;                    /* one element, and so is */
    const void *lr_there;           /* in place of lr; or NULL */
    double *live;
    int32_t count_dtype, lr_dtype;
} fx_count_args;

enum fx_norm_kind { FX_NORM_2, FX_NORM_1, FX_NORM_MAX, FX_NORM_MIN, FX_NORM_P };

typedef struct fx_list_args {
    double p;           /* of the norm; the factor, where there is no `factor` */
    const void *factor; /* one element in device memory */
    double *sums;       /* of the norm: one for each block of this launch */
    void *norm;
    int64_t n_sums;
    int32_t count, kind, factor_dtype, norm_dtype;
    void *data[FX_LIST_TENSORS];
    int64_t numel[FX_LIST_TENSORS];
    uint32_t first_block[FX_LIST_TENSORS + 2];
    uint8_t dtype[FX_LIST_TENSORS];
    uint8_t unused[4];
} fx_list_args;

#endif
