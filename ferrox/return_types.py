"""The classes of results that have names: `max(x, 0)` is a `return_types.max(values=…, indices=…)`."""
from ferrox._core.ops import reduction as _reduction

globals().update({name: _reduction.return_type(name) for name in _reduction.NAMED})
