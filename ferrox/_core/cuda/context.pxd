# Devices and their primary contexts.  See context.pyx.
from ferrox._core.cuda.abi cimport CUcontext, CUdevice, CUresult

cdef enum:
    MAX_DEVICES = 32

cdef struct cuda_device:
    CUdevice handle
    CUcontext context           # NULL until first used
    int major, minor            # compute capability
    int multiprocessors
    int threads_per_multiprocessor
    int shared_per_block        # bytes that a block may have after cuFuncSetAttribute

# Valid once open_devices() has returned; it must have, before any of the functions below is called.
cdef cuda_device devices[MAX_DEVICES]

# Opens the driver and reads the devices; returns their number, RuntimeError when none can be used.
cdef int open_devices() except -1
# This thread's device (cuda.set_device), for what is given none.
cdef int current_device() noexcept nogil
# Makes a device's primary context current on this thread, as every driver call needs it; does not change the above.
cdef CUresult bind(int device) noexcept nogil
# A device number from None (the current device), a number, "cuda", "cuda:1" or a device.
cdef int device_number(object device, str name) except -1
