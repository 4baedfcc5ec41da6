"""What a module keeps its members in, and converts them with."""

import weakref


class Once:
    """A conversion on its way through a module tree, with what it has already seen."""

    def __init__(self, function) -> None:
        self._function = function
        self._params = set()
        self._buffers = {}  # id -> the buffer, which keeps the id taken, and what became of it

    def __call__(self, tensor):
        return self._function(tensor)

    def is_new(self, param):
        if id(param) in self._params:
            return False
        self._params.add(id(param))
        return True

    def converted(self, buffer):
        if id(buffer) not in self._buffers:
            result = self._function(buffer)
            self._buffers[id(buffer)] = buffer, result
            self._buffers[id(result)] = result, result
        return self._buffers[id(buffer)][1]


class Registry(dict):
    """Names to members of one kind; every change reaches the module's `__dict__` too."""

    __slots__ = ("_owner",)

    def __init__(self, owner, items=()) -> None:
        super().__init__()
        self._owner = weakref.ref(owner)
        self.update(items)

    def __setitem__(self, name, value):
        super().__setitem__(name, value)
        owner = self._owner()
        if owner is not None:
            owner.__dict__[name] = value

    def __delitem__(self, name):
        super().__delitem__(name)
        owner = self._owner()
        if owner is not None:
            owner.__dict__.pop(name, None)

    def pop(self, name, *default):
        if name not in self:
            return super().pop(name, *default)
        value = self[name]
        del self[name]
        return value

    def popitem(self):
        if not self:
            raise KeyError("popitem(): dictionary is empty")
        name = next(reversed(self))
        return name, self.pop(name)

    def clear(self):
        for name in list(self):
            del self[name]

    def setdefault(self, name, default=None):
        if name not in self:
            self[name] = default
        return self[name]

    def update(self, *args, **kwargs):
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other):
        self.update(other)
        return self

    def copy(self):
        return dict(self)

    def __copy__(self):
        return dict(self)

    def __reduce__(self):
        return dict, (dict(self),)
