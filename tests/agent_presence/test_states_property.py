"""Agents, contacts, phones and time at random: the laws of agent states hold at every step."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.task import Clock

from agent_presence.agent_state import AgentState, AgentStateRecord, AgentStates
from agent_presence.location import Binding, Location
from agent_presence.roster import Agent, Device, Roster
from config.errors import TheirError
from sip_trunk.sip.digest import Credentials
from tests.agent_presence.house import DOMAIN, START, binding_of

T = TypeVar("T")

AGENTS = st.sampled_from(["ana", "bo"])
CONTACTS = st.sampled_from([f"c{number}" for number in range(6)])
CHANNELS = st.sampled_from(["chat", "voice", "video"])


class Kept:
    """A store that keeps everything at once, and hands it out to the next life."""

    def __init__(self) -> None:
        self.states: dict[str, AgentStateRecord] = {}
        self.known_bindings: dict[tuple[str, str], Binding] = {}

    def _done(self) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.Future(loop=LOOP)
        done.set_result(None)
        return done

    async def agents(self) -> list[Agent]:
        return [Agent(f"agent-{name}", name, name, "") for name in ("ana", "bo")]

    async def devices(self) -> list[Device]:
        return [
            Device(f"device-{name}", f"agent-{name}", "Phone", name, Credentials(name, "warmline", "", ""))
            for name in ("ana", "bo")
        ]

    async def bindings(self) -> list[Binding]:
        return list(self.known_bindings.values())

    def change_bindings(self, added: Any, removed: Any) -> asyncio.Future[None]:
        for binding in removed:
            self.known_bindings.pop((binding.aor, binding.key), None)
        for binding in added:
            self.known_bindings[binding.aor, binding.key] = binding
        return self._done()

    def refresh_bindings(self, bindings: Any) -> asyncio.Future[None]:
        return self._done()

    async def agent_states(self) -> dict[str, AgentStateRecord]:
        return dict(self.states)

    def keep_agent_state(
        self, record: AgentStateRecord, *, is_new: bool, patient: bool = False
    ) -> asyncio.Future[None]:
        assert is_new is (record.agent_id not in self.states)
        self.states[record.agent_id] = record
        return self._done()


class Silent:
    """An event log that nobody reads."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def write(self, kind: str, **facts: Any) -> asyncio.Future[None]:
        return self._kept._done()


class Granted:
    """A shared state with no other server in it."""

    async def claim(self, key: str, holder: str, lease_s: float) -> bool:
        return True

    async def release(self, key: str, holder: str) -> bool:
        return True


LOOP = asyncio.new_event_loop()


