"""The trace of a profile in Chrome's format (Trace Event Format, Google 2016), as PyTorch's are laid out.

The host is a process with a row for each thread, each GPU one with a row for each stream.  Arrows lead from an operator
to its kernel, and from a forward operator to the backward of its node.
"""

import gzip
import json
import os

from ferrox.profiler.events import BACKWARD, TRANSFER, links_of, samples_of

__all__ = ["trace_of", "write"]

_GPU = 1 << 24      # pid of GPU 0: beyond those of processes


def _name(pid, text, order, tid=None):
    where = {"pid": pid, "tid": 0 if tid is None else tid, "ts": 0, "ph": "M"}
    kind = "process" if tid is None else "thread"
    return [{**where, "name": f"{kind}_name", "args": {"name": text}},
            {**where, "name": f"{kind}_sort_index", "args": {"sort_index": order}}]


def _arguments(event):
    args = {"External id": event.id}
    if event.kind == BACKWARD or not event.is_user_annotation:
        args["Sequence number"] = event.sequence_nr
    if event.kernel is not None:
        args["Kernel"] = event.kernel
    if event.dtype is not None:
        args["dtype"] = event.dtype
    if event.nbytes:
        args["Bytes"] = event.nbytes
    if event.input_shapes:
        args["Input Dims"] = [[] if each is None else list(each) for each in event.input_shapes]
        args["Input type"] = ["" if each is None else each for each in event.input_dtypes]
    if event.device_type == "cuda":
        args["Device"] = f"cuda:{event.device_index}"
    if event.stack:
        args["Call stack"] = "; ".join(event.stack)
    return args


def _span(event, pid):
    category = "user_annotation" if event.is_user_annotation else "cpu_op"
    return {"ph": "X", "cat": category, "name": event.name, "pid": pid, "tid": event.thread,
            "ts": round(event.time_range.start, 3), "dur": round(event.time_range.elapsed_us(), 3),
            "args": _arguments(event)}


def _arrow(kind, number, start, end):
    """From (pid, tid, ts) to (pid, tid, ts)."""
    flow = {"cat": kind, "name": kind, "id": number}
    return [{"ph": ph, **flow, "pid": at[0], "tid": at[1], "ts": round(at[2], 3), **more}
            for ph, at, more in (("s", start, {}), ("f", end, {"bp": "e"}))]


def _device_spans(events, pid, streams):
    """Kernels and copies on their streams, each with its arrow, and the ranges of the user around them."""
    lines, ranges = [], {}
    for event in events:
        for kernel in event.kernels:
            tid = streams.setdefault((kernel.device, kernel.stream), len(streams))
            gpu, span = _GPU + kernel.device, kernel.time_range
            lines.append({
                "ph": "X", "cat": "gpu_memcpy" if event.kind == TRANSFER else "kernel", "name": kernel.name, "pid": gpu,
                "tid": tid, "ts": round(span.start, 3), "dur": round(kernel.duration, 3),
                "args": {"External id": event.id, "correlation": event.id, "device": kernel.device,
                         "stream": kernel.stream, "operator": event.name, "Bytes": event.nbytes},
            })
            lines += _arrow("ac2g", event.id, (pid, event.thread, event.time_range.start), (gpu, tid, span.start))
            around = event.cpu_parent
            while around is not None:
                if around.is_user_annotation:
                    first, last = ranges.get((around.id, gpu, tid), (span.start, span.end))
                    ranges[around.id, gpu, tid] = min(first, span.start), max(last, span.end)
                around = around.cpu_parent
    for (number, gpu, tid), (first, last) in ranges.items():
        lines.append({"ph": "X", "cat": "gpu_user_annotation", "name": events[number].name, "pid": gpu, "tid": tid,
                      "ts": round(first, 3), "dur": round(last - first, 3), "args": {"External id": number}})
    return lines


def _counters(events, pid):
    lines, before = [], {}
    for which in ("_host", "_device"):
        for at, in_use, _, _, _, device in samples_of(events, which):
            name = "CPU memory" if which == "_host" else f"GPU {device} memory"
            if in_use != before.get(name):
                lines.append({"ph": "C", "name": name, "pid": pid, "tid": 0, "ts": round(at, 3),
                              "args": {"bytes in use": in_use}})
            before[name] = in_use
    return lines


def trace_of(events, epoch, metadata):
    """The trace as a dict, to be written as JSON.

    Parameters
    ----------
    events : EventList
    epoch : int
        Nanoseconds of Unix time at which the profile began: its timestamps are microseconds since.
    metadata : dict
        Further keys.
    """
    pid, streams = os.getpid(), {}
    threads = list(dict.fromkeys(event.thread for event in events))
    lines = [_span(event, pid) for event in events]
    lines += _device_spans(events, pid, streams)
    links = links_of(events)
    for number, (forward, backward) in enumerate(links, len(events)):
        lines += _arrow("fwdbwd", number, (pid, forward.thread, forward.time_range.start),
                        (pid, backward.thread, backward.time_range.start))
    lines += _counters(events, pid)
    names = _name(pid, "python: CPU", 0)
    for order, thread in enumerate(threads):
        names += _name(pid, f"thread {thread}" + (" (main)" if thread == pid else ""), order, thread)
    for device in sorted({device for device, _ in streams}):
        names += _name(_GPU + device, f"GPU {device}", 1 + device)
    for (device, stream), tid in streams.items():
        names += _name(_GPU + device, f"stream {stream:#x}" if stream else "default stream", tid, tid)
    return {"schemaVersion": 1, "displayTimeUnit": "ms", "baseTimeNanoseconds": epoch, **metadata,
            "traceEvents": names + lines}


def write(path, content):
    """Write JSON, compressed where the path ends in .gz."""
    opener = gzip.open if os.fspath(path).endswith(".gz") else open
    with opener(path, "wt", encoding="utf-8") as file:
        json.dump(content, file)
