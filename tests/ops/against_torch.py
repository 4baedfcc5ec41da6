"""Comparison with PyTorch: values, dtypes, first and second gradients of the same call on the same data."""
import numpy as np
from peers import torch

import ferrox as fx


def fx_of(value):
    """The Ferrox twin of a torch tensor (strides kept), of a tensor in a list, or the value itself."""
    if isinstance(value, torch.Tensor):
        detached = value.detach()
        if detached.dtype == torch.bfloat16:
            return fx.from_numpy(detached.float().numpy()).to(fx.bfloat16)
        return fx.from_numpy(detached.numpy())
    if isinstance(value, (list, tuple)):
        return type(value)(fx_of(each) for each in value)
    if isinstance(value, torch.dtype):
        return getattr(fx, str(value).split(".")[1])
    return value


def numbers(value):
    """float64, int64 or bool NumPy values of a tensor of either library."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return (value.double() if value.is_floating_point() else value).numpy(force=True)
    if value.dtype == fx.bfloat16:
        value = value.to(fx.float32)
    return value.detach().numpy()


def same(got, expected, rtol=None):
    """Assert equal type, shape, dtype and, within the dtype's precision, values; tuples member by member."""
    if isinstance(expected, (tuple, list)):
        assert isinstance(got, (tuple, list)) and len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            same(one, other, rtol)
        return
    assert str(got.dtype).split(".")[-1] == str(expected.dtype).split(".")[-1]
    assert tuple(got.shape) == tuple(expected.shape)
    if rtol is None:
        rtol = {"torch.float16": 2e-3, "torch.bfloat16": 1.6e-2, "torch.float32": 2e-6}.get(str(expected.dtype), 1e-12)
    np.testing.assert_allclose(numbers(got), numbers(expected), rtol=rtol, atol=rtol)


def floats(outputs):
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return [each for each in outputs if each.requires_grad]


def check(call, *args, gradients=True, order=2, rtol=None, **keywords):
    """Compare `call(library, *args, **keywords)` between the libraries; floating-point arguments get gradients.

    `call` takes the library (`fx` or `torch`) first; or is the name of a function.  Gradients of a random weighting of
    the outputs are compared, and those of a random weighting of these gradients.
    """
    if isinstance(call, str):
        name = call

        def call(lib, *args, **keywords):
            return getattr(lib, name)(*args, **keywords)
    mine, mine_too = [fx_of(each) for each in args], {key: fx_of(each) for key, each in keywords.items()}
    its = [each.detach() if isinstance(each, torch.Tensor) else each for each in args]
    got = call(fx, *mine, **mine_too)
    expected = call(torch, *its, **keywords)
    same(got, expected, rtol)
    wanted = [i for i, each in enumerate(args) if isinstance(each, torch.Tensor) and each.dtype == torch.float64]
    if not gradients or not wanted:
        return
    for i in wanted:
        mine[i] = fx_of(args[i]).requires_grad_()
        its[i] = args[i].detach().requires_grad_()
    outs = floats(call(fx, *mine, **mine_too)), floats(call(torch, *its, **keywords))
    xs = [mine[i] for i in wanted], [its[i] for i in wanted]
    for k in range(order):
        weights = [torch.rand(each.shape, dtype=each.dtype) for each in outs[1]]
        if not outs[1]:
            assert not outs[0]
            return
        more = k + 1 < order
        grads = (fx.autograd.grad(outs[0], xs[0], [fx_of(w) for w in weights], create_graph=more, allow_unused=True),
                 torch.autograd.grad(outs[1], xs[1], weights, create_graph=more, allow_unused=True))
        for one, other, x in zip(*grads, xs[1], strict=True):
            # Unused and zero are the same to a user.
            same(fx_of(torch.zeros_like(x)) if one is None else one, torch.zeros_like(x) if other is None else other,
                 rtol or 1e-9)
        outs = [each for each in grads[0] if each is not None and each.requires_grad], \
            [each for each in grads[1] if each is not None and each.requires_grad]
        if len(outs[0]) != len(outs[1]):
            # One library keeps a constant gradient in the graph; what it leads to is zero.
            break


def raises_alike(call, *args, match=None, kind=None, **keywords):
    """Both libraries raise, Ferrox the same class (or `kind`) and, of PyTorch's message, the part `match`."""
    import pytest

    if isinstance(call, str):
        name = call

        def call(lib, *args, **keywords):
            return getattr(lib, name)(*args, **keywords)
    with pytest.raises(Exception) as theirs:
        call(torch, *args, **keywords)
    with pytest.raises(kind or theirs.type) as ours:
        call(fx, *[fx_of(each) for each in args], **{key: fx_of(each) for key, each in keywords.items()})
    if match is not None:
        assert match in str(theirs.value) and match in str(ours.value)


def every_dtype(x):
    """x in every dtype."""
    for dtype in (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
                  torch.bfloat16,
                  torch.float32, torch.float64):
        yield x.to(dtype)


def layouts(x):
    """x, x transposed, every second element, and x expanded."""
    yield x
    if x.ndim >= 2:
        yield x.transpose(0, -1)
        yield x[:, ::2]
    yield x.unsqueeze(0).expand(2, *x.shape)
