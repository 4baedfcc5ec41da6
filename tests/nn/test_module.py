"""`Module` itself: registration, walking, state, hooks, copying, printing."""

import copy
import gc
import pickle
import weakref

import pytest

import ferrox as fx
from ferrox import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.scale = nn.Parameter(fx.ones(4))
        self.body = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4))
        self.register_buffer("offset", fx.zeros(4))
        self.register_buffer("scratch", fx.zeros(1), persistent=False)
        self.register_parameter("nothing", None)
        self.register_buffer("empty", None)

    def forward(self, x):
        return self.body(self.first(x) * self.scale + self.offset)


NAMES = ["scale", "first.weight", "first.bias", "body.1.weight", "body.1.bias"]
KEYS = [
    "scale",
    "offset",
    "first.weight",
    "first.bias",
    "body.1.weight",
    "body.1.bias",
    "body.1.running_mean",
    "body.1.running_var",
    "body.1.num_batches_tracked",
]


def test_walking():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert [name for name, _ in net.named_parameters("p", recurse=False)] == ["p.scale"]
    assert [name for name, _ in net.named_buffers()][:2] == ["offset", "scratch"]
    assert [name for name, _ in net.named_modules()] == ["", "first", "body", "body.0", "body.1"]
    assert [name for name, _ in net.named_children()] == ["first", "body"]
    assert next(iter(net.modules())) is net
    assert next(iter(net.parameters())) is net.scale
    seen = []
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["Linear", "ReLU", "BatchNorm1d", "Sequential", "Net"]
    assert net.get_submodule("body.1") is net.body[1]
    assert net.get_submodule("") is net
    assert net.get_parameter("first.bias") is net.first.bias
    assert net.get_buffer("body.1.running_var") is net.body[1].running_var
    with pytest.raises(AttributeError, match="Sequential has no attribute `9`"):
        net.get_submodule("body.9")
    with pytest.raises(AttributeError, match=r"`offset` is not an nn\.Parameter"):
        net.get_parameter("offset")
    with pytest.raises(AttributeError, match="`scale` is not a buffer"):
        net.get_buffer("scale")


def test_shared_members_come_once():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, layer)
    assert len(list(net.parameters())) == 2
    assert [name for name, _ in net.named_parameters(remove_duplicate=False)] == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
    ]
    other = nn.Linear(2, 2)
    other.weight = layer.weight
    assert len(list(nn.ModuleList([layer, other]).parameters())) == 3
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_registration_follows_assignment():
    net = Net()
    net.scale = None
    assert "scale" not in dict(net.named_parameters())
    assert net.scale is None
    net.scale = nn.Parameter(fx.zeros(4))
    assert dict(net.named_parameters())["scale"] is net.scale
    net.offset = fx.ones(4)
    assert dict(net.named_buffers())["offset"].tolist() == [1.0] * 4
    net.first = nn.Identity()
    assert "first.weight" not in net.state_dict()
    net.thing = 3
    net.thing = nn.Parameter(fx.zeros(1))
    assert "thing" in dict(net.named_parameters())
    net.thing = nn.ReLU()
    assert "thing" not in dict(net.named_parameters())
    assert dict(net.named_children())["thing"] is net.thing
    del net.thing
    assert not hasattr(net, "thing")
    del net.offset, net.scale, net.first
    assert "offset" not in net.state_dict()
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'offset'"):
        net.offset  # noqa: B018
    with pytest.raises(AttributeError):
        del net.absent


