"""Searches in sorted sequences, on the GPU.

searchsorted: out (int64) | sorted_sequence (1-D, or with the leading dims of values), values of its dtype; right
"""
from libc.stdint cimport int64_t

from ferrox._core.abi cimport FX_CUDA, FX_DTYPES, FX_OK, fx_array, fx_call, fx_suffix
from ferrox._core.door.backend cimport provide
from ferrox._core.cuda.dense cimport dense
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel
from ferrox._core.cuda.order cimport launch_elements

cdef extern from "fx/sort_args.h" nogil:
    ctypedef struct fx_search_args:
        int64_t *out
        const void *sequence
        const void *values
        int64_t n, length, row
        int right, unused

cdef cuda_kernel *_kernels[FX_DTYPES]
for _dtype in range(FX_DTYPES):
    _kernels[<int> _dtype] = find_kernel("search", f"searchsorted_{fx_suffix(_dtype).decode()}")


cdef int _searchsorted(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *sequence = call.arrays[1]
    cdef fx_array *values = call.arrays[2]
    cdef fx_search_args args
    if out.numel == 0:
        return FX_OK
    args.out = <int64_t *> out.data
    args.sequence = sequence.data
    args.values = values.data
    args.n = out.numel
    args.length = sequence.dims[sequence.ndim - 1]
    args.row = 0 if sequence.ndim == 1 else values.dims[values.ndim - 1]
    args.right = call.params[0].i != 0
    args.unused = 0
    return launch_elements(_kernels[sequence.dtype], out.device_index, args.n, &args)


cdef int searchsorted(fx_call *call) noexcept nogil:
    return dense(call, _searchsorted, 0, 0)


provide(FX_CUDA, "searchsorted", searchsorted)
