"""Memory in use over time, as numbers and as a picture."""

import html
import os

from ferrox.profiler.events import USER, samples_of
from ferrox.profiler.tables import duration, size
from ferrox.profiler.trace import write as write_json

__all__ = ["timeline", "to_html", "write"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _BAND = 1000.0, 320.0, 80.0, 24.0, 20.0
_COLOURS = ("#dbe9fb", "#d9f2df", "#fff3d6", "#f3dff5")
_MOST_STEPS = 4000      # beyond, the picture keeps the highest point of each of so many pieces


def timeline(events, device=None):
    """``{"device", "times", "bytes", "events"}``: bytes in use at each beginning and end of an event."""
    if device is None:
        used = [event.device for event in events if event.device is not None and event.device >= 0]
        device = f"cuda:{used[0]}" if used else "cpu"
    kind, _, index = str(device).partition(":")
    which = "_host" if kind == "cpu" else "_device"
    points = []
    for at, in_use, _, event, ended, place in samples_of(events, which):
        if place != int(index or 0):
            continue
        if not points or points[-1][1] != in_use:
            points.append((round(at, 3), in_use, ("end of " if ended else "") + event.name))
    return {"device": str(device), "times": [each[0] for each in points], "bytes": [each[1] for each in points],
            "events": [each[2] for each in points]}


def _bands(events, scale):
    """The user's ranges, those within others below them."""
    parts, shown = [], [event for event in events if event.is_user_annotation]
    for k, event in enumerate(shown):
        level, around = 0, event.cpu_parent
        while around is not None:
            level += around.is_user_annotation
            around = around.cpu_parent
        x, width = scale(event.time_range.start), max(event.time_range.elapsed_us() * scale.slope, 0.5)
        y = _TOP + _HEIGHT + 28 + level * (_BAND + 2)
        colour = _COLOURS[(k if event.kind == USER else 0) % len(_COLOURS)]
        said = html.escape(f"{event.name}: {duration(event.time_range.elapsed_us())}, "
                           f"{size(event.cpu_memory_usage)} of the CPU, {size(event.device_memory_usage)} of the GPU")
        parts.append(f'<g><title>{said}</title><rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BAND}" '
                     f'fill="{colour}" stroke="#999999" stroke-width="0.5"/>')
        room = int(width / 6.2)
        if room > 3:
            text = event.name if len(event.name) <= room else event.name[: room - 1] + "…"
            parts.append(f'<text x="{x + 3:.1f}" y="{y + 14:.1f}" font-size="10">{html.escape(text)}</text>')
        parts.append("</g>")
    return parts


class _Scale:
    def __init__(self, first, last):
        self.first, self.slope = first, _WIDTH / max(last - first, 1e-9)

    def __call__(self, value):
        return _LEFT + (value - self.first) * self.slope


def _thinned(points):
    if len(points) <= _MOST_STEPS:
        return points
    piece = -(-len(points) // _MOST_STEPS)
    return [max(points[k:k + piece], key=lambda each: each[1]) for k in range(0, len(points), piece)]


def to_html(events, device=None):
    """A page with the picture: bytes in use as steps, the peak marked, the user's ranges below."""
    found = timeline(events, device)
    points = list(zip(found["times"], found["bytes"], found["events"], strict=True))
    title = f"Memory in use on {found['device']}"
    if not points:
        return _PAGE.format(title=html.escape(title), said="Nothing was recorded.", svg="")
    last = max([event.time_range.end for event in events] + [points[-1][0]])
    scale, peak = _Scale(min(points[0][0], events[0].time_range.start), last), max(points, key=lambda each: each[1])
    top = max(peak[1], 1)

    def height(count):
        return _TOP + _HEIGHT * (1 - count / top)

    steps = [f"M{scale(points[0][0]):.1f} {_TOP + _HEIGHT:.1f}"]
    for at, count, _ in _thinned(points):
        steps.append(f"H{scale(at):.1f}V{height(count):.1f}")
    steps.append(f"H{scale(last):.1f}V{_TOP + _HEIGHT:.1f}Z")
    parts = []
    for k in range(5):
        y = height(top * k / 4)
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>'
                     f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" font-size="10">'
                     f'{size(round(top * k / 4))}</text>')
        at = scale.first + (last - scale.first) * k / 4
        parts.append(f'<text x="{scale(at):.1f}" y="{_TOP + _HEIGHT + 16:.1f}" text-anchor="middle" font-size="10">'
                     f'{duration(at)}</text>')
    parts.append(f'<path d="{"".join(steps)}" fill="#9dc3ee" fill-opacity="0.6" stroke="#2f6fb7" stroke-width="1"/>')
    parts.append(f'<circle cx="{scale(peak[0]):.1f}" cy="{height(peak[1]):.1f}" r="3.5" fill="#c0392b">'
                 f'<title>{html.escape(f"{size(peak[1])} at {duration(peak[0])}, {peak[2]}")}</title></circle>')
    bands = _bands(events, scale)
    depth = max([float(part.split(' y="')[1].split('"')[0]) for part in bands if "<rect" in part],
                default=_TOP + _HEIGHT)
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 40:.0f}" height="{depth + 50:.0f}" '
           'font-family="Helvetica, Arial, sans-serif">' + "\n".join(parts + bands) + "</svg>")
    said = f"Peak {size(peak[1])} at {duration(peak[0])} ({peak[2]}); {size(points[-1][1])} at the end."
    return _PAGE.format(title=html.escape(title), said=html.escape(said), svg=svg)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ margin: 16px; font: 14px Helvetica, Arial, sans-serif; color: #222222; }}</style></head>
<body><h3>{title}</h3>
<p>{said}</p>
{svg}
</body></html>
"""


def write(path, events, device=None):
    """Write the timeline in the format that the path's suffix names."""
    name = os.fspath(path)
    if name.endswith((".json", ".json.gz")):
        write_json(path, timeline(events, device))
    elif name.endswith((".html", ".htm")):
        with open(path, "w", encoding="utf-8") as file:
            file.write(to_html(events, device))
    else:
        raise ValueError(f"[export_memory_timeline] the path ends in .html, .json or .json.gz; got {name!r}")
