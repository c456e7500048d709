"""What an agent does from their page with a customer on the line, and every way in which each of it ends."""

from __future__ import annotations

from typing import Any

import pytest

from config.errors import TheirError
from pbx.agent_desk import Control
from pbx.contact import Disposition, State
from tests.pbx.centre import Ringing
from tests.pbx.test_transfer import Asked, Story

BO = "agent:agent-bo"
NUMBER = "number:+49 30 123456"


async def does(story: Story, what: str, *more: Any, agent: str = "agent-ana") -> None:
    await getattr(story.centre.actions, what)(agent, story.contact.id, *more)
    await story.centre.settle()


def control(story: Story) -> Control:
    return story.centre.actions.control(story.contact)


async def consulting(to: str = BO, channel: str = "voice", *, answered: bool = True) -> tuple[Story, Ringing]:
    """Ana asks Bo about Maria."""
    story = await Story.begin(channel)
    await does(story, "consult", to)
    asked = story.bo
    if answered:
        asked.pick_up()
        await story.centre.settle()
    return story, asked


def talking(story: Story) -> list[str]:
    return [name for name in ("ana", "bo") if story.centre.state(name) == "Talking"]


async def refused(story: Story, status: int, what: str, *more: Any, agent: str = "agent-ana") -> str:
    with pytest.raises(TheirError) as caught:
        await does(story, what, *more, agent=agent)
    assert caught.value.status == status
    return caught.value.reason


# Hold


async def test_the_customer_hears_music_while_held_and_the_agent_again_after_it() -> None:
    story = await Story.begin()
    await does(story, "hold")
    assert story.centre.media.playing[story.contact.id, "customer-1"] == "music"
    assert control(story) == Control(held=True)
    assert story.ana.log == []
    await refused(story, 409, "hold")
    await does(story, "unhold")
    assert story.hears == ("customer-1", "agent-1-1")
    assert control(story) == Control()
    await refused(story, 409, "unhold")
    assert story.centre.kinds(story.contact)[-2:] == ["held", "unheld"]
    await story.ends()


async def test_an_agent_who_hangs_up_on_a_held_customer_ends_it() -> None:
    story = await Story.begin()
    await does(story, "hold")
    story.ana.hang_up()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.AGENT_HUNG_UP


async def test_nobody_else_holds_passes_on_or_asks_about_it() -> None:
    story = await Story.begin()
    for what, more in (
        ("hold", ()), ("transfer", (BO,)), ("consult", (BO,)), ("complete", ()), ("confer", ()), ("call_off", ()),
    ):  # fmt: skip
        await refused(story, 404, what, *more, agent="agent-bo")
    await story.ends()


# Passing on


async def test_blind_to_a_colleague() -> None:
    story = await Story.begin()
    await does(story, "transfer", BO)
    assert story.centre.media.playing[story.contact.id, "customer-1"] == "music"
    assert control(story) == Control(stage="transferring", other="Bo")
    assert story.centre.state("bo") == "Reserved"
    story.bo.pick_up()
    await story.centre.settle()
    assert story.hears == ("customer-1", "agent-2-1")
    assert (story.contact.agent_id, story.ana.log) == ("agent-bo", ["BYE"])
    assert (story.centre.state("ana"), story.centre.state("bo")) == ("WrapUp", "Talking")
    assert story.centre.actions.writing_up("agent-ana") == story.contact.id
    await story.ends()


@pytest.mark.parametrize(
    ("status", "words"), [(603, "Bo could not take it."), (404, "Bo could not be reached")]
)
async def test_a_colleague_who_does_not_take_it_leaves_all_as_it_was(status: int, words: str) -> None:
    story = await Story.begin()
    await does(story, "transfer", BO)
    story.bo.refuse(status)
    await story.centre.settle()
    assert story.hears == ("customer-1", "agent-1-1")
    assert control(story).notice.startswith(words)
    assert story.contact.agent_id == "agent-ana"
    await does(story, "transfer", BO)
    story.bo.pick_up()
    await story.centre.settle()
    assert story.contact.agent_id == "agent-bo"
    await story.ends()


async def test_a_transfer_is_called_off() -> None:
    story = await Story.begin()
    await does(story, "transfer", BO)
    await does(story, "call_off")
    assert story.bo.log == ["CANCEL"]
    assert story.hears == ("customer-1", "agent-1-1")
    assert (control(story), story.centre.state("bo")) == (Control(), "Ready")
    await refused(story, 409, "call_off")
    await story.ends()


