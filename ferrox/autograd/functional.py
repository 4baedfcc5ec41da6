"""Jacobians, Hessians and their products, in the form of `torch.autograd.functional`: `f(func, inputs)` gives values.

For transformations of functions into functions see `ferrox.func`.
"""

import ferrox as fx
from ferrox._core.graph.engine import grad as _grad
from ferrox.autograd.grad_mode import enable_grad

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def _tuple_of(value, what, name):
    """`value` as a tuple of tensors, and whether it was one already."""
    if isinstance(value, fx.Tensor):
        return (value,), False
    if not isinstance(value, (tuple, list)) or not all(isinstance(each, fx.Tensor) for each in value):
        kinds = [type(each).__name__ for each in value] if isinstance(value, (tuple, list)) else type(value).__name__
        raise TypeError(f"The {what} given to {name} must be either a Tensor or a tuple of Tensors, got {kinds}")
    return tuple(value), True


def _fresh(inputs, create_graph):
    """Inputs to differentiate with respect to; joined to the caller's graph when it asks for one."""
    return tuple(each.reshape(each.shape) if create_graph and each.requires_grad else each.detach().requires_grad_()
                 for each in inputs)


def _plain(value, create_graph):
    return value if create_graph else value.detach()


def _pack(values, as_tuple):
    return tuple(values) if as_tuple else values[0]


def _gradients(outputs, inputs, cotangents, create_graph, strict, name, retain=True):
    """Gradients of the outputs that have any, zeros where one does not depend on an input."""
    pairs = [(out, g) for out, g in zip(outputs, cotangents, strict=False) if out.requires_grad]
    if strict and len(pairs) < len(outputs):
        raise RuntimeError(f"The output of the user-provided function given to {name} is independent of the inputs, "
                           "which strict=True does not allow")
    if pairs:
        found = _grad([out for out, _ in pairs], inputs, [g for _, g in pairs], retain_graph=retain,
                      create_graph=create_graph, allow_unused=True)
    else:
        found = (None,) * len(inputs)
    for k, each in enumerate(found):
        if strict and each is None:
            raise RuntimeError(f"The output of the user-provided function given to {name} is independent of input {k}, "
                               "which strict=True does not allow")
    return tuple(fx.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=False))


def _like(vectors, tensors, name, what):
    """Check vectors against the tensors they go with."""
    if len(vectors) != len(tensors):
        raise RuntimeError(f"The number of vectors v given to {name} ({len(vectors)}) does not match the number of "
                           f"{what} ({len(tensors)})")
    for k, (v, t) in enumerate(zip(vectors, tensors, strict=False)):
        if tuple(v.shape) != tuple(t.shape):
            raise RuntimeError(f"v[{k}] given to {name} has shape {tuple(v.shape)}, expected that of the {what}: "
                               f"{tuple(t.shape)}")


def basis(tensor):
    """One-hot cotangents of a tensor, one for each element in row-major order."""
    for k in range(tensor.numel()):
        one = fx.zeros(tensor.numel(), dtype=tensor.dtype, device=tensor.device)
        one.narrow(0, k, 1).fill_(1)
        yield one.reshape(tensor.shape)


def jacobian_of(output, inputs, create_graph=False, strict=False):
    """The Jacobians of a recorded output with respect to each input, by one backward for each element of the output."""
    rows = [_gradients((output,), inputs, (one,), create_graph, strict, "jacobian") for one in basis(output)]
    shape = tuple(output.shape)
    return tuple(
        (fx.stack([row[k] for row in rows]) if rows else x.new_zeros(0)).reshape(shape + tuple(x.shape))
        for k, x in enumerate(inputs))


def jacobian(func, inputs, create_graph=False, strict=False, vectorize=False, strategy="reverse-mode"):
    """The Jacobian of `func` at `inputs`.

    Parameters
    ----------
    func : callable
        From tensors to a tensor or a tuple of tensors.
    inputs : Tensor or tuple of Tensor
    create_graph : bool
        Record the Jacobian, so that it can be differentiated.
    strict : bool
        Raise when an output does not depend on an input, where zeros are returned otherwise.
    vectorize, strategy
        Accepted as in PyTorch; the result is the same.

    Returns
    -------
    Tensor or nested tuple
        Of shape output.shape + input.shape; a tuple over outputs, inputs, or both, where those are tuples.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.autograd.functional.jacobian(lambda x: x * x, fx.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    inputs, many = _tuple_of(inputs, "inputs", "jacobian")
    with enable_grad():
        fresh = _fresh(inputs, create_graph)
        outputs, many_outputs = _tuple_of(func(*fresh), "outputs of the user-provided function", "jacobian")
        result = [_pack([_plain(each, create_graph) for each in jacobian_of(out, fresh, create_graph, strict)], many)
                  for out in outputs]
    return _pack(result, many_outputs)


def hessian(func, inputs, create_graph=False, strict=False, vectorize=False, outer_jacobian_strategy="reverse-mode"):
    """The Hessian of a scalar function at `inputs`; arguments as for `jacobian`.

    Returns
    -------
    Tensor or tuple of tuples of Tensor
        Of shape input.shape + input.shape, for each pair of inputs.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.autograd.functional.hessian(lambda x: (x * x * x).sum(), fx.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    inputs, many = _tuple_of(inputs, "inputs", "hessian")

    def gradient(*points):
        value = _scalar(func(*points), "hessian")
        return _gradients((value,), points, (None,), True, strict, "hessian")

    result = jacobian(gradient, inputs, create_graph, strict)
    return result if many else result[0][0]


def _scalar(value, name):
    if not isinstance(value, fx.Tensor):
        raise TypeError(f"The function given to {name} should return a single Tensor, got {type(value).__name__}")
    if value.numel() != 1:
        raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element, got "
                           f"shape {tuple(value.shape)}")
    return value


