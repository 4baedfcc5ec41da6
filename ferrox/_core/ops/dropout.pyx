"""Dropout: the one random operator with a gradient."""
from ferrox._core.abi cimport FX_BOOL
from ferrox._core.dtype cimport FLOATING, categories, dtype_name
from ferrox._core.graph.node cimport Node, record_frame_many, rule, saved_output
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import row
from ferrox._core.ops.arithmetic cimport mul
from ferrox._core.tensor.generator cimport generator_for, reserve
from ferrox._core.tensor.base cimport TensorBase
from ferrox._core.tensor.frame cimport begin, frame, make_like, read, real, run


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
    cdef frame f
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input
    if p == 1.0:
        nothing = 0.0 if categories[x.a.dtype] == FLOATING else False
        return input.mul_(nothing) if inplace else mul(x, nothing)
    if categories[x.a.dtype] != FLOATING:
        raise RuntimeError(f"[dropout] result type float can't be cast to {dtype_name(x.a.dtype)}")
    begin(&f, DROPOUT.kernel, x.a.dtype)
    y = make_like(&f, x, x.a.dtype)
    mask = make_like(&f, x, FX_BOOL)
    read(&f, x)
    reserve(generator_for(None, x.a.device_type, x.a.device_index), x.a.numel, False, &f)
    real(&f, p)
    run(&f, "dropout")
    record_frame_many(DROPOUT, &f, (y, mask), 1.0 / (1.0 - p))
    if inplace:
        return input.mul_(mul(mask, 1.0 / (1.0 - p)))
    return y

cdef Op DROPOUT = row("dropout", function=_dropout, rule=rule(_dropout_vjp), needs=("p",))
