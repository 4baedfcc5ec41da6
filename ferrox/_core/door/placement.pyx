"""The manager of device="auto": where each call runs.

It is handed the calls of such tensors by the door, gives each a place, and hands them back with real memory.

Note [Placement].  Two clocks, in seconds of a model: `host`, when the host will have done what it was given, and `gpu`,
when the GPU will have.  A call could be done

    on the host at   (gpu if an operand lies on the GPU alone, else host) + copies to the host + the kernel there
    on the GPU at    max(gpu, host + handing it over) + copies to the GPU + the kernel there

and goes where it is done first.  So a long queue on one side sends independent work to the other.  Kernels and copies
cost what was measured on this machine (ferrox/backends/auto.py): seconds for a call, and seconds per unit of work by
kind of kernel.  The clocks follow the model and not the time of day: the same program is placed in the same way again.

Credit.  Copying does not pay for one call but may for those to come.  When a call runs on one side and would have been
faster on the other, had its operands been there, the time lost is credited to the operands, and what they make inherits
it; credit pays for the copy later.  Like one who rents until the rent paid equals the price and then buys, this never
loses more than twice what foresight would have.
"""
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from ferrox._core.abi cimport FX_AUTO, FX_CONTIGUOUS, FX_CPU, FX_CUDA, FX_HOST_SCALAR, fx_array, fx_call, fx_itemsize
from ferrox._core.door cimport backend
from ferrox._core.door.backend cimport MAX_KERNELS, implementation, kernel_id, kernel_name, signatures
from ferrox._core.door.dispatch cimport dispatch
from ferrox._core.door.signature cimport WRITTEN, role_of
from ferrox._core.door.signature import KIND_NAMES
from ferrox._core.errors import OutOfMemoryError
from ferrox._core.memory.residence cimport GPU, HOST, bring, gpu_index, hold, open_residence, residence, residence_of, \
    traffic, unhold, written

cdef enum:
    KINDS = 9               # len(KIND_NAMES)
    PRODUCT = 7             # places in it
    ATTENTION = 8
    FEW = 16                # operands for which no memory is taken
    REMEMBERED = 4096       # decisions

cdef struct costs:
    double call[2]              # seconds of a call without work: on the host; on the GPU, from start to start
    double unit[2][KINDS]       # seconds for a unit of work
    double link[2]              # seconds of a copy without bytes: to the host, to the GPU
    double byte[2]              # seconds for a byte of it
    double submit               # seconds of the host for handing a call to the GPU

cdef struct decision:
    PyObject *name              # of the operator, owned
    int kernel, side
    double kernels[2]           # predicted seconds of the kernel, of the copies before it, of waiting before both
    double copies[2]
    double waits[2]
    double credit[2]
    int why                     # an index into _reasons

# What decided, when it was not the estimate.
_reasons = ("", "there is no GPU", "the GPU has no such kernel", "the GPU's memory was full", "places are drawn")

cdef enum:
    BY_ESTIMATE = 0
    NO_GPU = 1
    NO_KERNEL = 2
    GPU_FULL = 3
    DRAWN = 4

cdef int _addmm = kernel_id("addmm"), _addmm_activation = kernel_id("addmm_activation")
cdef costs _costs
cdef double _clock[2]
cdef decision _decisions[REMEMBERED]
cdef unsigned long long _decided = 0
cdef unsigned long long _waits_seen = 0     # copies to the host that the clocks know of
cdef unsigned long long _calls[MAX_KERNELS][2]

cdef uint64_t _draw = 0                     # the state of what draws places for tests; 0: it does not

cdef struct operand:
    residence *block            # NULL for what is not managed: single values of the host, operands without elements
    fx_array array              # with real memory
    bint first                  # the first operand with this block
    bint whole                  # all of the block is overwritten without being read


cdef inline int _kind_of(int kernel) noexcept:
    return 0 if signatures[kernel] == NULL else signatures[kernel].kind


cdef double _work(fx_call *call) noexcept:
    """Units of work of a call."""
    cdef fx_array **arrays = call.arrays
    cdef fx_array *x
    cdef double units = 0
    cdef int i, kind = _kind_of(call.kernel)
    if kind == PRODUCT and call.n_in >= 2:
        # Output times inner size; of addmm the first factor comes second, behind what is added.
        x = arrays[call.n_out + (1 if call.kernel == _addmm or call.kernel == _addmm_activation else 0)]
        return <double> arrays[0].numel * (x.dims[x.ndim - 1] if x.ndim else 1)
    if kind == ATTENTION and call.n_in >= 2 and arrays[call.n_out] != NULL and arrays[call.n_out + 1] != NULL:
        x = arrays[call.n_out + 1]          # queries times keys, and as much again times values
        return 2.0 * arrays[call.n_out].numel * (x.dims[x.ndim - 2] if x.ndim > 1 else 1) * (1 if call.n_out < 3 else 3)
    for i in range(call.n_out + call.n_in):
        if arrays[i] != NULL:
            units += arrays[i].numel
    return units


