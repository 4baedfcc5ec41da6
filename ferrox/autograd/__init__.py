"""Automatic differentiation: backward, grad, one's own functions, and tools to check and watch them."""

import importlib

from ferrox._core.graph.engine import backward, grad
from ferrox._core.graph.statistics import graph_stats
from ferrox.autograd.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    saved_values,
    set_grad_enabled,
)

# Loaded when first asked for, so that importing Ferrox stays quick.
_LATER = {
    "Function": "function", "FunctionCtx": "function", "once_differentiable": "function",
    "GradcheckError": "_gradcheck", "gradcheck": "_gradcheck", "gradgradcheck": "_gradcheck",
    "detect_anomaly": "anomaly_mode", "is_anomaly_enabled": "anomaly_mode", "set_detect_anomaly": "anomaly_mode",
}
_MODULES = ("anomaly_mode", "function", "functional", "grad_mode", "graph")

__all__ = [
    "Function", "FunctionCtx", "GradcheckError", "backward", "detect_anomaly", "enable_grad", "functional", "grad",
    "gradcheck", "gradgradcheck", "graph", "graph_stats", "inference_mode", "is_anomaly_enabled", "is_grad_enabled",
    "is_inference_mode_enabled", "no_grad", "once_differentiable", "saved_values", "set_detect_anomaly",
    "set_grad_enabled",
]


def __getattr__(name):
    if name in _LATER:
        value = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted(set(globals()) | set(__all__))
