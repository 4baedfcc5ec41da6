"""Attention on tensor cores against float64 formulae, within bounds of the rounding errors of its steps."""
import numpy as np
import pytest

import ferrox as fx

from .test_attention import both_ways, made, reference

# Half a unit in the last place of 1; that of float32 is tf32's.
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-11}
TINY = {"float16": 2.0**-25, "bfloat16": 2.0**-134, "float32": 0}
EIGHTS = [  # leading dimensions, L, S, E, Ev
    ((1,), 1, 1, 8, 8), ((2,), 70, 130, 64, 64), ((1, 2), 65, 63, 16, 40), ((1,), 129, 67, 128, 128),
    ((1,), 66, 200, 72, 16), ((2, 1), 3, 65, 8, 96),
]


@pytest.fixture(params=["float16", "bfloat16", "float32"])
def dtype(request):
    before = fx.backends.cuda.matmul.allow_tf32
    fx.backends.cuda.matmul.allow_tf32 = True
    yield request.param
    fx.backends.cuda.matmul.allow_tf32 = before


def within(got, q, k, v, g, mask, scale, causal, dtype):
    """Checks out, lse, dq, dk, dv elementwise.  Operands of tf32 are rounded, those of half precision exact;
    probabilities and the scores' gradient are rounded before they are multiplied, results at the end."""
    u, tiny, plain = ROUNDING[dtype], TINY[dtype], 2.0**-24
    given = u if dtype == "float32" else 0
    expected = out, lse, dq, dk, dv = reference(q, k, v, g, mask, scale, causal)
    aq, ak, av, ag = (abs(x) for x in (q, k, v, g))
    swap = lambda x: x.swapaxes(-1, -2)  # noqa: E731
    s = scale * (q @ swap(k))
    off = (2.1 * given + (q.shape[-1] + 8) * plain) * abs(scale) * (aq @ swap(ak)) + 4 * plain
    if mask is not None and mask.dtype != bool:
        s = s + mask
        off = off + 4 * plain * np.where(np.isfinite(mask), abs(mask), 0)
    if mask is not None and mask.dtype == bool:
        s = np.where(mask, s, -np.inf)
    if causal:
        s = np.where(np.tril(np.ones(s.shape[-2:], bool)), s, -np.inf)
    seen = np.isfinite(s)
    off = np.where(seen, off + 4 * plain * np.where(seen, abs(s), 0), 0)
    worst = off.max(-1, keepdims=True, initial=0)
    p = np.where(seen, np.exp(s - np.where(np.isfinite(lse), lse, 0)[..., None]), 0)
    sums = (k.shape[-2] + 8) * plain  # of additions in float32, at most
    relative = np.expm1(2 * worst) + sums
    p_off = p * (relative + u) + tiny
    # The forward's probabilities are relative to the row's largest, so that rounding to 0 weighs less there.
    out_off = (p_off + p * given) @ av + (u + sums) * abs(out) + tiny
    dp = g @ swap(v)
    dp_off = (2.1 * given + (v.shape[-1] + 8) * plain) * (ag @ swap(av))
    delta_off = (ag * (out_off + (v.shape[-1] + 8) * plain * abs(out))).sum(-1, keepdims=True)
    slope = abs(dp - (g * out).sum(-1, keepdims=True))
    ds_off = p * (relative * slope + dp_off + delta_off) * (1 + u) + u * p * slope + tiny
    more = given + (q.shape[-2] + k.shape[-2]) * plain
    ds = p * slope
    offs = (
        out_off,
        worst[..., 0] + sums + 4 * plain * np.where(np.isfinite(lse), abs(lse), 0),
        abs(scale) * ((ds_off + more * ds) @ ak) + u * abs(dq) + tiny,
        abs(scale) * (swap(ds_off + more * ds) @ aq) + u * abs(dk) + tiny,
        swap(p_off + more * p) @ ag + u * abs(dv) + tiny,
    )
    for name, a, b, bound in zip(("out", "lse", "dq", "dk", "dv"), got, expected, offs, strict=True):
        a = a.cpu().to(fx.float64).numpy()
        same = (a == b) | (abs(np.subtract(a, b, where=np.isfinite(b), out=np.full(b.shape, np.inf))) <= bound * 1.001)
        assert same.all(), (name, np.argwhere(~same)[:3], a[~same][:3], b[~same][:3],
                            np.broadcast_to(bound, b.shape)[~same][:3])


def operands(rng, lead, length, keys, width, v_width, dtype):
    return [made(rng, (*lead, *s), dtype)
            for s in ((length, width), (keys, width), (keys, v_width), (length, v_width))]


