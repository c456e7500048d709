"""What a leg does by itself, whatever its other side is doing."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import pytest
from twisted.internet.task import Clock

from media.server import Profile
from pbx.leg import Gone, Leg, LegEvent
from sip_trunk.call_events import Cancelled, InDialog, Refreshed
from sip_trunk.deadlines import Deadlines
from sip_trunk.sip.message import Request, Response
from tests.pbx.centre import FakeFlow, FakeMedia, Ringing


class Pressed:
    """An INFO inside the call."""

    def __init__(self, body: bytes, kind: str) -> None:
        self.message = Request("INFO", "sip:leg@warmline.test", (), body, kind)
        self.status: int | None = None

    def respond(self, status: int, reason: str | None = None, **more: Any) -> None:
        self.status = status


def leg() -> tuple[Leg, Ringing]:
    call = Ringing(
        1, type("T", (), {"flow": FakeFlow("UDP", ("192.0.2.7", 5062), "udp")})(), "", {"on_event": None}
    )
    call.answered = True
    return Leg(call, FakeMedia(), "c1", "agent-1", profile=Profile.RTP), call  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "kind", "status", "keys"),
    [
        (b"Signal=5\r\nDuration=160\r\n", "application/dtmf-relay", 200, ["5"]),
        (b"#", "application/dtmf", 200, ["#"]),
        (b"Signal=anything", "application/dtmf-relay", 400, []),
        (b"", "application/dtmf", 400, []),
        (b"<media_control/>", "application/media_control+xml", 200, []),
    ],
)
async def test_keys_in_info(body: bytes, kind: str, status: int, keys: list[str]) -> None:
    there, call = leg()
    heard: list[str] = []
    there.on_keys = heard.append
    info: Any = Pressed(body, kind)
    call.tell(InDialog(info))
    assert info.status == status
    assert heard == keys


class GaveUp:
    """A caller who had gone before anybody listened, which is told to whoever listens first."""

    id = "gave-up"
    answered = False
    flow = FakeFlow("UDP", ("192.0.2.7", 5062), "udp")

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name == "on_event" and value is not None:
            value(Cancelled("The caller gave up"))


async def test_a_caller_who_has_given_up_already_is_gone_from_the_beginning() -> None:
    call: Any = GaveUp()
    there = Leg(call, FakeMedia(), "c1", "customer-1", profile=Profile.RTP)
    heard: list[LegEvent] = []
    there.on_event = heard.append
    assert not there.alive
    assert heard == [Gone("peer", "The caller gave up")]


async def test_who_answers_a_refresh_from_elsewhere_is_spoken_to_there() -> None:
    there, call = leg()
    media: Any = there._media
    here = b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n"
    there.seen(here)
    held: list[bool] = []
    there.on_hold = held.append
    call.tell(Refreshed(here))
    await asyncio.sleep(0)
    assert not media.answers  # as media knows it
    moved = here.replace(b"4000", b"5000") + b"a=inactive\r\n"
    for _ in range(2):
        call.tell(Refreshed(moved))
        await asyncio.sleep(0)
    assert [each["branch"] for each in media.answers] == ["agent-1"]
    assert held == [True]
    call.tell(Refreshed(b"nothing in common"))
    await asyncio.sleep(0)
    assert there.alive


async def test_keys_nobody_waits_for_are_taken_all_the_same() -> None:
    _, call = leg()
    info: Any = Pressed(b"5", "application/dtmf")
    call.tell(InDialog(info))
    assert info.status == 200


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("transferred", 'SIP;cause=200;text="transferred"'),
        ('Q.850;cause=16;text="Normal"', 'Q.850;cause=16;text="Normal"'),
        ("SIP ;cause=200", "SIP ;cause=200"),
        ("SIP;cause=x", 'SIP;cause=200;text="SIP;cause=x"'),
    ],
)
async def test_a_reason_is_passed_on_as_it_is(reason: str, sent: str) -> None:
    there, call = leg()
    there.end(reason)
    assert call.reason == sent


def watched(deadlines_clock: Clock) -> tuple[Leg, Ringing, FakeMedia, list[LegEvent]]:
    media = FakeMedia()
    call = Ringing(
        1, type("T", (), {"flow": FakeFlow("UDP", ("192.0.2.7", 5062), "udp")})(), "", {"on_event": None}
    )
    call.answered = True
    leg = Leg(call, media, "c1", "agent-1", profile=Profile.RTP)  # type: ignore[arg-type]
    heard: list[LegEvent] = []
    leg.on_event = heard.append
    leg.keep_asking(Deadlines(deadlines_clock))
    return leg, call, media, heard


async def passes(clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds * 2)):
        clock.advance(0.5)
        for _ in range(6):
            await asyncio.sleep(0)


@pytest.mark.parametrize("status", [200, 405, 501, 486, 403])
async def test_whoever_answers_is_there(status: int) -> None:
    clock = Clock()
    leg, call, _, heard = watched(clock)
    call.options = status
    await passes(clock, 120)
    assert leg.alive
    assert heard == []
    assert 9 <= call.asked <= 14


@pytest.mark.parametrize(("status", "within_s"), [(481, 12), (408, 15), (None, 26)])
async def test_who_knows_the_call_no_more_or_says_nothing_is_lost(status: int | None, within_s: int) -> None:
    clock = Clock()
    leg, call, _, heard = watched(clock)
    call.options = status
    await passes(clock, within_s)
    assert [event.by for event in heard if isinstance(event, Gone)] == ["lost"]
    assert not leg.alive
    assert call.log == ["BYE"]
    asked = call.asked
    await passes(clock, 60)
    assert call.asked == asked


async def test_a_phone_on_hold_that_answers_late_is_there() -> None:
    clock = Clock()
    leg, call, _, heard = watched(clock)
    asked: list[Any] = []
    call.exchange = lambda method, on_response, *_, **__: asked.append(on_response)  # type: ignore[method-assign]
    await passes(clock, 12)
    (answer,) = asked
    await passes(clock, 9.5)
    answer(Response(200))  # its network was away for a while, and the question was sent again meanwhile
    await passes(clock, 13)
    assert (leg.alive, heard) == (True, [])
    assert len(asked) == 2, "and it is asked again"
    await passes(clock, 20)
    assert not leg.alive


async def test_a_phone_that_answers_nothing_but_is_heard_is_there() -> None:
    clock = Clock()
    leg, call, media, _ = watched(clock)
    call.options = None
    for second in range(120):
        media.last_packet_at["agent-1"] = float(second)
        await passes(clock, 1)
    assert leg.alive
    for second in range(30):
        media.last_packet_at["agent-1"] = 1000.0 + second / 1e6  # its last words, as two clocks tell of them
        await passes(clock, 1)
    assert not leg.alive


async def test_a_leg_that_is_over_is_asked_no_more() -> None:
    clock = Clock()
    leg, call, _, heard = watched(clock)
    leg.end("we hang up")
    await passes(clock, 60)
    assert (call.asked, heard) == (0, [])


class Owner:
    """Whoever listens, and holds much more than the leg does."""

    def __init__(self, leg: Leg) -> None:
        self.heard: list[LegEvent] = []
        leg.on_event = self.hear
        leg.on_keys = self.press

    def hear(self, event: LegEvent) -> None:
        self.heard.append(event)

    def press(self, keys: str) -> None:
        self.heard.clear()


@pytest.mark.parametrize("by", ["peer", "us"])
async def test_a_call_that_is_over_holds_nobody_who_listened(by: str) -> None:
    there, call = leg()
    kept = weakref.ref(owner := Owner(there))
    if by == "us":
        there.end("enough")
    else:
        call.tell(Cancelled("gave up"))
        assert [type(event) for event in owner.heard] == [Gone]
    del owner
    assert kept() is None, "counting references is enough: the garbage collector must not have to find it"
