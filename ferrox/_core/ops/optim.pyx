"""Optimiser steps over all parameters of a group in one call, in place; the formulae are PyTorch's.

These are not operators of the graph: they run unrecorded and count as an in-place change of every tensor they write.
"""

from ferrox._core.door.backend cimport kernel_id
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import row
from ferrox._core.tensor.base cimport TensorBase, on_one_device, shape_of, shape_tuple
from ferrox._core.tensor.frame cimport begin, close_arrays, frame, make, more_arrays, read, real, run, whole, write

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


cdef int _step(Op op, frame *f, list groups, TensorBase count=None, TensorBase lr=None) except -1:
    """Run a kernel that writes, for each parameter in turn, a tensor (or None) of every list in `groups`, and then
    `count`; `lr` is an input.  The frame holds the parameters of the kernel already."""
    cdef int n = <int> len(<list> groups[0]), width = <int> len(groups), i, k
    cdef TensorBase tensor, first
    if n == 0:
        return 0
    for k in range(width):
        if groups[k] is not None and len(<list?> groups[k]) != n:
            raise ValueError(f"[{op.name}] {n} parameters, but a list of {len(<list> groups[k])}")
    f.call.dtype = (<TensorBase?> (<list> groups[0])[0]).a.dtype
    more_arrays(f, n * width + 2)
    try:
        for i in range(n):
            first = <TensorBase?> (<list> groups[0])[i]
            for k in range(width):
                tensor = None if groups[k] is None else <TensorBase?> (<list> groups[k])[i]
                if tensor is not None and tensor.a.numel != first.a.numel:
                    raise ValueError(f"[{op.name}] parameter {i} has shape {shape_tuple(&first.a)}, its state "
                                     f"{shape_tuple(&tensor.a)}")
                write(f, tensor)
        if count is not None:
            write(f, count)
            read(f, lr)
        run(f, op.name)
    finally:
        close_arrays(f)
    return 0


def sgd_step(list params, list grads, momentum_buffers, double lr, double momentum, double dampening, bint nesterov,
             double weight_decay, bint maximize, bint first_step):
    """One step of SGD in place; `momentum_buffers` is None without momentum and is initialised when `first_step`."""
    cdef frame f
    begin(&f, SGD.kernel, 0)
    real(&f, lr)
    real(&f, momentum)
    real(&f, dampening)
    whole(&f, nesterov)
    real(&f, weight_decay)
    whole(&f, maximize)
    whole(&f, first_step)
    whole(&f, len(params))
    _step(SGD, &f, [params, grads, momentum_buffers])


def adam_step(list params, list grads, list exp_avgs, list exp_avg_sqs, max_exp_avg_sqs, long step, double lr,
              double beta1, double beta2, double eps, double weight_decay, bint amsgrad, bint maximize, bint decoupled):
    """One step of Adam (or AdamW if `decoupled`) in place; `step` counts from 1."""
    cdef frame f
    begin(&f, ADAM.kernel, 0)
    _adam_factors(&f, lr, beta1, beta2, eps, weight_decay)
    whole(&f, amsgrad)
    whole(&f, maximize)
    whole(&f, decoupled)
    real(&f, 1.0 - beta1 ** step)
    real(&f, 1.0 - beta2 ** step)
    whole(&f, len(params))
    _step(ADAM, &f, [params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs])


cdef int _adam_factors(frame *f, double lr, double beta1, double beta2, double eps, double weight_decay) noexcept:
    real(f, lr)
    real(f, beta1)
    real(f, beta2)
    real(f, eps)
    real(f, weight_decay)
    return 0


def adam_step_capturable(list params, list grads, list exp_avgs, list exp_avg_sqs, max_exp_avg_sqs, TensorBase count,
                         lr, double beta1, double beta2, double eps, double weight_decay, bint amsgrad, bint maximize,
                         bint decoupled):
    """`adam_step` on a GPU with the count of steps, which is moved on, in a tensor there; so may be `lr`."""
    cdef frame f
    cdef TensorBase there = <TensorBase> lr if isinstance(lr, TensorBase) and lr.is_cuda else None
    begin(&f, ADAM_CAPTURABLE.kernel, 0)
    _adam_factors(&f, 0 if there is not None else lr, beta1, beta2, eps, weight_decay)
    whole(&f, amsgrad)
    whole(&f, maximize)
    whole(&f, decoupled)
    real(&f, 1)
    real(&f, 1)
    whole(&f, len(params))
    _step(ADAM_CAPTURABLE, &f, [params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs], count, there)


def total_norm(list tensors, double p=2.0):
    """The p-norm of all elements of all tensors together, a 0-d tensor."""
    cdef frame f
    cdef TensorBase first = <TensorBase?> tensors[0], out, each
    begin(&f, _grad_norm, first.a.dtype)
    more_arrays(&f, <int> len(tensors) + 1)
    try:
        out = make(&f, 0, NULL, first.a.dtype, first)
        for each in tensors:
            read(&f, each)
        real(&f, p)
        run(&f, "clip_grad_norm_")
    finally:
        close_arrays(&f)
    return out
