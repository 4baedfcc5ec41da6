"""Training in threads of the caller's: what is not shared does not meet, what is shared adds up."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

import ferrox as fx

THREADS = 4


def trained(seed, steps=12):
    """The weights of a small net after some steps, from a generator of its own."""
    draw = fx.Generator().manual_seed(seed)
    x, y = fx.randn(64, 5, generator=draw), fx.randn(64, 1, generator=draw)
    w = [fx.randn(5, 8, generator=draw).requires_grad_(), fx.randn(8, 1, generator=draw).requires_grad_()]
    optimizer = fx.optim.Adam(w, lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        ((x @ w[0]).tanh() @ w[1] - y).square().mean().backward()
        optimizer.step()
    return [each.detach().numpy() for each in w]


def test_models_of_their_own():
    seeds = np.random.default_rng().integers(0, 2**31, 2 * THREADS).tolist()
    expected = [trained(seed) for seed in seeds]
    with ThreadPoolExecutor(THREADS) as pool:
        got = list(pool.map(trained, seeds))
    for one, other in zip(got, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [7, 5000, 100_000])
def test_gradients_of_one_model(size):
    """Whole numbers, so that sums do not depend on their order."""
    w = fx.zeros(size, requires_grad=True)
    optimizer = fx.optim.SGD([w], lr=0.5)
    data = np.random.default_rng().integers(-9, 9, (THREADS, 3, size)).astype(np.float32)
    start = Barrier(THREADS)

    def add(batches):
        start.wait()
        for batch in batches:
            (w * fx.from_numpy(batch)).sum().backward()

    for step in range(1, 3):
        optimizer.zero_grad()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(add, data))
        optimizer.step()
        np.testing.assert_array_equal(w.detach().numpy(), -0.5 * step * data.sum((0, 1)))
