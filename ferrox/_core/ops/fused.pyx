"""Products with what follows them in the same kernel."""
from ferrox._core.graph cimport Node, rule, saved_input, saved_output, wants
from ferrox._core.op cimport Op
from ferrox._core.op import operators, row
from ferrox._core.ops.arithmetic cimport mul
from ferrox._core.ops.matmul cimport matmul, product_added

# As fx/gemm_args.h numbers them.
cdef enum:
    RELU = 1
    GELU = 2


cdef object _addmm_activation_vjp(Node n, object g):
    beta, alpha, use_gelu = n.params
    if use_gelu:    # what it was applied to is computed again rather than kept
        before = operators()["addmm"](saved_input(n, 0), saved_input(n, 1), saved_input(n, 2), beta=beta, alpha=alpha)
        g = operators()["gelu_erf_backward"](g, before)
    else:
        g = mul(g, operators()["gt"](saved_output(n, 0), 0))
    return (mul(g, beta) if wants(n, 0) else None,
            mul(matmul(g, saved_input(n, 2).mT), alpha) if wants(n, 1) else None,
            mul(matmul(saved_input(n, 1).mT, g), alpha) if wants(n, 2) else None)


def _addmm_activation(input, mat1, mat2, *, beta=1, alpha=1, use_gelu=False):
    """relu(beta * input + alpha * (mat1 @ mat2)), or gelu of it, in one kernel; input is broadcast.

    Parameters
    ----------
    use_gelu : bool, default False
        The Gaussian error linear unit in place of relu.
    """
    return product_added(FUSED, input, mat1, mat2, beta, alpha, GELU if use_gelu else RELU, (beta, alpha, use_gelu))

cdef Op FUSED = row("_addmm_activation", function=_addmm_activation, kernel="addmm_activation",
                    rule=rule(_addmm_activation_vjp), needs=("012o", "012o", "012o"), out=True,
                    reference="np.maximum(beta * input + alpha * (mat1 @ mat2), 0)",
                    sample="[(t(3, 2), t(3, 4), t(4, 2)), call(t(2), t(3, 4), t(4, 2), beta=0.5, alpha=2.0)]")
