# Written by tools/stubs.py from what it describes; to write it anew: make stubs-write
from builtins import bool as _bool
from builtins import int as _int
from collections.abc import Callable, Sequence
from typing import Any
from ferrox._core.api.tensorclass import Tensor

def set_gradient_check(check: Callable[..., Any]) -> None: ...
def running() -> _bool: ...
def current_run() -> _int: ...
def queue_callback(callback: Callable[..., Any]) -> None: ...
def backward(
    tensors: Tensor | Sequence[Tensor], grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: _bool | None = None, create_graph: _bool = False, inputs: Tensor | Sequence[Tensor] | None = None,
) -> None: ...
def grad(
    outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None, retain_graph: _bool | None = None,
    create_graph: _bool = False, allow_unused: _bool | None = None, is_grads_batched: _bool = False,
    materialize_grads: _bool = False,
) -> tuple[Tensor, ...]: ...
