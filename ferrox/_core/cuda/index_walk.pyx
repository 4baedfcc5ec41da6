"""Moving and accumulating elements through index arrays, on the GPU: the host's side of kernels/cuda/indexing.cu and
accumulate.cu, for index_kernels.pyx and others.  See fx/index_args.h for how a call is described.
"""
from libc.stdint cimport int32_t, int64_t, uint32_t

from ferrox._core.abi cimport FX_BOOL, FX_DTYPES, FX_ERROR_MEMORY, FX_ERROR_VALUE, FX_OK, fx_accumulation, fx_array, \
    fx_call, fx_itemsize, fx_least, fx_most, fx_scalar, fx_suffix
from ferrox._core.cuda.fault cimport fault_record
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel
from ferrox._core.cuda.order cimport bits_of, blocks_for, close_pairs, launch_elements, open_pairs, pairs, refused, \
    set_bytes, sort_pairs
from ferrox._core.cuda.scratch cimport scratch, scratch_free

cdef extern from "fx/index_args.h" nogil:
    enum:
        FX_CHUNK
    ctypedef struct fx_accumulate_args:
        void *x
        const void *y
        const void *keys
        const uint32_t *positions
        void *chunks
        void *superchunks
        int64_t m, q, inner, limit, step
        double alpha, start_real
        int64_t alpha_whole, start_whole
        int action, wide, from_start, mean, single, unused
        fx_layout kept, indexed

cdef enum:
    FEW_PLACES = 1 << 20        # up to which a table of all places is cheap
    AT_ONCE = 4                 # elements of a position that a thread accumulates, at most

# By word: 1, 2, 4, 8, 16 bytes.
cdef cuda_kernel *_read[5]
cdef cuda_kernel *_write[5]
cdef cuda_kernel *_write_owned[5]
cdef cuda_kernel *_write_sorted[2][5]       # by keys of 32 and of 64 bits
cdef cuda_kernel *_own = find_kernel("indexing", "index_own")
cdef cuda_kernel *_keys[2]
# By dtype.
cdef cuda_kernel *_sum_chunks[FX_DTYPES]
cdef cuda_kernel *_sum_superchunks[FX_DTYPES]
cdef cuda_kernel *_accumulate[FX_DTYPES]
_keys[:] = [find_kernel("indexing", "index_keys_32"), find_kernel("indexing", "index_keys_64")]


cdef int _find(cuda_kernel **table, str name) except -1:
    cdef int i
    for i in range(5):
        table[i] = find_kernel("indexing", f"{name}_{1 << i}")
    return 0

_find(_read, "index_read")
_find(_write, "index_write")
_find(_write_owned, "index_write_owned")
_find(_write_sorted[0], "index_write_sorted32")
_find(_write_sorted[1], "index_write_sorted64")
for _dtype in range(FX_DTYPES):
    _suffix, _sum = fx_suffix(_dtype).decode(), fx_suffix(fx_accumulation(_dtype)).decode()
    _sum_chunks[<int> _dtype] = find_kernel("accumulate", f"sum_chunks_{_suffix}")
    _accumulate[<int> _dtype] = find_kernel("accumulate", f"accumulate_{_suffix}")
    _sum_superchunks[<int> _dtype] = find_kernel("accumulate", f"sum_superchunks_{_sum}")


# --- descriptions

cdef void _clear(fx_layout *l) noexcept nogil:
    cdef int d
    l.ndim = 0
    for d in range(FX_LAYOUT_DIMS):
        l.size[d] = 1
        l.stride[d] = 0


cdef bint _push(fx_layout *l, int64_t size, int64_t stride) noexcept nogil:
    """The next dimension outwards; joined with the one before where it lies behind it."""
    cdef int64_t last = l.ndim - 1
    if size == 1:
        return True
    if last >= 0 and stride == l.stride[last] * l.size[last]:
        l.size[last] *= size
        return True
    if l.ndim == FX_LAYOUT_DIMS:
        return False
    l.size[l.ndim] = size
    l.stride[l.ndim] = stride
    l.ndim += 1
    return True


cdef void _begin(fx_call *call, fx_index_args *a, fx_array *x, fx_array *y, int64_t m) noexcept nogil:
    cdef int j
    a.x = x.data
    a.y = y.data
    for j in range(FX_INDICES):
        a.index[j] = NULL
        a.size[j] = a.stride[j] = a.key_stride[j] = 0
    a.fault = fault_record(x.device_index)
    a.m = m
    a.q = a.inner = 1
    a.keys = NULL
    a.owners = NULL
    a.positions = NULL
    a.k = a.wrap = a.single = 0
    a.kernel = call.kernel
    _clear(&a.base)
    _clear(&a.kept)
    _clear(&a.indexed)


cdef int _too_many(fx_call *call) noexcept nogil:
    return refused(call, FX_ERROR_VALUE, b"too many dimensions or index tensors for the device")


