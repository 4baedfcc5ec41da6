"""Storage: reference-counted memory, the pool's or a backend's, or foreign memory kept alive by its owner.

The pool serves the host.  A device's data comes from its backend, which does its own caching; the header is the pool's.
On the CPU the header and the data are one block of the pool: 48 bytes of header and up to 16 bytes of data fill one
cache line; larger data begins on the next line, so that it is aligned to 64 bytes.  Reference counts are guarded by the
GIL.
"""
import os

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from ferrox._core.abi cimport FX_CPU, fx_storage
from ferrox._core.door.backend cimport backends
from ferrox._core.errors cimport raise_memory
from ferrox._core.memory.pool cimport Pool, pool_allocate, pool_release

cdef extern from "fx/poison.h":
    void fx_poison(void *address, size_t bytes) noexcept nogil

cdef enum:
    HEADER = 64
    TINY_HEADER = 48
    TINY = 16

cdef Pool _host = None      # made at first use


cdef Pool _pool():
    """The host's pool, over the memory of the CPU's backend."""
    global _host
    if _host is None:
        _host = Pool.__new__(Pool)
        _host.allocate_source = backends[<int> FX_CPU].allocate
        _host.release_source = backends[<int> FX_CPU].release
        _host.name = backends[<int> FX_CPU].name.decode()
        _host.cache_limit = _memory() // 8
    return _host


def _memory():
    """Bytes of memory that this process may use: the machine's, or its control group's."""
    bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                bytes = min(bytes, int(file.read()))
        except (OSError, ValueError):   # absent, or "max"
            pass
    return bytes


def pool():
    """The host's caching pool; see `ferrox.cpu.memory_stats`."""
    return _pool()


cdef inline size_t _host_bytes(size_t nbytes) noexcept:
    return HEADER if nbytes <= TINY else HEADER + nbytes


cdef fx_storage *storage_new(size_t nbytes, int device_type, int device_index) except NULL:
    """Fresh memory, not initialised, with one reference."""
    cdef fx_storage *storage
    if _host is None:
        _pool()
    if device_type == FX_CPU:
        storage = <fx_storage *> pool_allocate(_host, _host_bytes(nbytes))
        if nbytes <= TINY:
            storage.data = <char *> storage + TINY_HEADER
            fx_poison(<char *> storage.data + nbytes, TINY - nbytes)
        else:
            storage.data = <char *> storage + HEADER
    else:
        storage = <fx_storage *> pool_allocate(_host, HEADER)
        storage.data = backends[device_type].allocate(nbytes, device_index)
        if storage.data == NULL:
            pool_release(_host, storage, HEADER)
            raise_memory(f"no memory on device {device_index}")
    storage.references = 1
    storage.version = 0
    storage.nbytes = nbytes
    storage.owner = NULL
    storage.changed_by = NULL
    storage.device_type = device_type
    storage.device_index = device_index
    storage.read_only = 0
    return storage


cdef fx_storage *storage_foreign(void *data, size_t nbytes, object owner,
                                 int device_type, int device_index) except NULL:
    """Somebody else's memory; `owner` is kept alive as long as the storage is."""
    if _host is None:
        _pool()
    cdef fx_storage *storage = <fx_storage *> pool_allocate(_host, HEADER)
    storage.references = 1
    storage.version = 0
    storage.data = data
    storage.nbytes = nbytes
    Py_INCREF(owner)
    storage.owner = <void *> owner
    storage.changed_by = NULL
    storage.device_type = device_type
    storage.device_index = device_index
    storage.read_only = 0
    return storage


cdef void storage_release(fx_storage *storage) noexcept:
    """Give up one reference; the last one frees the memory."""
    storage.references -= 1
    if storage.references:
        return
    if storage.owner != NULL:
        owner = <object> <PyObject *> storage.owner
        Py_DECREF(owner)
        pool_release(_host, storage, HEADER)
    elif storage.device_type == FX_CPU:
        pool_release(_host, storage, _host_bytes(storage.nbytes))
    else:
        backends[storage.device_type].release(storage.data, storage.nbytes, storage.device_index)
        pool_release(_host, storage, HEADER)
