"""What a module with hooks does around its forward; modules without any never come here."""

import itertools
import warnings
from typing import NamedTuple

import ferrox as fx
from ferrox.utils.hooks import RemovableHandle, _HookDict


class _Hook(NamedTuple):
    function: object
    with_kwargs: bool = False
    always_call: bool = False


class Hooks:
    """The call hooks of one module, by kind and in order of registration."""

    __slots__ = ("backward", "backward_pre", "forward", "forward_pre")

    def __init__(self) -> None:
        self.forward_pre = _HookDict()
        self.forward = _HookDict()
        self.backward_pre = _HookDict()
        self.backward = _HookDict()

    def __bool__(self):
        return bool(self.forward_pre or self.forward or self.backward_pre or self.backward)

    def __getstate__(self):
        return [getattr(self, kind) for kind in self.__slots__]

    def __setstate__(self, state):
        for kind, hooks in zip(self.__slots__, state, strict=True):
            setattr(self, kind, hooks)


def add_hook(hooks, function, prepend=False, with_kwargs=False, always_call=False):
    """Put `function` among `hooks`, first if `prepend`, and return its handle."""
    handle = RemovableHandle(hooks)
    hooks[handle.id] = _Hook(function, with_kwargs, always_call)
    if prepend:
        for key in list(hooks)[:-1]:
            hooks[key] = hooks.pop(key)
    return handle


def call_hooked(module, hooks, args, kwargs, global_pre=(), global_post=()):
    """Run `module.forward` with the hooks around it (`global_*`: hooks of every module, which come first)."""
    post = [*global_post, *hooks.forward.values()] if hooks is not None else [*global_post]
    pre = itertools.chain(global_pre, tuple(hooks.forward_pre.values()) if hooks is not None else ())
    done = 0
    try:
        for hook in pre:
            args, kwargs = _run_pre_hook(hook, module, args, kwargs)
        tap = None
        if hooks is not None and (hooks.backward or hooks.backward_pre):
            tap = _BackwardHooks(module, hooks)
            args = tap.watch_inputs(args)
        output = module.forward(*args, **kwargs)
        for hook in post:
            done += 1
            result = _run_forward_hook(hook, module, args, kwargs, output)
            if result is not None:
                output = result
        return output if tap is None else tap.watch_outputs(output)
    except Exception:
        for hook in post[done:]:
            if hook.always_call:
                try:
                    _run_forward_hook(hook, module, args, kwargs, None)
                except Exception as error:
                    warnings.warn(
                        "module forward hook with ``always_call=True`` raised an exception "
                        f"that was silenced as another error was raised in forward: {error}",
                        stacklevel=3,
                    )
        raise


def _run_pre_hook(hook, module, args, kwargs):
    if hook.with_kwargs:
        result = hook.function(module, args, kwargs)
        if result is None:
            return args, kwargs
        if not (isinstance(result, tuple) and len(result) == 2):
            raise RuntimeError(
                f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {result}."
            )
        return result
    result = hook.function(module, args)
    if result is None:
        return args, kwargs
    return (result if isinstance(result, tuple) else (result,)), kwargs


def _run_forward_hook(hook, module, args, kwargs, output):
    if hook.with_kwargs:
        return hook.function(module, args, kwargs, output)
    return hook.function(module, args, output)


class _Tap(fx.autograd.Function):
    """The identity; on the way back the gradients pass through a callback."""

    @staticmethod
    def forward(ctx, callback, *tensors):
        ctx.callback = callback
        ctx.set_materialize_grads(False)
        return tuple(tensor.view(tensor.shape) for tensor in tensors)

    @staticmethod
    def backward(ctx, *grads):
        return (None, *ctx.callback(grads))


