"""DLPack: tensors handed to and taken from other libraries without a copy.

An exported capsule keeps the storage.  It is renamed by who consumes it, who then calls the deleter; an unconsumed one
deletes itself.  Deleters may be called from any thread, so they take the GIL.
"""
from importlib import import_module

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New, PyCapsule_SetName
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc

from ferrox._core.abi cimport FX_AUTO, FX_BF16, FX_BOOL, FX_BOOLEAN, FX_CPU, FX_CUDA, FX_DTYPES, FX_FLOATING, \
    FX_INTEGRAL, FX_MAX_DIMS, FX_U8, fx_category, fx_is_signed, fx_itemsize, fx_storage, fx_typestr
from ferrox._core.door.backend cimport backends
from ferrox._core.door.device cimport as_device, device as _device
from ferrox._core.dtype cimport dtype_name
from ferrox._core.memory.storage cimport storage_foreign, storage_release, storage_retain
from ferrox._core.graph.op cimport registry
from ferrox._core.sizes cimport fx_mul, fx_reach
from ferrox._core.tensor.base cimport TensorBase, alias, bare, needs_grad
from ferrox._core.tensor.frame cimport converted
from ferrox._core.tensor.interchange cimport with_bools
from ferrox._core.tensor.values cimport moved

cdef enum:
    DEVICE_CPU = 1          # kDLCPU, kDLCUDA, kDLCUDAHost
    DEVICE_CUDA = 2
    DEVICE_CUDA_HOST = 3
    CODE_INT = 0
    CODE_UINT = 1
    CODE_FLOAT = 2
    CODE_BFLOAT = 4
    CODE_BOOL = 6
    READ_ONLY = 1
    IS_COPIED = 2

# What the manager_ctx of our capsules points to.
cdef struct Export:
    DLManagedTensorVersioned versioned
    DLManagedTensor legacy
    fx_storage *storage
    int64_t dims[1]


cdef void _delete(Export *export) noexcept with gil:
    storage_release(export.storage)
    free(export)


cdef void _delete_versioned(DLManagedTensorVersioned *self) noexcept:
    _delete(<Export *> self.manager_ctx)


cdef void _delete_legacy(DLManagedTensor *self) noexcept:
    _delete(<Export *> self.manager_ctx)


cdef void _drop_versioned(object capsule) noexcept:
    cdef DLManagedTensorVersioned *managed
    if PyCapsule_IsValid(capsule, b"dltensor_versioned"):
        managed = <DLManagedTensorVersioned *> PyCapsule_GetPointer(capsule, b"dltensor_versioned")
        managed.deleter(managed)


cdef void _drop_legacy(object capsule) noexcept:
    cdef DLManagedTensor *managed
    if PyCapsule_IsValid(capsule, b"dltensor"):
        managed = <DLManagedTensor *> PyCapsule_GetPointer(capsule, b"dltensor")
        managed.deleter(managed)


cdef void _describe(DLTensor *out, TensorBase x, int64_t *dims) noexcept:
    cdef int d
    for d in range(2 * x.a.ndim):
        dims[d] = x.a.dims[d]
    out.data = x.a.data
    out.device.device_type = DEVICE_CPU if x.a.device_type == FX_CPU else DEVICE_CUDA
    out.device.device_id = x.a.device_index
    out.ndim = x.a.ndim
    out.dtype.code = _code_of(x.a.dtype)
    out.dtype.bits = <uint8_t> (8 * fx_itemsize(x.a.dtype))
    out.dtype.lanes = 1
    out.shape = dims
    out.strides = dims + x.a.ndim
    out.byte_offset = 0


