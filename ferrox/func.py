"""Transformations of functions, in the form of `torch.func`: gradients, Jacobians and products as functions.

Arguments may be tensors or nests of dicts, lists and tuples of tensors; results have the same nesting.  Transformations
compose (`grad(grad(f))`), and results can be differentiated with respect to whatever else in the function requires
grad.
"""

import functools
from operator import index

import ferrox as fx
from ferrox._core.graph.engine import grad as _engine_grad
from ferrox.autograd.functional import jacobian_of, push_forward
from ferrox.autograd.grad_mode import enable_grad
from ferrox.autograd.graph import leaves

__all__ = ["functional_call", "grad", "grad_and_value", "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jvp",
           "value_and_grad", "vjp"]


def _flatten(tree):
    """The leaves of a nest of dicts, lists and tuples, and a function that builds such a nest of other leaves."""
    if isinstance(tree, dict):
        kinds = [_flatten(value) for value in tree.values()]
        keys, make = list(tree), type(tree) if type(tree) is not dict else dict
        return _join(kinds, lambda parts: make(zip(keys, parts, strict=False)))
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return _join([_flatten(value) for value in tree], lambda parts: type(tree)(*parts))
    if isinstance(tree, (tuple, list)):
        return _join([_flatten(value) for value in tree], type(tree))
    return [tree], lambda values: values[0]


def _join(kinds, build):
    sizes = [len(values) for values, _ in kinds]

    def unflatten(values):
        at, parts = 0, []
        for size, (_, rebuild) in zip(sizes, kinds, strict=False):
            parts.append(rebuild(values[at:at + size]))
            at += size
        return build(parts)

    return [each for values, _ in kinds for each in values], unflatten


def _map(function, tree):
    values, unflatten = _flatten(tree)
    return unflatten([function(each) for each in values])


def _tensors(tree, name):
    values, unflatten = _flatten(tree)
    for each in values:
        if not isinstance(each, fx.Tensor):
            raise ValueError(f"{name}: expected tensors to differentiate with respect to, got {type(each).__name__}")
        if not each.is_floating_point():
            raise RuntimeError(f"{name}: only floating-point tensors can be differentiated, got {each.dtype}")
    return values, unflatten


def _fresh(tensors):
    """Stand-ins for one transformation: views of what requires grad already, so that outer levels see through."""
    return [each.reshape(each.shape) if each.requires_grad else each.detach().requires_grad_() for each in tensors]


def _outer(outputs, fresh):
    """Whether outputs depend on something that requires grad besides the stand-ins of this level."""
    own = {id(each) for each in fresh}
    return any(id(each) not in own for each in leaves(*outputs))


def _differentiate(outputs, inputs, cotangents, create_graph, retain=None):
    pairs = [(out, g) for out, g in zip(outputs, cotangents, strict=False) if out.requires_grad]
    if not pairs:
        return [fx.zeros_like(each) for each in inputs]
    return list(_engine_grad([out for out, _ in pairs], inputs, [g for _, g in pairs], retain_graph=retain,
                             create_graph=create_graph, materialize_grads=True))


def _settled(values, keep):
    """Results free of this level's history, unless an outer level needs it."""
    return [each if keep else each.detach() for each in values]


def _settle_tree(tree, keep):
    return tree if keep else _map(lambda each: each.detach() if isinstance(each, fx.Tensor) else each, tree)


def _chosen(args, argnums, name):
    """The arguments to differentiate, and a function that puts replacements into the argument list."""
    several = isinstance(argnums, (tuple, list))
    numbers = [index(n) for n in argnums] if several else [index(argnums)]
    if several and not numbers:
        raise ValueError(f"{name}: argnums must not be empty")
    for k, n in enumerate(numbers):
        if not -len(args) <= n < len(args):
            raise RuntimeError(f"{name}: got argnum={n}, but only {len(args)} positional inputs")
        numbers[k] = n % len(args)
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{name}: argnums must be distinct, got {argnums}")

    def replaced(values):
        full = list(args)
        for n, value in zip(numbers, values, strict=False):
            full[n] = value
        return full

    chosen = tuple(args[n] for n in numbers)
    return (chosen if several else chosen[0]), (replaced if several else lambda value: replaced([value]))


