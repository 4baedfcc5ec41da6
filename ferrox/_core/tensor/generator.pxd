# The random stream.  See random.pyx.
from libc.stdint cimport int64_t, uint64_t

from ferrox._core.abi cimport fx_scalar
from ferrox._core.tensor.frame cimport frame

cdef class Generator:
    cdef uint64_t key               # the seed
    cdef uint64_t offset            # Philox blocks used so far
    cdef readonly object device

# The generator to draw from for a result on a device: `generator`, or the device's default when it is None.
cdef Generator generator_for(object generator, int device_type, int device_index)
# Set by a backend while graphs are captured: what `reserve` does for a generator on a device.  False when the draws are
# not a part of a graph, and nothing was done.
ctypedef bint (*captured_reserve)(Generator generator, uint64_t blocks, fx_scalar *params) except -1
cdef captured_reserve reserve_captured
# Give a call seed and offset for its next parameters and move the stream on by n draws, 64-bit ones when `wide`.
cdef int reserve(Generator generator, int64_t n, bint wide, frame *f) except -1
