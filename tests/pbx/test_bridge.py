"""Pictures that one of two brings into their call, or takes out of it: what the other is offered of them."""

from __future__ import annotations

import asyncio
from typing import Any

from media.server import ALL_KINDS, AUDIO_ONLY, Profile
from pbx.bridge import Bridge, share_pictures
from pbx.leg import Leg
from sip_trunk.call_events import Ended, ReinviteAnswered, ReinviteRefused, Reoffered
from tests.pbx.centre import FakeFlow, FakeMedia, Ringing

SOUND = b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n"
PICTURES = SOUND + b"m=video 4002 RTP/AVP 96\r\n"
NONE = SOUND + b"m=video 0 RTP/AVP 96\r\n"


class Media(FakeMedia):
    """Remembers what kinds of media each offer might have."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed: list[frozenset[str]] = []

    async def answer(self, call: str, branch: str, offer: bytes, **more: Any) -> bytes:
        self.allowed.append(more["kinds"])
        return await super().answer(call, branch, offer, **more)


class Talk:
    """Two phones that hear each other."""

    def __init__(self, kinds: frozenset[str] = ALL_KINDS, *, shares: bool = True) -> None:
        self.media = Media()
        self.one, self.caller = self.party("customer-1", kinds)
        self.other, self.callee = self.party("agent-1", kinds)
        if shares:
            share_pictures(self.one, self.other)

    def party(self, branch: str, kinds: frozenset[str]) -> tuple[Leg, Ringing]:
        target = type("T", (), {"flow": FakeFlow("UDP", ("192.0.2.7", 5062), "udp")})()
        call = Ringing(1, target, "", {"on_event": None})
        call.answered = True
        leg = Leg(call, self.media, "c1", branch, profile=Profile.RTP, kinds=kinds)  # type: ignore[arg-type]
        leg.seen(SOUND)
        self.media.branches["c1", branch] = "agreed"
        return leg, call

    async def hears(self, call: Ringing, event: object) -> None:
        call.tell(event)  # type: ignore[arg-type]
        await self.settle()

    async def settle(self) -> None:
        for _ in range(12):
            await asyncio.sleep(0)


async def test_pictures_are_offered_to_the_other_and_stay_where_they_are_taken() -> None:
    talk = Talk()
    await talk.hears(talk.caller, Reoffered(PICTURES))
    assert len(talk.callee.reinvites) == 1
    await talk.hears(talk.callee, ReinviteAnswered(PICTURES))
    assert talk.one.has_pictures
    assert talk.other.has_pictures
    assert not talk.caller.reinvites
    await talk.hears(talk.caller, Reoffered(NONE))
    await talk.hears(talk.callee, ReinviteAnswered(NONE))
    assert len(talk.callee.reinvites) == 2
    assert not talk.other.has_pictures


async def test_who_offers_pictures_that_the_other_will_not_have_is_told_so() -> None:
    for refusal in (ReinviteAnswered(NONE), ReinviteRefused(488)):
        talk = Talk()
        await talk.hears(talk.caller, Reoffered(PICTURES))
        await talk.hears(talk.callee, refusal)
        assert len(talk.caller.reinvites) == 1
        await talk.hears(talk.caller, ReinviteAnswered(NONE))
        assert not talk.one.has_pictures
        assert len(talk.callee.reinvites) == 1, "and the other is left in peace"


async def test_pictures_added_and_dropped_at_once_are_offered_one_after_the_other() -> None:
    talk = Talk()
    await talk.hears(talk.caller, Reoffered(PICTURES))
    await talk.hears(talk.caller, Reoffered(NONE))
    assert len(talk.callee.reinvites) == 1, "the second waits for the answer to the first"
    await talk.hears(talk.callee, ReinviteAnswered(PICTURES))
    await talk.hears(talk.callee, ReinviteAnswered(NONE))
    assert len(talk.callee.reinvites) == 2
    assert not talk.other.has_pictures


async def test_an_offer_that_waits_is_not_made_to_a_leg_that_went() -> None:
    before = asyncio.all_tasks()
    talk = Talk()
    await talk.hears(talk.caller, Reoffered(PICTURES))
    await talk.hears(talk.caller, Reoffered(NONE))
    await talk.hears(talk.callee, Ended("peer", ""))
    assert len(talk.callee.reinvites) == 1
    assert asyncio.all_tasks() <= before


async def test_a_call_of_sound_takes_pictures_once_the_two_are_joined() -> None:
    talk = Talk(kinds=AUDIO_ONLY, shares=False)
    await talk.hears(talk.caller, Reoffered(PICTURES))
    assert talk.media.allowed[-1] == AUDIO_ONLY
    share_pictures(talk.one, talk.other)
    await talk.hears(talk.caller, Reoffered(PICTURES))
    assert talk.media.allowed[-1] == ALL_KINDS


async def test_a_leg_that_is_new_to_the_call_is_offered_the_pictures_that_are_there() -> None:
    talk = Talk(kinds=AUDIO_ONLY, shares=False)
    bridge = Bridge(talk.media, "c1", talk.one, talk.other)
    await bridge.join()
    assert not talk.callee.reinvites, "where neither has any, nobody is asked"
    await talk.hears(talk.caller, Reoffered(PICTURES))
    await talk.hears(talk.callee, ReinviteAnswered(PICTURES))
    assert talk.one.has_pictures
    again, callee = talk.party("agent-2", AUDIO_ONLY)
    await Bridge(talk.media, "c1", talk.one, again).join()
    await talk.settle()
    await talk.hears(callee, ReinviteAnswered(NONE))
    assert len(callee.reinvites) == 1
    await talk.hears(talk.caller, ReinviteAnswered(NONE))
    assert not talk.one.has_pictures, "nobody films for somebody who does not see it"
