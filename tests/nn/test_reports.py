"""Small programs after well-known reports on layers, optimisers, loading and data, against values worked out by hand.

The numbers in the names are those of PyTorch's issues.
"""

import collections
import copy
import math
import pickle

import pytest

import ferrox as fx
from ferrox import nn
from ferrox.optim import SGD, Adam, AdamW, lr_scheduler
from ferrox.utils import data as D


def parameter(*values, dtype=fx.float32, grad=None):
    p = nn.Parameter(fx.tensor(values, dtype=dtype))
    if grad is not None:
        p.grad = fx.full_like(p.detach(), grad)
    return p


# ---- modules


def test_72778_a_destination_of_ones_own():
    model = nn.Sequential(nn.Linear(1, 1))
    plain = collections.OrderedDict()
    assert model.state_dict(plain) is plain
    assert list(plain) == ["0.weight", "0.bias"]
    prefixed = {}
    model.state_dict(destination=prefixed, prefix="x.")
    assert list(prefixed) == ["x.0.weight", "x.0.bias"]


def test_27441_updating_dicts_with_dicts():
    modules, params = nn.ModuleDict({"x": nn.Linear(1, 1)}), nn.ParameterDict({"x": fx.ones(1)})
    more_modules, more_params = nn.ModuleDict(), nn.ParameterDict()
    more_modules.update(modules)
    more_params.update(params)
    assert more_modules["x"] is modules["x"]
    assert more_params["x"] is params["x"]


def test_121008_slices_of_lists_share_their_modules():
    layers = nn.ModuleList([nn.Linear(1, 1) for _ in range(4)])
    assert layers[1:3][0] is layers[1]
    first, last = layers[0], layers[-1]
    del layers[1:3]
    assert list(layers) == [first, last]
    layers.insert(-1, nn.ReLU())
    assert list(layers.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_parameters_become_buffers_and_none():
    layer = nn.Linear(1, 1)
    del layer.bias
    layer.register_buffer("bias", fx.zeros(1))
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert len(list(layer.parameters())) == 1
    layer = nn.Linear(1, 1)
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]
    assert layer(fx.ones(1)).item() == layer.weight.item()
    layer.bias = parameter(2.0)
    assert layer(fx.ones(1)).item() == pytest.approx(layer.weight.item() + 2)


def test_loading_keeps_dtype_and_requires_grad():
    layer = nn.Linear(2, 2).requires_grad_(False)
    layer.load_state_dict(nn.Linear(2, 2).double().state_dict())
    assert (layer.weight.dtype, layer.weight.requires_grad) == (fx.float32, False)


def test_hooks_that_remove_themselves_and_copies_of_hooked_modules():
    layer, calls = nn.Linear(1, 1), []
    handle = layer.register_forward_hook(lambda *args: (calls.append(1), handle.remove())[1])
    layer(fx.ones(1))
    layer(fx.ones(1))
    assert calls == [1]
    layer.register_forward_hook(lambda *args: calls.append(2))
    copy.deepcopy(layer)(fx.ones(1))
    assert calls == [1, 2]


def test_46849_norms_of_gradients():
    p = parameter(0.0, 0.0)
    p.grad = fx.tensor([math.inf, 1.0])
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad.tolist() == [math.inf, 1.0]
    p.grad = fx.tensor([3e25, 4e25])  # whose squares are beyond float32
    assert nn.utils.clip_grad_norm_(p, 1.0).item() == pytest.approx(5e25)
    assert p.grad.tolist() == pytest.approx([0.6, 0.8])
    p.grad = fx.tensor([-3.0, 4.0])
    assert nn.utils.clip_grad_norm_(iter([p]), 100, norm_type=math.inf).item() == 4
    half = parameter(*[0.0] * 4, dtype=fx.float16, grad=300.0)  # and beyond float16
    assert float(nn.utils.clip_grad_norm_([half], 1.0)) == 600
    assert nn.utils.clip_grad_norm_([parameter(1.0)], 1.0).item() == 0


def test_batch_norm_with_a_cumulative_average():
    norm = nn.BatchNorm1d(1, momentum=None)
    for pair in ([[1.0], [3.0]], [[5.0], [7.0]], [[0.0], [2.0]]):
        norm(fx.tensor(pair))
    assert norm.running_mean.item() == pytest.approx((2 + 6 + 1) / 3)
    assert norm.running_var.item() == pytest.approx((1 * 0 + 2 + 2 + 2) / 3)
    norm.eval()(fx.ones(1, 1))
    assert norm.num_batches_tracked.item() == 3
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm.train()(fx.ones(1, 1))


def test_embeddings_with_padding_and_norms():
    table = nn.Embedding(4, 2, padding_idx=-3)
    assert table.padding_idx == 1
    table(fx.tensor([1, 2, 1])).sum().backward()
    assert table.weight.grad.tolist() == [[0, 0], [0, 0], [1, 1], [0, 0]]
    short = nn.Embedding.from_pretrained(fx.tensor([[3.0, 4.0], [0.3, 0.4]]), max_norm=1.0)
    assert short(fx.tensor([0, 1])).norm(dim=1).tolist() == pytest.approx([1.0, 0.5])


