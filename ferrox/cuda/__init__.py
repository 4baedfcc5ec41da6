"""GPUs: devices, streams, events, memory.  PyTorch's names.

Nothing of CUDA is imported or initialised before it is asked for; `why_not` says what is missing.
"""
from typing import NamedTuple

from ferrox import OutOfMemoryError
from ferrox._core.cuda import context as _context
from ferrox._core.cuda import device_memory as _device_memory
from ferrox._core.cuda import driver as _driver
from ferrox._core.cuda import fault as _fault
from ferrox._core.cuda import module as _module
from ferrox._core.cuda import pinned as _pinned
from ferrox._core.cuda.driver import CudaError
from ferrox._core.cuda.graphs import CUDAGraph, graph_pool_handle
from ferrox._core.cuda.graphs import is_current_stream_capturing as _is_capturing
from ferrox._core.cuda.stream import (
    Event,
    Stream,
    external_stream,
    get_current_stream,
    get_default_stream,
    set_stream,
)
from ferrox._core.tensor.generator import default_generator as _default_generator
from ferrox.cuda.graphs import graph, make_graphed_callables

__all__ = [
    "CUDAGraph", "CudaError", "DeviceProperties", "Event", "ExternalStream", "OutOfMemoryError", "Stream",
    "can_device_access_peer", "current_device", "current_stream", "default_stream", "device", "device_count",
    "empty_cache", "get_device_capability", "get_device_name", "get_device_properties",
    "get_per_process_memory_fraction", "get_rng_state", "get_rng_state_all", "graph", "graph_pool_handle", "init",
    "initial_seed", "is_available", "is_current_stream_capturing", "is_initialized", "make_graphed_callables",
    "manual_seed", "manual_seed_all", "max_memory_allocated", "max_memory_reserved", "mem_get_info",
    "memory_allocated", "memory_reserved", "memory_snapshot", "memory_stats", "memory_summary",
    "reset_accumulated_memory_stats", "reset_peak_memory_stats", "seed", "seed_all", "set_device",
    "set_per_process_memory_fraction", "set_rng_state", "set_rng_state_all", "set_stream", "stream", "synchronize",
    "why_not",
]


def is_available():
    """Whether tensors can be put on a GPU."""
    return not why_not()


def why_not():
    """What is missing for GPUs, in one sentence; an empty string when nothing is.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.cuda.is_available() or len(fx.cuda.why_not()) > 0
    True
    """
    return _module.why_not()


def init():
    """Open the driver; RuntimeError with the reason where that is impossible.  Called by whatever needs it."""
    reason = why_not()
    if reason:
        raise RuntimeError(f"[cuda] {reason}")


def is_initialized():
    """Whether the driver has been opened in this process."""
    return _driver.is_open()


def is_current_stream_capturing():
    """Whether this thread's stream on its GPU is being captured; False where there is none.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.cuda.is_current_stream_capturing()
    False
    """
    return _is_capturing()


def device_count():
    """Number of GPUs; 0 where the driver cannot be used."""
    return _context.device_count()


class DeviceProperties(NamedTuple):
    """What `get_device_properties` returns; sizes in bytes, clocks in kHz."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    warp_size: int
    max_threads_per_block: int
    max_threads_per_multi_processor: int
    shared_memory_per_block: int
    shared_memory_per_block_optin: int
    shared_memory_per_multiprocessor: int
    regs_per_multiprocessor: int
    L2_cache_size: int
    clock_rate: int
    memory_clock_rate: int
    memory_bus_width: int
    is_integrated: int
    pci_domain_id: int
    pci_bus_id: int
    pci_device_id: int
    uuid: str


def get_device_properties(device=None):
    """Name, memory, compute capability and limits of a GPU."""
    return DeviceProperties(**_context.properties(_context.index_of(device, "get_device_properties")))


def get_device_name(device=None):
    """The name of a GPU."""
    return get_device_properties(device).name


def get_device_capability(device=None):
    """The compute capability of a GPU, as ``(major, minor)``."""
    found = get_device_properties(device)
    return found.major, found.minor


def can_device_access_peer(device, peer_device):
    """Whether a GPU can reach the memory of another directly."""
    return _context.can_access_peer(_context.index_of(device, "can_device_access_peer"),
                                    _context.index_of(peer_device, "can_device_access_peer"))


def current_device():
    """The number of this thread's GPU: that of ``device="cuda"``."""
    return _context.get_current_device()


def set_device(device):
    """Make a GPU this thread's."""
    _context.set_current_device(_context.index_of(device, "set_device"))


class device:
    """Make a GPU this thread's within a ``with`` block; None changes nothing."""

    def __init__(self, device):
        self.index = None if device is None else _context.index_of(device, "device")

    def __enter__(self):
        self.before = current_device()
        if self.index is not None:
            _context.set_current_device(self.index)
        return self

    def __exit__(self, *exception):
        _context.set_current_device(self.before)


def current_stream(device=None):
    """This thread's stream on a GPU."""
    return get_current_stream(device)


def default_stream(device=None):
    """The stream that every thread begins with on a GPU."""
    return get_default_stream(device)


class stream:
    """Make a stream, and its GPU, this thread's within a ``with`` block; None changes nothing."""

    def __init__(self, stream):
        if stream is not None and not isinstance(stream, Stream):
            raise TypeError(f"[cuda.stream] expected a Stream, got {type(stream).__name__}")
        self.stream = stream

    def __enter__(self):
        if self.stream is not None:
            self.device = device(self.stream.device_index)
            self.device.__enter__()
            self.before = set_stream(self.stream)
        return self.stream

    def __exit__(self, *exception):
        if self.stream is not None:
            set_stream(self.before)
            self.device.__exit__()


