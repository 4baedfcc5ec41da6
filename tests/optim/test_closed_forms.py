"""Schedules against their closed forms, written out here: at every step, by `step(epoch)`, resumed and chained."""

import math
import random
import warnings

import pytest

import ferrox as fx

S = fx.optim.lr_scheduler


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        yield


def optimizer(*lrs):
    return fx.optim.SGD([{"params": [fx.nn.Parameter(fx.ones(1))], "lr": lr} for lr in lrs or (0.5, 0.1)])


def rates(opt):
    return [float(group["lr"]) for group in opt.param_groups]


def cosine(t, T):
    return (1 + math.cos(math.pi * t / T)) / 2


# name: options, and the learning rate at epoch e from the initial one
FORMS = {
    "StepLR": ({"step_size": 3, "gamma": 0.7}, lambda lr, e: lr * 0.7 ** (e // 3)),
    "MultiStepLR": (
        {"milestones": [2, 5, 5, 9], "gamma": 0.5},
        lambda lr, e: lr * 0.5 ** sum(m <= e for m in (2, 5, 5, 9)),
    ),
    "ConstantLR": ({"factor": 0.25, "total_iters": 4}, lambda lr, e: lr * (0.25 if e < 4 else 1)),
    "ConstantLR of 0": ({"factor": 0.0, "total_iters": 4}, lambda lr, e: lr * (0 if e < 4 else 1)),
    "LinearLR": (
        {"start_factor": 0.2, "end_factor": 0.0, "total_iters": 6},
        lambda lr, e: lr * (0.2 - 0.2 * min(e, 6) / 6),
    ),
    "LinearLR of 0": ({"start_factor": 0.2, "end_factor": 0.9, "total_iters": 0}, lambda lr, e: lr * 0.9),
    "ExponentialLR": ({"gamma": 0.99}, lambda lr, e: lr * 0.99**e),
    "PolynomialLR": ({"total_iters": 7, "power": 1.5}, lambda lr, e: lr * (1 - min(e, 7) / 7) ** 1.5),
    "CosineAnnealingLR": ({"T_max": 5, "eta_min": 0.01}, lambda lr, e: 0.01 + (lr - 0.01) * cosine(e, 5)),
    "CosineAnnealingLR above": ({"T_max": 7, "eta_min": 0.8}, lambda lr, e: 0.8 + (lr - 0.8) * cosine(e, 7)),
    "CosineAnnealingLR of 1": ({"T_max": 1}, lambda lr, e: lr * cosine(e, 1)),
    "CosineAnnealingWarmRestarts": ({"T_0": 4, "eta_min": 0.8}, lambda lr, e: 0.8 + (lr - 0.8) * cosine(e % 4, 4)),
    "LambdaLR": ({"lr_lambda": lambda e: 1 / (1 + e)}, lambda lr, e: lr / (1 + e)),
    "MultiplicativeLR": (
        {"lr_lambda": lambda e: 1 - 1 / (e + 2)},
        lambda lr, e: lr * math.prod(1 - 1 / (k + 2) for k in range(1, math.floor(e) + 1)),
    ),
}


def build(opt, name, **more):
    return getattr(S, name.split()[0])(opt, **FORMS[name][0], **more)


def expected(name, epoch, lrs=(0.5, 0.1)):
    return pytest.approx([FORMS[name][1](lr, epoch) for lr in lrs], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", FORMS)
def test_every_step(name):
    opt = optimizer()
    schedule = build(opt, name)
    for epoch in range(400):
        assert rates(opt) == expected(name, epoch), epoch
        assert schedule.get_last_lr() == rates(opt)
        schedule.step()


@pytest.mark.parametrize("name", FORMS)
def test_given_epochs_and_steps_after_them(name):
    opt = optimizer()
    schedule = build(opt, name)
    for epoch in [random.randrange(30) for _ in range(20)]:
        schedule.step(epoch)
        assert rates(opt) == expected(name, epoch), epoch
        for later in range(epoch + 1, epoch + random.randrange(4)):
            schedule.step()
            assert rates(opt) == expected(name, later), (epoch, later)


@pytest.mark.parametrize("name", FORMS)
def test_fractions_of_epochs(name):
    opt = optimizer()
    schedule = build(opt, name)
    for eighths in range(160):
        schedule.step(eighths / 8)
        assert rates(opt) == expected(name, eighths / 8), eighths
    if name not in ("CosineAnnealingWarmRestarts", "MultiplicativeLR"):
        schedule.step(3.5)
        schedule.step()
        assert rates(opt) == expected(name, 4.5)


@pytest.mark.parametrize("name", FORMS)
def test_resumed_anywhere(name):
    for stop in range(25):
        opt = optimizer()
        schedule = build(opt, name)
        for _ in range(stop):
            schedule.step()
        other = optimizer()
        resumed = build(other, name)
        resumed.load_state_dict(schedule.state_dict())
        other.load_state_dict(opt.state_dict())
        for epoch in range(stop, stop + 12):
            assert rates(other) == expected(name, epoch), (stop, epoch)
            resumed.step()


@pytest.mark.parametrize("name", [name for name in FORMS if name != "MultiplicativeLR"])
def test_resumed_by_the_last_epoch(name):
    for stop in range(1, 25):
        opt = optimizer()
        schedule = build(opt, name)
        for _ in range(stop):
            schedule.step()
        other = optimizer()
        for group, old in zip(other.param_groups, opt.param_groups, strict=True):
            group["initial_lr"], group["lr"] = old["initial_lr"], old["lr"]
        resumed = build(other, name, last_epoch=stop - 1)
        for epoch in range(stop, stop + 12):
            assert rates(other) == expected(name, epoch), (stop, epoch)
            resumed.step()


@pytest.mark.parametrize("eta_min", [0.0, 0.01, 0.8])
@pytest.mark.parametrize("name", [n for n in FORMS if not n.startswith("Constant")])
def test_after_a_schedule_that_ended_at_its_lowest(name, eta_min):
    if eta_min != FORMS[name][0].get("eta_min", 0.0):
        pytest.skip("from elsewhere a schedule goes on from where it is")
    opt = optimizer()
    first = S.CosineAnnealingLR(opt, T_max=6, eta_min=eta_min)
    for _ in range(6):
        first.step()
    assert rates(opt) == [eta_min, eta_min]
    second = build(opt, name)
    for epoch in range(1, 20):
        second.step()
        assert rates(opt) == expected(name, epoch), epoch


def test_a_rate_set_to_zero_by_hand_stays():
    for name in ("StepLR", "ExponentialLR", "CosineAnnealingLR of 1", "PolynomialLR"):
        opt = optimizer(0.5)
        schedule = build(opt, name)
        schedule.step()
        schedule.step()
        opt.param_groups[0]["lr"] = 0.0
        if name != "CosineAnnealingLR of 1":
            schedule.step()
            assert rates(opt) == [0.0]


@pytest.mark.parametrize("first", ["StepLR", "MultiStepLR", "LinearLR", "ExponentialLR", "PolynomialLR", "ConstantLR"])
@pytest.mark.parametrize("second", ["ExponentialLR", "MultiStepLR", "StepLR", "ConstantLR"])
def test_chained_factors_multiply(first, second):
    opt = optimizer()
    schedule = S.ChainedScheduler([build(opt, first), build(opt, second)])
    for epoch in range(6):
        factor = FORMS[first][1](1.0, epoch) * FORMS[second][1](1.0, epoch)
        assert rates(opt) == pytest.approx([0.5 * factor, 0.1 * factor], rel=1e-12)
        schedule.step()


@pytest.mark.parametrize("second", FORMS)
@pytest.mark.parametrize("first", ["LinearLR", "CosineAnnealingWarmRestarts"])
def test_one_after_another(first, second):
    for stop in (0, 3, 9):
        opt = optimizer()

        def made(opt):
            return S.SequentialLR(opt, [build(opt, first), build(opt, second)], [7])

        schedule = made(opt)
        for epoch in range(20):
            name, local = (first, epoch) if epoch < 7 else (second, epoch - 7)
            assert rates(opt) == expected(name, local), epoch
            if epoch == stop:
                other = optimizer()
                resumed = made(other)
                resumed.load_state_dict(schedule.state_dict())
                other.load_state_dict(opt.state_dict())
                opt, schedule = other, resumed
            schedule.step()


@pytest.mark.parametrize("T_mult", [1, 2, 3, 4])
@pytest.mark.parametrize("T_0", range(1, 21))
def test_warm_restarts_are_exact(T_0, T_mult):
    begin, length = 0, T_0
    for _ in range(9):
        for last_epoch in ({}, {"last_epoch": begin - 1}) if begin else ({},):
            opt = optimizer(0.5)
            opt.param_groups[0]["initial_lr"] = 0.5
            schedule = S.CosineAnnealingWarmRestarts(opt, T_0, T_mult, 0.01, **last_epoch)
            if not last_epoch:
                schedule.step(begin)
            assert (rates(opt), schedule.T_cur, schedule.T_i) == ([0.5], 0, length)
            schedule.step()
            assert rates(opt) == pytest.approx([0.01 + 0.49 * cosine(1 % length, length)], rel=1e-13)
        opt = optimizer(0.5)
        schedule = S.CosineAnnealingWarmRestarts(opt, T_0, T_mult, 0.01)
        schedule.step(begin + length - 1)
        assert rates(opt) == pytest.approx([0.01 + 0.49 * cosine(length - 1, length)], rel=1e-13)
        schedule.step()
        assert rates(opt) == [0.5]
        begin, length = begin + length, length * T_mult


def test_the_example_that_rounded_wrongly():
    opt = optimizer(1.0)
    S.CosineAnnealingWarmRestarts(opt, T_0=10, T_mult=3).step(1210)
    assert rates(opt) == [1.0]


def test_rates_in_tensors():
    opt = fx.optim.SGD([fx.nn.Parameter(fx.ones(1))], lr=fx.tensor(0.5))
    lr = opt.param_groups[0]["lr"]
    schedule = S.CosineAnnealingLR(opt, 8, eta_min=0.1)
    for epoch in range(40):
        assert lr.item() == pytest.approx(0.1 + 0.4 * cosine(epoch, 8), rel=1e-7)
        schedule.step()
    assert opt.param_groups[0]["lr"] is lr


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("StepLR", {"step_size": 0}, r"\[StepLR\] step_size must be positive, got 0"),
        ("PolynomialLR", {"total_iters": 0}, r"\[PolynomialLR\] total_iters must be positive, got 0"),
        ("CosineAnnealingLR", {"T_max": 0}, r"\[CosineAnnealingLR\] T_max must be positive, got 0"),
        ("ConstantLR", {"factor": -1}, r"\[ConstantLR\] got factor=-1"),
    ],
)
def test_what_makes_no_schedule_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(S, name)(optimizer(), **options)


def test_states_of_other_schedules_are_named():
    opt = optimizer()
    chained = S.ChainedScheduler([S.ExponentialLR(opt, 0.9)])
    state = S.ChainedScheduler([S.ExponentialLR(opt, 0.9), S.StepLR(opt, 2)]).state_dict()
    with pytest.raises(ValueError, match=r"\[ChainedScheduler\] the state has 2 schedulers, this one 1"):
        chained.load_state_dict(state)


@pytest.mark.parametrize("second", [name for name in FORMS if name != "MultiplicativeLR"])
@pytest.mark.parametrize("first", ["ConstantLR", "LinearLR", "CosineAnnealingWarmRestarts"])
def test_one_after_another_resumed_by_the_last_epoch(first, second):
    for stop in range(1, 15):
        opt = optimizer()
        for group in opt.param_groups:
            group["initial_lr"] = group["lr"]
        schedule = S.SequentialLR(opt, [build(opt, first), build(opt, second)], [7], last_epoch=stop - 1)
        for epoch in range(stop, stop + 10):
            name, local = (first, epoch) if epoch < 7 else (second, epoch - 7)
            assert rates(opt) == expected(name, local), (stop, epoch)
            assert schedule.last_epoch == epoch
            schedule.step()


def test_schedules_of_schedules_of_schedules():
    opt = optimizer(1.0)
    chained = S.ChainedScheduler([S.ConstantLR(opt, 0.5, 2), S.ExponentialLR(opt, 0.9)])
    inner = S.SequentialLR(opt, [S.ExponentialLR(opt, 0.8), S.StepLR(opt, 2, 0.5)], [2])
    again = S.ChainedScheduler([S.LinearLR(opt, 0.5, total_iters=2), S.StepLR(opt, 1, 0.5)])
    schedule = S.SequentialLR(opt, [chained, inner, again], [3, 8])
    expected = [0.5, 0.45, 0.81, 1.0, 0.8, 1.0, 1.0, 0.5, 0.5, 0.75 * 0.5, 0.25, 0.125]
    for epoch, rate in enumerate(expected):
        assert rates(opt) == pytest.approx([rate]), epoch
        schedule.step()


@pytest.mark.parametrize("name", FORMS)
def test_groups_that_are_added_on_the_way(name):
    opt = optimizer(0.5)
    schedule = build(opt, name)
    schedule.step()
    opt.add_param_group({"params": [fx.nn.Parameter(fx.ones(1))], "lr": 0.25})
    if "Lambda" in name or "Multiplicative" in name:
        with pytest.raises(ValueError, match="has 2 parameter groups, and there are 1 lr_lambdas: append"):
            schedule.step()
        return
    schedule.step()
    assert rates(opt)[:1] == expected(name, 2, (0.5,))
    assert schedule.base_lrs == [0.5, 0.25]
    assert len(schedule.get_last_lr()) == 2
    schedule.step(3)
    assert rates(opt) == expected(name, 3, (0.5, 0.25))
