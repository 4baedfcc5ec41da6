# The structs of kernels/include/fx/abi.h, for every module of the core.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from ferrox._core.dtypes cimport *

cdef extern from "fx/abi.h" nogil:
    enum:
        FX_CPU
        FX_CUDA
        FX_AUTO
        FX_DEVICE_TYPES
    enum:
        FX_MAX_DIMS
        FX_CONTIGUOUS
        FX_HOST_SCALAR
    enum:
        FX_OK
        FX_ERROR_VALUE
        FX_ERROR_INDEX
        FX_ERROR_TYPE
        FX_ERROR_RUNTIME
        FX_ERROR_MEMORY
        FX_ERROR_LINALG
        FX_ERROR_DEVICE
    ctypedef struct fx_storage:
        int32_t references
        uint32_t version
        void *data
        size_t nbytes
        void *owner
        void *changed_by
        uint8_t device_type
        uint8_t read_only
        int32_t device_index
    ctypedef struct fx_array:
        void *data
        int64_t *dims
        int64_t numel
        fx_storage *storage
        uint8_t dtype
        uint8_t ndim
        uint8_t flags
        uint8_t device_type
        int32_t device_index
    ctypedef union fx_scalar:
        double f
        int64_t i
        double[2] pair
    ctypedef struct fx_call:
        fx_array **arrays
        int n_out
        int n_in
        int kernel
        int dtype
        const fx_scalar *params
        int n_params
        uint64_t fresh
        char message[160]
    ctypedef int (*fx_kernel)(fx_call *call) noexcept nogil
    ctypedef struct fx_backend:
        const char *name
        void *(*allocate)(size_t bytes, int device) noexcept nogil
        void (*release)(void *block, size_t bytes, int device) noexcept nogil
        int (*copy)(void *to, int to_device, const void *from_, int from_device, size_t bytes, int wait) noexcept nogil
        int (*synchronise)(int device) noexcept nogil
        void (*label)(void *block, int device, const char *text) noexcept nogil