def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
    """A DLPack capsule on the same memory.

    Parameters
    ----------
    stream : int, optional
        The consumer's stream, which waits for pending work; -1 for no wait.
    max_version : tuple of int, optional
        The newest DLPack that the consumer reads; without it the capsule is of the form before 1.0.
    dl_device : tuple of int, optional
        Where the consumer wants the data; BufferError unless it is there or may be copied there.
    copy : bool, optional
        True copies, False forbids it.
    """
    cdef TensorBase x = <TensorBase?> self
    cdef Export *export
    cdef bint versioned = max_version is not None and max_version[0] >= 1
    cdef bint copied = False
    if needs_grad(x):
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    place = __dlpack_device__(self)
    if dl_device is not None and tuple(dl_device) != place:
        if tuple(dl_device)[0] != DEVICE_CPU or copy is False:
            raise BufferError(f"a tensor on {x.device} cannot be exported to the DLPack device {tuple(dl_device)} "
                              "without a copy")
        x = moved(x, FX_CPU, 0)
        copied = True
    elif copy:
        x = converted(x, x.a.dtype)
        copied = True
    if x.a.storage.read_only and not versioned:
        raise BufferError("a read-only tensor cannot be exported to a consumer of DLPack before 1.0, which has no flag "
                          "for it")
    if x.a.device_type == FX_CUDA and stream != -1:
        if stream == 0:
            raise BufferError("stream 0 is ambiguous: 1 is the legacy default stream, 2 the thread's default one")
        _streams().let_wait(1 if stream is None else stream, x.a.device_index)
    export = <Export *> malloc(sizeof(Export) + 2 * sizeof(int64_t) * <size_t> x.a.ndim)
    if export == NULL:
        raise MemoryError()
    export.storage = storage_retain(x.a.storage)
    try:
        if versioned:
            export.versioned.version.major = 1
            export.versioned.version.minor = 0
            export.versioned.manager_ctx = export
            export.versioned.deleter = _delete_versioned
            export.versioned.flags = (READ_ONLY if x.a.storage.read_only else 0) | (IS_COPIED if copied else 0)
            _describe(&export.versioned.dl_tensor, x, export.dims)
            return PyCapsule_New(&export.versioned, b"dltensor_versioned", _drop_versioned)
        export.legacy.manager_ctx = export
        export.legacy.deleter = _delete_legacy
        _describe(&export.legacy.dl_tensor, x, export.dims)
        return PyCapsule_New(&export.legacy, b"dltensor", _drop_legacy)
    except BaseException:
        _delete(export)
        raise


cdef object _streams():
    """What knows the streams of the CUDA backend."""
    return import_module("ferrox._core.cuda.transfer")


cdef tuple _pair(int device_type, int device_index):
    if device_type == FX_AUTO:
        raise BufferError("a tensor on device 'auto' has no one place in memory: use tensor.cpu() or tensor.cuda()")
    if device_type == FX_CPU:
        return DEVICE_CPU, 0
    return DEVICE_CUDA, device_index


def __dlpack_device__(self):
    """Device type and number in DLPack's terms: (1, 0) is the CPU."""
    cdef TensorBase x = <TensorBase?> self
    return _pair(x.a.device_type, x.a.device_index)


# Taking

@cython.binding(False)        # methods that check their self
@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
cdef class _Taken:
    """Owns a consumed DLPack tensor."""
    cdef DLManagedTensor *legacy
    cdef DLManagedTensorVersioned *versioned

    def __dealloc__(self):
        if self.legacy != NULL and self.legacy.deleter != NULL:
            self.legacy.deleter(self.legacy)
        if self.versioned != NULL and self.versioned.deleter != NULL:
            self.versioned.deleter(self.versioned)


cdef int _code_of(int dtype) except -1:
    if fx_category(dtype) == FX_BOOLEAN:
        return CODE_BOOL
    if fx_category(dtype) == FX_INTEGRAL:
        return CODE_INT if fx_is_signed(dtype) else CODE_UINT
    if fx_category(dtype) == FX_FLOATING:
        return CODE_BFLOAT if dtype == FX_BF16 else CODE_FLOAT
    raise BufferError(f"DLPack has no type code for {dtype_name(dtype)}")


cdef int _dtype_of(DLDataType kind) except -1:
    cdef int code
    if kind.lanes == 1:
        for code in range(FX_DTYPES):
            if _code_of(code) == kind.code and 8 * fx_itemsize(code) == kind.bits:
                return code
    raise BufferError(f"[from_dlpack] no dtype for DLPack type code {kind.code} of {kind.bits} bits and {kind.lanes} "
                      "lanes")


