# The backend contract: kernels are known by name, and backends provide them.  See backend.pyx.
from ferrox._core.abi cimport fx_backend, fx_kernel

cdef enum:
    MAX_KERNELS = 1024

# implementation[device type][kernel id], NULL where a backend has none.
cdef fx_kernel implementation[2][MAX_KERNELS]
cdef fx_backend *backends[2]

cdef int kernel_id(str name) except -1
cdef str kernel_name(int kernel)
cdef int provide(int device_type, str name, fx_kernel function) except -1
cdef int provide_backend(int device_type, fx_backend *backend) except -1