async def test_blind_to_a_number() -> None:
    story = await Story.begin()
    await does(story, "transfer", NUMBER)
    story.bo.pick_up()
    await story.centre.settle()
    assert (story.contact.state, story.contact.agent_id) == (State.CONNECTED, None)
    await story.ends()


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("number:+1 555 9999", 403), ("number:0900123", 403), ("number:bo", 403), ("agent:nobody", 422),
        ("agent:agent-ana", 409), ("skill:nothing", 422), ("queue:nothing", 422), ("", 422), ("xyz", 422),
    ],
)  # fmt: skip
async def test_nobody_else_is_to_be_had(to: str, status: int) -> None:
    story = await Story.begin()
    assert await refused(story, status, "transfer", to)
    assert len(story.centre.phone.rung) == 1
    assert control(story) == Control()
    await story.ends()


async def test_a_colleague_of_another_providers_gets_nobody_of_this_one() -> None:
    story = await Story.begin()
    await story.centre.agent("cy", wifi=1)
    roster = story.centre.house.roster
    cy = roster.agent("agent-cy")
    assert cy is not None
    object.__setattr__(cy, "provider_ids", ("lumio",))
    for what in ("transfer", "consult"):
        assert "may not take" in await refused(story, 403, what, "agent:agent-cy")
    assert (await story.asks(story.ana, "cy")).said == [-403]
    found = story.centre.actions.candidates("agent-ana", story.contact.id, "")
    assert "agent:agent-cy" not in [each.to for each in found]
    await story.ends()


async def test_somebody_who_knows_another_thing_gets_it_in_the_old_place() -> None:
    story = await Story.begin()
    place = story.contact.place_at
    await does(story, "transfer", "skill:wifi")
    assert story.ana.log == ["BYE"]
    assert story.customer.over is None
    assert story.contact.place_at == place
    assert [(need.skill, need.required) for need in story.contact.needs if need.required] == [("wifi", True)]
    assert (story.contact.state, story.contact.agent_id) == (State.RINGING, "agent-bo")
    assert story.centre.state("ana") == "WrapUp"
    story.bo.pick_up()
    await story.centre.settle()
    assert (story.contact.state, story.contact.agent_id) == (State.CONNECTED, "agent-bo")
    stored = await story.centre.store.contact(story.contact.id)
    assert stored is not None
    assert stored.needs == story.contact.needs
    await story.ends()


async def test_another_queue_gets_it_with_the_same_needs() -> None:
    story = await Story.begin()
    needs = story.contact.needs
    await does(story, "transfer", "queue:patience")
    assert (story.contact.queue, story.contact.needs) == ("patience", needs)
    assert story.contact.state is State.WAITING
    assert story.centre.media.branches.keys() == {(story.contact.id, "customer-1")}
    story.customer.hang_up()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.CUSTOMER_GAVE_UP
    assert story.centre.state("ana") == "WrapUp"


async def test_what_a_phone_has_begun_is_not_crossed_from_the_page_nor_the_other_way() -> None:
    story = await Story.begin()
    await story.asks(story.ana, "bo")
    for what, more in (("transfer", (BO,)), ("consult", (BO,)), ("hold", ()), ("transfer", ("skill:wifi",))):
        assert "already" in await refused(story, 409, what, *more)
    assert control(story).stage == "transferring"
    story.bo.refuse(486)
    await story.centre.settle()
    for what in ("transfer", "consult"):
        await does(story, what, BO)
        assert (await story.asks(story.ana, "bo")).said == [-491]
        assert "already" in await refused(story, 409, "transfer", BO)
        story.bo.refuse(486)
        await story.centre.settle()
    assert (await story.asks(story.ana, "bo")).said == [202]
    story.bo.pick_up()
    await story.centre.settle()
    await story.ends()


# Asking first


async def test_a_colleague_is_asked_and_takes_the_customer() -> None:
    story, bo = await consulting(answered=False)
    assert story.centre.media.playing[story.contact.id, "customer-1"] == "music"
    assert bo.header("X-Warmline-Contact") == story.contact.id
    assert control(story) == Control(stage="ringing", other="Bo")
    await refused(story, 409, "complete")
    await refused(story, 409, "confer")
    bo.ring()
    bo.pick_up()
    await story.centre.settle()
    assert control(story).stage == "talking"
    assert story.hears == ("agent-1-1", "agent-2-1")
    assert story.centre.media.playing[story.contact.id, "customer-1"] == "music"
    assert talking(story) == ["ana", "bo"]
    assert story.centre.actions.asked_about("agent-bo") == [story.contact]
    assert story.contact.agent_id == "agent-ana", "until it is handed over"
    await does(story, "complete")
    assert story.hears == ("customer-1", "agent-2-1")
    assert (story.ana.log, bo.log) == (["BYE"], [])
    assert (story.contact.agent_id, talking(story), story.centre.state("ana")) == (
        "agent-bo",
        ["bo"],
        "WrapUp",
    )
    told = story.centre.events("contact.transferred")[0]
    assert (told.agent, told.facts["from_agent"], told.facts["how"]) == (
        "agent-bo",
        "agent-ana",
        "consulted",
    )
    bo.hang_up()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.AGENT_HUNG_UP
    assert story.centre.state("bo") == "WrapUp"
    await story.centre.passes(11)
    assert story.centre.state("bo") == "Ready"
    assert story.centre.media.branches == {}


