# A strided iteration space of several operands, in bytes; what every indexing kernel walks over.  See strided.pyx.
from libc.stdint cimport int64_t, uint16_t
from libc.stddef cimport size_t
from libc.string cimport memcpy

from ferrox._core.abi cimport fx_array

cdef struct fx_box:
    int ndim, operands
    char *data[4]
    int64_t dims[64]
    int64_t strides[4][64]   # in bytes

# Bytes of one element, by fx_dtype.

# An empty box over the dims of `shape` (its strides are not used), and one more operand laid over it.
cdef void box_over(fx_box *b, const fx_array *shape) noexcept nogil
cdef int box_add(fx_box *b, const fx_array *a) noexcept nogil
cdef int box_add_strided(fx_box *b, void *data, int64_t stride) noexcept nogil
cdef void box_remove(fx_box *b, int dim) noexcept nogil
# Drops dims of size one, merges what can be merged, and pads with dims of size one up to `least` dims.
cdef void box_collapse(fx_box *b, int least) noexcept nogil
cdef int64_t box_numel(const fx_box *b) noexcept nogil
# The longest dim along which `operand` (any, if negative) moves: -1 if there is none.
cdef int box_axis(const fx_box *b, int operand) noexcept nogil
# The share of part `t` of `n` along `axis`; false if it is empty.
cdef bint box_part(const fx_box *b, fx_box *part, int axis, int t, int n) noexcept nogil
# Steps over all dims but the last `inner`; counter starts zeroed (box_reset), false at the end.
cdef void box_reset(const fx_box *b, int64_t *counter) noexcept nogil
cdef bint box_next(fx_box *b, int64_t *counter, int inner) noexcept nogil
# How many threads some work of `n` elementary steps is worth.
cdef int threads_for(int64_t n) noexcept nogil

# Work memory, from the CPU backend's pool where there is one; NULL when out of memory.
cdef void *scratch(size_t bytes) noexcept nogil
cdef void scratch_free(void *block, size_t bytes) noexcept nogil

# a[...] into contiguous elements, and to or from float32 for float16 and bfloat16.
cdef void pack(const fx_array *a, void *to) noexcept nogil
cdef float half_to_float(uint16_t bits, int dtype) noexcept nogil
cdef uint16_t float_to_half(float value, int dtype) noexcept nogil
cdef void widen(const fx_array *a, float *to) noexcept nogil
# Writes back what differs from the widened element, and leaves the rest untouched.
cdef void narrow_changed(const fx_array *a, const float *source) noexcept nogil
cdef int64_t stride_of(const fx_array *a, int dim) noexcept nogil
cdef int64_t size_of(const fx_array *a, int dim) noexcept nogil

# A contiguous float32 copy of a float16 or bfloat16 array, for accumulation.
cdef struct fx_wide:
    fx_array array
    int64_t dims[128]

cdef int wide_open(fx_wide *w, const fx_array *a) noexcept nogil
cdef void wide_close(fx_wide *w) noexcept nogil

# memcpy without its call where a row is short.
cdef inline void copy_bytes(void *to, const void *source, int64_t n) noexcept nogil:
    if n == 4:
        memcpy(to, source, 4)
    elif n == 8:
        memcpy(to, source, 8)
    elif n == 16:
        memcpy(to, source, 16)
    elif n == 32:
        memcpy(to, source, 32)
    else:
        memcpy(to, source, n)
