"""Transfers in which something else happens at the same moment, and those that nobody should be able to ask for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.errors import OurError
from pbx.contact import Disposition, State
from sip_trunk.call_events import Reoffered, TransferRequested
from tests.agent_presence.house import DOMAIN
from tests.pbx.centre import FakeFlow
from tests.pbx.test_transfer import Asked, Story, consulting, direct


def refer(phone: Any, to: str, replaced: Any = None) -> Asked:
    """A REFER, and nothing has had time to happen yet."""
    asked = Asked(to, replaced)
    phone.tell(TransferRequested(asked))  # type: ignore[arg-type]
    return asked


# The agent who asks


async def test_a_bye_right_behind_the_refer_leaves_the_customer_with_the_colleague() -> None:
    """Both may come in one packet of a stream, and are then read in one go."""
    story = await Story.begin()
    asked = refer(story.ana, "bo")
    story.ana.hang_up()
    await story.centre.settle()
    assert asked.said == [202]
    assert (story.contact.state, story.contact.agent_id) == (State.RINGING, "agent-bo")
    story.bo.pick_up()
    await story.centre.settle()
    assert asked.said == [202, 200]
    assert story.centre.state("ana") == "WrapUp"
    await story.ends()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("settled", [False, True])
async def test_an_agent_who_hangs_up_both_calls_right_after_asking_to_join_them(
    mirrored: bool, settled: bool
) -> None:
    story = await Story.begin()
    consult, bo = await consulting(story)
    asked = refer(consult, "x", story.ana) if mirrored else refer(story.ana, "x", consult)
    if settled:
        await asyncio.sleep(0)
    consult.hang_up()
    story.ana.hang_up()
    await story.centre.settle()
    assert asked.said == [202, 200]
    assert bo.log == []
    assert (story.contact.state, story.contact.agent_id) == (State.CONNECTED, "agent-bo")
    assert story.centre.staffing._in_calls == {}
    await story.ends()


async def test_two_direct_calls_become_one_though_the_agent_hangs_up_both_at_once() -> None:
    story, ana, bo = await direct()
    second = await story.centre.dials("ana", "cy")
    cy = story.centre.phone.rung[-1]
    cy.pick_up()
    await story.centre.settle()
    asked = refer(ana, "x", second)
    ana.hang_up()
    second.hang_up()
    await story.centre.settle()
    assert asked.said == [202, 200]
    assert (bo.log, cy.log) == ([], [])
    (left,) = story.centre.direct_calls
    assert {party.agent_id for party in left.parties} == {"agent-bo", "agent-cy"}
    cy.hang_up()
    await story.centre.settle()
    assert bo.log == ["BYE"]
    assert story.centre.media.branches == {}
    assert story.centre.staffing._in_calls == {}


async def test_an_attended_transfer_that_fails_after_the_agent_has_left_ends_the_consultation() -> None:
    story = await Story.begin()
    consult, bo = await consulting(story)
    asked = refer(story.ana, "x", consult)
    consult.hang_up()
    story.ana.hang_up()
    story.centre.house.drop("bo")  # no phone of theirs is registered: they are not held any more
    await story.centre.settle()
    assert asked.said == [202, 480]
    assert story.contact.state is State.WAITING
    assert bo.log == ["BYE"], "nobody is behind that call any more"
    assert story.customer.over is None
    assert len(story.centre.direct_calls) == 0


async def test_a_colleague_who_is_on_the_line_already_is_joined_though_asked_for_by_name() -> None:
    story = await Story.begin()
    consult, bo = await consulting(story)
    asked = await story.asks(story.ana, "bo")
    assert asked.said == [202, 200]
    assert len(story.centre.phone.rung) == 2, "the call that is there is the one that goes on"
    assert (story.ana.log, consult.log, bo.log) == (["BYE"], ["BYE"], [])
    assert (story.contact.agent_id, story.centre.state("bo")) == ("agent-bo", "Talking")
    await story.ends()


async def test_a_number_that_is_on_the_line_already_is_not_called_twice() -> None:
    story = await Story.begin()
    await consulting(story, "+4930123456")
    asked = await story.asks(story.ana, "tel:+49-30-123456")
    assert asked.said == [202, 200]
    assert len(story.centre.phone.rung) == 2
    await story.ends()


async def test_a_direct_call_is_joined_with_whom_the_agent_talks_to_already() -> None:
    story, ana, bo = await direct()
    await story.centre.dials("ana", "cy")
    story.centre.phone.rung[-1].pick_up()
    await story.centre.settle()
    asked = await story.asks(ana, "cy")
    assert asked.said == [202, 200]
    (left,) = story.centre.direct_calls
    assert {party.agent_id for party in left.parties} == {"agent-bo", "agent-cy"}
    assert bo.log == []


async def test_a_consultation_that_is_being_joined_is_not_passed_on() -> None:
    story = await Story.begin()
    consult, _ = await consulting(story)
    asked = refer(story.ana, "x", consult)
    assert refer(consult, "+4930123456").said == [-491]
    await story.centre.settle()
    assert asked.said == [202, 200]
    await story.ends()


async def test_the_agents_own_registration_goes_while_a_colleague_is_rung() -> None:
    story = await Story.begin()
    asked = await story.asks(story.ana, "bo")
    story.centre.house.drop("ana")
    await story.centre.settle()
    story.bo.pick_up()
    await story.centre.settle()
    assert asked.said == [202, 200]
    assert story.centre.state("ana") == "Offline"
    story.customer.hang_up()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.CUSTOMER_HUNG_UP


async def test_ten_times_to_and_fro_nothing_piles_up() -> None:
    story = await Story.begin()
    holder, name = story.ana, "bo"
    for _ in range(10):
        asked = await story.asks(holder, name)
        before, holder = holder, story.centre.phone.rung[-1]
        holder.pick_up()
        await story.centre.settle()
        assert asked.said == [202, 200]
        assert before.log == ["BYE"]
        assert len(story.centre.media.branches) == 2
        name = "ana" if name == "bo" else "bo"
    assert story.contact.agent_id == "agent-ana"
    await story.ends()


# The colleague


async def test_a_colleague_who_was_writing_up_goes_on_writing_up_when_they_decline() -> None:
    story = await Story.begin()
    jonas = await story.centre.desk.from_phone("carrier", "+15550200", "+15559999999")
    assert jonas is not None
    states = story.centre.house.states
    assert await states.reserve("agent-bo", "c-before", channel="voice", lease_s=60)
    assert states.accepted("agent-bo", "c-before")
    states.release("agent-bo", "c-before", wrap_up_s=60)
    assert story.centre.state("bo") == "WrapUp"
    until = states.of("agent-bo").wrap_up_until
    await story.asks(story.ana, "bo")
    assert story.centre.state("bo") == "Reserved"
    story.bo.refuse(603)
    await story.centre.settle()
    assert story.centre.state("bo") == "WrapUp"
    assert states.of("agent-bo").wrap_up_until == until
    await story.centre.passes(61)
    assert story.centre.state("bo") == "Ready"


async def test_who_has_just_declined_is_not_the_next_one_the_queue_asks() -> None:
    story = await Story.begin()
    await story.centre.agent("cy")  # helps with the same
    await story.asks(story.ana, "cy")
    story.ana.hang_up()
    await story.centre.settle()
    story.centre.phone.rung[-1].refuse(603)
    await story.centre.settle()
    assert story.contact.state is State.WAITING
    assert "agent-cy" in story.contact.refusals


async def test_a_colleague_rung_for_a_direct_call_goes_offline_and_rings_on_as_long_as_any() -> None:
    story, ana, bo = await direct()
    asked = await story.asks(ana, "cy")
    story.centre.phone.rung[-1].ring()
    story.centre.house.drop("cy")
    await story.centre.settle()
    assert asked.said == [202, 180]
    await story.centre.passes(21)
    assert asked.said == [202, 180, 480]
    assert story.centre.phone.rung[-1].log == ["CANCEL"]
    assert (ana.log, bo.log) == ([], [])


async def test_two_who_pass_on_to_the_same_colleague_in_one_moment() -> None:
    story, ana, _ = await direct()
    await story.centre.agent("eva")
    await story.centre.agent("fay")
    eva = await story.centre.dials("eva", "fay")
    story.centre.phone.rung[-1].pick_up()
    await story.centre.settle()
    rung = len(story.centre.phone.rung)
    first, second = refer(ana, "cy"), refer(eva, "cy")
    await story.centre.settle()
    assert len(story.centre.phone.rung) == rung + 1
    assert (first.said, second.said) == ([202], [202, 486])


# The customer


async def test_a_customer_who_was_away_while_passed_on_is_in_the_queue_when_nobody_takes_it() -> None:
    story = await Story.begin()
    await story.asks(story.ana, "bo")
    story.ana.hang_up()
    await story.centre.settle()
    story.customer.flow.close()  # the page is loaded again, say
    await story.centre.settle()
    story.customer = await story.centre.calls_in(story.contact)
    story.bo.refuse(486)
    await story.centre.settle()
    assert story.contact.state is State.WAITING
    assert story.contact.routable
    assert story.centre.dispatch.position(story.contact.id) == 1


async def test_a_customer_who_holds_while_being_passed_on() -> None:
    story = await Story.begin()
    await story.asks(story.ana, "bo")
    story.customer.tell(Reoffered(b"hold"))
    await story.centre.settle()
    assert story.customer.reoffer_answers == [b"answer to hold"]
    story.bo.pick_up()
    story.customer.tell(Reoffered(b"resume"))
    await story.centre.settle()
    assert story.contact.agent_id == "agent-bo"
    assert story.customer.reoffer_answers == [b"answer to hold", b"answer to resume"]
    await story.ends()


async def test_a_video_contact_goes_on_without_pictures_at_a_phone_that_has_none() -> None:
    story = await Story.begin("video")
    asked = await story.asks(story.ana, "bo")
    assert story.centre.media.offers[-1]["kinds"] == {"audio"}
    story.bo.pick_up()
    await story.centre.settle()
    assert asked.said == [202, 200]
    await story.ends()


# Whose doing it was


@pytest.mark.parametrize(("by", "disposition"), [("peer", "other_hung_up"), ("lost", "other_lost")])
async def test_somebody_outside_who_hangs_up_is_not_taken_for_the_agent(by: str, disposition: str) -> None:
    story = await Story.begin()
    await story.asks(story.ana, "+4930123456")
    story.bo.pick_up()
    await story.centre.settle()
    story.bo.hang_up(by)
    await story.centre.settle()
    assert story.contact.disposition == disposition
    assert story.contact.disposition is not None
    assert story.contact.disposition.whose == "other"


# Fraud


async def test_somebody_outside_passes_nobody_on() -> None:
    """A carrier's end of a call that an agent has left: its REFER would be paid for by us."""
    story = await Story.begin()
    await story.asks(story.ana, "+4930123456")
    outside = story.bo
    outside.pick_up()
    await story.centre.settle()
    rung = len(story.centre.phone.rung)
    for to in ("+4930999999", "bo", "ana"):
        assert (await story.asks(outside, to)).said == [-403]
    assert (await story.asks(outside, "x", story.customer)).said == [-403]
    assert len(story.centre.phone.rung) == rung
    await story.ends()


