"""Taking people on, changing what they may be asked, giving them phones, letting them go: what supervisors do.

Each change is in force at once, durable when its coroutine returns, and told to the event log with who made it. A
supervisor changes only people who serve no provider beyond their own: whoever could give out another's password, or a
wider wall, would be behind every wall.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from agent_presence.agent_state import AgentStates
from agent_presence.location import Location
from agent_presence.roster import Agent, Device, Roster
from config.errors import TheirError
from config.events import EventLog
from pbx.contact import Contact, Disposition, State
from pbx.open_contacts import OpenContacts
from pbx.staffing import Staffing

MOST_PHONES = 10
"""Phones of one agent."""
NOT_FOUND = "There is nobody of that name here, or they serve none of your providers."
NOT_YOURS = "They serve other providers as well: only a supervisor of all of these can change that."

# Their password's hash is nobody's business, and when they left has an event of its own.
_TOLD = tuple(each.name for each in fields(Agent) if each.name not in ("id", "password_hash", "left_at"))


class Passwords(Protocol):
    """`config.login.Logins`, as far as it is needed here."""

    async def hash_password(self, password: str) -> str: ...
    async def end_all(self, kind: Any, subject: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Busy:
    """What holds an agent. `contacts` are theirs and go on; `rings` for one, or a colleague has asked them about one;
    `calls`: direct calls they are in."""

    contacts: tuple[Contact, ...] = ()
    rings: bool = False
    calls: int = 0

    def __bool__(self) -> bool:
        return bool(self.contacts or self.rings or self.calls)


class People:
    """`now` is wall time in epoch seconds. All take the supervisor who asks; TheirError 403 or 404 behind a wall."""

    def __init__(
        self,
        roster: Roster,
        states: AgentStates,
        location: Location,
        staffing: Staffing,
        contacts: OpenContacts,
        passwords: Passwords,
        events: EventLog,
        now: Callable[[], float],
    ) -> None:
        self._roster = roster
        self._states = states
        self._location = location
        self._staffing = staffing
        self._contacts = contacts
        self._passwords = passwords
        self._events = events
        self._now = now

    # Whom there is

    def seen_by(self, supervisor: Agent) -> list[Agent]:
        """Who is here and serves a provider of theirs, by name."""
        return [agent for agent in self._roster.agents() if share(supervisor, agent)]

    def left_seen_by(self, supervisor: Agent) -> list[Agent]:
        """Who has left and could be brought back by them, the latest first."""
        return [agent for agent in self._roster.left() if may_change(supervisor, agent)]

    def find(self, supervisor: Agent, agent_id: str) -> Agent:
        """TheirError 404 for who is none of theirs to see, or nobody."""
        agent = self._roster.ever(agent_id)
        visible = agent is not None and (
            share(supervisor, agent) if agent.left_at is None else may_change(supervisor, agent)
        )
        if agent is None or not visible:
            raise TheirError(NOT_FOUND, 404)
        return agent

    def busy(self, agent_id: str) -> Busy:
        """What holds them now."""
        theirs = {contact.id: contact for contact in self._contacts.of_agent(agent_id)}
        talks = tuple(contact for contact in theirs.values() if contact.state is State.CONNECTED)
        held = set(self._states.of(agent_id).active) | set(theirs)
        return Busy(
            talks, bool(held - {contact.id for contact in talks}), self._staffing.direct_calls(agent_id)
        )

    # Their entry

    async def add(self, supervisor: Agent, wanted: Agent, password: str) -> Agent:
        """Take somebody on; id and hash of `wanted` count for nothing. TheirError 403, 409 for a login in use."""
        if not may_change(supervisor, wanted):
            raise TheirError("You can take people on for your own providers alone.", 403)
        self._check_login(wanted.login, None)
        hashed = await self._passwords.hash_password(password)
        agent = await self._roster.add_agent(
            wanted.name,
            wanted.login,
            hashed,
            skills=wanted.skills,
            languages=wanted.languages,
            provider_ids=wanted.provider_ids,
            standby=wanted.standby,
            supervisor=wanted.supervisor,
            chats=wanted.chats,
        )
        await self._events.write("agent.added", agent=agent.id, by=supervisor.id, **_facts(agent))
        return agent

    async def change(self, supervisor: Agent, wanted: Agent) -> Agent:
        """Put what is `wanted` in place of what is known; nothing changed is nothing told. TheirError 403, 404, 409."""
        before = self.theirs(supervisor, wanted.id)
        wanted = replace(wanted, password_hash=before.password_hash, left_at=before.left_at)
        if wanted == before:
            return before
        if not may_change(supervisor, wanted):
            raise TheirError("You can let them serve your own providers alone.", 403)
        if supervisor.id == before.id:
            if before.supervisor and not wanted.supervisor:
                raise TheirError("You cannot take your own rights away: another supervisor can.", 409)
            if set(before.provider_ids) != set(wanted.provider_ids):
                raise TheirError("You cannot change your own providers: another supervisor can.", 409)
        if wanted.login != before.login:
            self._check_login(wanted.login, before.id)
        agent = await self._roster.change_agent(wanted)
        was, is_now = _facts(before), _facts(agent)
        changed = {name: [was[name], is_now[name]] for name in _TOLD if was[name] != is_now[name]}
        await self._events.write("agent.changed", agent=agent.id, by=supervisor.id, changed=changed)
        return agent

    async def new_password(self, supervisor: Agent, agent_id: str, password: str) -> Agent:
        """Another password for their page; wherever they are logged in, they are logged out."""
        agent = self.theirs(supervisor, agent_id)
        hashed = await self._passwords.hash_password(password)
        agent = await self._roster.change_agent(
            replace(self.theirs(supervisor, agent_id), password_hash=hashed)
        )
        await self._passwords.end_all("agent", agent.id)
        await self._events.write("agent.password_changed", agent=agent.id, by=supervisor.id)
        return agent

    # Coming and going

    async def leave(self, supervisor: Agent, agent_id: str, *, end_contacts: bool) -> Agent:
        """They work here no longer: nothing is offered to them, their phones are taken back, and they are logged out.

        TheirError 409 while something rings for them, or while they talk and `end_contacts` does not say that this
        shall end; who only shall finish first is made not ready by `rest`.
        """
        agent = self.may_leave(supervisor, agent_id)
        self._check_idle(agent, end_contacts)
        await self._states.not_ready(agent.id, "deactivated")
        busy = self._check_idle(agent, end_contacts)
        # From here to the roster nothing is waited for, so that nothing begins in between.
        ended = [
            self._contacts.end(
                contact,
                Disposition.AGENT_HUNG_UP,
                reason=f"{agent.name} was deactivated by {supervisor.name}",
            )
            for contact in busy.contacts
        ]
        written: list[Awaitable[None]] = [*ended]
        for device in self._roster.devices_of(agent.id):
            written += self._unbind(device, "deactivated")
        await self._roster.change_agent(replace(agent, left_at=self._now()))
        for each in written:
            await each
        await self._passwords.end_all("agent", agent.id)
        await self._events.write(
            "agent.left", agent=agent.id, by=supervisor.id, ended=[contact.id for contact in busy.contacts]
        )
        return self.find(supervisor, agent_id)

    def may_leave(self, supervisor: Agent, agent_id: str) -> Agent:
        """Whom `leave` is asked to let go. TheirError 403, 404, 409."""
        agent = self.theirs(supervisor, agent_id)
        if agent.id == supervisor.id:
            raise TheirError("You cannot deactivate yourself: another supervisor can.", 409)
        return agent

    async def rest(self, supervisor: Agent, agent_id: str) -> None:
        """They finish what they have, and are asked for nothing more until they say that they are ready."""
        agent = self.theirs(supervisor, agent_id)
        await self._states.not_ready(agent.id, f"{supervisor.name} said so")

    async def come_back(self, supervisor: Agent, agent_id: str, password: str) -> Agent:
        """Who had left is here again, as they were, with another password and without a phone."""
        agent = self.find(supervisor, agent_id)
        if not may_change(supervisor, agent):
            raise TheirError(NOT_YOURS, 403)
        if agent.left_at is None:
            raise TheirError("They are here.", 409)
        hashed = await self._passwords.hash_password(password)
        agent = await self._roster.change_agent(
            replace(self.find(supervisor, agent_id), left_at=None, password_hash=hashed)
        )
        await self._events.write("agent.returned", agent=agent.id, by=supervisor.id, **_facts(agent))
        return agent

    def _check_idle(self, agent: Agent, end_contacts: bool) -> Busy:
        busy = self.busy(agent.id)
        if busy.rings:
            raise TheirError(
                f"{agent.name} is being asked for a contact just now. Try again in a moment.", 409
            )
        if busy and not end_contacts:
            raise TheirError(f"{agent.name} is with somebody.", 409)
        return busy

    # Their phones

    async def give_phone(self, supervisor: Agent, agent_id: str, name: str, password: str) -> Device:
        """Another phone, under the first SIP user name that is free: `ana`, `ana-2`. TheirError 403, 404, 409."""
        agent = self.theirs(supervisor, agent_id)
        phones = self._roster.devices_of(agent.id)
        if len(phones) >= MOST_PHONES:
            raise TheirError(f"An agent has {MOST_PHONES} phones at most.", 409)
        if any(phone.name.casefold() == name.casefold() for phone in phones):
            raise TheirError(f"{agent.name} has a phone called {name} already.", 409)
        device = await self._roster.add_device(agent.id, name, self._username(agent), password)
        await self._tell("device.added", supervisor, device)
        return device

    async def new_phone_password(
        self, supervisor: Agent, agent_id: str, device_id: str, password: str
    ) -> Device:
        """Another password; what is registered with the old one stays until it would register again."""
        device = self.device(supervisor, agent_id, device_id)
        device = await self._roster.set_password(device.id, password)
        await self._tell("device.password_changed", supervisor, device)
        return device

    async def take_phone(self, supervisor: Agent, agent_id: str, device_id: str) -> Device:
        """Take a phone back; a call that is on it goes on, but it is rung no more."""
        device = self.device(supervisor, agent_id, device_id)
        written = self._unbind(device, "the phone was taken back")
        await self._roster.remove_device(device.id)
        for each in written:
            await each
        await self._tell("device.removed", supervisor, device)
        return device

    def _unbind(self, device: Device, reason: str) -> list[Awaitable[None]]:
        aor = self._location.aor(device.username)
        bindings = tuple(self._location.all_bindings(aor).values())
        return [self._location.change(aor, (), bindings, reason)] if bindings else []

    def _username(self, agent: Agent) -> str:
        name, number = agent.login, 1
        while self._is_anothers(name, agent):
            number += 1
            name = f"{agent.login}-{number}"
        return name

    def _is_anothers(self, username: str, agent: Agent) -> bool:
        # A colleague is also called by their login: their calls must not come to this phone.
        named = self._roster.by_login(username)
        return self._roster.device_by_username(username) is not None or named not in (None, agent)

    async def _tell(self, kind: str, supervisor: Agent, device: Device) -> None:
        facts: Mapping[str, Any] = {"device": device.id, "name": device.name, "username": device.username}
        await self._events.write(kind, agent=device.agent_id, by=supervisor.id, **facts)

    # What all of these ask

    def theirs(self, supervisor: Agent, agent_id: str) -> Agent:
        """Somebody who is here and whom they may change. TheirError 403, 404, 409."""
        agent = self.find(supervisor, agent_id)
        if not may_change(supervisor, agent):
            raise TheirError(NOT_YOURS, 403)
        if agent.left_at is not None:
            raise TheirError(f"{agent.name} has left. Bring them back first.", 409)
        return agent

    def device(self, supervisor: Agent, agent_id: str, device_id: str) -> Device:
        """A phone that they may take back. TheirError 403, 404, 409."""
        agent = self.theirs(supervisor, agent_id)
        device = self._roster.device(device_id)
        if device is None or device.agent_id != agent.id:
            raise TheirError("There is no such phone.", 404)
        return device

    def _check_login(self, login: str, agent_id: str | None) -> None:
        if self._roster.login_taken(login):
            raise TheirError(f"The login {login} is taken, maybe by somebody who has left.", 409)
        phone = self._roster.device_by_username(login)
        if phone is not None and phone.agent_id != agent_id:
            raise TheirError(f"{login} is the name of a phone already. Please choose another login.", 409)


def share(supervisor: Agent, agent: Agent) -> bool:
    """Whether the two have a provider in common."""
    if not supervisor.provider_ids or not agent.provider_ids:
        return True
    return bool(set(supervisor.provider_ids) & set(agent.provider_ids))


def may_change(supervisor: Agent, agent: Agent) -> bool:
    """Whether the agent serves no provider that the supervisor does not serve."""
    if not supervisor.provider_ids:
        return True
    return bool(agent.provider_ids) and set(agent.provider_ids) <= set(supervisor.provider_ids)


def _facts(agent: Agent) -> dict[str, Any]:
    """What the event log may know of an entry."""
    facts = {name: getattr(agent, name) for name in _TOLD}
    return {
        **facts,
        "skills": dict(sorted(agent.skills.items())),
        "languages": list(agent.languages),
        "provider_ids": list(agent.provider_ids),
    }
