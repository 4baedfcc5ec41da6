"""The graph from Python: nodes, edges, hooks on saved values and on several tensors at once."""

import contextlib
from collections import namedtuple

from ferrox._core.graph import packing
from ferrox._core.graph.node import Node
from ferrox._core.graph.statistics import graph_stats

__all__ = ["GradientEdge", "Node", "disable_saved_tensors_hooks", "get_gradient_edge", "graph_stats", "leaves",
           "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks", "walk"]


class GradientEdge(namedtuple("GradientEdge", ("node", "output_nr"))):
    """Where a gradient flows to: a node (or a leaf tensor itself) and which of its outputs."""

    __slots__ = ()


def get_gradient_edge(tensor):
    """The edge along which the gradient of `tensor` flows."""
    if not tensor.requires_grad:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    return GradientEdge(tensor.grad_fn if tensor.grad_fn is not None else tensor, tensor.output_nr)


def walk(*tensors):
    """Every node behind `tensors`, each once, consumers before what they consume as far as a walk along edges goes."""
    stack = [each.grad_fn for each in reversed(tensors) if each.grad_fn is not None]
    seen = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        stack.extend(target for target, _ in reversed(node.next_functions) if isinstance(target, Node))


def leaves(*tensors):
    """The leaf tensors that the gradients of `tensors` reach, each once."""
    found = {id(each): each for each in tensors if each.grad_fn is None and each.requires_grad}
    for node in walk(*tensors):
        for target, _ in node.next_functions:
            if target is not None and not isinstance(target, Node):
                found[id(target)] = target
    return list(found.values())


_disabled = None


class saved_tensors_hooks:
    """While active, nodes keep `pack_hook(tensor)` in place of a saved tensor; gradients read `unpack_hook` of that.

    Parameters
    ----------
    pack_hook : callable
        Gets the tensor to be saved and returns anything; it must not change the tensor.
    unpack_hook : callable
        Gets what `pack_hook` returned and gives back a tensor of the same contents.

    Examples
    --------
    >>> import ferrox as fx
    >>> kept = []
    >>> def pack(x):
    ...     kept.append(x)
    ...     return len(kept) - 1
    >>> x = fx.tensor(3.0, requires_grad=True)
    >>> with fx.autograd.graph.saved_tensors_hooks(pack, lambda k: kept[k]):
    ...     y = x.exp() * x
    >>> len(kept)
    3
    """

    def __init__(self, pack_hook, unpack_hook):
        self._hooks = (pack_hook, unpack_hook)
        self._before = []

    def __enter__(self):
        if _disabled is not None:
            raise RuntimeError(_disabled)
        self._before.append(packing.set_hooks(self._hooks))
        return self

    def __exit__(self, *exception):
        packing.set_hooks(self._before.pop())


class save_on_cpu(saved_tensors_hooks):
    """Keep saved values in host memory until backward needs them, and free device memory meanwhile.

    Parameters
    ----------
    pin_memory : bool
        Keep them in pinned memory, whence copies to the device are faster; only for tensors on a device.
    device_type : str
        As in PyTorch; tensors come back to the device they were on.
    """

    def __init__(self, pin_memory=False, device_type="cuda"):
        def pack(tensor):
            if tensor.is_cpu:
                return tensor.device, tensor.clone()
            host = tensor.cpu()
            return tensor.device, host.pin_memory() if pin_memory else host

        def unpack(packed):
            device, tensor = packed
            return tensor if tensor.device == device else tensor.to(device)

        super().__init__(pack, unpack)


@contextlib.contextmanager
def disable_saved_tensors_hooks(error_message):
    """Refuse `saved_tensors_hooks` inside, with the given message."""
    global _disabled
    before, _disabled = _disabled, error_message
    hooks = packing.set_hooks(None)
    try:
        yield
    finally:
        packing.set_hooks(hooks)
        _disabled = before


class _Handles:
    """Several handles as one."""

    def __init__(self, handles):
        self._handles = tuple(handles)

    def remove(self):
        """Take all of them away."""
        for each in self._handles:
            each.remove()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.remove()


def register_multi_grad_hook(tensors, fn, *, mode="all"):
    """Call `fn` when the gradients of several tensors are there.

    Parameters
    ----------
    tensors : sequence of Tensor
        They require grad.
    fn : callable
        With `mode="all"`, gets the list of gradients, None for a tensor that this backward does not reach, at the end
        of the backward; with `mode="any"`, the first gradient that is computed.
    mode : {"all", "any"}

    Returns
    -------
    handle
        With `remove()`.
    """
    from ferrox._core.graph import engine

    if mode not in ("all", "any"):
        raise ValueError(f'mode must be "all" or "any", got {mode!r}')
    runs = {}

    def hook_of(number):
        def hook(gradient):
            run = engine.current_run()
            first = run not in runs
            if first:
                runs[run] = [None] * len(tensors)
                engine.queue_callback(lambda: finish(run))
            if mode == "any":
                if first:
                    fn(gradient)
            else:
                runs[run][number] = gradient

        return hook

    def finish(run):
        gradients = runs.pop(run)
        if mode == "all":
            fn(gradients)

    return _Handles(tensor.register_hook(hook_of(k)) for k, tensor in enumerate(tensors))
