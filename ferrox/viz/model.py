"""The graph behind a tensor as plain vertices and edges, for every format of this package."""

import ferrox as fx
from ferrox._core.graph.node import Node

__all__ = ["Edge", "Picture", "Vertex", "picture_of"]


class Vertex:
    """One box: an operator, a leaf tensor, a constant, or what was cut off.

    Attributes
    ----------
    id : int
        Numbered so that inputs come before what is computed from them.
    kind : {"operator", "output", "leaf", "constant", "more"}
        "output" is an operator that made one of the given tensors.
    name : str
        The operator, or the name of a leaf.
    shape : tuple or None
    dtype : str
    requires_grad : bool
    saved : int
        Bytes kept for the gradient.
    device : str
    """

    __slots__ = ("device", "dtype", "id", "kind", "name", "requires_grad", "saved", "shape")

    def __init__(self, kind, name, shape, dtype, requires_grad, saved=0, device="cpu"):
        self.id = -1
        self.kind, self.name, self.shape, self.dtype = kind, name, shape, dtype
        self.requires_grad, self.saved, self.device = requires_grad, saved, str(device)

    def what(self):
        """Shape and dtype, and the device where it is not the CPU."""
        return f"{self.shape} {self.dtype}" + ("" if self.device == "cpu" else f" {self.device}")

    def lines(self):
        """What stands in the box, line by line."""
        if self.kind == "more":
            return [self.name]
        what = f"#{self.id} {self.name}"
        if self.shape is None:
            return [what]
        return [what, self.what(), "requires grad" if self.requires_grad else "no grad"]


class Edge:
    """A value that flows from `source` to `target` (ids), as input number `position`; output number of its source."""

    __slots__ = ("output", "position", "source", "target")

    def __init__(self, source, target, position, output):
        self.source, self.target, self.position, self.output = source, target, position, output


class Picture:
    """Vertices and edges, inputs first."""

    def __init__(self, vertices, edges):
        self.vertices, self.edges = vertices, edges

    def inputs(self):
        """For each vertex, the edges that come in, in the order of the operator's inputs."""
        table = [[] for _ in self.vertices]
        for edge in self.edges:
            table[edge.target].append(edge)
        for edges in table:
            edges.sort(key=lambda e: e.position)
        return table


def _dtype_name(value):
    return str(value).rpartition(".")[2]


def _named(params):
    """id -> name from a dict, pairs, or a module."""
    if params is None:
        return {}
    if hasattr(params, "named_parameters"):
        params = params.named_parameters()
    elif isinstance(params, dict):
        params = params.items()
    return {id(tensor): str(name) for name, tensor in params}


def _roots(tensors):
    if isinstance(tensors, dict):
        return list(tensors.values())
    if isinstance(tensors, fx.Tensor):
        return [tensors]
    tensors = list(tensors)
    for each in tensors:
        if not isinstance(each, fx.Tensor):
            raise TypeError(f"[viz] expected tensors, got {type(each).__name__}")
    return tensors


def _kept_bytes(node):
    """Bytes that a node keeps for its gradient, other than what leaves hold anyway."""
    leaves = {target.data_ptr() for target, _ in node.next_functions if isinstance(target, fx.Tensor)}
    return sum(value.nbytes for value in node.saved_values.values()
               if isinstance(value, fx.Tensor) and value.data_ptr() not in leaves)


class _Collector:
    def __init__(self, names, max_nodes, constants):
        self.names, self.max_nodes, self.constants = names, max_nodes, constants
        self.vertices, self.edges, self.known, self.keep = [], [], {}, []
        self.cut = None

    def add(self, vertex):
        vertex.id = len(self.vertices)
        self.vertices.append(vertex)
        return vertex.id

    def leaf(self, tensor):
        key = id(tensor)
        if key not in self.known:
            kind = "leaf" if tensor.requires_grad else "constant"
            self.known[key] = self.add(Vertex(kind, self.names.get(key, "leaf"), tuple(tensor.shape),
                                              _dtype_name(tensor.dtype), tensor.requires_grad, device=tensor.device))
            self.keep.append(tensor)    # its id must stay its own
        return self.known[key]

    def constant(self, value):
        """An input without gradient, known because it was saved."""
        if not isinstance(value, fx.Tensor):
            return self.add(Vertex("constant", repr(value), None, type(value).__name__, False))
        key = id(value)
        if key not in self.known:
            self.known[key] = self.add(Vertex("constant", self.names.get(key, "constant"), tuple(value.shape),
                                              _dtype_name(value.dtype), False, device=value.device))
            self.keep.append(value)
        return self.known[key]

    def within(self, roots):
        """The nodes to show: breadth first from the outputs, up to max_nodes."""
        shown, frontier = set(), [each.grad_fn for each in roots if each.grad_fn is not None]
        while frontier and len(shown) < self.max_nodes:
            following = []
            for node in frontier:
                if node not in shown and len(shown) < self.max_nodes:
                    shown.add(node)
                    following.extend(target for target, _ in node.next_functions if isinstance(target, Node))
            frontier = following
        return shown

    def collect(self, roots):
        shown = self.within(roots)
        outputs = {each.grad_fn for each in roots}
        total = fx.graph_stats(*roots)["nodes"]
        if total > len(shown):
            self.cut = self.add(Vertex("more", f"… {total - len(shown)} more operators", None, "", True))
        for root in roots:
            if root.grad_fn is None:
                self.leaf(root)
        stack = [(each.grad_fn, False) for each in reversed(roots) if each.grad_fn is not None]
        started = set()
        while stack:
            node, ready = stack.pop()
            if ready:
                self.operator(node, node in outputs, shown)
            elif node not in started:
                started.add(node)
                stack.append((node, True))
                stack.extend((target, False) for target, _ in reversed(node.next_functions)
                             if isinstance(target, Node) and target in shown and target not in started)
        return Picture(self.vertices, self.edges)

    def operator(self, node, is_output, shown):
        sources = []
        saved = node.saved_values if self.constants else {}
        for position, (target, output) in enumerate(node.next_functions):
            if target is None:
                value = saved.get(f"input {position}")
                if value is not None:
                    sources.append((self.constant(value), position, 0))
            elif isinstance(target, Node):
                sources.append((self.known[target] if target in shown else self.cut, position, output))
            else:
                sources.append((self.leaf(target), position, 0))
        kind = "output" if is_output else "operator"
        vertex = Vertex(kind, node.name(), node.shape, node.dtype, True, _kept_bytes(node), node.device)
        self.known[node] = self.add(vertex)
        self.edges.extend(Edge(source, vertex.id, position, output) for source, position, output in sources)


def picture_of(tensors, params=None, max_nodes=1000, constants=True):
    """Vertices and edges of the graph behind tensors.

    Parameters
    ----------
    tensors : Tensor, sequence or dict of Tensor
        Outputs.
    params : dict, Module or pairs, optional
        Names of leaves.
    max_nodes : int
        Show this many operators, those nearest to the outputs; the others become one box.
    constants : bool
        Show inputs without gradient, where the graph has them.

    Returns
    -------
    Picture
    """
    if max_nodes < 1:
        raise ValueError(f"[viz] max_nodes must be positive, got {max_nodes}")
    return _Collector(_named(params), max_nodes, constants).collect(_roots(tensors))
