"""Agents' phones that call each other and numbers outside: every ending, and who may not."""

from __future__ import annotations

import pytest

from sip_trunk import user_agent as sip
from sip_trunk.call_events import Cancelled, Confirmed, Ended
from tests.agent_presence.house import DOMAIN
from tests.pbx.centre import Caller, Centre, FakeFlow, Ringing


async def two() -> Centre:
    centre = await Centre.open()
    await centre.agent("ana")
    await centre.agent("bo")
    return centre


async def talking(centre: Centre, to: str = "bo") -> tuple[Caller, Ringing]:
    caller = await centre.dials("ana", to)
    phone = centre.phone.rung[-1]
    phone.ring()
    phone.pick_up()
    await centre.settle()
    assert caller.answered
    return caller, phone


def nothing_is_left(centre: Centre) -> None:
    assert len(centre.direct_calls) == 0
    assert centre.media.branches == {}
    for agent in ("agent-ana", "agent-bo"):
        assert centre.staffing.direct_calls(agent) == 0
    assert centre.direct_calls._of_agent == {}
    assert centre.direct_calls._in_media == {}
    assert len(centre.direct_calls._deadlines) == 0
    timers = [str(timer) for timer in centre.clock.getDelayedCalls()]
    assert [timer for timer in timers if "_sweep" not in timer and "Deadlines._meet" not in timer] == []


def kinds(centre: Centre) -> list[str]:
    return [event.kind for event in centre.house.told if event.kind.startswith("call.")]


async def test_an_agent_calls_a_colleague_and_is_answered_when_the_colleague_answers() -> None:
    centre = await two()
    caller = await centre.dials("ana", "bo")
    (phone,) = centre.phone.rung
    assert phone.to == f"<sip:bo@{DOMAIN}>"
    assert phone.more["from_"] == f'"Ana" <sip:ana@{DOMAIN}>'
    assert phone.more["session_id"] == caller.session_id
    assert (caller.rung, caller.accepted) == ([], None)
    phone.ring()
    phone.ring()
    assert caller.rung == [180], "said once, and only when the phone rings"
    assert caller.accepted is None
    phone.pick_up()
    await centre.settle()
    assert caller.accepted == b"answer to offer of the caller"
    (direct,) = centre.direct_calls
    assert centre.media.joined == [(direct.id, f"{direct.id}-1", f"{direct.id}-2-1")]
    caller.hang_up()
    await centre.settle()
    assert phone.log == ["BYE"]
    assert kinds(centre) == ["call.started", "call.ringing", "call.connected", "call.ended"]
    ended = centre.events("call.ended")[0].facts
    assert (ended["whose"], ended["how"], ended["session"]) == ("caller", "hung_up", caller.session_id)
    assert (ended["from_"], ended["to"]) == (f"sip:ana@{DOMAIN}", f"sip:bo@{DOMAIN}")
    nothing_is_left(centre)


async def test_the_caller_is_answered_in_the_codecs_the_colleague_took() -> None:
    centre = await two()
    await talking(centre)
    (direct,) = centre.direct_calls
    first, last = centre.media.answers
    assert first["like"] is None
    assert last["like"] == f"{direct.id}-2-1"
    assert centre.media.offers[-1]["like"] == first["branch"] == last["branch"]


async def test_either_side_hangs_up_and_the_reason_goes_on() -> None:
    centre = await two()
    caller, phone = await talking(centre)
    phone.tell(Ended("peer", 'Q.850;cause=16;text="Normal"'))
    await centre.settle()
    assert caller.log == ["BYE"]
    assert caller.reason == 'Q.850;cause=16;text="Normal"'
    assert centre.events("call.ended")[0].facts["whose"] == "callee"
    nothing_is_left(centre)


@pytest.mark.parametrize(
    ("said", "told"),
    [(486, 486), (603, 603), (600, 600), (480, 480), (404, 404), (500, 500), (503, 480), (408, 480)],
)
async def test_the_caller_is_told_what_the_phone_said(said: int, told: int) -> None:
    centre = await two()
    caller = await centre.dials("ana", "bo")
    centre.phone.rung[0].refuse(said)
    await centre.settle()
    assert caller.refused is not None
    assert caller.refused[0] == told
    assert kinds(centre) == ["call.started", "call.ended"]
    assert centre.events("call.ended")[0].facts["status"] == told
    nothing_is_left(centre)


