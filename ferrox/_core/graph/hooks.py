"""Handles of hooks on tensors and nodes."""


class Handle:
    """What registering a hook returns; `remove()` takes the hook away."""

    def __init__(self, hooks, hook):
        self._hooks = hooks
        self._entry = [hook]
        hooks.append(self._entry)

    def remove(self):
        self._hooks[:] = [entry for entry in self._hooks if entry is not self._entry]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.remove()
