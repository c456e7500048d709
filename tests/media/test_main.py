"""The media process's end of the control line: what takes a while, and what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from config.errors import OurError, TheirError
from media import __main__ as process
from tests.peers.process import until


class Relay:
    """Answers with what it is asked; `slow` is awaited."""

    def __init__(self) -> None:
        self.slow: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.asked: list[tuple[Any, ...]] = []
        self.taken = 0

    def __getattr__(self, name: str) -> Any:
        def method(*arguments: Any, **keywords: Any) -> Any:
            self.asked.append((name, *arguments))
            return self._slowly() if name == "stop_recording" else name

        return method

    async def _slowly(self) -> float:
        return await self.slow

    def stats(self, call: str) -> Awaitable[float]:
        raise TheirError("no", 404)

    def take_packets(self) -> None:
        self.taken += 1

    def part(self, *_: str) -> None:
        raise RuntimeError("a defect")


class Control(process.Control):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.said: list[list[Any]] = []
        self.relay = Relay()
        self.serve(self.relay)  # type: ignore[arg-type]
        self.said.clear()

    def say(self, message: list[Any], *, patient: bool = False) -> None:
        self.said.append(message)


async def test_what_takes_a_while_keeps_nobody_else_waiting() -> None:
    control = Control()
    control.message([1, "stop_recording", ["c", "a"], {}])
    control.message([2, "join", ["c", "a", "b"], {}])
    assert control.said == [[2, "ok", "join"]]
    control.relay.slow.set_result(1.5)
    await until(lambda: control.said[1:] == [[1, "ok", 1.5]], "the late answer", seconds=2)


async def test_packets_that_are_due_are_taken_after_each_of_many_requests() -> None:
    control = Control()
    for number, method in enumerate(("join", "part", "drop"), 1):
        control.message([number, method, ["c", "a", "b"], {}])
        assert control.relay.taken == number


@pytest.mark.parametrize(
    ("error", "family", "status"), [(TheirError("no", 404), "their", 404), (OurError("no", 503), "our", 503)]
)
async def test_what_fails_late_is_told_as_what_fails_at_once(
    error: Exception, family: str, status: int
) -> None:
    control = Control()
    control.message([1, "stop_recording", ["c", "a"], {}])
    control.relay.slow.set_exception(error)
    control.message([2, "stats", ["c"], {}])
    await until(lambda: len(control.said) == 2, "both answers", seconds=2)
    assert control.said == [[2, "their", "no", 404], [1, family, "no", status]]


async def test_a_defect_ends_nothing_but_its_own_request(capfd: pytest.CaptureFixture[str]) -> None:
    control = Control()
    control.message([1, "part", ["c", "a", "b"], {}])
    control.message([2, "stop_recording", ["c", "a"], {}])
    control.relay.slow.set_exception(RuntimeError("another defect"))
    await until(lambda: len(control.said) == 2, "both answers", seconds=2)
    assert [message[1:] for message in control.said] == [["our", "The media server failed", 500]] * 2
    assert "another defect" in capfd.readouterr().err


async def test_codecs_that_cannot_be_loaded_are_an_answer_and_the_rest_is_done_in_order(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "MIXER", "media.no_such_module")
    control = Control()
    control.message([1, "confer", ["c", ["a", "b"]], {}])
    control.message([2, "join", ["c", "a", "b"], {}])
    control.message([3, "drop", ["c", "a"], {}])
    assert control.said == []
    await until(lambda: len(control.said) == 3, "all answers", seconds=5)
    assert control.said == [[1, "our", "The media server failed", 500], [2, "ok", "join"], [3, "ok", "drop"]]
    assert [name for name, *_ in control.relay.asked] == ["join", "drop"]
    assert "no_such_module" in capfd.readouterr().err


async def test_news_are_said_with_what_they_are_about() -> None:
    control = Control()
    control.gone("c", "a", "silence")
    control.keys("c", "a", "5")
    control.recorded("c", "a", "limit", 2.5)
    assert control.said == [
        [0, "gone", "c", "a", "silence"],
        [0, "keys", "c", "a", "5"],
        [0, "recorded", "c", "a", "limit", 2.5],
    ]
