"""Every row's sample in every dtype, against PyTorch's function of the same name: value, dtype, or that both refuse."""

import warnings

import numpy as np
import pytest
from against_torch import numbers
from peers import torch
from samples import CHECKED, ROWS, calls, over_arrays

import ferrox as fx

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
RANDOM = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "dropout", "bernoulli",
          "normal", "multinomial", "empty", "empty_like"}  # fmt: skip
# Rows whose namesake in PyTorch takes other arguments.
OTHER = {"embedding", "batch_norm", "binary_cross_entropy_with_logits", "unfold", "prod", "_addmm_activation"}
WIDER = "PyTorch refuses a dtype or a mixture whose meaning is plain"
PROMOTED = "operands of several dtypes are promoted; PyTorch's kernels take one"
INDEX = "int32 indices are taken wherever int64 ones are"
# Differences that are meant, by row.
MEANT = {
    "ldexp": "2 to a power is rounded once, in the dtype of the result; PyTorch rounds it in that of the exponent",
    "hardtanh": "negative limits are refused for uint8, as PyTorch does on other devices",
    "tanhshrink": WIDER, "topk": WIDER, "trapezoid": WIDER, "cumulative_trapezoid": WIDER, "kthvalue": WIDER,
    "cross_entropy": WIDER, "nll_loss": WIDER, "l1_loss": WIDER, "huber_loss": PROMOTED, "einsum": PROMOTED,
    "take_along_dim": INDEX, "take": INDEX, "index_copy": INDEX, "index_fill": INDEX, "one_hot": INDEX,
    "index_put": "indices of every integer dtype are taken, as NumPy's",
    "threshold": "a bound beyond an integer dtype's range is held to it",
}  # fmt: skip


def namesake(name):
    for place in (torch, torch.nn.functional, torch.Tensor, torch.special):
        if callable(getattr(place, name, None)):
            return getattr(place, name)
    return None


def cast(array, dtype):
    """A sample's array in a dtype, whole and not negative where the dtype asks for it."""
    if dtype is not None and not dtype.startswith("float"):
        array = array > 0 if dtype == "bool" else np.trunc(array * 2) if array.dtype == np.float64 else array
        array = np.abs(array) if dtype == "uint8" else array
    # A copy of its own in every layout, so that an operator that writes into it is found out.
    return torch.from_numpy(np.array(array)).to(getattr(torch, dtype) if dtype else None)


def arguments(call, dtypes, lib):
    count = iter(range(100))

    def make(array, free):
        made = cast(array, dtypes[next(count) % len(dtypes)])
        return made if lib is torch else fx.from_numpy(made.numpy().copy())

    return [over_arrays(make, each, call.free) for each in call.args]


def mixtures(call):
    """All arrays in one dtype; one of them in another than the others."""
    count = []
    for each in call.args:
        over_arrays(lambda array, free: count.append(array) or array, each, call.free)
    for dtype in DTYPES if count else []:
        yield (dtype,)
        for k in range(len(count)) if len(count) > 1 else []:
            yield tuple(dtype if k == j else None for j in range(len(count)))


def outcome(function, args, keywords):
    try:
        out = function(*args, **keywords)
    except Exception as error:
        return error
    return list(out) if isinstance(out, (tuple, list)) else [out]


def differs(got, expected):
    refused = isinstance(got, Exception), isinstance(expected, Exception)
    if any(refused):
        if all(refused) or isinstance(expected, NotImplementedError):
            return None  # PyTorch lacks a kernel, or both refuse
        return f"{got!r}, {expected!r} from PyTorch"
    if len(got) != len(expected):
        return f"{len(got)} outputs, {len(expected)} from PyTorch"
    for one, other in zip(got, expected, strict=True):
        if not isinstance(other, torch.Tensor):
            if one != other:
                return f"{one!r}, {other!r} from PyTorch"
            continue
        if str(one.dtype)[7:] != str(other.dtype)[6:] or tuple(one.shape) != tuple(other.shape):
            return f"{one.dtype} {tuple(one.shape)}, {other.dtype} {tuple(other.shape)} from PyTorch"
        tolerance = {torch.float16: 2e-3, torch.float32: 3e-6, torch.float64: 1e-8}.get(other.dtype, 0)
        with np.errstate(all="ignore"):
            if not np.allclose(numbers(one), numbers(other), rtol=tolerance, atol=tolerance, equal_nan=True):
                return f"{numbers(one)}, {numbers(other)} from PyTorch"
    return None


@pytest.mark.parametrize("name", [name for name in CHECKED if name not in RANDOM | OTHER])
def test_every_dtype(name):
    function = namesake(name)
    if function is None:
        pytest.skip("PyTorch has no function of this name")
    wrong = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in calls(name):
            for dtypes in mixtures(call):
                got = outcome(ROWS[name], arguments(call, dtypes, fx), call.keywords)
                found = differs(got, outcome(function, arguments(call, dtypes, torch), call.keywords))
                if found:
                    wrong.append(f"{dtypes}: {found}")
    if name in MEANT:
        assert wrong, f"no difference any more: {MEANT[name]}"
    else:
        assert not wrong, "\n".join(wrong)