def test_registries_and_attributes_agree():
    net = Net()
    replacement = nn.Parameter(fx.full((4,), 2.0))
    net._parameters["scale"] = replacement
    assert net.scale is replacement
    net._modules.pop("first")
    assert not hasattr(net, "first")
    net._buffers.update(offset=fx.ones(4))
    assert net.offset.tolist() == [1.0] * 4
    net._parameters.clear()
    assert not hasattr(net, "scale")


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (lambda n: setattr(n, "scale", fx.zeros(4)), TypeError, r"as parameter 'scale' \(ferrox.nn.Parameter or None"),
        (lambda n: setattr(n, "first", 3), TypeError, r"cannot assign 'int' as child module 'first'"),
        (lambda n: setattr(n, "offset", 3), TypeError, r"cannot assign 'int' as buffer 'offset'"),
        (lambda n: n.register_buffer("a.b", None), KeyError, "buffer name can.+t contain"),
        (lambda n: n.register_parameter("", None), KeyError, "parameter name can.+t be empty"),
        (lambda n: n.register_buffer("first", None), KeyError, "attribute 'first' already exists"),
        (lambda n: n.register_parameter("forward", None), KeyError, "attribute 'forward' already exists"),
        (lambda n: n.register_parameter("w", fx.zeros(1)), TypeError, "object to parameter 'w'"),
        (lambda n: n.register_buffer("w", 3), TypeError, "cannot assign 'int' object to buffer 'w'"),
        (lambda n: n.add_module("w", 3), TypeError, "int is not a Module subclass"),
        (lambda n: n.add_module(3, None), TypeError, "module name should be a string"),
        (lambda n: n.train("yes"), ValueError, "training mode is expected to be boolean"),
        (lambda n: nn.Module()(1), NotImplementedError, 'missing the required "forward"'),
        (lambda n: nn.Module(3), TypeError, "takes 1 positional argument but 2 were given"),
        (lambda n: n.to(fx.int64), TypeError, "only accepts floating point"),
        (lambda n: n.load_state_dict([1]), TypeError, "Expected state_dict to be dict-like"),
    ],
)
def test_errors(action, error, message):
    with pytest.raises(error, match=message):
        action(Net())


def test_assignment_before_init():
    class Early(nn.Module):
        def __init__(self, value):
            self.value = value

    for value, message in ((nn.ReLU(), "cannot assign module before"), (nn.Parameter(fx.ones(1)), "parameters before")):
        with pytest.raises(AttributeError, match=message):
            Early(value)