async def test_a_consultation_is_called_off() -> None:
    story, bo = await consulting()
    await does(story, "call_off")
    assert (story.ana.log, bo.log) == ([], ["BYE"])
    assert story.hears == ("customer-1", "agent-1-1")
    assert (control(story), story.centre.state("bo")) == (Control(), "Ready")
    assert story.centre.events("contact.consultation_ended")[0].facts["how"] == "cancelled"
    await story.ends()


@pytest.mark.parametrize("how", ["declines", "no answer", "hangs up", "media", "nonsense"])
async def test_whoever_is_asked_goes_and_the_agent_has_the_customer_again(how: str) -> None:
    story, bo = await consulting(answered=how in ("hangs up", "media"))
    match how:
        case "declines":
            bo.refuse(603)
        case "no answer":
            bo.ring()
            await story.centre.passes(21)
        case "hangs up":
            bo.hang_up()
        case "media":
            story.centre.media.on_gone(story.contact.id, "agent-2-1", "silence")
        case "nonsense":
            bo.pick_up(b"nothing in common")
    await story.centre.settle()
    assert story.hears == ("customer-1", "agent-1-1")
    assert story.contact.agent_id == "agent-ana"
    assert talking(story) == ["ana"]
    assert control(story).stage == ""
    assert control(story).notice.startswith("Bo ")
    assert bo.over is not None
    await story.ends()


@pytest.mark.parametrize("stage", ["ringing", "talking"])
@pytest.mark.parametrize("by", ["peer", "lost", "media"])
async def test_the_agent_goes_before_they_are_together_and_the_customer_is_back_in_place(
    stage: str, by: str
) -> None:
    story, bo = await consulting(answered=stage == "talking")
    place = story.contact.place_at
    if by == "media":
        story.centre.media.on_gone(story.contact.id, "agent-1-1", "silence")
    else:
        story.ana.hang_up(by)
    await story.centre.settle()
    assert story.contact.state is State.WAITING
    assert story.contact.place_at == place
    assert bo.over is not None
    assert story.customer.over is None
    assert (story.centre.state("ana"), story.centre.state("bo")) == ("WrapUp", "Ready")
    assert story.centre.media.playing[story.contact.id, "customer-1"]
    await story.ends(Disposition.CUSTOMER_GAVE_UP)


@pytest.mark.parametrize("stage", ["ringing", "talking", "conferred"])
async def test_the_customer_hangs_up_and_everybody_is_let_go(stage: str) -> None:
    story, bo = await consulting(answered=stage != "ringing")
    if stage == "conferred":
        await does(story, "confer")
    story.customer.hang_up()
    await story.centre.settle()
    assert story.ana.log == ["BYE"]
    assert bo.over is not None
    assert (story.centre.state("ana"), story.centre.state("bo")) == ("WrapUp", "Ready")
    await story.ends()


async def test_media_dies() -> None:
    story, bo = await consulting()
    story.centre.calls.media_died()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.MEDIA_FAILED
    assert bo.over is not None
    assert story.centre.state("bo") == "Ready"


async def test_the_server_stops() -> None:
    story, bo = await consulting()
    await story.centre.desk.drain()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.SERVER_STOPPED
    assert bo.over is not None
    assert story.centre.state("bo") == "Ready"


async def test_after_a_crash_nobody_is_stuck() -> None:
    story, _ = await consulting()
    again = await story.centre.again()
    assert not list(again.contacts)
    assert (again.state("ana"), again.state("bo")) == ("Ready", "Ready")


async def test_codecs_that_differ_are_agreed_anew_with_the_agent_and_then_with_the_customer() -> None:
    story, bo = await consulting(answered=False)
    story.centre.media.different = True
    bo.pick_up()
    await story.centre.settle()
    assert len(story.ana.reinvites) == 1
    story.ana.tell_answer() if hasattr(story.ana, "tell_answer") else None
    story.customer.hang_up()
    await story.centre.settle()
    assert bo.over is not None
    assert story.centre.state("bo") == "Ready"


