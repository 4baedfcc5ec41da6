"""Recomputation: keep nothing of a part of the forward, and run it again when its gradients are computed.

Note [Recomputation].  While the function runs, `saved_tensors_hooks` put numbers into the nodes in place of saved
tensors. The first number that backward reads runs the function again on the same arguments, with hooks that collect, in
the same order, what the nodes of that second run would save; reading number k gives the k-th.  A collected value goes
when its node gives it up.  So gradients of every order, `autograd.grad`, and nesting work as without checkpointing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import ferrox as fx
from ferrox._core.cuda.graphs import captured_draws, restore_draws, step_is_captured
from ferrox._core.tensor.generator import default_places, restore_places
from ferrox.autograd.grad_mode import enable_grad, is_grad_enabled
from ferrox.autograd.graph import saved_tensors_hooks

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential"]


class CheckpointError(RuntimeError):
    """The second run of a checkpointed function did not repeat the first."""


class _Complete(BaseException):
    """Ends a recomputation once everything that is needed has been collected."""


class _Slot:
    """Stands in a node for the saved value of a number; its death frees the value."""

    __slots__ = ("__weakref__", "number")

    def __init__(self, number) -> None:
        self.number = number


def _places():
    """Where every device's random stream is, and the draws of a CUDA graph that is being captured."""
    return default_places(), captured_draws() if step_is_captured() else None


def _restore(places):
    streams, draws = places
    restore_places(streams)
    if draws is not None:
        restore_draws(draws)


class _Frame:
    """One checkpointed call: what it takes to run it again, and what was collected."""

    def __init__(self, function, args, kwargs, preserve_rng_state, determinism_check) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs
        self.versions = [(each, each._version) for each in args if isinstance(each, fx.Tensor)]
        self.random = _places() if preserve_rng_state else None
        self.determinism_check = determinism_check
        self.slots = []         # weak references, by number
        self.descriptions = []  # of the first run: shape, dtype, device
        self.values = {}

    def pack(self, tensor):
        slot = _Slot(len(self.slots))
        values = self.values
        number = slot.number
        self.slots.append(weakref.ref(slot, lambda _: values.pop(number, None)))
        self.descriptions.append((tuple(tensor.shape), tensor.dtype, tensor.device))
        return slot

    def unpack(self, slot):
        if slot.number not in self.values:
            self.recompute()
        if slot.number not in self.values:
            raise CheckpointError("checkpoint: A different number of tensors was saved during the original forward and "
                                  f"recomputation: {len(self.slots)} at first, {slot.number} or fewer now.")
        return self.values[slot.number]

    def recompute(self):
        for tensor, version in self.versions:
            if tensor._version != version:
                raise CheckpointError("checkpoint: an argument was changed in place after the forward, so that it "
                                      f"cannot be run again: a tensor of shape {tuple(tensor.shape)}, version "
                                      f"{tensor._version}, expected {version}")
        count = 0

        def collect(tensor):
            nonlocal count
            number, count = count, count + 1
            if number >= len(self.slots):
                raise CheckpointError("checkpoint: A different number of tensors was saved during the original forward "
                                      f"and recomputation: {len(self.slots)} at first, more now.")
            found = tuple(tensor.shape), tensor.dtype, tensor.device
            if self.determinism_check and found != self.descriptions[number]:
                raise CheckpointError(
                    "checkpoint: Recomputed values for the following tensors have different metadata than during the "
                    f"forward pass: number {number} was {self.descriptions[number]}, is {found} now")
            if self.slots[number]() is not None:
                self.values[number] = tensor.detach()
            if count == len(self.slots):
                raise _Complete
            return None

        def read(packed):
            raise CheckpointError("checkpoint: the function asked for gradients of its own values "
                                  "while it was run again")

        outside = _places() if self.random is not None else None
        try:
            if self.random is not None:
                _restore(self.random)
            with enable_grad(), saved_tensors_hooks(collect, read):
                self.function(*self.args, **self.kwargs)
        except _Complete:
            pass
        finally:
            if outside is not None:
                _restore(outside)


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    determinism_check: str = "default",
    **kwargs: Any,
) -> Any:
    """Call `function(*args, **kwargs)` keeping no values for its gradients; it runs again when they are computed.

    Parameters
    ----------
    function : callable
        It must do the same when run again on the same arguments.
    *args, **kwargs
        Its arguments; tensors among them must not be changed in place before backward.
    use_reentrant : bool, optional
        Accepted as in PyTorch.  Both values use the policy described in Note [Recomputation], under which gradients
        flow to closed-over tensors too and `autograd.grad` works.
    preserve_rng_state : bool
        Whether the second run draws the same random numbers.
    determinism_check : {"default", "none"}
        Whether to compare shapes and dtypes of the values of both runs.

    Returns
    -------
    What `function` returns.

    Raises
    ------
    CheckpointError
        In backward, when the second run saves other values than the first, or an argument was changed.

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.tensor(2.0, requires_grad=True)
    >>> y = fx.utils.checkpoint.checkpoint(lambda x: x.exp().sin(), x, use_reentrant=False)
    >>> fx.graph_stats(y)["bytes"]
    0
    """
    if determinism_check not in ("default", "none"):
        raise ValueError(f'determinism_check should be "default" or "none", got {determinism_check!r}')
    if not is_grad_enabled():
        return function(*args, **kwargs)
    frame = _Frame(function, args, kwargs, preserve_rng_state, determinism_check == "default")
    with saved_tensors_hooks(frame.pack, frame.unpack):
        return function(*args, **kwargs)


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """Call functions one after the other, in `segments` parts of which only the inputs are kept.

    Parameters
    ----------
    functions : ferrox.nn.Sequential or sequence of callable
    segments : int
        Number of parts; the last one is not checkpointed.
    input : Tensor or tuple
        What the first function gets.
    use_reentrant, preserve_rng_state
        As for `checkpoint`.

    Returns
    -------
    What the last function returns.
    """
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    functions = list(functions.children()) if hasattr(functions, "children") else list(functions)
    if not 1 <= segments <= max(len(functions), 1):
        raise ValueError(f"checkpoint_sequential: segments must lie between 1 and the number of functions, "
                         f"{len(functions)}; got {segments}")

    def part(start, stop):
        def run(value):
            for each in functions[start:stop]:
                value = each(value)
            return value

        return run

    size = len(functions) // segments
    start = 0
    for _ in range(segments - 1):
        input = checkpoint(part(start, start + size), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)
        start += size
    return part(start, len(functions))(input)
