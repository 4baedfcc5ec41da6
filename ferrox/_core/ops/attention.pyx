"""Scaled dot-product attention and dropout."""
import math

from ferrox._core.abi cimport FX_BOOL, FX_F32
from ferrox._core.door.backend cimport kernel_id
from ferrox._core.dtype cimport FLOATING, categories
from ferrox._core.graph.node cimport Node, grad_enabled, record_many, rule, saved_input, saved_output, wants
from ferrox._core.graph.op cimport Op
from ferrox._core.graph.op import operators, row
from ferrox._core.ops.arithmetic cimport add, mul, sub
from ferrox._core.ops.matmul cimport matmul
from ferrox._core.ops.reduction cimport sum_dims
from ferrox._core.ops.shape cimport expand, to_dtype, transpose
from ferrox._core.tensor.base cimport TensorBase, shape_of, shape_tuple
from ferrox._core.tensor.frame cimport adopt, begin, frame, make_like, make_shaped, read, real, run, whole

cdef int _sdpa_backward = kernel_id("sdpa_backward")


cdef TensorBase _swap(object x):
    cdef TensorBase t = <TensorBase> x
    return transpose(t, t.a.ndim - 2, t.a.ndim - 1)


cdef object _weights(object q, object k, object mask, double scale, bint causal):
    """softmax(q k^T scale + mask) in plain operators."""
    cdef TensorBase scores = mul(matmul(q, _swap(k)), scale)
    cdef int last = scores.a.ndim - 1
    if causal:
        ones = operators()["ones"]((shape_of(scores)[last - 1], shape_of(scores)[last]), dtype="bool")
        scores = operators()["where"](operators()["tril"](ones), scores, -math.inf)
    if mask is not None:
        if (<TensorBase> mask).a.dtype == FX_BOOL:
            scores = operators()["where"](mask, scores, -math.inf)
        else:
            scores = add(scores, mask)
    return operators()["softmax"](scores, last)


cdef object _sdpa_vjp(Node n, object cotangents):
    cdef TensorBase g = <TensorBase> cotangents[0], dq = None, dk = None, dv = None
    cdef object q = saved_input(n, 0), k = saved_input(n, 1), v = saved_input(n, 2)
    cdef object mask = saved_input(n, 3) if n.n_in > 3 else None
    cdef frame f
    if grad_enabled() or (n.n_in > 3 and wants(n, 3)):
        # In plain operators: for higher orders, and for the gradient of a mask.
        p = _weights(q, k, mask, n.params[0], n.params[1])
        dp = matmul(g, _swap(v))
        ds = mul(p, sub(dp, sum_dims(mul(dp, p), [g.a.ndim - 1], True)))
        return (mul(matmul(ds, k), n.params[0]), mul(matmul(_swap(ds), q), n.params[0]),
                matmul(_swap(p), g), ds)[:n.n_in]
    begin(&f, _sdpa_backward, g.a.dtype)
    dq = make_like(&f, <TensorBase> q, g.a.dtype) if wants(n, 0) else adopt(&f, None)
    dk = make_like(&f, <TensorBase> k, g.a.dtype) if wants(n, 1) else adopt(&f, None)
    dv = make_like(&f, <TensorBase> v, g.a.dtype) if wants(n, 2) else adopt(&f, None)
    held = [g, q, k, v, saved_output(n, 0), saved_output(n, 1), mask]
    for each in held:
        read(&f, <TensorBase> each)
    real(&f, n.params[0])
    whole(&f, n.params[1])
    run(&f, "sdpa_backward")
    return (dq, dk, dv, None)[:n.n_in]


