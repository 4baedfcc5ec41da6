"""The classes of results that have names: `max(x, 0)` is a `return_types.max(values=…, indices=…)`."""
from ferrox._core.ops.reduction import return_types

globals().update(return_types)
