"""Scaled dot-product attention and its gradient on the device against float64 formulae."""
import numpy as np
import pytest

import ferrox as fx
from ferrox._core.door.backend import run_kernel

from .test_elementwise import OnDevice

TOLERANCE = {"float32": 2e-5, "float64": 1e-12, "float16": 1e-2, "bfloat16": 6e-2}
SIZES = [  # leading dimensions, L, S, E, Ev
    ((1, 1), 1, 1, 1, 1), ((2, 3), 5, 7, 4, 6), ((1, 2), 64, 64, 16, 16), ((2, 1), 65, 70, 33, 8),
    ((1,), 130, 100, 72, 136), ((), 10, 12, 8, 8), ((2,), 70, 3, 5, 40),
]


def reference(q, k, v, g, mask, scale, causal):
    """out, lse, dq, dk, dv; a query that sees no key has zeros."""
    s = scale * (q @ k.swapaxes(-1, -2))
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    if causal:
        s = np.where(np.tril(np.ones(s.shape[-2:], bool)), s, -np.inf)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(s - np.where(np.isfinite(top), top, 0))
    total = e.sum(-1, keepdims=True)
    p = e / np.where(total == 0, 1, total)
    with np.errstate(divide="ignore"):
        lse = (top + np.log(total))[..., 0]
    out = p @ v
    dp = g @ v.swapaxes(-1, -2)
    ds = p * (dp - (g * out).sum(-1, keepdims=True)) * scale
    return out, lse, ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g


def made(rng, shape, dtype):
    """A tensor on the device and the same numbers in float64."""
    t = fx.tensor(rng.standard_normal(shape)).to(getattr(fx, dtype))
    return t.cuda(), t.to(fx.float64).numpy()


def both_ways(q, k, v, g, mask, scale, causal, dtype="float32", wanted=(1, 1, 1)):
    kind, stats = q.dtype, fx.float64 if dtype == "float64" else fx.float32
    out = fx.full((*q.shape[:-1], v.shape[-1]), 7, dtype=kind, device="cuda")
    lse = fx.full(q.shape[:-1], 7, dtype=stats, device="cuda")
    code = ("float16", "bfloat16", "float32", "float64").index(dtype) + 6
    operands = [None if x is None else OnDevice(x) for x in (q, k, v, mask)]
    run_kernel("sdpa", [OnDevice(out), OnDevice(lse), *operands], 2, [scale, int(causal)], code, device_type=1)
    grads = [fx.full(x.shape, 7, dtype=kind, device="cuda") for x in (q, k, v)]
    asked = [OnDevice(x) if w else None for x, w in zip(grads, wanted, strict=True)]
    run_kernel("sdpa_backward", [*asked, OnDevice(g), *operands[:3], OnDevice(out), OnDevice(lse), operands[3]], 3,
               [scale, int(causal)], code, device_type=1)
    return out, lse, *grads


def close(got, expected, dtype):
    for name, a, b in zip(("out", "lse", "dq", "dk", "dv"), got, expected, strict=True):
        a = a.cpu().to(fx.float64).numpy()
        largest = max(1, abs(b[np.isfinite(b)]).max(initial=0))
        np.testing.assert_allclose(a, b, err_msg=name, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * largest)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["plain", "causal", "bool", "added"])
@pytest.mark.parametrize("size", SIZES)
def test_sdpa(size, kind, dtype):
    lead, length, keys, width, v_width = size
    rng = np.random.default_rng(0)
    (q, qn), (k, kn), (v, vn), (g, gn) = (made(rng, (*lead, *s), dtype) for s in (
        (length, width), (keys, width), (keys, v_width), (length, v_width)))
    mask = given = None
    if kind == "bool":
        mask = rng.random((*lead, length, keys)) > 0.3
        given = fx.tensor(mask, device="cuda")
    elif kind == "added":
        given, mask = made(rng, (length, keys), dtype)
        given = given.expand(*lead, length, keys)
    got = both_ways(q, k, v, g, given, 0.3, kind == "causal", dtype)
    close(got, reference(qn, kn, vn, gn, mask, 0.3, kind == "causal"), dtype)


