"""Everything public, as calls to make: functions, classes, and each method, property and slot of each class."""

import importlib
import inspect
import types

MODULES = ["", ".autograd", ".autograd.graph", ".autograd.functional", ".func", ".cpu", ".cuda", ".backends", ".io",
           ".metrics", ".nn", ".nn.functional", ".nn.init", ".nn.utils", ".optim", ".optim.lr_scheduler", ".profiler",
           ".testing", ".utils.checkpoint", ".utils.data", ".utils.hooks", ".viz", ".return_types", ".special",
           ".linalg", ".fft"]
# They last beyond the call: hooks on every module, measurements of minutes, how often the process may be interrupted.
LEFT_OUT = {"register_module_forward_hook", "register_module_forward_pre_hook", "calibrate", "measure", "check",
            "samples", "register_module_full_backward_hook", "why_not", "get_worker_info"}
# Of the language, or of the class rather than of what it holds.
NOT_CALLED = {"__class__", "__init_subclass__", "__subclasshook__", "__del__", "__dict__", "__doc__", "__module__",
              "__weakref__", "__new__", "__class_getitem__", "__annotations__", "__abstractmethods__", "__parameters__",
              "__orig_bases__", "__slots__", "__match_args__", "__getattribute__", "__setattr__", "__delattr__"}
# Not public by name: operators alone make them.
MADE_BY_OPERATORS = {"Node"}
# What the classes are made of where no arguments, or numbers alone, do not make one.
MADE = {
    "Tensor": lambda fx, values: values.tensor(),
    "Parameter": lambda fx, values: fx.nn.Parameter(fx.randn(3)),
    "Op": lambda fx, values: values.pick.choice([fx.add, fx.sum, fx.cat, fx.where]),
    "Node": lambda fx, values: (fx.randn(3, requires_grad=True) * values.ordinary().sum()).grad_fn,
    "FunctionCtx": lambda fx, values: fx.autograd.FunctionCtx(),
    "dtype": lambda fx, values: fx.float32,
    "device": lambda fx, values: fx.device("cpu"),
    "Size": lambda fx, values: fx.Size((2, 3)),
    "GradientEdge": lambda fx, values: fx.autograd.graph.get_gradient_edge(fx.ones(2, requires_grad=True) * 2),
    "profile": lambda fx, values: fx.profiler.profile(),
    "record_function": lambda fx, values: fx.profiler.record_function("x"),
    "TensorDataset": lambda fx, values: fx.utils.data.TensorDataset(fx.randn(4, 2), fx.arange(4)),
    "DataLoader": lambda fx, values: fx.utils.data.DataLoader(fx.randn(4, 2), batch_size=2),
    "ReduceLROnPlateau": lambda fx, values: fx.optim.lr_scheduler.ReduceLROnPlateau(values.apt("optimizer")),
    "Linear": lambda fx, values: fx.nn.Linear(4, 3),
    "BatchNorm1d": lambda fx, values: fx.nn.BatchNorm1d(4),
}


def public(fx):
    """(dotted name, object) of what is public, each object once."""
    seen, found = set(), []
    for name in MODULES:
        try:
            module = importlib.import_module("ferrox" + name)
        except ModuleNotFoundError:
            continue
        for key in sorted(getattr(module, "__all__", None) or dir(module)):
            each = getattr(module, key)
            if key.startswith("_") or key in LEFT_OUT or id(each) in seen or isinstance(each, types.ModuleType):
                continue
            if not callable(each) or not str(getattr(each, "__module__", "ferrox")).startswith("ferrox"):
                continue
            seen.add(id(each))
            found.append((f"fx{name}.{key}", each))
    return found


def called(owner, key, /, *args, **keywords):
    return getattr(owner, key)(*args, **keywords)


def entered(owner, /):
    """Entered and left again: what lasts until then must not meet the next call."""
    try:
        return owner.__enter__()
    finally:
        owner.__exit__(None, None, None)