async def test_calls_out_that_an_agent_has_left_count_as_theirs() -> None:
    """A stolen phone could else join one pair of premium numbers after the other, and be free for more."""
    story, _, bo = await direct()
    bo.hang_up()
    await story.centre.settle()
    for number in range(2):
        first = await story.centre.dials("ana", f"+493012345{number}0")
        story.centre.phone.rung[-1].pick_up()
        await story.centre.settle()
        second = await story.centre.dials("ana", f"+493012345{number}1")
        story.centre.phone.rung[-1].pick_up()
        await story.centre.settle()
        assert (await story.asks(first, "x", second)).said == [202, 200]
    assert len(story.centre.direct_calls) == 2
    for number in range(2):
        assert (await story.centre.dials("ana", f"+49305555{number}00")).refused is None
    assert (await story.centre.dials("ana", "+4930123459")).refused == (486, "Too Many Calls")
    for event in story.centre.events("call.started"):
        if event.facts["to"].startswith("+"):
            assert (event.agent, event.facts["through"]) == ("agent-ana", "carrier")


async def test_nobody_is_left_to_ask_when_both_are_outside() -> None:
    story, _, bo = await direct()
    bo.hang_up()
    caller = await story.centre.dials("ana", "+4930123456")
    outside = story.centre.phone.rung[-1]
    outside.pick_up()
    await story.centre.settle()
    await story.asks(caller, "+4930123457")
    other = story.centre.phone.rung[-1]
    caller.hang_up()
    other.pick_up()
    await story.centre.settle()
    assert (await story.asks(outside, "+4930999999")).said == [-403]
    assert (await story.asks(other, "cy")).said == [-403]
    told = story.centre.events("call.transferred")[-1]
    assert (told.facts["from_agent"], told.facts["through"]) == ("agent-ana", "carrier")


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("+49110", 404),
        ("110", 404),
        ("0114930123456", 404),
        ("%2B1999999999", 403),
        ("001999999999", 403),
        ("+1999999999;phone-context=+49", 403),
        ("+1 999 999 999".replace(" ", "%20"), 403),
        ("tel:0900123456;phone-context=+49", 404),
        (f"sips:+1999999999@{DOMAIN}", 403),
        ("sip:+4930123456@192.0.2.50", 403),
        ("sip:+4930123456@192.0.2.50:5070", 403),
        ("+4930123456%00", 404),
        ("+4930123456%0d%0aX", 404),
    ],
)
async def test_no_spelling_of_a_number_gets_past_the_prefixes(to: str, status: int) -> None:
    story = await Story.begin()
    caller = await story.centre.dials("bo", to)
    assert caller.refused is not None
    assert caller.refused[0] == status
    assert (await story.asks(story.ana, to)).said == [-status]
    assert len(story.centre.phone.rung) == 1


