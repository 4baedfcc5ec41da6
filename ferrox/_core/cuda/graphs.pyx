"""Captured graphs: what a stream is given is recorded once and then run again and again by one call.

A capture takes its memory from a private pool of the allocator (allocator.pyx); the graph is a user of it until it is
reset or gone.  Streams that the captured one draws in, by events, take part (`draw_on_pool`).

Random numbers.  While a stream is captured a generator is not moved on.  Its kernels get the address of two words in
device memory, seed and offset, and add to the offset the place of their draws within the graph.  A replay writes the
words first and moves the generator on by what the graph draws: the bits are those of the same work done eagerly.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

import warnings

from ferrox._core.abi cimport FX_OK, fx_scalar
from ferrox._core.cuda.abi cimport CUevent, CUgraph, CUgraphExec, CUresult, CUstream
from ferrox._core.cuda.capturing cimport (
    CAPTURE_GLOBAL, CAPTURE_RELAXED, CAPTURE_THREAD_LOCAL, capture_closed, capture_of, capture_opened, capture_record,
    captures, pool_captures, relax, restore, set_captured_state)
from ferrox._core.cuda.context cimport bind, current_device, device_number
from ferrox._core.cuda.device_memory cimport draw_on_pool, end_uses, give, release_uses, take
from ferrox._core.cuda.driver cimport CUDA_FORKED, check, cu, noted, usable
from ferrox._core.cuda.fault cimport fault_record
from ferrox._core.cuda.module cimport cuda_kernel, find_kernel, flat_shape, launch, launch_error, launch_shape
from ferrox._core.cuda.pinned cimport pinned_forget
from ferrox._core.cuda.stream cimport current_stream
from ferrox._core.door.device cimport device as _device
from ferrox._core.errors cimport raise_memory
from ferrox._core.tensor.generator cimport Generator
from ferrox._core.tensor cimport generator as _random

from ferrox._core.cuda import device_memory

cdef extern from "fx/random_args.h" nogil:
    ctypedef struct fx_random_args:
        char *out
        const char *x
        uint8_t *mask
        uint64_t seed, offset
        const uint64_t *state
        int n
        int32_t dtype, wide

cdef enum:
    STATE_BYTES = 16        # seed and offset of a generator
    WITHOUT_TIMING = 2

cdef struct drawing:        # what a graph draws from one generator
    void *state             # in device memory
    uint64_t blocks

cdef cuda_kernel *_begin = find_kernel("random", "random_begin")
cdef dict _modes = {"global": CAPTURE_GLOBAL, "thread_local": CAPTURE_THREAD_LOCAL, "relaxed": CAPTURE_RELAXED}
cdef uint64_t _last_pool = 0


def graph_pool_handle():
    """A private pool of memory that several graphs may share, to be given to `CUDAGraph.capture_begin` or `graph`.

    Graphs that share a pool may use the same memory: their replays must come one after another, in the order in which
    they were captured, and what one has computed is good until the next one runs.
    """
    global _last_pool
    _last_pool += 1
    return (0, _last_pool)


def is_current_stream_capturing():
    """Whether this thread's stream on its GPU is being captured; False where there is none."""
    cdef int status = 0
    if usable():
        return False
    check(bind(current_device()), "asking for the state of a stream")
    # An error is that of the default stream while another library captures one that it would wait for.
    return cu.cuStreamIsCapturing(current_stream(current_device()), &status) == 0 and status != 0


def step_is_captured():
    """`is_current_stream_capturing` for captures of our own alone, which costs nothing while there is none."""
    return captures != 0 and is_current_stream_capturing()


cdef CUDAGraph _under_capture():
    """The graph into which this thread's stream is being captured, by a capture of our own."""
    cdef capture_record *record = capture_of(current_stream(current_device()))
    return None if record == NULL else <CUDAGraph> <PyObject *> record.owner


