"""Whatever agents, phones, customers, time and crashes do, in whatever order: what must hold after every step.

- One agent has at most one offer, and talks to no more than they can.
- No open contact is without an owner: it is in its place, being offered, joined, or awaited by a timer.
- Nobody is Reserved or Talking without an offer that rings or a call that lives.
- No provider's wall is climbed.
- Every wait ends, and then nothing is left of anything.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent_presence.agent_state import AgentState
from config.errors import TheirError
from config.queue_settings import Consequence, Overflow, QueueSettings, Step, Strategy
from kb_portal.provider import ProviderNumber
from pbx.contact import Channel, Contact, State
from tests.pbx.centre import Caller, Centre, FakeFlow, Ringing

T = TypeVar("T")

CUSTOMERS = st.sampled_from(["maria", "jonas", "aiko"])
AGENTS = st.sampled_from(["ana", "bo", "cem"])
# Cem knows enough of heating, and is behind the wall of another provider.
SKILLS = {"ana": {"heating": 3, "wifi": 5}, "bo": {"heating": 1}, "cem": {"wifi": 2, "heating": 5}}
NUMBERS = {"+15550200": "thermea", "+15550300": "lumio"}

QUEUES = (
    QueueSettings(
        "voice",
        channel="voice",
        strategy=Strategy.ROUND_ROBIN,
        prefer_last_s=20.0,
        relax=(Step(30.0, lower=2), Step(60.0, drop=9)),
        max_wait_s=120.0,
        overflow=Overflow.QUEUE,
        overflow_queue="patience",
        declined=Consequence(float("inf"), 0),
        no_answer=Consequence(5.0, 2),
    ),
    QueueSettings("patience", max_wait_s=60.0, overflow=Overflow.CALL_BACK, priority_s=30.0),
    QueueSettings("default", max_wait_s=300.0, strategy=Strategy.BEST_SKILL),
)


class AtWork(RuleBasedStateMachine):
    """The contact centre itself, on a database that survives it."""

    providers: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        # The thread of the tests runs the reactor's loop, and hypothesis calls rules that do not wait.
        self.thread = ThreadPoolExecutor(1)
        self.loop = asyncio.new_event_loop()
        self.written = 0
        self.seen = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def whole() -> T:
            done = await work
            await self.centre.settle()
            return done

        return self.thread.submit(self.loop.run_until_complete, whole()).result()

    @initialize()
    def opens(self) -> None:
        async def opens() -> None:
            self.centre = await Centre.open(queues=QUEUES, providers=self.providers)
            await self.centre.portal.add_number(ProviderNumber("+15550300", "lumio", "camera"))
            for name, skills in SKILLS.items():
                await self.centre.house.roster.add_agent(
                    name.title(),
                    name,
                    "hash",
                    skills=skills,
                    agent_id=f"agent-{name}",
                    provider_ids=("lumio",) if name == "cem" else ("thermea",),
                )
                await self.centre.house.roster.add_device(
                    f"agent-{name}", "Phone", name, "secret", device_id=f"device-{name}"
                )
                await self._comes(name)
                await self.centre.house.states.ready(f"agent-{name}")

        self.run(opens())
        # So that something rings from the first step on.
        self.telephones("+15550200", anonymous=False)
        self.asks("maria", "chat", calls=False)

    # Customers

    @rule(customer=CUSTOMERS, channel=st.sampled_from(["chat", "voice"]), calls=st.booleans())
    def asks(self, customer: str, channel: str, calls: bool) -> None:
        async def asks() -> None:
            if self.centre.desk.current(customer) is None:
                contact = await self.centre.desk.request(customer, channel, "boiler", None, None, "hello")
                if calls and channel == "voice":
                    await self.centre.calls_in(contact)

        self.run(asks())

    @rule(customer=CUSTOMERS)
    def the_page_calls(self, customer: str) -> None:
        async def calls() -> None:
            contact = self.centre.desk.current(customer)
            if contact is not None and contact.channel is Channel.VOICE:
                await self.centre.calls_in(contact, flow=FakeFlow("WS", ("192.0.2.1", 1234), "ws"))

        self.run(calls())

    @rule(number=st.sampled_from(sorted(NUMBERS)), anonymous=st.booleans())
    def telephones(self, number: str, anonymous: bool) -> None:
        async def telephones() -> None:
            desk = self.centre.desk
            contact = await desk.from_phone("carrier", number, "+15559999", anonymous=anonymous)
            assert contact is not None
            caller = Caller(f"sip:{number}@192.0.2.50")
            await desk.take_call(contact, await self.centre.calls.greet(contact.id, Channel.VOICE, caller))

        if len(self.centre.contacts) < 6:
            self.run(telephones())

    @rule(customer=CUSTOMERS, what=st.sampled_from(["leaves", "writes", "wants a call back"]))
    def customer(self, customer: str, what: str) -> None:
        async def does() -> None:
            contact = self.centre.desk.current(customer)
            if contact is None:
                return
            match what:
                case "leaves":
                    await self.centre.desk.end(contact.id, "customer")
                case "writes" if contact.channel is Channel.CHAT:
                    self.written += 1
                    await self.centre.desk.say(contact.id, f"w{self.written}", "are you there?")
                case "wants a call back" if contact.state is State.WAITING:
                    try:
                        await self.centre.call_backs.ask(contact, "")
                    except TheirError:
                        pass  # not to be had just now

        self.run(does())

    @rule(number=st.integers(0, 9), what=st.sampled_from(["hangs up", "is lost"]))
    def a_leg_of_a_customer(self, number: int, what: str) -> None:
        async def does() -> None:
            legs = [line.customer for line in self.centre.calls._lines.values() if line.customer is not None]
            if not legs:
                return
            call: Any = legs[number % len(legs)].call
            if call.over is None:
                if what == "hangs up":
                    call.hang_up()
                else:
                    call.flow.close()

        self.run(does())

    # Phones

    @rule(number=st.integers(0, 9), what=st.sampled_from(["picks up", "rings", "hangs up"]))
    def a_phone(self, number: int, what: str) -> None:
        self._phone(number, what)

    @rule(
        number=st.integers(0, 9),
        what=st.sampled_from(["declines", "is busy", "unreachable", "nonsense", "crashes", "forgets"]),
    )
    def a_phone_that_does_not_want(self, number: int, what: str) -> None:
        self._phone(number, what)

    @rule()
    def everybody_answers(self) -> None:
        for number in range(len([call for call in self.centre.phone.rung if call.over is None])):
            self._phone(number, "picks up")

    def _phone(self, number: int, what: str) -> None:
        async def does() -> None:
            calls = [call for call in self.centre.phone.rung if call.over is None]
            if calls:
                _happens(calls[number % len(calls)], what)

        self.run(does())

    # Agents

    @rule(
        name=AGENTS, what=st.sampled_from(["ready", "not ready", "goes", "comes", "moves", "registers again"])
    )
    def an_agent(self, name: str, what: str) -> None:
        async def does() -> None:
            house = self.centre.house
            present = house.states.of(f"agent-{name}").present
            match what:
                case "ready" if present:
                    await house.states.ready(f"agent-{name}")
                case "not ready":
                    await house.states.not_ready(f"agent-{name}")
                case "goes":
                    house.drop(name)
                case "comes" if not present:
                    await self._comes(name)
                case "moves" if present:
                    await self._comes(name, "192.0.2.9")
                case "registers again" if present:
                    house.drop(name)
                    await self._comes(name)

        self.run(does())

    async def _comes(self, name: str, host: str = "192.0.2.7") -> None:
        uri = f"sip:{name}@{host}:5062"
        await self.centre.house.bind(name, key=uri, contact_uri=uri, expires_s=36_000.0)

    # Time, and the end of it

    @rule(seconds=st.sampled_from([1, 4, 9, 21, 31, 70]))
    def passes(self, seconds: int) -> None:
        self.run(self.centre.passes(float(seconds)))

    @rule(really=st.integers(0, 2))
    def crash(self, really: int) -> None:
        if really:
            return

        async def crash() -> None:
            self.centre = await self.centre.again()

        self.run(crash())
        self.seen = 0

    # The laws

    @invariant()
    def one_agent_one_offer(self) -> None:
        offered = Counter(
            contact.agent_id for contact in self.centre.contacts if contact.state is State.RINGING
        )
        assert all(count == 1 for count in offered.values())
        for name in SKILLS:
            active = list(self.centre.house.states.of(f"agent-{name}").active.values())
            assert len(active) <= 1 or (len(active) <= 2 and set(active) == {"chat"})

    @invariant()
    def who_is_held_is_held_by_something_that_lives(self) -> None:
        for name in SKILLS:
            record = self.centre.house.states.of(f"agent-{name}")
            assert bool(record.active) is (record.state in (AgentState.RESERVED, AgentState.TALKING))
            for contact_id in record.active:
                contact = self.centre.contacts.get(contact_id)
                assert contact is not None
                assert contact.agent_id == record.agent_id
                if contact_id == record.reserved_for:
                    assert self._rings(contact), "nobody is reserved without being rung"
                elif contact.channel is not Channel.CHAT and contact.state is State.CONNECTED:
                    assert self.centre.calls.has_agent(contact)

    @invariant()
    def every_contact_has_an_owner(self) -> None:
        for contact in self.centre.contacts:
            match contact.state:
                case State.WAITING if contact.routable:
                    assert self.centre.dispatch.position(contact.id) is not None
                case State.WAITING:
                    assert self._awaited(contact), "somebody will notice if nobody comes"
                case State.RINGING:
                    assert self._rings(contact) or contact.call_back is not None
                case State.CONNECTED:
                    assert contact.id in self.centre.house.states.of(contact.agent_id or "").active

    @invariant()
    def no_wall_is_climbed(self) -> None:
        for call in self.centre.phone.rung[self.seen :]:
            contact = self.centre.contacts.known(call.header("X-Warmline-Contact"))
            assert contact is not None
            who = call.to.removeprefix("<sip:").partition("@")[0]
            assert (who == "cem") is (contact.facts.provider_id == "lumio")
        self.seen = len(self.centre.phone.rung)

    def _rings(self, contact: Contact) -> bool:
        return any(
            call.over is None and call.header("X-Warmline-Contact") == contact.id
            for call in self.centre.phone.rung
        )

    def _awaited(self, contact: Contact) -> bool:
        """Whether it is waited for that they come (back), or that their time has come to be called back."""
        return contact.id in {*self.centre.calls._absences._timers, *self.centre.call_backs._timers}

    def teardown(self) -> None:
        if hasattr(self, "centre"):
            self.run(self._everything_ends())
        self.thread.submit(self.loop.close).result()
        self.thread.shutdown()

    async def _everything_ends(self) -> None:
        """Nobody comes any more, and no phone says anything: then only time can end what waits."""
        centre = self.centre
        for call in centre.phone.rung:
            call.options = None
        for name in SKILLS:
            await centre.house.states.not_ready(f"agent-{name}")
        # Limits of both queues, a chat that nobody writes in, attempts at calling back.
        await self._long(1200)
        for contact in centre.contacts:
            assert contact.call_back is not None, "only for a call back one may wait till tomorrow"
            await centre.desk.end(contact.id, "customer")
        await self._long(20)
        assert len(centre.contacts) == 0
        for name in SKILLS:
            assert centre.state(name) in ("NotReady", "Offline")
        assert centre.media.branches == {}
        assert len(centre.dispatch.floor.queue) == 0
        assert (centre.dispatch._offers, centre.dispatch._held, centre.dispatch._kept_for) == ({}, {}, {})
        assert not centre.events("agent.released_stuck"), "the net is there, and nobody falls"
        for timer in tuple(centre.clock.getDelayedCalls()):
            timer.cancel()

    async def _long(self, seconds: int) -> None:
        for step in range(seconds // 4):
            self.centre.clock.advance(4.0)
            for _ in range(6):
                await asyncio.sleep(0)
            if step % 10 == 0:
                await self.centre.settle()  # the database's thread knows nothing of this clock
        await self.centre.settle()


def _happens(call: Ringing, what: str) -> None:
    match what:
        case "rings" if not call.answered:
            call.ring()
        case "picks up" if not call.answered:
            call.pick_up()
        case "nonsense" if not call.answered:
            call.pick_up(b"nothing in common")
        case "declines" if not call.answered:
            call.refuse(603)
        case "is busy" if not call.answered:
            call.refuse(486)
        case "unreachable" if not call.answered:
            call.refuse(503)
        case "hangs up" if call.answered:
            call.hang_up()
        case "crashes":
            call.options = None
        case "forgets":
            call.options = 481


AtWork.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
# A machine that is busy with other things takes minutes; to be stopped in the middle would be taken for a broken law.
test_the_laws_hold_whatever_happens = pytest.mark.timeout(600)(AtWork.TestCase)
