from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from sip_trunk.deadlines import Deadlines


def test_deadlines_are_met_in_order_by_one_delayed_call() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    met: list[float] = []
    for seconds in (3, 1, 2):
        deadlines.after(seconds, lambda seconds=seconds: met.append(seconds))  # type: ignore[misc]
    assert len(clock.getDelayedCalls()) == 1
    for _ in range(4):
        clock.advance(1)
    assert met == [1, 2, 3]
    assert not clock.getDelayedCalls()
    assert len(deadlines) == 0


def test_a_cancelled_deadline_is_never_met_and_may_be_cancelled_twice() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    met: list[str] = []
    deadline = deadlines.after(1, lambda: met.append("no"))
    deadlines.after(2, lambda: met.append("yes"))
    deadline.cancel()
    deadline.cancel()
    assert len(deadlines) == 1
    clock.advance(1)
    clock.advance(1)
    assert met == ["yes"]
    deadline.cancel()
    assert len(deadlines) == 0


def test_a_deadline_met_may_set_another() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    met: list[float] = []

    def again() -> None:
        met.append(clock.seconds())
        if len(met) < 3:
            deadlines.after(1, again)

    deadlines.after(1, again)
    for _ in range(40):
        clock.advance(0.1)
    assert len(met) == 3
    assert not clock.getDelayedCalls()


def test_thousands_cancelled_take_no_room() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    kept = deadlines.after(50, lambda: None)
    for _ in range(10_000):
        deadlines.after(32, lambda: None).cancel()
    assert len(deadlines) == 1
    assert len(deadlines._heap) < 2_500
    assert kept.pending


def test_an_action_that_fails_is_logged_and_holds_up_no_other() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    seen: list[object] = []
    met: list[str] = []

    def observe(event: dict[str, object]) -> None:
        seen.append(event)

    def fail() -> None:
        raise RuntimeError

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    try:
        deadlines.after(1, fail)
        deadlines.after(1, lambda: met.append("next"))
        clock.advance(1)
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
    assert met == ["next"]
    assert seen


def test_what_is_in_no_hurry_is_done_together_and_never_early() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    met: list[float] = []
    for when in (1.01, 1.1, 1.2, 1.25):
        deadlines.not_before(when, lambda: met.append(clock.seconds()))
    clock.advance(1.2)
    assert not met
    clock.advance(0.05)
    assert met == [1.25] * 4
