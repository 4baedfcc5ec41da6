"""Kernels whose result follows the values, on the GPU: arrays, params and semantics of cpu/select.pyx.

What is true is counted tile by tile, the counts are added up, and each tile writes from there.  Whatever the CPU
refuses because of the values (an index out of range, a src too short for its mask) is reported by the kernel, which
then leaves it out.
"""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdio cimport snprintf

from ferrox._core.abi cimport FX_CUDA, FX_DTYPES, FX_ERROR_MEMORY, FX_ERROR_TYPE, FX_ERROR_VALUE, FX_F32, FX_F64, \
    FX_I64, FX_MAX_DIMS, FX_OK, fx_array, fx_call, fx_is_floating, fx_itemsize, fx_sign_bit, fx_suffix
from ferrox._core.door.backend cimport provide
from ferrox._core.cuda.dense cimport dense
from ferrox._core.cuda.fault cimport fault_record
from ferrox._core.cuda.index_walk cimport add_at
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel
from ferrox._core.cuda.order cimport FX_TILE, blocks_for, launch_blocks, launch_elements, prefix_sums, refused, \
    set_bytes
from ferrox._core.cuda.scratch cimport scratch, scratch_free

cdef extern from "fx/select_args.h" nogil:
    enum:
        FX_NONZERO_DIMS
    ctypedef struct fx_mask_args:
        const void *x
        const uint8_t *mask
        void *out
        const void *src
        int64_t *before
        void *fault
        uint64_t kept
        int64_t n, tiles, limit
        int kernel, ndim
        int64_t size[FX_NONZERO_DIMS]
    ctypedef struct fx_bins_args:
        const void *x
        const int64_t *weights
        int64_t *counts
        void *out
        void *fault
        double low, high
        int64_t n, bins
        int kernel, unused
    ctypedef struct fx_runs_args:
        const void *x
        const int64_t *indices
        void *values
        int64_t *inverse
        int64_t *starts
        int64_t *counts
        int64_t *before
        int64_t n, tiles, runs

# By size of element: 1, 2, 4, 8 bytes.
cdef cuda_kernel *_count_tiles[4]
cdef cuda_kernel *_nonzero_kernel[4]
cdef cuda_kernel *_masked_select_kernel[4]
cdef cuda_kernel *_masked_scatter_kernel[4]
# By dtype.
cdef cuda_kernel *_run_tiles[FX_DTYPES]
cdef cuda_kernel *_runs[FX_DTYPES]
cdef cuda_kernel *_run_lengths = find_kernel("select", "run_lengths")
cdef cuda_kernel *_one_hot_kernel = find_kernel("select", "one_hot")
cdef cuda_kernel *_bincount_kernel = find_kernel("select", "bincount")
# float32, float64
cdef cuda_kernel *_histogram[2]
cdef cuda_kernel *_histogram_end[2]
_histogram[:] = [find_kernel("select", "histogram_f32"), find_kernel("select", "histogram_f64")]
_histogram_end[:] = [find_kernel("select", "histogram_end_f32"), find_kernel("select", "histogram_end_f64")]


cdef int _find(cuda_kernel **table, str name) except -1:
    cdef int i
    for i in range(4):
        table[i] = find_kernel("select", f"{name}_{1 << i}")
    return 0

_find(_count_tiles, "count_tiles")
_find(_nonzero_kernel, "nonzero")
_find(_masked_select_kernel, "masked_select")
_find(_masked_scatter_kernel, "masked_scatter")
for _dtype in range(FX_DTYPES):
    _suffix = fx_suffix(_dtype).decode()
    _run_tiles[<int> _dtype] = find_kernel("select", f"run_tiles_{_suffix}")
    _runs[<int> _dtype] = find_kernel("select", f"runs_{_suffix}")


cdef inline int _width(int size) noexcept nogil:
    return 0 if size == 1 else 1 if size == 2 else 2 if size == 4 else 3


# --- masks

