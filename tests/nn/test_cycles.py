"""What refers to itself, through hooks, parents, schedules or loaders, is freed by the collector, or without it."""

import copy
import gc
import weakref

import pytest

import ferrox as fx
from ferrox import nn


def run(model, *, backward=True):
    y = model(fx.ones(1, 2, requires_grad=True)).sum()
    if backward:
        y.backward()
    return y


def plain():
    model = nn.Linear(2, 2)
    return [model, run(model)]


def backward_hook():
    model = nn.Linear(2, 2)
    model.register_full_backward_hook(lambda *args: None)
    return [model, run(model)]


def backward_hook_never_run():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model[1].register_full_backward_pre_hook(lambda *args: None)
    model[1].register_full_backward_hook(lambda *args: None)
    return [model, run(model, backward=False)]


def schedule():
    model = nn.Linear(2, 2)
    optimizer = fx.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    following = fx.optim.lr_scheduler.StepLR(optimizer, 1)
    run(model)
    optimizer.step()
    following.step()
    return [following, optimizer, model, model.weight.grad]


def schedule_before_its_first_step():
    optimizer = fx.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    return [fx.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3), optimizer]


@pytest.mark.parametrize(
    "made", [plain, backward_hook, backward_hook_never_run, schedule, schedule_before_its_first_step]
)
def test_no_cycles(made):
    gc.collect()
    gc.disable()
    try:
        left = [weakref.ref(each) for each in made()]
        assert [ref() for ref in left] == [None] * len(left)
    finally:
        gc.enable()


def stored_output():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model.seen = {}
    for name, child in model.named_modules():
        child.register_forward_hook(lambda module, args, out, name=name: model.seen.update({name: (module, args, out)}))
    return [model, run(model), *[out for _, _, out in model.seen.values()]]


def stored_gradients():
    model = nn.Linear(2, 2)
    model.seen = []
    model.register_full_backward_hook(lambda *args: model.seen.append(args))
    return [model, run(model), *model.seen[0][2]]


def parents():
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].__dict__["parent"] = model
    other = copy.deepcopy(model)
    object.__setattr__(other, "first", model)
    object.__setattr__(model, "second", other)
    return [model, other, other[0].parent]


def optimizer_hook():
    model = nn.Linear(2, 2)
    optimizer = fx.optim.Adam(model.parameters())
    optimizer.register_step_post_hook(lambda *args: optimizer)
    optimizer.mine = optimizer
    run(model)
    optimizer.step()
    return [optimizer, model, optimizer.state[model.weight]["exp_avg"]]


def nested_schedules():
    optimizer = fx.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    S = fx.optim.lr_scheduler
    inner = S.ChainedScheduler([S.StepLR(optimizer, 1), S.LambdaLR(optimizer, lambda epoch: optimizer and 1.0)])
    outer = S.SequentialLR(optimizer, [S.StepLR(optimizer, 1), inner], [2])
    optimizer.schedule = outer
    return [outer, inner, optimizer]


def state_hooks():
    model = nn.Linear(2, 2)
    model.register_state_dict_pre_hook(lambda *args: model)
    model.register_load_state_dict_post_hook(lambda *args: model and None)
    model.load_state_dict(model.state_dict())
    return [model]


def containers():
    items, names = nn.ParameterList([fx.ones(1)]), nn.ParameterDict({"a": fx.ones(1)})
    items.other, names.other = [names], [items]
    return [items, names, items[0], names["a"]]


@pytest.mark.parametrize(
    "made",
    [stored_output, stored_gradients, parents, optimizer_hook, nested_schedules, state_hooks, containers],
)
def test_cycles_are_collected(made):
    left = [weakref.ref(each) for each in made()]
    gc.collect()
    assert [ref() for ref in left] == [None] * len(left)


def test_hooks_over_all_modules_keep_nothing():
    handle = nn.module.register_module_forward_hook(lambda *args: None)
    model = nn.Linear(2, 2)
    left = [weakref.ref(model), weakref.ref(run(model))]
    handle.remove()
    del model
    gc.collect()
    assert [ref() for ref in left] == [None, None]
