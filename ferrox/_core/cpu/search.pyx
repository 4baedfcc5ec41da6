"""Searches in sorted sequences.

searchsorted: out (int64) | sorted_sequence (1-D, or with the leading dims of values), values of its dtype; right
"""
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t
from libc.stdio cimport snprintf

from ferrox._core.abi cimport (FX_BOOL, FX_CPU, FX_ERROR_TYPE, FX_F32, FX_F64, FX_I8, FX_I16, FX_I32, FX_I64, FX_OK,
                               FX_U8, fx_array, fx_call, fx_dtype_name, fx_is_floating, fx_is_half, fx_is_whole,
                               fx_itemsize)
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.strided cimport (box_add, box_axis, box_collapse, box_next, box_numel, box_over, box_part,
                                       box_reset, fx_box, fx_wide, threads_for, wide_close, wide_open)

ctypedef fused number:
    uint8_t
    int8_t
    int16_t
    int32_t
    int64_t
    float
    double


cdef inline int64_t _search(number zero, const char *sequence, int64_t stride, int64_t n, number v,
                            bint right) noexcept nogil:
    """The comparisons of PyTorch, so that NaN goes where it goes there."""
    cdef int64_t begin = 0, end = n, middle
    cdef number at
    while begin < end:
        middle = begin + ((end - begin) >> 1)
        at = (<const number *> (sequence + middle * stride))[0]
        if not (at > v if right else at >= v):
            begin = middle + 1
        else:
            end = middle
    return begin


cdef void _search_share(number zero, const fx_box *whole, int64_t stride, int64_t n, bint right, int axis, int t,
                        int parts) noexcept nogil:
    cdef fx_box b
    cdef int64_t counter[64]
    cdef int64_t i, found
    cdef int last
    cdef const char *v
    if not box_part(whole, &b, axis, t, parts):
        return
    box_reset(&b, counter)
    last = b.ndim - 1
    while True:
        for i in range(b.dims[last]):
            v = b.data[1] + i * b.strides[1][last]
            found = _search[number](0, b.data[2] + i * b.strides[2][last], stride, n, (<const number *> v)[0], right)
            (<int64_t *> (b.data[0] + i * b.strides[0][last]))[0] = found
        if not box_next(&b, counter, 1):
            return


cdef void _search_any(const fx_box *b, int dtype, int64_t stride, int64_t n, bint right, int axis, int t,
                      int parts) noexcept nogil:
    if dtype == FX_F32:
        _search_share[float](0, b, stride, n, right, axis, t, parts)
    elif dtype == FX_F64:
        _search_share[double](0, b, stride, n, right, axis, t, parts)
    elif dtype == FX_I64:
        _search_share[int64_t](0, b, stride, n, right, axis, t, parts)
    elif dtype == FX_I32:
        _search_share[int32_t](0, b, stride, n, right, axis, t, parts)
    elif dtype == FX_I16:
        _search_share[int16_t](0, b, stride, n, right, axis, t, parts)
    elif dtype == FX_I8:
        _search_share[int8_t](0, b, stride, n, right, axis, t, parts)
    elif dtype == FX_U8 or dtype == FX_BOOL:
        _search_share[uint8_t](0, b, stride, n, right, axis, t, parts)


cdef void _searchsorted(const fx_array *out, const fx_array *sequence, const fx_array *values,
                        bint right) noexcept nogil:
    cdef fx_box b
    cdef int axis, t, parts, d, size = fx_itemsize(sequence.dtype)
    cdef int64_t n = sequence.dims[sequence.ndim - 1], stride = sequence.dims[2 * sequence.ndim - 1] * size
    if out.numel == 0:
        return
    box_over(&b, out)
    box_add(&b, out)
    box_add(&b, values)
    b.data[2] = <char *> sequence.data
    b.operands = 3
    for d in range(b.ndim):  # the sequence stands still along the last dim, and along all if it is one for all
        b.strides[2][d] = 0 if sequence.ndim == 1 or d == b.ndim - 1 else sequence.dims[sequence.ndim + d] * size
    box_collapse(&b, 1)
    parts = threads_for(box_numel(&b) * 8)
    axis = box_axis(&b, -1)
    if parts == 1 or axis < 0:
        _search_any(&b, sequence.dtype, stride, n, right, -1, 0, 1)
        return
    for t in prange(parts, num_threads=parts, schedule="static", chunksize=1):
        _search_any(&b, sequence.dtype, stride, n, right, axis, t, parts)


cdef int searchsorted(fx_call *call) noexcept nogil:
    cdef fx_wide sequence, values
    cdef bint right = call.params[0].i != 0
    cdef int status
    if not fx_is_whole(call.arrays[1].dtype) and not fx_is_floating(call.arrays[1].dtype):
        snprintf(call.message, sizeof(call.message), "not defined for %s", fx_dtype_name(call.arrays[1].dtype))
        return FX_ERROR_TYPE
    if not fx_is_half(call.arrays[1].dtype):
        _searchsorted(call.arrays[0], call.arrays[1], call.arrays[2], right)
        return FX_OK
    status = wide_open(&sequence, call.arrays[1])
    if status != FX_OK:
        return status
    status = wide_open(&values, call.arrays[2])
    if status == FX_OK:
        _searchsorted(call.arrays[0], &sequence.array, &values.array, right)
        wide_close(&values)
    wide_close(&sequence)
    return status


provide(FX_CPU, "searchsorted", searchsorted, "scan | out int64 | sorted_sequence T, values T | right i")