cdef TensorBase _on(DLTensor *source, object owner, bint read_only):
    """A tensor on a taken DLPack tensor."""
    cdef int64_t strides[FX_MAX_DIMS]
    cdef int64_t step = 1, low = 0, high = 0
    cdef int d, dtype = _dtype_of(source.dtype), kind
    cdef char *data = <char *> source.data + source.byte_offset
    cdef TensorBase tensor
    if source.device.device_type == DEVICE_CPU or source.device.device_type == DEVICE_CUDA_HOST:
        kind = FX_CPU
    elif source.device.device_type == DEVICE_CUDA and backends[<int> FX_CUDA] != NULL:
        kind = FX_CUDA
    else:
        raise BufferError(f"[from_dlpack] no backend for DLPack device type {source.device.device_type}")
    if not 0 <= source.ndim <= FX_MAX_DIMS:
        raise BufferError(f"[from_dlpack] a tensor has at most {FX_MAX_DIMS} dimensions, got {source.ndim}")
    for d in range(source.ndim - 1, -1, -1):
        strides[d] = step if source.strides == NULL else source.strides[d]
        if source.shape[d] < 0 or not fx_mul(step, max(source.shape[d], <int64_t> 1), &step):
            raise BufferError(f"[from_dlpack] no tensor has the shape {[source.shape[i] for i in range(source.ndim)]}")
    if not fx_reach(source.ndim, source.shape, strides, fx_itemsize(dtype), &low, &high):
        raise BufferError(f"[from_dlpack] strides {[strides[i] for i in range(source.ndim)]} reach further than memory "
                          "does")
    tensor = bare(source.ndim, source.shape, strides, dtype)
    tensor.a.storage = storage_foreign(data + low, <size_t> (high - low), owner, kind,
                                       source.device.device_id if kind == FX_CUDA else 0)
    tensor.a.storage.read_only = read_only
    tensor.a.data = data
    tensor.a.device_type = kind
    tensor.a.device_index = source.device.device_id if kind == FX_CUDA else 0
    return _with_bools(tensor)


cdef TensorBase _with_bools(TensorBase x):
    """`with_bools`, wherever the memory is."""
    cdef TensorBase numbers
    if x.a.dtype != FX_BOOL or x.a.device_type == FX_CPU or x.a.numel == 0:
        return with_bools(x)
    numbers = alias(x)
    numbers.a.dtype = FX_U8
    return x if registry["amax"](numbers).item() <= 1 else converted(numbers, FX_BOOL)


cdef TensorBase _take(object capsule):
    cdef _Taken owner = _Taken()
    if PyCapsule_IsValid(capsule, b"dltensor_versioned"):
        owner.versioned = <DLManagedTensorVersioned *> PyCapsule_GetPointer(capsule, b"dltensor_versioned")
        PyCapsule_SetName(capsule, b"used_dltensor_versioned")
        if owner.versioned.version.major > 1:
            raise BufferError(f"[from_dlpack] DLPack {owner.versioned.version.major}.{owner.versioned.version.minor} "
                              "is newer than the 1.x that Ferrox reads")
        return _on(&owner.versioned.dl_tensor, owner, owner.versioned.flags & READ_ONLY)
    if PyCapsule_IsValid(capsule, b"dltensor"):
        owner.legacy = <DLManagedTensor *> PyCapsule_GetPointer(capsule, b"dltensor")
        PyCapsule_SetName(capsule, b"used_dltensor")
        return _on(&owner.legacy.dl_tensor, owner, False)
    raise ValueError("[from_dlpack] the capsule holds no DLPack tensor; each can be consumed only once")


def from_dlpack(ext_tensor, *, device=None, copy=None):
    """A tensor on the memory of another library's, which neither copies.

    Parameters
    ----------
    ext_tensor : object
        With `__dlpack__` and `__dlpack_device__`, or a DLPack capsule, which is consumed.
    device : device, optional
        Where the result must be.
    copy : bool, optional
        True copies, False forbids it.

    Examples
    --------
    >>> import numpy as np
    >>> import ferrox as fx
    >>> a = np.arange(3.0)
    >>> fx.from_dlpack(a).mul_(2)
    tensor([0., 2., 4.], dtype=ferrox.float64)
    >>> a
    array([0., 2., 4.])
    """
    cdef dict keywords = {}
    cdef TensorBase made
    cdef _device place
    if not hasattr(ext_tensor, "__dlpack__"):
        made = _take(ext_tensor)
        return made.to(device=device, copy=bool(copy))
    kind = ext_tensor.__dlpack_device__()
    if kind[0] == DEVICE_CUDA:
        as_device(f"cuda:{kind[1]}")                                # opens the backend
        keywords["stream"] = _streams().stream_number(kind[1])      # which will wait for what makes the values
    if copy is not None:
        keywords["copy"] = copy
    if device is not None:
        place = as_device(device)
        keywords["dl_device"] = _pair(place.type_code, place.index_code)
    try:
        capsule = ext_tensor.__dlpack__(max_version=(1, 0), **keywords)
    except TypeError:
        # A producer from before 1.0 knows none of these keywords.
        capsule = ext_tensor.__dlpack__(**{key: value for key, value in keywords.items() if key == "stream"})
        made = _take(capsule)
        return made.to(device=device, copy=bool(copy))
    return _take(capsule)


