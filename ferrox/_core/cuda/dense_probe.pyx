"""A kernel for the tests of dense.pyx: `dense_probe`, which takes contiguous arrays and looks whether it gets them.

out, kept, x: x is copied to out, both in call.dtype; kept's first element becomes its last one.
"""
from ferrox._core.abi cimport FX_CONTIGUOUS, FX_CUDA, FX_ERROR_VALUE, FX_HOST_SCALAR, fx_array, fx_call, fx_itemsize
from ferrox._core.door.backend cimport provide
from ferrox._core.cuda.abi cimport CUdeviceptr, CUresult
from ferrox._core.cuda.context cimport bind
from ferrox._core.cuda.dense cimport dense
from ferrox._core.cuda.driver cimport cu
from ferrox._core.cuda.module cimport driver_call
from ferrox._core.cuda.stream cimport current_stream


cdef int _inner(fx_call *call) noexcept nogil:
    cdef fx_array *out = call.arrays[0]
    cdef fx_array *kept = call.arrays[1]
    cdef fx_array *x = call.arrays[2]
    cdef fx_array *each
    cdef size_t size
    cdef int i
    cdef CUresult status = bind(out.device_index)
    for i in range(3):
        each = call.arrays[i]
        if each != NULL and (each.device_type != FX_CUDA or each.flags & FX_HOST_SCALAR
                             or not each.flags & FX_CONTIGUOUS or (i != 1 and each.dtype != call.dtype)):
            return FX_ERROR_VALUE
    size = <size_t> (out.numel * fx_itemsize(out.dtype))
    if status == 0 and size:
        status = cu.cuMemcpyDtoDAsync(<CUdeviceptr> out.data, <CUdeviceptr> x.data, size,
                                      current_stream(out.device_index))
    if status == 0 and kept != NULL:
        size = fx_itemsize(kept.dtype)
        status = cu.cuMemcpyDtoDAsync(<CUdeviceptr> kept.data,
                                      <CUdeviceptr> kept.data + size * <size_t> (kept.numel - 1), size,
                                      current_stream(kept.device_index))
    return driver_call(status, b"copying")


cdef int probe(fx_call *call) noexcept nogil:
    return dense(call, _inner, 0b010, 0b101)


provide(FX_CUDA, "dense_probe", probe)
