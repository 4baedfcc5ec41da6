"""Automatic differentiation: backward, grad, one's own functions, and tools to check and watch them."""

from ferrox._core.engine import backward, grad
from ferrox._core.graph import graph_stats
from ferrox.autograd import functional, graph
from ferrox.autograd.anomaly_mode import detect_anomaly, is_anomaly_enabled, set_detect_anomaly
from ferrox.autograd.function import Function, FunctionCtx, once_differentiable
from ferrox.autograd.grad_mode import (
    enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad, saved_values, set_grad_enabled,
)
from ferrox.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck

__all__ = [
    "Function", "FunctionCtx", "GradcheckError", "backward", "detect_anomaly", "enable_grad", "functional", "grad",
    "gradcheck", "gradgradcheck", "graph", "graph_stats", "inference_mode", "is_anomaly_enabled", "is_grad_enabled",
    "is_inference_mode_enabled", "no_grad", "once_differentiable", "saved_values", "set_detect_anomaly",
    "set_grad_enabled",
]