def _split(result, has_aux, name):
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise RuntimeError(f"{name}: output of the function must be a tuple (output, aux) when has_aux=True, got "
                           f"{type(result).__name__}")
    return result


def _gradient(func, args, kwargs, argnums, has_aux, name):
    chosen, replaced = _chosen(args, argnums, name)
    values, unflatten = _tensors(chosen, name)
    with enable_grad():
        fresh = _fresh(values)
        output, aux = _split(func(*replaced(unflatten(fresh)), **kwargs), has_aux, name)
        if not isinstance(output, fx.Tensor):
            raise RuntimeError(f"{name}: expected the function to return a Tensor, got {type(output).__name__}")
        if output.ndim:
            raise RuntimeError(f"{name}: expected the function to return a scalar tensor (no dimensions), got a tensor "
                               f"of {output.ndim} dims; sum() or mean() it first")
        keep = _outer([output], fresh)
        gradients = _differentiate([output], fresh, [None], keep)
    return unflatten(_settled(gradients, keep)), _settle_tree(output, keep), _settle_tree(aux, keep)


def grad(func, argnums=0, has_aux=False):
    """A function that computes the gradient of a scalar function.

    Parameters
    ----------
    func : callable
        Returns a scalar tensor, or (scalar tensor, anything) with `has_aux`.
    argnums : int or tuple of int
        The arguments to differentiate with respect to.
    has_aux : bool
        Whether `func` returns auxiliary values, which are handed on: the result is then (gradient, aux).

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.func.grad(fx.func.grad(lambda x: x * x * x))(fx.tensor(2.0))
    tensor(12.)
    """

    @functools.wraps(func)
    def gradient(*args, **kwargs):
        found, _, aux = _gradient(func, args, kwargs, argnums, has_aux, "grad")
        return (found, aux) if has_aux else found

    return gradient


def grad_and_value(func, argnums=0, has_aux=False):
    """As `grad`; the result is (gradient, value), or (gradient, (value, aux)) with `has_aux`."""

    @functools.wraps(func)
    def gradient(*args, **kwargs):
        found, value, aux = _gradient(func, args, kwargs, argnums, has_aux, "grad_and_value")
        return found, ((value, aux) if has_aux else value)

    return gradient


def value_and_grad(func, argnums=0, has_aux=False):
    """As `grad`; the result is (value, gradient), or ((value, aux), gradient) with `has_aux`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.func.value_and_grad(lambda x: x * x)(fx.tensor(3.0))
    (tensor(9.), tensor(6.))
    """

    @functools.wraps(func)
    def gradient(*args, **kwargs):
        found, value, aux = _gradient(func, args, kwargs, argnums, has_aux, "value_and_grad")
        return ((value, aux) if has_aux else value), found

    return gradient


def vjp(func, *primals, has_aux=False):
    """The value of `func` at `primals`, and a function from a cotangent of it to those of the primals.

    Returns
    -------
    tuple
        (output, vjp_fn), or (output, vjp_fn, aux) with `has_aux`.  `vjp_fn(cotangents)` takes the nesting of the output
        and returns a tuple with the cotangent of each primal.  It may be called any number of times.

    Examples
    --------
    >>> import ferrox as fx
    >>> y, back = fx.func.vjp(lambda x: x * x, fx.tensor([1.0, 2.0]))
    >>> back(fx.tensor([1.0, 10.0]))
    (tensor([ 2., 40.]),)
    """
    values, unflatten = _tensors(primals, "vjp")
    with enable_grad():
        fresh = _fresh(values)
        output, aux = _split(func(*unflatten(fresh)), has_aux, "vjp")
        outputs, rebuild = _tensors(output, "vjp")
        keep = _outer(outputs, fresh)

    def back(*cotangents, **keywords):
        given = cotangents[0] if len(cotangents) == 1 else cotangents
        pieces, _ = _tensors(given, "vjp")
        if len(pieces) != len(outputs):
            raise RuntimeError(f"vjp: got {len(pieces)} cotangents for {len(outputs)} outputs")
        wider = keep or any(each.requires_grad for each in pieces)
        with enable_grad():
            found = _differentiate(outputs, fresh, pieces, wider, retain=True)
        return unflatten(_settled(found, wider))

    shown = rebuild(_settled(outputs, keep))
    return (shown, back, _settle_tree(aux, keep)) if has_aux else (shown, back)