async def test_nobody_answers_or_gives_a_sign_of_life() -> None:
    centre = await two()
    caller = await centre.dials("ana", "bo")
    centre.phone.rung[0].ring()
    await centre.passes(21)
    assert caller.refused == (480, None)
    assert centre.events("call.ended")[0].facts["how"] == "no_answer"
    silent = await centre.dials("ana", "bo")
    await centre.passes(5)
    assert silent.refused == (480, None)
    assert centre.events("call.ended")[1].facts["how"] == "unreachable"
    nothing_is_left(centre)


async def test_the_caller_gives_up() -> None:
    centre = await two()
    caller = await centre.dials("ana", "bo")
    (phone,) = centre.phone.rung
    phone.ring()
    caller.tell(Cancelled(""))
    await centre.settle()
    assert phone.log == ["CANCEL"]
    assert centre.events("call.ended")[0].facts["how"] == "gave_up"
    nothing_is_left(centre)


async def test_the_caller_gives_up_in_the_moment_of_the_answer() -> None:
    centre = await two()
    caller = await centre.dials("ana", "bo")
    (phone,) = centre.phone.rung
    phone.pick_up()
    caller.tell(Cancelled(""))
    await centre.settle()
    assert phone.log == ["BYE"]
    nothing_is_left(centre)


async def test_an_answer_of_no_use_ends_both() -> None:
    centre = await two()
    caller = await centre.dials("ana", "bo")
    (phone,) = centre.phone.rung
    phone.pick_up(b"nothing in common")
    await centre.settle()
    assert caller.refused == (488, None)
    assert phone.log == ["BYE"]
    nothing_is_left(centre)


async def test_an_offer_of_no_use_is_refused() -> None:
    centre = await two()
    caller = await centre.dials("ana", "bo", body=b"nothing in common")
    assert caller.refused == (488, None)
    nothing_is_left(centre)


async def test_a_caller_without_an_offer_gets_ours_and_answers_in_the_ack() -> None:
    centre = await two()
    caller = await centre.dials("ana", "bo", body=b"")
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert caller.accepted == b"offer of ours"
    caller.tell(Confirmed(b"their answer"))
    await centre.settle()
    assert set(centre.media.branches.values()) == {"agreed"}
    caller.hang_up()
    await centre.settle()
    nothing_is_left(centre)


async def test_who_cannot_be_rung_is_said_at_once() -> None:
    centre = await two()
    await centre.house.hire("cy", heating=1)
    assert (await centre.dials("ana", "ana")).refused == (486, "That Is Yourself")
    assert (await centre.dials("ana", "cy")).refused == (480, "No Phone Is Registered")
    assert (await centre.dials("ana", "nobody")).refused == (404, "Nobody Here Has That Name")
    assert centre.phone.rung == []
    nothing_is_left(centre)


async def test_an_agent_who_is_not_ready_can_be_called() -> None:
    centre = await two()
    await centre.house.states.not_ready("agent-bo")
    await talking(centre)
    assert centre.state("bo") == "NotReady"


async def test_an_agent_in_a_direct_call_is_busy_for_others_and_for_contacts() -> None:
    centre = await two()
    await centre.agent("cy", heating=1)
    caller, _ = await talking(centre)
    assert (await centre.dials("cy", "bo")).refused == (486, "Busy Here")
    contact = await centre.asks("maria")
    await centre.calls_in(contact)
    assert [event.agent for event in centre.events("contact.reserved")] == ["agent-cy"]
    caller.hang_up()
    await centre.settle()
    centre.phone.rung[-1].refuse(486)
    await centre.settle()
    assert centre.events("contact.reserved")[-1].agent in ("agent-ana", "agent-bo")
    assert centre.state("ana") != "WrapUp"


async def test_an_agent_who_talks_to_a_customer_is_busy() -> None:
    centre = await two()
    await centre.house.states.not_ready("agent-ana")
    contact = await centre.asks("maria")
    await centre.calls_in(contact)
    assert (await centre.dials("ana", "bo")).refused == (486, "Busy Here")
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert centre.state("bo") == "Talking"
    assert (await centre.dials("ana", "bo")).refused == (486, "Busy Here")