cdef inline uint64_t _kept_bits(int dtype) noexcept nogil:
    """All bits, but for floats not the sign: -0 is zero."""
    return ~fx_sign_bit(dtype) if fx_is_floating(dtype) else ~<uint64_t> 0


cdef int _count(fx_mask_args *args, const fx_array *tested, int64_t *total) noexcept nogil:
    """Fills in what concerns the tested array and counts its true elements; args.before is to be freed, if not NULL."""
    cdef int status, d, device = tested.device_index
    args.x = tested.data
    args.mask = <const uint8_t *> tested.data
    args.out = NULL
    args.src = NULL
    args.fault = NULL
    args.kept = _kept_bits(tested.dtype)
    args.n = tested.numel
    args.tiles = blocks_for(args.n, FX_TILE)
    args.limit = 0
    args.kernel = 0
    args.ndim = 0
    for d in range(FX_NONZERO_DIMS):
        args.size[d] = 1
    args.before = <int64_t *> scratch(device, <size_t> (args.tiles + 1) * 8)
    if args.before == NULL:
        return FX_ERROR_MEMORY
    status = launch_blocks(_count_tiles[_width(fx_itemsize(tested.dtype))], device, args.tiles, args)
    if status == FX_OK:
        status = prefix_sums(device, args.before, args.before + args.tiles if total == NULL else total, 1, args.tiles)
    return status


cdef int _close(fx_mask_args *args, int device, int status) noexcept nogil:
    if args.before != NULL:
        scratch_free(device, args.before)
    return status


cdef int _count_true(fx_call *call) noexcept nogil:
    cdef fx_mask_args args
    cdef fx_array *out = call.arrays[0]
    if call.arrays[1].numel == 0:
        return set_bytes(out.device_index, out.data, 0, 8)
    return _close(&args, out.device_index, _count(&args, call.arrays[1], <int64_t *> out.data))


cdef int _nonzero(fx_call *call) noexcept nogil:
    cdef fx_mask_args args
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[1]
    cdef int d, status
    if out.numel == 0 or x.numel == 0 or x.ndim == 0:
        return FX_OK
    status = _count(&args, x, NULL)
    args.out = out.data
    args.limit = out.dims[0]
    args.ndim = x.ndim
    for d in range(x.ndim):
        args.size[d] = x.dims[d]
    if status == FX_OK:
        status = launch_blocks(_nonzero_kernel[_width(fx_itemsize(x.dtype))], out.device_index, args.tiles, &args)
    return _close(&args, out.device_index, status)


cdef int _masked_select(fx_call *call) noexcept nogil:
    cdef fx_mask_args args
    cdef fx_array *out = call.arrays[0]
    cdef int status
    if out.numel == 0:
        return FX_OK
    status = _count(&args, call.arrays[2], NULL)
    args.x = call.arrays[1].data
    args.out = out.data
    args.limit = out.numel
    if status == FX_OK:
        status = launch_blocks(_masked_select_kernel[_width(fx_itemsize(out.dtype))], out.device_index, args.tiles,
                               &args)
    return _close(&args, out.device_index, status)


cdef int _masked_scatter(fx_call *call) noexcept nogil:
    cdef fx_mask_args args
    cdef fx_array *out = call.arrays[0]
    cdef int status
    if out.numel == 0:
        return FX_OK
    status = _count(&args, call.arrays[1], NULL)
    args.out = out.data
    args.src = call.arrays[2].data
    args.limit = call.arrays[2].numel
    args.kernel = call.kernel
    args.fault = fault_record(out.device_index)
    if status == FX_OK:
        status = launch_blocks(_masked_scatter_kernel[_width(fx_itemsize(out.dtype))], out.device_index, args.tiles,
                               &args)
    return _close(&args, out.device_index, status)


cdef int count_true(fx_call *call) noexcept nogil:
    return dense(call, _count_true, 0, 0)


cdef int nonzero(fx_call *call) noexcept nogil:
    return dense(call, _nonzero, 0, 0)


