# Reference-counted memory that tensors view.  See storage.pyx.
from ferrox._core.abi cimport fx_storage

cdef fx_storage *storage_new(size_t nbytes, int device_type, int device_index) except NULL
cdef fx_storage *storage_foreign(void *data, size_t nbytes, object owner, int device_type, int device_index) except NULL
cdef void storage_release(fx_storage *storage) noexcept
cdef inline fx_storage *storage_retain(fx_storage *storage) noexcept:
    storage.references += 1
    return storage