cdef int lay_through(fx_call *call, fx_index_args *a, fx_array *x, fx_array *y, fx_array **index, int k, int at,
                     const fx_scalar *tags, bint wrap) noexcept nogil:
    cdef int d, j, kept = 0
    cdef int64_t places = 1
    cdef bint fits = True
    _begin(call, a, x, y, index[0].numel)
    if k > FX_INDICES:
        return _too_many(call)
    a.k = k
    a.wrap = wrap
    for d in range(x.ndim):
        kept += tags[d].i < 0
    for d in range(x.ndim - 1, -1, -1):
        j = <int> tags[d].i
        if j >= 0:
            a.index[j] = <const int64_t *> index[j].data
            a.size[j] = x.dims[d]
            a.stride[j] = x.dims[x.ndim + d]
            a.key_stride[j] = places
            places *= x.dims[d]
            fits = fits and _push(&a.indexed, x.dims[d], x.dims[x.ndim + d])
        else:
            kept -= 1
            a.q *= x.dims[d]
            if kept >= at:
                a.inner *= x.dims[d]
            fits = fits and _push(&a.kept, x.dims[d], x.dims[x.ndim + d])
    a.limit = places
    a.single = y.numel == 1 and a.m * a.q != 1
    return FX_OK if fits else _too_many(call)


cdef int lay_along(fx_call *call, fx_index_args *a, fx_array *x, fx_array *y, fx_array *index, int dim) noexcept nogil:
    cdef int d
    cdef bint fits = True
    _begin(call, a, x, y, index.numel)
    a.k = 1
    a.index[0] = <const int64_t *> index.data
    a.size[0] = x.dims[dim] if x.ndim else 1
    a.stride[0] = a.key_stride[0] = x.dims[x.ndim + dim] if x.ndim else 1
    for d in range(index.ndim - 1, -1, -1):
        # A dimension of x is 1 where it is a number and the index has one dim.
        fits = fits and _push(&a.base, index.dims[d], 0 if d == dim or x.ndim == 0 else x.dims[x.ndim + d])
    a.limit = x.numel
    _push(&a.indexed, x.numel, 1)
    a.single = y.numel == 1 and a.m != 1
    return FX_OK if fits else _too_many(call)


cdef int lay_region(fx_call *call, fx_index_args *a, fx_array *region, fx_array *y) noexcept nogil:
    cdef int d
    cdef bint fits = True
    cdef int64_t stride, low = 0
    _begin(call, a, region, y, region.numel)
    a.limit = 1
    for d in range(region.ndim - 1, -1, -1):
        stride = region.dims[region.ndim + d]
        fits = fits and _push(&a.base, region.dims[d], stride)
        if stride < 0:
            low += (region.dims[d] - 1) * stride
        else:
            a.limit += (region.dims[d] - 1) * stride
    if low < 0:     # keys count from the lowest element
        return refused(call, FX_ERROR_VALUE, b"negative strides")
    _push(&a.indexed, a.limit, 1)
    a.single = y.numel == 1 and a.m != 1
    return FX_OK if fits else _too_many(call)


# --- moves

cdef int _widen(fx_index_args *a, int size) noexcept nogil:
    """Counts in the widest words that rows of elements can be moved in; returns its place in the tables of kernels."""
    cdef int word = size, which = 0, j
    cdef int64_t factor, whole
    if a.kept.ndim and a.kept.stride[0] == 1 and not a.single:
        word = 16
        while word > size:
            factor = word // size
            whole = a.kept.size[0] | a.inner | a.q
            for j in range(1, a.kept.ndim):
                whole |= a.kept.stride[j]
            for j in range(a.k):
                whole |= a.stride[j]
            for j in range(a.indexed.ndim):
                whole |= a.indexed.stride[j]
            if whole % factor == 0 and (<size_t> a.x | <size_t> a.y) % <size_t> word == 0:
                a.kept.size[0] //= factor
                a.inner //= factor
                a.q //= factor
                for j in range(1, a.kept.ndim):
                    a.kept.stride[j] //= factor
                for j in range(a.k):
                    a.stride[j] //= factor
                for j in range(a.indexed.ndim):
                    a.indexed.stride[j] //= factor
                break
            word //= 2
    while 1 << which < word:
        which += 1
    return which


cdef int read_indexed(fx_call *call, fx_index_args *a, int dtype, int device) noexcept nogil:
    if a.m * a.q == 0:
        return FX_OK
    cdef cuda_kernel *kernel = _read[_widen(a, fx_itemsize(dtype))]
    return launch_elements(kernel, device, a.m * a.q, a)


cdef int _sort_keys(fx_call *call, fx_index_args *a, pairs *p, int device) noexcept nogil:
    """The positions in the order of their keys; the pairs are to be closed, whatever the status."""
    cdef int wide = a.limit >= <int64_t> 0xffffffff, status
    p.block = NULL
    if a.m >> 32:
        return refused(call, FX_ERROR_VALUE, b"more than 2**32 indices")
    status = open_pairs(p, device, a.m, 1, 8 if wide else 4)
    if status != FX_OK:
        return status
    a.keys = p.keys[0]
    status = launch_elements(_keys[wide], device, a.m, a)
    if status == FX_OK:
        status = sort_pairs(p, device, a.m, 1, bits_of(a.limit), False)
    a.keys = p.keys[p.at]
    a.positions = p.values[p.at]
    return status