async def test_a_number_is_called_through_its_trunk_under_the_trunks_name() -> None:
    centre = await two()
    caller = await centre.dials("ana", "+4930123456")
    (phone,) = centre.phone.rung
    assert str(phone.target.uri) == "sip:+4930123456@192.0.2.50:5070;user=phone"
    assert phone.more["from_"] == f"<sip:+15550100@{DOMAIN}>"
    assert phone.header("P-Asserted-Identity") == f"<sip:+15550100@{DOMAIN}>"
    assert phone.more["credentials"] == ("us", "x")
    phone.pick_up()
    await centre.settle()
    assert caller.answered
    phone.hang_up()
    await centre.settle()
    nothing_is_left(centre)


async def test_what_a_carrier_says_before_the_answer_is_heard() -> None:
    centre = await two()
    caller = await centre.dials("ana", "+4930123456")
    (phone,) = centre.phone.rung
    phone.ring(183, b"the carrier's announcement")
    await centre.settle()
    (direct,) = centre.direct_calls
    assert centre.media.joined == [(direct.id, f"{direct.id}-1", f"{direct.id}-2-1")]
    assert (caller.rung, caller.early) == ([183], b"answer to offer of the caller")
    phone.ring(180)
    phone.ring(183, b"the carrier's announcement")
    await centre.settle()
    assert caller.rung == [183], "a 180 would make the phone ring over it"
    answers = len(centre.media.answers)
    phone.pick_up(b"the carrier's announcement")
    await centre.settle()
    assert caller.accepted == caller.early
    assert len(centre.media.answers) == answers, "the same answer is not made twice"
    assert kinds(centre) == ["call.started", "call.ringing", "call.connected"]
    caller.hang_up()
    await centre.settle()
    nothing_is_left(centre)


async def test_the_answer_may_come_from_elsewhere_than_the_announcement() -> None:
    centre = await two()
    caller = await centre.dials("ana", "+4930123456")
    (phone,) = centre.phone.rung
    phone.ring(183, b"an announcement")
    phone.ring(183, b"another one")
    phone.pick_up(b"the answer")
    await centre.settle()
    assert caller.rung == [183]
    assert caller.accepted == b"answer to offer of the caller"
    assert len(centre.media.joined) == 3
    caller.hang_up()
    await centre.settle()
    nothing_is_left(centre)


@pytest.mark.parametrize("body", [b"the number is not in use", b"nothing in common"])
async def test_an_announcement_and_then_a_refusal(body: bytes) -> None:
    centre = await two()
    caller = await centre.dials("ana", "+4930123456")
    (phone,) = centre.phone.rung
    phone.ring(183, body)
    await centre.settle()
    phone.refuse(404)
    await centre.settle()
    assert caller.refused == (404, None)
    nothing_is_left(centre)


async def test_the_caller_gives_up_during_the_announcement() -> None:
    centre = await two()
    caller = await centre.dials("ana", "+4930123456")
    (phone,) = centre.phone.rung
    phone.ring(183, b"an announcement")
    caller.tell(Cancelled(""))
    await centre.settle()
    assert phone.log == ["CANCEL"]
    nothing_is_left(centre)


@pytest.mark.parametrize(("to", "answers"), [("+4930123456", [b"answer to moved"]), ("bo", [488])])
async def test_an_update_before_the_answer_is_answered(to: str, answers: list[bytes | int]) -> None:
    centre = await two()
    caller = await centre.dials("ana", to)
    (phone,) = centre.phone.rung
    phone.ring(183, b"an announcement")
    phone.tell(sip.Reoffered(b"moved"))
    await centre.settle()
    assert phone.reoffer_answers == answers
    phone.pick_up(b"an announcement")
    await centre.settle()
    assert caller.answered


