"""Seeing the graph: DOT, Mermaid, JSON, a tree for the terminal, and pictures that need no other program.

Examples
--------
>>> import ferrox as fx
>>> w = fx.ones(2, requires_grad=True)
>>> print(fx.viz.to_text((w * 3.0).sum(), {"w": w}, constants=False))
sum #2  () float32
mul #1  (2,) float32
w #0  (2,) float32, leaf
"""

import os

from ferrox.viz.formats import to_dot, to_json, to_mermaid, to_text
from ferrox.viz.model import Edge, Picture, Vertex, picture_of
from ferrox.viz.svg import to_html, to_svg

__all__ = ["Edge", "Picture", "Vertex", "picture_of", "save", "to_dot", "to_html", "to_json", "to_mermaid", "to_svg",
           "to_text"]

_BY_SUFFIX = {".dot": to_dot, ".gv": to_dot, ".mmd": to_mermaid, ".mermaid": to_mermaid, ".json": to_json,
              ".txt": to_text, ".svg": to_svg, ".html": to_html, ".htm": to_html}


def save(tensors, path, params=None, **options):
    """Write the graph to a file, in the format its suffix names.

    Parameters
    ----------
    tensors, params
        As for `picture_of`.
    path : str or path
        Ends in .dot, .gv, .mmd, .mermaid, .json, .txt, .svg, .html or .htm.
    **options
        Of the format's function, such as `max_nodes`.

    Returns
    -------
    The path.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in _BY_SUFFIX:
        raise ValueError(f"[viz.save] the suffix {suffix!r} names no format; known are {', '.join(_BY_SUFFIX)}")
    text = _BY_SUFFIX[suffix](tensors, params, **options)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    return path
