"""Where the time and the memory of a program go: operators, their kernels, ranges of one's own.  PyTorch's names.

Examples
--------
>>> import ferrox as fx
>>> x = fx.ones(64, 64, requires_grad=True)
>>> with fx.profiler.profile() as prof:
...     with fx.profiler.record_function("forward"):
...         loss = (x @ x).sum()
...     loss.backward()
>>> [event.key for event in prof.key_averages()]
['forward', 'matmul', 'sum', 'fill', 'SumBackward', 'MatmulBackward', 'add']
>>> print(prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=10))    # doctest: +ELLIPSIS
---...
"""

from ferrox.profiler.events import EventList, FunctionEvent, FunctionEventAvg, Interval, Kernel
from ferrox.profiler.profiler import (
    ProfilerAction,
    ProfilerActivity,
    profile,
    record_function,
    schedule,
    supported_activities,
)

__all__ = ["EventList", "FunctionEvent", "FunctionEventAvg", "Interval", "Kernel", "ProfilerAction",
           "ProfilerActivity", "profile", "record_function", "schedule", "supported_activities"]
