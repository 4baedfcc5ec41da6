"""Kernels that order: sort, argsort, topk, kthvalue.

Arrays (outputs | inputs; parameters):

- sort: values, indices (either may be absent) | x; dim, descending, stable.  Always stable.
- argsort: indices | x; dim, descending, stable
- topk: values, indices | x; k, dim, largest, sorted.  Always sorted; of equal elements those that stand first.
- kthvalue: values, indices | x; k (from 1), dim.  The index is the one that a stable sort gives.

NaN is greater than any number, as in PyTorch.  Outputs may have any strides.
"""
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from ferrox._core.abi cimport (FX_CPU, FX_ERROR_MEMORY, FX_ERROR_VALUE, FX_F32, FX_F64, FX_I8, FX_I16, FX_I32, FX_I64,
                               FX_OK, FX_U8, fx_array, fx_call, fx_itemsize)
from ferrox._core.door.backend cimport provide
from ferrox._core.cpu.strided cimport (box_add, box_axis, box_next, box_numel, box_over, box_part, box_remove,
                                       box_reset, fx_box, scratch, scratch_free, size_of, stride_of, threads_for)
from ferrox._core.cpu.order cimport (PACKED, PLAIN, key_kind, kind_of, load_keys, order_keys, select_key, sort_words)

# What a row is read from and written to; a stride of an absent output does not matter.
cdef struct row_job:
    int64_t n, k
    int64_t xs, vs, js        # strides in bytes of x, values, indices
    int dtype
    int largest
    int threads               # for one row
    key_kind kind

# One row; `work` holds the bytes that the kernel asked for.
ctypedef void (*row_function)(const row_job *job, const char *x, char *values, char *indices,
                              void *work) noexcept nogil

ctypedef fused raw:
    uint8_t
    uint16_t
    uint32_t
    uint64_t


cdef void _put(raw zero, const row_job *job, const char *x, const uint64_t *words, int64_t n, char *values,
               char *indices) noexcept nogil:
    """Writes the elements at the words' positions, in order."""
    cdef int64_t i
    if indices != NULL:
        for i in range(n):
            (<int64_t *> (indices + i * job.js))[0] = words[i] & 0xffffffffU
    if values != NULL:
        for i in range(n):
            (<raw *> (values + i * job.vs))[0] = (<const raw *> (x + <int64_t> (words[i] & 0xffffffffU) * job.xs))[0]


cdef void _put_from_keys(const row_job *job, const char *x, const uint64_t *words, int64_t n, char *values,
                         char *indices) noexcept nogil:
    """The same for 32-bit types, whose words hold the element: only zeros and NaNs are looked up."""
    cdef int64_t i
    cdef uint32_t key, u, sign = <uint32_t> job.kind.sign, flip = <uint32_t> job.kind.flip
    cdef bint floats = job.kind.infinity != 0
    for i in range(n):
        key = <uint32_t> (words[i] >> 32) ^ flip
        u = key ^ sign
        if floats:
            if key == sign or key == 0xffffffffU:
                u = (<const uint32_t *> (x + <int64_t> (words[i] & 0xffffffffU) * job.xs))[0]
            elif not key & sign:
                u = ~key
        (<uint32_t *> (values + i * job.vs))[0] = u
    if indices != NULL:
        for i in range(n):
            (<int64_t *> (indices + i * job.js))[0] = words[i] & 0xffffffffU


cdef void _put_any(const row_job *job, const char *x, const uint64_t *words, int64_t n, char *values,
                   char *indices) noexcept nogil:
    if job.kind.bits == 8:
        _put[uint8_t](0, job, x, words, n, values, indices)
    elif job.kind.bits == 16:
        _put[uint16_t](0, job, x, words, n, values, indices)
    elif job.kind.bits == 32:
        _put[uint32_t](0, job, x, words, n, values, indices)
    else:
        _put[uint64_t](0, job, x, words, n, values, indices)


cdef void _put_share(const row_job *job, const char *x, const uint64_t *words, int t, char *values,
                     char *indices) noexcept nogil:
    cdef int64_t first = job.n * t // job.threads, n = job.n * (t + 1) // job.threads - first
    if values != NULL:
        values += first * job.vs
    if indices != NULL:
        indices += first * job.js
    if job.kind.bits == 32 and values != NULL:
        _put_from_keys(job, x, words + first, n, values, indices)
    else:
        _put_any(job, x, words + first, n, values, indices)


# --- sort

