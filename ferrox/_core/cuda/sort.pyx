"""Kernels that order, on the GPU: arrays, params and semantics of cpu/sort.pyx.  Always stable.

Rows of up to FX_SHORT_ROW elements are sorted in shared memory.  Longer ones go as pairs of key and position through
order.pyx; when the k first of a long row are few, they are selected first.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf

from ferrox._core.abi cimport FX_CUDA, FX_ERROR_MEMORY, FX_ERROR_VALUE, FX_OK, fx_array, fx_call, fx_infinity_bits, \
    fx_itemsize, fx_sign_bit
from ferrox._core.door.backend cimport provide
from ferrox._core.cuda.dense cimport dense
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel
from ferrox._core.cuda.order cimport FX_SHORT_ROW, FX_TILE, blocks_for, close_pairs, launch_blocks, launch_elements, \
    open_pairs, pairs, prefix_sums, sort_pairs
from ferrox._core.cuda.scratch cimport scratch, scratch_free

cdef extern from "fx/sort_args.h" nogil:
    ctypedef struct fx_key_kind:
        uint64_t sign, infinity, flip
    ctypedef struct fx_sort_args:
        const void *x
        void *values
        int64_t *indices
        void *keys
        const uint32_t *positions
        fx_key_kind kind
        int64_t n, rows, inner, pairs, first, count, width
    ctypedef struct fx_select_args:
        const void *x
        void *values
        int64_t *indices
        void *keys
        uint32_t *positions
        uint64_t *bound
        uint32_t *left
        uint32_t *counts
        int64_t *tiles_before
        fx_key_kind kind
        int64_t n, rows, inner, tiles, k
        int shift, unused

cdef enum:
    DIGITS = 256

# By size of element: 1, 2, 4, 8 bytes.
cdef cuda_kernel *_sort_rows[4]
cdef cuda_kernel *_load_keys[4]
cdef cuda_kernel *_store_keys[4]
cdef cuda_kernel *_select_count[4]
cdef cuda_kernel *_select_tiles[4]
cdef cuda_kernel *_select_least[4]
cdef cuda_kernel *_select_kth[4]
cdef cuda_kernel *_select_begin = find_kernel("sort", "select_begin")
cdef cuda_kernel *_select_pick = find_kernel("sort", "select_pick")


cdef int _find(cuda_kernel **table, str name) except -1:
    cdef int i
    for i in range(4):
        table[i] = find_kernel("sort", f"{name}_{1 << i}")
    return 0

_find(_sort_rows, "sort_rows")
_find(_load_keys, "load_keys")
_find(_store_keys, "store_keys")
_find(_select_count, "select_count")
_find(_select_tiles, "select_tiles")
_find(_select_least, "select_least")
_find(_select_kth, "select_kth")


cdef inline int _width(int size) noexcept nogil:
    return 0 if size == 1 else 1 if size == 2 else 2 if size == 4 else 3


cdef fx_key_kind _kind_of(int dtype, bint descending) noexcept nogil:
    cdef fx_key_kind kind
    cdef int bits = 8 * fx_itemsize(dtype)
    kind.sign = fx_sign_bit(dtype)
    kind.infinity = fx_infinity_bits(dtype)
    kind.flip = ~<uint64_t> 0 >> (64 - bits) if descending else 0
    return kind


cdef int _describe(fx_call *call, fx_sort_args *args, fx_array *values, fx_array *indices, const fx_array *x,
                   int dim, bint descending) noexcept nogil:
    cdef int d
    args.x = x.data
    args.values = values.data if values != NULL else NULL
    args.indices = <int64_t *> indices.data if indices != NULL else NULL
    args.keys = NULL
    args.positions = NULL
    args.kind = _kind_of(x.dtype, descending)
    args.n = x.dims[dim] if x.ndim else 1
    args.inner = 1
    for d in range(dim + 1, x.ndim):
        args.inner *= x.dims[d]
    args.rows = x.numel // args.n if args.n else 0
    args.pairs = args.count = args.n
    args.first = 0
    args.width = 1
    if args.n >> 32:
        snprintf(call.message, sizeof(call.message), b"more than 2**32 elements along dimension %d", dim)
        return FX_ERROR_VALUE
    return FX_OK


cdef int _short(fx_sort_args *args, int size, int device) noexcept nogil:
    while args.width < args.n:
        args.width *= 2
    return launch_blocks(_sort_rows[_width(size)], device, blocks_for(args.rows, FX_SHORT_ROW // args.width), args)


cdef int _sorted(fx_sort_args *args, int size, int device) noexcept nogil:
    """Every row sorted as a whole; the first `count` are written."""
    cdef pairs p
    cdef int status
    if args.rows == 0 or args.count == 0:
        return FX_OK
    if args.n <= FX_SHORT_ROW:
        return _short(args, size, device)
    status = open_pairs(&p, device, args.n, args.rows, 8 if size == 8 else 4)
    if status != FX_OK:
        return status
    args.keys = p.keys[0]
    status = launch_elements(_load_keys[_width(size)], device, args.n * args.rows, args)
    if status == FX_OK:
        status = sort_pairs(&p, device, args.n, args.rows, 8 * size, False)
    args.keys = p.keys[p.at]
    args.positions = p.values[p.at]
    if status == FX_OK:
        status = launch_elements(_store_keys[_width(size)], device, args.count * args.rows, args)
    close_pairs(&p, device)
    return status


# --- selection

cdef int _select(const fx_sort_args *from_, fx_select_args *args, char **work, int64_t k, int size,
                 int device) noexcept nogil:
    """Finds the key of rank k - 1 of each row and counts what is less and equal in each tile; `work` is to be freed."""
    cdef int64_t bytes
    cdef int status, shift = 8 * size - 8
    args.x = from_.x
    args.values = from_.values
    args.indices = from_.indices
    args.keys = NULL
    args.positions = NULL
    args.kind = from_.kind
    args.n = from_.n
    args.rows = from_.rows
    args.inner = from_.inner
    args.tiles = blocks_for(args.n, FX_TILE)
    args.k = k
    args.shift = shift
    args.unused = 0
    # bound; tiles_before and its totals; left; counts
    bytes = args.rows * (8 + 16 * (args.tiles + 1) + 4 + 4 * DIGITS)
    work[0] = <char *> scratch(device, <size_t> bytes)
    if work[0] == NULL:
        return FX_ERROR_MEMORY
    args.bound = <uint64_t *> work[0]
    args.tiles_before = <int64_t *> (args.bound + args.rows)
    args.left = <uint32_t *> (args.tiles_before + 2 * args.rows * (args.tiles + 1))
    args.counts = args.left + args.rows
    status = launch_elements(_select_begin, device, args.rows * DIGITS, args)
    while shift >= 0 and status == FX_OK:
        args.shift = shift
        status = launch_blocks(_select_count[_width(size)], device, args.rows * args.tiles, args)
        if status == FX_OK:
            status = launch_blocks(_select_pick, device, args.rows, args)
        shift -= 8
    if status == FX_OK:
        status = launch_blocks(_select_tiles[_width(size)], device, args.rows * args.tiles, args)
    if status == FX_OK:
        status = prefix_sums(device, args.tiles_before, args.tiles_before + 2 * args.rows * args.tiles, 2 * args.rows,
                             args.tiles)
    return status


cdef int _least(fx_sort_args *args, int64_t k, int size, int device) noexcept nogil:
    """The k first of each row, selected and then sorted."""
    cdef fx_select_args select
    cdef pairs p
    cdef char *work = NULL
    cdef int status = open_pairs(&p, device, k, args.rows, 8 if size == 8 else 4)
    if status != FX_OK:
        return status
    status = _select(args, &select, &work, k, size, device)
    select.keys = p.keys[0]
    select.positions = p.values[0]
    if status == FX_OK:
        status = launch_blocks(_select_least[_width(size)], device, args.rows * select.tiles, &select)
    if status == FX_OK:
        status = sort_pairs(&p, device, k, args.rows, 8 * size, True)
    args.keys = p.keys[p.at]
    args.positions = p.values[p.at]
    args.pairs = args.count = k
    if status == FX_OK:
        status = launch_elements(_store_keys[_width(size)], device, k * args.rows, args)
    if work != NULL:
        scratch_free(device, work)
    close_pairs(&p, device)
    return status


# --- the kernels

cdef int _sort(fx_call *call) noexcept nogil:
    cdef fx_sort_args args
    cdef fx_array *x = call.arrays[2]
    cdef int status = _describe(call, &args, call.arrays[0], call.arrays[1], x, <int> call.params[0].i,
                                call.params[1].i != 0)
    return status if status != FX_OK else _sorted(&args, fx_itemsize(x.dtype), x.device_index)


cdef int _argsort(fx_call *call) noexcept nogil:
    cdef fx_sort_args args
    cdef fx_array *x = call.arrays[1]
    cdef int status = _describe(call, &args, NULL, call.arrays[0], x, <int> call.params[0].i, call.params[1].i != 0)
    return status if status != FX_OK else _sorted(&args, fx_itemsize(x.dtype), x.device_index)


cdef int _out_of_range(fx_call *call, int64_t k, int dim, int64_t n) noexcept nogil:
    snprintf(call.message, sizeof(call.message), b"k is %lld, but dimension %d has size %lld", <long long> k, dim,
             <long long> n)
    return FX_ERROR_VALUE


cdef int _topk(fx_call *call) noexcept nogil:
    cdef fx_sort_args args
    cdef fx_array *x = call.arrays[2]
    cdef int dim = <int> call.params[1].i, size = fx_itemsize(x.dtype)
    cdef int64_t k = call.params[0].i
    cdef int status = _describe(call, &args, call.arrays[0], call.arrays[1], x, dim, call.params[2].i != 0)
    if status != FX_OK:
        return status
    if k < 0 or k > args.n:
        return _out_of_range(call, k, dim, args.n)
    args.count = k
    if k * 8 > args.n or k == 0 or args.n <= FX_SHORT_ROW or args.rows == 0:
        return _sorted(&args, size, x.device_index)
    return _least(&args, k, size, x.device_index)


cdef int _kthvalue(fx_call *call) noexcept nogil:
    cdef fx_sort_args args
    cdef fx_select_args select
    cdef char *work = NULL
    cdef fx_array *x = call.arrays[2]
    cdef int dim = <int> call.params[1].i, size = fx_itemsize(x.dtype)
    cdef int64_t k = call.params[0].i
    cdef int status = _describe(call, &args, call.arrays[0], call.arrays[1], x, dim, False)
    if status != FX_OK:
        return status
    if k < 1 or k > args.n:
        return _out_of_range(call, k, dim, args.n)
    if args.rows == 0:
        return FX_OK
    if args.n <= FX_SHORT_ROW:
        args.first = k - 1
        args.count = 1
        return _short(&args, size, x.device_index)
    status = _select(&args, &select, &work, k, size, x.device_index)
    if status == FX_OK:
        status = launch_blocks(_select_kth[_width(size)], x.device_index, args.rows * select.tiles, &select)
    if work != NULL:
        scratch_free(x.device_index, work)
    return status


cdef int sort(fx_call *call) noexcept nogil:
    return dense(call, _sort, 0, 0)


cdef int argsort(fx_call *call) noexcept nogil:
    return dense(call, _argsort, 0, 0)


cdef int topk(fx_call *call) noexcept nogil:
    return dense(call, _topk, 0, 0)


cdef int kthvalue(fx_call *call) noexcept nogil:
    return dense(call, _kthvalue, 0, 0)


provide(FX_CUDA, "sort", sort)
provide(FX_CUDA, "argsort", argsort)
provide(FX_CUDA, "topk", topk)
provide(FX_CUDA, "kthvalue", kthvalue)
