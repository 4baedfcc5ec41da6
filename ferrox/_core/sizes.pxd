# Checked arithmetic on shapes, strides, offsets, counts and bytes; see kernels/include/fx/sizes.h.
from libc.stdint cimport int64_t

cdef extern from "fx/sizes.h" nogil:
    bint fx_add(int64_t a, int64_t b, int64_t *sum)
    bint fx_sub(int64_t a, int64_t b, int64_t *difference)
    bint fx_mul(int64_t a, int64_t b, int64_t *product)
    int64_t fx_add_clamped(int64_t a, int64_t b)
    int64_t fx_sub_clamped(int64_t a, int64_t b)
    int64_t fx_ceiling(int64_t n, int64_t by)
    bint fx_nbytes(int ndim, const int64_t *shape, int64_t itemsize, int64_t *numel, int64_t *bytes)
    bint fx_reach(int ndim, const int64_t *shape, const int64_t *strides, int64_t itemsize, int64_t *low, int64_t *high)
    bint fx_within(int64_t offset, int64_t low, int64_t high, int64_t size)
    int64_t fx_scaled_stride(int64_t stride, int64_t step, int64_t size, int64_t itemsize)
