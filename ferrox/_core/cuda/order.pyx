"""The host's side of kernels/cuda/order.cu: sorting pairs of a key and a value, and prefix sums.

Rows of up to FX_SHORT_ROW pairs are sorted by one block each, or several by one; longer ones by radix passes of at most
eight bits, each of three launches: count the digits of every tile, add the counts up, deal the pairs out.
"""
from libc.stdint cimport int64_t, uint32_t
from libc.stdio cimport snprintf

from ferrox._core.abi cimport FX_CUDA, FX_ERROR_MEMORY, FX_ERROR_RUNTIME, FX_OK, fx_array, fx_call, fx_kernel
from ferrox._core.door.backend cimport implementation
from ferrox._core.cuda.abi cimport CUdeviceptr, CUresult
from ferrox._core.cuda.context cimport bind, devices
from ferrox._core.cuda.driver cimport cu
from ferrox._core.cuda.module cimport cuda_kernel, driver_call, find_kernel, flat_shape, launch, launch_shape, launched
from ferrox._core.cuda.scratch cimport scratch, scratch_free
from ferrox._core.cuda.stream cimport current_stream

cdef extern from "fx/order_args.h" nogil:
    enum:
        FX_RADIX_BITS
        FX_RADIX_TILE
        FX_SHORT_PREFIX
    ctypedef struct fx_radix_args:
        const void *keys
        const uint32_t *values
        void *keys_out
        uint32_t *values_out
        uint32_t *counts
        uint32_t *totals
        int64_t n, rows, tiles
        int shift, bits
    ctypedef struct fx_prefix_args:
        void *counts
        void *totals
        int64_t sequences, n
    ctypedef struct fx_short_args:
        const void *keys
        const uint32_t *values
        void *keys_out
        uint32_t *values_out
        int64_t n, rows, width

cdef enum:
    THREADS = 256
    WAVES = 32              # blocks per multiprocessor, at most

cdef cuda_kernel *_prefix_warp[2]       # of uint32, of int64
cdef cuda_kernel *_prefix_block[2]
cdef cuda_kernel *_count[2]             # of 32-bit keys, of 64-bit keys
cdef cuda_kernel *_deal[2]
cdef cuda_kernel *_short[2]
_prefix_warp[:] = [find_kernel("order", "prefix_warp_u32"), find_kernel("order", "prefix_warp_i64")]
_prefix_block[:] = [find_kernel("order", "prefix_block_u32"), find_kernel("order", "prefix_block_i64")]
_count[:] = [find_kernel("order", "radix_count_k32"), find_kernel("order", "radix_count_k64")]
_deal[:] = [find_kernel("order", "radix_deal_k32"), find_kernel("order", "radix_deal_k64")]
_short[:] = [find_kernel("order", "sort_short_k32"), find_kernel("order", "sort_short_k64")]


cdef int refused(fx_call *call, int status, const char *message) noexcept nogil:
    snprintf(call.message, sizeof(call.message), "%s", message)
    return status


cdef int launch_blocks(cuda_kernel *kernel, int device, int64_t blocks, void *args) noexcept nogil:
    cdef int64_t most = <int64_t> WAVES * devices[device].multiprocessors
    cdef launch_shape shape
    if blocks == 0:
        return FX_OK
    shape = flat_shape(<unsigned int> min(blocks, most), THREADS)
    return launched(launch(kernel, device, current_stream(device), &shape, &args))


cdef int set_bytes(int device, void *to, int value, size_t bytes) noexcept nogil:
    cdef CUresult status = bind(device)
    if status == 0 and bytes:
        status = cu.cuMemsetD8Async(<CUdeviceptr> to, <unsigned char> value, bytes, current_stream(device))
    return driver_call(status, b"filling")


cdef int run_unary(int kernel, fx_array *out, fx_array *x, int dtype) noexcept nogil:
    cdef fx_kernel function = implementation[<int> FX_CUDA][kernel]
    cdef fx_array *arrays[2]
    cdef fx_call call
    if function == NULL:
        return FX_ERROR_RUNTIME
    arrays[0] = out
    arrays[1] = x
    call.arrays = arrays
    call.n_out = 1
    call.n_in = 1
    call.kernel = kernel
    call.dtype = dtype
    call.params = NULL
    call.n_params = 0
    call.message[0] = 0
    return function(&call)


