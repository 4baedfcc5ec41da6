"""The linear recurrence h[t] = a[t] * h[t - 1] + b[t] along one dimension, h before the first being zero.

linear_scan: out | a, b, all of one shape and any strides; dim, reverse (1: from the end, by h[t + 1]).
It is what the gradient of a running product needs to be right when elements are zero.  The state is double for every
floating-point dtype.
"""
from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint16_t
from libc.stdio cimport snprintf

from ferrox._core.abi cimport FX_CPU, FX_ERROR_TYPE, FX_F32, FX_F64, FX_OK, fx_array, fx_call, fx_is_whole, fx_itemsize
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.strided cimport (box_add, box_axis, box_next, box_over, box_part, box_remove, box_reset,
                                       float_to_half, fx_box, half_to_float, size_of, stride_of, threads_for)

ctypedef fused item:
    uint16_t
    float
    double


cdef struct line:
    int64_t n
    int64_t step[3]     # items from one element to the next, in the direction of the scan: out, a, b
    int dtype


cdef inline double _read(const item *x, int dtype) noexcept nogil:
    if item is uint16_t:
        return half_to_float(x[0], dtype)
    else:
        return x[0]


cdef void _line(item zero, const line *job, char *out, const char *a, const char *b) noexcept nogil:
    cdef double h = 0
    cdef int64_t t
    for t in range(job.n):
        h = _read[item](<const item *> b + t * job.step[2], job.dtype) + (
            _read[item](<const item *> a + t * job.step[1], job.dtype) * h if t else 0)
        if item is uint16_t:
            (<item *> out)[t * job.step[0]] = float_to_half(<float> h, job.dtype)
        else:
            (<item *> out)[t * job.step[0]] = <item> h


cdef void _share(const fx_box *whole, const line *job, int axis, int part, int parts) noexcept nogil:
    cdef fx_box b
    cdef int64_t counter[64]
    if not box_part(whole, &b, axis, part, parts):
        return
    box_reset(&b, counter)
    while True:
        if job.dtype == FX_F32:
            _line[float](0, job, b.data[0], b.data[1], b.data[2])
        elif job.dtype == FX_F64:
            _line[double](0, job, b.data[0], b.data[1], b.data[2])
        else:
            _line[uint16_t](0, job, b.data[0], b.data[1], b.data[2])
        if not box_next(&b, counter, 0):
            return


cdef int linear_scan(fx_call *call) noexcept nogil:
    cdef fx_box b
    cdef line job
    cdef int dim = <int> call.params[0].i, k, axis, parts, t, size
    cdef fx_array *x = call.arrays[1]
    job.dtype = x.dtype
    if fx_is_whole(x.dtype):
        snprintf(call.message, sizeof(call.message), "not defined for integers")
        return FX_ERROR_TYPE
    if x.numel == 0:
        return FX_OK
    size = fx_itemsize(x.dtype)
    job.n = size_of(x, dim)
    box_over(&b, x)
    for k in range(3):
        box_add(&b, call.arrays[k])
        job.step[k] = stride_of(call.arrays[k], dim)
        if call.params[1].i:
            b.data[k] += (job.n - 1) * job.step[k] * size
            job.step[k] = -job.step[k]
    box_remove(&b, dim)
    parts = threads_for(x.numel)
    axis = box_axis(&b, -1)
    if parts == 1 or axis < 0:
        _share(&b, &job, -1, 0, 1)
        return FX_OK
    for t in prange(parts, num_threads=parts, schedule="static", chunksize=1):
        _share(&b, &job, axis, t, parts)
    return FX_OK


provide(FX_CPU, "linear_scan", linear_scan, "scan float | out T | a T, b T | dim i, reverse i")
