# Moving and accumulating through index arrays.  See index_walk.pyx.
from libc.stdint cimport int32_t, int64_t, uint32_t

from ferrox._core.abi cimport fx_array, fx_call, fx_scalar

cdef extern from "fx/index_args.h" nogil:
    enum:
        FX_INDICES
        FX_LAYOUT_DIMS
        FX_ACTION_ADD
        FX_ACTION_MULTIPLY
        FX_ACTION_MAXIMUM
        FX_ACTION_MINIMUM
    ctypedef struct fx_layout:
        int64_t ndim
        int64_t size[FX_LAYOUT_DIMS]
        int64_t stride[FX_LAYOUT_DIMS]
    ctypedef struct fx_index_args:
        void *x
        void *y
        const int64_t *index[FX_INDICES]
        int64_t size[FX_INDICES]
        int64_t stride[FX_INDICES]
        int64_t key_stride[FX_INDICES]
        void *fault
        int64_t m, q, inner
        void *keys
        int64_t limit
        int32_t *owners
        const uint32_t *positions
        int k, wrap, single, kernel
        fx_layout base, kept, indexed

# How terms are combined, beside the action.
cdef struct reduction:
    int action
    double alpha
    int64_t alpha_whole         # the same for integers
    bint include_self, mean

# Describe a call whose index arrays stand for some dims of x: tags[d] is the number of that of dim d, or -1; they come
# after the first `at` kept dims of y.  All arrays are contiguous.
cdef int lay_through(fx_call *call, fx_index_args *a, fx_array *x, fx_array *y, fx_array **index, int k, int at,
                     const fx_scalar *tags, bint wrap) noexcept nogil
# Describe a call whose one index array has x's own dims.
cdef int lay_along(fx_call *call, fx_index_args *a, fx_array *x, fx_array *y, fx_array *index, int dim) noexcept nogil
# Describe terms y, of the shape of `region`, that go to its elements; these may be the same, or overlap.
cdef int lay_region(fx_call *call, fx_index_args *a, fx_array *region, fx_array *y) noexcept nogil
cdef int read_indexed(fx_call *call, fx_index_args *a, int dtype, int device) noexcept nogil
cdef int write_indexed(fx_call *call, fx_index_args *a, int dtype, int device) noexcept nogil
cdef int accumulate_indexed(fx_call *call, fx_index_args *a, const reduction *how, int dtype,
                            int device) noexcept nogil
# out[index] += weights, all of one dim.
cdef int add_at(fx_call *call, fx_array *out, fx_array *index, fx_array *weights) noexcept nogil
