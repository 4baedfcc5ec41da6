"""The table that the levelled loop modules (cpu/v2, v3, v4) fill at import and the elementwise driver reads."""
from ferrox._core.backend cimport kernel_id


cdef int provide_loop(str name, int dtype, fx_loop loop, int n_in, bint to_bool) except -1:
    cdef int kernel = kernel_id(name)
    entries[kernel].loop[dtype] = loop
    entries[kernel].n_in = n_in
    entries[kernel].to_bool = to_bool
    return 0