cdef void _sort_row(const row_job *job, const char *x, char *values, char *indices, void *work) noexcept nogil:
    cdef int64_t n = job.n
    cdef int64_t *counts = <int64_t *> work
    cdef uint64_t *words = <uint64_t *> work + 2048 * job.threads
    cdef uint64_t *spare = words + n
    cdef uint64_t *keys = spare + n
    cdef uint64_t differ
    cdef int t
    if job.kind.bits <= 32:
        differ = load_keys(x, job.xs, n, &job.kind, words, PACKED, 0)
        words = sort_words(words, spare, n, differ, counts, job.threads)
    else:
        differ = load_keys(x, job.xs, n, &job.kind, keys, PLAIN, 0)
        words = order_keys(keys, n, differ, words, spare, counts, job.threads)
    if job.threads == 1:
        _put_share(job, x, words, 0, values, indices)
    else:
        for t in prange(job.threads, num_threads=job.threads, schedule="static", chunksize=1):
            _put_share(job, x, words, t, values, indices)


# --- topk

ctypedef fused native:
    uint8_t
    int8_t
    int16_t
    int32_t
    int64_t
    float
    double


cdef bint _may_hold(native zero, const char *x, int64_t stride, int64_t n, const char *bound,
                    bint largest) noexcept nogil:
    """False if no element of the block comes before the one at `bound`.  NaN compares as unknown."""
    cdef native b = (<const native *> bound)[0]
    cdef int64_t i
    cdef int hits = 0
    if stride == sizeof(native):
        if largest:
            for i in range(n):
                hits |= not (<const native *> x)[i] <= b
        else:
            for i in range(n):
                hits |= not (<const native *> x)[i] >= b
    else:
        if largest:
            for i in range(n):
                hits |= not (<const native *> (x + i * stride))[0] <= b
        else:
            for i in range(n):
                hits |= not (<const native *> (x + i * stride))[0] >= b
    return hits != 0


cdef bint _worth_a_look(const row_job *job, const char *x, int64_t n, const char *bound) noexcept nogil:
    if job.dtype == FX_F32:
        return _may_hold[float](0, x, job.xs, n, bound, job.largest)
    if job.dtype == FX_F64:
        return _may_hold[double](0, x, job.xs, n, bound, job.largest)
    if job.dtype == FX_I64:
        return _may_hold[int64_t](0, x, job.xs, n, bound, job.largest)
    if job.dtype == FX_I32:
        return _may_hold[int32_t](0, x, job.xs, n, bound, job.largest)
    if job.dtype == FX_I16:
        return _may_hold[int16_t](0, x, job.xs, n, bound, job.largest)
    if job.dtype == FX_I8:
        return _may_hold[int8_t](0, x, job.xs, n, bound, job.largest)
    if job.dtype == FX_U8:
        return _may_hold[uint8_t](0, x, job.xs, n, bound, job.largest)
    return True


cdef enum:
    FEW = 24  # so many candidates are kept by insertion

cdef inline int64_t _room(int64_t k) noexcept nogil:
    """How many candidates are gathered before all but k are dropped."""
    return 2 * k + 512


cdef int64_t _best(int64_t *positions, uint64_t *keys, uint64_t *spare, int64_t n, int64_t k) noexcept nogil:
    """Keeps the k least keys, of equal ones the first; returns how many are kept."""
    cdef int64_t rank, i, m = 0
    cdef uint64_t bound
    if n <= k:
        return n
    bound = select_key(keys, n, k - 1, spare, &rank)
    for i in range(n):
        if keys[i] < bound or (keys[i] == bound and rank >= 0):
            rank -= keys[i] == bound
            keys[m] = keys[i]
            positions[m] = positions[i]
            m += 1
    return m


cdef int64_t _candidates_few(const row_job *job, const char *x, int64_t begin, int64_t end, int64_t *positions,
                             uint64_t *keys) noexcept nogil:
    """The same for few: they are kept in order, and a better one is inserted."""
    cdef uint64_t block[64]
    cdef int64_t i, j, at, m = 0, length
    cdef const char *p
    i = begin
    while i < end:
        length = end - i if end - i < 64 else 64
        p = x + i * job.xs
        if m < job.k or _worth_a_look(job, p, length, x + positions[m - 1] * job.xs):
            load_keys(p, job.xs, length, &job.kind, block, PLAIN, 0)
            for j in range(length):
                if m == job.k and block[j] >= keys[m - 1]:
                    continue
                at = m if m < job.k else m - 1
                m = at + 1
                while at > 0 and keys[at - 1] > block[j]:
                    keys[at] = keys[at - 1]
                    positions[at] = positions[at - 1]
                    at -= 1
                keys[at] = block[j]
                positions[at] = i + j
        i += length
    return m


