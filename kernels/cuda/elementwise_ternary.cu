/* Elementwise kernels of three operands. */
#include "elementwise.cuh"

#define FX_TERNARY(name, dtypes, value) FX_DTYPES_##dtypes(name, 3, FX_SAME)
#include "fx/elementwise.h"
