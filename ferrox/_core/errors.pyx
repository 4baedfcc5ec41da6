"""Exceptions: a kernel's status and message become the exception that PyTorch would raise, with the operator's name."""
from ferrox._core.abi cimport FX_ERROR_DEVICE, FX_ERROR_INDEX, FX_ERROR_LINALG, FX_ERROR_MEMORY, FX_ERROR_TYPE, \
    FX_ERROR_VALUE


class OutOfMemoryError(RuntimeError):
    """Memory could not be had; the message says how much was asked for, held and free."""


class LinAlgError(RuntimeError):
    """A matrix was singular, or an iteration did not converge."""


# Set by a backend, for this thread's last failure on a device:
_device_error = None     # its exception, given the operator's name
_memory_error = None     # the exception of a refused allocation, or None, given the operator's name or None


cdef int raise_memory(str text, str name=None) except -1:
    failure = None if _memory_error is None else _memory_error(name)
    raise OutOfMemoryError(text) if failure is None else failure


cdef int raise_status(int status, str name, const char *message) except -1:
    if status == FX_ERROR_DEVICE:
        raise _device_error(name)
    text = f"[{name}] {message.decode('utf-8', 'replace')}"
    if status == FX_ERROR_INDEX:
        raise IndexError(text)
    if status == FX_ERROR_TYPE:
        raise NotImplementedError(text)     # as PyTorch where a dtype is not supported
    if status == FX_ERROR_VALUE:
        raise ValueError(text)
    if status == FX_ERROR_MEMORY:
        raise_memory(text if message[0] else f"[{name}] out of memory", name)
    if status == FX_ERROR_LINALG:
        raise LinAlgError(text)
    raise RuntimeError(text)
