from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from pbx.operations.guard_news import GuardNews


class Events:
    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def write(self, kind: str, **facts: Any) -> None:
        self.written.append({"kind": kind, **facts})


def make() -> tuple[GuardNews, Events, Clock]:
    events, clock = Events(), Clock()
    return GuardNews(events, clock), events, clock  # type: ignore[arg-type]


def test_an_attack_is_told_soon_and_then_once_a_minute_with_its_counts() -> None:
    news, events, clock = make()
    for _ in range(1000):
        news.heard("192.0.2.7", "guessing", "ana")
    news.heard("192.0.2.7", "flood", "")
    assert not events.written
    clock.advance(1)
    assert events.written == [
        {
            "kind": "guard.dropped", "source": "192.0.2.7", "seconds": 1, "count": 1001,
            "why": {"guessing": 1000, "flood": 1}, "accounts": ["ana"],
        }
    ]  # fmt: skip
    for _ in range(50):
        news.heard("192.0.2.7", "guessing", "ana")
        clock.advance(1)
    assert len(events.written) == 1
    clock.advance(10)
    assert [each["count"] for each in events.written] == [1001, 50]
    clock.advance(1000)
    assert len(events.written) == 2
    assert not clock.getDelayedCalls()


def test_an_attack_from_everywhere_is_few_lines() -> None:
    news, events, clock = make()
    for number in range(12_000):
        news.heard(f"source {number}", "flood", f"account {number}")
    for _ in range(5):
        news.heard("source 7", "flood", "")
    clock.advance(1)
    assert len(events.written) == 21
    assert events.written[0]["source"] == "source 7"
    assert events.written[0]["count"] == 6
    assert sum(each["count"] for each in events.written) == 12_005
    assert len(news._counts) == 0


def test_what_is_left_is_told_at_the_end() -> None:
    news, events, clock = make()
    news.heard("192.0.2.7", "junk", "")
    news.stop()
    assert len(events.written) == 1
    assert not clock.getDelayedCalls()
    news.stop()
    assert len(events.written) == 1
