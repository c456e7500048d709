"""A supervisor listens, whispers and barges in: who hears whom, and that nothing of it harms the call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_presence.roster import Agent
from config.errors import OurError, TheirError
from pbx.contact import State
from pbx.supervision import Mode, hears
from tests.agent_presence.house import DOMAIN
from tests.pbx.centre import Ringing
from tests.pbx.test_transfer import Story

CUSTOMER, ANA = "customer-1", "agent-1-1"


@given(st.sampled_from(Mode), st.sampled_from([None, "third"]))
def test_the_supervisor_hears_all_and_the_customer_hears_them_only_when_they_barge_in(
    mode: Mode, third: str | None
) -> None:
    everybody = ["c", "a", "s", *([third] if third else [])]
    told = hears(mode, "c", "a", "s", third) or {}
    heard = {each: set(told.get(each, everybody)) - {each} for each in everybody}
    assert heard["s"] == set(everybody) - {"s"}
    assert ("s" in heard["c"]) is (mode is Mode.BARGE)
    assert ("s" in heard["a"]) is (mode is not Mode.LISTEN)
    for each in everybody:
        assert set(everybody) - {each, "s"} <= heard[each], "those who talk hear each other whatever happens"


class Floor(Story):
    """Maria talks to Ana; Sofia supervises, and has a phone of her own."""

    sofia: Agent

    @classmethod
    async def opens(cls, channel: str = "voice") -> Floor:
        floor = cls.__new__(cls)
        floor.__dict__ |= (await Story.begin(channel)).__dict__
        centre = floor.centre
        hired = await centre.house.hire("sofia", chess=1)
        await centre.house.bind("sofia", contact_uri="sip:sofia@192.0.2.7:5070")
        await centre.settle()
        floor.sofia = replace(hired, supervisor=True)
        centre.house.roster._keep_agent(floor.sofia)
        return floor

    async def begins(self, mode: Mode = Mode.LISTEN, *, answers: bool = True) -> Ringing:
        self.centre.supervisions.begin(self.sofia, self.contact, mode)
        await self.centre.settle()
        phone = self.centre.phone.rung[-1]
        if answers:
            phone.pick_up()
            await self.centre.settle()
        return phone

    def conference(self) -> tuple[str, ...]:
        return self.centre.media.conferences.get(self.contact.id, ())

    @property
    def heard(self) -> dict[str, list[str]]:
        return self.centre.media.hears.get(self.contact.id, {})

    @property
    def supervisor(self) -> str:
        return next(branch for _, branch in self.centre.media.branches if branch.startswith("supervisor-"))

    def whys(self) -> list[str]:
        return [each.facts["why"] for each in self.centre.events("contact.supervision_ended")]

    def joined(self) -> int:
        return len([each for each in self.centre.media.joined if each[0] == self.contact.id])


async def test_who_listens_is_rung_at_their_own_phone_and_heard_by_nobody() -> None:
    floor = await Floor.opens()
    sofia = await floor.begins(answers=False)
    assert sofia.to == f"<sip:sofia@{DOMAIN}>"
    assert sofia.header("Subject").startswith("Listening: Ana with Maria")
    assert sofia.more["from_"].startswith('"Listening: Maria'), "unlike an offer, on whatever a phone shows"
    assert floor.conference() == ()
    sofia.pick_up()
    await floor.centre.settle()
    supervisor = floor.supervisor
    assert floor.conference() == (CUSTOMER, ANA, supervisor)
    assert floor.heard == {supervisor: [CUSTOMER, ANA], CUSTOMER: [ANA], ANA: [CUSTOMER]}
    (event,) = floor.centre.events("contact.supervised")
    assert (event.contact, event.agent, event.facts["mode"], event.facts["of"]) == (
        floor.contact.id,
        "agent-sofia",
        "listen",
        "agent-ana",
    )


async def test_the_way_is_changed_while_they_listen_and_each_is_an_event() -> None:
    floor = await Floor.opens()
    await floor.begins()
    for mode in (Mode.WHISPER, Mode.BARGE, Mode.LISTEN):
        floor.centre.supervisions.begin(floor.sofia, floor.contact, mode)
        await floor.centre.settle()
        assert ("supervisor-1-1" in floor.heard.get(ANA, ["supervisor-1-1"])) is (mode is not Mode.LISTEN)
        assert ("supervisor-1-1" in floor.heard.get(CUSTOMER, ["supervisor-1-1"])) is (mode is Mode.BARGE)
    told = [event.facts["mode"] for event in floor.centre.events("contact.supervised")]
    assert told == ["listen", "whisper", "barge", "listen"]
    assert len(floor.centre.phone.rung) == 2, "nobody is rung again for it"


async def test_the_agent_is_told_of_who_speaks_and_not_of_who_listens() -> None:
    floor = await Floor.opens()
    await floor.begins()
    said = floor.centre.supervisions.told_to_agent
    assert said(floor.contact.id) == ""
    for mode, word in ((Mode.WHISPER, "speaks to you"), (Mode.BARGE, "all hear each other")):
        floor.centre.supervisions.begin(floor.sofia, floor.contact, mode)
        await floor.centre.settle()
        assert word in said(floor.contact.id)


async def test_the_customer_is_told_of_who_joins_their_call_and_of_nobody_else() -> None:
    floor = await Floor.opens()
    told: list[dict[str, str] | None] = []
    floor.centre.desk.listen(floor.contact.id, lambda kind, view: told.append(view["supervisor"]))
    await floor.begins(Mode.BARGE, answers=False)
    assert floor.centre.desk.view(floor.contact)["supervisor"] is None, "she has not answered yet"
    floor.centre.phone.rung[-1].pick_up()
    await floor.centre.settle()
    assert told[-1] == {"name": "Sofia"}
    for mode in (Mode.LISTEN, Mode.WHISPER):
        floor.centre.supervisions.begin(floor.sofia, floor.contact, mode)
        await floor.centre.settle()
        assert told[-1] is None
    floor.centre.supervisions.begin(floor.sofia, floor.contact, Mode.BARGE)
    await floor.centre.settle()
    assert told[-1] == {"name": "Sofia"}
    floor.centre.supervisions.leave("agent-sofia", floor.contact.id)
    await floor.centre.settle()
    assert told[-1] is None


@pytest.mark.parametrize("how", ["left", "hung up", "lost", "media"])
async def test_when_they_leave_the_two_are_joined_as_before(how: str) -> None:
    floor = await Floor.opens()
    sofia = await floor.begins(Mode.WHISPER)
    before, branch = floor.joined(), floor.supervisor
    match how:
        case "left":
            floor.centre.supervisions.leave("agent-sofia", floor.contact.id)
        case "media":
            floor.centre.media.on_gone(floor.contact.id, branch, "silence")
        case _:
            sofia.hang_up("lost" if how == "lost" else "peer")
    await floor.centre.settle()
    assert floor.contact.state is State.CONNECTED
    assert floor.joined() == before + 1
    assert floor.conference() == ()
    assert (floor.contact.id, branch) not in floor.centre.media.branches
    assert floor.centre.supervisions.of(floor.contact.id) is None
    assert sofia.over is not None
    assert floor.whys() == ["lost" if how == "media" else how]


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("now", [{"supervisor": False}, {"provider_ids": ("lumio",)}, None])
async def test_who_is_no_supervisor_any_more_listens_no_longer(
    now: dict[str, Any] | None, answers: bool
) -> None:
    floor = await Floor.opens()
    sofia = await floor.begins(answers=answers)
    await floor.centre.passes(3)
    assert sofia.over is None
    roster = floor.centre.house.roster
    if now is None:
        del roster._agents[floor.sofia.id]
    else:
        roster._keep_agent(replace(floor.sofia, **now))
    await floor.centre.passes(3)
    assert sofia.log == ["BYE" if answers else "CANCEL"]
    assert floor.whys() == ["no supervisor any more"]
    assert floor.conference() == ()
    assert floor.contact.state is State.CONNECTED, "the two talk on"


@pytest.mark.parametrize("who", ["customer", "ana"])
async def test_it_ends_with_the_call(who: str) -> None:
    floor = await Floor.opens()
    sofia = await floor.begins()
    (floor.customer if who == "customer" else floor.ana).hang_up()
    await floor.centre.settle()
    assert not floor.contact.open
    assert sofia.log == ["BYE"]
    assert floor.whys() == ["the call ended"]
    assert floor.centre.media.branches == {}
    assert floor.centre.staffing.direct_calls("agent-sofia") == 0


async def test_it_ends_while_it_rings() -> None:
    floor = await Floor.opens()
    sofia = await floor.begins(answers=False)
    floor.customer.hang_up()
    await floor.centre.settle()
    assert sofia.log == ["CANCEL"]
    assert floor.centre.supervisions.of(floor.contact.id) is None


async def test_nobody_answers() -> None:
    floor = await Floor.opens()
    sofia = await floor.begins(answers=False)
    sofia.ring()
    await floor.centre.passes(21)
    assert floor.whys() == ["not taken"]
    assert floor.contact.state is State.CONNECTED
    assert floor.conference() == ()
    assert floor.joined() == 1, "the two have heard nothing of it"


async def test_a_supervisor_on_the_phone_is_offered_no_contact() -> None:
    floor = await Floor.opens()
    await floor.centre.house.states.ready("agent-sofia")
    await floor.begins()
    assert floor.centre.staffing.free_agent("agent-sofia") is None
    floor.centre.supervisions.leave("agent-sofia", floor.contact.id)
    await floor.centre.settle()
    assert floor.centre.staffing.free_agent("agent-sofia") is not None


async def test_who_is_put_on_hold_and_taken_back_is_heard_again() -> None:
    floor = await Floor.opens()
    await floor.begins(Mode.WHISPER)
    await floor.centre.actions.hold("agent-ana", floor.contact.id)
    await floor.centre.settle()
    assert floor.centre.media.playing[floor.contact.id, CUSTOMER] == "music"
    await floor.centre.actions.unhold("agent-ana", floor.contact.id)
    await floor.centre.settle()
    assert floor.conference() == (CUSTOMER, ANA, floor.supervisor)
    assert "supervisor-1-1" in floor.heard[ANA]


async def test_music_goes_on_for_who_is_on_hold_when_the_way_is_changed() -> None:
    floor = await Floor.opens()
    await floor.begins()
    await floor.centre.actions.hold("agent-ana", floor.contact.id)
    floor.centre.supervisions.begin(floor.sofia, floor.contact, Mode.BARGE)
    await floor.centre.settle()
    assert floor.centre.media.playing[floor.contact.id, CUSTOMER] == "music"
    await floor.centre.actions.unhold("agent-ana", floor.contact.id)
    await floor.centre.settle()
    assert floor.heard == {}, "all hear all: they have barged in"


async def test_leaving_while_the_customer_is_on_hold_leaves_them_there() -> None:
    floor = await Floor.opens()
    await floor.begins()
    await floor.centre.actions.hold("agent-ana", floor.contact.id)
    floor.centre.supervisions.leave("agent-sofia", floor.contact.id)
    await floor.centre.settle()
    assert floor.centre.calls.is_held(floor.contact.id)
    assert floor.centre.media.playing[floor.contact.id, CUSTOMER] == "music"


async def test_after_a_transfer_they_hear_the_new_agent() -> None:
    floor = await Floor.opens()
    await floor.begins()
    await floor.centre.actions.transfer("agent-ana", floor.contact.id, "agent:agent-bo")
    await floor.centre.settle()
    floor.bo.pick_up()
    await floor.centre.settle()
    assert floor.contact.agent_id == "agent-bo"
    customer, bo, supervisor = floor.conference()
    assert (customer, supervisor) == (CUSTOMER, floor.supervisor)
    assert bo not in (ANA, CUSTOMER)
    assert floor.heard[bo] == [CUSTOMER]


async def test_a_transfer_that_nobody_takes_leaves_them_where_they_were() -> None:
    floor = await Floor.opens()
    await floor.begins()
    await floor.centre.actions.transfer("agent-ana", floor.contact.id, "agent:agent-bo")
    await floor.centre.settle()
    floor.bo.refuse(603)
    await floor.centre.settle()
    assert floor.conference() == (CUSTOMER, ANA, floor.supervisor)


async def test_a_conference_of_the_agents_has_them_in_it_too() -> None:
    floor = await Floor.opens()
    await floor.begins()
    await floor.centre.actions.consult("agent-ana", floor.contact.id, "agent:agent-bo")
    await floor.centre.settle()
    floor.bo.pick_up()
    await floor.centre.settle()
    await floor.centre.actions.confer("agent-ana", floor.contact.id)
    await floor.centre.settle()
    supervisor = floor.supervisor
    assert len(floor.conference()) == 4
    assert supervisor in floor.conference()
    assert all(supervisor not in heard for each, heard in floor.heard.items())
    await floor.centre.actions.call_off("agent-ana", floor.contact.id)
    await floor.centre.settle()
    assert floor.conference() == (CUSTOMER, ANA, supervisor)


async def test_it_ends_when_the_customer_is_back_in_the_queue() -> None:
    floor = await Floor.opens()
    await floor.begins()
    await floor.centre.actions.transfer("agent-ana", floor.contact.id, "queue:patience")
    await floor.centre.settle()
    assert floor.whys() == ["waits for another agent"]
    assert floor.contact.open


async def test_mixing_that_cannot_be_had_ends_it_and_not_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    floor = await Floor.opens()

    async def too_much(*_: Any, **__: Any) -> None:
        raise OurError("There are too many conferences", 503)

    monkeypatch.setattr(floor.centre.media, "confer", too_much)
    sofia = await floor.begins()
    assert sofia.log == ["BYE"]
    assert floor.whys() == ["media failed"]
    assert floor.contact.state is State.CONNECTED


async def test_who_is_said_to_listen_only_is_never_heard_because_mixing_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    floor = await Floor.opens()
    sofia = await floor.begins(Mode.BARGE)

    async def too_much(*_: Any, **__: Any) -> None:
        raise OurError("There are too many conferences", 503)

    monkeypatch.setattr(floor.centre.media, "confer", too_much)
    floor.centre.supervisions.begin(floor.sofia, floor.contact, Mode.LISTEN)
    await floor.centre.settle()
    assert sofia.log == ["BYE"]
    assert floor.whys() == ["media failed"]
    assert floor.conference() == ()
    assert floor.contact.state is State.CONNECTED


@pytest.mark.parametrize(
    ("what", "status"),
    [("no supervisor", 404), ("other provider", 404), ("chat", 409), ("own call", 409), ("waiting", 409),
     ("twice", 409), ("second", 409), ("no phone", 409), ("busy", 409)],
)  # fmt: skip
async def test_who_may_not_is_told_why(what: str, status: int) -> None:
    floor = await Floor.opens()
    centre, sofia, contact = floor.centre, floor.sofia, floor.contact
    match what:
        case "no supervisor":
            sofia = replace(sofia, supervisor=False)
        case "other provider":
            sofia = replace(sofia, provider_ids=("lumio",))
        case "chat":
            contact = await centre.asks("jonas", "chat")
        case "own call":
            sofia = replace(sofia, id="agent-ana")
        case "waiting":
            contact = await centre.asks("jonas", "voice")
        case "twice":
            await floor.begins()
            sofia = replace(sofia, id="agent-other", name="Other")
        case "second":
            await floor.begins()
            other = await centre.asks("jonas", "voice")
            other.state = State.CONNECTED
            contact = other
        case "no phone":
            centre.house.drop("sofia")
        case "busy":
            centre.staffing.occupy("agent-sofia")
    with pytest.raises(TheirError) as told:
        centre.supervisions.begin(sofia, contact, Mode.LISTEN)
    assert told.value.status == status


@pytest.mark.parametrize("change", [{"supervisor": False}, {"provider_ids": ("lumio",)}, {"left_at": 5.0}])
async def test_whose_right_is_taken_away_hears_no_more_and_the_two_go_on(change: dict[str, Any]) -> None:
    floor = await Floor.opens()
    roster = floor.centre.house.roster
    roster.on_change.append(floor.centre.supervisions.agent_changed)
    phone = await floor.begins()
    await roster.change_agent(replace(floor.sofia, languages=("en",)))
    await floor.centre.settle()
    assert phone.log == []
    await roster.change_agent(replace(floor.sofia, **change))
    await floor.centre.settle()
    assert phone.log == ["BYE"]
    assert floor.whys() == ["no supervisor of this any more"]
    assert floor.contact.state is State.CONNECTED
