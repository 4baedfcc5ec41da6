"""Schedules against PyTorch's sequences of learning rates."""

import warnings

import pytest
from peers import torch

import ferrox as fx


def optimizers(lrs=(0.5, 0.1)):
    def groups(lib):
        return [{"params": [lib.nn.Parameter(lib.ones(1))], "lr": lr} for lr in lrs]

    return fx.optim.SGD(groups(fx)), torch.optim.SGD(groups(torch))


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


CASES = {
    "StepLR": {"step_size": 3, "gamma": 0.5},
    "MultiStepLR": {"milestones": [2, 5, 5, 9], "gamma": 0.5},
    "ConstantLR": {"factor": 0.25, "total_iters": 4},
    "LinearLR": {"start_factor": 0.2, "end_factor": 0.8, "total_iters": 6},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {"total_iters": 7, "power": 2.0},
    "CosineAnnealingLR": {"T_max": 5, "eta_min": 0.01},
    "CosineAnnealingWarmRestarts": {"T_0": 3, "T_mult": 2, "eta_min": 0.01},
    "LambdaLR": {"lr_lambda": [lambda epoch: 0.9**epoch, lambda epoch: 1 / (1 + epoch)]},
    "MultiplicativeLR": {"lr_lambda": lambda epoch: 0.95},
}


def build(lib, optimizer, name, **options):
    return getattr(lib.optim.lr_scheduler, name)(optimizer, **options)


@pytest.mark.parametrize("name", CASES)
def test_sequence(name):
    mine, other = optimizers()
    schedule, reference = build(fx, mine, name, **CASES[name]), build(torch, other, name, **CASES[name])
    assert rates(mine) == rates(other)
    for _ in range(25):
        mine.step()
        other.step()
        schedule.step()
        reference.step()
        assert rates(mine) == pytest.approx(rates(other), rel=1e-14)
        assert schedule.get_last_lr() == rates(mine)
        assert schedule.last_epoch == reference.last_epoch


@pytest.mark.parametrize("name", CASES)
def test_resume(name):
    mine, _ = optimizers()
    schedule = build(fx, mine, name, **CASES[name])
    for _ in range(4):
        mine.step()
        schedule.step()
    again, _ = optimizers()
    resumed = build(fx, again, name, **CASES[name])
    again.load_state_dict(mine.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    for _ in range(6):
        mine.step()
        again.step()
        schedule.step()
        resumed.step()
        assert rates(again) == rates(mine)


@pytest.mark.filterwarnings("ignore")
def test_given_epochs():
    for name in ("StepLR", "MultiStepLR", "LinearLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "LambdaLR"):
        mine, other = optimizers()
        schedule, reference = build(fx, mine, name, **CASES[name]), build(torch, other, name, **CASES[name])
        for epoch in (3, 1, 8, 20):
            schedule.step(epoch)
            reference.step(epoch)
            assert rates(mine) == pytest.approx(rates(other), rel=1e-14)


def composite(lib, optimizer, kind):
    s = lib.optim.lr_scheduler
    warm = s.LinearLR(optimizer, 0.1, total_iters=4)
    decay = s.CosineAnnealingLR(optimizer, 6)
    tail = s.ExponentialLR(optimizer, 0.8)
    if kind == "sequential":
        return s.SequentialLR(optimizer, [warm, decay, tail], [4, 10])
    return s.ChainedScheduler([warm, tail])


@pytest.mark.parametrize("kind", ["sequential", "chained"])
def test_composites(kind):
    mine, other = optimizers()
    schedule, reference = composite(fx, mine, kind), composite(torch, other, kind)
    for step in range(20):
        assert rates(mine) == pytest.approx(rates(other), rel=1e-14)
        mine.step()
        other.step()
        schedule.step()
        reference.step()
        if step == 7:
            state = schedule.state_dict()
            schedule = composite(fx, mine, kind)
            schedule.load_state_dict(state)
            for group, lr in zip(mine.param_groups, schedule.get_last_lr(), strict=True):
                group["lr"] = lr


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "max", "threshold_mode": "abs", "threshold": 0.01, "patience": 1},
        {"factor": 0.5, "patience": 2, "cooldown": 3, "min_lr": [0.2, 0.01]},
        {"patience": 0, "min_lr": 0.05},
    ],
)
def test_plateau(options):
    mine, other = optimizers()
    schedule, reference = (
        build(fx, mine, "ReduceLROnPlateau", **options),
        build(torch, other, "ReduceLROnPlateau", **options),
    )
    generator = torch.Generator().manual_seed(0)
    metrics = (torch.rand(60, generator=generator) * 0.1 + 1.0).tolist()
    for metric in metrics:
        schedule.step(metric)
        reference.step(metric)
        assert rates(mine) == rates(other)
        assert schedule.num_bad_epochs == reference.num_bad_epochs


def test_order_warning_and_no_trace_on_the_optimizer():
    mine, _ = optimizers()
    schedule = build(fx, mine, "StepLR", step_size=1)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        schedule.step()
    mine, _ = optimizers()
    schedule = build(fx, mine, "StepLR", step_size=1)
    mine.step()
    assert "step" not in vars(mine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.step()


def test_errors():
    mine, _ = optimizers()
    s = fx.optim.lr_scheduler
    with pytest.raises(TypeError, match="is not an Optimizer"):
        s.StepLR(object(), 1)
    with pytest.raises(ValueError, match="Starting multiplicative factor"):
        s.LinearLR(mine, start_factor=0.0)
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas, but got 1"):
        s.LambdaLR(mine, [lambda epoch: 1.0])
    with pytest.raises(ValueError, match="one more than the number of milestone"):
        s.SequentialLR(mine, [s.ConstantLR(mine)], [1])
    with pytest.raises(ValueError, match="same optimizer"):
        s.ChainedScheduler([s.ConstantLR(mine), s.ConstantLR(optimizers()[0])])
    with pytest.raises(KeyError, match="initial_lr"):
        s.StepLR(optimizers()[0], 1, last_epoch=3)
