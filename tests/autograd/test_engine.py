"""Backward on graphs that are deep, wide, shared, kept, repeated, or walked from several threads."""

import gc
import subprocess
import sys
import textwrap
import threading

import pytest
from peers import torch

import ferrox as fx


def test_million_nodes_in_a_small_stack():
    # A process of its own: a thread with 128 KiB of stack builds, differentiates and frees a chain of a million nodes.
    program = textwrap.dedent("""
        import threading
        import ferrox as fx

        problems = []

        def work():
            x = fx.tensor(1.0, requires_grad=True)
            y = x
            for _ in range(1_000_000):
                y = y + 0.0
            assert fx.graph_stats()["alive"] == 1_000_000
            y.backward()
            assert x.grad.item() == 1.0
            del y
            assert fx.graph_stats()["alive"] == 0
            z = x
            for _ in range(200_000):
                z = z.exp() * 0.3
            fx.autograd.grad(z, x, create_graph=True)[0].backward()
            del z
            problems.append(None)

        threading.stack_size(128 * 1024)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert problems == [None]
        print("done")
    """)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd="/")
    assert run.returncode == 0 and run.stdout.strip() == "done", run.stderr


def test_retain_graph_twice_then_freed():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    assert x.grad.tolist() == [4.0, 8.0]
    y.backward()
    with pytest.raises(RuntimeError, match=r"\[mul\].*second time"):
        y.backward()
    assert x.grad.tolist() == [6.0, 12.0]


def test_a_graph_without_saved_values_may_go_backward_again():
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    y = (x + 1.0).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_persistent_saved_values():
    x = fx.tensor(3.0, requires_grad=True)
    with fx.autograd.saved_values("persist"):
        y = x * x
    z = x * x
    for _ in range(3):
        y.backward()
    assert x.grad.item() == 18.0
    z.backward()
    with pytest.raises(RuntimeError, match="second time"):
        z.backward()
    with pytest.raises(ValueError):
        fx.autograd.saved_values("forever")


@pytest.mark.parametrize("function", [lambda m, x: x * x * x * x, lambda m, x: m.exp(x * 2.0),
                                      lambda m, x: m.sin(x) / x,
                                      lambda m, x: m.sigmoid(x) * m.log(x), lambda m, x: m.tanh(x) ** 3])
def test_fourth_order(function):
    a = fx.tensor([0.7, 1.3], dtype=fx.float64, requires_grad=True)
    b = torch.tensor([0.7, 1.3], dtype=torch.float64, requires_grad=True)
    ours, theirs = function(fx, a), function(torch, b)
    for _ in range(4):
        ours, = fx.autograd.grad(ours.sum(), a, create_graph=True)
        theirs, = torch.autograd.grad(theirs.sum(), b, create_graph=True)
        fx.testing.assert_close(ours.tolist(), theirs.tolist(), rtol=1e-9, atol=1e-9)


def test_wide_sharing_visits_each_node_once():
    # Every level uses the one before twice: 2**60 paths, 60 nodes.
    x = fx.tensor(1.0, dtype=fx.float64, requires_grad=True)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0 ** 60


def test_separate_graphs_in_threads():
    results, errors = {}, []

    def work(k):
        try:
            for repeat in range(20):
                x = fx.tensor([float(k + 1)] * 50, requires_grad=True)
                y = x
                for _ in range(50):
                    y = y * 1.0 + x * 0.0
                with fx.no_grad():
                    assert not (x * 2).requires_grad
                (y * y).sum().backward()
                results[k, repeat] = x.grad.tolist()
        except Exception as error:      # reported by the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not errors
    assert all(value == [2.0 * (k + 1)] * 50 for (k, _), value in results.items()) and len(results) == 120


def test_grad_mode_belongs_to_a_thread():
    seen = []
    with fx.no_grad():
        thread = threading.Thread(target=lambda: seen.append(fx.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_nothing_leaks():
    class Twice(fx.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    def step(w):
        h = Twice.apply((w * w).exp().reshape(20, 50))
        loss = (h * 0.001).sum()
        if step.count % 3 == 0:
            first, = fx.autograd.grad(loss, w, create_graph=True)
            first.sum().backward()
        elif step.count % 3 == 1:
            loss.backward()
        step.count += 1         # and every third graph is dropped without a backward

    step.count = 0
    w = fx.tensor([0.001 * k for k in range(1000)], requires_grad=True)
    gc.collect()
    before = fx.graph_stats()["alive"]
    for _ in range(300):
        step(w)
    start = _resident()
    for _ in range(3000):
        step(w)
    gc.collect()
    assert fx.graph_stats()["alive"] == before
    assert _resident() - start < 2 << 20


def test_grad_of_integers_and_of_what_needs_none():
    with pytest.raises(RuntimeError, match="floating point"):
        fx.tensor([1, 2]).requires_grad_()
    with pytest.raises(RuntimeError, match="floating point"):
        fx.tensor([1, 2], requires_grad=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        fx.tensor(1.0).backward()
    x = fx.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        fx.autograd.grad((x * 2).sum(), fx.tensor(1.0))
    with pytest.raises(RuntimeError, match="scalar outputs"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match="shape"):
        (x * 2).backward(fx.ones(3))
    assert not (x > 0).requires_grad and not x.to(fx.int64).requires_grad


def test_unused_inputs():
    x, z = fx.tensor(1.0, requires_grad=True), fx.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="not have been used"):
        fx.autograd.grad(x * 2, (x, z))
    assert fx.autograd.grad(x * 2, (x, z), allow_unused=True)[1] is None
    assert fx.autograd.grad(x * 2, (x, z), materialize_grads=True)[1].tolist() == [0.0, 0.0]


def test_inputs_of_backward_and_non_leaf_inputs():
    x, w = fx.tensor([1.0, 2.0], requires_grad=True), fx.tensor([3.0, 4.0], requires_grad=True)
    h = x * w
    y = (h * h).sum()
    y.backward(inputs=[w], retain_graph=True)
    assert x.grad is None and w.grad.tolist() == [6.0, 32.0]
    assert fx.autograd.grad(y, h)[0].tolist() == [6.0, 16.0]


def test_statistics_of_a_graph():
    x = fx.tensor([1.0] * 100, requires_grad=True)
    y = (x * x).exp().sum()
    stats = fx.graph_stats(y)
    assert (stats["nodes"], stats["leaves"], stats["values"]) == (3, 1, 3)
    assert stats["bytes"] == 800       # x once, exp's output once
    y.backward()
    assert fx.graph_stats(y)["bytes"] == 0