def _sdpa(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """softmax(query key^T scale + mask) value, blockwise: the matrix of weights is never stored.

    Parameters
    ----------
    query : Tensor, shape (..., L, E)
    key : Tensor, shape (..., S, E)
    value : Tensor, shape (..., S, Ev)
    attn_mask : Tensor, optional
        Broadcastable to (..., L, S): bool (True takes part) or floating (added to the scores).
    dropout_p : float
        Probability of dropping a weight; above 0 the weights are computed in full.
    is_causal : bool
        Query i sees keys 0 .. i only.
    scale : float, optional
        1 / sqrt(E) by default.

    Returns
    -------
    Tensor, shape (..., L, Ev)

    References
    ----------
    Dao et al., FlashAttention, 2022.
    """
    cdef TensorBase q = <TensorBase?> query, k = <TensorBase?> key, v = <TensorBase?> value, out, lse, mask = None
    cdef frame f
    cdef double factor
    if is_causal and attn_mask is not None:
        raise RuntimeError("Explicit attn_mask should not be set when is_causal=True")
    if min(q.a.ndim, k.a.ndim, v.a.ndim) < 2:
        raise RuntimeError(f"[scaled_dot_product_attention] query, key and value need at least 2 dimensions, got "
                           f"{shape_tuple(&q.a)}, {shape_tuple(&k.a)}, {shape_tuple(&v.a)}")
    if not q.a.dtype == k.a.dtype == v.a.dtype or categories[q.a.dtype] != FLOATING:
        raise RuntimeError("Expected query, key, and value to have the same floating-point dtype, but got query.dtype: "
                           f"{q.dtype} key.dtype: {k.dtype} and value.dtype: {v.dtype} instead.")
    if enable_gqa:
        heads = shape_of(q)[q.a.ndim - 3]
        k = operators()["repeat_interleave"](k, heads // shape_of(k)[k.a.ndim - 3], -3)
        v = operators()["repeat_interleave"](v, heads // shape_of(v)[v.a.ndim - 3], -3)
    if shape_of(q)[q.a.ndim - 1] != shape_of(k)[k.a.ndim - 1] or shape_of(k)[k.a.ndim - 2] != shape_of(v)[v.a.ndim - 2]:
        raise RuntimeError(f"[scaled_dot_product_attention] sizes do not fit: query {shape_tuple(&q.a)}, key "
                           f"{shape_tuple(&k.a)}, value {shape_tuple(&v.a)}")
    factor = 1.0 / math.sqrt(shape_of(q)[q.a.ndim - 1]) if scale is None else scale
    batch = _broadcast(shape_tuple(&q.a)[:q.a.ndim - 2], shape_tuple(&k.a)[:k.a.ndim - 2],
                       shape_tuple(&v.a)[:v.a.ndim - 2])
    if attn_mask is not None:
        mask = <TensorBase?> attn_mask
        if mask.a.dtype != FX_BOOL and mask.a.dtype != FX_F32 and mask.a.dtype != q.a.dtype:
            raise RuntimeError("[scaled_dot_product_attention] expected attn_mask of dtype bool, float32 or that of "
                               f"query, {q.dtype}, got {mask.dtype}")
        if mask.a.dtype != FX_BOOL:
            mask = to_dtype(mask, q.a.dtype)
        batch = _broadcast(batch, shape_tuple(&mask.a)[:max(mask.a.ndim - 2, 0)])
        mask = expand(mask, batch + (shape_of(q)[q.a.ndim - 2], shape_of(k)[k.a.ndim - 2]))
    q = expand(q, batch + shape_tuple(&q.a)[q.a.ndim - 2:])
    k = expand(k, batch + shape_tuple(&k.a)[k.a.ndim - 2:])
    v = expand(v, batch + shape_tuple(&v.a)[v.a.ndim - 2:])
    if dropout_p > 0.0:
        weights = operators()["dropout"](_weights(q, k, mask, factor, is_causal), dropout_p, True)
        return matmul(weights, v)
    begin(&f, SDPA.kernel, q.a.dtype)
    out = make_shaped(&f, batch + (shape_of(q)[q.a.ndim - 2], shape_of(v)[v.a.ndim - 1]), q.a.dtype, q)
    lse = make_shaped(&f, batch + (shape_of(q)[q.a.ndim - 2],), max(q.a.dtype, FX_F32), q)
    read(&f, q)
    read(&f, k)
    read(&f, v)
    read(&f, mask)
    real(&f, factor)
    whole(&f, is_causal)
    run(&f, "scaled_dot_product_attention")
    if f.wants_grad:
        record_many(SDPA, f.inputs, 3 if mask is None else 4, (out, lse), (factor, bool(is_causal)))
    return out

cdef Op SDPA = row("scaled_dot_product_attention", function=_sdpa, kernel="sdpa", rule=rule(_sdpa_vjp),
                   needs=("0123op",), public="nn",
                   reference="(lambda s: np.exp(s) / np.exp(s).sum(-1, keepdims=True))"
                             "(query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1]) + "
                             "(0 if attn_mask is None else attn_mask)) @ value",
                   sample="[(t(2, 3, 4), t(2, 5, 4), t(2, 5, 3)), (t(2, 3, 4), t(2, 5, 4), t(2, 5, 3), t(3, 5))]")


cdef tuple _broadcast(a, b, c=()):
    from ferrox._core.ops.movement import broadcast_shapes

    return broadcast_shapes(a, b, c)
