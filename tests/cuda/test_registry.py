"""Every row of the registry that has a sample, on the device against the CPU: values, dtypes, shapes, gradients.

The CPU's values are tested against NumPy and PyTorch; here its results are the reference, for the same arguments.
"""

import inspect

import numpy as np
import pytest
from samples import ROWS, arguments, calls, outputs

import ferrox as fx
from ferrox._core.backend import kernels

SAMPLED = [name for name in sorted(ROWS) if ROWS[name].sample]
# What is drawn: the stream's bits are compared by the tests of the random kernels.  Memory that nobody has set.
FRESH = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}
DTYPES = {"float32": 4e-6, "float64": 1e-12, "float16": 2e-3, "bfloat16": 2e-2}


def on(device, dtype="float32"):
    def make(array, free=False):
        tensor = fx.from_numpy(array.copy())
        if array.dtype == np.float64:
            tensor = tensor.to(getattr(fx, dtype))
        tensor = tensor.to(device)
        return tensor.requires_grad_() if free and tensor.dtype.is_floating_point else tensor

    return make


def tensors(values):
    found = []
    for value in values:
        found += tensors(value) if isinstance(value, (list, tuple)) else [value] if isinstance(value, fx.Tensor) else []
    return found


def placed(keywords, device):
    """Keywords with what they hold of tensors and arrays on the device."""
    made = {}
    for key, value in keywords.items():
        if isinstance(value, np.ndarray):
            value = on(device)(value)
        made[key] = value.to(device) if isinstance(value, fx.Tensor) else value
    return made


def both(name, call, dtype="float32"):
    """Arguments and results on the CPU and on the device."""
    found = []
    for device in ("cpu", "cuda"):
        fx.manual_seed(7)
        given = arguments(call, on(device, dtype))
        keywords = placed(call.keywords, device)
        if not tensors(given) and "device" in inspect.signature(ROWS[name]).parameters:
            keywords["device"] = device
        try:
            found.append((given, ROWS[name](*given, **keywords)))
        except (NotImplementedError, RuntimeError) as refused:
            if "does not exist on this device" in str(refused):
                pytest.skip(str(refused))
            if device == "cuda" and found[0][1] is not None:
                raise
            found.append((given, None))
    return found


def numbers(tensor):
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.dtype.is_floating_point else tensor).numpy()


def agree(got, expected, tolerance):
    got, expected = outputs(got), outputs(expected)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        if not isinstance(other, fx.Tensor):
            assert type(one) is type(other)
            if isinstance(other, (list, tuple)):
                agree(one, other, tolerance)
            else:
                assert one == other or one == pytest.approx(other, rel=tolerance)
            continue
        assert one.dtype == other.dtype and one.shape == other.shape and one.device.type == "cuda"
        if one.dtype.is_floating_point:
            scale = np.abs(numbers(other)[np.isfinite(numbers(other))]).max(initial=0)
            np.testing.assert_allclose(numbers(one), numbers(other), rtol=tolerance, atol=tolerance * max(scale, 0.1))
        else:
            np.testing.assert_array_equal(numbers(one), numbers(other))


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
            try:
                other.backward(weight.cuda(), retain_graph=True)
            except NotImplementedError as missing:
                assert "does not exist on this device" in str(missing)
                pytest.skip(str(missing))
        for one, other in zip(tensors(mine), tensors(yours), strict=True):
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None:
                agree(other.grad, one.grad, 1e-10)


def test_no_kernel_is_missing():
    fx.zeros(1, device="cuda")
    assert sorted(set(kernels(0)) - set(kernels(1))) == []