class Surface:
    """Draws calls of whatever is public; a call is (what, function, arguments, keywords)."""

    def __init__(self, fx, values):
        self.fx, self.values, self.pick = fx, values, values.pick
        everything = public(fx)
        self.functions = [each for each in everything if not inspect.isclass(each[1])]
        classes = [each for each in everything if inspect.isclass(each[1])]
        node = type((fx.ones(2, requires_grad=True) * 2).grad_fn)
        classes += [("Node", node), ("fx.Tensor", fx.Tensor), ("Iterator", type(iter(fx.ones(2))))]
        self.classes = [each for each in classes if not issubclass(each[1], BaseException)]
        self.members = {cls: [key for key in dir(cls) if key not in NOT_CALLED and key not in LEFT_OUT
                              and (not key.startswith("_") or key.endswith("__") or cls.__name__ != "Module")]
                        for _, cls in self.classes}
        self.signatures = {}

    def signature(self, function):
        key = getattr(function, "__qualname__", None) or repr(type(function))
        key = f"{getattr(function, '__module__', '')}.{key}"
        if key not in self.signatures:
            try:
                self.signatures[key] = list(inspect.signature(function).parameters.values())
            except (TypeError, ValueError):
                self.signatures[key] = None
        return self.signatures[key]

    def arguments(self, function):
        """Arguments that fit the signature in number, with one or more of a wrong kind among them."""
        pick, values = self.pick, self.values
        parameters = self.signature(function)
        if parameters is None or pick.random() < 0.1:
            return [values.value() for _ in range(pick.choice([0, 1, 1, 2, 2, 3, 5]))], {}
        args, keywords, wrongness = [], {}, pick.choice([0.05, 0.3, 0.6])

        def one(name):
            return values.value() if pick.random() < wrongness else values.apt(name)

        for each in parameters:
            if each.name in ("self", "cls"):
                continue
            if each.kind is each.VAR_POSITIONAL:
                args += [] if keywords else [one(each.name) for _ in range(pick.choice([0, 1, 2, 3]))]
            elif each.kind is each.VAR_KEYWORD:
                continue
            elif each.default is not each.empty and pick.random() < 0.6:
                if each.kind is not each.KEYWORD_ONLY and pick.random() < 0.3 and not keywords:
                    args.append(each.default)
            elif each.kind is each.KEYWORD_ONLY or keywords or (each.kind is not each.POSITIONAL_ONLY
                                                                and pick.random() < 0.15):
                keywords[each.name] = one(each.name)
            elif not keywords:
                args.append(one(each.name))
        if pick.random() < 0.05:
            keywords[pick.choice(["out", "dim", "axis", "input", "self", "", "nonsense"])] = values.value()
        if pick.random() < 0.05:
            args = args[:-1] if pick.random() < 0.5 else [*args, values.value()]
        return args, keywords

    def instance(self, cls):
        """One of a class: as it should be, or never filled."""
        pick = self.pick
        kind = pick.random()
        if issubclass(cls, self.fx.Tensor) or cls.__name__ in MADE_BY_OPERATORS:
            kind = 1
        if kind < 0.08:
            return cls.__new__(cls)
        if kind < 0.12:
            return type("Bare", (cls,), {"__init__": lambda self, *args, **keywords: None})()
        if cls.__name__ in MADE:
            return MADE[cls.__name__](self.fx, self.values)
        parameters = self.signature(cls) or []
        return cls(*[self.values.apt(each.name) for each in parameters
                     if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD])

    def member(self):
        """A method, property or slot: called, read, written or deleted, on one of its class or on something else."""
        pick, values = self.pick, self.values
        label, cls = pick.choice(self.classes) if pick.random() < 0.5 else ("fx.Tensor", self.fx.Tensor)
        if not self.members[cls]:
            return self.call()
        key = pick.choice(self.members[cls])
        raw, what = inspect.getattr_static(cls, key), f"{label}.{key}"
        if pick.random() < 0.15:
            stranger = values.value()
            if hasattr(type(raw), "__set__"):
                if pick.random() < 0.5:
                    return what + " of another", type(raw).__get__, [raw, stranger, type(stranger)], {}
                return what + " of another =", type(raw).__set__, [raw, stranger, values.value()], {}
            args, keywords = self.arguments(getattr(cls, key)) if callable(getattr(cls, key)) else ([], {})
            if callable(getattr(cls, key)):
                return what + " of another", getattr(cls, key), [stranger, *args], keywords
        owner = self.instance(cls)
        if not callable(raw) and not isinstance(raw, (staticmethod, classmethod)):
            kind = pick.random()
            if kind < 0.4:
                return what, getattr, [owner, key], {}
            if kind < 0.9:
                return what + " =", setattr, [owner, key, values.value()], {}
            return "del " + what, delattr, [owner, key], {}
        if key == "__enter__":
            return what, entered, [owner], {}
        args, keywords = self.arguments(getattr(owner, key))
        return what, called, [owner, key, *args], keywords

    def call(self):
        pick = self.pick
        kind = pick.random()
        if kind < 0.3:
            what, function = pick.choice(self.functions)
            return what, function, *self.arguments(function)
        if kind < 0.4:
            what, function = pick.choice(self.classes)
            if function.__name__ not in MADE_BY_OPERATORS:
                return what, function, *self.arguments(function)
        return self.member()
