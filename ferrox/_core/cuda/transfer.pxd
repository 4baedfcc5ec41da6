# Copies between the host and devices.  See transfer.pyx.

# The backend's `copy` (fx/abi.h): a status.
cdef int transfer(void *to, int to_device, const void *source, int from_device, size_t bytes, int wait) noexcept nogil
