from __future__ import annotations

import asyncio
import marshal
from typing import Any

import pytest

from media.control import Framed


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.written.append(data)


class Line(Framed):
    """Answers each message with itself."""

    def __init__(self, *, answers: bool = False) -> None:
        super().__init__()
        self.heard: list[list[Any]] = []
        self.answers = answers
        self.wire = Transport()
        self.transport = self.wire  # type: ignore[assignment]

    def message(self, message: list[Any]) -> None:
        self.heard.append(message)
        if self.answers:
            self.say(message)


def framed(message: list[Any]) -> bytes:
    body = marshal.dumps(message)
    return len(body).to_bytes(4, "big") + body


async def test_what_is_said_in_one_turn_is_sent_in_one_piece_and_in_order() -> None:
    line = Line()
    line.say([1, "a"])
    line.say([2, "b"])
    assert line.wire.written == []
    await asyncio.sleep(0)
    assert line.wire.written == [framed([1, "a"]) + framed([2, "b"])]
    line.say([3, "c"])
    await asyncio.sleep(0)
    assert line.wire.written[1:] == [framed([3, "c"])]


async def test_what_came_in_one_piece_is_answered_in_one_piece_at_once() -> None:
    line = Line(answers=True)
    data = framed([1]) + framed([2]) + framed([3])
    line.data_received(data[:-2])
    assert line.wire.written == [framed([1]) + framed([2])]
    line.data_received(data[-2:])
    assert line.wire.written[1:] == [framed([3])]
    assert line.heard == [[1], [2], [3]]


async def test_what_nobody_waits_for_is_sent_in_its_place_before_what_somebody_does() -> None:
    line = Line()
    line.say([1], patient=True)
    line.say([2], patient=True)
    await asyncio.sleep(0)
    assert line.wire.written == []
    line.say([3])
    line.say([4], patient=True)
    await asyncio.sleep(0)
    assert line.wire.written == [framed([1]) + framed([2]) + framed([3]) + framed([4])]


async def test_what_nobody_waits_for_does_not_go_out_because_something_came() -> None:
    line = Line()
    line.say([1], patient=True)
    line.data_received(framed([2]))
    assert line.wire.written == []


async def test_what_nobody_waits_for_is_sent_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.control.PATIENCE_S", 0.0)
    line = Line()
    line.say([1], patient=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    assert line.wire.written == [framed([1])]


async def test_nothing_is_sent_on_a_line_that_is_closing() -> None:
    line = Line()
    line.say([1])
    line.wire.closing = True
    await asyncio.sleep(0)
    assert line.wire.written == []
