"""Products with what follows them in the same kernel."""
from ferrox._core.dtype cimport FLOATING, categories, dtype_name
from ferrox._core.graph.node cimport Node, rule, saved_input, saved_output
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import operators, row
from ferrox._core.ops.activation cimport GELU_ERF_BACKWARD, THRESHOLD_BACKWARD
from ferrox._core.ops.elementwise cimport apply2p
from ferrox._core.ops.matmul cimport addmm_vjp, product_added
from ferrox._core.tensor.base cimport TensorBase

cdef enum:      # as fx/gemm_args.h numbers them
    RELU = 1
    GELU = 2

cdef tuple NONE = (0, 0, 0)


cdef object _addmm_relu_vjp(Node n, object g):
    return addmm_vjp(n, apply2p(THRESHOLD_BACKWARD, g, saved_output(n, 0), 0, 0, 0, NONE))


cdef object _addmm_gelu_vjp(Node n, object g):
    # What gelu was applied to is computed once more rather than kept.
    beta, alpha = n.params
    before = operators()["addmm"](saved_input(n, 0), saved_input(n, 1), saved_input(n, 2), beta=beta, alpha=alpha)
    return addmm_vjp(n, apply2p(GELU_ERF_BACKWARD, g, before, 0, 0, 0, NONE))

cdef Op ADDMM_RELU = row("_addmm_relu", kernel="addmm_activation", rule=rule(_addmm_relu_vjp),
                         needs=("o", "2o", "1o"), public=False, doc="relu of addmm.")
cdef Op ADDMM_GELU = row("_addmm_gelu", kernel="addmm_activation", rule=rule(_addmm_gelu_vjp),
                         needs=("012", "012", "012"), public=False, doc="gelu of addmm.")


def _addmm_activation(input, mat1, mat2, *, beta=1, alpha=1, use_gelu=False):
    """relu(beta * input + alpha * (mat1 @ mat2)), or gelu of it, in one kernel; input is broadcast.

    Parameters
    ----------
    use_gelu : bool, default False
        The Gaussian error linear unit, by the error function on every device, in place of relu.

    Raises
    ------
    RuntimeError
        For operands that are not floating-point, and for those that addmm refuses.
    """
    if isinstance(mat1, TensorBase) and categories[(<TensorBase> mat1).a.dtype] != FLOATING:
        raise RuntimeError("[_addmm_activation] expected floating-point operands, got "
                           f"{dtype_name((<TensorBase> mat1).a.dtype)}; convert first")
    return product_added(ADDMM_GELU if use_gelu else ADDMM_RELU, "_addmm_activation", input, mat1, mat2, beta, alpha,
                         GELU if use_gelu else RELU)

row("_addmm_activation", function=_addmm_activation, composite=True, out=True,
    reference="(lambda y: y * sp.ndtr(y) if use_gelu else np.maximum(y, 0))"
              "(beta * input + alpha * (mat1 @ mat2))",
    sample="[(t(3, 2), t(3, 4), t(4, 2)), call(t(2), t(3, 4), t(4, 2), beta=0.5, alpha=2.0), "
           "call(t(2), t(3, 4), t(4, 2), use_gelu=True)]")
