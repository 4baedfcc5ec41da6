"""The manager of ``device="auto"``: what it knows of this machine, what it decided, and why.

A tensor of this device has no fixed place.  The manager runs each call where it will be done first, on the CPU or on
the GPU, counting what has to be copied; what both read lies on both.  Where there is no GPU everything runs on the CPU,
and the same program works.

How long calls and copies take is measured when ``device="auto"`` is first used, within a few seconds, and kept in a
file (`cache_file`) for the next process.  Which side computes can change the last bits of a result; with the same
figures and the same program the same side does.  Work on the GPU is given to the thread's current stream there.

Examples
--------
>>> import ferrox as fx
>>> x = fx.rand(3, 4, device="auto", requires_grad=True)
>>> loss = (x @ x.mT).sum()
>>> loss.backward()
>>> x.grad.device
device(type='auto')
>>> fx.backends.explain()  # doctest: +ELLIPSIS
device="auto": the CPU ...
"""
import importlib
import sys
import threading
from typing import NamedTuple

from ferrox._core.door import placement as _placement
from ferrox._core.memory import residence as _residence
from ferrox.backends._calibration import Calibration, cache_file, load, machine, measure, store

__all__ = [
    "Calibration", "Decision", "Statistics", "cache_file", "calibrate", "calibration", "decisions", "explain",
    "machine", "reset", "resides", "set_calibration", "statistics",
]

_lock = threading.Lock()
_opened = False
_missing = ""           # why there is no GPU
_calibration = None


class Decision(NamedTuple):
    """Where one call ran; pairs are of the CPU and the GPU, in predicted seconds."""

    operator: str
    kernel: str
    side: str           #: "cpu" or "cuda"
    run: tuple          #: the kernel itself
    copies: tuple       #: bringing the operands that lie on the other side alone
    waits: tuple        #: until that side could begin
    credit: tuple       #: how much of the copies had been paid for by calls before
    reason: str         #: what decided, where it was not the estimate; otherwise empty

    @property
    def finish(self):
        """When either side would have been done: a pair of seconds from the call."""
        return tuple(
            wait + max(0.0, copy - credit) + run
            for wait, copy, credit, run in zip(self.waits, self.copies, self.credit, self.run, strict=True)
        )

    def __str__(self):
        if self.reason:
            return f"{self.operator}: {self.side}, since {self.reason}"
        told = [f"{side} {_time(finish)}" + _parts(self, i)
                for i, (side, finish) in enumerate(zip(("cpu", "cuda"), self.finish, strict=True))]
        chosen, other = told if self.side == "cpu" else reversed(told)
        return f"{self.operator}: {chosen}; {other}"


class Statistics(NamedTuple):
    """What has happened since the start or `reset`."""

    calls: dict         #: ``{kernel: (on the CPU, on the GPU)}``
    copies: tuple       #: copies (to the CPU, to the GPU)
    copied_bytes: tuple     #: their bytes
    evicted_bytes: int      #: copies given up on the GPU because its memory was full


def _time(seconds):
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _size(count):
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.3g} {unit}"
        count /= 1000
    return ""


def _parts(decision, side):
    parts = []
    if decision.waits[side] >= 1e-6:
        parts.append(f"waiting {_time(decision.waits[side])}")
    if decision.copies[side]:
        parts.append(f"copying {_time(decision.copies[side])}")
        if decision.credit[side]:
            parts.append(f"paid for {_time(min(decision.credit[side], decision.copies[side]))}")
    return f" ({', '.join(parts)})" if parts else ""


def open_manager():
    """Find the GPU, read or measure what things cost, and begin to manage; once.  Any use of ``device="auto"`` does."""
    global _opened, _missing
    with _lock:
        if _opened:
            return
        from ferrox import cuda

        _missing = cuda.why_not()
        index = -1
        if not _missing:
            importlib.import_module("ferrox._core.cuda.backend")
            index = cuda.current_device()
            set_calibration(load() or calibrate())
        _placement.opened(index)
        _opened = True


