"""An agent passes a customer or a colleague on, and every way in which that does not come about."""

from __future__ import annotations

from typing import Any

import pytest

from pbx.contact import Contact, Disposition, State
from sip_trunk.call_events import TransferRequested
from sip_trunk.sip.uri import parse_uri
from tests.agent_presence.house import DOMAIN
from tests.pbx.centre import Caller, Centre, Ringing


class Asked:
    """A REFER; it remembers what was said to it."""

    def __init__(self, to: str, replaced: Any = None, *, replaces: bool = False) -> None:
        self.target = parse_uri(to if ":" in to else f"sip:{to}@{DOMAIN}")
        self.replaces = object() if replaced is not None or replaces else None
        self.replaces_call = replaced
        self.referred_by = None
        self.said: list[int] = []
        self.over = False

    def accept(self) -> None:
        self.said.append(202)

    def refuse(self, status: int, reason: str | None = None) -> None:
        if not self.said:
            self.said.append(-status)
            self.over = True

    def progress(self, status: int) -> None:
        assert self.said
        self.said.append(status)

    def finish(self, status: int) -> None:
        if not self.over:
            self.over = True
            self.said.append(status)


class Story:
    """Maria talks to Ana; Bo is there too, but helps with other things."""

    def __init__(self, centre: Centre) -> None:
        self.centre = centre
        self.customer: Caller
        self.contact: Contact
        self.ana: Ringing

    @classmethod
    async def begin(cls, channel: str = "voice") -> Story:
        centre = await Centre.open()
        story = cls(centre)
        await centre.agent("ana")
        await centre.agent("bo", wifi=1)
        if channel == "video":
            await centre.house.bind("ana", contact_uri="sip:ana@192.0.2.7:5062", features={"video": ""})
            await centre.settle()
        story.contact = await centre.asks("maria", channel)
        story.customer = await centre.calls_in(story.contact)
        story.ana = centre.phone.rung[-1]
        story.ana.pick_up()
        await centre.settle()
        assert story.contact.state is State.CONNECTED
        return story

    async def asks(self, phone: Any, to: str, replaced: Any = None) -> Asked:
        refer = Asked(to, replaced)
        phone.tell(TransferRequested(refer))  # type: ignore[arg-type]
        await self.centre.settle()
        return refer

    @property
    def bo(self) -> Ringing:
        assert len(self.centre.phone.rung) > 1
        return self.centre.phone.rung[-1]

    @property
    def hears(self) -> tuple[str, str]:
        """The branches joined last."""
        return self.centre.media.joined[-1][1:]

    async def ends(self, disposition: Disposition = Disposition.CUSTOMER_HUNG_UP) -> None:
        self.customer.hang_up()
        await self.centre.settle()
        assert self.contact.disposition is disposition
        await self.centre.passes(11)
        for agent in ("ana", "bo"):
            assert self.centre.state(agent) in ("Ready", "NotReady")
        assert self.centre.media.branches == {}
        assert self.centre.dispatch._held == {}
        assert self.centre.transfers._under_way == {}
        assert len(self.centre.direct_calls) == 0

    def kinds(self) -> list[str]:
        found = self.centre.kinds(self.contact)
        return [kind for kind in found[found.index("transfer_requested") :] if not kind.startswith("agent.")]


async def test_blind_to_a_colleague() -> None:
    story = await Story.begin()
    refer = await story.asks(story.ana, "bo")
    assert refer.said == [202]
    assert story.centre.media.playing[story.contact.id, "customer-1"] == "music"
    assert story.bo.header("X-Warmline-Contact") == story.contact.id
    assert story.contact.agent_id == "agent-ana", "not before it is taken"
    story.bo.ring()
    story.bo.pick_up()
    await story.centre.settle()
    assert refer.said == [202, 180, 200]
    assert story.hears == ("customer-1", "agent-2-1")
    assert story.ana.log == ["BYE"]
    assert (story.contact.state, story.contact.agent_id) == (State.CONNECTED, "agent-bo")
    assert (story.centre.state("ana"), story.centre.state("bo")) == ("WrapUp", "Talking")
    assert story.kinds() == [
        "transfer_requested", "reserved", "prompted", "ringing", "accepted", "transferred",
    ]  # fmt: skip
    told = story.centre.events("contact.transferred")[0]
    assert (told.agent, told.facts["from_agent"], told.facts["how"]) == ("agent-bo", "agent-ana", "blind")
    assert story.customer.log == [], "the customer noticed nothing but the music"
    await story.ends()


