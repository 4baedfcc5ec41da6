# Devices.  See device.pyx.
cdef class device:
    cdef int type_code
    cdef int index_code
    cdef bint has_index

cdef device device_object(int type_code, int index)
cdef device as_device(object value)