# --- prefix sums

cdef int _prefix(int device, int kind, void *counts, void *totals, int64_t sequences, int64_t n) noexcept nogil:
    cdef fx_prefix_args args
    args.counts = counts
    args.totals = totals
    args.sequences = sequences
    args.n = n
    if n <= FX_SHORT_PREFIX:
        return launch_blocks(_prefix_warp[kind], device, blocks_for(sequences, THREADS // 32), &args)
    return launch_blocks(_prefix_block[kind], device, sequences, &args)


cdef int prefix_sums(int device, int64_t *counts, int64_t *totals, int64_t sequences, int64_t n) noexcept nogil:
    return _prefix(device, 1, counts, totals, sequences, n)


# --- pairs

cdef int open_pairs(pairs *p, int device, int64_t n, int64_t rows, int key_bytes) noexcept nogil:
    cdef int64_t keys = (n * rows * key_bytes + 255) // 256 * 256, values = (n * rows * 4 + 255) // 256 * 256
    cdef char *block = <char *> scratch(device, <size_t> (2 * (keys + values)))
    p.block = block
    if block == NULL:
        return FX_ERROR_MEMORY
    p.keys[0] = block
    p.keys[1] = block + keys
    p.values[0] = <uint32_t *> (block + 2 * keys)
    p.values[1] = <uint32_t *> (block + 2 * keys + values)
    p.at = 0
    p.key_bytes = key_bytes
    return FX_OK


cdef void close_pairs(pairs *p, int device) noexcept nogil:
    if p.block != NULL:
        scratch_free(device, p.block)
    p.block = NULL


cdef int _sort_short(pairs *p, int device, int64_t n, int64_t rows, bint given) noexcept nogil:
    cdef fx_short_args args
    args.keys = p.keys[p.at]
    args.values = p.values[p.at] if given else NULL
    args.keys_out = p.keys[1 - p.at]
    args.values_out = p.values[1 - p.at]
    args.n = n
    args.rows = rows
    args.width = 1
    while args.width < n:
        args.width *= 2
    p.at = 1 - p.at
    return launch_blocks(_short[p.key_bytes == 8], device, blocks_for(rows, FX_SHORT_ROW // args.width), &args)


cdef int sort_pairs(pairs *p, int device, int64_t n, int64_t rows, int bits, bint given) noexcept nogil:
    cdef fx_radix_args args
    cdef int wide = p.key_bytes == 8, passes, width, low = 0, status = FX_OK
    cdef int64_t tile = FX_RADIX_TILE // p.key_bytes
    cdef char *counts
    if n <= FX_SHORT_ROW:
        return _sort_short(p, device, n, rows, given)
    bits = max(bits, 1)
    passes = (bits + FX_RADIX_BITS - 1) // FX_RADIX_BITS
    width = (bits + passes - 1) // passes
    args.n = n
    args.rows = rows
    args.tiles = blocks_for(n, tile)
    counts = <char *> scratch(device, <size_t> (rows * (args.tiles + 1) << width) * 4)
    if counts == NULL:
        return FX_ERROR_MEMORY
    args.totals = <uint32_t *> counts
    args.counts = args.totals + (rows << width)
    while low < bits and status == FX_OK:
        args.keys = p.keys[p.at]
        args.values = p.values[p.at] if given else NULL
        args.keys_out = p.keys[1 - p.at]
        args.values_out = p.values[1 - p.at]
        args.shift = low
        args.bits = min(width, bits - low)
        status = launch_blocks(_count[wide], device, rows * args.tiles, &args)
        if status == FX_OK:
            status = _prefix(device, 0, args.counts, args.totals, rows << args.bits, args.tiles)
        if status == FX_OK:
            status = launch_blocks(_deal[wide], device, rows * args.tiles, &args)
        p.at = 1 - p.at
        given = True
        low += width
    scratch_free(device, counts)
    return status