async def test_the_customer_is_offered_anew_only_where_codecs_differ() -> None:
    story = await Story.begin()
    await story.asks(story.ana, "bo")
    assert story.customer.reinvites == []
    story.centre.media.different = True
    story.bo.pick_up()
    await story.centre.settle()
    assert len(story.customer.reinvites) == 1


@pytest.mark.parametrize(("status", "told"), [(486, 486), (603, 603), (404, 404)])
async def test_a_colleague_who_declines_leaves_the_two_as_they_were(status: int, told: int) -> None:
    story = await Story.begin()
    refer = await story.asks(story.ana, "bo")
    story.bo.refuse(status)
    await story.centre.settle()
    assert refer.said == [202, told]
    assert story.hears == ("customer-1", "agent-1-1")
    assert (story.centre.state("ana"), story.centre.state("bo")) == ("Talking", "Ready")
    assert story.contact.agent_id == "agent-ana"
    assert story.centre.events("contact.transfer_failed")[0].facts["then"] == "with the agent again"
    again = await story.asks(story.ana, "bo")
    story.bo.pick_up()
    await story.centre.settle()
    assert again.said == [202, 200]
    await story.ends()


async def test_nobody_answers() -> None:
    story = await Story.begin()
    refer = await story.asks(story.ana, "bo")
    story.bo.ring()
    await story.centre.passes(21)
    assert refer.said == [202, 180, 480]
    assert story.centre.state("ana") == "Talking"
    story.ana.hang_up()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.AGENT_HUNG_UP


async def test_the_agent_hangs_up_while_it_rings_and_the_colleague_takes_it() -> None:
    story = await Story.begin()
    refer = await story.asks(story.ana, "bo")
    story.ana.hang_up()
    await story.centre.settle()
    assert (story.contact.state, story.contact.agent_id) == (State.RINGING, "agent-bo")
    assert story.centre.state("ana") == "WrapUp"
    story.bo.pick_up()
    await story.centre.settle()
    assert refer.said == [202, 200]
    assert (story.contact.state, story.contact.agent_id) == (State.CONNECTED, "agent-bo")
    assert story.centre.state("bo") == "Talking"
    assert story.hears == ("customer-1", "agent-2-1")
    story.bo.hang_up()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.AGENT_HUNG_UP
    assert story.centre.state("bo") == "WrapUp"


async def test_the_agent_hangs_up_and_nobody_takes_it_the_customer_waits_in_the_old_place() -> None:
    story = await Story.begin()
    asked_at = story.contact.facts.asked_at
    refer = await story.asks(story.ana, "bo")
    story.ana.hang_up()
    await story.centre.settle()
    story.bo.refuse(486)
    await story.centre.settle()
    assert refer.said == [202, 486]
    assert story.contact.state is State.WAITING
    assert story.contact.facts.asked_at == asked_at
    assert story.centre.dispatch.position(story.contact.id) == 1
    assert story.centre.events("contact.transfer_failed")[0].facts["then"] == "back in the queue"
    assert story.customer.log == []
    assert story.centre.state("bo") == "Ready"
    await story.centre.passes(12)  # Ana's wrap-up is over: she is the one who can
    assert story.centre.contacts.of_agent("agent-ana") == [story.contact]
    story.centre.phone.rung[-1].pick_up()
    await story.centre.settle()
    assert (story.contact.state, story.contact.agent_id) == (State.CONNECTED, "agent-ana")
    await story.ends()