def calibrate(**sizes):
    """Measure calls and copies anew, use the figures, and keep them for later processes; takes a few seconds.

    Parameters
    ----------
    **sizes : int
        Elements of the measured arrays by kind of kernel, or of the copies (``link``); see
        `ferrox.backends.auto.Calibration`.

    Returns
    -------
    Calibration
        RuntimeError where there is no GPU.
    """
    from ferrox import cuda

    if cuda.why_not():
        raise RuntimeError(f"[calibrate] there is nothing to weigh without a GPU: {cuda.why_not()}")
    found = measure(**sizes)
    store(found)
    set_calibration(found)
    return found


def set_calibration(calibration):
    """Decide by given figures from now on; begins the clocks and the list of decisions anew."""
    global _calibration
    if not isinstance(calibration, Calibration):
        raise TypeError(f"[set_calibration] expected a Calibration, got {type(calibration).__name__}")
    _placement.set_costs(calibration.call, calibration.unit, calibration.link, calibration.byte, calibration.submit)
    _calibration = calibration


def calibration():
    """The figures that decisions are made by; None before they are needed, or without a GPU."""
    return _calibration


def decisions(last=None):
    """The newest decisions (of up to 4096 kept), oldest first, as a list of `Decision`."""
    return [Decision(*found) for found in _placement.decisions(last)]


def statistics():
    """Calls and copies so far, as `Statistics`."""
    return Statistics(_placement.calls(), *_residence.counts())


def reset():
    """Forget decisions and statistics, and set the clocks of the model to zero."""
    _placement.restart()
    _residence.forget_counts()


def resides(tensor):
    """Where the values of a tensor on device "auto" are: "cpu", "cuda", "both", or "nowhere" before the first write."""
    return _residence.sides(tensor.data_ptr())


def _head():
    if not _opened:
        return ['device="auto" has not been used yet']
    if _missing:
        return [f'device="auto": the CPU alone, since {_missing}']
    found = _calibration
    lines = [f'device="auto": the CPU and the GPU of {found.machine}, measured {found.measured}', ""]
    lines.append(f"{'':24}{'cpu':>12}{'cuda':>12}")
    lines.append(f"{'a call':24}" + "".join(f"{_time(seconds):>12}" for seconds in found.call))
    for kind, unit in found.unit.items():
        what = "multiply-adds" if kind in ("product", "attention") else "elements"
        rates = "".join(f"{1e-9 / max(seconds, 1e-15):>10.3g} G" for seconds in unit)
        lines.append(f"{kind:24}{rates}  {what}/s")
    lines.append(f"{'a copy to it':24}" + "".join(f"{_time(seconds):>12}" for seconds in found.link))
    rates = "".join(f"{1e-9 / max(seconds, 1e-15):>10.3g} G" for seconds in found.byte)
    lines.append(f"{'':24}{rates}  bytes/s")
    return lines


def explain(last=10, file=None):
    """Print what ``device="auto"`` decided and why: the figures it goes by, what ran and was copied, recent decisions.

    Parameters
    ----------
    last : int
        How many decisions to print, the newest last.
    file : file, optional
        Where to print; standard output by default.

    Examples
    --------
    >>> import ferrox as fx
    >>> _ = fx.ones(3, device="auto") + 1
    >>> fx.backends.explain(last=0)  # doctest: +ELLIPSIS
    device="auto": the CPU ...
    """
    lines = _head()
    done = statistics()
    if done.calls:
        on = [sum(count[side] for count in done.calls.values()) for side in (0, 1)]
        copied = [f"{_size(done.copied_bytes[side])} to the {name} in {done.copies[side]} copies"
                  for side, name in ((1, "GPU"), (0, "CPU"))]
        lines += ["", f"calls: {on[0]} on the CPU, {on[1]} on the GPU; copied {copied[0]}, {copied[1]}"]
        if done.evicted_bytes:
            lines[-1] += f"; {_size(done.evicted_bytes)} given up on the GPU, which was full"
        lines += ["", f"{'kernel':24}{'cpu':>12}{'cuda':>12}"]
        for name, count in sorted(done.calls.items(), key=lambda pair: -sum(pair[1])):
            lines.append(f"{name:24}{count[0]:>12}{count[1]:>12}")
    newest = decisions(last)
    if newest:
        lines += ["", "the last decisions, with predicted times:"]
        lines += [f"  {decision}" for decision in newest]
    print("\n".join(lines), file=sys.stdout if file is None else file)