def test_modes_and_gradients():
    net = Net()
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net.train()
    assert all(module.training for module in net.modules())
    net(fx.ones(2, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert net.scale.grad.tolist() == [0.0] * 4
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_conversion_keeps_parameters():
    net = Net()
    before = list(net.parameters())
    net(fx.ones(2, 3)).sum().backward()
    assert net.double() is net
    assert all(p is q for p, q in zip(before, net.parameters(), strict=True))
    assert {p.dtype for p in net.parameters()} == {p.grad.dtype for p in net.parameters()} == {fx.float64}
    assert net.offset.dtype == fx.float64
    assert net.body[1].num_batches_tracked.dtype == fx.int64
    assert all(p.is_leaf and p.requires_grad for p in net.parameters())
    for convert, dtype in (
        (lambda: net.to(fx.float16), fx.float16),
        (lambda: net.to("cpu", fx.float32), fx.float32),
        (lambda: net.to(dtype=fx.bfloat16), fx.bfloat16),
        (lambda: net.to(fx.zeros(1, dtype=fx.float64)), fx.float64),
        (lambda: net.half(), fx.float16),
        (lambda: net.float(), fx.float32),
    ):
        assert convert() is net
        assert {p.dtype for p in net.parameters()} == {dtype}
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        net.to(colour="red")


def test_state_dict():
    net = Net()
    state = net.state_dict()
    assert list(state) == KEYS
    assert list(net.state_dict(prefix="a.")) == ["a." + key for key in KEYS]
    assert not state["scale"].requires_grad
    assert net.state_dict(keep_vars=True)["scale"] is net.scale
    assert state._metadata["body.1"] == {"version": 2}
    with fx.no_grad():
        net.scale.fill_(5.0)
    assert state["scale"].tolist() == [5.0] * 4, "the tensors share storage"

    other = Net()
    result = other.load_state_dict(state)
    assert repr(result) == "<All keys matched successfully>"
    assert other.scale.tolist() == [5.0] * 4
    assert other.scale.data_ptr() != net.scale.data_ptr()

    del state["scale"]
    state["extra"] = fx.zeros(1)
    state["first.weight"] = fx.zeros(3, 3)
    state["body.1.bias"] = "text"
    with pytest.raises(RuntimeError) as caught:
        other.load_state_dict(state)
    message = str(caught.value)
    assert message.startswith("Error(s) in loading state_dict for Net:\n\t")
    assert 'Missing key(s) in state_dict: "scale". ' in message
    assert 'Unexpected key(s) in state_dict: "extra". ' in message
    assert "size mismatch for first.weight: copying a param with shape" in message
    assert 'While copying the parameter named "body.1.bias", expected ferrox.Tensor' in message
    del state["first.weight"], state["body.1.bias"]
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert missing == ["scale", "first.weight", "body.1.bias"]
    assert unexpected == ["extra"]


def test_assign():
    net = Net()
    state = {
        key: value.clone().double() if value.is_floating_point() else value for key, value in net.state_dict().items()
    }
    net.first.weight.requires_grad_(False)
    net.load_state_dict(state, assign=True)
    assert net.scale.dtype == fx.float64
    assert isinstance(net.scale, nn.Parameter)
    assert net.scale.data_ptr() == state["scale"].data_ptr()
    assert [p.requires_grad for p in (net.scale, net.first.weight)] == [True, False]
    assert net.offset is state["offset"]


def test_extra_state_and_state_hooks():
    class Counted(nn.Linear):
        count = 7

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, state):
            self.count = state["count"]

    net = nn.Sequential(Counted(1, 1))
    state = net.state_dict()
    assert state["0._extra_state"] == {"count": 7}
    state["0._extra_state"] = {"count": 9}
    net.load_state_dict(state)
    assert net[0].count == 9
    plain = nn.Linear(1, 1)
    calls = []
    plain.register_state_dict_pre_hook(lambda module, prefix, keep: calls.append("pre"))
    plain.register_state_dict_post_hook(lambda module, sd, prefix, meta: sd.update({prefix + "note": 1}))
    plain.register_load_state_dict_pre_hook(lambda module, sd, prefix, *rest: sd.pop(prefix + "note", None))
    handle = plain.register_load_state_dict_post_hook(lambda module, keys: calls.append(keys.missing_keys))
    state = plain.state_dict()
    assert list(state) == ["weight", "bias", "note"]
    plain.load_state_dict(state)
    assert calls == ["pre", []]
    handle.remove()
    plain.load_state_dict(state)
    assert calls == ["pre", []]


def test_forward_hooks():
    layer = nn.Identity()
    log = []

    def add(n):
        return lambda module, args, output: output + n

    def pre(module, args):
        return (args[0] * 2,)

    handles = [layer.register_forward_pre_hook(pre), layer.register_forward_hook(add(1))]
    handles.append(
        layer.register_forward_hook(lambda m, args, out: log.append((args[0].item(), out.item())), prepend=True)
    )
    assert layer(fx.tensor(3.0)).item() == 7.0
    assert log == [(6.0, 6.0)]
    handles[0].remove()
    handles[0].remove()
    assert layer(fx.tensor(3.0)).item() == 4.0
    with layer.register_forward_hook(add(10)):
        assert layer(fx.tensor(0.0)).item() == 11.0
    for handle in handles:
        handle.remove()
    assert layer(fx.tensor(3.0)).item() == 3.0
    assert layer._hooks is None


def test_hooks_with_kwargs_and_errors():
    class Scaled(nn.Module):
        def forward(self, x, *, factor=1.0):
            if factor == 0:
                raise ZeroDivisionError
            return x * factor

    layer = Scaled()
    seen = []
    layer.register_forward_pre_hook(lambda m, args, kwargs: (args, {"factor": kwargs["factor"] * 2}), with_kwargs=True)
    layer.register_forward_hook(lambda m, args, kwargs, out: out + kwargs["factor"], with_kwargs=True)
    layer.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    assert layer(fx.tensor(1.0), factor=2.0).item() == 8.0
    with pytest.raises(ZeroDivisionError):
        layer(fx.tensor(1.0), factor=0.0)
    assert seen[1] is None
    layer.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        layer(fx.tensor(1.0), factor=1.0)


def test_global_hooks():
    from ferrox.nn.module import register_module_forward_hook, register_module_forward_pre_hook

    net = nn.Sequential(nn.Identity(), nn.ReLU())
    log = []
    first = register_module_forward_pre_hook(lambda module, args: log.append(type(module).__name__))
    second = register_module_forward_hook(lambda module, args, out: log.append(type(module).__name__))
    net(fx.ones(1))
    assert log == ["Sequential", "Identity", "Identity", "ReLU", "ReLU", "Sequential"]
    first.remove()
    second.remove()
    net(fx.ones(1))
    assert len(log) == 6
    assert nn.Module.__call__.__name__ == "__call__"


def test_full_backward_hooks():
    class Two(nn.Module):
        def forward(self, a, b, n):
            return a * b, a + b

    layer = Two()
    seen = []
    layer.register_full_backward_hook(lambda m, grad_in, grad_out: seen.append((grad_in, grad_out)))
    a, b = fx.tensor(2.0, requires_grad=True), fx.tensor(5.0)
    product, total = layer(a, b, 3)
    (product * 3 + total * 10).backward()
    (grad_in, grad_out) = seen[0]
    assert [g if g is None else g.item() for g in grad_in] == [25.0, None, None]
    assert [g.item() for g in grad_out] == [3.0, 10.0]
    assert a.grad.item() == 25.0


def test_backward_hooks_may_change_gradients():
    layer = nn.Identity()
    layer.register_full_backward_hook(lambda m, grad_in, grad_out: (grad_in[0] + 1,))
    layer.register_full_backward_pre_hook(lambda m, grad_out: (grad_out[0] * 10,))
    x = fx.tensor(1.0, requires_grad=True)
    (layer(x) * 2).backward()
    assert x.grad.item() == 21.0
    with fx.no_grad():
        assert layer(x).item() == 1.0


def test_backward_hook_without_input_gradients():
    layer = nn.Linear(2, 1)
    seen = []
    layer.register_full_backward_hook(lambda m, grad_in, grad_out: seen.append((grad_in, grad_out[0].tolist())))
    layer(fx.ones(3, 2)).sum().backward()
    assert seen == [((None,), [[1.0]] * 3)]
    assert layer.weight.grad.tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_deep_copies(clone):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    net[0].bias.requires_grad_(False)
    net.alias = net[0]
    other = clone(net)
    assert other.alias is other[0]
    assert repr(other) == repr(net)
    for (name, p), (other_name, q) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        assert name == other_name
        assert type(q) is nn.Parameter
        assert q.tolist() == p.tolist()
        assert q.data_ptr() != p.data_ptr()
        assert q.requires_grad == p.requires_grad
    other[0].weight = nn.Parameter(fx.zeros(3, 2))
    assert dict(other.named_parameters())["0.weight"] is other[0].weight
    other[0]._parameters["weight"] = None
    assert other[0].weight is None
    assert net[0].weight is not None


def test_shallow_copy_is_independent():
    layer = nn.Linear(2, 2)
    other = copy.copy(layer)
    assert other.weight is layer.weight
    other.weight = nn.Parameter(fx.zeros(2, 2))
    assert layer.weight is not other.weight
    assert layer.state_dict()["weight"].tolist() == layer.weight.tolist()


def test_hooks_survive_a_copy():
    layer = nn.Identity()
    layer.register_forward_hook(_add_one)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other(fx.tensor(1.0)).item() == 2.0


def _add_one(module, args, output):
    return output + 1


def test_modules_are_freed_without_the_collector():
    gc.collect()
    gc.disable()
    try:
        net = Net()
        net(fx.ones(2, 3)).sum().backward()
        refs = [weakref.ref(net), weakref.ref(net.first)]
        del net
        assert [ref() for ref in refs] == [None, None]
    finally:
        gc.enable()


def test_call_forms():
    class Args(nn.Module):
        def forward(self, *args, **kwargs):
            return args, kwargs

    layer = Args()
    for args, kwargs in (((), {}), ((1,), {}), ((1, 2), {}), ((1, 2, 3), {}), ((), {"a": 1}), ((1,), {"first": 2})):
        assert layer(*args, **kwargs) == (args, kwargs)
        layer.register_forward_hook(lambda m, a, out: None)
        assert layer(*args, **kwargs) == (args, kwargs)
        layer = Args()


def test_containers():
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU())
    net.append(nn.Linear(2, 3))
    net.insert(0, nn.Identity())
    assert [type(m).__name__ for m in net] == ["Identity", "Linear", "ReLU", "Linear"]
    assert list(net._modules) == ["0", "1", "2", "3"]
    assert net[-1] is net[3]
    assert len(net[1:3]) == 2
    del net[0]
    assert [type(m).__name__ for m in net] == ["Linear", "ReLU", "Linear"]
    assert isinstance(net.pop(1), nn.ReLU)
    assert list(net._modules) == ["0", "1"]
    net[0] = nn.Identity()
    assert type(net[0]) is nn.Identity
    assert len(net + nn.Sequential(nn.ReLU())) == 3
    with pytest.raises(IndexError):
        net[2]

    items = nn.ModuleList([nn.ReLU()])
    items += [nn.Identity(), nn.Tanh()]
    items.insert(1, nn.Sigmoid())
    assert [type(m).__name__ for m in items] == ["ReLU", "Sigmoid", "Identity", "Tanh"]
    del items[1:3]
    assert list(items._modules) == ["0", "1"]
    assert type(items[::-1][0]) is nn.Tanh

    table = nn.ModuleDict({"a": nn.ReLU()})
    table["b"] = nn.Linear(1, 1)
    table.update([("a", nn.Tanh())])
    assert next(iter(table.items())) == ("a", table["a"])
    assert type(table.pop("a")) is nn.Tanh
    assert "a" not in table
    assert list(table.state_dict()) == ["b.weight", "b.bias"]
    with pytest.raises(KeyError, match="already exists"):
        table["keys"] = nn.ReLU()

    params = nn.ParameterList([fx.zeros(1), fx.ones(2)])
    params.append(fx.ones(3))
    assert [tuple(p.shape) for p in params.parameters()] == [(1,), (2,), (3,)]
    assert list(params.state_dict()) == ["0", "1", "2"]
    params[0] = fx.ones(5)
    assert isinstance(params[0], nn.Parameter)
    assert tuple(params.pop().shape) == (3,)
    assert len(params) == 2

    named = nn.ParameterDict({"x": fx.zeros(1)})
    named["y"] = nn.Parameter(fx.ones(2))
    assert list(named.state_dict()) == ["x", "y"]
    assert named.get("z") is None
    del named["x"]
    assert list(named) == ["y"]
    assert len(list(named.parameters())) == 1


def test_parameter():
    source = fx.zeros(3)
    p = nn.Parameter(source)
    assert isinstance(p, fx.Tensor)
    assert p.data_ptr() == source.data_ptr()
    assert p.is_leaf
    assert type(p * 2) is fx.Tensor
    assert repr(p).startswith("Parameter containing:\n")
    assert "requires_grad=True" in repr(p)
    assert nn.Parameter(fx.zeros(1), requires_grad=False).requires_grad is False
    assert nn.Parameter().numel() == 0
    q = nn.Parameter(fx.ones(2, requires_grad=True) * 2)
    assert q.is_leaf
    with pytest.raises(TypeError, match="cannot make a Parameter from 'list'"):
        nn.Parameter([1.0])
