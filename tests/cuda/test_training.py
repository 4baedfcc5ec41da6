"""Modules, losses and optimisers on the device: the same steps as on the CPU; checkpoints; random streams."""

import numpy as np
import pytest

import ferrox as fx
from ferrox import nn
from ferrox._core.tensor.generator import default_generator


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.first = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)
        self.batch = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.25)
        self.last = nn.Linear(8, 3)
        self.scale = nn.Parameter(fx.tensor(1.5))

    def forward(self, index):
        x = self.embedding(index).mean(1)
        # No normalisation right behind a bias: it would have a gradient of rounding errors only.
        x = self.norm(nn.functional.silu(self.batch(nn.functional.gelu(self.first(x)))))
        return self.last(self.dropout(x)) * self.scale


OPTIMISERS = {
    "SGD": lambda params: fx.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda params: fx.optim.Adam(params, lr=0.01, amsgrad=True),
    "AdamW": lambda params: fx.optim.AdamW(params, lr=0.01),
}


def train(device, optimiser, steps=4):
    fx.manual_seed(3)
    model = Net().to(device)
    fx.manual_seed(3)  # the parameters were drawn on the CPU
    optimiser = OPTIMISERS[optimiser](model.parameters())
    schedule = fx.optim.lr_scheduler.StepLR(optimiser, 2, 0.5)
    data = np.random.default_rng(4)
    losses = []
    for _ in range(steps):
        index = fx.tensor(data.integers(0, 7, (10, 5))).to(device)
        target = fx.tensor(data.integers(0, 3, 10)).to(device)
        loss = nn.functional.cross_entropy(model(index), target, label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return model, optimiser, losses


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_the_same_steps_as_on_the_cpu(optimiser):
    there, state, losses = train("cuda", optimiser)
    here, _, expected = train("cpu", optimiser)
    np.testing.assert_allclose(losses, expected, rtol=2e-4)
    for (name, one), (_, other) in zip(there.state_dict().items(), here.state_dict().items(), strict=True):
        assert one.device.type == "cuda" and one.dtype == other.dtype
        np.testing.assert_allclose(one.cpu().numpy(), other.numpy(), rtol=2e-3, atol=2e-4, err_msg=name)
    for held in state.state.values():
        assert all(value.device.type == "cuda" for key, value in held.items()
                   if isinstance(value, fx.Tensor) and key != "step")  # fmt: skip


def test_checkpoints(tmp_path):
    model, optimiser, _ = train("cuda", "Adam", 2)
    path = tmp_path / "model.safetensors"
    fx.save({"model": model.state_dict(), "optimiser": optimiser.state_dict()}, path)
    loaded = fx.load(path)
    for name, value in model.state_dict().items():
        assert loaded["model"][name].device == value.device
        np.testing.assert_array_equal(loaded["model"][name].cpu().numpy(), value.cpu().numpy())
    again = Net().cuda()
    again.load_state_dict(loaded["model"])
    other = OPTIMISERS["Adam"](again.parameters())
    other.load_state_dict(loaded["optimiser"])
    for one, two in ((model, optimiser), (again, other)):
        fx.manual_seed(5)
        one.zero_grad()
        loss = one(fx.tensor([[1, 2], [3, 4]]).cuda()).square().sum()
        loss.backward()
        two.step()
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        np.testing.assert_array_equal(one.detach().cpu().numpy(), two.detach().cpu().numpy())


def test_checkpoints_elsewhere(tmp_path):
    path = tmp_path / "x.safetensors"
    x = fx.tensor([[1.0, 2.0], [3.0, 4.0]]).cuda()
    fx.save({"x": x.t(), "y": x[:0]}, path)
    assert fx.load(path)["x"].device == x.device
    loaded = fx.load(path, map_location="cpu")
    assert loaded["x"].device.type == "cpu" and loaded["x"].tolist() == [[1, 3], [2, 4]] and loaded["y"].shape == (0, 2)


def test_pickles_and_copies():
    import copy
    import pickle

    x = fx.tensor([1.0, 2.0, 3.0]).cuda().requires_grad_()
    for made in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x)):
        assert made.device == x.device and made.tolist() == x.tolist() and made.requires_grad
        assert made.data_ptr() != x.data_ptr()


def test_moving_a_module():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = [p.detach().clone() for p in model.parameters()]
    assert model.cuda() is model
    assert {value.device.type for value in model.state_dict().values()} == {"cuda"}
    model.half()
    assert model[0].weight.dtype == fx.float16 and model[0].weight.device.type == "cuda"
    model.float().cpu()
    for one, other in zip(model.parameters(), before, strict=True):
        np.testing.assert_allclose(one.detach().numpy(), other.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_random_numbers_are_those_of_the_cpu(dtype):
    kind = getattr(fx, dtype)
    draws = {
        "rand": lambda device: fx.rand(1001, device=device, dtype=kind),
        "randn": lambda device: fx.randn(10, 11, device=device, dtype=kind),
        "randint": lambda device: fx.randint(-5, 90, (77,), device=device),
        "randperm": lambda device: fx.randperm(50, device=device),
        "bernoulli": lambda device: fx.bernoulli(fx.full((99,), 0.3, device=device, dtype=kind)),
        "dropout": lambda device: nn.functional.dropout(fx.ones(321, device=device, dtype=kind), 0.4),
        "exponential_": lambda device: fx.empty(55, device=device, dtype=kind).exponential_(2.0),
        "multinomial": lambda device: fx.multinomial(fx.arange(1.0, 9.0, device="cpu").to(device), 5),
    }
    for name, draw in draws.items():
        fx.manual_seed(11)
        there = [draw("cuda"), draw("cuda")]
        fx.manual_seed(11)
        for each in there:
            here = draw("cpu")
            assert each.dtype == here.dtype and each.device.type == "cuda"
            assert name not in ("rand", "randint", "bernoulli", "dropout", "randperm") or (
                each.cpu().double().tolist() == here.double().tolist()
            )
            np.testing.assert_allclose(each.cpu().double().numpy(), here.double().numpy(), rtol=1e-2, atol=1e-6)


def test_generators_per_device():
    g = fx.Generator("cuda").manual_seed(5)
    one = fx.rand(6, device="cuda", generator=g)
    two = fx.rand(6, device="cuda", generator=g)
    assert fx.rand(6, device="cuda", generator=g.manual_seed(5)).tolist() == one.tolist() != two.tolist()
    with pytest.raises(RuntimeError, match="device type for generator"):
        fx.rand(3, generator=g)
    if fx.cuda.device_count() > 1:
        fx.manual_seed(9)
        with fx.cuda.device(1):
            assert default_generator("cuda", 0).device == fx.device("cuda:0")
            assert default_generator("cuda").device == fx.device("cuda:1")
        assert fx.rand(4, device="cuda:1").tolist() == fx.rand(4, device="cuda:0").tolist()