cdef int masked_select(fx_call *call) noexcept nogil:
    return dense(call, _masked_select, 0, 0)


cdef int masked_scatter(fx_call *call) noexcept nogil:
    cdef fx_array *x = call.arrays[0]
    cdef fx_array mask = call.arrays[1][0]
    cdef fx_array *arrays[3]
    cdef fx_array **given = call.arrays
    cdef int64_t dims[2 * FX_MAX_DIMS]
    cdef int d, at, status
    if mask.ndim == x.ndim and mask.numel == x.numel:
        return dense(call, _masked_scatter, 1, 0)
    for d in range(x.ndim):     # broadcast
        at = mask.ndim - x.ndim + d
        dims[d] = x.dims[d]
        dims[x.ndim + d] = mask.dims[mask.ndim + at] if at >= 0 and mask.dims[at] != 1 else 0
    mask.ndim = x.ndim
    mask.dims = dims
    mask.numel = x.numel
    mask.flags = 0
    arrays[0] = x
    arrays[1] = &mask
    arrays[2] = call.arrays[2]
    call.arrays = arrays
    status = dense(call, _masked_scatter, 1, 0)
    call.arrays = given
    return status


# --- counting

cdef void _bins(fx_call *call, fx_bins_args *args, int64_t n, int64_t bins) noexcept nogil:
    args.x = call.arrays[1].data
    args.weights = NULL
    args.counts = NULL
    args.out = call.arrays[0].data
    args.fault = fault_record(call.arrays[0].device_index)
    args.low = args.high = 0
    args.n = n
    args.bins = bins
    args.kernel = call.kernel
    args.unused = 0


cdef int _one_hot(fx_call *call) noexcept nogil:
    cdef fx_bins_args args
    cdef fx_array *out = call.arrays[0]
    _bins(call, &args, call.arrays[1].numel, out.dims[out.ndim - 1])
    return launch_elements(_one_hot_kernel, out.device_index, out.numel, &args)


cdef int _bincount(fx_call *call) noexcept nogil:
    cdef fx_bins_args args
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[1]
    cdef fx_array *weights = call.arrays[2] if call.n_in > 1 else NULL
    cdef int status, device = out.device_index
    if weights == NULL and out.dtype != FX_I64:
        return refused(call, FX_ERROR_TYPE, b"counts are int64")
    if out.dtype != FX_I64 and out.dtype != FX_F32 and out.dtype != FX_F64:
        return refused(call, FX_ERROR_TYPE, b"weights must be int64, float32 or float64")
    status = set_bytes(device, out.data, 0, <size_t> (out.numel * fx_itemsize(out.dtype)))
    if status != FX_OK or x.numel == 0:
        return status
    if out.dtype != FX_I64:
        return add_at(call, out, x, weights)
    _bins(call, &args, x.numel, out.numel)
    args.counts = <int64_t *> out.data
    args.weights = <const int64_t *> weights.data if weights != NULL else NULL
    # Sixteen elements for each thread: a block counts in shared memory first.
    return launch_blocks(_bincount_kernel, device, blocks_for(args.n, 4096), &args)


cdef int _histc(fx_call *call) noexcept nogil:
    cdef fx_bins_args args
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *x = call.arrays[1]
    cdef int status, device = out.device_index, wide = x.dtype == FX_F64
    if out.dtype != x.dtype or (x.dtype != FX_F32 and x.dtype != FX_F64):
        return refused(call, FX_ERROR_TYPE, b"a histogram takes float32 or float64")
    _bins(call, &args, x.numel, out.numel)
    args.low = call.params[0].f
    args.high = call.params[1].f
    if not args.low < args.high:
        snprintf(call.message, sizeof(call.message), b"min %g is not below max %g", args.low, args.high)
        return FX_ERROR_VALUE
    if args.bins == 0:
        return FX_OK
    args.counts = <int64_t *> scratch(device, <size_t> args.bins * 8)
    if args.counts == NULL:
        return FX_ERROR_MEMORY
    status = set_bytes(device, args.counts, 0, <size_t> args.bins * 8)
    if status == FX_OK:
        status = launch_blocks(_histogram[wide], device, blocks_for(args.n, 4096), &args)
    if status == FX_OK:
        status = launch_elements(_histogram_end[wide], device, args.bins, &args)
    scratch_free(device, args.counts)
    return status


