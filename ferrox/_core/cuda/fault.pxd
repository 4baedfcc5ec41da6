# What kernels found wrong with the values they were given.  See fault.pyx and fx/fault.h.

# The device's record as kernels see it, to be passed to them; NULL when there is none, and nothing is then reported.
cdef void *fault_record(int device) noexcept nogil
# Whether kernels that are done have reported anything since the last time.
cdef bint fault_waits(int device) noexcept nogil
# That, as an exception, once; None when there is nothing.
cdef object take_fault(int device)
# After a wait for the device: raises what its kernels have reported since the last time.
cdef int raise_fault(int device) except -1
