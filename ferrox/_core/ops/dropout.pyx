"""Dropout: the one random operator with a gradient."""
from cpython.object cimport PyObject

from ferrox._core.abi cimport FX_BOOL, fx_array, fx_scalar
from ferrox._core.door.dispatch cimport launch
from ferrox._core.dtype cimport FLOATING, categories, dtype_name
from ferrox._core.graph.node cimport Node, grad_enabled, record_many, rule, saved_output
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport mul
from ferrox._core.tensor.generator cimport generator_for, reserve
from ferrox._core.tensor.base cimport TensorBase, new_like


cdef object _dropout_vjp(Node n, object cotangents):
    return mul(mul(cotangents[0], saved_output(n, 1)), n.params)


def _dropout(input, p=0.5, training=True, inplace=False):
    """Elements zeroed with probability `p` while training, the others scaled by 1 / (1 - p).

    Parameters
    ----------
    p : float, 0 to 1
    training : bool
        The identity when false.

    References
    ----------
    Srivastava et al., Dropout, JMLR 15, 2014.
    """
    cdef TensorBase x = <TensorBase?> input, y, mask
    cdef fx_array *arrays[3]
    cdef fx_scalar params[3]
    cdef PyObject *inputs[1]
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input
    if p == 1.0:
        nothing = 0.0 if categories[x.a.dtype] == FLOATING else False
        return input.mul_(nothing) if inplace else mul(x, nothing)
    if categories[x.a.dtype] != FLOATING:
        raise RuntimeError(f"[dropout] result type float can't be cast to {dtype_name(x.a.dtype)}")
    y = new_like(x, x.a.dtype)
    mask = new_like(x, FX_BOOL)
    arrays[0] = &y.a
    arrays[1] = &mask.a
    arrays[2] = &x.a
    reserve(generator_for(None, x.a.device_type, x.a.device_index), x.a.numel, False, params)
    params[2].f = p
    launch("dropout", DROPOUT.kernel, x.a.dtype, arrays, 2, 1, params, 3, 3)
    if grad_enabled():
        inputs[0] = <PyObject *> x
        record_many(DROPOUT, inputs, 1, (y, mask), 1.0 / (1.0 - p))
    if inplace:
        return input.mul_(mul(mask, 1.0 / (1.0 - p)))
    return y

cdef Op DROPOUT = row("dropout", function=_dropout, rule=rule(_dropout_vjp), needs=("p",))
