"""Copies between the host and devices, and the order of streams at their ends.

All are queued on the current stream of the device, that of the source when there are two.

From the host: pinned memory is copied by the device itself, from where it is.  Pageable memory of up to DIRECT bytes
goes into the driver's own queue.  More is copied into pinned blocks of PIECE bytes first: without `wait` the call
returns when the source may be changed, not when the stream has come to it; beyond AHEAD blocks it waits for the stream.
With `wait` the values are there when it returns, for work on any stream.

To the host: the call waits, unless the memory is pinned and `wait` is 0.  Into pageable memory pieces are copied by way
of two pinned blocks: the device fills the one while the host empties the other.

Between devices the copy waits for what both streams had been given, and so does the target's stream for the copy; the
host does not.

Own streams.  `upload` lets copies from pinned memory into fresh memory run on a stream of their own beside what the
current one still has to do; that waits for the copy, not the copy for it.
"""
from libc.string cimport memcpy

from ferrox._core.abi cimport FX_OK
from ferrox._core.cuda.abi cimport CUdeviceptr, CUevent, CUresult, CUstream
from ferrox._core.cuda.capturing cimport captures, may_wait, relax, restore
from ferrox._core.cuda.context cimport MAX_DEVICES, bind, current_device, device_number, devices
from ferrox._core.cuda.device_memory import record_stream
from ferrox._core.cuda.driver cimport check, cu, noted, usable
from ferrox._core.cuda.module cimport driver_call, faultless
from ferrox._core.cuda.pinned cimport pinned_give, pinned_holds, pinned_take, pinned_use
from ferrox._core.cuda.stream cimport Stream, current_stream
from ferrox._core.cuda.stream import get_current_stream, set_stream

cdef enum:
    DIRECT = 1 << 16
    PIECE = 4 << 20
    AHEAD = 16
    WITHOUT_TIMING = 2
    ALREADY_ENABLED = 704       # CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED

cdef int _peers[MAX_DEVICES][MAX_DEVICES]       # 0 not asked yet, 1 reached directly, 2 not


cdef CUresult _order(int first_device, CUstream first, int then_device, CUstream then) noexcept nogil:
    """Let a stream wait for what another has been given so far."""
    cdef CUevent event = NULL
    cdef CUresult status = bind(first_device)
    if status == 0:
        status = cu.cuEventCreate(&event, WITHOUT_TIMING)
    if status == 0:
        status = cu.cuEventRecord(event, first)
        if status == 0:
            status = bind(then_device)
        if status == 0:
            status = cu.cuStreamWaitEvent(then, event, 0)
        cu.cuEventDestroy(event)    # the driver keeps it until it is done
    return status


cdef CUresult _between(CUdeviceptr to, int to_device, CUdeviceptr source, int from_device, size_t bytes) noexcept nogil:
    cdef CUstream there = current_stream(to_device), here = current_stream(from_device)
    cdef CUresult status = _order(to_device, there, from_device, here)
    cdef int can = 0
    if status == 0 and _peers[from_device][to_device] == 0:
        if cu.cuDeviceCanAccessPeer(&can, devices[from_device].handle, devices[to_device].handle) == 0 and can:
            can = cu.cuCtxEnablePeerAccess(devices[to_device].context, 0) in (0, ALREADY_ENABLED)
        _peers[from_device][to_device] = 1 if can else 2
    if status == 0:
        status = cu.cuMemcpyPeerAsync(to, devices[to_device].context, source, devices[from_device].context, bytes, here)
    return status if status else _order(from_device, here, to_device, there)


cdef int _upload(CUdeviceptr to, const char *source, int device, size_t bytes, bint wait) noexcept nogil:
    cdef CUstream stream = current_stream(device)
    cdef CUresult status = bind(device)
    cdef bint pinned = pinned_holds(source, bytes)
    cdef int queued = 0
    cdef size_t piece
    cdef void *block
    if status == 0 and captures and (wait or not pinned):
        status = may_wait(stream)       # a replay would find something else in pageable memory
    if status == 0 and (pinned or bytes <= DIRECT):
        status = cu.cuMemcpyHtoDAsync(to, source, bytes, stream)
        if status == 0 and pinned:
            pinned_use(source, device, stream)
        bytes = 0
    while status == 0 and bytes:
        if queued == AHEAD:
            status = cu.cuStreamSynchronize(stream)
            queued = 0
            if status:
                break
        piece = min(bytes, <size_t> PIECE)
        block = pinned_take(piece)
        if block == NULL:       # no pinned memory: the driver's own way
            status = cu.cuMemcpyHtoDAsync(to, source, bytes, stream)
            break
        memcpy(block, source, piece)
        status = cu.cuMemcpyHtoDAsync(to, block, piece, stream)
        pinned_use(block, device, stream)
        pinned_give(block)
        to += piece
        source += piece
        bytes -= piece
        queued += 1
    if status == 0 and wait:
        status = cu.cuStreamSynchronize(stream)
    return driver_call(status, b"copying to the device")


