"""The operators' samples on a device, and comparison with the CPU's results."""

import inspect

import numpy as np
import pytest
from samples import ROWS, arguments, outputs

import ferrox as fx

SAMPLED = [name for name in sorted(ROWS) if ROWS[name].sample]
# What is drawn: the stream's bits are compared by the tests of the random kernels.  Memory that nobody has set.
FRESH = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}


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


def run(name, call, device, dtype="float32"):
    """Arguments and result of an operator's sample on a device."""
    fx.manual_seed(7)
    given = arguments(call, on(device, dtype))
    keywords = placed(call.keywords, device)
    if not tensors(given) and "device" in inspect.signature(ROWS[name]).parameters:
        keywords["device"] = device
    return given, ROWS[name](*given, **keywords)


def numbers(tensor):
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.dtype.is_floating_point else tensor).numpy()


def agree(got, expected, tolerance, device="cuda"):
    """Results of an operator on a device are those of the CPU."""
    got, expected = outputs(got), outputs(expected)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        if not isinstance(other, fx.Tensor):
            assert type(one) is type(other)
            if isinstance(other, (list, tuple)):
                agree(one, other, tolerance, device)
            else:
                assert one == other or one == pytest.approx(other, rel=tolerance)
            continue
        assert one.dtype == other.dtype and one.shape == other.shape and one.device.type == device
        if one.dtype.is_floating_point:
            scale = np.abs(numbers(other)[np.isfinite(numbers(other))]).max(initial=0)
            np.testing.assert_allclose(numbers(one), numbers(other), rtol=tolerance, atol=tolerance * max(scale, 0.1))
        else:
            np.testing.assert_array_equal(numbers(one), numbers(other))