def ExternalStream(stream_ptr, device=None):
    """A stream that another library made, from its handle; it must outlive its use here."""
    return external_stream(stream_ptr, device)


def synchronize(device=None):
    """Wait for all work on a GPU, of every stream; raises what kernels found wrong with their values."""
    index = _context.index_of(device, "synchronize")
    _context.synchronize(index)
    _fault.look(index)


def mem_get_info(device=None):
    """Free and total bytes of a GPU's memory, as the driver sees them."""
    return _context.memory_info(_context.index_of(device, "mem_get_info"))


# The caching allocator under the tensors of a GPU.  Its policy stands in _core/cuda/allocator.pyx.


def _allocator(device, name):
    init()
    index = _context.index_of(device, name)
    _device_memory.open_memory()
    return _device_memory.allocator(index)


def memory_stats(device=None):
    """What the allocator of a GPU holds and has done.

    Returns
    -------
    dict
        PyTorch's names, as ``"allocated_bytes.all.current"``: of ``allocation``, ``segment``, ``active``,
        ``inactive_split`` (counts) and ``allocated_bytes``, ``reserved_bytes``, ``active_bytes``,
        ``inactive_split_bytes``, ``requested_bytes``, in ``all``, ``small_pool``, ``large_pool``, the ``current``,
        ``peak``, ``allocated`` and ``freed`` amounts; ``num_alloc_retries``, ``num_ooms``.  Empty before the first
        use of a GPU.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.cuda.memory_stats().get("allocated_bytes.all.current", 0) >= 0
    True
    """
    return _allocator(device, "memory_stats").memory_stats() if is_initialized() else {}


def memory_allocated(device=None):
    """Bytes of a GPU in use by tensors."""
    return memory_stats(device).get("allocated_bytes.all.current", 0)


def max_memory_allocated(device=None):
    """The most bytes that tensors have used since the beginning, or since `reset_peak_memory_stats`."""
    return memory_stats(device).get("allocated_bytes.all.peak", 0)


def memory_reserved(device=None):
    """Bytes of a GPU that the allocator holds, in use or cached."""
    return memory_stats(device).get("reserved_bytes.all.current", 0)


def max_memory_reserved(device=None):
    """The most bytes that the allocator has held since the beginning, or since `reset_peak_memory_stats`."""
    return memory_stats(device).get("reserved_bytes.all.peak", 0)


def reset_peak_memory_stats(device=None):
    """Let the peaks begin again at what is now."""
    _allocator(device, "reset_peak_memory_stats").reset_peak_memory_stats()


def reset_accumulated_memory_stats(device=None):
    """Let the sums (allocated, freed, retries) begin again at 0."""
    _allocator(device, "reset_accumulated_memory_stats").reset_accumulated_memory_stats()


def memory_summary(device=None, abbreviated=False):
    """A table of `memory_stats`, to be printed."""
    return _allocator(device, "memory_summary").memory_summary(abbreviated)


def memory_snapshot(device=None):
    """The allocator's segments by address, with their blocks: a list of dicts as PyTorch's; of all GPUs by default."""
    if device is not None:
        return _allocator(device, "memory_snapshot").memory_snapshot()
    return [segment for index in range(device_count()) for segment in memory_snapshot(index)]


def empty_cache():
    """Give the cached memory of all GPUs, and pinned memory, back to the driver; waits for what streams still use."""
    if is_initialized():
        for index in range(device_count()):
            _allocator(index, "empty_cache").empty_cache()
        _pinned.empty_pinned()


def set_per_process_memory_fraction(fraction, device=None):
    """Let this process take at most a fraction, 0 to 1, of a GPU's memory; beyond it tensors are refused."""
    if not isinstance(fraction, (int, float)) or isinstance(fraction, bool):
        raise TypeError(f"[set_per_process_memory_fraction] a fraction is a number, got {type(fraction).__name__}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"[set_per_process_memory_fraction] a fraction lies between 0 and 1, got {fraction}")
    _allocator(device, "set_per_process_memory_fraction").set_per_process_memory_fraction(fraction)


def get_per_process_memory_fraction(device=None):
    """The fraction that was set; 1.0 where none was."""
    limit = _allocator(device, "get_per_process_memory_fraction").limit
    return 1.0 if limit is None else limit / mem_get_info(device)[1]


def _generator(device=None):
    return _default_generator(f"cuda:{_context.index_of(device, 'generator')}")


def manual_seed(seed):
    """Begin a random stream on this thread's GPU; nothing happens where there is none."""
    if is_available():
        _generator().manual_seed(seed)


def manual_seed_all(seed):
    """Begin a random stream on every GPU; nothing happens where there is none."""
    if is_available():
        for index in range(device_count()):
            _generator(index).manual_seed(seed)


def seed():
    """Begin a stream that cannot be predicted on this thread's GPU; nothing happens where there is none."""
    if is_available():
        _generator().seed()


def seed_all():
    """Begin one stream that cannot be predicted on every GPU; nothing happens where there is none."""
    if is_available():
        manual_seed_all(_generator().seed())


def initial_seed():
    """The seed that the stream of this thread's GPU began with."""
    init()
    return _generator().initial_seed()


def get_rng_state(device=None):
    """The state of a GPU's generator, a tensor of uint8 on the CPU, for `set_rng_state`."""
    init()
    return _generator(device).get_state()


def get_rng_state_all():
    """The states of all GPUs' generators, a list, for `set_rng_state_all`."""
    return [get_rng_state(index) for index in range(device_count())]


def set_rng_state_all(new_states):
    """Put the GPUs' generators back to states, of the first GPU first."""
    for index, state in enumerate(new_states):
        set_rng_state(state, index)


def set_rng_state(new_state, device=None):
    """Put a GPU's generator back to a state."""
    init()
    _generator(device).set_state(new_state)