def now_done(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits")


class AgentsAtWork(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.kept = Kept()
        self.start()

    def start(self) -> None:
        kept: Any = self.kept
        events: Any = Silent(self.kept)
        shared: Any = Granted()
        self.roster = Roster(kept, realm="warmline")
        self.location = Location(
            kept,
            events,
            self.roster,
            domain=DOMAIN,
            clock=self.clock,
            now=self.now,
            flow_alive=lambda token: False,
        )
        self.states = AgentStates(
            kept, events, shared, self.roster, self.location, clock=self.clock, now=self.now
        )
        self.states._unclaim = lambda agent_id, contact_id: None  # type: ignore[method-assign]
        self.steps: list[tuple[str, AgentState, AgentState]] = []
        now_done(self.roster.load())
        now_done(self.location.load())
        now_done(self.states.load())
        self.seen = {agent.id: self.states.of(agent.id).state for agent in self.roster.agents()}
        self.states.on_change.append(lambda agent, old, new: self.steps.append((agent, old, new)))
        self.held: dict[tuple[str, str], str] = {}

    def now(self) -> float:
        return START + self.clock.seconds()

    @rule(name=AGENTS, seconds=st.sampled_from([60, 300]))
    def register(self, name: str, seconds: int) -> None:
        aor = self.location.aor(name)
        binding = binding_of(
            aor=aor, expires_at=self.now() + seconds, registered_at=self.now(), device_id=f"device-{name}"
        )
        self.location.bind(aor, binding)

    @rule(name=AGENTS)
    def unregister(self, name: str) -> None:
        aor = self.location.aor(name)
        for key in tuple(self.location.all_bindings(aor)):
            self.location.drop(aor, key, "unregistered")

    @rule(name=AGENTS)
    def ready(self, name: str) -> None:
        offline = self.states.of(f"agent-{name}").state is AgentState.OFFLINE
        try:
            now_done(self.states.ready(f"agent-{name}"))
            assert not offline
        except TheirError:
            assert offline

    @rule(name=AGENTS)
    def not_ready(self, name: str) -> None:
        now_done(self.states.not_ready(f"agent-{name}"))
        assert self.states.of(f"agent-{name}").state is not AgentState.READY

    @rule(name=AGENTS, contact=CONTACTS, channel=CHANNELS)
    def reserve(self, name: str, contact: str, channel: str) -> None:
        agent = f"agent-{name}"
        before = self.states.of(agent)
        got = now_done(self.states.reserve(agent, contact, channel=channel, lease_s=30.0))
        if got:
            assert before.state in (AgentState.READY, AgentState.TALKING)
            assert before.wants_ready
            self.held[agent, contact] = channel

    @rule(name=AGENTS, contact=CONTACTS)
    def accept(self, name: str, contact: str) -> None:
        agent = f"agent-{name}"
        if self.states.accepted(agent, contact):
            assert self.held[agent, contact] == self.states.of(agent).active[contact]
            assert self.states.of(agent).state is AgentState.TALKING

    @rule(
        name=AGENTS,
        outcome=st.sampled_from(["declined", "no_answer", "unreachable"]),
        limit=st.integers(0, 3),
    )
    def miss(self, name: str, outcome: str, limit: int) -> None:
        agent = f"agent-{name}"
        before = self.states.of(agent)
        made = self.states.missed(agent, before.reserved_for or "c", outcome, limit)
        after = self.states.of(agent)
        assert made is (limit > 0 and before.missed + 1 >= limit and before.wants_ready)
        if made:
            assert (after.why, after.wants_ready, after.missed) == (outcome, False, 0)
            assert after.state is not AgentState.READY
        assert after.active == before.active

    @rule(name=AGENTS, contact=CONTACTS, wrap_up_s=st.sampled_from([0.0, 10.0]))
    def release(self, name: str, contact: str, wrap_up_s: float) -> None:
        agent = f"agent-{name}"
        held = contact in self.states.of(agent).active
        assert self.states.release(agent, contact, wrap_up_s=wrap_up_s) is held
        assert contact not in self.states.of(agent).active

    @rule(seconds=st.sampled_from([1, 10, 31, 400]))
    def wait(self, seconds: int) -> None:
        for _ in range(10):
            self.clock.advance(seconds / 10)

    @rule()
    def crash(self) -> None:
        for call in tuple(self.clock.getDelayedCalls()):
            call.cancel()
        self.start()
        for agent in self.roster.agents():
            assert self.states.of(agent.id).state in (
                AgentState.OFFLINE,
                AgentState.NOT_READY,
                AgentState.READY,
            )

    @rule(name=AGENTS)
    def free_everything(self, name: str) -> None:
        """From wherever an agent is, ending what holds them and a registered phone make them reservable."""
        agent = f"agent-{name}"
        for contact in tuple(self.states.of(agent).active):
            self.states.release(agent, contact)
        self.register(name, 60)
        now_done(self.states.ready(agent))
        assert self.states.of(agent).state is AgentState.READY

    @invariant()
    def a_call_is_alone_and_chats_are_few(self) -> None:
        for agent in self.roster.agents():
            channels = list(self.states.of(agent.id).active.values())
            assert channels == ["chat"] * len(channels) or len(channels) == 1
            assert len(channels) <= 2

    @invariant()
    def state_and_holders_agree(self) -> None:
        for agent in self.roster.agents():
            record = self.states.of(agent.id)
            assert (record.state in (AgentState.RESERVED, AgentState.TALKING)) is bool(record.active)
            assert record.reserved_for is None or record.reserved_for in record.active
            if record.state is AgentState.RESERVED:
                assert list(record.active) == [record.reserved_for]
            assert (record.reserved_for is None) is (record.lease_until is None)
            if record.state is AgentState.WRAP_UP:
                assert record.wrap_up_until is not None
            elif record.state is not AgentState.RESERVED:  # by name, while they were writing up
                assert record.wrap_up_until is None
            if record.state is AgentState.READY:
                assert record.wants_ready
                assert record.present
            if record.state is AgentState.OFFLINE:
                assert not record.present
            if record.lease_until is not None:
                assert record.lease_until > self.now()
            assert not (record.why and record.wants_ready), "who is ready needs no excuse"
        assert {each.agent_id for each in self.states.held()} == {
            agent.id for agent in self.roster.agents() if self.states.of(agent.id).active
        }

    @invariant()
    def every_change_was_told_in_order(self) -> None:
        for agent, old, new in self.steps:
            assert self.seen[agent] is old
            self.seen[agent] = new
        self.steps.clear()
        for agent, state in self.seen.items():
            assert self.states.of(agent).state is state

    @invariant()
    def what_is_stored_is_what_is(self) -> None:
        for agent_id, record in self.kept.states.items():
            assert record == self.states.of(agent_id)


AgentsAtWork.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_no_sequence_breaks_the_laws = AgentsAtWork.TestCase