@pytest.mark.parametrize("to", ["+4930123456", "%2B4930123456", "004930123456", "+49%2030-123456"])
async def test_every_spelling_of_a_number_that_may_be_called_is_sent_as_e164(to: str) -> None:
    story = await Story.begin()
    await story.centre.dials("bo", to)
    assert str(story.centre.phone.rung[-1].target.uri).startswith("sip:+4930123456@192.0.2.50")


# Replaces


async def test_two_phones_that_take_one_call_at_once() -> None:
    story, ana, bo = await direct()
    first = story.centre.dials("bo", "whatever", replaces=bo)
    second = story.centre.dials("bo", "whatever", replaces=bo)
    calls = await asyncio.gather(first, second)
    assert sorted(call.log for call in calls if call.answered) in ([[]], [[], ["BYE"]])
    assert ana.log == []
    (left,) = story.centre.direct_calls
    assert {party.agent_id for party in left.parties} == {"agent-ana", "agent-bo"}
    ana.hang_up()
    await story.centre.settle()
    assert story.centre.staffing._in_calls == {}
    assert story.centre.media.branches == {}


async def test_a_refer_while_the_call_moves_to_another_phone(monkeypatch: pytest.MonkeyPatch) -> None:
    story = await Story.begin()
    media, go = story.centre.media, asyncio.Event()
    compatible = media.compatible

    async def slow(*branches: str) -> bool:
        await go.wait()
        return await compatible(*branches)

    monkeypatch.setattr(media, "compatible", slow)
    other = await story.centre.dials("ana", "whatever", replaces=story.ana)
    third = await story.centre.dials("ana", "whatever", replaces=story.ana)
    assert third.refused == (491, "A Transfer Is Under Way")
    assert refer(story.ana, "bo").said == [-491]
    go.set()
    await story.centre.settle()
    assert other.answered
    assert story.ana.log == ["BYE"]
    assert story.contact.state is State.CONNECTED
    other.hang_up()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.AGENT_HUNG_UP


