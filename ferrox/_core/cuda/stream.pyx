"""Streams and events.

A thread has a current stream on each device, at first the default stream.  Fresh streams come from a pool of POOL per
device and priority, handed out in turn and never destroyed: a handle stays good for whoever remembers it (the caching
allocator knows memory by its stream), and a loop that makes a stream per step does not run out of them.  They are
independent of the default stream, as PyTorch's are.
"""
cimport cython
import threading

from ferrox._core.cuda.abi cimport CUresult, CUstream
from ferrox._core.cuda.capturing cimport captures, may_wait, relax, restore
from ferrox._core.cuda.context cimport MAX_DEVICES, bind, current_device, device_number
from ferrox._core.cuda.driver cimport CUDA_CAPTURING, CUDA_ERROR_NOT_READY, check, cu, usable
from ferrox._core.cuda.fault cimport raise_fault

cdef extern from *:
    """
    static __thread void *fx_current_stream[32];    /* MAX_DEVICES */
    """
    void *fx_current_stream[MAX_DEVICES]

cdef enum:
    POOL = 32
    NON_BLOCKING = 1        # CU_STREAM_NON_BLOCKING
    BLOCKING_SYNC = 1       # CU_EVENT_BLOCKING_SYNC
    DISABLE_TIMING = 2      # CU_EVENT_DISABLE_TIMING

cdef dict _pools = {}       # (device, priority) -> [streams, next]
_lock = threading.Lock()


cdef CUstream current_stream(int device) noexcept nogil:
    return fx_current_stream[device]


cdef Stream _stream(CUstream handle, int device):
    cdef Stream made = Stream.__new__(Stream)
    made.handle = handle
    made.device_index = device
    return made


cdef CUstream _fresh(int priority) except NULL:
    """A new stream; the context is current."""
    cdef CUstream handle = NULL
    cdef int mode = relax()
    cdef CUresult status = cu.cuStreamCreateWithPriority(&handle, NON_BLOCKING, priority)
    restore(mode)
    check(status, "creating a stream")
    return handle


cdef CUstream _from_pool(int device, int priority) except? NULL:
    cdef CUstream handle = NULL
    cdef int least = 0, greatest = 0
    check(bind(device), f"using device {device}")
    check(cu.cuCtxGetStreamPriorityRange(&least, &greatest), "asking for stream priorities")
    priority = max(greatest, min(least, priority))
    with _lock:
        pool = _pools.setdefault((device, priority), [[], 0])
        if len(pool[0]) < POOL:
            handle = _fresh(priority)
            pool[0].append(<size_t> handle)
            return handle
        for _ in range(POOL):
            handle = <CUstream> <size_t> pool[0][pool[1]]
            pool[1] = (pool[1] + 1) % POOL
            if not captures or not may_wait(handle):     # one that is captured is nobody else's
                break
        return handle


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class Stream:
    """A queue of work on a device: work of one stream runs in order, work of several may overlap.

    Parameters
    ----------
    device : device, int or str, optional
        Where; the current device by default.
    priority : int
        Lower numbers go first; limited to what the device has.

    Examples
    --------
    >>> import ferrox as fx
    >>> if fx.cuda.is_available():
    ...     side = fx.cuda.Stream()
    ...     with fx.cuda.stream(side):
    ...         x = fx.zeros(3, device="cuda")
    ...     fx.cuda.current_stream().wait_stream(side)
    """

    def __init__(self, device=None, int priority=0):
        self.device_index = device_number(device, "Stream")
        self.handle = _from_pool(self.device_index, priority)

    @property
    def device(self):
        """The stream's device."""
        from ferrox._core.door.device import device

        return device("cuda", self.device_index)

    @property
    def cuda_stream(self):
        """The driver's handle, as a number."""
        return <size_t> self.handle

    def query(self):
        """Whether all work given to the stream has been done."""
        check(bind(self.device_index), "using a stream")
        check(may_wait(self.handle), "asking for the state of a stream")
        cdef int mode = relax()
        cdef CUresult status = cu.cuStreamQuery(self.handle)
        restore(mode)
        if status == CUDA_ERROR_NOT_READY:
            return False
        check(status, "asking for the state of a stream")
        return True

    def synchronize(self):
        """Wait until all work given to the stream has been done."""
        cdef CUresult status
        cdef int mode
        with nogil:
            status = bind(self.device_index) or may_wait(self.handle)
            if status == 0:
                mode = relax()
                status = cu.cuStreamSynchronize(self.handle)
                restore(mode)
        check(status, "waiting for a stream")
        raise_fault(self.device_index)

    def wait_event(self, Event event):
        """Let work given to the stream from now on wait for an event; the host does not wait."""
        if event.handle != NULL:
            check(bind(self.device_index), "using a stream")
            check(cu.cuStreamWaitEvent(self.handle, event.handle, 0), "letting a stream wait for an event")

    def wait_stream(self, Stream stream):
        """Let work given to the stream from now on wait for what another stream has been given so far."""
        self.wait_event(stream.record_event())

    def record_event(self, Event event=None):
        """Record an event, a fresh one by default, and return it."""
        if event is None:
            event = Event()
        event.record(self)
        return event

    def __enter__(self):
        if self.entered is None:
            self.entered = []
        self.entered.append(set_stream(self))
        return self

    def __exit__(self, *exception):
        set_stream(<Stream> self.entered.pop())

    def __eq__(self, other):
        if not isinstance(other, Stream):
            return NotImplemented
        return self.handle == (<Stream> other).handle and self.device_index == (<Stream> other).device_index

    def __hash__(self):
        return hash((<size_t> self.handle, self.device_index))

    def __repr__(self):
        return f"<ferrox.cuda.Stream device=cuda:{self.device_index} cuda_stream={<size_t> self.handle:#x}>"


