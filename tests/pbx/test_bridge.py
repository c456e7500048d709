"""Pictures that one of two brings into their call, or takes out of it: what the other is offered of them."""

from __future__ import annotations

import asyncio

from media.server import Profile
from pbx.bridge import share_pictures
from pbx.leg import Leg
from sip_trunk.call_events import Ended, ReinviteAnswered, ReinviteRefused, Reoffered
from tests.pbx.centre import FakeFlow, FakeMedia, Ringing

SOUND = b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n"
PICTURES = SOUND + b"m=video 4002 RTP/AVP 96\r\n"
NONE = SOUND + b"m=video 0 RTP/AVP 96\r\n"


class Talk:
    """Two phones that hear each other."""

    def __init__(self) -> None:
        self.media = FakeMedia()
        self.one, self.caller = self._party("customer-1")
        self.other, self.callee = self._party("agent-1")
        share_pictures(self.one, self.other)

    def _party(self, branch: str) -> tuple[Leg, Ringing]:
        target = type("T", (), {"flow": FakeFlow("UDP", ("192.0.2.7", 5062), "udp")})()
        call = Ringing(1, target, "", {"on_event": None})
        call.answered = True
        leg = Leg(call, self.media, "c1", branch, profile=Profile.RTP)  # type: ignore[arg-type]
        leg.seen(SOUND)
        self.media.branches["c1", branch] = "agreed"
        return leg, call

    async def hears(self, call: Ringing, event: object) -> None:
        call.tell(event)  # type: ignore[arg-type]
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