async def test_the_other_phone_goes_while_it_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    story = await Story.begin()
    join = story.centre.media.join
    phones: list[Any] = []

    async def and_gone(*branches: str) -> None:
        await join(*branches)
        phones[0].hang_up()

    monkeypatch.setattr(story.centre.media, "join", and_gone)
    monkeypatch.setattr(story.centre.transfers, "replace", _noting(story.centre.transfers.replace, phones))
    await story.centre.dials("ana", "whatever", replaces=story.ana)
    assert story.hears == ("customer-1", "agent-1-1"), "as before"
    assert story.contact.state is State.CONNECTED
    monkeypatch.undo()
    await story.ends()


def _noting(replace: Any, phones: list[Any]) -> Any:
    async def noting(call: Any, agent_id: str, replaced: Any) -> None:
        phones.append(call)
        await replace(call, agent_id, replaced)

    return noting


# The server


async def test_the_media_process_dies_while_a_colleague_is_rung() -> None:
    story = await Story.begin()
    asked = await story.asks(story.ana, "bo")
    story.bo.ring()
    story.centre.media.branches.clear()
    story.centre.media.dead = True
    story.centre.calls.media_died()
    story.centre.direct_calls.media_died()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.MEDIA_FAILED
    assert asked.said == [202, 180, 487]
    assert (story.customer.log, story.ana.log, story.bo.log) == (["BYE"], ["BYE"], ["CANCEL"])
    await story.centre.passes(11)
    assert (story.centre.state("ana"), story.centre.state("bo")) == ("Ready", "Ready")


