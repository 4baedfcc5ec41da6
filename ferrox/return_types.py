"""The classes of results that have names: `max(x, 0)` is a `return_types.max(values=…, indices=…)`."""
from ferrox._core.ops.reduction import NAMED, return_type

globals().update({name: return_type(name) for name in NAMED})
