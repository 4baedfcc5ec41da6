# Reference-counted memory that tensors view.  See storage.pyx.
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, uint8_t, uint32_t

cdef struct fx_storage:
    int32_t references
    uint32_t version        # bumped by every in-place change; shared by all views
    void *data
    size_t nbytes
    PyObject *owner         # of foreign memory (a NumPy array, a DLPack capsule's holder); NULL when the pool's
    PyObject *changed_by    # the operator (borrowed: operators live for ever) that changed it last, for messages
    uint8_t device_type
    uint8_t read_only       # foreign memory that must not be written
    int32_t device_index

cdef fx_storage *storage_new(size_t nbytes, int device_type, int device_index) except NULL
cdef fx_storage *storage_foreign(void *data, size_t nbytes, object owner, int device_type, int device_index) except NULL
cdef void storage_release(fx_storage *storage) noexcept
cdef inline fx_storage *storage_retain(fx_storage *storage) noexcept:
    storage.references += 1
    return storage
