"""Captured graphs in Python, over `CUDAGraph`: the context manager, and callables made of graphs."""

import gc

from ferrox._core.cuda import context, device_memory, pinned
from ferrox._core.cuda.graphs import CUDAGraph, graph_pool_handle
from ferrox._core.cuda.stream import Stream, _apart, get_current_stream, set_stream

_streams = {}  # for captures that are given none, by device


class graph:
    """Capture what is done within a ``with`` block into a `CUDAGraph`.

    The device is waited for and cached memory given back first.  An exception in the block ends the capture, gives its
    memory back and goes on; the graph object may then be used for another attempt.

    Parameters
    ----------
    cuda_graph : CUDAGraph
        What the work is captured into.
    pool : tuple, optional
        What `graph_pool_handle` or another graph's ``pool()`` returned: memory to share with that graph.
    stream : Stream, optional
        The stream to capture on, a side stream of the library's own by default.
    capture_error_mode : str, default "global"
        See `CUDAGraph.capture_begin`.

    Examples
    --------
    A whole training step.  It is done on a side stream first, so that kernels are loaded and the optimiser has its
    state; Adam counts its steps on the GPU (``capturable=True``).

    >>> import ferrox as fx
    >>> if fx.cuda.is_available():
    ...     model = fx.nn.Sequential(fx.nn.Linear(4, 8), fx.nn.Dropout(0.1), fx.nn.Linear(8, 1)).cuda()
    ...     optimizer = fx.optim.Adam(model.parameters(), capturable=True)
    ...     x, target = fx.zeros(2, 4, device="cuda"), fx.zeros(2, 1, device="cuda")
    ...
    ...     def step():
    ...         optimizer.zero_grad(set_to_none=True)
    ...         loss = fx.nn.functional.mse_loss(model(x), target)
    ...         loss.backward()
    ...         optimizer.step()
    ...         return loss
    ...
    ...     side = fx.cuda.Stream()
    ...     side.wait_stream(fx.cuda.current_stream())
    ...     with fx.cuda.stream(side):
    ...         _ = step()
    ...     fx.cuda.current_stream().wait_stream(side)
    ...     recorded = fx.cuda.CUDAGraph()
    ...     with fx.cuda.graph(recorded):
    ...         loss = step()
    ...     for _ in range(3):
    ...         _ = x.copy_(fx.randn(2, 4))
    ...         recorded.replay()
    """

    def __init__(self, cuda_graph, pool=None, stream=None, capture_error_mode="global"):
        self.cuda_graph = cuda_graph
        self.pool = pool
        self.capture_stream = stream
        self.capture_error_mode = capture_error_mode

    def __enter__(self):
        if self.capture_stream is None:
            index = context.index_of(None, "graph")
            if index not in _streams:
                _streams[index] = _apart(index)
            self.capture_stream = _streams[index]
        index = self.capture_stream.device_index
        context.synchronize(index)
        gc.collect()
        device_memory.open_memory()
        device_memory.allocator(index).empty_cache()
        pinned.empty_pinned()
        self.device = context.get_current_device()
        context.set_current_device(index)
        self.before = set_stream(self.capture_stream)
        try:
            self.cuda_graph.capture_begin(self.pool, self.capture_error_mode)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, kind, *exception):
        try:
            if kind is None:
                set_stream(self.capture_stream)
                self.cuda_graph.capture_end()
            else:
                self.cuda_graph.abandon()
        finally:
            self._leave()

    def _leave(self):
        set_stream(self.before)
        context.set_current_device(self.device)


def _flat(value):
    """The tensors of nested tuples, lists and dicts, in order."""
    from ferrox import Tensor

    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [each for part in value for each in _flat(part)]
    raise TypeError(f"[make_graphed_callables] expected tensors, in tuples, lists or dicts, got {type(value).__name__}")


def _rebuilt(value, tensors):
    """`value` with its tensors replaced by the next ones of an iterator."""
    if isinstance(value, dict):
        return {key: _rebuilt(part, tensors) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_rebuilt(part, tensors) for part in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_rebuilt(part, tensors) for part in value)
    return next(tensors)


