"""What pjsua2 insists on when it is set to: PRACK, session timers, and keys pressed both ways there are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run
from tests.peers.baresip import Traced
from tests.peers.pjsua import Pjsua
from tests.peers.process import until
from tests.peers.warmline import Warmline


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warmline]:
    started = Warmline(tmp_path_factory.mktemp("server"), wrap_up_s=0)
    run(started.__aenter__())
    yield started
    run(started.__aexit__(None, None, None))


@asynccontextmanager
async def two_phones(
    server: Warmline, folder: Path, **options: Any
) -> AsyncIterator[tuple[Pjsua, Pjsua, int, int]]:
    """Ana's phone, with those options, has called Deniz's: both, and the number of the call in each."""
    async with AsyncExitStack() as opened:
        ana, deniz = [
            await opened.enter_async_context(
                Pjsua(
                    folder, user=user, password=f"{user}-phone", domain="127.0.0.1",
                    registrar_port=server.sip_port, tone=tone, **extra,
                )
            )
            for user, tone, extra in (("ana", 880, options), ("deniz", 440, {}))
        ]  # fmt: skip
        call = await ana.dial("deniz")
        incoming = (await deniz.event("incoming"))["call"]
        await ana.event("call", call=call, state="EARLY")
        await deniz.do("answer", call=incoming)
        await ana.event("call", call=call, state="CONFIRMED")
        await until(lambda: ana.hears_tone(call, 440), "Deniz's tone in Ana's phone")
        await until(lambda: deniz.hears_tone(incoming, 880), "Ana's tone in Deniz's phone")
        yield ana, deniz, call, incoming
        await ana.do("hang_up", call=call)
        await deniz.event("call", call=incoming, state="DISCONNECTED")


def sent(phone: Pjsua, start: str) -> list[Traced]:
    return [message for message in phone.trace() if not message.received and message.start.startswith(start)]


def answers(phone: Pjsua, method: str, status: int) -> list[Traced]:
    return [
        message
        for message in phone.trace()
        if message.received
        and message.start.startswith(f"SIP/2.0 {status}")
        and message.header("CSeq").endswith(f" {method}")
    ]


async def test_a_caller_that_requires_prack_gets_it(server: Warmline, tmp_path: Path) -> None:
    """RFC 3262 s3: the 180 is sent reliably, and its PRACK is answered."""
    async with two_phones(server, tmp_path, prack="required") as (ana, *_):
        ringing = answers(ana, "INVITE", 180)
        assert ringing
        assert "100rel" in ringing[0].header("Require")
        assert int(ringing[0].header("RSeq")) > 0
        assert sent(ana, "PRACK ")
        assert answers(ana, "PRACK", 200)


@pytest.mark.parametrize("timer", ["always", "required"])
async def test_a_session_timer_is_agreed(server: Warmline, tmp_path: Path, timer: str) -> None:
    """RFC 4028 s9: the 2xx says who refreshes, and says it as required where we have taken it on."""
    async with two_phones(server, tmp_path, timer=timer, session_expires=120) as (ana, _, call, _):
        (answer,) = [message for message in answers(ana, "INVITE", 200) if message.header("Session-Expires")][
            :1
        ]
        seconds, _, refresher = answer.header("Session-Expires").partition(";")
        assert 90 <= int(seconds) <= 120
        assert refresher in ("refresher=uac", "refresher=uas")
        # What a refresh is made of, without the wait.
        before = len(answers(ana, "UPDATE", 200))
        await ana.do("update", call=call)
        await until(lambda: len(answers(ana, "UPDATE", 200)) > before, "the UPDATE to be answered")
        assert ana.hears_tone(call, 440)


async def test_keys_pass_as_telephone_events(server: Warmline, tmp_path: Path) -> None:
    """RFC 4733, through our relay."""
    async with two_phones(server, tmp_path) as (ana, deniz, call, incoming):
        await ana.do("digits", call=call, digits="4711#")
        await deniz.event("dtmf", call=incoming, count=5)
        assert "".join(event["digit"] for event in deniz.seen("dtmf", call=incoming)) == "4711#"


async def test_keys_by_info_are_taken_and_passed_on(server: Warmline, tmp_path: Path) -> None:
    """RFC 6086 and application/dtmf-relay: old phones have no other way."""
    async with two_phones(server, tmp_path) as (ana, deniz, call, incoming):
        await ana.do("digits", call=call, digits="59#", info=True)
        await until(lambda: answers(ana, "INFO", 200), "the INFO to be taken")
        # The other phone hears of them in RTP (RFC 4733), which it has agreed on.
        await deniz.event("dtmf", call=incoming, count=3)
        assert "".join(event["digit"] for event in deniz.seen("dtmf", call=incoming)) == "59#"
        await until(lambda: deniz.hears_tone(incoming, 880), "Ana's tone in Deniz's phone after the keys")


async def test_a_held_call_comes_back_at_the_other_phone_too(server: Warmline, tmp_path: Path) -> None:
    async with two_phones(server, tmp_path) as (ana, deniz, call, incoming):
        await ana.do("hold", call=call)
        await ana.event("media", call=call, state="held")
        before: int = await deniz.do("received", call=incoming)
        await ana.do("resume", call=call)
        held = len(ana.seen("media", call=call, state="held"))
        await until(
            lambda: ana.seen("media", call=call)[-1]["state"] == "active" and held > 0,
            "the call to be active again",
        )

        async def more() -> bool:
            return int(await deniz.do("received", call=incoming)) > before + 20

        await until(more, "Ana's sound in Deniz's phone after the hold")
        await until(lambda: ana.hears_tone(call, 440), "Deniz's tone in Ana's phone after the hold")