@pytest.mark.parametrize("kind", ["plain", "causal", "bool", "added"])
@pytest.mark.parametrize("size", EIGHTS)
def test_sdpa(size, kind, dtype):
    lead, length, keys = size[:3]
    rng = np.random.default_rng(0)
    (q, qn), (k, kn), (v, vn), (g, gn) = operands(rng, *size, dtype)
    mask = given = None
    if kind == "bool":
        mask = rng.random((*lead, length, keys)) > 0.3
        given = fx.tensor(mask, device="cuda")
    elif kind == "added":
        given, mask = made(rng, (length, keys), dtype)
        given = given.expand(*lead, length, keys)
    got = both_ways(q, k, v, g, given, 0.3, kind == "causal", dtype)
    within(got, qn, kn, vn, gn, mask, 0.3, kind == "causal", dtype)


@pytest.mark.parametrize("scale", [0.0, -0.5])
def test_scales_that_do_not_keep_the_order(scale, dtype):
    rng = np.random.default_rng(1)
    (q, qn), (k, kn), (v, vn), (g, gn) = operands(rng, (1,), 20, 70, 16, 16, dtype)
    within(both_ways(q, k, v, g, None, scale, True, dtype), qn, kn, vn, gn, None, scale, True, dtype)


def test_enough_queries_for_large_tiles(dtype):
    rng = np.random.default_rng(2)
    (q, qn), (k, kn), (v, vn), (g, gn) = operands(rng, (1, 1), 70, 5, 8, 8, dtype)
    shape = (11, 12)  # 132 heads that lie on each other
    got = both_ways(*(x.expand(*shape, *x.shape[2:]) for x in (q, k, v, g)), None, 0.4, True, dtype)
    for x in got:
        assert fx.equal(x[3, 5].cpu(), x[10, 11].cpu())
    within([x[:1, :1] for x in got], qn, kn, vn, gn, None, 0.4, True, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])  # of tf32 there are no large tiles
@pytest.mark.parametrize("width", [64, 128])
def test_large_and_small_tiles_give_the_same(width, dtype):
    rng = np.random.default_rng(3)
    (q, _), (k, _), (v, _), _ = operands(rng, (1,), 130, 70, width, width, dtype)
    mask = fx.tensor(rng.random((130, 70)) > 0.2, device="cuda")
    sdpa = fx.nn.functional.scaled_dot_product_attention
    for options in ({"is_causal": True}, {"attn_mask": mask}):
        one = sdpa(q, k, v, **options)
        many = sdpa(q.expand(70, 130, width), k.expand(70, 70, width), v.expand(70, 70, width), **options)
        assert fx.equal(one[0].cpu(), many[69].cpu())


