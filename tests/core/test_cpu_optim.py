"""Optimiser steps, gradient norm and scaling against torch.optim and NumPy."""
import numpy as np
import pytest

import ferrox._core.cpu  # noqa: F401
from ferrox._core.door import threads
from ferrox._core.door.backend import run_kernel

SHAPES = [(1,), (3, 5), (), (64,), (1000, 7), (0, 3), (300, 100)]


def arrays(dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(s), dtype) for s in SHAPES]


def layouts(params, strided):
    """The parameters, or views of the same values with gaps and swapped axes."""
    if not strided:
        return [p.copy() for p in params]
    views = []
    for p in params:
        base = np.zeros(tuple(2 * n for n in p.shape[::-1]), p.dtype)
        view = base.T[tuple(slice(None, None, 2) for _ in p.shape)] if p.ndim else base
        view[...] = p
        views.append(view)
    return views


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [
    {}, {"weight_decay": 0.1}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
    {"momentum": 0.9, "nesterov": True}, {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1,
                                          "maximize": True}, {"maximize": True},
])
def test_sgd_as_pytorch(options, dtype, strided):
    torch = pytest.importorskip("torch")
    start = arrays(dtype)
    theirs = [torch.from_numpy(p.copy()).requires_grad_() for p in start]
    optimiser = torch.optim.SGD(theirs, lr=0.05, foreach=False, **options)
    mine = layouts(start, strided)
    buffers = layouts([np.full_like(p, np.nan) for p in start],
                      strided) if options.get("momentum") else [None] * len(mine)
    for step in range(4):
        grads = arrays(dtype, step + 1)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.from_numpy(g.copy())
        optimiser.step()
        flat = [a for group in zip(mine, layouts(grads, strided), buffers, strict=True) for a in group]
        params = [0.05, float(options.get("momentum", 0)), float(options.get("dampening", 0)),
                  int(options.get("nesterov", 0)),
                  float(options.get("weight_decay", 0)), int(options.get("maximize", 0)), int(step == 0), len(mine)]
        run_kernel("sgd_step", flat, len(flat), params, dtype)
    for p, q in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(p, q.detach(), rtol=1e-6 if dtype == "float32" else 1e-14,
                                   atol=1e-7 if dtype == "float32" else 1e-15)


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("options", [
    {}, {"weight_decay": 0.1}, {"amsgrad": True}, {"amsgrad": True, "weight_decay": 0.1, "maximize": True},
    {"betas": (0.4, 0.9), "eps": 1e-3}, {"betas": (0.3, 0.9), "weight_decay": 0.2, "amsgrad": True},
])
def test_adam_as_pytorch(options, decoupled, dtype, strided):
    torch = pytest.importorskip("torch")
    start = arrays(dtype)
    theirs = [torch.from_numpy(p.copy()).requires_grad_() for p in start]
    options = {"weight_decay": 0.0, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False, "maximize": False, **options}
    optimiser = (torch.optim.AdamW if decoupled else torch.optim.Adam)(theirs, lr=0.01, foreach=False, **options)
    mine = layouts(start, strided)
    m, v, top = (layouts([np.zeros_like(p) for p in start], strided) for _ in range(3))
    if not options["amsgrad"]:
        top = [None] * len(mine)
    b1, b2 = options["betas"]
    for step in range(1, 5):
        grads = arrays(dtype, step)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.from_numpy(g.copy())
        optimiser.step()
        flat = [a for group in zip(mine, layouts(grads, strided), m, v, top, strict=True) for a in group]
        params = [0.01, b1, b2, options["eps"], options["weight_decay"], int(options["amsgrad"]),
                  int(options["maximize"]),
                  int(decoupled), 1 - b1**step, 1 - b2**step, len(mine)]
        run_kernel("adam_step", flat, len(flat), params, dtype)
    for p, q in zip(mine, theirs, strict=True):
        # A small second moment after a change of sign magnifies the last bit of the first.
        np.testing.assert_allclose(p, q.detach(), rtol=2e-6 if dtype == "float32" else 1e-14,
                                   atol=2e-7 if dtype == "float32" else 1e-15)


def test_parameters_without_gradient_and_half_parameters():
    w = np.ones(40, "float16")
    other = np.ones(40, "float32")
    g, m, v = np.full(40, 0.5, "float16"), np.zeros(40, "float32"), np.zeros(40, "float32")
    flat = [other, None, None, None, None, w, g, m, v, None]
    run_kernel("adam_step", flat, 10, [0.125, 0.9, 0.999, 0.0, 0.0, 0, 0, 0, 0.1, 0.001, 2])
    np.testing.assert_allclose(w, 0.875)
    np.testing.assert_allclose(m, 0.05, rtol=1e-6)
    assert (other == 1).all()


def test_special_values():
    w, g = np.array([1, np.inf, 2, 3], "float32"), np.array([np.nan, 1, np.inf, 0], "float32")
    run_kernel("sgd_step", [w, g, None], 3, [0.1, 0.0, 0.0, 0, 0.0, 0, 1, 1])
    np.testing.assert_array_equal(w, np.array([np.nan, np.inf, -np.inf, 3], "float32"))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 0.5, np.inf, -np.inf])
@pytest.mark.parametrize("strided", [False, True])
def test_grad_norm(p, strided):
    values = arrays("float32", 9)
    flat = np.concatenate([v.reshape(-1) for v in values]).astype(np.float64)
    norm = np.empty((), "float32")
    run_kernel("grad_norm", [norm, *layouts(values, strided), None], 1, [float(p)])
    np.testing.assert_allclose(norm, np.linalg.norm(flat, p), rtol=1e-6)
    values[3][5] = np.nan
    run_kernel("grad_norm", [norm, *values], 1, [float(p)])
    assert np.isnan(norm)


def test_grad_norm_errors_and_empty():
    norm = np.full((), 7, "float32")
    with pytest.raises(ValueError, match="norm_type 0"):
        run_kernel("grad_norm", [norm, np.ones(3, "float32")], 1, [0.0])
    assert norm == 7
    run_kernel("grad_norm", [norm], 1, [2.0])
    assert norm == 0


@pytest.mark.parametrize("strided", [False, True])
def test_scale_all(strided):
    values = layouts(arrays("float32", 3), strided)
    expected = [v * np.float32(0.3) for v in values]
    run_kernel("scale_all", values, len(values), [0.3])
    for v, e in zip(values, expected, strict=True):
        np.testing.assert_array_equal(v, e)
    run_kernel("scale_all", [*values, np.array(2, "float64")], len(values), [0.3])
    for v, e in zip(values, expected, strict=True):
        np.testing.assert_array_equal(v, e * 2)


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


def test_bit_equal_at_any_thread_count():
    rng = np.random.default_rng(11)
    start = [rng.random(s, "float32") for s in ((100_001,), (7,), (300, 333))]

    def compute():
        groups = [[v.copy() for v in start] for _ in range(4)]
        flat = [a for group in zip(*groups, [None] * 3, strict=True) for a in group]
        run_kernel("adam_step", flat, len(flat), [0.01, 0.9, 0.999, 1e-8, 0.1, 0, 0, 1, 0.1, 0.001, 3])
        flat2 = [a for group in zip(*groups[:3], strict=True) for a in group]
        run_kernel("sgd_step", flat2, len(flat2), [0.01, 0.9, 0.0, 1, 0.1, 0, 0, 3])
        norm = np.empty((), "float32")
        run_kernel("grad_norm", [norm, *groups[0]], 1, [2.0])
        return [norm, *groups[0], *groups[2], *groups[3]]

    assert_bit_equal(at_thread_counts(compute))