async def test_a_number_is_asked() -> None:
    story, asked = await consulting(NUMBER)
    assert control(story) == Control(stage="talking", other="+4930123456")
    await does(story, "complete")
    assert (story.contact.state, story.contact.agent_id) == (State.CONNECTED, None)
    assert story.centre.state("ana") == "WrapUp"
    assert asked.log == []
    await story.ends()


async def test_who_cannot_be_rung_changes_nothing() -> None:
    story = await Story.begin()
    await story.centre.house.hire("cy", heating=1)
    assert "no phone" in await refused(story, 409, "consult", "agent:agent-cy")
    await story.centre.dials("bo", "+4930123456")
    story.centre.phone.rung[-1].pick_up()
    await story.centre.settle()
    assert "busy" in await refused(story, 409, "consult", BO)
    assert story.hears[0] != "customer-1"
    assert control(story) == Control()
    assert not story.centre.transfers.claims.busy(story.contact.id)


async def test_the_page_is_loaded_again_while_a_colleague_is_asked() -> None:
    story, _ = await consulting()
    story.customer = await story.centre.calls_in(story.contact)
    assert story.centre.media.playing[story.contact.id, "customer-2"] == "music"
    await does(story, "complete")
    assert story.hears == ("customer-2", "agent-2-1")
    await story.ends()


async def test_a_softphone_does_not_cross_a_consultation() -> None:
    story, bo = await consulting()
    assert (await story.asks(story.ana, "bo")).said == [-491]
    other = await story.centre.dials("ana", "whatever", replaces=story.ana)
    assert other.refused is not None
    assert other.refused[0] == 491
    assert (await story.asks(bo, "ana")).said == [-488]
    await does(story, "complete")
    refer = Asked("ana")
    from sip_trunk.call_events import TransferRequested

    bo.tell(TransferRequested(refer))  # type: ignore[arg-type]
    await story.centre.settle()
    assert refer.said[0] == 202, "it is theirs now"
    story.centre.phone.rung[-1].pick_up()
    await story.centre.settle()
    assert story.contact.agent_id == "agent-ana"
    await story.ends()


# All three


async def test_three_hear_each_other_and_the_third_is_sent_away() -> None:
    story, bo = await consulting()
    await does(story, "confer")
    assert story.centre.media.conferences[story.contact.id] == ("customer-1", "agent-1-1", "agent-2-1")
    assert control(story) == Control(stage="conferred", other="Bo")
    assert story.centre.events("contact.conferenced")[0].facts["with"].startswith("sip:bo@")
    await does(story, "confer")
    await does(story, "call_off")
    assert bo.log == ["BYE"]
    assert story.hears == ("customer-1", "agent-1-1")
    assert talking(story) == ["ana"]
    await story.ends()


@pytest.mark.parametrize("by", ["said so", "peer", "lost", "media"])
async def test_the_agent_leaves_the_conference_and_the_other_two_go_on(by: str) -> None:
    story, bo = await consulting()
    await does(story, "confer")
    match by:
        case "said so":
            await does(story, "complete")
        case "media":
            story.centre.media.on_gone(story.contact.id, "agent-1-1", "silence")
        case _:
            story.ana.hang_up(by)
    await story.centre.settle()
    assert story.hears == ("customer-1", "agent-2-1")
    assert (story.contact.state, story.contact.agent_id) == (State.CONNECTED, "agent-bo")
    assert story.ana.over is not None
    assert (talking(story), story.centre.state("ana")) == (["bo"], "WrapUp")
    assert story.customer.log == []
    bo.hang_up()
    await story.centre.settle()
    assert story.contact.disposition is Disposition.AGENT_HUNG_UP


async def test_the_third_hangs_up_and_the_two_go_on() -> None:
    story, bo = await consulting()
    await does(story, "confer")
    bo.hang_up()
    await story.centre.settle()
    assert story.hears == ("customer-1", "agent-1-1")
    assert talking(story) == ["ana"]
    await story.ends()


async def test_a_page_that_is_loaded_again_is_back_in_the_conference() -> None:
    story, _ = await consulting()
    await does(story, "confer")
    story.customer = await story.centre.calls_in(story.contact)
    assert story.centre.media.conferences[story.contact.id] == ("customer-2", "agent-1-1", "agent-2-1")
    await story.ends()