cdef int _mixed(str name, fx_array *a) except -1:
    where = "cpu" if a.device_type == FX_CPU else f"cuda:{a.device_index}"
    raise RuntimeError(f"[{name}] Expected all tensors to be on the same device, but found at least two devices, auto "
                       f"and {where}!")


cdef int _look(str name, fx_call *call, operand *operands) except -1:
    """The blocks behind a call's operands."""
    cdef int i, j, n = call.n_out + call.n_in
    cdef fx_array *a
    cdef operand *o
    for i in range(n):
        a = call.arrays[i]
        if a == NULL:
            continue
        o = &operands[i]
        o.array = a[0]
        if a.device_type != FX_AUTO:
            if not a.flags & FX_HOST_SCALAR and (a.device_type != FX_CPU or a.ndim):
                _mixed(name, a)
            continue
        if a.numel == 0:
            o.array.data = NULL
            continue
        o.block = residence_of(a.data)
        o.first = True
        for j in range(i):
            if operands[j].block == o.block:
                o.first = False
                operands[j].whole = operands[j].whole and i < call.n_out
                break
        o.whole = (i < call.n_out and o.first and role_of(signatures[call.kernel], call, i) == WRITTEN
                   and a.flags & FX_CONTIGUOUS != 0
                   and <size_t> (a.numel * fx_itemsize(a.dtype)) == o.block.nbytes)
    return 0


cdef inline bint _missing(operand *o, int side) noexcept:
    """Whether an operand's values have to be copied to a side."""
    return o.block != NULL and o.first and not o.whole and o.block.valid != 0 and not o.block.valid & (1 << side)


cdef int _decide(fx_call *call, operand *operands, decision *d) noexcept:
    """The side on which a call is done first; see Note [Placement]."""
    cdef int i, side, other, n = call.n_out + call.n_in, kind = _kind_of(call.kernel)
    cdef double units = _work(call), gain, bytes, inherited = 0
    cdef double finish[2]
    cdef double missing[2]
    for side in range(2):
        missing[side] = d.copies[side] = d.credit[side] = 0
        for i in range(n):
            if _missing(&operands[i], side):
                missing[side] += operands[i].block.nbytes
                d.copies[side] += _costs.link[side] + operands[i].block.nbytes * _costs.byte[side]
                d.credit[side] += operands[i].block.credit
        d.kernels[side] = _costs.call[side] + units * _costs.unit[side][kind]
    d.waits[HOST] = max(0.0, _clock[GPU] - _clock[HOST]) if missing[HOST] else 0.0
    d.waits[GPU] = _costs.submit + max(0.0, _clock[GPU] - _clock[HOST] - _costs.submit)
    for side in range(2):
        finish[side] = d.waits[side] + max(0.0, d.copies[side] - d.credit[side]) + d.kernels[side]
    side = GPU if finish[GPU] < finish[HOST] else HOST
    other = HOST + GPU - side
    gain = d.kernels[side] - d.kernels[other]
    if missing[other] and gain > 0:
        for i in range(n):
            if _missing(&operands[i], other):
                bytes = operands[i].block.nbytes
                operands[i].block.credit += gain * bytes / missing[other]
                inherited += operands[i].block.credit
        for i in range(call.n_out):
            if operands[i].block != NULL and not operands[i].block.valid:
                operands[i].block.credit = inherited / call.n_out
    return side


cdef int _advance(decision *d) noexcept:
    """Move the clocks by a call that was placed."""
    cdef int side = d.side
    cdef double done = _clock[HOST] + d.waits[side] + d.copies[side] + d.kernels[side]
    if side == HOST:
        _clock[HOST] = done
        return 0
    _clock[GPU] = done
    _clock[HOST] += _costs.submit + d.copies[GPU]
    return 0


cdef int _run(str name, fx_call *call, operand *operands, int side) except -1:
    """The call on a side, with its operands there."""
    cdef fx_array *few[FEW]
    cdef fx_array **arrays = few
    cdef fx_call placed = call[0]
    cdef int i, held = 0, n = call.n_out + call.n_in
    cdef operand *o
    if n > FEW:
        arrays = <fx_array **> calloc(<size_t> n, sizeof(void *))
        if arrays == NULL:
            raise MemoryError()
    placed.arrays = arrays
    placed.fresh = (<uint64_t> 1 << call.n_out) - 1 if call.n_out < 64 else 0   # guarded on the way here
    try:
        for i in range(n):
            o = &operands[i]
            arrays[i] = NULL if call.arrays[i] == NULL else &o.array
            held = i
            if call.arrays[i] == NULL or call.arrays[i].device_type != FX_AUTO:
                continue
            o.array.device_type = FX_CPU if side == HOST else FX_CUDA
            o.array.device_index = 0 if side == HOST else gpu_index
            if o.block == NULL:
                continue
            if o.whole:
                o.block.valid = 0
            o.array.data = bring(o.block, side, call.arrays[i].data)
            hold(o.block)
            held = i + 1
        held = n
        try:
            dispatch(name, &placed)
        finally:
            # Even what failed may have written.
            for i in range(call.n_out):
                if operands[i].block != NULL:
                    written(operands[i].block, side)
            for i in range(call.n_out, n):
                if operands[i].block != NULL and not operands[i].block.valid:
                    operands[i].block.valid = 1 << side
    finally:
        for i in range(held):
            if operands[i].block != NULL:
                unhold(operands[i].block)
        if arrays != few:
            free(arrays)
    return 0


