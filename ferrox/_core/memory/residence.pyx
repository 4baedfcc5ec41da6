"""Memory of device="auto".

A block has up to two sides: memory on the host and memory on the GPU.  Each side that holds the block's values is
valid; reading on the other side copies them there and makes both valid, writing leaves the written side alone valid
and gives the other one's memory back.  So a parameter that both read lies on both, and is copied once.

Addresses.  A tensor's data pointer is no memory here but says which block and where in it: bit 62, which no address
of a process has, the block's slot in a table, and the offset.  Arithmetic on it (views, overlap) works as on any
address, and finding the block costs a shift.

The GIL guards everything here; kernels run without it on memory that `hold` keeps in place.
"""
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from ferrox._core.abi cimport FX_AUTO, FX_CPU, FX_CUDA, FX_OK, fx_backend
from ferrox._core.door.backend cimport backends, provide_backend
from ferrox._core.errors import OutOfMemoryError
from ferrox._core.errors cimport raise_status
from ferrox._core.door.profile cimport begin_transfer, end_entry, recording
from ferrox._core.memory.storage cimport storage_new, storage_release

cdef enum:
    OFFSET_BITS = 38            # of 256 GiB for a block, and 2^24 blocks
    MARK_BIT = 62
    SLOTS = 1 << (MARK_BIT - OFFSET_BITS)

cdef uint64_t MARK = <uint64_t> 1 << MARK_BIT
cdef residence **_table = NULL
cdef int32_t *_vacant = NULL    # slots that were used and are free, a stack
cdef int32_t _room = 0, _used = 0, _vacancies = 0
cdef fx_backend _backend

gpu_index = -1


cdef residence *residence_of(const void *address) noexcept nogil:
    """The block that an address lies in; NULL for real memory."""
    cdef uint64_t given = <uint64_t> address
    if not given & MARK:
        return NULL
    return _table[(given ^ MARK) >> OFFSET_BITS]


cdef inline size_t _offset(const void *address) noexcept nogil:
    return <uint64_t> address & ((<uint64_t> 1 << OFFSET_BITS) - 1)


cdef bint _grow() noexcept:
    global _table, _vacant, _room
    cdef int32_t room = 2 * _room if _room else 1024
    if room > SLOTS:
        return False
    grown = <residence **> realloc(_table, <size_t> room * sizeof(void *))
    if grown == NULL:
        return False
    _table = grown
    stack = <int32_t *> realloc(_vacant, <size_t> room * sizeof(int32_t))
    if stack == NULL:
        return False
    _vacant = stack
    _room = room
    return True


cdef void *_allocate(size_t bytes, int device) noexcept nogil:
    """An address for a block; its memory comes when the block is first used, where it is used."""
    with gil:
        return _new_block(bytes)


cdef void *_new_block(size_t bytes) noexcept:
    global _used, _vacancies
    cdef int32_t slot
    if bytes >> OFFSET_BITS or (not _vacancies and _used == _room and not _grow()):
        return NULL
    block = <residence *> calloc(1, sizeof(residence))
    if block == NULL:
        return NULL
    if _vacancies:
        _vacancies -= 1
        slot = _vacant[_vacancies]
    else:
        slot = _used
        _used += 1
    block.nbytes = bytes
    block.slot = slot
    _table[slot] = block
    return <void *> (MARK | (<uint64_t> slot << OFFSET_BITS))


cdef void _release(void *address, size_t bytes, int device) noexcept nogil:
    with gil:
        _drop_block(residence_of(address))


cdef int _drop_block(residence *block) noexcept:
    global _vacancies
    _drop_side(block, HOST)
    _drop_side(block, GPU)
    _table[block.slot] = NULL
    _vacant[_vacancies] = block.slot
    _vacancies += 1
    free(block)
    return 0


cdef int _drop_side(residence *block, int side) noexcept:
    if block.sides[side] != NULL:
        storage_release(block.sides[side])
        block.sides[side] = NULL
    return 0


cdef int _make_side(residence *block, int side) except -1:
    """Memory on a side; what lies on both gives up its copy on the GPU when that is full."""
    try:
        block.sides[side] = storage_new(block.nbytes, FX_CPU if side == HOST else FX_CUDA,
                                        0 if side == HOST else gpu_index)
    except OutOfMemoryError:
        if side == HOST or not evict():
            raise
        block.sides[side] = storage_new(block.nbytes, FX_CUDA, gpu_index)
    return 0