def test_losses_at_their_edges():
    scores = fx.tensor([[0.2, 1.3, -0.5], [2.0, 0.1, 0.4]], dtype=fx.float64)
    assert math.isnan(nn.CrossEntropyLoss()(scores, fx.tensor([-100, -100])).item())
    assert nn.CrossEntropyLoss(reduction="sum")(scores, fx.tensor([-100, -100])).item() == 0
    weights, targets = [1.0, 2.0, 0.5], [1, 2]
    loss = nn.CrossEntropyLoss(weight=fx.tensor(weights, dtype=fx.float64), label_smoothing=0.1)
    above = below = 0.0
    for row, target in zip(scores.tolist(), targets, strict=True):
        logs = [x - math.log(sum(map(math.exp, row))) for x in row]
        above -= 0.9 * weights[target] * logs[target] + 0.1 / 3 * sum(map(float.__mul__, weights, logs))
        below += weights[target]
    assert loss(scores, fx.tensor(targets)).item() == pytest.approx(above / below, rel=1e-12)
    assert nn.BCELoss()(fx.tensor([0.0, 1.0]), fx.tensor([1.0, 0.0])).item() == 100
    x = fx.ones(5, requires_grad=True)
    nn.Dropout(1.0)(x).sum().backward()
    assert x.grad.tolist() == [0.0] * 5


def test_nothing_in_and_nothing_out():
    assert tuple(nn.Linear(3, 2)(fx.ones(0, 3)).shape) == (0, 2)
    layer = nn.Linear(0, 2)
    assert layer(fx.ones(4, 0)).tolist() == [layer.bias.tolist()] * 4


# ---- optimisers


def test_1488_loaded_state_still_makes_entries():
    optimizer = SGD([parameter(1.0)], lr=0.1)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.state["mine"]["count"] = 1
    assert isinstance(optimizer.state, collections.defaultdict)


def test_143828_an_empty_group():
    p = parameter(1.0, grad=1.0)
    groups = [{"params": [p]}, {"params": [], "lr": 0.5}]
    optimizer = AdamW(groups)
    optimizer.step()
    again = AdamW([{"params": [p]}, {"params": []}])
    again.load_state_dict(optimizer.state_dict())
    again.step()
    assert again.param_groups[1]["lr"] == 0.5


def test_74424_counts_beyond_float16():
    p = parameter(1.0, dtype=fx.float16, grad=1.0)
    optimizer = Adam([p])
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0]["step"] = fx.tensor(70000.0)
    optimizer.load_state_dict(state)
    optimizer.step()
    assert float(optimizer.state[p]["step"]) == 70001


def test_decay_and_rates_of_zero():
    p = parameter(1.0, grad=0.0)
    AdamW([p], lr=0.1, weight_decay=0.5).step()
    assert p.item() == pytest.approx(0.95)
    p = parameter(1.0, grad=0.0)
    Adam([p], lr=0.1).step()
    assert p.item() == 1.0
    p = parameter(1.0, grad=1.0)
    optimizer = SGD([p], lr=0.0, momentum=0.9)
    optimizer.step()
    assert (p.item(), optimizer.state[p]["momentum_buffer"].item()) == (1.0, 1.0)


def test_copies_of_a_training_state_hang_together():
    model = nn.Linear(1, 1)
    optimizer = SGD(model.parameters(), lr=0.5, momentum=0.9)
    schedule = lr_scheduler.StepLR(optimizer, 1)
    model(fx.ones(1)).sum().backward()
    optimizer.step()
    for made in (copy.deepcopy, lambda parts: pickle.loads(pickle.dumps(parts))):
        model2, optimizer2, schedule2 = made((model, optimizer, schedule))
        assert optimizer2.param_groups[0]["params"][0] is model2.weight
        assert model2.weight in optimizer2.state
        assert schedule2.optimizer is optimizer2
    # The wrapper that a schedule puts around `step` is the original's alone.
    optimizer = SGD([parameter(1.0)], lr=1.0)
    lr_scheduler.StepLR(optimizer, 1)
    other = copy.deepcopy(optimizer)
    p = other.param_groups[0]["params"][0]
    p.grad = fx.ones(1)
    other.step()
    assert (p.item(), optimizer.param_groups[0]["params"][0].item()) == (0.0, 1.0)


def test_72874_the_first_of_several_schedules_counts():
    optimizer = SGD([parameter(1.0)], lr=0.1)
    constant = [lr_scheduler.ConstantLR(optimizer, factor) for factor in (1, 0.1)]
    lr_scheduler.SequentialLR(optimizer, constant, [10])
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_metric_that_is_not_a_number_is_no_improvement():
    optimizer = SGD([parameter(1.0)], lr=1.0)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    schedule.step(math.nan)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


# ---- data


def test_67740_parts_have_their_lengths_and_can_be_walked():
    parts = D.random_split(range(10), [3, 7], generator=fx.Generator().manual_seed(42))
    assert list(map(len, parts)) == [3, 7]
    assert sorted([*parts[0], *parts[1]]) == list(range(10))
    assert list(D.ConcatDataset([[1, 2], [3]])) == [1, 2, 3]
    assert [row[0].item() for row in D.TensorDataset(fx.arange(3))] == [0, 1, 2]


def test_arrays_read_backwards_and_weights_of_zero():
    numpy = pytest.importorskip("numpy")
    assert D.default_collate([numpy.arange(3)[::-1]] * 2).tolist() == [[2, 1, 0]] * 2
    assert set(D.WeightedRandomSampler([0.0] * 100_000 + [1.0], 5)) == {100_000}
    assert D.default_collate([{"a": []}, {"a": []}]) == {"a": []}
