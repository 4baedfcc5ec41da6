"""The graph as text: DOT, Mermaid, JSON, and a tree for the terminal."""

import json
import os

from ferrox.viz.model import picture_of

__all__ = ["COLOURS", "to_dot", "to_json", "to_mermaid", "to_text"]

# fill and border, by kind of vertex: the same in every format
COLOURS = {
    "operator": ("#fff3d6", "#c98a1b"),
    "output": ("#d9f2df", "#2f8f4e"),
    "leaf": ("#dbe9fb", "#2f6fb7"),
    "constant": ("#eeeeee", "#8a8a8a"),
    "more": ("#ffffff", "#8a8a8a"),
}
_SHAPES = {"operator": "box", "output": "box", "leaf": "ellipse", "constant": "ellipse", "more": "plaintext"}


def _escape_dot(text):
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def to_dot(tensors, params=None, *, max_nodes=1000, constants=True, name="graph"):
    """The graph in Graphviz's DOT language.

    Parameters
    ----------
    tensors, params, max_nodes, constants
        As for `picture_of`.
    name : str
        Name of the digraph.

    Returns
    -------
    str

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.ones(3, requires_grad=True)
    >>> print(fx.viz.to_dot((x * x).sum(), params={"x": x}))     # doctest: +ELLIPSIS
    digraph "graph" {
    ...
      n1 -> n2;
    }
    """
    picture = picture_of(tensors, params, max_nodes, constants)
    lines = [f'digraph "{_escape_dot(name)}" {{', "  rankdir=TB;",
             '  node [fontname="Helvetica", fontsize=11, style="filled,rounded", penwidth=1.2];',
             '  edge [fontname="Helvetica", fontsize=9, color="#666666", arrowsize=0.7];']
    for vertex in picture.vertices:
        fill, border = COLOURS[vertex.kind]
        label = "\\n".join(_escape_dot(line) for line in vertex.lines())
        shape = _SHAPES[vertex.kind]
        lines.append(f'  n{vertex.id} [label="{label}", shape={shape}, fillcolor="{fill}", color="{border}"];')
    for edge in picture.edges:
        label = f' [label="output {edge.output}"]' if edge.output else ""
        lines.append(f"  n{edge.source} -> n{edge.target}{label};")
    lines.append("}")
    return "\n".join(lines)


def _escape_mermaid(text):
    for character, code in (("&", "&amp;"), ("#", "#35;"), ('"', "#quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, code)
    return text


def to_mermaid(tensors, params=None, *, max_nodes=1000, constants=True):
    """The graph as a Mermaid flowchart, which GitHub and many editors draw.

    Returns
    -------
    str

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.ones(3, requires_grad=True)
    >>> fx.viz.to_mermaid(x.exp()).splitlines()[0]
    'flowchart TB'
    """
    picture = picture_of(tensors, params, max_nodes, constants)
    lines = ["flowchart TB"]
    for vertex in picture.vertices:
        label = "<br/>".join(_escape_mermaid(line) for line in vertex.lines())
        left, right = ("[", "]") if vertex.kind in ("operator", "output") else ("([", "])")
        lines.append(f'  n{vertex.id}{left}"{label}"{right}:::{vertex.kind}')
    for edge in picture.edges:
        arrow = f"-- output {edge.output} -->" if edge.output else "-->"
        lines.append(f"  n{edge.source} {arrow} n{edge.target}")
    for kind, (fill, border) in COLOURS.items():
        if any(vertex.kind == kind for vertex in picture.vertices):
            lines.append(f"  classDef {kind} fill:{fill},stroke:{border},color:#222222")
    return "\n".join(lines)


def to_json(tensors, params=None, *, max_nodes=1000, constants=True, indent=None):
    """The graph as JSON: `{"nodes": [...], "edges": [...]}`, with the fields of `Vertex` and `Edge`.

    Returns
    -------
    str

    Examples
    --------
    >>> import ferrox as fx, json
    >>> x = fx.ones(3, requires_grad=True)
    >>> [node["name"] for node in json.loads(fx.viz.to_json(x.exp(), {"x": x}))["nodes"]]
    ['x', 'exp']
    """
    picture = picture_of(tensors, params, max_nodes, constants)
    nodes = [{"id": v.id, "kind": v.kind, "name": v.name, "shape": None if v.shape is None else list(v.shape),
              "dtype": v.dtype, "device": v.device, "requires_grad": v.requires_grad, "saved_bytes": v.saved}
             for v in picture.vertices]
    edges = [{"source": e.source, "target": e.target, "input": e.position, "output": e.output} for e in picture.edges]
    return json.dumps({"nodes": nodes, "edges": edges}, indent=indent, ensure_ascii=False)


_ANSI = {"operator": "33", "output": "1;32", "leaf": "34", "constant": "90", "more": "90"}


def to_text(tensors, params=None, *, max_nodes=200, constants=True, colour=False):
    """The graph as a tree for a terminal, outputs first; the inputs of each operator stand below it.

    A lone input stands straight below its operator; several branch off.  What is used twice is shown once, and named by
    its number the second time.

    Parameters
    ----------
    tensors, params, max_nodes, constants
        As for `picture_of`.
    colour : bool or "auto"
        Use ANSI colours; "auto" does when standard output is a terminal.

    Returns
    -------
    str

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.ones(3, requires_grad=True)
    >>> print(fx.viz.to_text((x.exp() * x).sum(), {"x": x}))
    sum #3  () float32
    mul #2  (3,) float32, keeps 12 B
    ├─ exp #1  (3,) float32, keeps 12 B
    │  x #0  (3,) float32, leaf
    └─ x #0, above
    """
    picture = picture_of(tensors, params, max_nodes, constants)
    if colour == "auto":
        import sys

        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    inputs, lines, shown = picture.inputs(), [], set()
    used = {edge.source for edge in picture.edges}
    # (vertex, prefix of its own line, prefix of what hangs below)
    stack = [(v.id, "", "") for v in picture.vertices if v.id not in used]
    while stack:
        k, own, below = stack.pop()
        vertex = picture.vertices[k]
        lines.append(own + _line(vertex, k in shown, colour))
        if k in shown:
            continue
        shown.add(k)
        edges = inputs[k]
        if len(edges) == 1:
            stack.append((edges[0].source, below, below))
            continue
        for at in range(len(edges) - 1, -1, -1):
            last = at == len(edges) - 1
            stack.append((edges[at].source, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")))
    return "\n".join(lines)


def _line(vertex, again, colour):
    name = vertex.name if vertex.kind == "more" else f"{vertex.name} #{vertex.id}"
    if colour:
        name = f"\x1b[{_ANSI[vertex.kind]}m{name}\x1b[0m"
    if vertex.kind == "more":
        return name
    if again:
        return name + ", above"
    text = name
    if vertex.shape is not None:
        text += f"  {vertex.what()}"
    if vertex.kind in ("leaf", "constant"):
        text += ", leaf" if vertex.requires_grad else ", no grad"
    if vertex.saved:
        text += f", keeps {vertex.saved} B"
    return text
