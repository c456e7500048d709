"""What an agent may do with a contact from their page: hold, pass on, ask a colleague, confer, say what became of it.

Each is for a contact that this agent talks in, and of one contact one thing at a time: what a phone's REFER has begun
is not crossed from here. What cannot be done is said in words for the agent (TheirError 403, 404, 409, 422).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from agent_presence.agent_state import AgentState, AgentStates
from agent_presence.roster import Agent, Roster
from config.errors import TheirError
from config.events import EventLog
from pbx.by_name import wall
from pbx.calls import Calls
from pbx.chat import Chats
from pbx.chat_transfer import ChatTransfers
from pbx.consultation import Consultations
from pbx.contact import Channel, Contact, State
from pbx.destination import Destination, Destinations
from pbx.dispatch import Dispatch
from pbx.open_contacts import OpenContacts
from pbx.skills import Need
from pbx.staffing import Staffing
from pbx.store import WrapUpCode
from pbx.transfer import Transfers
from pbx.wrap_up import WrapUps
from sip_trunk.sip.errors import SipError
from sip_trunk.sip.uri import parse_uri

MOST_FOUND = 12
MOST_LOOKED_AT = 500
"""Of a great many whom a search fits, so many are asked how they are; a longer word finds the others."""
LONGEST_SEARCH = 100


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody a contact may be passed on to. `to` names them to `transfer` and `consult`: "agent:…", "skill:…",
    "queue:…" or "number:…"; `free` is whether they could take it now."""

    to: str
    name: str
    note: str
    free: bool


@dataclass(frozen=True, slots=True)
class Control:
    """How things stand with a contact. `stage`: "" (as it was), "transferring", "ringing", "talking" or "conferred";
    `other` is with whom, `notice` what came of it last."""

    held: bool = False
    stage: str = ""
    other: str = ""
    notice: str = ""


class _FromPage:
    """Stands where a phone's REFER would: tells the page how its transfer went."""

    def __init__(self, finished: Callable[[int], None]) -> None:
        self._finished: Callable[[int], None] | None = finished

    def accept(self) -> None: ...

    def progress(self, status: int) -> None: ...

    def finish(self, status: int) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(status)