def from_cuda_array(array):
    """A tensor on the memory behind another library's ``__cuda_array_interface__``, which is not copied.

    The current stream waits for the stream that the interface names.
    """
    said = array.__cuda_array_interface__
    if not isinstance(said, dict) or not {"shape", "typestr", "data"} <= said.keys():
        raise TypeError("[from_cuda_array] __cuda_array_interface__ must be a dict with shape, typestr and data, got "
                        f"{type(said).__name__}")
    cdef dict interface = said
    cdef int64_t shape[FX_MAX_DIMS]
    cdef int64_t strides[FX_MAX_DIMS]
    cdef DLTensor described
    cdef int d, size
    cdef TensorBase made
    if interface.get("mask") is not None:
        raise BufferError("[from_cuda_array] arrays with a mask are not supported")
    kind, size = interface["typestr"][1], int(interface["typestr"][2:])
    if kind not in "biuf" or not 1 <= size <= 8 or interface["typestr"][0] == ">":
        raise BufferError(f"[from_cuda_array] no dtype for {interface['typestr']!r}")
    if len(interface["shape"]) > FX_MAX_DIMS:
        raise BufferError(f"[from_cuda_array] a tensor has at most {FX_MAX_DIMS} dimensions")
    address, read_only = interface["data"]
    place = _streams().place_of(address) if address else as_device("cuda").index
    as_device(f"cuda:{place}")
    described.data = <void *> <size_t> address
    described.byte_offset = 0
    described.device.device_type = DEVICE_CUDA
    described.device.device_id = place
    described.ndim = len(interface["shape"])
    described.dtype.code = {"b": CODE_BOOL, "i": CODE_INT, "u": CODE_UINT, "f": CODE_FLOAT}[kind]
    described.dtype.bits = <uint8_t> (8 * size)
    described.dtype.lanes = 1
    described.shape = shape
    described.strides = NULL
    for d in range(described.ndim):
        shape[d] = interface["shape"][d]
        if interface.get("strides") is not None:
            if interface["strides"][d] % size:
                raise BufferError("[from_cuda_array] strides must be multiples of the element's size")
            strides[d] = interface["strides"][d] // size
            described.strides = strides
    made = _on(&described, array, bool(read_only))
    if interface.get("stream") is not None:
        _streams().wait_for(interface["stream"], place)
    return made


def __cuda_array_interface__(self):
    cdef TensorBase x = <TensorBase?> self
    if x.a.device_type != FX_CUDA:
        raise AttributeError("a tensor in host memory has no __cuda_array_interface__; use tensor.cuda()")
    if needs_grad(x):
        raise RuntimeError("Can't get __cuda_array_interface__ on Tensor that requires grad. "
                           "Use tensor.detach() first.")
    if x.a.dtype == FX_BF16:
        raise AttributeError("__cuda_array_interface__ has no bfloat16")
    size = fx_itemsize(x.a.dtype)
    return {"typestr": ("|" if size == 1 else "<") + fx_typestr(x.a.dtype).decode(), "shape": x.shape,
            "strides": None if x.is_contiguous() else tuple([step * size for step in x.stride()]),
            "data": (<size_t> x.a.data if x.a.numel else 0, bool(x.a.storage.read_only)), "version": 3,
            "stream": _streams().stream_number(x.a.device_index)}


METHODS = {"__dlpack__": __dlpack__, "__dlpack_device__": __dlpack_device__,
           "__cuda_array_interface__": property(__cuda_array_interface__)}