cdef void *bring(residence *block, int side, const void *address) except NULL:
    """Real memory for an address: on `side`, holding the block's values if it has any."""
    cdef int other = HOST + GPU - side, status = FX_OK
    cdef void *to
    cdef void *source
    cdef int64_t entry = -1
    if block.sides[side] == NULL:
        _make_side(block, side)
    if block.valid and not block.valid & (1 << side):
        to = block.sides[side].data
        source = block.sides[other].data
        hold(block)
        if recording:
            entry = begin_transfer("to", 0 if side == GPU else 1, FX_CUDA, gpu_index, <int64_t> block.nbytes)
        with nogil:
            # What goes to the GPU may be read there before the host knows; what comes from it is waited for.
            status = backends[<int> FX_CUDA].copy(to, gpu_index if side == GPU else -1, source,
                                                  gpu_index if side == HOST else -1, block.nbytes, side == HOST)
        end_entry(entry)
        if status == FX_OK:
            block.valid |= 1 << side
            block.credit = 0
            traffic.copies[side] += 1
            traffic.bytes[side] += block.nbytes
        unhold(block)
        if status != FX_OK:
            raise_status(status, "auto", b"the copy failed")
    return <char *> block.sides[side].data + _offset(address)


cdef int hold(residence *block) noexcept:
    """Keep the block's memory where it is, until as many calls of `unhold`."""
    block.busy += 1
    return 0


cdef int unhold(residence *block) noexcept:
    cdef int side
    block.busy -= 1
    if not block.busy and block.valid:
        for side in range(2):
            if not block.valid & (1 << side):
                _drop_side(block, side)
    return 0


cdef int written(residence *block, int side) noexcept:
    """The block's values are now those on `side`; the other side's memory goes, at once or when nobody uses it."""
    block.valid = 1 << side
    if not block.busy:
        _drop_side(block, HOST + GPU - side)
    return 0


def evict():
    """Give up the GPU's copy of everything that the host has too; returns the bytes."""
    cdef int32_t slot
    cdef residence *block
    cdef size_t found = 0
    for slot in range(_used):
        block = _table[slot]
        if block != NULL and block.valid == 3 and not block.busy and block.sides[GPU] != NULL:
            block.valid = 1 << HOST
            _drop_side(block, GPU)
            found += block.nbytes
    traffic.evicted += found
    return found


cdef int copy_between(void *to, int to_device, const void *source, int from_device, size_t bytes, bint wait) except -1:
    """Bytes between blocks, or between a block and real memory of the host (device -1) or a GPU."""
    cdef residence *target = residence_of(to)
    cdef residence *origin = residence_of(source)
    cdef void *real
    cdef int side, status
    cdef int64_t entry = -1
    if bytes == 0:
        return 0
    if origin != NULL:
        # From where the values are, if possible where they are wanted.
        side = HOST if to_device < 0 else GPU
        if origin.valid and not origin.valid & (1 << side):
            side = HOST + GPU - side
        if gpu_index < 0:
            side = HOST
        source = bring(origin, side, source)
        from_device = -1 if side == HOST else gpu_index
    else:
        side = GPU if from_device >= 0 and from_device == gpu_index else HOST
    real = to
    if target != NULL:
        if target.nbytes == bytes and not target.busy:
            target.valid = 0            # all of it is overwritten
        try:
            real = bring(target, side, to)
        except OutOfMemoryError:
            if side == HOST:
                raise
            side = HOST
            real = bring(target, side, to)
        to_device = -1 if side == HOST else gpu_index
    if to_device < 0 and from_device < 0:
        memcpy(real, source, bytes)
    else:
        if recording:
            entry = begin_transfer("to", 0 if from_device < 0 else 1 if to_device < 0 else 2, FX_CUDA,
                                   to_device if from_device < 0 else from_device, <int64_t> bytes)
        with nogil:
            status = backends[<int> FX_CUDA].copy(real, to_device, source, from_device, bytes, wait or to_device < 0)
        end_entry(entry)
        if status != FX_OK:
            raise_status(status, "to", b"the copy failed")
        if to_device < 0:
            traffic.copies[HOST] += 1
            traffic.bytes[HOST] += bytes
    if target != NULL:
        written(target, side)
    return 0


cdef int open_residence(int gpu) except -1:
    """Provide the memory of device="auto", over the host and a GPU (-1: none)."""
    global gpu_index
    gpu_index = gpu
    _backend.name = b"auto"
    _backend.allocate = _allocate
    _backend.release = _release     # copies go through copy_between: they may need memory, and fail with an exception
    return provide_backend(FX_AUTO, &_backend)


def sides(size_t address):
    """Where the block of an address has its values: "cpu", "cuda", "both", or "nowhere" before the first write."""
    cdef residence *block = residence_of(<const void *> address)
    if block == NULL:
        raise ValueError("the tensor is not on device 'auto'")
    return ("nowhere", "cpu", "cuda", "both")[block.valid]


def counts():
    """What has been copied: (to the CPU, to the GPU) of copies, of bytes; and bytes evicted."""
    return (traffic.copies[HOST], traffic.copies[GPU]), (traffic.bytes[HOST], traffic.bytes[GPU]), traffic.evicted


def forget_counts():
    """Begin to count anew."""
    traffic.copies[HOST] = traffic.copies[GPU] = traffic.bytes[HOST] = traffic.bytes[GPU] = traffic.evicted = 0
