"""The simulation of a past stretch: like itself where nothing changed, and telling the difference where it did."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.queue_settings import Consequence, Overflow, QueueSettings, Step, Strategy
from pbx import stretch
from pbx.contact import Channel, Contact, Facts
from pbx.past import Past
from pbx.policies import Policies
from pbx.replay import Duty, Fate, Refused, Request, Stretch, compare, simulate
from pbx.router import FreeAgent
from pbx.skills import Need
from tests.pbx.centre import Centre

T = 1_700_000_000.0
DEFAULT = Policies()


def agent(name: str, **levels: int) -> FreeAgent:
    everything = frozenset({"chat", "voice", "video"})
    return FreeAgent(name, levels, frozenset(), everything, frozenset(), idle_since=T)


def request(
    number: int,
    at: float,
    *skills: str,
    channel: str = "voice",
    answer: float | None = 5.0,
    handling: float | None = 60.0,
    patience: float | None = None,
) -> Request:
    contact = Contact(
        Facts(f"c{number:03}", Channel(channel), T + at, "thermea", "Thermea"),
        needs=tuple(Need(skill, 50.0, True, ("read",)) for skill in skills),
    )
    was = Fate("joined", 5.0, "ana") if patience is None else Fate("gave up", patience)
    truly = frozenset((skill, 1) for skill in skills)
    return Request(contact, T + at, was, answer, handling, patience, truly)


def a_stretch(*requests: Request, agents: tuple[FreeAgent, ...] = (), until: float = 3600.0) -> Stretch:
    duties = tuple(Duty(T, each.agent_id, each) for each in agents)
    return Stretch(requests, duties, T + until, 2)


ANA = agent("ana", heating=3)
BO = agent("bo", billing=2)


def test_who_finds_an_agent_waits_as_long_as_answering_takes_and_the_next_until_they_are_done() -> None:
    fates = simulate(a_stretch(request(1, 0), request(2, 10), agents=(ANA,)), DEFAULT)
    assert fates["c001"] == Fate("joined", 5.0, "ana")
    assert fates["c002"] == Fate("joined", 60.0, "ana")  # free at 65, answered at 70


def test_skills_decide_who_gets_it() -> None:
    fates = simulate(a_stretch(request(1, 0, "billing"), request(2, 1, "heating"), agents=(ANA, BO)), DEFAULT)
    assert (fates["c001"].agent_id, fates["c002"].agent_id) == ("bo", "ana")


def test_other_needs_lead_to_others() -> None:
    past = a_stretch(request(1, 0, "heating"), agents=(ANA, BO))
    changed = {"c001": (Need("billing", 60.0, True, ("searched",)),)}
    before, after = simulate(past, DEFAULT), simulate(past, DEFAULT, changed)
    (row,) = compare(past, before, after)
    assert row.moved == {("ana", "bo"): 1}
    assert (row.before.matched, row.after.matched) == (1, 0), (
        "what it truly needed is what it was found to need"
    )


def test_who_had_enough_leaves_after_the_same_time_and_holds_nobody() -> None:
    past = a_stretch(request(1, 0), request(2, 1, patience=20.0), request(3, 2), agents=(ANA,))
    fates = simulate(past, DEFAULT)
    assert fates["c002"] == Fate("gave up", 20.0)
    assert fates["c003"] == Fate("joined", 68.0, "ana")


def test_who_leaves_while_it_rings_was_not_joined() -> None:
    fates = simulate(a_stretch(request(1, 0, patience=3.0), request(2, 1), agents=(ANA,)), DEFAULT)
    assert fates["c001"].end == "gave up"
    assert fates["c002"] == Fate("joined", 7.0, "ana")  # free again at 3


def test_an_agent_who_goes_gets_nothing_more_and_one_who_comes_does() -> None:
    past = Stretch(
        (request(1, 0), request(2, 10), request(3, 200)),
        (Duty(T, "ana", ANA), Duty(T + 30, "ana", None), Duty(T + 500, "bo", BO)),
        T + 3600,
    )
    fates = simulate(past, DEFAULT)
    assert fates["c002"] == Fate("joined", 495.0, "bo")
    assert fates["c003"].agent_id == "bo"


def test_chats_are_had_side_by_side_and_calls_alone() -> None:
    chats = [request(number, number, channel="chat") for number in (1, 2, 3)]
    fates = simulate(a_stretch(*chats, request(4, 4), agents=(ANA,)), DEFAULT)
    assert [fates[f"c00{number}"].wait_s for number in (1, 2)] == [5.0, 5.0]
    assert fates["c003"].wait_s > 50.0
    assert fates["c004"].wait_s > fates["c003"].wait_s
    her_own = replace(a_stretch(*chats, agents=(ANA,)), own_chats={"ana": 3, "bo": 1})
    assert [fate.wait_s for fate in simulate(her_own, DEFAULT).values()] == [5.0, 5.0, 5.0]


def test_the_longest_wait_and_the_steps_of_a_queue_are_simulated() -> None:
    short = Policies([QueueSettings("default", max_wait_s=30.0)])
    fates = simulate(a_stretch(request(1, 0, "magic"), agents=(ANA,)), short)
    assert fates["c001"] == Fate("nobody", 30.0)
    kind = Policies([QueueSettings("default", relax=(Step(12.0, drop=1),))])
    fates = simulate(a_stretch(request(1, 0, "magic"), agents=(ANA,)), kind)
    assert fates["c001"] == Fate("joined", 17.0, "ana", step=1)


def test_overflowing_into_another_queue_ends() -> None:
    circle = Policies(
        [
            QueueSettings("default", max_wait_s=20.0, overflow=Overflow.QUEUE, overflow_queue="other"),
            QueueSettings("other", max_wait_s=50.0, overflow=Overflow.QUEUE, overflow_queue="default"),
        ]
    )
    fates = simulate(a_stretch(request(1, 0, "magic"), agents=(ANA,)), circle)
    assert fates["c001"] == Fate("nobody", 50.0)
    mailed = Policies([QueueSettings("default", max_wait_s=20.0, overflow=Overflow.VOICEMAIL)])
    assert simulate(a_stretch(request(1, 0, "magic")), mailed)["c001"] == Fate("overflowed", 20.0)


def test_strategies_make_a_difference_that_is_told() -> None:
    knows_all = agent("all", heating=5, billing=5)
    past = a_stretch(request(1, 0, "heating"), request(2, 1, "billing"), agents=(knows_all, ANA))
    spare = Policies([QueueSettings("default", strategy=Strategy.SPARE_SKILLED)])
    (row,) = compare(past, simulate(past, DEFAULT), simulate(past, spare))
    assert row.before.mean_wait_s is not None
    assert row.after.mean_wait_s is not None
    assert row.after.mean_wait_s < row.before.mean_wait_s
    assert row.moved == {("all", "ana"): 1}


def test_where_handling_is_not_known_that_of_the_others_is_taken() -> None:
    given_up = request(2, 1, answer=None, handling=None, patience=1000.0)
    fates = simulate(a_stretch(request(1, 0), given_up, request(3, 2), agents=(ANA,)), DEFAULT)
    assert fates["c002"] == Fate("joined", 69.0, "ana")
    assert fates["c003"].wait_s == 133.0


def test_the_example_of_the_manual() -> None:
    """docs/routing.md: Ana takes Maria, Deniz declines Jonas, and Ana takes him when she is free again."""
    boilers = Policies([QueueSettings("default", relax=(Step(60.0, lower=1), Step(120.0, drop=1)))])
    deniz = replace(agent("deniz", heating=3, wifi=3, billing=5), idle_since=T)
    ana = replace(agent("ana", heating=5, hydraulics=4), idle_since=T + 1)
    duties = tuple(Duty(T - 100 + number, each.agent_id, each) for number, each in enumerate((deniz, ana)))
    maria = request(1, 0, "heating", "hydraulics", answer=4.1, handling=22.8)
    maria = replace(maria, was=Fate("joined", 4.1, "ana"))
    jonas = request(2, 7.1, answer=3.1, handling=60.0)
    needed = (Need("heating", 3.0, True, ("searched",), 3),)
    jonas = replace(jonas, was=Fate("joined", 22.9, "ana", refused=1), truly=frozenset({("heating", 3)}))
    jonas.contact.needs = needed
    declined = Refused("deniz", "c002", T + 7.1, T + 10.4, "declined")
    past = Stretch((maria, jonas), duties, T + 3600, refused=(declined,))
    before = simulate(past, boilers)
    after = simulate(past, boilers, {"c001": (Need("heating", 79.0, True, ("read",)),)})
    (row,) = compare(past, before, after)
    rows = [
        (each.mean_wait_s, each.p90_wait_s, each.matched, each.refused)
        for each in (row.was, row.before, row.after)
    ]
    assert rows == [(13.5, 22.9, 2, 1), (13.5, 22.9, 2, 1), (3.6, 4.1, 1, 0)]
    assert row.moved == {("ana", "deniz"): 1}


requests_of_a_day = st.lists(
    st.builds(
        lambda at, skills, channel, handling, patience: (at, skills, channel, handling, patience),
        st.floats(0, 3000),
        st.lists(st.sampled_from(["heating", "billing"]), max_size=2, unique=True),
        st.sampled_from(["voice", "chat"]),
        st.floats(1, 600),
        st.none() | st.floats(1, 900),
    ),
    max_size=25,
)


@given(requests_of_a_day, st.sampled_from(list(Strategy)))
@settings(deadline=None)
def test_everybody_has_one_fate_and_the_same_one_each_time(
    day: list[tuple[float, list[str], str, float, float | None]], strategy: Strategy
) -> None:
    requests = [
        request(number, at, *skills, channel=channel, handling=handling, patience=patience)
        for number, (at, skills, channel, handling, patience) in enumerate(day)
    ]
    past = a_stretch(*requests, agents=(ANA, BO, agent("cy", heating=1, billing=1)))
    policies = Policies([QueueSettings("default", strategy=strategy, relax=(Step(60.0, drop=1),))])
    fates = simulate(past, policies)
    assert fates == simulate(replace(past, requests=past.requests[::-1]), policies)
    assert fates.keys() == {each.contact.id for each in requests}
    for each in requests:
        fate = fates[each.contact.id]
        assert (fate.agent_id is not None) == (fate.end == "joined")
        if fate.end == "gave up":
            assert fate.wait_s == pytest.approx(each.patience_s, abs=0.001)
        if fate.end == "joined" and fate.step == 0:
            levels = {"ana": ANA, "bo": BO}.get(fate.agent_id or "", agent("cy", heating=1, billing=1)).levels
            assert all(levels.get(skill, 0) >= level for skill, level in each.truly)


def test_an_offer_that_was_refused_then_is_refused_as_often_as_it_was_and_takes_as_long() -> None:
    spared = Policies([QueueSettings("default", declined=Consequence(10.0))])
    twice = tuple(Refused("ana", "c001", T + at, T + at + 6, "declined") for at in (0, 20))
    past = replace(a_stretch(request(1, 0), agents=(ANA,)), refused=twice)
    # 6 s, 10 s spared, 6 s, 10 s spared, 5 s until she takes it.
    assert simulate(past, spared)["c001"] == Fate("joined", 37.0, "ana", refused=2)
    assert simulate(replace(past, refused=()), spared)["c001"] == Fate("joined", 5.0, "ana")


def test_who_refused_is_not_the_next_one_asked_and_a_decline_says_nothing_of_other_contacts() -> None:
    past = replace(
        a_stretch(request(1, 0), request(2, 6), agents=(ANA, replace(BO, idle_since=T + 1))),
        refused=(Refused("ana", "c001", T, T + 6, "declined"),),
    )
    fates = simulate(past, DEFAULT)
    assert fates["c001"] == Fate("joined", 11.0, "bo", refused=1)
    assert fates["c002"] == Fate("joined", 5.0, "ana")


def test_who_did_not_answer_then_answers_nobody_else_in_that_minute_unless_they_did() -> None:
    unanswered = Refused("ana", "c009", T + 100, T + 120, "no_answer")
    bos = Fate("joined", 5.0, "bo")
    early, late = replace(request(1, 130), was=bos), replace(request(2, 161), was=bos)
    for asked, wait_s, refused in ((early, 85.0, 1), (late, 5.0, 0)):
        past = replace(a_stretch(asked, agents=(ANA,)), refused=(unanswered,))
        # 20 s of ringing, 60 s spared, 5 s to answer.
        assert simulate(past, DEFAULT)[asked.contact.id] == Fate("joined", wait_s, "ana", refused=refused)
    took = replace(request(3, 125, handling=1.0), was=Fate("joined", 5.0, "ana"))
    past = replace(a_stretch(took, early, agents=(ANA,)), refused=(unanswered,))
    assert {fate.refused for fate in simulate(past, DEFAULT).values()} == {0}


def test_who_has_had_enough_leaves_while_a_phone_rings_in_vain() -> None:
    past = replace(
        a_stretch(request(1, 0, patience=10.0), request(2, 1), agents=(ANA,)),
        refused=(Refused("ana", "c001", T, T + 20, "no_answer"),),
    )
    fates = simulate(past, DEFAULT)
    assert fates["c001"] == Fate("gave up", 10.0)
    assert fates["c002"].end == "joined"


def test_offers_that_take_no_time_and_spare_nobody_come_to_an_end() -> None:
    at_once = Policies([QueueSettings("default", busy=Consequence(0.0))])
    past = replace(a_stretch(request(1, 0), agents=(ANA,)), refused=(Refused("ana", "c009", T, T, "busy"),))
    fate = simulate(past, at_once)["c001"]
    assert (fate.end, fate.wait_s) == ("joined", 65.0)
    assert fate.refused == 120


# Out of the log


async def test_refusals_are_found_in_the_log_and_simulated() -> None:
    centre = await Centre.open()
    await centre.agent("ana", heating=3)
    await centre.passes(1)
    await centre.agent("bo", heating=3)
    start = centre.house.now()
    await centre.passes(10)
    contact = await centre.asks("maria", "voice")
    caller = await centre.calls_in(contact)
    centre.phone.rung[-1].ring()
    await centre.passes(21)  # nobody takes it, and the other one is rung
    centre.phone.rung[-1].ring()
    await centre.passes(3)
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    await centre.passes(30)
    caller.hang_up()
    await centre.passes(30)

    past = Past(centre.house.database, centre.store, centre.house.roster, {})
    found = await stretch.load(centre.house.database, centre.store, past, start, centre.house.now(), chats=2)
    (refused,) = found.refused
    assert (refused.agent_id, refused.contact_id, refused.outcome) == ("agent-ana", contact.id, "no_answer")
    assert refused.until - refused.at == pytest.approx(20.0, abs=0.5)
    (asked,) = found.requests
    assert (asked.was.agent_id, asked.was.refused) == ("agent-bo", 1)
    fate = simulate(found, DEFAULT)[contact.id]
    assert (fate.end, fate.agent_id, fate.refused) == ("joined", "agent-bo", 1)
    assert fate.wait_s == pytest.approx(asked.was.wait_s, abs=0.5)
    (row,) = compare(found, simulate(found, DEFAULT), simulate(replace(found, refused=()), DEFAULT))
    assert (row.was.refused, row.before.refused, row.after.refused) == (1, 1, 0)
    assert row.moved == {("agent-bo", "agent-ana"): 1}


async def test_what_happened_is_found_in_the_log_and_simulated_as_it_was() -> None:
    centre = await Centre.open()
    ana = await centre.agent("ana", heating=3)
    start = centre.house.now()
    await centre.passes(10)
    for customer, talk_s in (("maria", 40), ("jonas", 60)):
        contact = await centre.asks(customer, "voice")
        caller = await centre.calls_in(contact)
        centre.phone.rung[-1].ring()
        await centre.passes(4)
        centre.phone.rung[-1].pick_up()
        await centre.settle()
        await centre.passes(talk_s)
        caller.hang_up()
        await centre.passes(15)  # wrap-up among it
    contact = await centre.asks("aiko", "voice")
    await centre.house.states.not_ready(ana.id)
    await centre.calls_in(contact)
    await centre.passes(25)
    await centre.desk.end(contact.id, "customer")
    await centre.passes(10)

    past = Past(centre.house.database, centre.store, centre.house.roster, {})
    found = await stretch.load(centre.house.database, centre.store, past, start, centre.house.now(), chats=2)
    maria, jonas, aiko = found.requests
    assert maria.was == Fate("joined", 4.0, "agent-ana")
    assert (maria.answer_s, maria.handling_s) == (4.0, 50.0)  # 40 s of talk, 10 s of writing up
    assert jonas.handling_s == 70.0
    assert (aiko.was, aiko.patience_s) == (Fate("gave up", 25.0), 25.0)
    then = await stretch.queues_then(past, centre.house.now())
    assert then is not None
    assert [queue.name for queue in then] == ["default"]
    fates = simulate(found, Policies(then))
    assert {contact_id: fate.end for contact_id, fate in fates.items()} == {
        each.contact.id: each.was.end for each in found.requests
    }
    assert fates[maria.contact.id].wait_s == 4.0


def test_a_day_of_ten_thousand_contacts_is_simulated_in_seconds() -> None:
    agents = tuple(agent(f"a{number}", heating=1 + number % 5) for number in range(60))
    requests = [request(number, number * 2.0, "heating", handling=100.0) for number in range(3000)]
    began = time.process_time()
    fates = simulate(a_stretch(*requests, agents=agents, until=86400.0), DEFAULT)
    assert time.process_time() - began < 10.0
    assert sum(fate.end == "joined" for fate in fates.values()) == 3000