cdef bint _fresh(fx_call *call, operand *operands) noexcept:
    """Whether nothing is lost when the call is begun again."""
    cdef int i
    for i in range(call.n_out):
        if operands[i].block != NULL and operands[i].block.valid:
            return False
    return True


cdef int _remember(str name, fx_call *call, decision *d) except -1:
    global _decided
    cdef decision *place = &_decisions[_decided % REMEMBERED]
    Py_XDECREF(place.name)
    Py_INCREF(name)
    place[0] = d[0]
    place.name = <PyObject *> name
    _decided += 1
    _calls[call.kernel][d.side] += 1
    return 0


cdef int _place(str name, fx_call *call) except -1:
    """Give a call its place, and run it."""
    global _waits_seen, _draw
    cdef operand few[FEW]
    cdef operand *operands = few
    cdef decision d
    cdef int n = call.n_out + call.n_in
    cdef bint fresh
    if n > FEW:
        operands = <operand *> calloc(<size_t> n, sizeof(operand))
        if operands == NULL:
            raise MemoryError()
    else:
        memset(few, 0, <size_t> n * sizeof(operand))
    memset(&d, 0, sizeof(decision))
    d.kernel = call.kernel
    if traffic.copies[HOST] != _waits_seen:     # the host has waited for the GPU: .item(), say
        _clock[HOST] = max(_clock[HOST], _clock[GPU])
    try:
        _look(name, call, operands)
        if gpu_index < 0:
            d.why = NO_GPU
        elif implementation[<int> FX_CUDA][call.kernel] == NULL:
            d.why = NO_KERNEL
        else:
            d.side = _decide(call, operands, &d)
            if _draw:
                _draw = _draw * 6364136223846793005ULL + 1442695040888963407ULL
                d.side = HOST if _draw >> 63 else GPU
                d.why = DRAWN
        fresh = _fresh(call, operands)
        try:
            _run(name, call, operands, d.side)
        except OutOfMemoryError:
            if d.side == HOST or not fresh:
                raise
            d.side = HOST
            d.why = GPU_FULL
            _forget_fresh(call, operands)
            _run(name, call, operands, HOST)
        _advance(&d)
        _waits_seen = traffic.copies[HOST]
        return _remember(name, call, &d)
    finally:
        if operands != few:
            free(operands)


cdef int _forget_fresh(fx_call *call, operand *operands) noexcept:
    """Outputs of a call that failed for want of memory hold nothing."""
    cdef int i
    for i in range(call.n_out):
        if operands[i].block != NULL:
            operands[i].block.valid = 0
    return 0


def opened(int gpu):
    """Begin to manage, over the host and a GPU (-1: none)."""
    open_residence(gpu)
    backend.place_call = _place


def set_costs(call, unit, link, byte, double submit):
    """Set what calls and copies cost, in seconds; pairs are of the host and the GPU, `unit` has one for each kind."""
    cdef int side, kind
    for side in range(2):
        _costs.call[side] = call[side]
        _costs.link[side] = link[side]
        _costs.byte[side] = byte[side]
        for kind in range(KINDS):
            _costs.unit[side][kind] = unit[KIND_NAMES[kind]][side]
    _costs.submit = submit
    restart()


def restart():
    """Set both clocks to zero, and forget what was decided."""
    global _decided
    cdef int i
    _clock[HOST] = _clock[GPU] = 0
    _decided = 0
    for i in range(MAX_KERNELS):
        _calls[i][HOST] = _calls[i][GPU] = 0


def shuffle(uint64_t seed):
    """Draw places from now on instead of estimating them, for tests; 0 ends it."""
    global _draw
    _draw = 2 * seed + 1 if seed else 0


def calls():
    """How often each kernel has run on either side: ``{name: (host, gpu)}``."""
    return {kernel_name(i): (_calls[i][HOST], _calls[i][GPU]) for i in range(MAX_KERNELS)
            if _calls[i][HOST] or _calls[i][GPU]}


def decisions(last=None):
    """The newest decisions, oldest first, as tuples in the order of the struct."""
    cdef unsigned long long i, count = min(_decided, <unsigned long long> REMEMBERED)
    cdef decision *d
    found = []
    if last is not None:
        count = min(count, <unsigned long long> max(last, 0))
    for i in range(_decided - count, _decided):
        d = &_decisions[i % REMEMBERED]
        found.append((<object> d.name, kernel_name(d.kernel), ("cpu", "cuda")[d.side],
                      (d.kernels[HOST], d.kernels[GPU]),
                      (d.copies[HOST], d.copies[GPU]), (d.waits[HOST], d.waits[GPU]), (d.credit[HOST], d.credit[GPU]),
                      _reasons[d.why]))
    return found
