# Written by tools/stubs.py from what it describes; to write it anew: make stubs-write
from ferrox._core.api.custom import FunctionCtx as FunctionCtx
from ferrox._core.graph.engine import backward as backward
from ferrox._core.graph.engine import grad as grad
from ferrox._core.graph.node import is_grad_enabled as is_grad_enabled
from ferrox._core.graph.statistics import graph_stats as graph_stats
from ferrox.autograd import functional as functional
from ferrox.autograd import graph as graph
from ferrox.autograd._gradcheck import GradcheckError as GradcheckError
from ferrox.autograd._gradcheck import gradcheck as gradcheck
from ferrox.autograd._gradcheck import gradgradcheck as gradgradcheck
from ferrox.autograd.anomaly_mode import detect_anomaly as detect_anomaly
from ferrox.autograd.anomaly_mode import is_anomaly_enabled as is_anomaly_enabled
from ferrox.autograd.anomaly_mode import set_detect_anomaly as set_detect_anomaly
from ferrox.autograd.function import Function as Function
from ferrox.autograd.function import once_differentiable as once_differentiable
from ferrox.autograd.grad_mode import enable_grad as enable_grad
from ferrox.autograd.grad_mode import inference_mode as inference_mode
from ferrox.autograd.grad_mode import is_inference_mode_enabled as is_inference_mode_enabled
from ferrox.autograd.grad_mode import no_grad as no_grad
from ferrox.autograd.grad_mode import saved_values as saved_values
from ferrox.autograd.grad_mode import set_grad_enabled as set_grad_enabled


__all__ = [
    "Function", "FunctionCtx", "GradcheckError", "backward", "detect_anomaly", "enable_grad", "functional", "grad",
    "gradcheck", "gradgradcheck", "graph", "graph_stats", "inference_mode", "is_anomaly_enabled", "is_grad_enabled",
    "is_inference_mode_enabled", "no_grad", "once_differentiable", "saved_values", "set_detect_anomaly",
    "set_grad_enabled",
]
