"""Switching recording on and off."""

import asyncio

import pytest

import ferrox as fx


def test_context_managers_nest_and_restore():
    assert fx.is_grad_enabled()
    with fx.no_grad():
        assert not fx.is_grad_enabled()
        with fx.enable_grad():
            assert fx.is_grad_enabled()
        assert not fx.is_grad_enabled()
    assert fx.is_grad_enabled()
    with pytest.raises(ValueError), fx.no_grad():
        raise ValueError
    assert fx.is_grad_enabled()


def test_one_instance_used_again():
    mode = fx.no_grad()
    for _ in range(2):
        with mode:
            assert not fx.is_grad_enabled()
        assert fx.is_grad_enabled()


@pytest.mark.parametrize("decorate", [fx.no_grad(), fx.no_grad, fx.inference_mode(), fx.inference_mode,
                                      fx.set_grad_enabled])
def test_decorators(decorate):
    if decorate is fx.set_grad_enabled:
        decorate = fx.set_grad_enabled(False)

    @decorate
    def inside(value):
        """Documentation."""
        return value, fx.is_grad_enabled()

    assert fx.is_grad_enabled()
    assert inside(3) == (3, False) and inside.__name__ == "inside" and inside.__doc__ == "Documentation."
    assert fx.is_grad_enabled()


def test_recursion_through_a_decorator():
    @fx.no_grad()
    def down(n):
        return fx.is_grad_enabled() or (n > 0 and down(n - 1))

    assert down(5) is False and fx.is_grad_enabled()


def test_generators_switch_at_every_step():
    @fx.no_grad()
    def produce():
        received = yield fx.is_grad_enabled()
        try:
            received = yield (fx.is_grad_enabled(), received)
        except KeyError:
            yield ("caught", fx.is_grad_enabled())
        return "end"

    steps = produce()
    assert next(steps) is False and fx.is_grad_enabled()
    assert steps.send(5) == (False, 5) and fx.is_grad_enabled()
    assert steps.throw(KeyError) == ("caught", False) and fx.is_grad_enabled()
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == "end"
    closed = []

    @fx.no_grad()
    def endless():
        try:
            while True:
                yield fx.is_grad_enabled()
        finally:
            closed.append(fx.is_grad_enabled())

    loop = endless()
    assert next(loop) is False
    loop.close()
    assert closed == [False] and fx.is_grad_enabled()


def test_coroutines():
    seen = []

    @fx.no_grad()
    async def work():
        seen.append(fx.is_grad_enabled())
        await asyncio.sleep(0)
        seen.append(fx.is_grad_enabled())
        return 7

    async def main():
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        seen.append(fx.is_grad_enabled())
        return await task

    assert asyncio.run(main()) == 7
    assert seen == [False, True, False]


def test_set_grad_enabled_acts_at_once():
    try:
        fx.set_grad_enabled(False)
        assert not fx.is_grad_enabled()
    finally:
        fx.set_grad_enabled(True)
    with fx.set_grad_enabled(False):
        assert not fx.is_grad_enabled()
    assert fx.is_grad_enabled()


def test_inference_mode():
    x = fx.ones(2, requires_grad=True)
    with fx.inference_mode():
        assert fx.is_inference_mode_enabled()
        y = x * 2
        with fx.inference_mode(False):
            assert not fx.is_inference_mode_enabled() and (x * 2).requires_grad
    assert not y.requires_grad and not fx.is_inference_mode_enabled() and (x * 2).requires_grad


def test_classes_are_refused():
    with pytest.raises(TypeError, match="functions"):
        @fx.no_grad()
        class Model:
            pass
