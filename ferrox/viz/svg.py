"""The graph as a picture: SVG, and a page to look at in a browser, without any outside program."""

import html

from ferrox.viz.formats import COLOURS
from ferrox.viz.layout import layered
from ferrox.viz.model import picture_of

__all__ = ["to_html", "to_svg"]

_LINE, _PAD, _MARGIN = 15.0, 9.0, 18.0
_CHARACTER = 6.5        # mean width of a character at 11 px
_LEGEND = (("leaf", "leaf, requires grad"), ("operator", "operator"), ("output", "output"), ("constant", "no grad"))


def _size(vertex):
    lines = vertex.lines()
    width = max(len(line) * _CHARACTER * (1.08 if k == 0 else 0.92) for k, line in enumerate(lines)) + 2 * _PAD
    return max(width, 58.0), len(lines) * _LINE + _PAD


def _curve(points):
    """A smooth line through points, vertical where it leaves and arrives."""
    (x, y), *rest = points
    parts = [f"M{x:.1f} {y:.1f}"]
    for nx, ny in rest:
        middle = (y + ny) / 2
        parts.append(f"C{x:.1f} {middle:.1f} {nx:.1f} {middle:.1f} {nx:.1f} {ny:.1f}")
        x, y = nx, ny
    return "".join(parts)


def _box(vertex, x, y, width, height):
    fill, border = COLOURS[vertex.kind]
    radius = 5 if vertex.kind in ("operator", "output") else height / 2 if height < 40 else 16
    dashes = ' stroke-dasharray="4 3"' if vertex.kind == "more" else ""
    title = vertex.lines()
    if vertex.saved:
        title = [*title, f"keeps {vertex.saved} bytes for its gradient"]
    parts = [f'<g class="node" data-id="{vertex.id}"><title>{html.escape(chr(10).join(title))}</title>',
             f'<rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" '
             f'rx="{radius:.0f}" fill="{fill}" stroke="{border}" stroke-width="1.3"{dashes}/>']
    lines = vertex.lines()
    top = y - len(lines) * _LINE / 2 + _LINE * 0.72
    for k, line in enumerate(lines):
        style = 'font-weight="600" font-size="11.5" fill="#1c1c1c"' if k == 0 else 'font-size="10" fill="#555555"'
        parts.append(f'<text x="{x:.1f}" y="{top + k * _LINE:.1f}" text-anchor="middle" {style}>'
                     f'{html.escape(line)}</text>')
    parts.append("</g>")
    return "".join(parts)


def _legend(picture, y):
    parts, x = [], _MARGIN
    present = {vertex.kind for vertex in picture.vertices}
    for kind, text in _LEGEND:
        if kind in present:
            fill, border = COLOURS[kind]
            parts.append(f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="12" height="12" rx="3" '
                         f'fill="{fill}" stroke="{border}"/>'
                         f'<text x="{x + 17:.1f}" y="{y + 1:.1f}" font-size="10" fill="#555555">{text}</text>')
            x += 17 + len(text) * 5.4 + 20
    return "".join(parts), x


def to_svg(tensors, params=None, *, max_nodes=1000, constants=True):
    """The graph as an SVG picture.

    Parameters
    ----------
    tensors, params, max_nodes, constants
        As for `picture_of`.

    Returns
    -------
    str

    Examples
    --------
    >>> import ferrox as fx
    >>> x = fx.ones(3, requires_grad=True)
    >>> fx.viz.to_svg((x * x).sum(), {"x": x})[:4]
    '<svg'
    """
    picture = picture_of(tensors, params, max_nodes, constants)
    sizes = [_size(vertex) for vertex in picture.vertices]
    centres, paths, (width, height) = layered(sizes, [(e.source, e.target) for e in picture.edges])
    legend, legend_width = _legend(picture, height + _MARGIN + 30)
    width, height = max(width + 2 * _MARGIN, legend_width), height + _MARGIN + 46
    drawn = max((x + s[0] / 2 for (x, _), s in zip(centres, sizes, strict=True)), default=0)
    indent = max((width - drawn) / 2, _MARGIN)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
             f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif">',
             '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7.2" refY="4" markerWidth="7" markerHeight="7" '
             'orient="auto"><path d="M0 0.6L8 4L0 7.4z" fill="#777777"/></marker></defs>',
             f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
             f'<g transform="translate({indent:.1f} {_MARGIN:.0f})">']
    for edge, points in zip(picture.edges, paths, strict=False):
        parts.append(f'<path class="edge" data-from="{edge.source}" data-to="{edge.target}" d="{_curve(points)}" '
                     'fill="none" stroke="#777777" stroke-width="1.2" marker-end="url(#arrow)"/>')
        if edge.output:
            x, y = points[0]
            parts.append(f'<text x="{x + 5:.1f}" y="{y + 12:.1f}" font-size="9" fill="#777777">'
                         f'output {edge.output}</text>')
    for vertex, (x, y), (w, h) in zip(picture.vertices, centres, sizes, strict=False):
        parts.append(_box(vertex, x, y, w, h))
    parts += ["</g>", legend, "</svg>"]
    return "\n".join(parts)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ margin: 0; font: 14px Helvetica, Arial, sans-serif; background: #f6f6f6; color: #222; }}