def jvp(func, primals, tangents, *, strict=False, has_aux=False):
    """The value of `func` at a tuple of primals, and its directional derivative along `tangents`.

    Returns
    -------
    tuple
        (output, tangent of the output), and aux third with `has_aux`.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.func.jvp(lambda x: x * x, (fx.tensor(3.0),), (fx.tensor(1.0),))
    (tensor(9.), tensor(6.))
    """
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise TypeError("jvp: primals and tangents must be tuples")
    values, unflatten = _tensors(primals, "jvp")
    directions, _ = _tensors(tangents, "jvp")
    if [tuple(each.shape) for each in values] != [tuple(each.shape) for each in directions]:
        raise RuntimeError(f"jvp: tangents of shapes {[tuple(each.shape) for each in directions]} do not match primals "
                           f"of shapes {[tuple(each.shape) for each in values]}")
    with enable_grad():
        fresh = _fresh(values)
        output, aux = _split(func(*unflatten(fresh)), has_aux, "jvp")
        outputs, rebuild = _tensors(output, "jvp")
        keep = _outer(outputs, fresh) or any(each.requires_grad for each in directions)
        found = push_forward(outputs, fresh, directions, keep, strict)
    result = rebuild(_settled(outputs, keep)), rebuild(_settled(found, keep))
    return (*result, _settle_tree(aux, keep)) if has_aux else result


