"""Parameters, buffers and modules that stand in several places: they stay one through everything that copies a tree."""

import copy
import pickle

import pytest

import ferrox as fx
from ferrox import nn


class Tied(nn.Module):
    """A weight, a buffer and a child, each in two places."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("scale", fx.ones(3))
        self.inner = nn.Module()
        self.inner.register_buffer("scale", self.scale)
        self.norm = nn.BatchNorm1d(3)
        self.inner.norm = self.norm

    def forward(self, x):
        return self.second(self.norm(self.first(x) * self.scale))


def assert_tied(model):
    assert model.first.weight is model.second.weight
    assert model.scale is model.inner.scale
    assert model.norm is model.inner.norm
    for child in model.modules():
        for registry in (child._parameters, child._buffers):
            for name, value in registry.items():
                assert getattr(child, name) is value
    assert len(list(model.parameters())) == 5
    assert len(list(model.named_parameters(remove_duplicate=False))) == 6 + 2
    assert [name for name, _ in model.named_buffers()] == [
        "scale", "inner.norm.running_mean", "inner.norm.running_var", "inner.norm.num_batches_tracked",
    ]  # fmt: skip


@pytest.mark.parametrize("made", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), copy.copy], ids=range(3))
def test_copies(made):
    model = Tied()
    other = made(model)
    assert_tied(other)
    assert other.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("convert", ["double", "half", "bfloat16", "to", "name", "type", "cpu", "share"])
def test_conversions(convert):
    model = Tied()
    weight = model.first.weight
    weight.grad = fx.ones(3, 3)
    calls = []
    if convert == "to":
        model.to(fx.float64)
    elif convert == "name":
        assert model.to("float64").first.weight.dtype == fx.float64
    elif convert == "type":
        model.type(fx.float64)
    elif convert == "share":
        model._apply(lambda tensor: calls.append(tensor) or tensor * 2)
        # Each once: five parameters, one gradient, one plain buffer and the three of the norm.
        assert len(calls) == 5 + 1 + 1 + 3
        assert model.scale.tolist() == [2.0, 2.0, 2.0]
    else:
        getattr(model, convert)()
    assert_tied(model)
    assert model.first.weight is weight
    assert weight.grad.dtype == weight.dtype


def test_overridden_apply_still_sees_a_function():
    seen = []

    class Own(nn.Module):
        def _apply(self, fn):
            seen.append(fn(fx.ones(1)).dtype)
            return super()._apply(fn)

    nn.Sequential(Own(), Own()).double()
    assert seen == [fx.float64, fx.float64]


@pytest.mark.parametrize("assign", [False, True])
def test_state_dict_and_back(assign):
    model, source = Tied(), Tied()
    state = source.state_dict()
    assert "first.weight" in state
    assert "second.weight" in state
    assert model.load_state_dict(state, assign=assign).missing_keys == []
    assert_tied(model)
    assert model.first.weight.tolist() == source.first.weight.tolist()
    # The two places differ: the last counts, whichever way.
    state = {name: value.clone() for name, value in state.items()}
    state["second.weight"] += 1
    model.load_state_dict(state, assign=assign)
    assert_tied(model)
    assert model.first.weight.tolist() == state["second.weight"].tolist()
    # One of them is missing.
    del state["second.weight"], state["inner.scale"]
    state["scale"] *= 3
    model.load_state_dict(state, strict=False, assign=assign)
    assert_tied(model)
    assert model.second.weight.tolist() == state["first.weight"].tolist()
    assert model.inner.scale.tolist() == [3.0] * 3


def test_assigned_parameters_are_taken_as_they_are():
    model, weight = Tied(), nn.Parameter(fx.zeros(3, 3))
    model.load_state_dict({"first.weight": weight}, strict=False, assign=True)
    assert model.first.weight is weight
    assert_tied(model)
    swapped = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    one, two = swapped[0].weight, swapped[1].weight
    swapped.load_state_dict({"0.weight": two, "1.weight": one}, strict=False, assign=True)
    assert (swapped[0].weight is two, swapped[1].weight is one) == (True, True)


def test_gradients_add_up_and_one_step_is_taken():
    model = Tied().double()
    model.requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters())
    model.requires_grad_(True)
    x = fx.rand(4, 3, dtype=fx.float64)
    first, second = (nn.Parameter(model.first.weight.detach().clone()) for _ in range(2))
    untied = copy.deepcopy(model)
    untied.first.weight, untied.second.weight = first, second
    model(x).square().sum().backward()
    untied(x).square().sum().backward()
    total = first.grad + second.grad
    fx.testing.assert_close(model.first.weight.grad, total)
    before = model.first.weight.detach().clone()
    fx.optim.SGD(model.parameters(), lr=0.25).step()
    fx.testing.assert_close(model.second.weight.detach(), before - 0.25 * total)
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        fx.optim.SGD([{"params": model.first.parameters()}, {"params": model.second.parameters()}], lr=0.1)


def test_vectors_of_parameters_round_trip():
    model = Tied()
    before = [p.detach().clone() for p in model.parameters()]
    vector = nn.utils.parameters_to_vector(model.parameters())
    assert vector.numel() == 9 + 3 + 3 + 3 + 3
    nn.utils.vector_to_parameters(fx.zeros_like(vector), model.parameters())
    assert all(not p.detach().any() for p in model.parameters())
    nn.utils.vector_to_parameters(vector, model.parameters())
    assert_tied(model)
    assert all(p.tolist() == old.tolist() for p, old in zip(model.parameters(), before, strict=True))
    for wrong in (vector[:-1], fx.cat([vector, vector[:1]])):
        with pytest.raises(ValueError, match=rf"\[vector_to_parameters\] .* 21 elements.* got {wrong.numel()}"):
            nn.utils.vector_to_parameters(wrong, model.parameters())
    assert all(p.tolist() == old.tolist() for p, old in zip(model.parameters(), before, strict=True))