def test_strided_operands_and_absent_gradients():
    rng = np.random.default_rng(1)
    base, numbers = made(rng, (2, 50, 3, 4, 16), "float32")  # (B, L, qkv, H, E), as from one projection
    q, k, v = (base[:, :, i].permute(0, 2, 1, 3) for i in range(3))
    qn, kn, vn = (numbers[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    k, kn = k[:, :1].expand(*k.shape), np.broadcast_to(kn[:, :1], kn.shape)  # one head of keys for all
    g, gn = made(rng, (2, 50, 4, 16), "float32")
    g, gn = g.permute(0, 2, 1, 3), gn.transpose(0, 2, 1, 3)
    m = rng.random((2, 1, 1, 100)) > 0.4
    mask = fx.tensor(m, device="cuda")[..., ::2].expand(2, 4, 50, 50)
    got = both_ways(q, k, v, g, mask, 0.25, False)
    close(got, reference(qn, kn, vn, gn, np.broadcast_to(m[..., ::2], (2, 4, 50, 50)), 0.25, False), "float32")
    for i in range(3):
        only = both_ways(q, k, v, g, mask, 0.25, False, wanted=[j == i for j in range(3)])
        assert fx.equal(only[2 + i].cpu(), got[2 + i].cpu())
        assert (only[2 + (i + 1) % 3].cpu() == 7).all()


def test_more_leading_dimensions_than_a_launch_takes():
    rng = np.random.default_rng(2)
    (q, qn), (k, kn) = made(rng, (2, 1, 2, 1, 2, 1, 5, 4), "float32"), made(rng, (1, 2, 1, 2, 1, 2, 3, 4), "float32")
    shape = (2, 2, 2, 2, 2, 2)
    q, k = q.expand(*shape, 5, 4), k.expand(*shape, 3, 4)
    qn, kn = np.broadcast_to(qn, (*shape, 5, 4)), np.broadcast_to(kn, (*shape, 3, 4))
    got = both_ways(q, k, k, q, None, 0.5, True)
    close(got, reference(qn, kn, kn, qn, None, 0.5, True), "float32")


def test_queries_that_see_nothing_and_no_keys():
    rng = np.random.default_rng(3)
    (q, qn), (k, kn), (v, vn), (g, gn) = (made(rng, (1, 2, 70, 8), "float32") for _ in range(4))
    mask = rng.random((1, 2, 70, 70)) > 0.5
    mask[0, 0, [0, 5, 69]] = False
    for m in (mask, np.where(mask, 0, -np.inf).astype("float32")):
        got = both_ways(q, k, v, g, fx.tensor(m, device="cuda"), 0.5, False)
        assert not got[0][0, 0, 5].cpu().any() and not got[2][0, 0, 5].cpu().any()
        close(got, reference(qn, kn, vn, gn, m, 0.5, False), "float32")
    got = both_ways(q, k[:, :, :0], v[:, :, :0], g, None, 0.5, False)
    assert not got[0].cpu().any() and not got[2].cpu().any()


def test_special_values_stay_in_their_query():
    rng = np.random.default_rng(4)
    q, k, v, g = (rng.standard_normal((1, 60, 8)).astype("float32") for _ in range(4))
    q[0, 7, 0] = np.nan
    q[0, 8] *= 1e4
    out = both_ways(*(fx.tensor(x, device="cuda") for x in (q, k, v, g)), None, 1.0, False)[0].cpu().numpy()
    assert np.isnan(out[0, 7]).all()
    expected = reference(*(x.astype("f8") for x in (np.delete(q, 7, 1), k, v, np.delete(g, 7, 1))), None, 1.0, False)
    np.testing.assert_allclose(np.delete(out, 7, 1), expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_through_the_operator(causal):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    values = [rng.standard_normal((2, 3, 70, 16)).astype("float32") for _ in range(3)]
    theirs = [torch.from_numpy(x).requires_grad_() for x in values]
    mine = [fx.tensor(x, device="cuda", requires_grad=True) for x in values]
    expected = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=causal)
    got = fx.nn.functional.scaled_dot_product_attention(*mine, is_causal=causal)
    np.testing.assert_allclose(got.detach().cpu().numpy(), expected.detach(), rtol=2e-5, atol=2e-5)
    g = rng.standard_normal(expected.shape).astype("float32")
    expected.backward(torch.from_numpy(g))
    got.backward(fx.tensor(g, device="cuda"))
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a.grad.cpu().numpy(), b.grad, rtol=2e-5, atol=3e-5)