class _BackwardHooks:
    """One call's backward hooks: a tap on the inputs sees grad_input, a tap on the outputs sees grad_output."""

    def __init__(self, module, hooks) -> None:
        self.module = module
        self.hooks = [hook.function for hook in hooks.backward.values()]
        self.pre_hooks = [hook.function for hook in hooks.backward_pre.values()]
        self.grad_outputs = None
        self.n_inputs = 0
        self.input_tapped = False

    def watch_inputs(self, args):
        self.n_inputs = len(args)
        if not fx.is_grad_enabled():
            return args
        args, self.input_tapped = _tap(args, self._on_grad_inputs)
        return args

    def watch_outputs(self, output):
        if not fx.is_grad_enabled():
            return output
        if isinstance(output, fx.Tensor):
            return _tap((output,), self._on_grad_outputs)[0][0]
        if not isinstance(output, (tuple, list)):
            warnings.warn(
                "For backward hooks to be called, module output should be a Tensor or a tuple of Tensors "
                f"but received {type(output)}",
                stacklevel=4,
            )
            return output
        outputs = _tap(tuple(output), self._on_grad_outputs)[0]
        if hasattr(output, "_fields"):
            return type(output)(*outputs)
        return type(output)(outputs)

    def _on_grad_outputs(self, grads):
        for hook in self.pre_hooks:
            result = hook(self.module, grads)
            if result is not None:
                grads = self._as_gradients(result, grads, "Backward pre hook", "grad_output", hook)
        self.grad_outputs = grads
        if not self.input_tapped:
            for hook in self.hooks:
                result = hook(self.module, (None,) * self.n_inputs, grads)
                if result is not None and not (
                    isinstance(result, tuple) and all(element is None for element in result)
                ):
                    raise RuntimeError(
                        "Backward hook for Modules where no input requires gradient should always return None "
                        "or None for all gradients."
                    )
        return grads

    def _on_grad_inputs(self, grads):
        if self.grad_outputs is None:
            raise RuntimeError("Module backward hook for grad_input is called before the grad_output one.")
        for hook in self.hooks:
            result = hook(self.module, grads, self.grad_outputs)
            if result is not None:
                grads = self._as_gradients(result, grads, "Backward hook", "grad_input", hook)
        self.grad_outputs = None
        return grads

    def _as_gradients(self, result, grads, kind, which, hook):
        """What a hook returned in place of `grads`: as many, each of the same shape, dtype and device."""
        result = result if isinstance(result, tuple) else (result,)
        what = f"[{type(self.module).__name__}] {kind} ({getattr(hook, '__qualname__', type(hook).__name__)})"
        if len(result) != len(grads):
            raise RuntimeError(
                f"{what} returned an invalid number of {which}, got {len(result)}, but expected {len(grads)}"
            )
        for new, old in zip(result, grads, strict=True):
            if new is None:
                continue
            if not isinstance(new, fx.Tensor):
                raise TypeError(f"{what} must return tensors or None, got {type(new).__name__}")
            if old is not None and (new.shape, new.dtype, new.device) != (old.shape, old.dtype, old.device):
                raise RuntimeError(
                    f"{what} has changed the size, dtype or device of {which}: it is {tuple(old.shape)} {old.dtype} on "
                    f"{old.device}, returned was {tuple(new.shape)} {new.dtype} on {new.device}"
                )
        return result


def _tap(values, callback):
    """Pass the tensors of the tuple `values` that require a gradient through one tap.

    `callback` takes and returns gradients aligned with `values` (None where there is none).
    """
    places = [i for i, value in enumerate(values) if isinstance(value, fx.Tensor) and value.requires_grad]
    if not places:
        return values, False

    count = len(values)  # not the values: the tapped tensors among them lead back to this function

    def aligned(grads):
        full = [None] * count
        for place, grad in zip(places, grads, strict=True):
            full[place] = grad
        result = callback(tuple(full))
        return tuple(result[place] for place in places)

    tapped = _Tap.apply(aligned, *(values[place] for place in places))
    values = list(values)
    for place, tensor in zip(places, tapped, strict=True):
        values[place] = tensor
    return tuple(values), True