async def test_a_colleagues_phone_is_heard_when_it_is_answered_and_not_before() -> None:
    centre = await two()
    caller = await centre.dials("ana", "bo")
    centre.phone.rung[0].ring(183, b"music of the phone's own")
    await centre.settle()
    assert (caller.rung, caller.early, centre.media.joined) == ([180], b"", [])


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("+15551234", 403),  # no trunk may call it
        ("sip:+4930123456@elsewhere.example", 403),
        ("sip:bo@elsewhere.example", 403),
        ("0301234", 404),
    ],
)
async def test_nothing_else_can_be_dialled(to: str, status: int) -> None:
    centre = await two()
    caller = await centre.dials("ana", to)
    assert caller.refused is not None
    assert caller.refused[0] == status
    assert centre.phone.rung == []


def from_exchange(to: str, host: str = "192.0.2.60", **more: object) -> Caller:
    flow = FakeFlow("UDP", (host, 5060), "udp")
    return Caller(f"sip:{to}@{DOMAIN}", from_="sip:+4930999@exchange.example", flow=flow, **more)  # type: ignore[arg-type]


async def test_an_exchange_calls_an_agents_extension() -> None:
    centre = await two()
    caller = from_exchange("bo", headers=[("P-Asserted-Identity", '"Eva" <sip:+4930777@exchange.example>')])
    centre.inbound().on_invite(caller)
    await centre.settle()
    (phone,) = centre.phone.rung
    assert phone.more["from_"] == f'"Eva" <sip:+4930777@{DOMAIN}>'
    phone.pick_up()
    await centre.settle()
    assert caller.answered
    assert centre.events("call.started")[0].facts["trunk"] == "exchange"
    caller.hang_up()
    await centre.settle()
    nothing_is_left(centre)


async def test_a_trunk_never_reaches_another_trunk_and_a_carrier_no_extension() -> None:
    centre = await two()
    for caller in (from_exchange("+4930123456"), from_exchange("bo", "192.0.2.50")):
        caller.flow = FakeFlow("UDP", (caller.flow.peer[0], 5070), "udp")
        centre.inbound().on_invite(caller)
        await centre.settle()
        assert caller.refused is not None
        assert caller.refused[0] in (403, 404)
    assert centre.phone.rung == []


async def test_an_anonymous_caller_stays_so() -> None:
    centre = await two()
    asserted = ("P-Asserted-Identity", '"Eva" <sip:+4930777@exchange.example>')
    caller = from_exchange("bo", headers=[asserted, ("Privacy", "id")])
    centre.inbound().on_invite(caller)
    await centre.settle()
    assert "777" not in centre.phone.rung[0].more["from_"]
    assert "777" not in str([event.facts for event in centre.house.told])


async def test_media_that_goes_silent_or_dies_ends_it() -> None:
    centre = await two()
    caller, phone = await talking(centre)
    (direct,) = centre.direct_calls
    assert direct.callee.leg is not None
    centre.media.on_gone(direct.media_call, direct.callee.leg.branch, "silence")
    await centre.settle()
    assert (caller.log, phone.log) == (["BYE"], ["BYE"])
    nothing_is_left(centre)
    caller, phone = await talking(centre)
    centre.direct_calls.media_died()
    await centre.settle()
    assert (caller.log, phone.log) == (["BYE"], ["BYE"])
    nothing_is_left(centre)


async def test_the_server_stops() -> None:
    centre = await two()
    caller = await centre.dials("ana", "bo")
    centre.direct_calls.stop()
    await centre.settle()
    assert caller.refused == (503, None)
    assert centre.phone.rung[0].log == ["CANCEL"]
    nothing_is_left(centre)


async def test_one_agent_has_only_so_many_calls() -> None:
    centre = await two()
    for number in range(4):
        assert (await centre.dials("ana", f"+493012345{number}")).refused is None
    assert (await centre.dials("ana", "+4930123459")).refused == (486, "Too Many Calls")


async def test_hold_is_answered_on_the_leg_that_asks() -> None:
    centre = await two()
    caller, phone = await talking(centre)
    caller.tell(sip.Reoffered(b"hold"))
    phone.tell(sip.Reoffered(b"hold too"))
    await centre.settle()
    assert caller.reoffer_answers == [b"answer to hold"]
    assert phone.reoffer_answers == [b"answer to hold too"]
    assert caller.reinvites == phone.reinvites == []
