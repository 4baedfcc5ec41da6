"""What was recorded, as events in a tree, and their averages."""

import math

from ferrox.profiler.tables import table

__all__ = ["EventList", "FunctionEvent", "FunctionEventAvg", "Interval", "Kernel"]

OPERATOR, TRANSFER, BACKWARD, USER, STEP = range(5)     # as in _core/profile.pxd
_DEPRECATED = ("cuda_time", "cuda_time_total", "self_cuda_time_total", "cuda_memory_usage", "self_cuda_memory_usage")


class Interval:
    """From `start` to `end`, in microseconds."""

    __slots__ = ("end", "start")

    def __init__(self, start, end):
        self.start, self.end = start, end

    def elapsed_us(self):
        """Its length."""
        return self.end - self.start

    def __repr__(self):
        return f"Interval({self.start:.3f}, {self.end:.3f})"


class Kernel:
    """What an operator had its device do: a kernel, or a copy.

    Attributes
    ----------
    name : str
    device, stream : int
    time_range : Interval
        On the stream, by the clock of the host.
    duration : float
        Microseconds.
    """

    __slots__ = ("device", "duration", "name", "stream", "time_range")

    def __init__(self, name, device, stream, start, end):
        self.name, self.device, self.stream = name, device, stream
        self.time_range, self.duration = Interval(start, end), end - start

    def __repr__(self):
        return f"Kernel({self.name}, device={self.device}, duration={self.duration:.3f}us)"


class _Timed:
    """PyTorch's older names of device time."""

    def __getattr__(self, name):
        if name in _DEPRECATED:
            return getattr(self, name.replace("cuda", "device"))
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class FunctionEvent(_Timed):
    """One call of an operator, or one range.

    Times are microseconds since the profile began, memory is in bytes.

    Attributes
    ----------
    name, key : str
    id : int
        In the order in which events began.
    thread : int
        The system's number of it.
    time_range : Interval
        On the host.
    cpu_parent : FunctionEvent or None
    cpu_children : list of FunctionEvent
    kernels : list of Kernel
        What this call itself ran on a device.
    kernel : str or None
        The name of the kernel at the door.
    input_shapes : list of tuple
        With `record_shapes`; ``()`` for a number, None for an operand that is absent.
    input_dtypes : list of str
    dtype : str or None
        That of the arithmetic.
    nbytes : int
        Bytes of inputs and outputs.
    stack : list of str
        With `with_stack`: the caller's frames, innermost first.
    sequence_nr : int
        Of a backward range, the number of the forward's node; of an operator, that of the node made next.
    is_user_annotation : bool
        Made by `record_function`, or a step.
    is_backward : bool
        A node of a backward, or within one.
    """

    count = 1

    def __init__(self, number, fields, base):
        (self.kind, self.name, self.kernel, self.thread, self.depth, start, end, self.sequence_nr, self.nbytes,
         self.dtype, self.device, self.stream, begun, ended, shapes, self._host, self._device, stack) = fields
        self.id = number
        self.key = "ProfilerStep*" if self.name.startswith("ProfilerStep#") else self.name     # as PyTorch: one row
        self.time_range = Interval((start - base) / 1e3, (end - base) / 1e3)
        self.input_shapes = [] if shapes is None else [None if each is None else each[0] for each in shapes]
        self.input_dtypes = [] if shapes is None else [None if each is None else each[1] for each in shapes]
        self.stack = [f"{file}({line}): {function}" for file, line, function in stack]
        self.cpu_parent, self.cpu_children, self.kernels = None, [], []
        self.self_cpu_memory_usage = self.self_device_memory_usage = 0
        self.cpu_memory_usage = self.device_memory_usage = 0
        if self.device is not None and self.device >= 0 and not math.isnan(begun) and not math.isnan(ended):
            name = self.kernel or self.name
            begun, ended = (begun - base) / 1e3, (ended - base) / 1e3
            self.kernels.append(Kernel(name, self.device, self.stream, begun, max(begun, ended)))
        self.self_device_time_total = self.device_time_total = sum(each.duration for each in self.kernels)
        self.cpu_time_total = self.self_cpu_time_total = self.time_range.elapsed_us()
        self.is_backward = self.kind == BACKWARD
        self.is_user_annotation = self.kind in (USER, STEP)

    @property
    def cpu_time(self):
        """Microseconds on the host, with what it called."""
        return self.cpu_time_total

    @property
    def device_time(self):
        """Microseconds of its kernels on a device, with those of what it called."""
        return self.device_time_total

    @property
    def device_type(self):
        """"cpu" or "cuda": where the operator computed; "cpu" for ranges."""
        return "cuda" if self.device is not None and self.device >= 0 else "cpu"

    @property
    def device_index(self):
        """The GPU's number; -1 on the CPU."""
        return -1 if self.device is None else self.device

    def __repr__(self):
        return (f"<FunctionEvent id={self.id} name={self.name} cpu_time={self.cpu_time_total:.3f}us "
                f"device_time={self.device_time_total:.3f}us thread={self.thread} input_shapes={self.input_shapes}>")