cdef int64_t _candidates(const row_job *job, const char *x, int64_t begin, int64_t end, int64_t *positions,
                         uint64_t *keys, uint64_t *spare) noexcept nogil:
    """The k first of x[begin:end] in the order asked for, as positions and keys, not yet sorted."""
    cdef uint64_t block[64]
    cdef int64_t i, j, m = 0, length, room = _room(job.k), at
    cdef uint64_t bound = ~<uint64_t> 0
    cdef const char *bound_at = NULL
    cdef const char *p
    if job.k <= FEW:
        return _candidates_few(job, x, begin, end, positions, keys)
    i = begin
    while i < end:
        length = end - i if end - i < 64 else 64
        p = x + i * job.xs
        if bound_at == NULL or _worth_a_look(job, p, length, bound_at):
            load_keys(p, job.xs, length, &job.kind, block, PLAIN, 0)
            for j in range(length):
                if bound_at == NULL or block[j] < bound:
                    keys[m] = block[j]
                    positions[m] = i + j
                    m += 1
            if m > room - 64:
                m = _best(positions, keys, spare, m, job.k)
                at = 0
                for j in range(1, m):
                    if keys[j] > keys[at]:
                        at = j
                bound = keys[at]
                bound_at = x + positions[at] * job.xs
        i += length
    return _best(positions, keys, spare, m, job.k)


cdef void _topk_row(const row_job *job, const char *x, char *values, char *indices, void *work) noexcept nogil:
    cdef int64_t room = _room(job.k), n, m, i
    cdef int t
    cdef int64_t *counts = <int64_t *> work
    cdef int64_t *positions = counts + 2048 + 2 * job.threads
    cdef int64_t *found = counts + 2048
    cdef uint64_t *keys = <uint64_t *> positions + room * job.threads
    cdef uint64_t *spare = keys + room * job.threads
    cdef uint64_t *words = spare + room * job.threads
    cdef uint64_t differ = 0
    if job.threads == 1:
        n = _candidates(job, x, 0, job.n, positions, keys, spare)
    else:
        for t in prange(job.threads, num_threads=job.threads, schedule="static", chunksize=1):
            found[t] = _candidates(job, x, job.n * t // job.threads, job.n * (t + 1) // job.threads,
                                   positions + room * t, keys + room * t, spare + room * t)
        n = 0
        for t in range(job.threads):
            for i in range(found[t]):
                keys[n + i] = keys[room * t + i]
                positions[n + i] = positions[room * t + i]
            n += found[t]
        n = _best(positions, keys, spare, n, job.k)
    for i in range(n):
        differ |= keys[i] ^ keys[0]
    words = order_keys(keys, n, differ, words, spare, counts, 1)
    for i in range(n):
        m = positions[words[i] & 0xffffffffU]
        (<int64_t *> (indices + i * job.js))[0] = m
        memcpy(values + i * job.vs, x + m * job.xs, job.kind.bits >> 3)


cdef void _topk_sorting_row(const row_job *job, const char *x, char *values, char *indices,
                            void *work) noexcept nogil:
    """For k of the order of n: sorts the whole row."""
    cdef int64_t n = job.n
    cdef uint64_t *words = <uint64_t *> work + 2048
    cdef uint64_t *spare = words + n
    cdef uint64_t *keys = spare + n
    cdef uint64_t differ = load_keys(x, job.xs, n, &job.kind, keys, PLAIN, 0)
    words = order_keys(keys, n, differ, words, spare, <int64_t *> work, 1)
    _put_any(job, x, words, job.k, values, indices)


# --- kthvalue

cdef void _kth_row(const row_job *job, const char *x, char *values, char *indices, void *work) noexcept nogil:
    cdef uint64_t *keys = <uint64_t *> work
    cdef int64_t rank, i
    cdef uint64_t key
    load_keys(x, job.xs, job.n, &job.kind, keys, PLAIN, 0)
    key = select_key(keys, job.n, job.k - 1, keys + job.n, &rank)
    i = 0
    while keys[i] != key or rank > 0:
        rank -= keys[i] == key
        i += 1
    if indices != NULL:
        (<int64_t *> indices)[0] = i
    if values != NULL:
        memcpy(values, x + i * job.xs, job.kind.bits >> 3)


# --- rows

cdef bint _rows(const fx_box *whole, int axis, int t, int n, row_function f, const row_job *job, bint has_values,
                bint has_indices, int64_t words) noexcept nogil:
    cdef fx_box b
    cdef int64_t counter[64]
    cdef void *work
    if not box_part(whole, &b, axis, t, n):
        return True
    work = scratch(words * 8)
    if work == NULL:
        return False
    box_reset(&b, counter)
    while True:
        f(job, b.data[0], b.data[1] if has_values else NULL, b.data[2] if has_indices else NULL, work)
        if not box_next(&b, counter, 0):
            break
    scratch_free(work, words * 8)
    return True