def vjp(func, inputs, v=None, create_graph=False, strict=False):
    """The product of a vector `v`, of the outputs' shape, with the Jacobian of `func`.

    Returns
    -------
    tuple
        (func(inputs), product); `v` may be left out when the output is one element.
    """
    inputs, many = _tuple_of(inputs, "inputs", "vjp")
    with enable_grad():
        fresh = _fresh(inputs, create_graph)
        outputs, many_outputs = _tuple_of(func(*fresh), "outputs of the user-provided function", "vjp")
        if v is None:
            if len(outputs) != 1 or outputs[0].numel() != 1:
                raise RuntimeError("The vector v can only be None if the user-provided function returns a single "
                                   "Tensor with a single element.")
            vectors = (fx.ones_like(outputs[0]),)
        else:
            vectors, _ = _tuple_of(v, "v", "vjp")
            _like(vectors, outputs, "vjp", "outputs")
        product = _gradients(outputs, fresh, vectors, create_graph, strict, "vjp", retain=create_graph)
    return (_pack([_plain(each, create_graph) for each in outputs], many_outputs),
            _pack([_plain(each, create_graph) for each in product], many))


def push_forward(outputs, inputs, tangents, create_graph, strict=False, name="jvp"):
    """Tangents of recorded outputs: the vjp is linear in its cotangent, and its own vjp is the jvp."""
    dummies = tuple(fx.zeros_like(each).requires_grad_() for each in outputs)
    back = _gradients(outputs, inputs, dummies, True, strict, name)
    return _gradients(back, dummies, tangents, create_graph, False, name)


def jvp(func, inputs, v=None, create_graph=False, strict=False):
    """The product of the Jacobian of `func` with a vector `v`, of the inputs' shape, by differentiating twice.

    Returns
    -------
    tuple
        (func(inputs), product); `v` may be left out when the input is one element.
    """
    inputs, _many = _tuple_of(inputs, "inputs", "jvp")
    with enable_grad():
        fresh = _fresh(inputs, create_graph)
        if v is None:
            if len(fresh) != 1 or fresh[0].numel() != 1:
                raise RuntimeError("The vector v can only be None if the input to the user-provided function is a "
                                   "single Tensor with a single element.")
            vectors = (fx.ones_like(fresh[0]),)
        else:
            vectors, _ = _tuple_of(v, "v", "jvp")
            _like(vectors, fresh, "jvp", "inputs")
        outputs, many_outputs = _tuple_of(func(*fresh), "outputs of the user-provided function", "jvp")
        product = push_forward(outputs, fresh, vectors, create_graph, strict)
    return (_pack([_plain(each, create_graph) for each in outputs], many_outputs),
            _pack([_plain(each, create_graph) for each in product], many_outputs))


def hvp(func, inputs, v=None, create_graph=False, strict=False):
    """The product of the Hessian of a scalar function with a vector `v`, of the inputs' shape.

    Returns
    -------
    tuple
        (func(inputs), product).

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.autograd.functional.hvp(lambda x: (x * x * x).sum(), fx.tensor([1.0, 2.0]), fx.tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """
    inputs, many = _tuple_of(inputs, "inputs", "hvp")
    with enable_grad():
        fresh = _fresh(inputs, create_graph)
        if v is None:
            if len(fresh) != 1 or fresh[0].numel() != 1:
                raise RuntimeError("The vector v can only be None if the input to the user-provided function is a "
                                   "single Tensor with a single element.")
            vectors = (fx.ones_like(fresh[0]),)
        else:
            vectors, _ = _tuple_of(v, "v", "hvp")
            _like(vectors, fresh, "hvp", "inputs")
        value = _scalar(func(*fresh), "hvp")
        gradient = _gradients((value,), fresh, (None,), True, strict, "hvp")
        # The Hessian is symmetric: H v is the gradient of <gradient, v>.
        product = _gradients(gradient, fresh, vectors, create_graph, strict, "hvp", retain=create_graph)
    return _plain(value, create_graph), _pack([_plain(each, create_graph) for each in product], many)


def vhp(func, inputs, v=None, create_graph=False, strict=False):
    """The product of a vector `v` with the Hessian of a scalar function; the Hessian being symmetric, `hvp`."""
    return hvp(func, inputs, v, create_graph, strict)
