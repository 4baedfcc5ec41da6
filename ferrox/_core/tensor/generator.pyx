"""The random stream: Philox4x32-10, counter-based, so that the same seed gives the same bits on CPU and GPU.

A generator is a seed and an offset, the number of Philox blocks that have been used.  A fill reserves as many blocks as
its draws take (four 32-bit or two 64-bit draws to a block) and hands seed and offset to its kernel (cpu/random.pyx).

Note [Streams of threads]: threads share the default generators, in whatever order they come to draw.  A thread that is
given streams of its own (`own_streams`), as the workers of a data loader are, draws what its seed alone says: every
default generator it meets, `manual_seed` and `initial_seed` included, is its own.
"""
cimport cython
import os

from cpython.number cimport PyNumber_Index
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from ferrox._core.abi cimport FX_CPU, FX_CUDA, FX_U8, fx_scalar
from ferrox._core.door.device cimport as_device, device as _device, device_object
from ferrox._core.tensor.base cimport TensorBase, new_tensor
from ferrox._core.tensor.frame cimport converted, frame
from ferrox._core.tensor.values cimport moved

cdef enum:
    STATE_BYTES = 16

cdef uint64_t _first_seed = 67280421310721      # PyTorch's
cdef dict _defaults = {}                        # (device type, index) -> its generator
cdef uint64_t _default_seed = _first_seed
cdef dict _own = {}                             # thread -> (its seed, its generators, as in _defaults)


cdef uint64_t _read_seed(object seed) except? 0:
    cdef object value = PyNumber_Index(seed)
    if not -(1 << 63) <= value < 1 << 64:
        raise RuntimeError(f"[manual_seed] a seed has 64 bits, got {value}")
    return <uint64_t> (value & 0xffffffffffffffff)


@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class Generator:
    """A stream of random numbers.

    Parameters
    ----------
    device : device, default "cpu"
        Where the results that are drawn from it live.

    Examples
    --------
    >>> import ferrox as fx
    >>> g = fx.Generator().manual_seed(0)
    >>> a = fx.rand(3, generator=g)
    >>> bool((a == fx.rand(3, generator=g.manual_seed(0))).all())
    True
    """

    def __init__(self, device="cpu"):
        self.device = as_device(device)
        self.key = _first_seed
        self.offset = 0

    def manual_seed(self, seed):
        """Begin the stream of `seed`, an integer of 64 bits; returns the generator."""
        self.key = _read_seed(seed)
        self.offset = 0
        return self

    def seed(self):
        """Begin a stream that cannot be predicted; returns its seed."""
        self.key = <uint64_t> int.from_bytes(os.urandom(8), "little")
        self.offset = 0
        return self.key

    def initial_seed(self):
        """The seed that the stream began with."""
        return self.key

    def get_offset(self):
        """How many blocks of the stream have been used."""
        return self.offset

    def set_offset(self, offset):
        """Go to a place in the stream; returns the generator."""
        self.offset = _read_seed(offset)
        return self

    def get_state(self):
        """Seed and offset as a tensor of uint8, for `set_state`."""
        cdef int64_t shape[1]
        cdef TensorBase state
        shape[0] = STATE_BYTES
        state = new_tensor(1, shape, FX_U8, FX_CPU, 0)
        memcpy(state.a.data, &self.key, 8)
        memcpy(<uint8_t *> state.a.data + 8, &self.offset, 8)
        return state

    def set_state(self, new_state):
        """Continue where `get_state` was called; returns the generator."""
        cdef TensorBase state
        if not isinstance(new_state, TensorBase) or (<TensorBase> new_state).a.dtype != FX_U8:
            raise TypeError("[set_state] expected a tensor of uint8")
        state = <TensorBase> new_state
        state = moved(state, FX_CPU, 0) if state.a.device_type != FX_CPU else converted(state, FX_U8)
        if state.a.numel != STATE_BYTES:
            raise RuntimeError(f"[set_state] a state has {STATE_BYTES} bytes, got {state.a.numel}")
        memcpy(&self.key, state.a.data, 8)
        memcpy(&self.offset, <uint8_t *> state.a.data + 8, 8)
        return self

    def clone_state(self):
        """A new generator at the same place of the same stream."""
        cdef Generator made = Generator(self.device)
        made.key = self.key
        made.offset = self.offset
        return made

    def __repr__(self):
        return f"<ferrox.Generator on {self.device}, seed {self.key}, offset {self.offset}>"

    def __reduce__(self):
        return _rebuild, (str(self.device), self.key, self.offset)