@pytest.mark.parametrize("first", ["bo", "ana"])
async def test_agent_and_colleague_leave_a_conference_in_one_moment(first: str) -> None:
    story, bo = await consulting()
    await does(story, "confer")
    for phone in (bo, story.ana) if first == "bo" else (story.ana, bo):
        phone.hang_up()
    await story.centre.settle()
    if story.contact.open:
        assert story.contact.state is State.WAITING
        assert story.customer.over is None
    await story.centre.passes(11)
    assert (story.centre.state("bo")) in ("Ready", "WrapUp")
    story.customer.hang_up()
    await story.centre.passes(31)
    assert story.centre.state("ana") in ("Ready", "WrapUp")
    assert story.centre.media.branches == {}


# Chats


async def chatting() -> Story:
    from tests.pbx.centre import Centre

    centre = await Centre.open()
    story = Story(centre)
    await centre.agent("ana")
    await centre.agent("bo", wifi=1)
    story.contact = await centre.asks("maria", "chat", "It drips.")
    story.ana = centre.phone.rung[-1]
    story.ana.pick_up()
    await centre.settle()
    assert story.contact.state is State.CONNECTED
    return story


async def test_a_chat_goes_to_a_colleague_with_its_lines() -> None:
    story = await chatting()
    await does(story, "transfer", BO)
    assert control(story) == Control(stage="transferring", other="Bo")
    await story.centre.desk.agent_says("agent-ana", story.contact.id, "k", "One moment.")
    story.bo.pick_up()
    await story.centre.settle()
    assert (story.contact.state, story.contact.agent_id) == (State.CONNECTED, "agent-bo")
    to_bo = [text for to, _, text, _ in story.centre.phone.sent if "bo@" in to]
    assert "It drips." in to_bo
    to_ana = [text for to, _, text, _ in story.centre.phone.sent if "ana@" in to]
    assert to_ana[-1] == "[You have passed this chat on.]"
    assert (story.centre.state("ana"), story.centre.state("bo")) == ("WrapUp", "Talking")
    assert control(story) == Control()


@pytest.mark.parametrize("how", ["declines", "no answer", "called off", "customer", "agent ends"])
async def test_a_chat_that_no_colleague_takes_stays_where_it_is(how: str) -> None:
    story = await chatting()
    await does(story, "transfer", BO)
    match how:
        case "declines":
            story.bo.refuse(603)
        case "no answer":
            story.bo.ring()
            await story.centre.passes(21)
        case "called off":
            await does(story, "call_off")
        case "customer":
            await story.centre.desk.end(story.contact.id, "customer")
        case "agent ends":
            await story.centre.desk.end(story.contact.id, "agent")
    await story.centre.settle()
    assert story.bo.over is not None
    assert story.centre.state("bo") == "Ready"
    assert not story.centre.transfers.claims.busy(story.contact.id)
    if how in ("customer", "agent ends"):
        assert not story.contact.open
    else:
        assert (story.contact.agent_id, story.centre.state("ana")) == ("agent-ana", "Talking")


async def test_a_chat_goes_back_to_the_queue_for_somebody_who_knows() -> None:
    story = await chatting()
    await does(story, "transfer", "skill:wifi")
    assert (story.contact.state, story.contact.agent_id) == (State.RINGING, "agent-bo")
    story.bo.pick_up()
    await story.centre.settle()
    assert "It drips." in [text for to, _, text, _ in story.centre.phone.sent if "bo@" in to]


async def test_a_chat_is_not_held_nor_talked_over() -> None:
    story = await chatting()
    for what, more in (("hold", ()), ("consult", (BO,))):
        assert "calls only" in await refused(story, 409, what, *more)
    await refused(story, 422, "transfer", NUMBER)


async def test_what_is_typed_means_whom_it_fits_if_it_is_one() -> None:
    story = await Story.begin()
    await story.centre.house.hire("bob", heating=1)
    await refused(story, 422, "transfer", "bo")
    await does(story, "consult", "wifi")
    assert control(story) == Control(stage="ringing", other="Bo")
    await story.ends()


# Whom there is


async def test_whom_to_pass_it_on_to() -> None:
    story = await Story.begin()
    await story.centre.house.hire("cy", heating=1)

    def found(text: str) -> list[tuple[str, bool]]:
        return [
            (each.to, each.free)
            for each in story.centre.actions.candidates("agent-ana", story.contact.id, text)
        ]

    assert (found("")[0], found("")[-1]) == ((BO, True), ("agent:agent-cy", False))
    assert ("skill:wifi", True) in found("")
    assert found("wifi") == [(BO, True), ("skill:wifi", True)]
    assert found("BO") == [(BO, True)]
    assert found("+49 30 123456")[-1] == ("number:+4930123456", True)
    assert found("+1 555 0") == []
    await story.ends()