async def test_the_customer_hangs_up_while_the_colleague_is_rung() -> None:
    story = await Story.begin()
    refer = await story.asks(story.ana, "bo")
    story.bo.ring()
    story.customer.hang_up()
    await story.centre.settle()
    assert refer.said == [202, 180, 487]
    assert (story.ana.log, story.bo.log) == (["BYE"], ["CANCEL"])
    assert story.centre.state("bo") == "Ready"
    await story.ends()


async def test_the_customer_hangs_up_after_the_agent_and_before_the_colleague_answers() -> None:
    story = await Story.begin()
    refer = await story.asks(story.ana, "bo")
    story.ana.hang_up()
    await story.centre.settle()
    story.customer.hang_up()
    await story.centre.settle()
    assert refer.said == [202, 487]
    assert story.bo.log == ["CANCEL"]
    await story.ends(Disposition.CUSTOMER_GAVE_UP)


async def test_the_colleague_and_the_customer_cross() -> None:
    story = await Story.begin()
    refer = await story.asks(story.ana, "bo")
    story.bo.pick_up()
    story.customer.hang_up()
    await story.centre.settle()
    assert refer.said == [202, 487]
    assert story.bo.log == ["BYE"]
    await story.ends()


@pytest.mark.parametrize("answers", [True, False])
async def test_the_colleagues_registration_goes_while_it_rings_and_only_an_answer_counts(
    answers: bool,
) -> None:
    story = await Story.begin()
    refer = await story.asks(story.ana, "bo")
    story.bo.ring()
    story.centre.house.drop("bo")
    await story.centre.settle()
    assert refer.said == [202, 180]
    if answers:
        story.bo.pick_up()
        await story.centre.settle()
        assert story.contact.agent_id == "agent-bo"
    else:
        await story.centre.passes(21)
        assert story.hears == ("customer-1", "agent-1-1")
    assert refer.said == [202, 180, 200 if answers else 480]


async def test_a_colleague_on_a_break_may_be_asked_and_is_on_a_break_again_when_they_decline() -> None:
    story = await Story.begin()
    await story.centre.house.states.not_ready("agent-bo")
    refer = await story.asks(story.ana, "bo")
    assert story.centre.state("bo") == "Reserved"
    story.bo.refuse(603)
    await story.centre.settle()
    assert refer.said == [202, 603]
    assert story.centre.state("bo") == "NotReady"
    await story.asks(story.ana, "bo")
    story.bo.pick_up()
    await story.centre.settle()
    assert story.centre.state("bo") == "Talking"
    await story.ends()


async def test_who_cannot_be_rung_is_notified_and_nothing_else_happens() -> None:
    story = await Story.begin()
    await story.centre.house.hire("cy", heating=1)
    assert (await story.asks(story.ana, "cy")).said == [202, 480]
    assert (await story.asks(story.ana, "ana")).said == [202, 486]
    assert len(story.centre.phone.rung) == 1
    assert story.hears == ("customer-1", "agent-1-1")
    await story.ends()


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("sip:bo@elsewhere.example", 403),
        ("sip:+4930123456@elsewhere.example", 403),
        ("tel:+15559999", 403),
        ("*71", 403),
        ("nobody", 404),
        ("0900123", 404),
        ("mailto:bo@warmline.test", 416),
    ],
)
async def test_nothing_else_can_be_referred_to(to: str, status: int) -> None:
    story = await Story.begin()
    assert (await story.asks(story.ana, to)).said == [-status]
    assert (await story.asks(story.ana, story.contact.id)).said == [-403]
    assert len(story.centre.phone.rung) == 1
    await story.ends()


async def test_a_customer_transfers_nobody() -> None:
    story = await Story.begin()
    assert (await story.asks(story.customer, "bo")).said == [-403]
    assert (await story.asks(story.customer, "+4930123456")).said == [-403]


