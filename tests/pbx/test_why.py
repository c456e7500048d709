"""`why` tells what happened: the choice made again from the event log alone is the choice that was made."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings

from config.events import Event, event_table
from config.queue_settings import QueueSettings, Step, Strategy
from pbx import past as past_module
from pbx.contact import Contact
from pbx.past import Past, known_agents
from pbx.past_floor import PastFloor, floor_before
from pbx.why import Choice, judge, offers, strategies_of
from pbx.why_words import choice_lines
from tests.pbx.centre import Centre
from tests.pbx.test_laws import SKILLS, AtWork

# The law


class WhyAgrees(AtWork):
    """Whatever happens: the log alone leads to each choice that was made, and to the floor as it is."""

    def teardown(self) -> None:
        if hasattr(self, "centre"):
            self.run(self._agrees())
            for timer in tuple(self.centre.clock.getDelayedCalls()):
                timer.cancel()
        self.loop.close()

    async def _agrees(self) -> None:
        centre = self.centre
        log = await told_by(centre)
        roster = known_agents(centre.house.roster, centre.house.now())
        strategies = centre.dispatch.policies.strategies
        past = Past(centre.house.database, centre.store, centre.house.roster, strategies)
        offered = {event.contact for event in log if event.kind == "contact.reserved"}
        for contact_id in sorted(each for each in offered if each is not None):
            from_all = offers(log, contact_id, strategies, roster)
            for choice in from_all:
                assert choice.agrees, choice
            # What is loaded for one contact tells the same as the whole log.
            loaded = await past.why(await past.contact(contact_id), centre.house.now())
            assert [_gist(each) for each in loaded if each.chosen is not None] == [
                _gist(each) for each in from_all
            ]
        floor = PastFloor()
        for event in log:
            floor.tell(event)
        free = (centre.dispatch.floor.agent(f"agent-{name}") for name in SKILLS)
        assert {agent.agent_id: agent for agent in floor.free} == {
            agent.agent_id: agent for agent in free if agent is not None
        }
        for contact in centre.contacts:
            assert floor.waiting.get(contact.id) == centre.dispatch.floor.waiting(contact.id)


TestWhyAgrees = WhyAgrees.TestCase
TestWhyAgrees.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def _gist(choice: Choice) -> tuple[Any, ...]:
    candidates = {(each.agent_id, each.verdict) for each in choice.candidates}
    return choice.at, choice.chosen, choice.agrees, choice.outcome, choice.step, candidates, choice.would


async def told_by(centre: Centre) -> list[Event]:
    await centre.house.database.write()
    return await centre.house.events.read(limit=100_000)


async def why(centre: Centre, contact: Contact) -> list[Choice]:
    await centre.settle()
    past = Past(centre.house.database, centre.store, centre.house.roster, centre.dispatch.policies.strategies)
    return await past.why(await past.contact(contact.id), centre.house.now())


def verdicts(choice: Choice) -> Mapping[str, tuple[str, str]]:
    return {each.agent_id.removeprefix("agent-"): (each.verdict, each.words) for each in choice.candidates}


# Each reason, in words


async def test_everybody_who_was_not_asked_is_told_with_the_reason() -> None:
    centre = await Centre.open()
    for name, skills in (
        ("ana", {"heating": 3}),
        ("bea", {"heating": 1}),
        ("cem", {"wifi": 3}),
        ("dora", {"heating": 2}),
        ("eli", {"heating": 2}),
    ):
        await centre.agent(name, **skills)
        await centre.passes(10)
    await centre.house.roster.add_agent(
        "Lu", "lu", "hash", skills={"heating": 5}, provider_ids=("lumio",), agent_id="agent-lu"
    )
    await centre.house.states.not_ready("agent-dora", "a coffee")
    centre.house.drop("eli")
    await centre.passes(30)
    contact = await centre.asks("maria", "chat", "hello")
    (choice,) = await why(centre, contact)
    assert (choice.chosen, choice.outcome, choice.agrees) == ("agent-ana", "being asked", True)
    told = verdicts(choice)
    assert told["ana"] == ("chosen", "was asked")
    assert told["bea"] == ("later", "idle for 70 s; Ana for 80 s")
    assert told["cem"] == ("skill", "does not have heating")
    assert told["dora"] == ("not-ready", "not ready for 30 s (a coffee)")
    assert told["eli"] == ("offline", "no phone of theirs is registered for 30 s")
    assert told["lu"][0] == "wall"
    assert "does not serve thermea" in told["lu"][1]
    assert [each.agent_id for each in choice.candidates][:2] == ["agent-ana", "agent-bea"]
    lines = "\n".join(choice_lines(choice, "10:00:00"))
    assert "Ana was asked; rings" in lines
    assert "needs      chat; heating" in lines


async def test_a_refusal_and_the_offers_after_it_are_told_in_turn() -> None:
    centre = await Centre.open()
    await centre.agent("ana", heating=3)
    await centre.passes(5)
    await centre.agent("bo", heating=3)
    contact = await centre.asks("maria", "chat", "hello")
    centre.phone.rung[0].refuse(603)
    await centre.settle()
    await centre.passes(1)
    centre.phone.rung[1].ring()
    first, second = await why(centre, contact)
    assert (first.chosen, first.outcome) == ("agent-ana", "declined")
    assert second.chosen == "agent-bo"
    assert verdicts(second)["ana"] == ("refused", "did not take it, and is not asked again for 30 s")


async def test_who_is_with_somebody_is_told_with_whom() -> None:
    centre = await Centre.open()
    await centre.agent("ana", heating=3)
    maria = await centre.asks("maria", "voice")
    await centre.calls_in(maria)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    await centre.passes(20)
    jonas = await centre.asks("jonas", "voice")
    await centre.calls_in(jonas)
    (choice,) = await why(centre, jonas)
    assert (choice.chosen, choice.outcome, choice.agrees) == (None, "waiting", None)
    assert verdicts(choice)["ana"] == ("busy", f"with {maria.id} for 20 s")
    assert choice.would == ("Had Ana been free, they would have been asked.",)


# What would have changed it


async def test_the_level_that_is_missing_and_the_step_that_comes_are_told() -> None:
    queue = QueueSettings("default", relax=(Step(42.0, drop=1),))
    centre = await Centre.open(queues=(queue,))
    await centre.house.hire("ana", heating=3)  # what nobody has, nobody would have to have
    await centre.agent("bo", wifi=3)
    contact = await centre.asks("maria", "chat", "hello")
    (choice,) = await why(centre, contact)
    assert choice.would == (
        "With heating Bo would have been asked first.",
        "Had Ana been ready, they would have been asked.",
        "42 s later the next step drops heating: Bo would then be asked.",
    )
    await centre.passes(43)
    *_, asked = await why(centre, contact)
    assert (asked.chosen, asked.step, asked.agrees) == ("agent-bo", 1, True)


async def test_another_strategy_would_have_asked_another() -> None:
    queue = QueueSettings("default", strategy=Strategy.BEST_SKILL)
    centre = await Centre.open(queues=(queue,))
    await centre.agent("ana", heating=2)
    await centre.passes(5)
    await centre.agent("bo", heating=5)
    (choice,) = await why(centre, await centre.asks("maria", "chat", "hello"))
    assert (choice.chosen, choice.strategy) == ("agent-bo", "best-skill")
    assert verdicts(choice)["ana"] == ("later", "has heating at 2; Bo at 5")
    assert any("it would have gone to Ana." in each and "longest-idle" in each for each in choice.would)


async def test_when_a_refusal_ends_is_told_to_whom_it_waits_for() -> None:
    centre = await Centre.open()
    await centre.agent("ana", heating=2)
    contact = await centre.asks("maria", "chat", "hello")
    centre.phone.rung[0].refuse(603)
    await centre.settle()
    await centre.passes(10)
    *_, now = await why(centre, contact)
    assert "In 20 s Ana, who did not take it, may be asked again." in now.would


# That it can be told wrong


async def test_a_log_that_tells_of_another_floor_is_not_agreed_with() -> None:
    centre = await Centre.open()
    await centre.agent("ana", heating=3)
    await centre.passes(5)
    await centre.agent("bo", heating=3)
    contact = await centre.asks("maria", "chat", "hello")
    log = await told_by(centre)
    assert offers(log, contact.id, {}, {})[0].agrees is True
    longer = [
        replace(event, facts={**event.facts, "idle_since": 0.0})
        if event.kind == "agent.free" and event.agent == "agent-bo"
        else event
        for event in log
    ]
    (wrong,) = offers(longer, contact.id, {}, {})
    assert (wrong.agrees, wrong.expected) == (False, "agent-bo")
    assert any("!! The rule itself finds" in line for line in choice_lines(wrong, "10:00"))
    without = [event for event in log if event.kind != "contact.queued"]
    (unknown,) = offers(without, contact.id, {}, {})
    assert unknown.agrees is False
    assert unknown.would == ("The event log does not tell what it needed then.",)


def test_what_an_older_release_wrote_breaks_nothing() -> None:
    odd = [
        Event(1, 1.0, "agent.free", None, None, "a", {}),
        Event(2, 2.0, "contact.queued", "c", None, None, {"skills": ["x"]}),
        Event(3, 3.0, "contact.reserved", "c", None, "a", {"strategy": 7, "queue": None}),
        Event(4, 4.0, "agent.state_changed", None, None, "a", {}),
    ]
    (choice,) = offers(odd, "c", {}, {})
    assert choice.chosen == "a"
    assert strategies_of(odd[2], {}) == {}
    assert floor_before(odd, 3).waiting["c"].refusals == {}


def test_a_refusal_for_good_is_for_good() -> None:
    facts = {"group": {"provider": "p", "channel": "chat", "required": {}}, "refusals": {"a": None}}
    floor = floor_before([Event(1, 1.0, "contact.queued", "c", None, None, facts)], 2)
    assert floor.waiting["c"].refusals == {"a": math.inf}


@pytest.mark.parametrize("what", ["transfer", "consult"])
async def test_a_colleague_whom_an_agent_has_asked_for_is_no_fault_of_the_rule(what: str) -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    await centre.agent("bo", wifi=1)
    contact = await centre.asks()
    await centre.calls_in(contact)
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    await centre.passes(60)
    await getattr(centre.actions, what)("agent-ana", contact.id, "agent:agent-bo")
    await centre.settle()
    centre.phone.rung[-1].pick_up()
    first, second = await why(centre, contact)
    assert (first.chosen, first.agrees) == ("agent-ana", True)
    assert (second.chosen, second.agrees, second.outcome) == ("agent-bo", None, "accepted")
    assert second.waited_s == pytest.approx(60.0, abs=1.0)
    assert verdicts(second) == {"bo": ("chosen", "was asked for by name, by Ana")}
    assert offers(
        await told_by(centre), contact.id, {}, known_agents(centre.house.roster, centre.house.now())
    )[1:] == [second]


async def test_nobody_is_told_of_a_contact_that_never_was() -> None:
    centre = await Centre.open()
    past = Past(centre.house.database, centre.store, centre.house.roster, {})
    with pytest.raises(Exception, match="There is no contact c_none"):
        await past.contact("c_none")


# What it costs


@pytest.mark.parametrize("free", [True, False])
async def test_to_tell_why_keeps_nobody_else_waiting(free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    centre = await Centre.open()
    if free:
        await centre.agent("ana", heating=3)
    contact = await centre.asks("maria", "chat", "hello")
    threads: list[threading.Thread] = []

    def remember(*given: Any) -> Choice:
        threads.append(threading.current_thread())
        return judge(*given)

    monkeypatch.setattr(past_module, "judge", remember)
    await why(centre, contact)
    assert threads
    assert threading.main_thread() not in threads


async def test_the_log_is_asked_by_its_indexes_alone() -> None:
    centre = await Centre.open()
    await centre.agent("ana", heating=3)
    contact = await centre.asks("maria", "chat", "hello")
    asked: list[Any] = []
    read = centre.house.database.read

    async def remember(statement: Any, parameters: Any = None) -> Any:
        asked.append(statement)
        return await read(statement, parameters)

    centre.house.database.read = remember  # type: ignore[method-assign]
    await why(centre, contact)
    of_events = [statement for statement in asked if event_table.name in str(statement)]
    assert len(of_events) >= 3
    found: list[str] = []
    for statement in of_events:
        compiled = statement.compile(
            dialect=sa.create_engine("sqlite://").dialect, compile_kwargs={"literal_binds": True}
        )
        plan = await read(sa.text(f"EXPLAIN QUERY PLAN {compiled}".replace(":", "\\:")))
        found += [row.detail for row in plan]
        assert not [row.detail for row in plan if row.detail.startswith("SCAN event")], str(compiled)
    # An agent's latest event of a rare kind is found at once too, and not among all their others.
    of_agents = [detail for detail in found if "event_by_agent" in detail]
    assert of_agents
    assert all("agent_id=? AND kind=?" in detail for detail in of_agents), of_agents