cdef int one_hot(fx_call *call) noexcept nogil:
    return dense(call, _one_hot, 0, 0)


cdef int bincount(fx_call *call) noexcept nogil:
    return dense(call, _bincount, 0, 0)


cdef int histc(fx_call *call) noexcept nogil:
    return dense(call, _histc, 0, 0)


# --- runs of equal values

cdef int _count_runs(fx_runs_args *args, const fx_array *x, int64_t *total) noexcept nogil:
    """Fills in what concerns x and counts its runs; args.before is to be freed, if not NULL."""
    cdef int status, device = x.device_index
    args.x = x.data
    args.indices = NULL
    args.values = NULL
    args.inverse = NULL
    args.starts = NULL
    args.counts = NULL
    args.n = x.numel
    args.tiles = blocks_for(args.n, FX_TILE)
    args.runs = 0
    args.before = <int64_t *> scratch(device, <size_t> (args.tiles + 1) * 8)
    if args.before == NULL:
        return FX_ERROR_MEMORY
    status = launch_blocks(_run_tiles[x.dtype], device, args.tiles, args)
    if status == FX_OK:
        status = prefix_sums(device, args.before, args.before + args.tiles if total == NULL else total, 1, args.tiles)
    return status


cdef int _unique_count(fx_call *call) noexcept nogil:
    cdef fx_runs_args args
    cdef fx_array *out = call.arrays[0]
    cdef int status
    if call.arrays[1].numel == 0:
        return set_bytes(out.device_index, out.data, 0, 8)
    status = _count_runs(&args, call.arrays[1], <int64_t *> out.data)
    if args.before != NULL:
        scratch_free(out.device_index, args.before)
    return status


cdef int _unique(fx_call *call) noexcept nogil:
    cdef fx_runs_args args
    cdef fx_array *values = call.arrays[0]
    cdef fx_array *x = call.arrays[3]
    cdef int status, device = x.device_index
    if x.numel == 0:
        return FX_OK
    status = _count_runs(&args, x, NULL)
    args.values = values.data
    args.runs = values.numel
    if call.n_in > 1 and call.arrays[4] != NULL:
        args.indices = <const int64_t *> call.arrays[4].data
    if call.arrays[1] != NULL:
        args.inverse = <int64_t *> call.arrays[1].data
    if call.arrays[2] != NULL:
        args.counts = <int64_t *> call.arrays[2].data
        args.starts = <int64_t *> scratch(device, <size_t> args.runs * 8)
        if args.starts == NULL and status == FX_OK:
            status = FX_ERROR_MEMORY
    if status == FX_OK:
        status = launch_blocks(_runs[x.dtype], device, args.tiles, &args)
    if status == FX_OK and args.counts != NULL:
        status = launch_elements(_run_lengths, device, args.runs, &args)
    if args.starts != NULL:
        scratch_free(device, args.starts)
    if args.before != NULL:
        scratch_free(device, args.before)
    return status


cdef int unique_count(fx_call *call) noexcept nogil:
    return dense(call, _unique_count, 0, 0)


cdef int unique(fx_call *call) noexcept nogil:
    return dense(call, _unique, 0, 0)


provide(FX_CUDA, "count_true", count_true)
provide(FX_CUDA, "nonzero", nonzero)
provide(FX_CUDA, "masked_select", masked_select)
provide(FX_CUDA, "masked_scatter", masked_scatter)
provide(FX_CUDA, "one_hot", one_hot)
provide(FX_CUDA, "bincount", bincount)
provide(FX_CUDA, "histc", histc)
provide(FX_CUDA, "unique_count", unique_count)
provide(FX_CUDA, "unique", unique)