def _rebuild(device, seed, offset):
    return Generator(device).manual_seed(seed).set_offset(offset)


cdef tuple _streams():
    """The seed and the default generators of this thread."""
    own = _own.get(PyThread_get_thread_ident()) if _own else None
    return (_default_seed, _defaults) if own is None else <tuple> own


cdef Generator _default(int device_type, int device_index):
    cdef Generator made
    cdef dict generators = _defaults
    cdef uint64_t key = _default_seed
    if _own:
        key, generators = _streams()
    found = generators.get((device_type, device_index))
    if found is None:
        made = Generator(device_object(device_type, device_index))
        made.key = key
        generators[device_type, device_index] = found = made
    return <Generator> found


def own_streams(seed):
    """Give this thread default generators of its own, of one seed; None: those of all again."""
    if seed is None:
        _own.pop(PyThread_get_thread_ident(), None)
    else:
        _own[PyThread_get_thread_ident()] = _read_seed(seed), {}


cdef Generator generator_for(object generator, int device_type, int device_index):
    cdef Generator given
    cdef _device place
    if generator is None:
        return _default(device_type, device_index)
    if not isinstance(generator, Generator):
        raise TypeError(f"argument 'generator' must be Generator, not {type(generator).__name__}")
    given = <Generator> generator
    place = <_device> given.device
    if place.type_code != device_type:
        raise RuntimeError(f"Expected a '{device_object(device_type, device_index).type}' device type for generator "
                           f"but found '{place.type}'")
    if place.has_index and place.index_code != device_index:
        raise RuntimeError(f"Expected a generator on {device_object(device_type, device_index)} but found one on "
                           f"{place}")
    return given


cdef int reserve(Generator generator, int64_t n, bint wide, frame *f) except -1:
    cdef fx_scalar *params = f.params + f.call.n_params
    cdef uint64_t blocks = <uint64_t> ((n + 1) // 2 if wide else (n + 3) // 4)
    f.call.n_params += 2
    if reserve_captured != NULL and (<_device> generator.device).type_code == FX_CUDA \
            and reserve_captured(generator, blocks, params):
        return 0
    params[0].i = <int64_t> generator.key
    params[1].i = <int64_t> generator.offset
    generator.offset += blocks
    return 0


def default_generator(type="cpu", index=None):
    """The generator that functions draw from when they are given none; `index` is the number of a GPU."""
    cdef _device place = as_device(type if index is None or type == "cpu" else f"{type}:{index}")
    return _default(place.type_code, place.index_code)


def manual_seed(seed):
    """Begin the stream of `seed` on every device; returns the CPU's generator.

    Parameters
    ----------
    seed : int
        64 bits; negative ones count from 2**64 down.

    Examples
    --------
    >>> import ferrox as fx
    >>> g = fx.manual_seed(7)
    >>> a = fx.rand(2)
    >>> g = fx.manual_seed(7)
    >>> bool((a == fx.rand(2)).all())
    True
    """
    global _default_seed
    cdef uint64_t key = _read_seed(seed)
    cdef dict generators = _defaults
    if _streams()[1] is _defaults:
        _default_seed = key
    else:
        generators = _streams()[1]
        _own[PyThread_get_thread_ident()] = key, generators
    _default(FX_CPU, 0)
    for generator in list(generators.values()):
        generator.manual_seed(seed)
    return _default(FX_CPU, 0)


def seed():
    """Begin a stream that cannot be predicted, on every device; returns its seed."""
    return manual_seed(int.from_bytes(os.urandom(8), "little")).initial_seed()


def initial_seed():
    """The seed of the CPU's generator."""
    return _default(FX_CPU, 0).initial_seed()


def default_places():
    """Where in its stream each device's default generator is, for `restore_places`."""
    cdef Generator each
    cdef dict places = {}
    for device, generator in list((<dict> _streams()[1]).items()):
        each = <Generator> generator
        places[device] = each.key, each.offset
    return places


def restore_places(places):
    """Put every default generator back; one that was not there yet begins anew."""
    cdef Generator each
    key, generators = _streams()
    for device, generator in list((<dict> generators).items()):
        each = <Generator> generator
        each.key, each.offset = places.get(device, (key, 0))


def get_rng_state():
    """The state of the CPU's generator, for `set_rng_state`."""
    return _default(FX_CPU, 0).get_state()


def set_rng_state(new_state):
    """Put the CPU's generator back to a state."""
    _default(FX_CPU, 0).set_state(new_state)