class FunctionEventAvg(_Timed):
    """Sums over the events of one name (and shapes, or place)."""

    def __init__(self, event):
        self.key, self.kind = event.key, event.kind
        self.input_shapes, self.stack = event.input_shapes, event.stack
        self.is_user_annotation, self.is_backward = event.is_user_annotation, event.is_backward
        self.count = self.nbytes = 0
        self.cpu_time_total = self.self_cpu_time_total = self.device_time_total = self.self_device_time_total = 0.0
        self.cpu_memory_usage = self.self_cpu_memory_usage = 0
        self.device_memory_usage = self.self_device_memory_usage = 0

    def add(self, event):
        """Add one more event, or average."""
        self.count += event.count
        self.nbytes += event.nbytes
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(event, name))
        return self

    @property
    def cpu_time(self):
        """Mean microseconds on the host."""
        return self.cpu_time_total / self.count if self.count else 0.0

    @property
    def device_time(self):
        """Mean microseconds on a device."""
        return self.device_time_total / self.count if self.count else 0.0

    def __repr__(self):
        return (f"<FunctionEventAvg key={self.key} self_cpu_time={self.self_cpu_time_total:.3f}us "
                f"cpu_time={self.cpu_time:.3f}us self_device_time={self.self_device_time_total:.3f}us "
                f"device_time={self.device_time:.3f}us count={self.count} input_shapes={self.input_shapes}>")


_SUMS = ("cpu_time_total", "self_cpu_time_total", "device_time_total", "self_device_time_total", "cpu_memory_usage",
         "self_cpu_memory_usage", "device_memory_usage", "self_device_memory_usage")


class EventList(list):
    """Events, or averages, with a table of them."""

    def __init__(self, events=(), *, memory=False, device=False):
        super().__init__(events)
        self.with_memory, self.with_device = memory, device

    @property
    def self_cpu_time_total(self):
        """Microseconds on the host, of all events."""
        return sum(event.self_cpu_time_total for event in self)

    def table(self, sort_by=None, row_limit=100, max_src_column_width=75, max_name_column_width=55,
              max_shapes_column_width=80, header=None, top_level_events_only=False, time_unit=None):
        """A table of the events, to be printed.

        Parameters
        ----------
        sort_by : str, optional
            A column, largest first: ``cpu_time``, ``cpu_time_total``, ``self_cpu_time_total``, ``device_time``,
            ``device_time_total``, ``self_device_time_total`` (``cuda`` for ``device`` too), ``cpu_memory_usage``,
            ``self_cpu_memory_usage``, ``device_memory_usage``, ``self_device_memory_usage``, ``count``.
        row_limit : int
            This many rows at most; -1 for all.
        max_src_column_width, max_name_column_width, max_shapes_column_width : int or None
            Longer texts are cut.
        header : str, optional
            A line above.
        top_level_events_only : bool
            Leave out what was called by others.
        time_unit : {"us", "ms", "s"}, optional
            For all times; by size where None.

        Returns
        -------
        str
        """
        return table(self, sort_by, row_limit, max_src_column_width, max_name_column_width, max_shapes_column_width,
                     header, top_level_events_only, time_unit)

    def key_averages(self, group_by_input_shapes=False, group_by_stack_n=0):
        """The sums of all events of a name, as a list of `FunctionEventAvg`.

        Parameters
        ----------
        group_by_input_shapes : bool
            Of a name and its shapes.
        group_by_stack_n : int
            Of a name and this many frames of its callers.
        """
        groups = {}
        for event in self:
            key = (event.key, event.kind, tuple(event.input_shapes) if group_by_input_shapes else (),
                   tuple(event.stack[:group_by_stack_n]))
            if key not in groups:
                groups[key] = FunctionEventAvg(event)
                if not group_by_input_shapes:
                    groups[key].input_shapes = []
                groups[key].stack = event.stack[:group_by_stack_n]
            groups[key].add(event)
        return EventList(groups.values(), memory=self.with_memory, device=self.with_device)

    def total_average(self):
        """The sum of all events; of times only the selfs, so that nothing counts twice."""
        total = None
        for event in self:
            total = FunctionEventAvg(event) if total is None else total
            total.add(event)
        if total is not None:
            total.key = "Total"
            total.cpu_time_total, total.device_time_total = total.self_cpu_time_total, total.self_device_time_total
        return total

    def __str__(self):
        return self.table()