async def test_a_chat_is_not_transferred_by_its_prompt() -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    contact = await centre.asks("maria", "chat", "Hello")
    phone = centre.phone.rung[-1]
    phone.pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    refer = Asked("bo")
    phone.tell(TransferRequested(refer))  # type: ignore[arg-type]
    await centre.settle()
    assert refer.said == [-488]


async def test_one_transfer_at_a_time() -> None:
    story = await Story.begin()
    await story.asks(story.ana, "bo")
    assert (await story.asks(story.ana, "bo")).said == [-491]


async def test_blind_to_a_number() -> None:
    story = await Story.begin()
    refer = await story.asks(story.ana, "tel:+49-30-123456")
    assert story.bo.more["credentials"] == ("us", "x")
    assert "Maria" not in story.bo.more["from_"]
    assert "X-Warmline-Contact" not in dict(story.bo.more["headers"])
    story.bo.ring()
    story.bo.pick_up()
    await story.centre.settle()
    assert refer.said == [202, 180, 200]
    assert (story.contact.state, story.contact.agent_id) == (State.CONNECTED, None)
    assert story.centre.state("ana") == "WrapUp"
    told = story.centre.events("contact.transferred")[0].facts
    assert told["to"] == "+4930123456"
    await story.ends()


async def test_after_a_crash_while_a_colleague_is_rung_and_the_agent_has_gone_the_customer_waits() -> None:
    story = await Story.begin()
    await story.asks(story.ana, "bo")
    story.ana.hang_up()
    await story.centre.settle()
    again = await story.centre.again()
    (contact,) = again.contacts
    assert contact.state is State.WAITING
    assert contact.facts.asked_at == story.contact.facts.asked_at
    assert again.state("bo") == "Ready"


async def test_the_page_is_loaded_again_while_a_colleague_is_rung() -> None:
    story = await Story.begin()
    refer = await story.asks(story.ana, "bo")
    story.customer = await story.centre.calls_in(story.contact)
    assert story.centre.media.playing[story.contact.id, "customer-2"] == "music"
    story.bo.pick_up()
    await story.centre.settle()
    assert refer.said == [202, 200]
    assert story.hears == ("customer-2", "agent-2-1")
    await story.ends()


# Attended


async def consulting(story: Story, to: str = "bo") -> tuple[Caller, Ringing]:
    consult = await story.centre.dials("ana", to)
    story.bo.pick_up()
    await story.centre.settle()
    assert consult.answered
    (direct,) = story.centre.direct_calls
    assert direct.media_call == story.contact.id, "where the customer is, so that the two can be joined"
    return consult, story.bo


@pytest.mark.parametrize("mirrored", [False, True])
async def test_attended(mirrored: bool) -> None:
    story = await Story.begin()
    consult, bo = await consulting(story)
    refer = await (story.asks(consult, "x", story.ana) if mirrored else story.asks(story.ana, "bo", consult))
    assert refer.said == [202, 200]
    (direct_id,) = {event.facts["call"] for event in story.centre.events("call.started")}
    assert story.hears == ("customer-1", f"{direct_id}-2-1")
    assert (story.ana.log, consult.log, bo.log, story.customer.log) == (["BYE"], ["BYE"], [], [])
    assert (story.contact.agent_id, story.centre.state("bo")) == ("agent-bo", "Talking")
    assert story.centre.state("ana") == "WrapUp"
    assert story.centre.events("call.ended")[0].facts["how"] == "transferred"
    bo.hang_up()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.AGENT_HUNG_UP
    assert story.customer.log == ["BYE"]
    assert story.centre.media.branches == {}


async def test_attended_to_a_number() -> None:
    story = await Story.begin()
    consult, _ = await consulting(story, "+4930123456")
    refer = await story.asks(story.ana, "x", consult)
    assert refer.said == [202, 200]
    assert story.contact.agent_id is None
    await story.ends()


