# The profiler's recorder.  See profile.pyx.
from libc.stdint cimport int64_t, uint64_t

from ferrox._core.abi cimport fx_call

cdef enum:      # what an entry is
    OPERATOR
    TRANSFER
    BACKWARD    # the rule of a node, with what it gives rise to
    USER
    STEP        # an optimiser's step, a step of the profiler

# What a device's backend lends the recorder: marks in its streams that are read later (cuda/timing.pyx).
cdef struct device_clock:
    # A mark behind what this thread's stream has been given; NULL where none can be made.
    void *(*mark)(int device, size_t *stream) noexcept nogil
    # When the mark was passed, by the clock of `now`; NaN when that is not known.  Takes the mark back.
    double (*passed)(int device, void *mark) noexcept nogil
    void (*memory)(int device, int64_t *taken, int64_t *in_use) noexcept nogil

cdef device_clock *clock            # set by timing.pyx
cdef const uint64_t *sequence       # the number of the newest node; set by graph/node.pyx
cdef bint recording

# Entries are begun and ended under the GIL; the number that a begin returns is for its end.  -1 is none.
cdef int64_t begin_call(str name, fx_call *call) noexcept
cdef int64_t begin_transfer(str name, int kernel, int device_type, int device, int64_t nbytes) noexcept
cdef int64_t begin_range(str name, int kind, uint64_t number) noexcept
cdef void end_entry(int64_t entry) noexcept
