# Kernels: families of them loaded lazily, and their launch.  See module.pyx.
from ferrox._core.cuda.abi cimport CUfunction, CUresult, CUstream
from ferrox._core.cuda.context cimport MAX_DEVICES

cdef struct cuda_kernel:
    const char *name
    int family                          # number of the family that holds it
    CUfunction function[MAX_DEVICES]    # NULL until first launched on the device
    unsigned int shared[MAX_DEVICES]    # bytes of dynamic shared memory that it has been granted

cdef struct launch_shape:
    unsigned int grid[3]
    unsigned int block[3]
    unsigned int shared

# The one record of a kernel, made at the first mention; neither file nor driver is touched yet.
cdef cuda_kernel *find_kernel(str family, str name) except NULL
# Loads the kernel's family on the device if need be.  Every failure is remembered for `launch_error`.
cdef CUresult launch(cuda_kernel *kernel, int device, CUstream stream, const launch_shape *shape,
                     void **args) noexcept nogil
cdef inline launch_shape flat_shape(unsigned int blocks, unsigned int threads) noexcept nogil:
    cdef launch_shape shape
    shape.grid[0] = blocks
    shape.block[0] = threads
    shape.grid[1] = shape.grid[2] = shape.block[1] = shape.block[2] = 1
    shape.shared = 0
    return shape
# For kernels of the backend: FX_OK, or FX_ERROR_DEVICE, which the door turns into `launch_error`.
cdef int launched(CUresult status) noexcept nogil
# The same for a driver call other than a launch; `doing` as in driver.check, kept by the caller for ever.
cdef int driver_call(CUresult status, const char *doing) noexcept nogil
# After a wait for the device: FX_OK, or FX_ERROR_DEVICE when kernels have reported a fault, which is then the failure.
cdef int faultless(int device) noexcept nogil
# The exception of this thread's last failed launch.
cdef object launch_error()
