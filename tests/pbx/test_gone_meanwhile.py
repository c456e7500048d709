"""What happens while media, a database or a slow phone takes its time: nobody is stuck, and nobody hears nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.errors import WarmlineError
from pbx.contact import Contact, State
from sip_trunk import user_agent as sip
from tests.pbx.centre import Centre, FakeMedia
from tests.pbx.test_call_back import MARIAS, asked, opened, outside, taken
from tests.pbx.test_leg import leg
from tests.pbx.test_transfer import Story, direct


class Slow:
    """Of the next thing of a kind that media is asked for: that it has `begun`, and when it may `go` on."""

    def __init__(self, media: FakeMedia, name: str) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self._real = getattr(media, name)
        setattr(media, name, self._asked)

    async def _asked(self, *given: Any, **more: Any) -> Any:
        if self.begun.is_set():
            return await self._real(*given, **more)
        self.begun.set()
        done = await self._real(*given, **more)
        await self.go.wait()
        return done


class SlowReoffer(Slow):
    def __init__(self, media: FakeMedia) -> None:
        super().__init__(media, "offer")
        self._media = media

    async def _asked(self, *given: Any, **more: Any) -> Any:
        if given[:2] not in self._media.branches:  # its first one
            return await self._real(*given, **more)
        return await super()._asked(*given, **more)


async def test_a_leg_that_ends_while_its_offer_is_made_agrees_on_nothing() -> None:
    there, call = leg()
    media: Any = there._media
    media.branches["c1", "agent-1"] = media.branches["c1", "other"] = "agreed"
    slow = SlowReoffer(media)
    agreeing = asyncio.ensure_future(there.agree(like="other"))
    await slow.begun.wait()
    call.hang_up()
    slow.go.set()
    with pytest.raises(WarmlineError):
        await asyncio.wait_for(agreeing, 5)


async def test_a_direct_call_given_to_somebody_as_its_other_side_hangs_up_is_over() -> None:
    story, ana, bo = await direct()
    centre = story.centre
    refer = await story.asks(ana, "cy")
    slow = SlowReoffer(centre.media)
    centre.media.different = True
    cy = centre.phone.rung[-1]
    cy.pick_up()
    await centre.settle()
    assert slow.begun.is_set()
    bo.hang_up()
    await centre.settle()
    slow.go.set()
    await centre.settle()
    assert cy.log == ["BYE"]
    assert centre.staffing.direct_calls("agent-cy") == 0
    assert refer.said[-1] >= 400
    assert not centre.media.branches


async def test_a_contact_given_to_somebody_as_the_customer_hangs_up_is_over() -> None:
    story = await Story.begin()
    centre = story.centre
    await story.asks(story.ana, "bo")
    slow = SlowReoffer(centre.media)
    centre.media.different = True
    bo = story.bo
    bo.pick_up()
    await centre.settle()
    assert slow.begun.is_set()
    story.customer.hang_up()
    await centre.settle()
    slow.go.set()
    await centre.settle()
    assert bo.log == ["BYE"]
    assert centre.state("bo") not in ("Reserved", "Talking")


async def test_an_agent_whose_customer_hung_up_as_they_were_joined_is_offered_the_next_one() -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    contact = await centre.asks()
    customer = await centre.calls_in(contact)
    slow = SlowReoffer(centre.media)
    centre.media.different = True
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    assert slow.begun.is_set()
    customer.hang_up()
    await centre.settle()
    slow.go.set()
    centre.media.different = False
    await centre.settle()
    second = await centre.asks("jonas")
    await centre.calls_in(second)
    await centre.passes(1)
    assert second.state is State.RINGING


async def called_back() -> tuple[Centre, Any, Any]:
    """Ana has taken a call back, and Maria's telephone rings. They share no codec."""
    centre = await opened(call_back=True)
    await centre.agent("ana")
    await centre.house.states.not_ready("agent-ana")
    contact = await asked(centre, MARIAS)
    await centre.house.states.ready("agent-ana")
    await centre.settle()
    ana = await taken(centre)
    centre.media.different = True
    return centre, contact, ana


def on_the_line(centre: Centre, contact: Contact) -> str | tuple[str, ...] | None:
    """What the customer hears that is played."""
    return centre.media.playing.get((contact.id, centre.calls.branch_of(contact.id) or ""))


async def test_who_is_called_back_as_the_agent_hangs_up_hears_music() -> None:
    centre, contact, ana = await called_back()
    slow = SlowReoffer(centre.media)
    outside(centre).pick_up()
    await centre.settle()
    assert slow.begun.is_set()
    ana.hang_up()
    await centre.settle()
    slow.go.set()
    await centre.passes(1)
    assert on_the_line(centre, contact)


async def test_who_is_called_back_hears_music_while_the_agents_phone_takes_its_time() -> None:
    centre, contact, ana = await called_back()
    outside(centre).pick_up()
    await centre.settle()
    assert ana.reinvites
    assert on_the_line(centre, contact) == "music"
    centre.media.different = False
    ana.tell(sip.ReinviteAnswered(b"theirs"))
    await centre.passes(1)
    assert contact.state is State.CONNECTED
    assert on_the_line(centre, contact) is None


async def test_a_page_loaded_again_as_they_are_joined_has_no_music_over_the_talk() -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    contact = await centre.asks()
    first = await centre.calls_in(contact)
    centre.media.different = True
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    assert first.reinvites
    centre.media.different = False
    await centre.calls_in(contact)
    await centre.settle()
    assert contact.state is State.CONNECTED
    played = len(centre.media.played)
    await centre.passes(30)
    assert centre.media.played[played:] == []


async def test_a_phone_that_has_answered_is_not_rung_again_because_another_one_registers() -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    contact = await centre.asks()
    await centre.calls_in(contact)
    slow = Slow(centre.media, "accept")
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    assert slow.begun.is_set()
    await centre.house.bind("ana", key="two", contact_uri="sip:ana@192.0.2.8:5062")
    await centre.settle()
    assert len(centre.phone.rung) == 1
    slow.go.set()
    await centre.settle()
    assert contact.state is State.CONNECTED