async def test_attended_and_the_agent_hangs_up_at_once() -> None:
    story = await Story.begin()
    consult, _ = await consulting(story)
    refer = Asked("bo", consult)
    story.ana.tell(TransferRequested(refer))  # type: ignore[arg-type]
    for _ in range(20):
        if refer.said:
            break
        await story.centre.house.database.write()
    story.ana.hang_up()
    await story.centre.settle()
    assert refer.said == [202, 200]
    assert (story.contact.state, story.contact.agent_id) == (State.CONNECTED, "agent-bo")
    await story.ends()


async def test_a_call_of_somebody_elses_is_nobodys_to_take() -> None:
    story = await Story.begin()
    await story.centre.agent("cy", wifi=1)
    theirs = await story.centre.dials("bo", "cy")
    story.bo.pick_up()
    await story.centre.settle()
    assert (await story.asks(story.ana, "x", theirs)).said == [-403]
    unknown = Asked("x", replaces=True)
    story.ana.tell(TransferRequested(unknown))  # type: ignore[arg-type]
    assert unknown.said == [-481]
    assert (await story.asks(theirs, "x", story.ana)).said == [-403]
    assert theirs.log == []


async def test_the_consultation_is_passed_on_and_the_agent_leaves_it_first() -> None:
    story = await Story.begin()
    await story.centre.agent("cy", wifi=1)
    consult, bo = await consulting(story)
    await story.asks(consult, "cy")
    story.customer.hang_up()
    consult.hang_up()
    await story.centre.settle()
    story.centre.phone.rung[-1].refuse(486)
    await story.centre.settle()
    assert bo.log == ["BYE"]
    assert story.centre.media.branches == {}


async def test_the_agent_gives_up_a_consultation_in_the_moment_of_the_answer() -> None:
    story = await Story.begin()
    consult = await story.centre.dials("ana", "bo")
    story.bo.pick_up()
    consult.hang_up()
    await story.centre.settle()
    assert story.bo.log == ["BYE"]
    assert set(story.centre.media.branches) == {
        (story.contact.id, "customer-1"),
        (story.contact.id, "agent-1-1"),
    }


async def test_the_customer_hangs_up_during_the_consultation_which_goes_on() -> None:
    story = await Story.begin()
    consult, bo = await consulting(story)
    story.customer.hang_up()
    await story.centre.settle()
    assert (consult.log, bo.log) == ([], [])
    (direct,) = story.centre.direct_calls
    assert set(story.centre.media.branches) == {
        (story.contact.id, f"{direct.id}-1"),
        (story.contact.id, f"{direct.id}-2-1"),
    }
    bo.hang_up()
    await story.centre.settle()
    assert story.centre.media.branches == {}


# Direct calls


async def direct() -> tuple[Story, Caller, Ringing]:
    centre = await Centre.open()
    story = Story(centre)
    for name in ("ana", "bo", "cy"):
        await centre.agent(name)
    caller = await centre.dials("ana", "bo")
    bo = centre.phone.rung[-1]
    bo.pick_up()
    await centre.settle()
    return story, caller, bo


@pytest.mark.parametrize("by_the_caller", [True, False])
async def test_a_direct_call_is_passed_on_by_either_side(by_the_caller: bool) -> None:
    story, ana, bo = await direct()
    asking, staying = (ana, bo) if by_the_caller else (bo, ana)
    refer = await story.asks(asking, "cy")
    cy = story.centre.phone.rung[-1]
    assert cy.to == f"<sip:cy@{DOMAIN}>"
    cy.ring()
    cy.pick_up()
    await story.centre.settle()
    assert refer.said == [202, 180, 200]
    assert (asking.log, staying.log) == (["BYE"], [])
    assert len(story.centre.direct_calls) == 1
    cy.hang_up()
    await story.centre.settle()
    assert staying.log == ["BYE"]
    assert story.centre.media.branches == {}
    assert story.centre.direct_calls._of_agent == {}
    assert story.centre.staffing._in_calls == {}


