"""Hooks of tensors and nodes, as backward comes by: each is called, and what it returns is checked.

A hook may return another gradient, of the same shape, dtype and device; anything else is an error that names the
operator and the hook.
"""
from libc.stdint cimport uint32_t

from ferrox._core.dtype cimport dtype_name
from ferrox._core.graph.node cimport Node, shape_of_node
from ferrox._core.tensor.base cimport TensorBase, on_one_device, shape_tuple


cdef str _called(object hook):
    return getattr(hook, "__qualname__", None) or type(hook).__name__


cdef int _check(str what, object hook, object replaced, object g, tuple shape, int dtype) except -1:
    """Whether `replaced` may stand for the gradient `g`, which may be None: then shape and dtype say what fits."""
    cdef TensorBase given
    what = f"{what} ({_called(hook)})"
    if not isinstance(replaced, TensorBase):
        raise TypeError(f"{what} must return a tensor or None, got {type(replaced).__name__}")
    given = <TensorBase> replaced
    if shape_tuple(&given.a) != shape:
        raise RuntimeError(f"{what} has changed the size of the gradient: it is {shape}, returned was "
                           f"{shape_tuple(&given.a)}")
    if given.a.dtype != dtype:
        raise RuntimeError(f"{what} has changed the dtype of the gradient: it is {dtype_name(dtype)}, returned was "
                           f"{dtype_name(given.a.dtype)}")
    if g is not None and not on_one_device(given, <TensorBase> g):
        raise RuntimeError(f"{what} must leave the gradient on its device: it is on {g.device}, returned was one on "
                           f"{replaced.device}")
    return 0


cdef int _check_like(str what, object hook, object replaced, object g) except -1:
    return _check(what, hook, replaced, g, shape_tuple(&(<TensorBase> g).a), (<TensorBase> g).a.dtype)


cdef object _run(list hooks, object g, str what):
    for hook, in list(hooks):
        replaced = hook(g)
        if replaced is not None:
            _check_like(what, hook, replaced, g)
            g = replaced
    return g


cdef object leaf_hooks(TensorBase leaf, object g):
    """The gradient of a leaf after its hooks."""
    if leaf.meta is None or "hooks" not in leaf.meta:
        return g
    return _run(leaf.meta["hooks"], g, f"a hook on a leaf tensor of shape {shape_tuple(&leaf.a)}")


cdef int after_accumulation(TensorBase leaf) except -1:
    if leaf.meta is not None:
        for hook, in tuple(leaf.meta.get("post_hooks", ())):
            hook(leaf)
    return 0


cdef object tensor_hooks(Node node, object g):
    """The cotangent of a node (a list for several outputs) after the hooks on its outputs."""
    cdef dict by_output = <dict> (<dict> node.meta).get("output_hooks")
    if by_output is None:
        return g
    for output, hooks in list(by_output.items()):
        if node.n_out == 1:
            g = _run(hooks, g, f"[{node.op.name}] a hook on its output")
        elif g[output] is not None:
            g[output] = _run(hooks, g[output], f"[{node.op.name}] a hook on its output {output}")
    return g


cdef tuple _returned(str what, object hook, object replaced, Py_ssize_t expected):
    if not isinstance(replaced, (tuple, list)):
        raise TypeError(f"{what} ({_called(hook)}) must return a tuple of gradients or None, got "
                        f"{type(replaced).__name__}")
    if len(replaced) != expected:
        raise RuntimeError(f"{what} ({_called(hook)}) has returned an incorrect number of gradients: got "
                           f"{len(replaced)}, but expected {expected}")
    return tuple(replaced)


cdef object node_prehooks(Node node, object g):
    """The cotangent of a node after its prehooks, which get and give a tuple."""
    cdef str what = f"[{node.op.name}] a prehook of its node"
    cdef tuple pieces
    for hook, in tuple((<dict> node.meta).get("prehooks", ())):
        replaced = hook((g,) if node.n_out == 1 else tuple(g))
        if replaced is None:
            continue
        pieces = _returned(what, hook, replaced, node.n_out)
        for k, piece in enumerate(pieces):
            before = g if node.n_out == 1 else g[k]
            if piece is before:
                continue
            if before is not None and piece is not None:
                _check_like(what, hook, piece, before)
            elif piece is not None:
                shape, dtype = (<dict> node.meta)["outputs"][k]
                _check(what, hook, piece, None, shape, dtype)
            elif node.n_out == 1:
                raise TypeError(f"{what} ({_called(hook)}) must return a tensor, got None")
        g = pieces[0] if node.n_out == 1 else list(pieces)
    return g


cdef tuple _input_fits(Node node, uint32_t i):
    """Shape and dtype of input i; None for one without gradient."""
    cdef Node following
    cdef TensorBase leaf
    if node.slot[i] == NULL:
        return None
    if type(<object> node.slot[i]) is not Node:
        leaf = <TensorBase> <object> node.slot[i]
        return shape_tuple(&leaf.a), leaf.a.dtype
    following = <Node> <object> node.slot[i]
    if following.n_out > 1:
        return (<dict> following.meta)["outputs"][node.tail[i]]
    return shape_of_node(following), following.dtype


cdef object node_hooks(Node node, object result, object g):
    """The gradients of a node's inputs after its hooks, which get and give a tuple."""
    cdef str what = f"[{node.op.name}] a hook on its node"
    cdef tuple pieces = result if isinstance(result, tuple) else (result,)
    for hook, in tuple((<dict> node.meta).get("hooks", ())):
        replaced = hook(pieces, (g,) if node.n_out == 1 else tuple(g))
        if replaced is None:
            continue
        replaced = _returned(what, hook, replaced, len(pieces))
        for i, piece in enumerate(<tuple> replaced):
            if piece is pieces[i] or piece is None:
                continue
            if pieces[i] is not None:
                _check_like(what, hook, piece, pieces[i])
            elif i < node.n_in:
                fits = _input_fits(node, i)
                if fits is None:
                    raise RuntimeError(f"{what} ({_called(hook)}) returned a gradient for input {i}, which has none")
                _check(what, hook, piece, None, fits[0], fits[1])
        pieces = <tuple> replaced
    return pieces
