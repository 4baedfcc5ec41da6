/* Elementwise kernels of one operand. */
#include "elementwise.cuh"

#define FX_UNARY(name, dtypes, value) FX_DTYPES_##dtypes(name, 1, FX_SAME)
#define FX_TEST(name, dtypes, value) FX_DTYPES_##dtypes(name, 1, FX_TRUTH)
#include "fx/elementwise.h"
