"""Optimiser steps over all parameters of a group in one call, in place; the formulae are PyTorch's.

These are not operators of the graph: they run unrecorded and count as an in-place change of every tensor they write.
"""
from libc.stdlib cimport free, malloc

from ferrox._core.abi cimport fx_array, fx_scalar
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.door.dispatch cimport launch
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import row
from ferrox._core.tensor.base cimport TensorBase, new_tensor, on_one_device, shape_of, shape_tuple

cdef Op SGD = row("_sgd_step", kernel="sgd_step", public=False, doc="A step of ferrox.optim.SGD.")
cdef Op ADAM = row("_adam_step", kernel="adam_step", public=False, doc="A step of ferrox.optim.Adam or AdamW.")
cdef Op ADAM_CAPTURABLE = row("_adam_step_capturable", kernel="adam_step_capturable", public=False,
                              doc="A step of ferrox.optim.Adam or AdamW that a CUDA graph can repeat.")
cdef Op SCALE = row("_scale_all", kernel="scale_all", public=False, doc="All tensors times a factor, in place.")
cdef int _grad_norm = kernel_id("grad_norm")


cdef inline bint _alike(TensorBase a, TensorBase b) noexcept:
    """Whether both have one dtype, device and shape."""
    cdef int k
    if a.a.dtype != b.a.dtype or a.a.ndim != b.a.ndim or not on_one_device(a, b):
        return False
    for k in range(a.a.ndim):
        if shape_of(a)[k] != shape_of(b)[k]:
            return False
    return True


def gradients(list params, tuple buffers):
    """The gradients of `params`; None where one is missing, where it or one of `buffers` (each a list of a tensor per
    parameter, or None) is not like its parameter, or where the parameters differ in dtype or device."""
    cdef list found = []
    cdef TensorBase param, first = None
    cdef object grad, each
    cdef Py_ssize_t i
    for i in range(len(params)):
        param = <TensorBase?> params[i]
        grad = param.grad
        if not isinstance(grad, TensorBase) or not _alike(<TensorBase> grad, param):
            return None
        if first is None:
            first = param
        elif param.a.dtype != first.a.dtype or not on_one_device(param, first):
            return None
        for each in buffers:
            if each is not None and not _alike(<TensorBase?> (<list?> each)[i], param):
                return None
        found.append(grad)
    return found


cdef int _step(Op op, list groups, const fx_scalar *params, int n_params, TensorBase count=None,
               TensorBase lr=None) except -1:
    """Launch a kernel whose operands are, for each parameter in turn, a tensor (or None) of every list in `groups`;
    `count` and `lr` are inputs after them."""
    cdef int n = <int> len(<list> groups[0]), width = <int> len(groups), i, k
    cdef fx_array **arrays
    cdef TensorBase tensor, first
    if n == 0:
        return 0
    first = <TensorBase> (<list> groups[0])[0]
    arrays = <fx_array **> malloc(<size_t> (n * width + 2) * sizeof(void *))
    if arrays == NULL:
        raise MemoryError()
    try:
        for k in range(width):
            if groups[k] is None:
                for i in range(n):
                    arrays[i * width + k] = NULL
                continue
            if len(<list> groups[k]) != n:
                raise ValueError(f"[{op.name}] {n} parameters, but a list of {len(<list> groups[k])}")
            for i in range(n):
                tensor = <TensorBase?> (<list> groups[k])[i]
                if tensor.a.numel != (<TensorBase> (<list> groups[0])[i]).a.numel:
                    raise ValueError(f"[{op.name}] parameter {i} has shape "
                                     f"{shape_tuple(&(<TensorBase> (<list> groups[0])[i]).a)}, its state "
                                     f"{shape_tuple(&tensor.a)}")
                arrays[i * width + k] = &tensor.a
        if count is not None:
            arrays[n * width] = &count.a
            arrays[n * width + 1] = &lr.a if lr is not None else NULL
        launch(op.name, op.kernel, first.a.dtype, arrays, n * width + (count is not None), count is not None, params, n_params, 0)
    finally:
        free(arrays)
    return 0


def sgd_step(list params, list grads, momentum_buffers, double lr, double momentum, double dampening, bint nesterov,
             double weight_decay, bint maximize, bint first_step):
    """One step of SGD in place; `momentum_buffers` is None without momentum and is initialised when `first_step`."""
    cdef fx_scalar p[8]
    p[0].f = lr
    p[1].f = momentum
    p[2].f = dampening
    p[3].i = nesterov
    p[4].f = weight_decay
    p[5].i = maximize
    p[6].i = first_step
    p[7].i = len(params)
    _step(SGD, [params, grads, momentum_buffers], p, 8)


def adam_step(list params, list grads, list exp_avgs, list exp_avg_sqs, max_exp_avg_sqs, long step, double lr,
              double beta1, double beta2, double eps, double weight_decay, bint amsgrad, bint maximize, bint decoupled):
    """One step of Adam (or AdamW if `decoupled`) in place; `step` counts from 1."""
    cdef fx_scalar p[11]
    p[0].f = lr
    p[1].f = beta1
    p[2].f = beta2
    p[3].f = eps
    p[4].f = weight_decay
    p[5].i = amsgrad
    p[6].i = maximize
    p[7].i = decoupled
    p[8].f = 1.0 - beta1 ** step
    p[9].f = 1.0 - beta2 ** step
    p[10].i = len(params)
    _step(ADAM, [params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs], p, 11)


def adam_step_capturable(list params, list grads, list exp_avgs, list exp_avg_sqs, max_exp_avg_sqs, TensorBase count,
                         lr, double beta1, double beta2, double eps, double weight_decay, bint amsgrad, bint maximize,
                         bint decoupled):
    """`adam_step` on a GPU with the count of steps, which is moved on, in a tensor there; so may be `lr`."""
    cdef fx_scalar p[11]
    cdef TensorBase there = <TensorBase> lr if isinstance(lr, TensorBase) and lr.is_cuda else None
    p[0].f = 0 if there is not None else lr
    p[1].f = beta1
    p[2].f = beta2
    p[3].f = eps
    p[4].f = weight_decay
    p[5].i = amsgrad
    p[6].i = maximize
    p[7].i = decoupled
    p[8].f = p[9].f = 1
    p[10].i = len(params)
    _step(ADAM_CAPTURABLE, [params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs], p, 11, count, there)


def total_norm(list tensors, double p=2.0):
    """The p-norm of all elements of all tensors together, a 0-d tensor."""
    cdef fx_scalar params[1]
    cdef int n = <int> len(tensors), i
    cdef TensorBase first = <TensorBase?> tensors[0]
    cdef TensorBase out = new_tensor(0, NULL, first.a.dtype, first.a.device_type, first.a.device_index)
    cdef fx_array **arrays = <fx_array **> malloc(<size_t> (n + 1) * sizeof(void *))
    if arrays == NULL:
        raise MemoryError()
    try:
        arrays[0] = &out.a
        for i in range(n):
            arrays[i + 1] = &(<TensorBase?> tensors[i]).a
        params[0].f = p
        launch("clip_grad_norm_", _grad_norm, first.a.dtype, arrays, 1, n, params, 1, 1)
    finally:
        free(arrays)
    return out
