# The door: every computation of either backend goes through `dispatch`.  See dispatch.pyx.
from ferrox._core.abi cimport fx_array, fx_call

cdef int dispatch(str name, fx_call *call) except -1
cdef int check_outputs(str name, fx_call *call) except -1
# For what changes memory without a kernel (a transfer between devices): before it, and after.
cdef int check_memory(str name, const fx_array *target) except -1
cdef int count_change(str name, fx_array *target) except -1
