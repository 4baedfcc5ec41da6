# The call frame: how an operator puts the call of a kernel together.  See frame.pyx.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from ferrox._core.abi cimport fx_array, fx_call, fx_scalar
from ferrox._core.tensor.base cimport TensorBase

cdef enum:
    FRAME_ARRAYS = 16       # more take `more_arrays`
    FRAME_NUMBERS = 4
    FRAME_PARAMS = 12

cdef struct frame:
    fx_call call
    fx_array **arrays                   # the outputs, then the inputs
    PyObject **inputs                   # behind each input, borrowed: a tensor, a Python number, or None
    int n_numbers
    bint wants_grad                     # an input requires a gradient
    fx_array *few_arrays[16]
    PyObject *few_inputs[16]
    fx_array numbers[4]
    fx_scalar rooms[4]
    fx_scalar params[12]

cdef inline void begin(frame *f, int kernel, int dtype) noexcept:
    """An empty frame for a call of `kernel`, with its arithmetic in `dtype`."""
    f.arrays = f.few_arrays
    f.inputs = f.few_inputs
    f.call.n_out = f.call.n_in = f.call.n_params = f.n_numbers = 0
    f.call.kernel = kernel
    f.call.dtype = dtype
    f.call.fresh = 0
    f.call.message[0] = 0
    f.wants_grad = False

# Outputs come before inputs.
cdef TensorBase make(frame *f, int ndim, const int64_t *shape, int dtype, TensorBase like)
cdef TensorBase make_like(frame *f, TensorBase like, int dtype)
cdef TensorBase make_shaped(frame *f, tuple shape, int dtype, TensorBase like)
cdef inline void write(frame *f, TensorBase target) noexcept:
    """An output that exists already, or None for one that is not wanted; the door guards it."""
    f.arrays[f.call.n_out] = NULL if target is None else &target.a
    f.call.n_out += 1

cdef inline void read(frame *f, TensorBase x) noexcept:
    """An input, or None for one that is absent; the caller keeps it alive until the call has run."""
    f.arrays[f.call.n_out + f.call.n_in] = NULL if x is None else &x.a
    f.inputs[f.call.n_in] = <PyObject *> x
    if x is not None and (x.grad_fn != NULL or x.requires_grad_):
        f.wants_grad = True
    f.call.n_in += 1

cdef int read_number(frame *f, object value, int dtype, str name) except -1

cdef inline void whole(frame *f, int64_t value) noexcept:
    """A parameter of the kernel that is an integer."""
    f.params[f.call.n_params].i = value
    f.params[f.call.n_params].pair[1] = 0
    f.call.n_params += 1

cdef inline void real(frame *f, double value) noexcept:
    """A parameter of the kernel that is a real number."""
    f.params[f.call.n_params].f = value
    f.params[f.call.n_params].pair[1] = 0
    f.call.n_params += 1

cdef int more_arrays(frame *f, int n) except -1
cdef void close_arrays(frame *f) noexcept
cdef int run(frame *f, str name) except -1
cdef int check_call(str name, frame *f) except -1
cdef int64_t nearest_whole(double value, int dtype) noexcept nogil

cdef int describe_number(fx_array *a, fx_scalar *room, object value, int dtype, str name) except -1
cdef int set_to(TensorBase target, double value) except -1
cdef int set_number(TensorBase target, object value) except -1
cdef int copy_into(str name, TensorBase target, TensorBase source) except -1
