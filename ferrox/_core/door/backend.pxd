# The backend contract: kernels are known by name, and backends provide them.  See backend.pyx.
from ferrox._core.abi cimport FX_DEVICE_TYPES, fx_backend, fx_call, fx_kernel
from ferrox._core.door.signature cimport signature

cdef enum:
    MAX_KERNELS = 1024

# implementation[device types of the operands, or-ed][kernel id], NULL where a backend has none.
cdef fx_kernel implementation[FX_DEVICE_TYPES + 1][MAX_KERNELS]
# What each kernel declares of itself, the same on every backend.
cdef signature *signatures[MAX_KERNELS]
cdef fx_backend *backends[FX_DEVICE_TYPES]

# What runs a call on tensors of device="auto"; set by placement.pyx.
ctypedef int (*placing)(str name, fx_call *call) except -1
cdef placing place_call

cdef int kernel_id(str name) except -1
cdef str kernel_name(int kernel)
cdef int provide(int device_type, str name, fx_kernel function, str declaration=*) except -1
cdef int provide_backend(int device_type, fx_backend *backend) except -1
