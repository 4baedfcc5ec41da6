"""A table of events or of their averages."""

__all__ = ["table"]

_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}
_SORTS = {"cpu_time", "cpu_time_total", "self_cpu_time_total", "device_time", "device_time_total",
          "self_device_time_total", "cpu_memory_usage", "self_cpu_memory_usage", "device_memory_usage",
          "self_device_memory_usage", "count"}


def duration(microseconds, unit=None):
    """"1.234ms"."""
    if unit is None:
        unit = "s" if abs(microseconds) >= 1e6 else "ms" if abs(microseconds) >= 1e3 else "us"
    return f"{microseconds / _UNITS[unit]:.3f}{unit}"


def size(count):
    """"1.50 KB"; of 1024."""
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if abs(count) >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count} B"


def share(part, whole):
    """"12.34%"."""
    return f"{100 * part / whole:.2f}%" if whole else "--"


def cut(text, width):
    return text if width is None or len(text) <= width else text[: max(width - 3, 0)] + "..."


def _columns(events, cpu_total, device_total, unit, shapes_width, source_width):
    """Heads, and a function of an event that gives the text below each."""
    def time(name):
        return lambda event: duration(getattr(event, name), unit)

    def memory(name):
        return lambda event: size(getattr(event, name))

    columns = [
        ("Self CPU %", lambda event: share(event.self_cpu_time_total, cpu_total)),
        ("Self CPU", time("self_cpu_time_total")),
        ("CPU total %", lambda event: share(event.cpu_time_total, cpu_total)),
        ("CPU total", time("cpu_time_total")),
        ("CPU time avg", time("cpu_time")),
    ]
    if events.with_device:
        columns += [
            ("Self CUDA", time("self_device_time_total")),
            ("Self CUDA %", lambda event: share(event.self_device_time_total, device_total)),
            ("CUDA total", time("device_time_total")),
            ("CUDA time avg", time("device_time")),
        ]
    if events.with_memory:
        columns += [("CPU Mem", memory("cpu_memory_usage")), ("Self CPU Mem", memory("self_cpu_memory_usage"))]
        if events.with_device:
            columns += [("CUDA Mem", memory("device_memory_usage")),
                        ("Self CUDA Mem", memory("self_device_memory_usage"))]
    columns.append(("# of Calls", lambda event: str(event.count)))
    if any(event.input_shapes for event in events):
        columns.append(("Input Shapes", lambda event: cut(
            str([None if each is None else list(each) for each in event.input_shapes]), shapes_width)))
    if any(event.stack for event in events):
        columns.append(("Source Location", lambda event: cut(event.stack[0] if event.stack else "", source_width)))
    return columns


def table(events, sort_by, row_limit, source_width, name_width, shapes_width, header, top_level, unit):
    """See `EventList.table`."""
    if unit is not None and unit not in _UNITS:
        raise ValueError(f"[table] time_unit is one of us, ms, s; got {unit!r}")
    rows = list(events)
    if top_level:
        rows = [event for event in rows if getattr(event, "cpu_parent", None) is None]
    if sort_by is not None:
        name = sort_by.replace("cuda", "device")
        if name not in _SORTS:
            raise ValueError(f"[table] sort_by is one of {', '.join(sorted(_SORTS))}; got {sort_by!r}")
        rows.sort(key=lambda event: getattr(event, name), reverse=True)
    cpu_total = sum(event.self_cpu_time_total for event in events)
    device_total = sum(event.self_device_time_total for event in events)
    columns = _columns(events, cpu_total, device_total, unit, shapes_width, source_width)
    lines = [[cut(event.key, name_width), *(text(event) for _, text in columns)]
             for event in (rows if row_limit < 0 else rows[:row_limit])]
    heads = ["Name", *(head for head, _ in columns)]
    widths = [max(len(line[k]) for line in [heads, *lines]) for k in range(len(heads))]
    left = {0} | {k for k, head in enumerate(heads) if head in ("Input Shapes", "Source Location")}

    def row(cells):
        return "  ".join(cell.ljust(width) if k in left else cell.rjust(width)
                         for k, (cell, width) in enumerate(zip(cells, widths, strict=True))).rstrip()

    rule = "  ".join("-" * width for width in widths)
    text = [rule, row(heads), rule, *(row(line) for line in lines), rule]
    if header is not None:
        text.insert(0, header)
    text.append(f"Self CPU time total: {duration(cpu_total, unit)}")
    if events.with_device:
        text.append(f"Self CUDA time total: {duration(device_total, unit)}")
    return "\n".join(text) + "\n"
