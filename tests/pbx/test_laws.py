"""Whatever agents, phones and customers do, in whatever order: what must hold then."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from pbx.contact import Channel, Contact, State
from tests.pbx.centre import Caller, Centre

AGENTS = ("ana", "bo")
CUSTOMERS = ("maria", "jonas", "aiko")

actions = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(CUSTOMERS), st.sampled_from(["chat", "voice"])),
    st.tuples(st.just("leave"), st.sampled_from(CUSTOMERS), st.just("")),
    st.tuples(
        st.just("phone"),
        st.integers(0, 5).map(str),
        st.sampled_from(["ring", "pick up", "pick up", "decline", "unreachable", "hang up", "nonsense"]),
    ),
    st.tuples(
        st.just("agent"), st.sampled_from(AGENTS), st.sampled_from(["ready", "not ready", "gone", "back"])
    ),
    st.tuples(st.just("time"), st.sampled_from(["1", "5", "21", "31", "70"]), st.just("")),
    st.tuples(st.just("write"), st.sampled_from(CUSTOMERS), st.just("")),
    st.tuples(st.just("crash"), st.just(""), st.just("")),
)


class Story:
    def __init__(self, centre: Centre) -> None:
        self.centre = centre
        self.callers: dict[str, Caller] = {}
        self._written = 0

    async def happens(self, kind: str, who: str, what: str) -> None:
        match kind:
            case "ask":
                await self._ask(who, what)
            case "leave":
                contact = self.centre.desk.current(who)
                if contact is not None:
                    await self.centre.desk.end(contact.id, "customer")
            case "phone":
                self._phone(int(who), what)
            case "agent":
                await self._agent(who, what)
            case "time":
                await self.centre.passes(float(who))
            case "write":
                contact = self.centre.desk.current(who)
                if contact is not None and contact.channel is Channel.CHAT:
                    self._written += 1
                    await self.centre.desk.say(contact.id, f"w{self._written}", "are you there?")
            case "crash":
                self.centre = await self.centre.again()
        await self.centre.settle()

    async def _ask(self, customer: str, channel: str) -> None:
        centre = self.centre
        if centre.desk.current(customer) is None:
            contact = await centre.desk.request(customer, channel, "boiler", None, None, "hello")
            if channel == "voice":
                self.callers[contact.id] = await centre.calls_in(contact)

    def _phone(self, number: int, what: str) -> None:
        calls = [call for call in self.centre.phone.rung if call.over is None]
        if not calls:
            return
        call = calls[number % len(calls)]
        match what:
            case "ring" if not call.answered:
                call.ring()
            case "pick up" if not call.answered:
                call.pick_up()
            case "nonsense" if not call.answered:
                call.pick_up(b"nothing in common")
            case "decline" if not call.answered:
                call.refuse(603)
            case "unreachable" if not call.answered:
                call.refuse(480)
            case "hang up" if call.answered:
                call.hang_up()

    async def _agent(self, name: str, what: str) -> None:
        house = self.centre.house
        present = house.states.of(f"agent-{name}").present
        if what == "ready" and present:
            await house.states.ready(f"agent-{name}")
        elif what == "not ready":
            await house.states.not_ready(f"agent-{name}")
        elif what == "gone":
            house.drop(name)
        elif what == "back" and not present:
            await house.bind(name, contact_uri=f"sip:{name}@192.0.2.7:5062", expires_s=3600.0)

    def laws_hold(self) -> None:
        centre = self.centre
        contacts = list(centre.contacts)
        ringing = [contact for contact in contacts if contact.state is State.RINGING]
        rung = Counter(contact.agent_id for contact in ringing)
        assert all(count == 1 for count in rung.values()), "one agent, one offer"
        for name in AGENTS:
            record = centre.house.states.of(f"agent-{name}")
            theirs = {contact.id for contact in contacts if contact.agent_id == record.agent_id}
            assert set(record.active) <= theirs, "nobody is held for a contact that is not theirs"
            if record.reserved_for is not None:
                assert rung[record.agent_id] == 1, "nobody is reserved without being rung"
        for contact in contacts:
            if contact.state is State.CONNECTED:
                held = centre.house.states.of(contact.agent_id or "").active
                assert contact.id in held, "who talks is held for it"
            assert not (contact.state is State.RINGING and not self._rings(contact)), (
                "a ringing contact rings a phone"
            )
            if contact.state is State.WAITING and contact.routable:
                assert centre.dispatch.position(contact.id) is not None, "whoever waits has a place"

    def _rings(self, contact: Contact) -> bool:
        return any(
            call.over is None and call.header("X-Warmline-Contact") == contact.id
            for call in self.centre.phone.rung
        )


@given(st.lists(actions, max_size=25))
@settings(max_examples=40)
async def test_the_laws_hold_whatever_happens(story: list[tuple[str, str, str]]) -> None:
    centre = await Centre.open()
    for name in AGENTS:
        await centre.house.hire(name, heating=3)
        await centre.house.bind(name, contact_uri=f"sip:{name}@192.0.2.7:5062", expires_s=3600.0)
        await centre.house.states.ready(f"agent-{name}")
    told = Story(centre)
    for action in story:
        await told.happens(*action)
        told.laws_hold()
    for customer in CUSTOMERS:
        await told.happens("leave", customer, "")
    centre = told.centre
    # A second later nobody is held by anything, and nothing is left of any call.
    await centre.passes(1)
    assert len(centre.contacts) == 0
    for name in AGENTS:
        assert centre.state(name) not in ("Reserved", "Talking")
    await centre.passes(5)
    assert centre.media.branches == {}
    assert len(centre.dispatch.floor.queue) == 0
    for call in tuple(centre.clock.getDelayedCalls()):
        call.cancel()
