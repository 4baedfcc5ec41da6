"""The backend contract.

A kernel has a name ("softmax"); the first mention of a name, by an operator or by a backend, gives it a number.
A backend registers itself from the side: `provide_backend` for its memory, `provide` for each kernel that it has.
Nothing here knows which backends exist.
"""
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t

from ferrox._core.dtype cimport as_dtype
from ferrox._core.dtype import by_typestr
from ferrox._core.abi cimport FX_CONTIGUOUS, FX_ERROR_INDEX, FX_ERROR_MEMORY, FX_ERROR_RUNTIME, FX_ERROR_TYPE, \
    FX_HOST_SCALAR, FX_MAX_DIMS, FX_OK, fx_array, fx_backend, fx_call, fx_kernel, fx_scalar
from ferrox._core.door.signature cimport declared

place_call = NULL
cdef dict _ids = {}
cdef list _names = []


cdef int kernel_id(str name) except -1:
    """The number of a kernel, given out at the first mention."""
    found = _ids.get(name)
    if found is None:
        found = len(_names)
        if found == MAX_KERNELS:
            raise RuntimeError(f"more than {MAX_KERNELS} kernels; raise MAX_KERNELS in backend.pxd")
        _ids[name] = found
        _names.append(name)
    return found


cdef str kernel_name(int kernel):
    return _names[kernel]


cdef int provide(int device_type, str name, fx_kernel function, str declaration=None) except -1:
    """A backend's implementation of the kernel `name`; who provides it first declares what it takes (signature.pyx)."""
    cdef int kernel = kernel_id(name)
    if declaration is not None:
        signatures[kernel] = declared(kernel, name, declaration)
    implementation[device_type][kernel] = function
    return 0


cdef int provide_backend(int device_type, fx_backend *backend) except -1:
    backends[device_type] = backend
    return 0


def kernels(int device_type):
    """Names of the kernels that a device type implements, sorted."""
    return sorted(name for name, number in _ids.items() if implementation[device_type][<int> number] != NULL)


cdef object _describe(object array, fx_array *a, int64_t *dims):
    """Fills `a` from an array interface; returns the interface, which must outlive the use of `a`."""
    interface = array.__array_interface__
    shape = interface["shape"]
    strides = interface.get("strides")
    kind = interface["typestr"]
    cdef int itemsize = int(kind[2:]), d, ndim = len(shape)
    cdef int64_t expected = 1
    if ndim > FX_MAX_DIMS:
        raise ValueError(f"more than {FX_MAX_DIMS} dimensions")
    a.data = <void *> <size_t> interface["data"][0]
    a.dims = dims
    a.dtype = as_dtype(by_typestr[kind[1:]])
    a.ndim = ndim
    a.flags = FX_CONTIGUOUS
    for d in range(ndim - 1, -1, -1):
        dims[d] = shape[d]
        dims[ndim + d] = expected if strides is None else strides[d] // itemsize
        if dims[d] != 1 and dims[ndim + d] != expected:
            a.flags = 0
        expected *= dims[d]
    a.numel = expected
    if expected <= 1:
        a.flags = FX_CONTIGUOUS
    return interface


def run_kernel(str name, arrays, int n_out, params=(), dtype="float32", scalars=(), int device_type=0, int repeat=1):
    """Call one kernel directly on host arrays; for tests and measurements of kernels, below tensors and operators.

    Parameters
    ----------
    arrays : sequence
        Outputs first, then inputs; objects with ``__array_interface__``, or None for an absent operand.
    params : sequence of int or float
        An int is passed as ``.i``, a float as ``.f``.
    dtype : str or int
        What the arithmetic is done in: a name or an fx_dtype.
    scalars : collection of int
        Positions in `arrays` that are passed as host scalars.
    repeat : int
        How many times the kernel is called, for timing without the reading of the arguments.
    """
    cdef int status = FX_OK, i, n = len(arrays), n_params = len(params)
    cdef fx_kernel function = implementation[device_type][kernel_id(name)]
    cdef fx_array *records = NULL
    cdef fx_array **pointers = NULL
    cdef int64_t *dims = NULL
    cdef fx_scalar *values = NULL
    cdef fx_call call
    if function == NULL:
        raise NotImplementedError(f"no kernel {name!r} on device type {device_type}")
    kept = []
    try:
        records = <fx_array *> PyMem_Calloc(n + 1, sizeof(fx_array))
        pointers = <fx_array **> PyMem_Calloc(n + 1, sizeof(fx_array *))
        dims = <int64_t *> PyMem_Calloc(n + 1, 2 * FX_MAX_DIMS * sizeof(int64_t))
        values = <fx_scalar *> PyMem_Calloc(n_params + 1, sizeof(fx_scalar))
        if records == NULL or pointers == NULL or dims == NULL or values == NULL:
            raise MemoryError
        for i in range(n):
            if arrays[i] is not None:
                kept.append(_describe(arrays[i], &records[i], dims + i * 2 * FX_MAX_DIMS))
                records[i].device_type = device_type
                pointers[i] = &records[i]
        for i in scalars:
            records[i].flags |= FX_HOST_SCALAR
        for i in range(n_params):
            if isinstance(params[i], float):
                values[i].f = params[i]
            else:
                values[i].i = params[i]
        call.arrays = pointers
        call.n_out = n_out
        call.n_in = n - n_out
        call.kernel = kernel_id(name)
        call.dtype = as_dtype(dtype) if isinstance(dtype, str) else dtype
        call.params = values
        call.n_params = n_params
        call.message[0] = 0
        with nogil:
            for _ in range(repeat):
                status = function(&call)
                if status != FX_OK:
                    break
        if status != FX_OK:
            message = (<bytes> call.message).decode() or f"status {status}"
            raise {FX_ERROR_INDEX: IndexError, FX_ERROR_TYPE: TypeError, FX_ERROR_RUNTIME: RuntimeError,
                   FX_ERROR_MEMORY: MemoryError}.get(status, ValueError)(message)
    finally:
        PyMem_Free(records)
        PyMem_Free(pointers)
        PyMem_Free(dims)
        PyMem_Free(values)
