# Streams and events.  See stream.pyx.
from ferrox._core.cuda.abi cimport CUevent, CUstream

cdef class Stream:
    cdef CUstream handle
    cdef readonly int device_index
    cdef list entered       # what `with` has to restore

cdef class Event:
    cdef CUevent handle     # NULL until first recorded
    cdef int device_index
    cdef unsigned int flags
    cdef bint captured      # last recorded while a graph was captured

# This thread's stream on a device: where work goes that is given none.
cdef CUstream current_stream(int device) noexcept nogil
