/* Elementwise kernels of two operands. */
#include "elementwise.cuh"

#define FX_BINARY(name, dtypes, value) FX_DTYPES_##dtypes(name, 2, FX_SAME)
#define FX_COMPARE(name, dtypes, value) FX_DTYPES_##dtypes(name, 2, FX_TRUTH)
#include "fx/elementwise.h"