cdef int write_indexed(fx_call *call, fx_index_args *a, int dtype, int device) noexcept nogil:
    """See Note [Which write stays] in indexing.cu."""
    cdef pairs p
    cdef int status, which
    if a.m * a.q == 0:
        return FX_OK
    which = _widen(a, fx_itemsize(dtype))
    if a.m == 1 or a.single:
        return launch_elements(_write[which], device, a.m * a.q, a)
    if a.limit <= max(4 * a.m, <int64_t> FEW_PLACES) and a.m >> 31 == 0:
        a.owners = <int32_t *> scratch(device, <size_t> (a.limit + 1) * 4)
        if a.owners == NULL:
            return FX_ERROR_MEMORY
        status = set_bytes(device, a.owners, 0xff, <size_t> a.limit * 4)
        if status == FX_OK:
            status = launch_elements(_own, device, a.m, a)
        if status == FX_OK:
            status = launch_elements(_write_owned[which], device, a.m * a.q, a)
        scratch_free(device, a.owners)
        return status
    status = _sort_keys(call, a, &p, device)
    if status == FX_OK:
        status = launch_elements(_write_sorted[p.key_bytes == 8][which], device, a.m * a.q, a)
    close_pairs(&p, device)
    return status


# --- accumulation

cdef void _start(fx_accumulate_args *args, int dtype, int action) noexcept nogil:
    """The value that leaves the other operand as it is."""
    cdef double inf = 1e308 * 10
    cdef int64_t least = fx_least(dtype), most = fx_most(dtype)     # of a real, neither is used
    args.start_real = -inf if action == FX_ACTION_MAXIMUM else inf if action == FX_ACTION_MINIMUM else 0
    args.start_whole = least if action == FX_ACTION_MAXIMUM else most if action == FX_ACTION_MINIMUM else 0
    if action == FX_ACTION_MULTIPLY:
        args.start_real = args.start_whole = 1


cdef int accumulate_indexed(fx_call *call, fx_index_args *a, const reduction *how, int dtype,
                            int device) noexcept nogil:
    cdef fx_accumulate_args args
    cdef pairs p
    cdef int status
    cdef int64_t sum_bytes = fx_itemsize(fx_accumulation(dtype)), slots, superslots
    if a.m * a.q == 0:
        return FX_OK
    args.action = how.action
    if dtype == FX_BOOL:    # sum and maximum are or, product and minimum are and
        if how.action == FX_ACTION_ADD and how.alpha_whole == 0:
            return FX_OK
        if how.action == FX_ACTION_ADD or how.action == FX_ACTION_MAXIMUM:
            args.action = FX_ACTION_MAXIMUM
        else:
            args.action = FX_ACTION_MINIMUM
    status = _sort_keys(call, a, &p, device)
    if status != FX_OK:
        close_pairs(&p, device)
        return status
    args.x = a.x
    args.y = a.y
    args.keys = a.keys
    args.positions = a.positions
    args.chunks = NULL
    args.superchunks = NULL
    args.m = a.m
    args.q = a.q
    args.inner = a.inner
    args.limit = a.limit
    args.step = a.q if a.q < 32 * AT_ONCE else blocks_for(a.q, AT_ONCE)
    args.alpha = how.alpha
    args.alpha_whole = how.alpha_whole
    _start(&args, dtype, args.action)
    args.wide = p.key_bytes == 8
    args.from_start = not how.include_self
    args.mean = how.mean
    args.single = a.single
    args.unused = 0
    args.kept = a.kept
    args.indexed = a.indexed
    slots = 2 * blocks_for(a.m, FX_CHUNK)
    superslots = 2 * blocks_for(a.m, FX_CHUNK * FX_CHUNK)
    if a.m > FX_CHUNK:
        args.chunks = scratch(device, <size_t> ((slots + superslots) * a.q * sum_bytes))
        if args.chunks == NULL:
            status = FX_ERROR_MEMORY
        else:
            args.superchunks = <char *> args.chunks + slots * a.q * sum_bytes
            status = launch_elements(_sum_chunks[dtype], device, slots * args.step, &args)
        if status == FX_OK and a.m > FX_CHUNK * FX_CHUNK:
            status = launch_elements(_sum_superchunks[dtype], device, superslots * args.step, &args)
    if status == FX_OK:
        status = launch_elements(_accumulate[dtype], device, a.m * args.step, &args)
    if args.chunks != NULL:
        scratch_free(device, args.chunks)
    close_pairs(&p, device)
    return status


cdef int add_at(fx_call *call, fx_array *out, fx_array *index, fx_array *weights) noexcept nogil:
    cdef fx_index_args a
    cdef reduction how
    cdef int status = lay_along(call, &a, out, weights, index, 0)
    how.action = FX_ACTION_ADD
    how.alpha = how.alpha_whole = 1
    how.include_self = True
    how.mean = False
    return status if status != FX_OK else accumulate_indexed(call, &a, &how, out.dtype, out.device_index)
