"""Looking after those who are joined in rtpengine goes on, whatever it says of one of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from media import engine_watch
from media.engine_calls import Branch, Call
from media.engine_dialogue import Dialogue
from media.engine_watch import Watch
from media.ng import Ng, NgRefused
from tests.peers.process import until


class Odd(Ng):
    """Says of call "odd" what no rtpengine says, and knows no other."""

    def __init__(self) -> None:
        super().__init__()
        self._looks = 0

    def ask(self, command: str, **fields: Any) -> asyncio.Future[dict[str, Any]]:
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if command == "statistics":
            self._looks += 1
            answered.set_result({"statistics": {"controlstatistics": {"totalstatscount": self._looks}}})
        elif fields["call_id"] == "x-odd":
            answered.set_result({"result": b"ok", "tags": 5})
        else:
            answered.set_exception(NgRefused(command, "Unknown call-id"))
        return answered


async def test_a_reply_that_makes_no_sense_leaves_no_other_call_unwatched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_watch, "LOOK_S", 0.01)
    ng, calls = Odd(), {"odd": Call(), "c": Call()}
    for name, call in calls.items():
        for tag in ("a", "b"):
            call.branches[tag] = Branch(tag, Dialogue(ng, f"x-{name}", tag))
            call.branches[tag].direct = True
    gone: list[tuple[str, str]] = []
    watch = Watch(
        ng,
        calls,
        lambda call: f"x-{call}",
        lambda: 1000.0,
        silence_s=60.0,
        on_lost=lambda: None,
        on_gone=lambda call, branch, why: gone.append((call, branch)),
        on_quality=lambda *news: None,
    )
    looking = asyncio.create_task(watch.go_on())
    await until(lambda: len(gone) == 2, "the news of the other", seconds=5)
    assert gone == [("c", "a"), ("c", "b")]
    assert not looking.done()
    looking.cancel()
