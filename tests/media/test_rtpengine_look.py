"""Looking after those who are joined in rtpengine goes on, whatever it says of one of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from media import rtpengine as rtpengine_module
from media.engine_dialogue import Dialogue
from media.ng import Ng, NgRefused
from media.rtpengine import Rtpengine, _Branch, _Call
from tests.peers.process import until


class Odd(Ng):
    """Says of call "odd" what no rtpengine says, and knows no other."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix
        self._looks = 0

    def ask(self, command: str, **fields: Any) -> asyncio.Future[dict[str, Any]]:
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if command == "statistics":
            self._looks += 1
            answered.set_result({"statistics": {"controlstatistics": {"totalstatscount": self._looks}}})
        elif fields["call_id"] == f"{self._prefix}-odd":
            answered.set_result({"result": b"ok", "tags": 5})
        else:
            answered.set_exception(NgRefused(command, "Unknown call-id"))
        return answered


async def test_a_reply_that_makes_no_sense_leaves_no_other_call_unwatched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rtpengine_module, "LOOK_S", 0.01)
    media = Rtpengine(("127.0.0.1", 9), now=lambda: 1000.0)
    media._ng = Odd(media._prefix)
    gone: list[tuple[str, str]] = []
    media.on_gone = lambda call, branch, why: gone.append((call, branch))
    for name in ("odd", "c"):
        call = media._calls[name] = _Call()
        for tag in ("a", "b"):
            each = call.branches[tag] = _Branch(tag, Dialogue(media._ng, f"{media._prefix}-{name}", tag))
            each.direct = True
    looking = asyncio.create_task(media._look())
    await until(lambda: len(gone) == 2, "the news of the other", seconds=5)
    assert gone == [("c", "a"), ("c", "b")]
    assert not looking.done()
    looking.cancel()
