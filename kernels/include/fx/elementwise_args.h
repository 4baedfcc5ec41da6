/* What an elementwise kernel of kernels/cuda/ is launched with; filled by ferrox/_core/cuda/elementwise.pyx.  C.
 *
 * The flat form serves operands without gaps, all of one dtype, aligned to 16 bytes; single values are broadcast.
 * The strided form serves everything else: any strides, broadcasting, any dtypes (cast on the way).  The host merges
 * dimensions that lie behind each other, and splits what has more than FX_STRIDED_DIMS of them, or 2^31 elements,
 * into several launches.
 */
#ifndef FX_ELEMENTWISE_ARGS_H
#define FX_ELEMENTWISE_ARGS_H
#include "abi.h"
#include <stdint.h>

#define FX_STRIDED_DIMS 8

enum fx_operand_kind {
    FX_FROM_ARRAY,
    FX_FROM_ELEMENT, /* flat form: one element in device memory, for all */
    FX_FROM_VALUE    /* a value of the compute dtype in the arguments themselves */
};

typedef struct fx_flat_args {
    void *data[4];     /* out, x, y, z */
    uint64_t value[3]; /* of x, y, z, for FX_FROM_VALUE */
    int64_t n;
    fx_scalar p[4];
    void *fault; /* the record of integer divisions by zero (fault.h), or NULL */
    int32_t kernel;
    uint8_t kind[4];
} fx_flat_args;

/* n / divisor = (umulhi(n, magic) + n) >> shift for n < 2^31 (Granlund and Montgomery, Division by invariant integers
 * using multiplication, PLDI 1994) */
typedef struct fx_divider {
    uint32_t divisor, magic, shift;
} fx_divider;

typedef struct fx_strided_args {
    char *data[4];
    uint64_t value[3];
    fx_scalar p[4];
    uint32_t n;
    int32_t ndim;
    uint8_t kind[4], dtype[4];
    uint8_t cast[4]; /* of integers: the dtype that an operand is cast to before it is widened to int64 */
    int32_t kernel;
    void *fault;
    fx_divider size[FX_STRIDED_DIMS]; /* innermost dimension first */
    int64_t stride[FX_STRIDED_DIMS][4]; /* in bytes */
} fx_strided_args;

#endif