class _Captured:
    """One callable: its forward and its backward as graphs, and the tensors that these read and write."""

    def __init__(self, function, args, warmups):
        from ferrox import nn

        self.function = function
        self.args = args
        self.inputs = _flat(args)
        self.parameters = []
        if isinstance(function, nn.Module):
            if any(True for _ in function.buffers()) and any(each.requires_grad for each in function.buffers()):
                raise RuntimeError("[make_graphed_callables] a buffer that requires a gradient is not supported")
            self.parameters = list(function.parameters())
        if any(not each.is_cuda for each in [*self.inputs, *self.parameters]):
            raise RuntimeError("[make_graphed_callables] sample arguments and parameters must be on a GPU")
        self.surface = [*self.inputs, *self.parameters]
        self.wanted = [each for each in self.surface if each.requires_grad]
        self.forward_graph, self.backward_graph = CUDAGraph(), CUDAGraph()
        for _ in range(warmups):
            self._gradients(_flat(function(*args)))

    def _gradients(self, outputs, cotangents=None):
        import ferrox as fx

        ends = [each for each in outputs if each.requires_grad]
        if not ends or not self.wanted:
            return [None] * len(self.wanted)
        if cotangents is None:
            cotangents = [fx.ones_like(each) for each in ends]
        return fx.autograd.grad(ends, self.wanted, cotangents, allow_unused=True)

    def capture_forward(self, pool, stream):
        with graph(self.forward_graph, pool, stream):
            self.made = self.function(*self.args)
        self.outputs = _flat(self.made)

    def capture_backward(self, pool, stream):
        import ferrox as fx

        ends = [each for each in self.outputs if each.requires_grad]
        self.cotangents = [fx.empty_like(each.detach()) for each in ends]
        found = []
        if ends and self.wanted:
            with graph(self.backward_graph, pool, stream):
                found = list(self._gradients(self.outputs, self.cotangents))
        gradients = iter(found or [None] * len(self.wanted))
        self.gradients = [next(gradients) if each.requires_grad else None for each in self.surface]
        self.given = [each.requires_grad for each in self.outputs]
        self.outputs = [each.detach() for each in self.outputs]
        self.inputs = [each.detach() for each in self.inputs]

    def callable(self):
        import ferrox as fx

        captured = self

        class Graphed(fx.autograd.Function):
            @staticmethod
            def forward(ctx, *surface):
                for static, given in zip(captured.inputs, surface, strict=False):
                    if static.data_ptr() != given.data_ptr():
                        static.copy_(given)
                captured.forward_graph.replay()
                made = tuple(each.detach() for each in captured.outputs)
                ctx.mark_non_differentiable(
                    *[each for each, free in zip(made, captured.given, strict=True) if not free]
                )
                return made

            @staticmethod
            def backward(ctx, *cotangents):
                given = [each for each, free in zip(cotangents, captured.given, strict=True) if free]
                for static, cotangent in zip(captured.cotangents, given, strict=True):
                    if cotangent is None:
                        static.zero_()
                    elif static.data_ptr() != cotangent.data_ptr():
                        static.copy_(cotangent)
                if captured.cotangents:
                    captured.backward_graph.replay()
                return tuple(None if each is None else each.detach().clone() for each in captured.gradients)

        def graphed(*args):
            given = _flat(args)
            if len(given) != len(captured.inputs):
                raise TypeError(f"[make_graphed_callables] {len(captured.inputs)} tensors were captured, "
                                f"got {len(given)}")
            for static, each in zip(captured.inputs, given, strict=True):
                if static.shape != each.shape or static.dtype != each.dtype:
                    raise RuntimeError(
                        "[make_graphed_callables] arguments must have the shapes and dtypes of the sample: "
                        f"{tuple(static.shape)} {static.dtype}, got {tuple(each.shape)} {each.dtype}"
                    )
            made = Graphed.apply(*given, *captured.parameters)
            return _rebuilt(captured.made, iter(made if isinstance(made, tuple) else (made,)))

        return graphed


def make_graphed_callables(callables, sample_args, num_warmup_iters=3, pool=None):
    """Functions or modules whose forward and backward run as captured graphs, to be used within eager code.

    Parameters
    ----------
    callables : callable or tuple of callables
        Of tensors on a GPU, in tuples, lists or dicts, returning such; a `Module` with its parameters.  Several are
        captured in their order, in which they must then be called, and run backward in the reverse order.
    sample_args : tuple of tensors, or tuple of such tuples
        Arguments, one tuple for each callable.  Shapes, dtypes and what requires a gradient must be the same later on.
    num_warmup_iters : int, default 3
        How often each is run before it is captured.
    pool : tuple, optional
        Memory to share with other graphs; see `graph_pool_handle`.

    Returns
    -------
    callable or tuple of callables
        A `Module` comes back itself, with its `forward` replaced; in evaluation mode, if it was captured in training
        mode or the other way round, it runs eagerly.

    Notes
    -----
    Results are overwritten by the next call.  Gradients are of the first order only.

    Examples
    --------
    >>> import ferrox as fx
    >>> if fx.cuda.is_available():
    ...     layer = fx.nn.Linear(3, 2).cuda()
    ...     layer = fx.cuda.make_graphed_callables(layer, (fx.zeros(4, 3, device="cuda"),))
    ...     layer(fx.ones(4, 3, device="cuda")).sum().backward()
    ...     assert layer.weight.grad.shape == (2, 3)
    """
    import ferrox as fx

    single = not isinstance(callables, tuple)
    functions = (callables,) if single else callables
    arguments = (sample_args,) if single else sample_args
    if len(functions) != len(arguments):
        raise ValueError(f"[make_graphed_callables] {len(functions)} callables, arguments for {len(arguments)}")
    pool = graph_pool_handle() if pool is None else pool
    index = context.index_of(None, "make_graphed_callables")
    stream, before = Stream(index), get_current_stream(index)
    stream.wait_stream(before)
    set_stream(stream)
    try:
        with fx.enable_grad():
            captured = [
                _Captured(function, args, num_warmup_iters) for function, args in zip(functions, arguments, strict=True)
            ]
    finally:
        set_stream(before)
    before.wait_stream(stream)
    with fx.enable_grad():
        for each in captured:
            each.capture_forward(pool, stream)
        for each in reversed(captured):
            each.capture_backward(pool, stream)
    made = []
    for function, each in zip(functions, captured, strict=True):
        graphed = each.callable()
        if isinstance(function, fx.nn.Module):
            graphed = _as_module(function, graphed)
        made.append(graphed)
    return made[0] if single else tuple(made)


def _as_module(module, graphed):
    eager, training = module.forward, module.training

    def forward(*args):
        return graphed(*args) if module.training == training else eager(*args)

    module.forward = forward
    return module