def jacrev(func, argnums=0, *, has_aux=False, chunk_size=None):
    """A function that computes the Jacobian, by one backward for each element of the output.

    Parameters
    ----------
    func, argnums, has_aux
        As for `grad`; `func` may return any nest of tensors.
    chunk_size
        Accepted as in PyTorch; the result is the same.

    Returns
    -------
    callable
        Its result has the output's nesting, and in each place the nesting of the chosen arguments, with tensors of
        shape output.shape + argument.shape.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.func.jacrev(lambda x: x * x)(fx.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(func)
    def jacobian_of_func(*args, **kwargs):
        chosen, replaced = _chosen(args, argnums, "jacrev")
        values, unflatten = _tensors(chosen, "jacrev")
        with enable_grad():
            fresh = _fresh(values)
            output, aux = _split(func(*replaced(unflatten(fresh)), **kwargs), has_aux, "jacrev")
            outputs, rebuild = _tensors(output, "jacrev")
            keep = _outer(outputs, fresh)
            found = rebuild([unflatten(_settled(jacobian_of(out, fresh, keep), keep)) for out in outputs])
        return (found, _settle_tree(aux, keep)) if has_aux else found

    return jacobian_of_func


jacobian = jacrev


def jacfwd(func, argnums=0, has_aux=False, *, randomness="error"):
    """As `jacrev`, by one directional derivative for each element of the arguments: for few inputs and many outputs."""

    @functools.wraps(func)
    def jacobian_of_func(*args, **kwargs):
        chosen, replaced = _chosen(args, argnums, "jacfwd")
        values, unflatten = _tensors(chosen, "jacfwd")
        with enable_grad():
            fresh = _fresh(values)
            output, aux = _split(func(*replaced(unflatten(fresh)), **kwargs), has_aux, "jacfwd")
            outputs, rebuild = _tensors(output, "jacfwd")
            keep = _outer(outputs, fresh)
            # The vjp as a function of its cotangent is linear, and its transpose pushes tangents forward.
            dummies = [fx.zeros_like(each).requires_grad_() for each in outputs]
            back = _differentiate(outputs, fresh, dummies, True)
            found = []
            for out, dummy in zip(outputs, dummies, strict=False):
                per_input = []
                for piece, x in zip(jacobian_columns(back, dummy, keep), values, strict=False):
                    per_input.append(piece.reshape(tuple(out.shape) + tuple(x.shape)))
                found.append(unflatten(_settled(per_input, keep)))
        result = rebuild(found)
        return (result, _settle_tree(aux, keep)) if has_aux else result

    return jacobian_of_func


def jacobian_columns(back, dummy, create_graph):
    """For each gradient in `back`, linear in `dummy`: its Jacobian with respect to `dummy`, transposed."""
    columns = []
    for gradient in back:
        rows = jacobian_of(gradient, (dummy,), create_graph)[0].reshape(gradient.numel(), dummy.numel())
        columns.append(rows.transpose(0, 1))
    return columns


def hessian(func, argnums=0):
    """A function that computes the Hessian of a scalar function.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.func.hessian(lambda x: (x * x * x).sum())(fx.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacrev(jacrev(func, argnums), argnums)


def hvp(func, primals, tangents):
    """The product of the Hessian of a scalar function with a direction, without forming the Hessian.

    Parameters
    ----------
    func : callable
        From tensors to a scalar tensor.
    primals, tangents : tuple
        The arguments, and the direction for each.

    Returns
    -------
    The product, in the nesting of `primals`: one value for one primal, else a tuple.

    Examples
    --------
    >>> import ferrox as fx
    >>> fx.func.hvp(lambda x: (x * x * x).sum(), (fx.tensor([1.0, 2.0]),), (fx.tensor([1.0, 1.0]),))
    tensor([ 6., 12.])
    """
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise TypeError("hvp: primals and tangents must be tuples")
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(func, argnums), primals, tangents)[1]


def functional_call(module, parameter_and_buffer_dicts, args=None, kwargs=None, *, tie_weights=True, strict=False):
    """Call a module with other parameters and buffers in place of its own.

    Parameters
    ----------
    module : ferrox.nn.Module
    parameter_and_buffer_dicts : dict or sequence of dict
        Values by the names of `named_parameters` and `named_buffers`.
    args : tuple or any
        Positional arguments; a single one need not be in a tuple.
    kwargs : dict, optional
    tie_weights : bool
        Whether a value given for a shared parameter counts for all its names.
    strict : bool
        Whether every parameter and buffer must be given.

    Returns
    -------
    What the module returns.
    """
    dicts = parameter_and_buffer_dicts
    given = dict(dicts) if isinstance(dicts, dict) else {k: v for each in dicts for k, v in each.items()}
    own = dict(module.named_parameters(remove_duplicate=False))
    own.update(module.named_buffers(remove_duplicate=False))
    unknown = [name for name in given if name not in own]
    missing = [name for name in own if name not in given]
    if strict and (unknown or missing):
        raise RuntimeError(f"functional_call: missing {missing}, unexpected {unknown}")
    if tie_weights:
        by_identity = {id(own[name]): value for name, value in given.items() if name in own}
        given.update({name: by_identity[id(own[name])] for name in missing if id(own[name]) in by_identity})
    held = []
    try:
        for name, value in given.items():
            owner_name, _, attribute = name.rpartition(".")
            owner = module.get_submodule(owner_name)
            store = owner._parameters if attribute in owner._parameters else owner._buffers
            held.append((store, attribute, store.get(attribute)))
            store[attribute] = value
        return module(*(args if isinstance(args, tuple) else () if args is None else (args,)), **(kwargs or {}))
    finally:
        for store, attribute, value in reversed(held):
            store[attribute] = value
