"""What an agent's page asks of the contact centre, for tests of the page alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent_presence.agent_state import AgentStates
from agent_presence.roster import Agent, Roster
from config.errors import TheirError
from config.events import EventLog
from pbx.agent_desk import Candidate, Control
from pbx.contact import Contact
from pbx.store import Voicemail, WrapUpCode
from pbx.wrap_up import WrapUps


class FakeActions:
    """Remembers what was done; what became of a contact is real."""

    def __init__(self, store: Any, states: AgentStates, roster: Roster, events: EventLog) -> None:
        self.wrap_ups = WrapUps(store, states, roster, events)
        self.done: list[tuple[str, ...]] = []
        self.controls: dict[str, Control] = {}
        self.asked: dict[str, list[Contact]] = {}
        self.found: list[Candidate] = []
        self.refuses: TheirError | None = None

    def control(self, contact: Contact) -> Control:
        return self.controls.get(contact.id, Control())

    def asked_about(self, agent_id: str) -> list[Contact]:
        return list(self.asked.get(agent_id, ()))

    def candidates(self, agent_id: str, contact_id: str, text: str) -> list[Candidate]:
        self._did("candidates", agent_id, contact_id, text)
        return self.found

    def codes(self, contact: Contact) -> Sequence[WrapUpCode]:
        return self.wrap_ups.codes(contact.facts.provider_id)

    def needed_skills(self) -> list[str]:
        return self.wrap_ups.skills()

    def writing_up(self, agent_id: str) -> str | None:
        return self.wrap_ups.writing_up(agent_id)

    async def hold(self, agent_id: str, contact_id: str) -> None:
        self._did("hold", agent_id, contact_id)

    async def unhold(self, agent_id: str, contact_id: str) -> None:
        self._did("unhold", agent_id, contact_id)

    async def transfer(self, agent_id: str, contact_id: str, to: str) -> None:
        self._did("transfer", agent_id, contact_id, to)

    async def call_off(self, agent_id: str, contact_id: str) -> None:
        self._did("call-off", agent_id, contact_id)

    async def consult(self, agent_id: str, contact_id: str, to: str) -> None:
        self._did("consult", agent_id, contact_id, to)

    async def complete(self, agent_id: str, contact_id: str) -> None:
        self._did("complete", agent_id, contact_id)

    async def confer(self, agent_id: str, contact_id: str) -> None:
        self._did("confer", agent_id, contact_id)

    async def wrap_up(
        self, agent_id: str, contact: Contact, code: str, note: str | None, needed_skill: str | None
    ) -> None:
        self._did("wrap-up", agent_id, contact.id, code, note or "", needed_skill or "")
        await self.wrap_ups.say(contact, agent_id, code, note, needed_skill)

    def _did(self, *what: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.done.append(what)


class FakeMessages:
    """Messages left, seen by those who serve their providers."""

    def __init__(self) -> None:
        self.left: list[Voicemail] = []
        self.asked = 0

    async def to_do(self, agent: Agent) -> list[Voicemail]:
        self.asked += 1
        return [row for row in self.left if row.done_at is None and agent.serves(row.provider_id)]

    async def audio(self, agent: Agent, voicemail_id: str) -> Path:
        return Path(self._of(agent, voicemail_id).path)

    async def done(self, agent: Agent, voicemail_id: str) -> None:
        self.left.remove(self._of(agent, voicemail_id))

    def _of(self, agent: Agent, voicemail_id: str) -> Voicemail:
        for row in self.left:
            if row.id == voicemail_id and agent.serves(row.provider_id):
                return row
        raise TheirError("There is no such message.", 404)