async def test_the_media_process_dies_while_two_are_being_joined() -> None:
    story = await Story.begin()
    consult, bo = await consulting(story)
    asked = refer(story.ana, "x", consult)
    await asyncio.sleep(0)
    story.centre.media.branches.clear()
    story.centre.media.dead = True
    await story.centre.settle()
    story.centre.calls.media_died()
    story.centre.direct_calls.media_died()
    await story.centre.settle()
    assert asked.over
    assert story.contact.disposition is Disposition.MEDIA_FAILED
    assert [call.log for call in (story.customer, story.ana, consult, bo)] == [["BYE"]] * 4
    await story.centre.passes(11)
    assert (story.centre.state("ana"), story.centre.state("bo")) == ("Ready", "Ready")
    assert story.centre.staffing._in_calls == {}


@pytest.mark.parametrize("left", [False, True])
async def test_the_server_stops_while_a_colleague_is_rung(left: bool) -> None:
    story = await Story.begin()
    asked = await story.asks(story.ana, "bo")
    if left:
        story.ana.hang_up()
        await story.centre.settle()
    story.centre.direct_calls.stop()
    await story.centre.desk.drain()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.SERVER_STOPPED
    assert asked.said == [202, 487]
    assert story.bo.log == ["CANCEL"]
    assert story.centre.media.branches == {}
    assert story.centre.state("bo") == "Ready"


async def test_a_call_that_came_in_the_moment_of_stopping_is_refused() -> None:
    story = await Story.begin()
    coming = asyncio.ensure_future(story.centre.dials("bo", "+4930123456"))
    await asyncio.sleep(0)
    story.centre.direct_calls.stop()
    caller = await coming
    assert caller.refused is not None
    assert caller.refused[0] == 503
    assert len(story.centre.direct_calls) == 0


async def test_a_crash_while_the_agent_is_still_there_ends_the_contact_by_the_server() -> None:
    story = await Story.begin()
    await story.asks(story.ana, "bo")
    again = await story.centre.again()
    assert again.events("contact.ended")[-1].facts["disposition"] == "server_died"
    assert (again.state("ana"), again.state("bo")) == ("Ready", "Ready")


async def test_the_shared_state_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    story = await Story.begin()
    consult, bo = await consulting(story)

    async def down(*_: object) -> bool:
        raise OurError("The shared state cannot be reached.", 503)

    monkeypatch.setattr(story.centre.house.states._shared, "claim", down)
    assert (await story.asks(story.ana, "x", consult)).said == [202, 503]
    assert (consult.log, bo.log, story.ana.log) == ([], [], [])
    assert story.contact.agent_id == "agent-ana"
    assert story.centre.state("bo") == "Ready"


# Privacy


async def test_an_anonymous_callers_page_tells_no_name() -> None:
    """Neither while they talk, nor from what is stored."""
    story = await Story.begin()
    await story.ends()
    desk = story.centre.desk
    contact = await desk.from_phone("carrier", "+15550200", "+15550100001", anonymous=True)
    assert contact is not None
    await story.centre.contacts.add(contact)
    for each in (desk, (await story.centre.again()).desk):
        context = await each.context(contact.id)
        assert context.contact.facts.caller == "Anonymous"
        assert context.customer is None
        assert context.past == ()
        assert "Maria" not in repr(context)
        assert "0100001" not in repr(context)


async def test_nobody_but_a_trunk_asserts_who_calls() -> None:
    story, ana, _ = await direct()
    ana.hang_up()
    await story.centre.settle()
    asserted = [("P-Asserted-Identity", '"Boss" <sip:+4930111@x>'), ("P-Preferred-Identity", "<sip:boss@x>")]
    await story.centre.dials("ana", "bo", headers=asserted)
    phone = story.centre.phone.rung[-1]
    assert phone.more["from_"] == f'"Ana" <sip:ana@{DOMAIN}>'
    assert phone.more["headers"] == ()
    assert isinstance(phone.flow, FakeFlow)