class AgentActions:
    """`queues` are the names of those a contact may be put into."""

    def __init__(
        self,
        contacts: OpenContacts,
        calls: Calls,
        chats: Chats,
        dispatch: Dispatch,
        transfers: Transfers,
        consultations: Consultations,
        chat_transfers: ChatTransfers,
        destinations: Destinations,
        staffing: Staffing,
        states: AgentStates,
        roster: Roster,
        wrap_ups: WrapUps,
        events: EventLog,
        *,
        queues: Sequence[str] = (),
    ) -> None:
        self._contacts = contacts
        self._calls = calls
        self._chats = chats
        self._dispatch = dispatch
        self._transfers = transfers
        self._consultations = consultations
        self._chat_transfers = chat_transfers
        self._destinations = destinations
        self._staffing = staffing
        self._states = states
        self._roster = roster
        self._wrap_ups = wrap_ups
        self._events = events
        self._queues = tuple(queues)
        self._passing: dict[str, str] = {}  # by contact, the name of whom it is being passed on to
        self._notices: dict[str, str] = {}  # by contact, what came of the last thing
        contacts.on_ended.append(self._forget)
        consultations.on_failed = lambda contact, to, status: self._tell(contact, self._sorry(to, status))

    # How things stand

    def control(self, contact: Contact) -> Control:
        consultation = self._consultations.of(contact.id)
        held = self._calls.is_held(contact.id)
        if consultation is not None:
            return Control(held, consultation.stage.value, self._name(consultation.destination))
        if self._transfers.claims.busy(contact.id):
            return Control(held, "transferring", self._passing.get(contact.id, ""))
        return Control(held, notice=self._notices.get(contact.id, ""))

    def asked_about(self, agent_id: str) -> list[Contact]:
        """The contacts a colleague is asking this agent about."""
        return self._consultations.asked_about(agent_id)

    # Hold

    async def hold(self, agent_id: str, contact_id: str) -> None:
        """The customer hears music; the agent's call stays."""
        contact = self._call(agent_id, contact_id)
        if not await self._calls.hold(contact):
            raise TheirError("They cannot be put on hold just now.", 409)
        self._event("contact.held", contact)

    async def unhold(self, agent_id: str, contact_id: str) -> None:
        contact = self._call(agent_id, contact_id)
        if not await self._calls.unhold(contact):
            raise TheirError("They are not on hold.", 409)
        self._event("contact.unheld", contact)

    # Passing on

    async def transfer(self, agent_id: str, contact_id: str, to: str) -> None:
        """Pass the contact on without asking first: to a colleague or a number, who are rung while the agent's call
        stays, or back into the queue, in its place, for whoever knows a skill."""
        contact = self._free(agent_id, contact_id)
        to = self._meant(agent_id, contact_id, to)
        kind, _, name = to.partition(":")
        if kind in ("skill", "queue"):
            self._requeue(contact, agent_id, kind, name)
            return
        destination = self._destination(contact, to)
        told = _FromPage(lambda status: self._finished(contact, destination, status))
        self._notices.pop(contact.id, None)
        self._passing[contact.id] = self._name(destination)
        try:
            if contact.channel is Channel.CHAT:
                self._chat_transfers.begin(contact, agent_id, destination, told)
            else:
                self._destinations.phones(destination, agent_id)
                self._transfers.blind(contact, agent_id, destination, told)
        except TheirError as error:
            self._passing.pop(contact.id, None)
            raise self._in_words(error, destination) from error

    async def call_off(self, agent_id: str, contact_id: str) -> None:
        """Whoever is rung is rung no longer, or leaves the conference; the agent has the customer again."""
        contact = self._own(agent_id, contact_id)
        if self._consultations.of(contact.id) is not None:
            self._consultations.cancel(contact)
        elif not (self._transfers.call_off(contact) or self._chat_transfers.call_off(contact)):
            raise TheirError("There is nothing to call off any more.", 409)

    def _requeue(self, contact: Contact, agent_id: str, kind: str, name: str) -> None:
        needs, queue = contact.needs, contact.queue
        if kind == "skill":
            if name not in self._skills(contact):
                raise TheirError("Nobody who helps this provider’s customers knows that.", 422)
            who = self._staffing.agent_name(agent_id) or "an agent"
            asked = Need(name, 1.0, True, (f"{who} passed it on to somebody who knows this",))
            # What was thought to be needed is still good to know, and keeps nobody from taking it.
            known = [
                Need(need.skill, need.weight, False, need.reasons, need.level)
                for need in needs
                if need.skill != name
            ]
            needs = (asked, *known)
        elif name in self._queues:
            queue = name
        else:
            raise TheirError("There is no such queue.", 422)
        self._notices.pop(contact.id, None)
        self._event("contact.transfer_requested", contact, to=f"{kind}:{name}", to_agent=None, how="queue")
        self._wrap_ups.passed_back(contact, agent_id)
        self._contacts.needs_now(contact, needs, queue)
        self._dispatch.let_go(contact)
        if contact.channel is Channel.CHAT:
            self._chats.passed_on(contact)
            self._contacts.refused(contact, agent_id)
        else:
            self._calls.back_to_queue(contact, agent_id)

    # Asking first

    async def consult(self, agent_id: str, contact_id: str, to: str) -> None:
        """Ring a colleague, or a number, while the customer hears music."""
        contact = self._call(agent_id, contact_id)
        destination = self._destination(contact, self._meant(agent_id, contact_id, to))
        self._notices.pop(contact.id, None)
        try:
            self._consultations.begin(contact, agent_id, destination)
        except TheirError as error:
            raise self._in_words(error, destination) from error

    async def complete(self, agent_id: str, contact_id: str) -> None:
        """The customer goes on with whom was asked; the agent writes up."""
        self._consultations.complete(self._own(agent_id, contact_id))

    async def confer(self, agent_id: str, contact_id: str) -> None:
        """All three hear each other."""
        await self._consultations.confer(self._own(agent_id, contact_id))

    # What became of it

    def codes(self, contact: Contact) -> Sequence[WrapUpCode]:
        return self._wrap_ups.codes(contact.facts.provider_id)

    def needed_skills(self) -> list[str]:
        return self._wrap_ups.skills()

    def writing_up(self, agent_id: str) -> str | None:
        """The contact this agent writes up now."""
        return self._wrap_ups.writing_up(agent_id)

    async def wrap_up(
        self, agent_id: str, contact: Contact, code: str, note: str | None, needed_skill: str | None
    ) -> None:
        """For a contact they have, or write up. As `WrapUps.say`."""
        theirs = contact.agent_id == agent_id and contact.state is State.CONNECTED
        if not theirs and self._wrap_ups.writing_up(agent_id) != contact.id:
            raise TheirError("You have no such contact.", 404)
        await self._wrap_ups.say(contact, agent_id, code, note, needed_skill)

    # Whom there is

    def candidates(self, agent_id: str, contact_id: str, text: str) -> list[Candidate]:
        """Colleagues, skills, queues and a number that a contact of theirs may go to, the likeliest first."""
        contact = self._own(agent_id, contact_id)
        words = text[:LONGEST_SEARCH].lower().split()
        provider_id = contact.facts.provider_id
        colleagues = [
            self._colleague(agent, contact)
            for agent in islice(
                (
                    each
                    for each in self._roster.agents()
                    if each.serves(provider_id) and _matches(words, each)
                ),
                MOST_LOOKED_AT,
            )
            if agent.id != agent_id
        ]
        found = [each for each in colleagues if each.free][:MOST_FOUND]
        for skill, free in sorted(self._skills(contact).items()):
            if _all_in(words, _plain(skill)) and len(found) < 2 * MOST_FOUND:
                note = "waits for the next one" if not free else f"{free} could take it now"
                found.append(Candidate(f"skill:{skill}", f"Somebody for {_plain(skill)}", note, free > 0))
        found += [
            Candidate(f"queue:{name}", f"Queue {name}", "", True)
            for name in self._queues
            if name != contact.queue and _all_in(words, name.lower())
        ]
        if contact.channel is not Channel.CHAT and (number := self._number(text)) is not None:
            found.append(Candidate(f"number:{number.shown}", number.shown, "by telephone", True))
        # Who cannot be had just now comes last: it is said why.
        return found + [each for each in colleagues if not each.free][:MOST_FOUND]

    def _colleague(self, agent: Agent, contact: Contact) -> Candidate:
        record = self._states.of(agent.id)
        channel = Channel.CHAT if contact.channel is Channel.CHAT else Channel.VOICE
        here = bool(self._staffing.phones(agent.id, channel))
        if channel is Channel.CHAT:
            busy = record.reserved_for is not None or not (
                record.state in (AgentState.NOT_READY, AgentState.WRAP_UP)
                or self._states.free_for(agent.id, channel.value)
            )
        else:
            busy = record.state in (AgentState.TALKING, AgentState.RESERVED)
        busy = busy or bool(self._staffing.direct_calls(agent.id))
        skills = ", ".join(_plain(skill) for skill in sorted(agent.skills)[:5])
        word = "no phone registered" if not here else "busy" if busy else _STATE_WORDS[record.state]
        return Candidate(f"agent:{agent.id}", agent.name, f"{word} · {skills}", here and not busy)

    def _skills(self, contact: Contact) -> dict[str, int]:
        """What those who serve this provider know, and how many of each could take the contact now."""
        found: dict[str, int] = {}
        channel = contact.channel.value
        for agent in self._roster.agents():
            if agent.serves(contact.facts.provider_id):
                free = self._states.free_for(agent.id, channel) and not self._staffing.direct_calls(agent.id)
                for skill in agent.skills:
                    found[str(skill)] = found.get(str(skill), 0) + free
        return found

    # What is asked for

    def _own(self, agent_id: str, contact_id: str) -> Contact:
        contact = self._contacts.get(contact_id)
        if contact is None or contact.agent_id != agent_id:
            raise TheirError("You have no such contact.", 404)
        if contact.state is not State.CONNECTED:
            raise TheirError("You are not with them yet.", 409)
        return contact

    def _free(self, agent_id: str, contact_id: str) -> Contact:
        contact = self._own(agent_id, contact_id)
        if self._transfers.claims.busy(contact.id):
            raise TheirError("It is being passed on already. Please finish that first.", 409)
        return contact

    def _call(self, agent_id: str, contact_id: str) -> Contact:
        contact = self._free(agent_id, contact_id)
        if contact.channel is Channel.CHAT:
            raise TheirError("That can be done in calls only.", 409)
        return contact

    def _meant(self, agent_id: str, contact_id: str, to: str) -> str:
        """What was typed rather than chosen means somebody where it fits nobody else."""
        if to.partition(":")[0] in _KINDS:
            return to
        found = self.candidates(agent_id, contact_id, to) if to.strip() else []
        named = [each for each in found if each.to.startswith("agent:")] or found
        return named[0].to if len(named) == 1 else ""

    def _destination(self, contact: Contact, to: str) -> Destination:
        kind, _, name = to.partition(":")
        agent = self._roster.agent(name) if kind == "agent" else None
        if agent is not None:
            destination = self._destinations.colleague(agent)
            try:
                wall(contact, destination)
            except TheirError as error:
                raise self._in_words(error, destination) from error
            return destination
        if kind == "number" and contact.channel is not Channel.CHAT:
            number = self._number(name)
            if number is not None:
                return number
            raise TheirError("That number cannot be called from here.", 403)
        raise TheirError("Please choose to whom it should go.", 422)

    def _number(self, text: str) -> Destination | None:
        digits = "".join(char for char in text if not char.isspace() and char not in "()-./")
        try:
            return self._destinations.find(parse_uri(f"tel:{digits}"), numbers=True)
        except (TheirError, SipError, ValueError):
            return None

    # What is told

    def _finished(self, contact: Contact, destination: Destination, status: int) -> None:
        self._passing.pop(contact.id, None)
        if status != 200 and contact.open and contact.state is State.CONNECTED:
            self._tell(contact, self._sorry(destination, status))

    def _tell(self, contact: Contact, words: str) -> None:
        if words:
            self._notices[contact.id] = words
        self._contacts.tell(contact.id, "state", contact)

    def _name(self, destination: Destination) -> str:
        return destination.agent.name if destination.agent is not None else destination.shown

    def _sorry(self, destination: Destination, status: int) -> str:
        name = self._name(destination)
        match status:
            case 487:
                return ""
            case 486 | 600 | 603:
                return f"{name} could not take it."
            case 480 | 408:
                return f"{name} did not answer."
            case 404 | 484 | 604:
                return f"{name} could not be reached: that number is not in use."
            case _:
                return f"{name} could not be reached."

    def _in_words(self, error: TheirError, destination: Destination) -> TheirError:
        name = self._name(destination)
        match error.status:
            case 480:
                return TheirError(f"{name} has no phone registered.", 409)
            case 486:
                return TheirError(f"{name} is busy.", 409)
            case 491:
                return TheirError("It is being passed on already. Please finish that first.", 409)
            case 403:
                return TheirError(f"{name} may not take this one.", 403)
            case _:
                return error

    def _event(self, kind: str, contact: Contact, **facts: Any) -> None:
        self._events.write(kind, contact=contact.id, agent=contact.agent_id, session=contact.session, **facts)

    def _forget(self, contact: Contact) -> None:
        self._passing.pop(contact.id, None)
        self._notices.pop(contact.id, None)


_KINDS = ("agent", "skill", "queue", "number")
_STATE_WORDS = {
    AgentState.OFFLINE: "offline",
    AgentState.NOT_READY: "not ready",
    AgentState.READY: "ready",
    AgentState.RESERVED: "busy",
    AgentState.TALKING: "busy",
    AgentState.WRAP_UP: "writing up",
}


def _plain(skill: str) -> str:
    return skill.replace("-", " ").replace("_", " ").lower()


def _all_in(words: Sequence[str], text: str) -> bool:
    return all(word in text for word in words)


def _matches(words: Sequence[str], agent: Agent) -> bool:
    return _all_in(words, f"{agent.name} {agent.login} {' '.join(map(_plain, agent.skills))}".lower())
