"""Storage: reference-counted memory from a backend's pool, or foreign memory kept alive by its owner.

On the CPU the header and the data are one block of the pool: 48 bytes of header and up to 16 bytes of data fill one
cache line; larger data begins on the next line, so that it is aligned to 64 bytes.  Reference counts are guarded by the
GIL.
"""
import os

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from ferrox._core.abi cimport FX_CPU
from ferrox._core.backend cimport backends
from ferrox._core.pool cimport Pool, pool_allocate, pool_release

cdef enum:
    HEADER = 64
    TINY_HEADER = 48
    TINY = 16

cdef Pool _host = None  # looked up once: the pool of FX_CPU
cdef dict _pools = {}


cdef Pool _pool(int device_type, int device_index):
    """The pool of one device, made over its backend's source at first use."""
    global _host
    cdef Pool pool
    found = _pools.get((device_type, device_index))
    if found is None:
        pool = Pool.__new__(Pool)
        pool.allocate_source = backends[device_type].allocate
        pool.release_source = backends[device_type].release
        pool.device = device_index
        pool.name = backends[device_type].name.decode()
        pool.cache_limit = _memory() // 8 if device_type == FX_CPU else (<size_t> 1) << 62
        _pools[device_type, device_index] = found = pool
        if device_type == FX_CPU:
            _host = pool
    return <Pool> found


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


def pool(int device_type, int device_index=0):
    """The caching pool of a device; see `ferrox.cpu.memory_stats`."""
    if not 0 <= device_type <= 1 or backends[device_type] == NULL:
        raise RuntimeError("[pool] no such backend")
    return _pool(device_type, device_index)


cdef inline size_t _host_bytes(size_t nbytes) noexcept:
    return HEADER if nbytes <= TINY else HEADER + nbytes


cdef fx_storage *storage_new(size_t nbytes, int device_type, int device_index) except NULL:
    """Fresh memory, not initialised, with one reference."""
    cdef fx_storage *storage
    if _host is None:
        _pool(FX_CPU, 0)
    if device_type == FX_CPU:
        storage = <fx_storage *> pool_allocate(_host, _host_bytes(nbytes))
        storage.data = <char *> storage + (TINY_HEADER if nbytes <= TINY else HEADER)
    else:
        storage = <fx_storage *> pool_allocate(_host, HEADER)
        try:
            storage.data = pool_allocate(_pool(device_type, device_index), nbytes if nbytes else 1)
        except BaseException:
            pool_release(_host, storage, HEADER)
            raise
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
        _pool(FX_CPU, 0)
    cdef fx_storage *storage = <fx_storage *> pool_allocate(_host, HEADER)
    storage.references = 1
    storage.version = 0
    storage.data = data
    storage.nbytes = nbytes
    Py_INCREF(owner)
    storage.owner = <PyObject *> owner
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
        owner = <object> storage.owner
        Py_DECREF(owner)
        pool_release(_host, storage, HEADER)
    elif storage.device_type == FX_CPU:
        pool_release(_host, storage, _host_bytes(storage.nbytes))
    else:
        pool_release(_pools[storage.device_type, storage.device_index], storage.data,
                     storage.nbytes if storage.nbytes else 1)
        pool_release(_host, storage, HEADER)
