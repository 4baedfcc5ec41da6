"""Every row of the registry that has a sample, on the device against the CPU: values, dtypes, shapes, gradients.

The CPU's values are tested against NumPy and PyTorch; here its results are the reference, for the same arguments.
"""

import numpy as np
import pytest
from devices import FRESH, SAMPLED, agree, run, tensors
from samples import ROWS, calls, outputs

import ferrox as fx
from ferrox._core.door.backend import kernels

CPU, CUDA = 0, 1        # device types
DTYPES = {"float32": 4e-6, "float64": 1e-12, "float16": 2e-3, "bfloat16": 2e-2}


def both(name, call, dtype="float32"):
    """Arguments and results on the CPU and on the device."""
    found = []
    for device in ("cpu", "cuda"):
        try:
            found.append(run(name, call, device, dtype))
        except (NotImplementedError, RuntimeError):
            if device == "cuda" and found[0][1] is not None:
                raise
            found.append((None, None))
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SAMPLED)
def test_values(name, dtype):
    for call in calls(name):
        (_, expected), (_, got) = both(name, call, dtype)
        if expected is None:
            pytest.skip(f"not for {dtype}")
        if name in FRESH:
            assert got.shape == expected.shape and got.dtype == expected.dtype and got.device.type == "cuda"
        else:
            agree(got, expected, DTYPES[dtype])


@pytest.mark.parametrize("name", [name for name in SAMPLED if ROWS[name].differentiable])
def test_gradients(name):
    for call in calls(name):
        (mine, expected), (yours, got) = both(name, call, "float64")
        pairs = [
            (one, other) for one, other in zip(tensors(outputs(expected)), tensors(outputs(got)), strict=True)
            if one.requires_grad
        ]  # fmt: skip
        assert [one.requires_grad for one in tensors(outputs(got))] == [
            one.requires_grad for one in tensors(outputs(expected))
        ]
        for one, other in pairs:
            weight = fx.from_numpy(np.cos(np.arange(one.numel(), dtype="f8")).reshape(one.shape)).to(one.dtype)
            one.backward(weight, retain_graph=True)
            other.backward(weight.cuda(), retain_graph=True)
        for one, other in zip(tensors(mine), tensors(yours), strict=True):
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None:
                agree(other.grad, one.grad, 1e-10)


def test_no_kernel_is_missing():
    fx.zeros(1, device="cuda")
    assert sorted(set(kernels(CPU)) - set(kernels(CUDA))) == []