cdef CUresult _download_pieces(char *to, CUdeviceptr source, CUstream stream, size_t bytes) noexcept nogil:
    """By way of two blocks; of piece k the host's half is done while piece k + 1 comes."""
    cdef void *blocks[2]
    cdef CUevent events[2]
    cdef size_t pieces = (bytes + PIECE - 1) / PIECE, k, size
    cdef CUresult status = 0
    cdef int i
    for i in range(2):
        events[i] = NULL
        blocks[i] = pinned_take(PIECE)
        if status == 0 and blocks[i] != NULL:
            status = cu.cuEventCreate(&events[i], WITHOUT_TIMING)
    if blocks[0] == NULL or blocks[1] == NULL:
        status = cu.cuMemcpyDtoHAsync(to, source, bytes, stream)
        pieces = 0
    for k in range(pieces + 1):
        if status == 0 and k < pieces:
            size = min(<size_t> PIECE, bytes - k * PIECE)
            status = cu.cuMemcpyDtoHAsync(blocks[k & 1], source + k * PIECE, size, stream)
            if status == 0:
                status = cu.cuEventRecord(events[k & 1], stream)
        if status == 0 and k and pieces:
            status = cu.cuEventSynchronize(events[(k - 1) & 1])
            if status == 0:
                memcpy(to + (k - 1) * PIECE, blocks[(k - 1) & 1], min(<size_t> PIECE, bytes - (k - 1) * PIECE))
    if status:
        cu.cuStreamSynchronize(stream)      # nothing may still come into the blocks
    for i in range(2):
        if events[i] != NULL:
            cu.cuEventDestroy(events[i])
        pinned_give(blocks[i])
    return status


cdef int _download(char *to, CUdeviceptr source, int device, size_t bytes, bint wait) noexcept nogil:
    cdef CUstream stream = current_stream(device)
    cdef CUresult status = bind(device)
    cdef bint pinned = pinned_holds(to, bytes)
    if status == 0 and captures and (wait or not pinned):
        status = may_wait(stream)
    if status == 0:
        if pinned or bytes <= DIRECT:
            status = cu.cuMemcpyDtoHAsync(to, source, bytes, stream)
        else:
            status = _download_pieces(to, source, stream, bytes)
    if status == 0 and pinned:
        pinned_use(to, device, stream)
        if not wait:
            return FX_OK
    if status == 0:
        status = cu.cuStreamSynchronize(stream)
    return driver_call(status, b"copying from the device") or faultless(device)


cdef int _transfer(void *to, int to_device, const void *source, int from_device, size_t bytes,
                   int wait) noexcept nogil:
    cdef CUresult status
    if from_device < 0:
        return _upload(<CUdeviceptr> to, <const char *> source, to_device, bytes, wait)
    if to_device < 0:
        return _download(<char *> to, <CUdeviceptr> source, from_device, bytes, wait)
    if to_device != from_device:
        return driver_call(_between(<CUdeviceptr> to, to_device, <CUdeviceptr> source, from_device, bytes),
                           b"copying between devices")
    status = bind(to_device)
    if status == 0:
        status = cu.cuMemcpyDtoDAsync(<CUdeviceptr> to, <CUdeviceptr> source, bytes, current_stream(to_device))
    return driver_call(status, b"copying")


cdef int transfer(void *to, int to_device, const void *source, int from_device, size_t bytes, int wait) noexcept nogil:
    cdef int mode, status
    if bytes == 0:
        return FX_OK
    if captures == 0:
        return _transfer(to, to_device, source, from_device, bytes, wait)
    mode = relax()
    status = _transfer(to, to_device, source, from_device, bytes, wait)
    restore(mode)
    return status


# Own streams.

cdef dict _upload_streams = {}      # by device


class upload:
    """Within the block, copies to a device go to a stream of their own; afterwards the current one waits for them.

    Nothing happens while the current stream is being captured: the copy is then a part of the graph.
    """

    def __init__(self, int device):
        cdef int capturing = 0
        self.device = device
        check(bind(device), "copying to the device")
        check(cu.cuStreamIsCapturing(current_stream(device), &capturing), "asking for the state of a stream")
        self.before = None
        self.captured = bool(capturing)

    def __enter__(self):
        if not self.captured:
            if self.device not in _upload_streams:
                _upload_streams[self.device] = Stream(self.device)
            self.before = set_stream(_upload_streams[self.device])
        return self

    def __exit__(self, *exception):
        if self.before is not None:
            set_stream(self.before)
            self.before.wait_stream(_upload_streams[self.device])

    def received(self, size_t address):
        """The block at an address, which the copy's stream has filled, goes on to the current one."""
        if self.before is not None:
            record_stream(address, self.device, get_current_stream(self.device))


def is_pinned(size_t address):
    """Whether memory of the host is page-locked, by Ferrox or another library."""
    cdef unsigned int kind = 0
    if pinned_holds(<const void *> address, 1):
        return True
    if usable() or bind(current_device()):
        return False
    # CU_POINTER_ATTRIBUTE_MEMORY_TYPE; CU_MEMORYTYPE_HOST
    return cu.cuPointerGetAttribute(&kind, 2, <CUdeviceptr> address) == 0 and kind == 1


# Streams of other libraries, by the numbers that DLPack and the CUDA array interface give them: 1 is the legacy default
# stream, 2 the thread's default one, anything else a handle.

cdef inline CUstream _foreign(size_t stream) noexcept:
    return NULL if stream == 1 else <CUstream> stream


def stream_number(int device):
    """The current stream in these terms."""
    cdef size_t handle = <size_t> current_stream(device)
    return handle if handle else 1


def let_wait(size_t consumer, int device):
    """Let another library's stream wait for the current one."""
    if _foreign(consumer) != current_stream(device):
        check(noted(_order(device, current_stream(device), device, _foreign(consumer))), "ordering streams")


def wait_for(size_t producer, int device):
    """Let the current stream wait for another library's."""
    if _foreign(producer) != current_stream(device):
        check(noted(_order(device, _foreign(producer), device, current_stream(device))), "ordering streams")


def place_of(size_t address):
    """The number of the device whose memory holds an address."""
    cdef int device = 0
    device_number(None, "from_cuda_array")
    check(bind(current_device()), "looking for the device of an address")
    # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    check(cu.cuPointerGetAttribute(&device, 9, <CUdeviceptr> address), "looking for the device of an address")
    return device