def _apart(int device):
    """A stream that is not of the pool, for captures."""
    check(bind(device), f"using device {device}")
    return _stream(_fresh(0), device)


def external_stream(size_t handle, device=None):
    """A stream that another library made, from its handle; it must outlive its use here."""
    return _stream(<CUstream> handle, device_number(device, "ExternalStream"))


def get_current_stream(device=None):
    """This thread's stream on a device."""
    cdef int index = device_number(device, "current_stream")
    return _stream(fx_current_stream[index], index)


def get_default_stream(device=None):
    """The stream that every thread begins with on a device."""
    return _stream(NULL, device_number(device, "default_stream"))


def set_stream(Stream stream not None):
    """Make a stream this thread's on its device; returns the one before."""
    before = _stream(fx_current_stream[stream.device_index], stream.device_index)
    fx_current_stream[stream.device_index] = stream.handle
    return before


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class Event:
    """A mark in a stream's work: to wait for, to ask about, to measure time between.

    Parameters
    ----------
    enable_timing : bool
        Whether `elapsed_time` may be asked.
    blocking : bool
        Whether `synchronize` gives up the processor while it waits.
    """

    def __init__(self, enable_timing=False, blocking=False):
        self.flags = (0 if enable_timing else DISABLE_TIMING) | (BLOCKING_SYNC if blocking else 0)
        self.device_index = -1

    def __dealloc__(self):
        if self.handle != NULL and usable() == 0 and bind(self.device_index) == 0:
            cu.cuEventDestroy(self.handle)

    def __repr__(self):
        place = f"cuda:{self.device_index}, {self.cuda_event:#x}" if self.handle != NULL else "not recorded"
        return f"<ferrox.cuda.Event {place}>"

    @property
    def cuda_event(self):
        """The driver's handle, as a number; 0 before the first `record`."""
        return <size_t> self.handle

    def record(self, Stream stream=None):
        """Set the mark behind the work that a stream (by default the current one) has been given so far."""
        cdef int device = current_device() if stream is None else stream.device_index
        if stream is None:
            stream = get_current_stream()
        check(bind(device), "using a stream")
        if self.handle == NULL:
            check(cu.cuEventCreate(&self.handle, self.flags), "creating an event")
            self.device_index = device
        elif self.device_index != device:
            raise RuntimeError(f"[Event.record] the event belongs to cuda:{self.device_index}, "
                               f"the stream to cuda:{device}")
        check(cu.cuEventRecord(self.handle, stream.handle), "recording an event")
        self.captured = captures and may_wait(stream.handle)

    def wait(self, Stream stream=None):
        """Let a stream (by default the current one) wait for the event; the host does not wait."""
        (stream or get_current_stream()).wait_event(self)

    def query(self):
        """Whether the work before the mark has been done; True before the first `record`."""
        if self.handle == NULL:
            return True
        check(bind(self.device_index), "using an event")
        check(CUDA_CAPTURING if self.captured else 0, "asking for an event that was recorded")
        cdef int mode = relax()
        cdef CUresult status = cu.cuEventQuery(self.handle)
        restore(mode)
        if status == CUDA_ERROR_NOT_READY:
            return False
        check(status, "asking for the state of an event")
        return True

    def synchronize(self):
        """Wait until the work before the mark has been done."""
        cdef CUresult status
        cdef int mode
        if self.handle == NULL:
            return
        check(CUDA_CAPTURING if self.captured else 0, "waiting for an event that was recorded")
        with nogil:
            status = bind(self.device_index)
            if status == 0:
                mode = relax()
                status = cu.cuEventSynchronize(self.handle)
                restore(mode)
        check(status, "waiting for an event")
        raise_fault(self.device_index)

    def elapsed_time(self, Event end not None):
        """Milliseconds between this event and `end`, both recorded and done."""
        cdef float milliseconds = 0
        cdef Event each
        for each in (self, end):
            if each.flags & DISABLE_TIMING:
                raise ValueError("[Event.elapsed_time] both events must have been created with enable_timing=True")
            if each.handle == NULL:
                raise ValueError("[Event.elapsed_time] both events must have been recorded")
        check(bind(self.device_index), "using an event")
        cdef CUresult status = cu.cuEventElapsedTime(&milliseconds, self.handle, end.handle)
        if status == CUDA_ERROR_NOT_READY:
            raise RuntimeError("[Event.elapsed_time] the work between the events has not been done: synchronize first")
        check(status, "measuring the time between events")
        return milliseconds