def captured_draws():
    """How much of each generator's stream the capture under way has reserved, for `restore_draws`."""
    cdef CUDAGraph graph = _under_capture()
    cdef int i
    return {} if graph is None else {graph.generators[i]: graph.drawings[i].blocks
                                     for i in range(len(graph.generators))}


def restore_draws(draws):
    """Go back, within the capture under way, to where `captured_draws` was called."""
    cdef CUDAGraph graph = _under_capture()
    cdef int i
    if graph is not None:
        for i in range(len(graph.generators)):
            graph.drawings[i].blocks = draws.get(graph.generators[i], 0)


cdef bint _reserve(Generator generator, uint64_t blocks, fx_scalar *params) except -1:
    cdef _device place = <_device> generator.device
    cdef int device = place.index_code if place.has_index else current_device()
    cdef capture_record *record
    set_captured_state(NULL)
    check(bind(device), "drawing random numbers")
    record = capture_of(current_stream(device))
    if record == NULL:
        return False
    (<CUDAGraph> <PyObject *> record.owner)._draw(generator, device, blocks, params)
    return True


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
@cython.final
@cython.no_gc_clear
cdef class CUDAGraph:
    """A recording of what a stream was given, to be run again as often as wanted by one call.

    `fx.cuda.graph` captures into it.  A replay does the same work at the same addresses: it reads what the tensors that
    went in hold by then and writes the tensors that came out.  So new inputs are copied into the old ones (``copy_``),
    and results are read from the same tensors.  Whatever was a Python number at the capture stays as it was.

    Before a capture the same work has to have run once or twice, on a side stream: that loads kernels, times cuBLASLt's
    and makes the state of optimisers.  During a capture nothing runs.  What the host would wait for or read is an
    error: ``item``, ``nonzero``, conditions on tensors, ``synchronize``, copies from or to memory that is not pinned.

    Examples
    --------
    >>> import ferrox as fx
    >>> if fx.cuda.is_available():
    ...     x = fx.zeros(3, device="cuda")
    ...     recorded = fx.cuda.CUDAGraph()
    ...     with fx.cuda.graph(recorded):
    ...         y = 2 * x + 1
    ...     _ = x.copy_(fx.tensor([1.0, 2.0, 3.0]))
    ...     recorded.replay()
    ...     assert y.tolist() == [3.0, 5.0, 7.0]
    """
    cdef CUgraphExec executable
    cdef capture_record *record     # also after the capture, for its pool and streams; NULL without a graph
    cdef bint open, replayed
    cdef CUstream last              # where it was last replayed
    cdef list generators
    cdef drawing *drawings          # by generator
    cdef object __weakref__

    def __cinit__(self):
        self.generators = []

    def __dealloc__(self):
        self._drop()

    def capture_begin(self, pool=None, capture_error_mode="global"):
        """Record what this thread's stream is given from now on; `graph` is the way that cleans up after errors.

        Parameters
        ----------
        pool : tuple, optional
            What `graph_pool_handle` or another graph's `pool` returned: memory to share with that graph.
        capture_error_mode : str, default "global"
            Which calls of the driver end the capture: unsafe ones of any thread, ``"thread_local"`` of this thread, or
            ``"relaxed"`` none but those that cannot be captured.
        """
        cdef int device = device_number(None, "CUDAGraph"), status = 0, mode
        cdef CUstream stream = current_stream(device)
        cdef CUgraph left = NULL
        cdef CUresult failed
        cdef uint64_t number
        if self.record != NULL:
            raise RuntimeError("[CUDAGraph] this graph already holds a capture: make another one, or reset() this")
        if stream == NULL:
            raise RuntimeError("[CUDAGraph] a graph must be captured on a stream other than the default one; "
                               "fx.cuda.graph does so")
        if capture_error_mode not in _modes:
            raise ValueError(f"[CUDAGraph] capture_error_mode is one of {', '.join(_modes)}, "
                             f"got {capture_error_mode!r}")
        mode = _modes[capture_error_mode]
        if not device_memory.is_cached():
            raise RuntimeError("[CUDAGraph] FERROX_NO_CUDA_MEMORY_CACHING is set: a graph needs the caching allocator, "
                               "which keeps its memory")
        device_memory.open_memory()
        if pool is None:
            pool = graph_pool_handle()
        if not (isinstance(pool, tuple) and len(pool) == 2 and pool[0] == 0 and 0 < pool[1] <= _last_pool):
            raise ValueError("[CUDAGraph] a pool is what graph_pool_handle() or a graph's pool() returned, "
                             f"got {pool!r}")
        number = pool[1]
        if pool_captures(number):
            raise RuntimeError("[CUDAGraph] another capture is drawing on this pool: capture one graph after the other")
        check(bind(device), "capturing a graph")
        fault_record(device)
        self.record = <capture_record *> calloc(1, sizeof(capture_record))
        if self.record == NULL:
            raise MemoryError
        self.record.device = device
        self.record.stream = stream
        self.record.pool = number
        self.record.owner = <PyObject *> self
        self.replayed = False
        if draw_on_pool(self.record, device, stream) != FX_OK:
            free(self.record)
            self.record = NULL
            raise MemoryError
        failed = cu.cuStreamBeginCapture(stream, mode)
        if failed == 0:
            failed = cu.cuStreamGetCaptureInfo(stream, &status, &self.record.id, NULL, NULL, NULL)
            if failed and cu.cuStreamEndCapture(stream, &left) == 0 and left != NULL:
                cu.cuGraphDestroy(left)
        if failed:
            end_uses(self.record)
            self._drop()
            check(failed, "beginning the capture of a graph")
        capture_opened(self.record)
        _random.reserve_captured = _reserve
        self.open = True

    def capture_end(self):
        """End the capture and make the graph ready to be replayed."""
        cdef CUgraph captured = NULL
        cdef CUresult status
        cdef size_t nodes = 0
        cdef int mode
        if not self.open:
            raise RuntimeError("[CUDAGraph] capture_end() without capture_begin()")
        if current_stream(self.record.device) != self.record.stream:
            raise RuntimeError("[CUDAGraph] a capture ends on the stream where it began, make that the current one")
        status = self._end(&captured)
        if status == 0:
            mode = relax()
            status = cu.cuGraphGetNodes(captured, NULL, &nodes)
            if status == 0:
                status = noted(cu.cuGraphInstantiateWithFlags(&self.executable, captured, 0))
            if status:
                self.executable = NULL
            noted(cu.cuGraphDestroy(captured))
            restore(mode)
            if status:
                self._drop()
                check(status, "making a captured graph executable")
        else:
            self._drop()
            check(status, "ending the capture of a graph")
        if nodes == 0:
            warnings.warn("the captured CUDA graph is empty: was the work given to another stream or device?",
                          stacklevel=2)

    def abandon(self):
        """End a capture, if one is under way, and forget what was recorded; what `graph` does after an exception."""
        cdef CUgraph captured = NULL
        if self.open:
            if self._end(&captured) == 0 and captured != NULL:
                cu.cuGraphDestroy(captured)
            self._drop()

    cdef CUresult _end(self, CUgraph *captured) noexcept:
        cdef CUresult status = bind(self.record.device)
        if status == 0:
            status = noted(cu.cuStreamEndCapture(self.record.stream, captured))
        capture_closed(self.record)
        if usable() != CUDA_FORKED:
            end_uses(self.record)
        if captures == 0:
            _random.reserve_captured = NULL
        set_captured_state(NULL)
        self.open = False
        return status

    def replay(self):
        """Run the graph on this thread's stream."""
        cdef int device, i
        cdef CUstream stream
        cdef CUresult status
        cdef Generator generator
        if self.executable == NULL:
            raise RuntimeError("[CUDAGraph] replay() without a capture that has ended well")
        device = self.record.device
        stream = current_stream(device)
        check(bind(device), "replaying a graph")
        if captures and capture_of(stream) != NULL:
            raise RuntimeError("[CUDAGraph] a graph cannot be replayed into the capture of another one")
        if self.replayed and stream != self.last:
            check(self._follow(stream), "replaying a graph on another stream than the last time")
        for i in range(len(self.generators)):
            generator = <Generator> self.generators[i]
            if _write(device, stream, self.drawings[i].state, generator.key, generator.offset):
                raise launch_error()
        with nogil:
            status = cu.cuGraphLaunch(self.executable, stream)
        check(status, "replaying a graph")
        for i in range(len(self.generators)):
            (<Generator> self.generators[i]).offset += self.drawings[i].blocks
        self.last = stream
        self.replayed = True

    def reset(self):
        """Forget the graph and give its memory back; what it computed must not be used any more."""
        if self.open:
            raise RuntimeError("[CUDAGraph] reset() during the capture: end it first")
        self._drop()

    def pool(self):
        """The handle of the graph's memory, for other captures to share it."""
        if self.record == NULL:
            raise RuntimeError("[CUDAGraph] pool() without a capture")
        return (0, self.record.pool)

    cdef CUresult _follow(self, CUstream stream) noexcept nogil:
        """Let a stream wait for the last replay, whose memory is that of the next."""
        cdef CUevent event = NULL
        cdef CUresult status = cu.cuEventCreate(&event, WITHOUT_TIMING)
        if status == 0:
            status = cu.cuEventRecord(event, self.last)
            if status == 0:
                status = cu.cuStreamWaitEvent(stream, event, 0)
            cu.cuEventDestroy(event)
        return noted(status)

    cdef int _draw(self, Generator generator, int device, uint64_t blocks, fx_scalar *params) except -1:
        """Reserve draws within the graph."""
        cdef int i, n = len(self.generators)
        cdef drawing *grown
        cdef void *state
        for i in range(n):
            if self.generators[i] is generator:
                break
        else:
            i = n
            grown = <drawing *> realloc(self.drawings, <size_t> (n + 1) * sizeof(drawing))
            if grown == NULL:
                raise MemoryError
            self.drawings = grown
            state = take(device, STATE_BYTES, b"state of a generator in a graph")
            if state == NULL:
                raise_memory("no memory for the state of a generator")
            self.drawings[n].state = state
            self.drawings[n].blocks = 0
            self.generators.append(generator)
        set_captured_state(self.drawings[i].state)
        params[0].i = 0
        params[1].i = <long long> self.drawings[i].blocks
        self.drawings[i].blocks += blocks
        return 0

    cdef void _drop(self) noexcept:
        """Let everything go that is held."""
        cdef CUgraph captured = NULL
        cdef int i, mode
        if self.open and self._end(&captured) == 0 and captured != NULL:
            cu.cuGraphDestroy(captured)
        if self.record == NULL:
            return
        if usable() == 0 and bind(self.record.device) == 0:
            mode = relax()
            if self.executable != NULL:
                noted(cu.cuGraphExecDestroy(self.executable))
            restore(mode)
        self.executable = NULL
        if usable() != CUDA_FORKED:
            if self.drawings != NULL:
                for i in range(len(self.generators)):
                    give(self.record.device, self.drawings[i].state)
            pinned_forget(self.record.id, self.replayed, self.last)
            release_uses(self.record)
        free(self.drawings)
        self.drawings = NULL
        self.generators = []
        free(self.record)
        self.record = NULL


cdef CUresult _write(int device, CUstream stream, void *state, uint64_t seed, uint64_t offset) noexcept nogil:
    """Where the draws of a replay begin, by a kernel, for the stream's order."""
    cdef fx_random_args args
    cdef void *pointer = &args
    cdef launch_shape shape = flat_shape(1, 1)
    memset(&args, 0, sizeof(args))
    args.out = <char *> state
    args.seed = seed
    args.offset = offset
    return launch(_begin, device, stream, &shape, &pointer)