def events_of(entries, base, memory, device):
    """The tree of what `_core.profile.take` returned, as an `EventList` in the order in which they began.

    `memory` is None, or what was taken and in use before: a pair for the host and a dict of pairs for GPUs.
    """
    events = [FunctionEvent(number, fields, base) for number, fields in enumerate(entries)]
    open_ = {}
    for event in events:
        stack = open_.setdefault(event.thread, [])
        while stack and stack[-1].depth >= event.depth:
            stack.pop()
        if stack:
            event.cpu_parent = stack[-1]
            stack[-1].cpu_children.append(event)
            event.is_backward = event.is_backward or stack[-1].is_backward
        stack.append(event)
    if memory is not None:
        _attribute(events, "_host", "self_cpu_memory_usage", {0: memory[0]})
        _attribute(events, "_device", "self_device_memory_usage", dict(memory[1]))
    for event in reversed(events):      # children begin after their parents
        event.self_cpu_time_total -= sum(child.cpu_time_total for child in event.cpu_children)
        event.device_time_total += sum(child.device_time_total for child in event.cpu_children)
        for kind in ("cpu", "device"):
            own = getattr(event, f"self_{kind}_memory_usage")
            setattr(event, f"{kind}_memory_usage",
                    own + sum(getattr(child, f"{kind}_memory_usage") for child in event.cpu_children))
    used = any(event.kernels for event in events)
    return EventList(events, memory=memory is not None, device=device and used)


def samples_of(events, which):
    """(time, bytes in use, bytes ever taken, event, whether it is its end, device), in the order of time."""
    found = []
    for event in events:
        for sample, at, ended in zip(getattr(event, which) or (), (event.time_range.start, event.time_range.end),
                                     (False, True), strict=False):
            if sample is not None:
                found.append((at, sample[2], sample[1], event, ended, sample[0]))
    # An event that begins when another ends comes after it; the outer of two that end together, too.
    found.sort(key=lambda each: (each[0], (0, -each[3].id) if each[4] else (1, each[3].id)))
    return found


def _attribute(events, which, name, before):
    """Give every event the bytes that were taken for it, less those that were freed while it was the innermost one.

    An operator's output is taken before its kernel begins, so what was taken since the sample before counts for the
    operator; what was freed meanwhile, for the range around it.
    """
    for _, in_use, taken, event, ended, device in samples_of(events, which):
        last = before.get(device, (0, 0))
        more = taken - last[0]
        less = more - (in_use - last[1])
        owner = event if ended else event.cpu_parent
        setattr(event, name, getattr(event, name) + more)
        if owner is not None:
            setattr(owner, name, getattr(owner, name) - less)
        before[device] = taken, in_use


def links_of(events):
    """Pairs of a forward operator and the backward range of its node."""
    forward = {}
    for event in events:
        if event.kind == OPERATOR and not event.is_backward:
            forward.setdefault(event.sequence_nr, []).append(event)
    pairs = []
    for event in events:
        if event.kind == BACKWARD:
            for each in reversed(forward.get(event.sequence_nr, ())):
                if each.time_range.end <= event.time_range.start:
                    pairs.append((each, event))
                    break
    return pairs
