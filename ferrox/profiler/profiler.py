"""`profile`, its schedule, and ranges."""

import contextlib
import enum
import functools
import sys
import time
import warnings

from ferrox._core.door import dispatch as _door
from ferrox._core.door import profile as _recorder
from ferrox.profiler import memory, trace
from ferrox.profiler.events import STEP, USER, events_of

__all__ = ["ProfilerAction", "ProfilerActivity", "profile", "record_function", "schedule", "supported_activities"]


class ProfilerActivity(enum.Enum):
    """What is recorded: work of the host, work of GPUs."""

    CPU = 0
    CUDA = 1


class ProfilerAction(enum.Enum):
    """What a schedule says of a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def supported_activities():
    """The activities that can be recorded here."""
    import ferrox as fx

    return {ProfilerActivity.CPU} | ({ProfilerActivity.CUDA} if fx.cuda.is_available() else set())


def schedule(*, wait, warmup, active, repeat=0, skip_first=0):
    """Which steps to record: after `skip_first` steps, cycles of `wait` idle, `warmup` and `active` recorded steps.

    Parameters
    ----------
    wait, warmup, active : int
        Steps; at least one is active.
    repeat : int
        So many cycles; 0 for as many as there are steps.
    skip_first : int

    Returns
    -------
    callable
        Of a step's number, giving a `ProfilerAction`: the argument `schedule` of `profile`.

    Examples
    --------
    >>> import ferrox as fx
    >>> steps = fx.profiler.schedule(wait=1, warmup=1, active=2, repeat=1)
    >>> [steps(n).name for n in range(5)]
    ['NONE', 'WARMUP', 'RECORD', 'RECORD_AND_SAVE', 'NONE']
    """
    if min(wait, warmup, repeat, skip_first) < 0 or active < 1:
        raise ValueError("[schedule] steps are not negative, and at least one is active; got "
                         f"wait={wait}, warmup={warmup}, active={active}, repeat={repeat}, skip_first={skip_first}")

    def action(step):
        if step < 0:
            raise ValueError(f"[schedule] a step's number is not negative, got {step}")
        if step < skip_first:
            return ProfilerAction.NONE
        cycle, place = divmod(step - skip_first, wait + warmup + active)
        if (repeat and cycle >= repeat) or place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if place < wait + warmup + active - 1 else ProfilerAction.RECORD_AND_SAVE

    return action


def _always(step):
    return ProfilerAction.RECORD


class record_function(contextlib.ContextDecorator):
    """A range with a name in the profile; for a ``with`` block, or as a decorator for each call of a function.

    Where nothing is recorded it does nothing.

    Parameters
    ----------
    name : str
    args : str, optional
        Said after the name, as in PyTorch.

    Examples
    --------
    >>> import ferrox as fx
    >>> @fx.profiler.record_function("twice")
    ... def twice(x):
    ...     return x * 2
    >>> with fx.profiler.profile() as prof:
    ...     y = twice(fx.ones(3))
    >>> mul = prof.events()[-1]
    >>> mul.name, mul.cpu_parent.name
    ('mul', 'twice')
    """

    def __init__(self, name, args=None):
        self.name, self.args = name, args
        self._open = -1

    def _recreate_cm(self):
        return type(self)(self.name, self.args)

    def __enter__(self):
        self._open = _recorder.begin(self.name if self.args is None else f"{self.name}({self.args})", USER)
        return self

    def __exit__(self, *exception):
        _recorder.end(self._open)
        self._open = -1


class _Steps:
    """Puts "Optimizer.step#Adam.step" around the steps of all optimisers, and takes it away again.

    Classes are changed only while a profile is recorded, so that a step costs nothing more otherwise.
    """

    def __init__(self):
        self.changed = []

    def put(self):
        from ferrox.optim.optimizer import Optimizer

        classes, seen = [Optimizer], set()
        while classes:
            cls = classes.pop()
            if cls not in seen:
                seen.add(cls)
                classes.extend(cls.__subclasses__())
                for method in ("step", "zero_grad"):
                    if method in vars(cls) and (cls is not Optimizer or method != "step"):
                        self.changed.append((cls, method, vars(cls)[method]))
                        setattr(cls, method, _ranged(method, vars(cls)[method]))

    def remove(self):
        while self.changed:
            cls, method, before = self.changed.pop()
            setattr(cls, method, before)


def _ranged(method, inner):
    @functools.wraps(inner)
    def outer(self, *args, **kwargs):
        if getattr(type(self), method, None) is not outer:      # called by a subclass, which has its own range
            return inner(self, *args, **kwargs)
        entry = _recorder.begin(f"Optimizer.{method}#{type(self).__name__}.{method}", STEP)
        try:
            return inner(self, *args, **kwargs)
        finally:
            _recorder.end(entry)

    return outer


def _memory_before():
    """What was taken and in use: a pair for the host, pairs by GPU where GPUs have been used."""
    devices = {}
    if "ferrox._core.cuda.backend" in sys.modules:
        from ferrox._core.cuda import context, timing  # noqa: F401

        devices = {device: _recorder.memory_now(device) for device in range(context.device_count())}
    return _recorder.memory_now(), devices


class profile:
    """Record what happens within a ``with`` block, or between `start` and `stop`.

    Every operator that computes is an event, on the host and, where it ran on a GPU, with the time of its kernels on
    the stream.  Each node of a backward is a range such as "MulBackward" around the operators of its rule; steps of
    optimisers are "Optimizer.step#Adam.step".  Views compute nothing and are no events.

    Parameters
    ----------
    activities : iterable of ProfilerActivity, optional
        Both by default.  Without CPU, only operators that ran on a GPU are events.
    schedule : callable, optional
        Of a step's number (see `schedule`): record some steps only; `step` tells that one has ended.
    on_trace_ready : callable, optional
        Called with the profile when it has recorded: at the end of every cycle of the schedule, or at the end.
    record_shapes : bool
        Keep the shapes of inputs.
    profile_memory : bool
        Tell what operators take and free.
    with_stack : bool
        Keep the place in the program that called.  Slow.

    Notes
    -----
    Device time is between two events on the stream: of several kernels that an operator launches, the time of all, with
    what the stream waited for between them.  Nothing waits while it is recorded.  Memory is read when events begin and
    end; what an operator takes for its results counts for it, though it was taken before it began.

    Examples
    --------
    >>> import ferrox as fx
    >>> with fx.profiler.profile(record_shapes=True) as prof:
    ...     y = fx.ones(2, 3).exp()
    >>> exp = prof.events()[-1]
    >>> exp.name, exp.input_shapes, exp.cpu_time_total > 0
    ('exp', [(2, 3)], True)

    With a schedule, each cycle is handed over when it is complete:

    >>> def ready(prof):
    ...     print([event.name for event in prof.events() if event.is_user_annotation])
    >>> steps = fx.profiler.schedule(wait=1, warmup=1, active=2, repeat=1)
    >>> with fx.profiler.profile(schedule=steps, on_trace_ready=ready) as prof:
    ...     for _ in range(6):
    ...         y = fx.ones(3) + 1
    ...         prof.step()
    ['ProfilerStep#2', 'ProfilerStep#3']
    """

    def __init__(self, activities=None, schedule=None, on_trace_ready=None, record_shapes=False, profile_memory=False,
                 with_stack=False):
        self.activities = set(ProfilerActivity if activities is None else activities)
        for each in self.activities:
            if not isinstance(each, ProfilerActivity):
                raise TypeError(f"[profile] activities are ProfilerActivity, got {each!r}")
        if not self.activities:
            raise ValueError("[profile] no activity is left to record")
        asked = activities is not None and ProfilerActivity.CUDA in self.activities
        if asked and ProfilerActivity.CUDA not in supported_activities():
            warnings.warn("CUDA is not available, disabling CUDA profiling", stacklevel=2)
        self.schedule = _always if schedule is None else schedule
        self.record_steps = schedule is not None
        self.on_trace_ready = on_trace_ready
        self.record_shapes, self.profile_memory, self.with_stack = record_shapes, profile_memory, with_stack
        self.step_num = 0
        self.current_action = self.schedule(0)
        self.metadata = {}
        self._steps = _Steps()
        self._step_range = -1
        self._recording = False
        self._entries, self._events, self._memory, self._base, self._epoch = None, None, None, 0, 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.stop()

    # ---- recording

    def start(self):
        """Begin, at step `step_num`."""
        self._go(None, self.current_action)
        self._begin_step()

    def stop(self):
        """End, and hand over what was recorded."""
        self._end_step()
        self._go(self.current_action, None)

    def step(self):
        """Say that a step has ended and the next one begins."""
        self._end_step()
        before, self.step_num = self.current_action, self.step_num + 1
        self.current_action = self.schedule(self.step_num)
        self._go(before, self.current_action)
        self._begin_step()

    def _begin_step(self):
        if self.record_steps and self._recording:
            self._step_range = _recorder.begin(f"ProfilerStep#{self.step_num}", STEP)

    def _end_step(self):
        _recorder.end(self._step_range)
        self._step_range = -1

    def _go(self, before, after):
        """From one action to the next; None is before the first and after the last."""
        recorded = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
        ended = before is ProfilerAction.RECORD_AND_SAVE or after not in recorded
        if self._recording and ended:
            self._stop_recording()
            if before is ProfilerAction.RECORD_AND_SAVE or after is None:
                if self.on_trace_ready is not None:
                    self.on_trace_ready(self)
            else:
                warnings.warn(f"Incorrect schedule: RECORD followed by {after.name}", stacklevel=4)
        if after in recorded and not self._recording:
            self._start_recording()

    def _start_recording(self):
        _recorder.start(ProfilerActivity.CPU in self.activities, ProfilerActivity.CUDA in self.activities,
                        self.record_shapes, self.profile_memory, self.with_stack)
        self._recording = True
        self._memory = _memory_before() if self.profile_memory else None
        self._epoch, self._base = time.time_ns(), _recorder.now()
        self._steps.put()
        _door.look()

    def _stop_recording(self):
        _recorder.stop()
        _door.look()
        self._steps.remove()
        self._recording = False
        clock = sys.modules.get("ferrox._core.cuda.timing")     # loaded with the first mark
        if clock is not None:
            clock.settle()
        self._entries, self._events = _recorder.take(), None

    # ---- what was recorded

    def events(self):
        """All events in the order in which they began: an `EventList` of `FunctionEvent`."""
        if self._events is None:
            if self._entries is None:
                raise RuntimeError("[profile] nothing has been recorded yet")
            self._events = events_of(self._entries, self._base, self._memory,
                                     ProfilerActivity.CUDA in self.activities)
            self._entries = None
        return self._events

    def key_averages(self, group_by_input_shape=False, group_by_stack_n=0):
        """Sums by name: an `EventList` of `FunctionEventAvg`, whose `table` is to be printed.

        Parameters
        ----------
        group_by_input_shape : bool
            By name and shapes, where `record_shapes` kept them.
        group_by_stack_n : int
            By name and this many frames of the callers, where `with_stack` kept them.
        """
        return self.events().key_averages(group_by_input_shape, group_by_stack_n)

    def add_metadata(self, key, value):
        """Put a string into the exported trace."""
        self.metadata[str(key)] = str(value)

    def add_metadata_json(self, key, value):
        """Put a value, given as JSON, into the exported trace."""
        import json

        self.metadata[str(key)] = json.loads(value)

    def export_chrome_trace(self, path):
        """Write a trace for https://ui.perfetto.dev or chrome://tracing; compressed where `path` ends in .gz."""
        trace.write(path, trace.trace_of(self.events(), self._epoch, self.metadata))

    def export_memory_timeline(self, path, device=None):
        """Write what was in use over time, where `profile_memory` kept it.

        Parameters
        ----------
        path : str or path
            Ends in .html (a page with a picture), .json or .json.gz: times in microseconds, bytes in use, and the event
            at whose beginning or end that was.
        device : device or str, optional
            The GPU that was used by default, where one was, else the CPU.
        """
        if not self.profile_memory:
            raise RuntimeError("[export_memory_timeline] the profile was made without profile_memory=True")
        memory.write(path, self.events(), device)