header {{ padding: 10px 16px; background: #fff; border-bottom: 1px solid #ddd; }}
header b {{ margin-right: 1em; }} header span {{ color: #666; }}
#view {{ position: absolute; top: 42px; bottom: 0; left: 0; right: 0; overflow: hidden; cursor: grab; }}
#view svg {{ transform-origin: 0 0; }}
.faded {{ opacity: 0.18; }}
</style></head><body>
<header><b>{title}</b>
<span>{summary}; drag to move, wheel to zoom, click an operator to see what it depends on</span></header>
<div id="view">
{svg}
</div>
<script>
const view = document.getElementById("view"), svg = view.querySelector("svg");
let scale = 1, x = Math.max(0, (view.clientWidth - svg.clientWidth) / 2), y = 10, held = null, moved = false;
const place = () => svg.style.transform = `translate(${{x}}px, ${{y}}px) scale(${{scale}})`;
view.addEventListener("wheel", e => {{
  const by = Math.exp(-e.deltaY / 500), box = view.getBoundingClientRect();
  const px = e.clientX - box.x, py = e.clientY - box.y;
  x = px - (px - x) * by; y = py - (py - y) * by; scale *= by; place(); e.preventDefault();
}}, {{ passive: false }});
view.addEventListener("mousedown", e => {{ held = [e.clientX - x, e.clientY - y]; moved = false; }});
window.addEventListener("mousemove", e => {{
  if (!held) return;
  x = e.clientX - held[0]; y = e.clientY - held[1]; moved = true; place();
}});
window.addEventListener("mouseup", () => held = null);
const nodes = [...svg.querySelectorAll(".node")], edges = [...svg.querySelectorAll(".edge")];
const show = ids => {{
  nodes.forEach(n => n.classList.toggle("faded", ids && !ids.has(n.dataset.id)));
  edges.forEach(e => e.classList.toggle("faded", ids && !(ids.has(e.dataset.from) && ids.has(e.dataset.to))));
}};
view.addEventListener("click", event => {{
  if (moved) return;
  const node = event.target.closest(".node");
  if (!node) return show(null);
  const ids = new Set([node.dataset.id]), queue = [node.dataset.id];
  while (queue.length) {{
    const at = queue.pop();
    for (const e of edges) {{
      if (e.dataset.to === at && !ids.has(e.dataset.from)) {{ ids.add(e.dataset.from); queue.push(e.dataset.from); }}
    }}
  }}
  show(ids);
}});
place();
</script></body></html>
"""


def to_html(tensors, params=None, *, max_nodes=1000, constants=True, title="Computational graph"):
    """The graph as a self-contained page: the picture of `to_svg`, to move, zoom and trace.

    Returns
    -------
    str
    """
    import ferrox as fx
    from ferrox.viz.model import _roots

    stats = fx.graph_stats(*_roots(tensors))
    summary = f"{stats['nodes']} operators, {stats['leaves']} leaves, {stats['bytes']} bytes kept for gradients"
    svg = to_svg(tensors, params, max_nodes=max_nodes, constants=constants)
    return _PAGE.format(title=html.escape(title), summary=summary, svg=svg)