def test_operands_that_are_copied_or_read_in_place(dtype):
    rng = np.random.default_rng(4)
    base, numbers = made(rng, (2, 70, 3, 2, 16), dtype)  # (B, L, qkv, H, E), as from one projection
    q, k, v = (base[:, :, i].permute(0, 2, 1, 3) for i in range(3))
    qn, kn, vn = (numbers[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    g, gn = made(rng, (), dtype)  # as from a sum
    g, gn = g.expand(2, 2, 70, 16), np.broadcast_to(gn, (2, 2, 70, 16))
    k, kn = k.swapaxes(-1, -2).contiguous().swapaxes(-1, -2), kn
    m = rng.random((2, 1, 1, 140)) > 0.4
    mask = fx.tensor(m, device="cuda")[..., ::2].expand(2, 2, 70, 70)
    m = np.broadcast_to(m[..., ::2], (2, 2, 70, 70))
    got = both_ways(q, k, v, g, mask, 0.25, False, dtype)
    within(got, qn, kn, vn, gn, m, 0.25, False, dtype)
    for i in range(3):
        only = both_ways(q, k, v, g, mask, 0.25, False, dtype, wanted=[j == i for j in range(3)])
        assert fx.equal(only[2 + i].cpu(), got[2 + i].cpu())
        assert (only[2 + (i + 1) % 3].cpu() == 7).all()


def test_queries_that_see_nothing_and_no_keys(dtype):
    rng = np.random.default_rng(5)
    (q, qn), (k, kn), (v, vn), (g, gn) = operands(rng, (1, 2), 70, 70, 8, 8, dtype)
    mask = rng.random((1, 2, 70, 70)) > 0.5
    mask[0, 0, [0, 5, 69]] = False
    for m in (mask, np.where(mask, 0, -np.inf)):
        given = fx.tensor(m, device="cuda")
        given = given if m.dtype == bool else given.to(getattr(fx, dtype))
        got = both_ways(q, k, v, g, given, 0.5, False, dtype)
        assert not got[0][0, 0, 5].cpu().any() and not got[2][0, 0, 5].cpu().any()
        within(got, qn, kn, vn, gn, m, 0.5, False, dtype)
    got = both_ways(q, k[:, :, :0], v[:, :, :0], g, None, 0.5, False, dtype)
    assert not got[0].cpu().any() and not got[2].cpu().any()
    assert (got[1].cpu().numpy() == -np.inf).all()


def test_special_values_stay_in_their_query(dtype):
    rng = np.random.default_rng(6)
    (q, qn), (k, kn), (v, vn), (g, gn) = operands(rng, (1,), 60, 60, 8, 8, dtype)
    qn[0, 7, 0] = np.nan
    q = fx.tensor(qn, device="cuda").to(getattr(fx, dtype))
    got = both_ways(q, k, v, g, None, 1.0, False, dtype)
    assert np.isnan(got[0][0, 7].cpu().to(fx.float64).numpy()).all()
    rest = [i for i in range(60) if i != 7]
    out, _, dq, *_ = reference(qn[:, rest], kn, vn, gn[:, rest], None, 1.0, False)
    np.testing.assert_allclose(got[0].cpu().to(fx.float64).numpy()[:, rest], out, atol=30 * ROUNDING[dtype])
    np.testing.assert_allclose(got[2].cpu().to(fx.float64).numpy()[:, rest], dq, atol=60 * ROUNDING[dtype])


def test_hidden_keys_may_hold_anything(dtype):
    rng = np.random.default_rng(9)
    for length in (20, 37, 90):
        (q, _), (k, kn), (v, _), (g, _) = operands(rng, (1,), length, 70, 8, 8, dtype)
        mask = np.ones((1, length, 70), bool)
        mask[..., 41:45] = False
        given = fx.tensor(mask, device="cuda")
        expected = both_ways(q, k, v, g, given, 1.0, False, dtype)
        kn[0, 41], kn[0, 42] = np.inf, np.nan
        k = fx.tensor(kn, device="cuda").to(getattr(fx, dtype))
        got = both_ways(q, k, v, g, given, 1.0, False, dtype)
        for which in (0, 1, 4):
            assert fx.equal(got[which], expected[which])
        rest = [i for i in range(70) if i not in (41, 42)]
        assert fx.equal(got[3][:, rest], expected[3][:, rest])
        assert not got[4][0, 41:45].cpu().any() and not got[3][0, 41:45].cpu().any()


@pytest.mark.parametrize("options", [{"enable_gqa": True}, {"enable_gqa": True, "is_causal": True, "scale": 0.1}])
def test_through_the_operator(options, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    sizes = ((2, 4, 70, 16), (2, 2, 66, 16), (2, 2, 66, 24))
    values = [made(rng, s, dtype) for s in sizes]
    mine = [x.requires_grad_() for x, _ in values]
    theirs = [torch.from_numpy(n).requires_grad_() for _, n in values]
    expected = torch.nn.functional.scaled_dot_product_attention(*theirs, **options)
    got = fx.nn.functional.scaled_dot_product_attention(*mine, **options)
    u = ROUNDING[dtype]
    np.testing.assert_allclose(got.detach().cpu().to(fx.float64).numpy(), expected.detach(), rtol=8 * u, atol=8 * u)
    g, gn = made(rng, tuple(expected.shape), dtype)
    expected.backward(torch.from_numpy(gn))
    got.backward(g)
    for a, b in zip(mine, theirs, strict=True):
        atol = 8 * u * b.grad.abs().max().item()
        np.testing.assert_allclose(a.grad.cpu().to(fx.float64).numpy(), b.grad, rtol=8 * u, atol=atol)


def test_dropout_of_everything_and_nothing(dtype):
    rng = np.random.default_rng(8)
    q, k, v = (x for x, _ in operands(rng, (1, 2), 70, 66, 16, 16, dtype)[:3])
    sdpa = fx.nn.functional.scaled_dot_product_attention
    assert not sdpa(q, k, v, dropout_p=1.0).cpu().any()
    a, b = (sdpa(q, k, v, dropout_p=p).cpu().to(fx.float64).numpy() for p in (0.0, 1e-9))
    np.testing.assert_allclose(a, b, atol=16 * ROUNDING[dtype])


def test_float32_keeps_its_digits_unless_tf32_is_allowed():
    rng = np.random.default_rng(9)
    (q, qn), (k, kn), (v, vn), (g, gn) = operands(rng, (1,), 20, 30, 16, 16, "float32")
    assert not fx.backends.cuda.matmul.allow_tf32
    got = both_ways(q, k, v, g, None, 0.5, False)
    for a, b in zip(got, reference(qn, kn, vn, gn, None, 0.5, False), strict=True):
        np.testing.assert_allclose(a.cpu().numpy(), b, rtol=2e-5, atol=2e-5)
