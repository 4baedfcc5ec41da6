# The door: every computation of either backend goes through `dispatch`.  See dispatch.pyx.
from ferrox._core.abi cimport fx_array, fx_call, fx_scalar

cdef int dispatch(str name, fx_call *call) except -1
cdef int launch(str name, int kernel, int dtype, fx_array **arrays, int n_out, int n_in,
                const fx_scalar *params, int n_params) except -1
