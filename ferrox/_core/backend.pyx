"""The backend contract.

A kernel has a name ("softmax"); the first mention of a name, by an operator or by a backend, gives it a number.
A backend registers itself from the side: `provide_backend` for its memory, `provide` for each kernel that it has.
Nothing here knows which backends exist.
"""
from ferrox._core.abi cimport fx_backend, fx_kernel

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


cdef int provide(int device_type, str name, fx_kernel function) except -1:
    """A backend's implementation of the kernel `name`."""
    implementation[device_type][kernel_id(name)] = function
    return 0


cdef int provide_backend(int device_type, fx_backend *backend) except -1:
    backends[device_type] = backend
    return 0


def kernels(int device_type):
    """Names of the kernels that a device type implements, sorted."""
    return sorted(name for name, number in _ids.items() if implementation[device_type][<int> number] != NULL)
