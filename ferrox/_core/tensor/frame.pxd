# The call frame: how an operator puts the call of a kernel together.  See frame.pyx.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from ferrox._core.abi cimport fx_array, fx_call, fx_scalar
from ferrox._core.door.dispatch cimport dispatch
from ferrox._core.tensor.base cimport TensorBase, new_like, new_tensor

cdef struct frame:
    fx_call call                        # its arrays: the outputs, then the inputs
    PyObject **inputs                   # behind each input, borrowed: a tensor, a Python number, or None
    fx_scalar *params
    int n_numbers
    bint wants_grad                     # an input requires a gradient
    fx_array *few_arrays[16]            # more take `more_arrays`
    PyObject *few_inputs[16]
    fx_scalar few_params[12]            # more take `more_params`
    fx_array numbers[4]
    fx_scalar rooms[4]

cdef inline void begin(frame *f, int kernel, int dtype) noexcept:
    """An empty frame for a call of `kernel`, with its arithmetic in `dtype`."""
    f.call.arrays, f.inputs, f.params = f.few_arrays, f.few_inputs, f.few_params
    f.call.params = f.params
    f.call.n_out = f.call.n_in = f.call.n_params = f.n_numbers = 0
    f.call.kernel, f.call.dtype, f.call.fresh = kernel, dtype, 0
    f.call.message[0] = f.wants_grad = 0

# Outputs come before inputs.
cdef inline TensorBase adopt(frame *f, TensorBase out):
    """A fresh output, which the operator has just made and nobody else has seen; None for one that is not wanted."""
    f.call.arrays[f.call.n_out] = NULL if out is None else &out.a
    f.call.fresh |= <uint64_t> (f.call.n_out < 64) << (f.call.n_out & 63)
    f.call.n_out += 1
    return out
cdef inline void write(frame *f, TensorBase target) noexcept:
    """An output that exists already, which the door guards, or None for one that is not wanted."""
    f.call.arrays[f.call.n_out] = NULL if target is None else &target.a
    f.call.fresh |= <uint64_t> (target is None and f.call.n_out < 64) << (f.call.n_out & 63)
    f.call.n_out += 1
cdef inline TensorBase make(frame *f, int ndim, const int64_t *shape, int dtype, TensorBase like):
    """A fresh output of this shape, on the device of `like`."""
    return adopt(f, new_tensor(ndim, shape, dtype, like.a.device_type, like.a.device_index))
cdef inline TensorBase make_like(frame *f, TensorBase like, int dtype):
    return adopt(f, new_like(like, dtype))
cdef void into(frame *f, TensorBase target, bint fresh) noexcept     # adopt or write
cdef TensorBase make_shaped(frame *f, tuple shape, int dtype, TensorBase like)

cdef inline void read(frame *f, TensorBase x) noexcept:
    """An input, or None for one that is absent; the caller keeps it alive until the call has run."""
    f.call.arrays[f.call.n_out + f.call.n_in] = NULL if x is None else &x.a
    f.inputs[f.call.n_in] = <PyObject *> x
    f.wants_grad = f.wants_grad or x is not None and (x.grad_fn != NULL or x.requires_grad_)
    f.call.n_in += 1
cdef int read_number(frame *f, object value, int dtype, str name) except -1

# Parameters: exact integers and real numbers; `number` is the one in integer arithmetic and the other elsewhere.
cdef inline void whole(frame *f, int64_t value) noexcept:
    f.params[f.call.n_params].i = value
    f.params[f.call.n_params].pair[1] = 0
    f.call.n_params += 1
cdef inline void real(frame *f, double value) noexcept:
    f.params[f.call.n_params].f = value
    f.params[f.call.n_params].pair[1] = 0
    f.call.n_params += 1
cdef int number(frame *f, object value) except -1
cdef inline void more_params(frame *f, fx_scalar *room) noexcept:
    f.call.params = f.params = room

cdef int more_arrays(frame *f, int n) except -1
cdef void close_arrays(frame *f) noexcept
cdef inline int run(frame *f, str name) except -1:
    return dispatch(name, &f.call)
cdef int check_call(str name, frame *f) except -1
cdef int64_t nearest_whole(double value, int dtype) noexcept nogil
cdef TensorBase converted(TensorBase x, int dtype)
cdef int fill(str name, TensorBase target, object value, bint fresh) except -1
cdef int set_to(TensorBase target, double value) except -1
cdef int copy_into(str name, TensorBase target, TensorBase source, bint fresh) except -1
