"""Scaled dot-product attention and its gradient against float64 formulae and PyTorch."""
import numpy as np
import pytest

import ferrox._core.cpu  # noqa: F401
from ferrox._core.door import threads
from ferrox._core.door.backend import run_kernel

TOLERANCE = {"float32": {"rtol": 2e-5, "atol": 2e-5}, "float64": {"rtol": 1e-12, "atol": 1e-12},
             "float16": {"rtol": 4e-3, "atol": 1e-2}}
SIZES = [  # leading dimensions, L, S, E, Ev
    ((1, 1), 1, 1, 1, 1), ((2, 3), 5, 7, 4, 6), ((1, 2), 48, 64, 16, 16), ((2, 1), 49, 65, 33, 8), ((1, 1), 130,
                                                                                                    200, 64, 64),
    ((3,), 10, 12, 8, 8), ((), 10, 12, 8, 8), ((2, 2), 100, 3, 5, 40),
]


def reference(q, k, v, g, mask, scale, causal):
    """out, lse, dq, dk, dv; a query that sees no key has zeros."""
    q, k, v, g = (a.astype(np.float64) for a in (q, k, v, g))
    s = scale * (q @ k.swapaxes(-1, -2))
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    if causal:
        s = np.where(np.tril(np.ones(s.shape[-2:], bool)), s, -np.inf)
    top = s.max(-1, keepdims=True)
    e = np.exp(s - np.where(np.isfinite(top), top, 0))
    total = e.sum(-1, keepdims=True)
    p = e / np.where(total == 0, 1, total)
    with np.errstate(divide="ignore"):
        lse = (top + np.log(total))[..., 0]
    out = p @ v
    dp = g @ v.swapaxes(-1, -2)
    ds = p * (dp - (g * out).sum(-1, keepdims=True)) * scale
    return out, lse, ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g


def both_ways(q, k, v, g, mask, scale, causal, dtype="float32"):
    stats = "float64" if dtype == "float64" else "float32"
    out = np.full((*q.shape[:-1], v.shape[-1]), 7, dtype)
    lse = np.full(q.shape[:-1], 7, stats)
    run_kernel("sdpa", [out, lse, q, k, v, mask], 2, [scale, int(causal)], dtype)
    grads = [np.full(a.shape, 7, dtype) for a in (q, k, v)]
    run_kernel("sdpa_backward", [*grads, g, q, k, v, out, lse, mask], 3, [scale, int(causal)], dtype)
    return out, lse, *grads


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("masked", [None, "bool", "float"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_sdpa(size, causal, masked, dtype):
    lead, length, keys, width, v_width = size
    rng = np.random.default_rng(0)
    q, k, v, g = (rng.standard_normal((*lead, *s)).astype(dtype)
                  for s in ((length, width), (keys, width), (keys, v_width), (length, v_width)))
    mask = None
    if masked == "bool":
        mask = rng.random((*lead, length, keys)) > 0.3
    elif masked == "float":
        mask = np.broadcast_to(rng.standard_normal((length, keys)).astype(dtype), (*lead, length, keys))
    got = both_ways(q, k, v, g, mask, 0.3, causal, dtype)
    for name, a, b in zip(("out", "lse", "dq", "dk", "dv"), got, reference(q, k, v, g, mask, 0.3, causal), strict=True):
        kind = "float32" if name == "lse" and dtype == "float16" else dtype
        largest = max(1, abs(b[np.isfinite(b)]).max(initial=0))
        np.testing.assert_allclose(a, b, err_msg=name, rtol=TOLERANCE[kind]["rtol"],
                                   atol=TOLERANCE[kind]["atol"] * largest)


def test_strided_operands_and_absent_gradients():
    rng = np.random.default_rng(1)
    base = rng.standard_normal((2, 50, 3, 4, 16)).astype("float32")  # (B, L, qkv, H, E), as from one projection
    q, k, v = (base[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    k = np.broadcast_to(k[:, :1], k.shape)  # one head of keys for all
    g = rng.standard_normal((2, 50, 4, 16)).astype("float32").transpose(0, 2, 1, 3)
    mask = np.broadcast_to((rng.random((2, 1, 1, 100)) > 0.4)[..., ::2], (2, 4, 50, 50))
    got = both_ways(q, k, v, g, mask, 0.25, False)
    expected = reference(q, k, v, g, mask, 0.25, False)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    dv = np.empty(v.shape, "float32")
    run_kernel("sdpa_backward", [None, None, dv, g, q, k, v, got[0], got[1], mask], 3, [0.25, 0])
    np.testing.assert_array_equal(dv, got[4])


def test_queries_that_see_nothing_and_no_keys():
    rng = np.random.default_rng(2)
    q, k, v, g = rng.standard_normal((4, 1, 2, 70, 8)).astype("float32")
    mask = rng.random((1, 2, 70, 70)) > 0.5
    mask[0, 0, [0, 5, 69]] = False
    for m in (mask, np.where(mask, 0, -np.inf).astype("float32")):
        got = both_ways(q, k, v, g, m, 0.5, False)
        assert not got[0][0, 0, 5].any() and got[1][0, 0, 5] == -np.inf and not got[2][0, 0, 5].any()
        for a, b in zip(got, reference(q, k, v, g, m, 0.5, False), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    got = both_ways(q, k[:, :, :0], v[:, :, :0], g, None, 0.5, False)
    assert not got[0].any() and not got[2].any()


def test_special_values_stay_in_their_query():
    rng = np.random.default_rng(3)
    q, k, v, g = rng.standard_normal((4, 1, 60, 8)).astype("float32")
    q[0, 7, 0] = np.nan
    q[0, 8] *= 1e4
    out = both_ways(q, k, v, g, None, 1.0, False)[0]
    clean = np.delete(q, 7, 1)
    assert np.isnan(out[0, 7]).all()
    np.testing.assert_allclose(np.delete(out, 7, 1), reference(clean, k, v, np.delete(g, 7, 1), None, 1.0,
                                                               False)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("masked", "causal"), [(False, False), (False, True), (True, False)])
def test_as_pytorch(masked, causal):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    q, k, v, g = rng.standard_normal((4, 2, 3, 90, 32)).astype("float32")
    mask = rng.random((2, 3, 90, 90)) > 0.5 if masked else None
    t = [torch.from_numpy(a).requires_grad_() for a in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(
        *t, attn_mask=None if mask is None else torch.from_numpy(mask), is_causal=causal)
    expected.backward(torch.from_numpy(g))
    got = both_ways(q, k, v, g, mask, 32**-0.5, causal)
    np.testing.assert_allclose(got[0], expected.detach(), rtol=1e-5, atol=1e-5)
    for a, b in zip(got[2:], t, strict=True):
        np.testing.assert_allclose(a, b.grad, rtol=1e-4, atol=1e-5)


def at_thread_counts(compute):
    """Results of compute() at 1, 2 and 7 threads, as lists of arrays."""
    before = threads.get_num_threads()
    results = []
    try:
        for count in (1, 2, 7):
            threads.set_num_threads(count)
            results.append(compute())
    finally:
        threads.set_num_threads(before)
    return results


def assert_bit_equal(results):
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("causal", [False, True])
def test_bit_equal_at_any_thread_count(causal):
    q, k, v, g = np.random.default_rng(5).standard_normal((4, 3, 150, 32)).astype("float32")
    assert_bit_equal(at_thread_counts(lambda: both_ways(q, k, v, g, None, 0.2, causal)))
