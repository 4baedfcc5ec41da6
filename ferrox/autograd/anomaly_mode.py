"""Finding the first operator that made a NaN."""

import os
import warnings

from ferrox._core.door import dispatch
from ferrox._core.graph import anomaly, engine
from ferrox._core.graph import node as graph

__all__ = ["detect_anomaly", "is_anomaly_enabled", "set_detect_anomaly"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_HOST, _HOST_SCALAR = 0, 2      # a device type, a flag: as in kernels/include/fx/abi.h
_enabled = False
_check = False
_made_in_backward = None    # (operator, line) of the first kernel that made a NaN since a backward began


def _where():
    """The caller's stack, without Ferrox's own frames."""
    import traceback

    frames = [each for each in traceback.extract_stack() if not each.filename.startswith(_PACKAGE)]
    return "".join(traceback.format_list(frames))


def _array_has_nan(array):
    if array is None:
        return False
    address, dtype, shape, strides, flags, device_type, device = array
    if device_type == _HOST or flags & _HOST_SCALAR:
        return anomaly.window_has_nan(address, dtype, shape, strides)
    return anomaly.device_window_has_nan(address, dtype, shape, strides, device_type, device)


def _watch(name, kernel, outputs, inputs, seconds):
    global _made_in_backward
    if not any(_array_has_nan(each) for each in outputs):
        return
    addresses = {each[0] for each in outputs if each is not None}
    # What was overwritten in place cannot be asked any more; any other NaN among the inputs was there before.
    if any(_array_has_nan(each) for each in inputs if each is not None and each[0] not in addresses):
        return
    if engine.running():
        if _made_in_backward is None:
            _made_in_backward = name
        return
    shapes = ", ".join(str(each[2]) for each in inputs if each is not None)
    raise RuntimeError(f"[{name}] Function '{name}' returned nan values in forward: its inputs, of shape {shapes}, "
                       f"held none. It was called here:\n{_where()}")


def _check_gradient(node, number, gradient):
    global _made_in_backward
    if not _check or not gradient.is_floating_point():
        return
    if not anomaly.has_nan(gradient):
        return
    made, _made_in_backward = _made_in_backward, None
    stack = node._traceback()
    forward = ("The forward was called here:\n" + _user_frames(stack) if stack else
               "The forward was called outside of anomaly detection, so its place is not known.")
    kernel = f" (made by {made!r} within its rule)" if made is not None and made != node.name() else ""
    raise RuntimeError(f"[{node.name()}] Function '{node.name()}' returned nan values in its {number}th output: the "
                       f"gradient of input {number}, of shape {tuple(gradient.shape)}{kernel}. {forward}")


def _user_frames(stack):
    return "".join(each for each in stack if f'File "{_PACKAGE}' not in each)


def _switch(mode, check_nan):
    global _enabled, _check, _made_in_backward
    before = _enabled, _check
    watched = _enabled and _check
    _enabled, _check = bool(mode), bool(check_nan)
    _made_in_backward = None
    graph._set_trace(_enabled)
    engine.set_gradient_check(_check_gradient if _enabled else None)
    if _enabled and _check and not watched:
        dispatch.watch(_watch)
    elif watched and not (_enabled and _check):
        dispatch.unwatch(_watch)
    return before


class set_detect_anomaly:
    """Switch anomaly detection at once; as a context manager, for its block.

    Parameters
    ----------
    mode : bool
        On or off.
    check_nan : bool
        Whether to look for NaN; otherwise nodes only remember where they were made.
    """

    def __init__(self, mode, check_nan=True):
        self._before = _switch(mode, check_nan)

    def __enter__(self):
        return None

    def __exit__(self, *exception):
        _switch(*self._before)


class detect_anomaly(set_detect_anomaly):
    """Find the first operator, in forward or backward, whose result has a NaN that none of its inputs had.

    A `RuntimeError` names it, with the line it was called from; for a gradient, the line of the forward.  In-place
    changes of saved values are traced too.  It makes everything slower: for debugging only.

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.tensor([0.0], requires_grad=True)
    >>> with fx.autograd.detect_anomaly():      # doctest: +ELLIPSIS
    ...     y = x / x
    Traceback (most recent call last):
    ...
    RuntimeError: [div] Function 'div' returned nan values in forward: ...
    """

    def __init__(self, check_nan=True):
        warnings.warn("Anomaly Detection has been enabled. This mode will increase the runtime and should only be "
                      "enabled for debugging.", stacklevel=2)
        self._check_nan = check_nan

    def __enter__(self):
        self._before = _switch(True, self._check_nan)


def is_anomaly_enabled():
    """Whether anomaly detection is on."""
    return _enabled