cdef int _each_row(fx_call *call, const fx_array *x, const fx_array *values, const fx_array *indices, int dim,
                   row_function f, row_job *job, int64_t words_per_element, int64_t more_words) noexcept nogil:
    """Calls f on every row of x along dim; each thread has words_per_element * n + more_words words to work in."""
    cdef fx_box b
    cdef int axis, t, threads, failures = 0
    cdef int64_t rows
    job.n = size_of(x, dim)
    job.xs = stride_of(x, dim) * fx_itemsize(x.dtype)
    job.vs = stride_of(values, dim) * fx_itemsize(x.dtype) if values != NULL else 0
    job.js = stride_of(indices, dim) * 8 if indices != NULL else 0
    job.dtype = x.dtype
    if job.n >= <int64_t> 1 << 32:
        snprintf(call.message, sizeof(call.message), b"more than 2**32 elements along dimension %d", dim)
        return FX_ERROR_VALUE
    if x.numel == 0 or job.n == 0:
        return FX_OK
    box_over(&b, x)
    box_add(&b, x)
    box_add(&b, values if values != NULL else x)
    box_add(&b, indices if indices != NULL else x)
    box_remove(&b, dim)
    rows = box_numel(&b)
    threads = threads_for(x.numel)
    axis = box_axis(&b, -1)
    job.threads = 1
    if rows < threads or axis < 0:
        job.threads = threads
        threads = 1
    elif b.dims[axis] < threads:
        threads = <int> b.dims[axis]
    if job.threads > 64:
        job.threads = 64
    words_per_element *= job.n
    if threads == 1:
        return FX_OK if _rows(&b, -1, 0, 1, f, job, values != NULL, indices != NULL,
                              words_per_element + more_words * job.threads) else FX_ERROR_MEMORY
    for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
        failures += not _rows(&b, axis, t, threads, f, job, values != NULL, indices != NULL,
                              words_per_element + more_words)
    return FX_ERROR_MEMORY if failures else FX_OK


cdef int _sort(fx_call *call, const fx_array *x, const fx_array *values, const fx_array *indices) noexcept nogil:
    cdef row_job job
    job.kind = kind_of(x.dtype, call.params[1].i != 0)
    return _each_row(call, x, values, indices, <int> call.params[0].i, _sort_row, &job,
                     2 if job.kind.bits <= 32 else 3, 2048)


cdef int sort(fx_call *call) noexcept nogil:
    return _sort(call, call.arrays[2], call.arrays[0], call.arrays[1])


cdef int argsort(fx_call *call) noexcept nogil:
    return _sort(call, call.arrays[1], NULL, call.arrays[0])


cdef int topk(fx_call *call) noexcept nogil:
    cdef row_job job
    cdef fx_array *x = call.arrays[2]
    cdef int dim = <int> call.params[1].i
    cdef int64_t n = size_of(x, dim)
    job.k = call.params[0].i
    job.largest = call.params[2].i != 0
    job.kind = kind_of(x.dtype, job.largest)
    if job.k < 0 or job.k > n:
        snprintf(call.message, sizeof(call.message), b"k is %lld, but dimension %d has size %lld",
                 <long long> job.k, dim, <long long> n)
        return FX_ERROR_VALUE
    if job.k == 0:
        return FX_OK
    if job.k * 8 > n:
        return _each_row(call, x, call.arrays[0], call.arrays[1], dim, _topk_sorting_row, &job, 3, 2048)
    return _each_row(call, x, call.arrays[0], call.arrays[1], dim, _topk_row, &job, 0, 2048 + 2 + 4 * _room(job.k))


cdef int kthvalue(fx_call *call) noexcept nogil:
    cdef row_job job
    cdef fx_array *x = call.arrays[2]
    cdef int dim = <int> call.params[1].i
    cdef int64_t n = size_of(x, dim)
    job.k = call.params[0].i
    job.kind = kind_of(x.dtype, False)
    if job.k < 1 or job.k > n:
        snprintf(call.message, sizeof(call.message), b"k is %lld, but dimension %d has size %lld",
                 <long long> job.k, dim, <long long> n)
        return FX_ERROR_VALUE
    return _each_row(call, x, call.arrays[0], call.arrays[1], dim, _kth_row, &job, 2, 0)


provide(FX_CPU, "sort", sort, "order | values T?, indices int64? | x T | dim i, descending i, stable i")
provide(FX_CPU, "argsort", argsort, "order | indices int64 | x T | dim i, descending i, stable i")
provide(FX_CPU, "topk", topk, "order | values T, indices int64 | x T | k i, dim i, largest i, sorted i")
provide(FX_CPU, "kthvalue", kthvalue, "order | values T, indices int64 | x T | k i, dim i")