async def test_a_direct_call_nobody_takes_is_as_it_was() -> None:
    story, ana, bo = await direct()
    refer = await story.asks(ana, "cy")
    story.centre.phone.rung[-1].refuse(486)
    await story.centre.settle()
    assert refer.said == [202, 486]
    assert (ana.log, bo.log) == ([], [])
    assert story.centre.staffing._in_calls == {"agent-ana": 1, "agent-bo": 1}
    refer = await story.asks(ana, "cy")
    ana.hang_up()
    await story.centre.settle()
    assert bo.log == []
    story.centre.phone.rung[-1].refuse(486)
    await story.centre.settle()
    assert refer.said == [202, 486]
    assert bo.log == ["BYE"]
    assert story.centre.media.branches == {}
    assert story.centre.staffing._in_calls == {}


async def test_the_other_party_goes_while_a_third_is_rung() -> None:
    story, ana, bo = await direct()
    refer = await story.asks(ana, "cy")
    bo.hang_up()
    await story.centre.settle()
    assert refer.said == [202, 487]
    assert story.centre.phone.rung[-1].log == ["CANCEL"]
    assert ana.log == ["BYE"]
    assert story.centre.staffing._in_calls == {}


async def test_two_direct_calls_of_one_agent_become_one() -> None:
    story, ana, bo = await direct()
    second = await story.centre.dials("ana", "cy")
    cy = story.centre.phone.rung[-1]
    cy.pick_up()
    await story.centre.settle()
    refer = await story.asks(ana, "x", second)
    assert refer.said == [202, 200]
    assert (ana.log, second.log, bo.log, cy.log) == (["BYE"], ["BYE"], [], [])
    (left,) = story.centre.direct_calls
    assert {party.agent_id for party in left.parties} == {"agent-bo", "agent-cy"}
    bo.hang_up()
    await story.centre.settle()
    assert cy.log == ["BYE"]
    assert story.centre.media.branches == {}
    assert story.centre.staffing._in_calls == {}
    assert story.centre.direct_calls._in_media == {}


# A phone in place of another


async def test_the_agent_goes_on_at_another_phone() -> None:
    story = await Story.begin()
    other = await story.centre.dials("ana", "whatever", replaces=story.ana)
    assert other.answered
    assert story.ana.log == ["BYE"]
    assert story.contact.state is State.CONNECTED
    assert story.hears[0] == "customer-1"
    other.hang_up()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.AGENT_HUNG_UP


async def test_a_direct_call_goes_on_at_another_phone() -> None:
    story, ana, bo = await direct()
    other = await story.centre.dials("bo", "whatever", replaces=bo)
    assert other.answered
    assert (bo.log, ana.log) == (["BYE"], [])
    ana.hang_up()
    await story.centre.settle()
    assert other.log == ["BYE"]
    assert story.centre.media.branches == {}
    assert story.centre.staffing._in_calls == {}


async def test_nobody_takes_anybody_elses_call() -> None:
    story = await Story.begin()
    thief = await story.centre.dials("bo", "whatever", replaces=story.ana)
    assert thief.refused == (403, "Not Your Call")
    thief = await story.centre.dials("ana", "whatever", replaces=story.customer)
    assert thief.refused == (481, "That Call Is Not Here")
    assert story.contact.state is State.CONNECTED


@pytest.mark.parametrize("mirrored", [False, True])
async def test_who_was_asked_by_telephone_gets_no_customer_of_a_provider_they_do_not_serve(
    mirrored: bool,
) -> None:
    story = await Story.begin()
    consult, bo = await consulting(story)
    agent = story.centre.house.roster.agent("agent-bo")
    object.__setattr__(agent, "provider_ids", ("lumio",))
    refer = await (story.asks(consult, "x", story.ana) if mirrored else story.asks(story.ana, "x", consult))
    assert refer.said == [-403]
    assert (story.contact.agent_id, story.ana.log, bo.log) == ("agent-ana", [], [])
