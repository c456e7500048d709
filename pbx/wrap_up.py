"""What became of a contact, in a code of its provider's and the agent's own words; and that it came to the wrong one.

A code may be said while the conversation lasts or while it is written up, and once more if it was the wrong one.
Saying it ends writing up; the time for that ends by itself too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from twisted.logger import Logger

from agent_presence.agent_state import AgentState, AgentStates
from agent_presence.roster import Roster
from config.bridge import spawn
from config.errors import TheirError, WarmlineError
from config.events import Event, EventLog
from pbx.contact import Contact
from pbx.store import PbxStore, WrapUpCode

log = Logger()

LONGEST_NOTE = 2000

WRONG_SKILL = WrapUpCode("wrong-skill", "Came to the wrong person", wrong_skill=True)
DEFAULT_CODES = (
    WrapUpCode("resolved", "Solved"),
    WrapUpCode("follow-up", "Somebody must follow it up"),
    WrapUpCode("not-ours", "Not ours to solve"),
    WrapUpCode("not-reached", "Nobody was there"),
    WRONG_SKILL,
)
"""For a provider that has none of its own."""

SAMPLE_CODES: Mapping[str, tuple[WrapUpCode, ...]] = {
    "thermea": (
        WrapUpCode("resolved", "Solved"),
        WrapUpCode("technician", "A technician must visit"),
        WrapUpCode("part-ordered", "A part was ordered"),
        WrapUpCode("follow-up", "Somebody must follow it up"),
        WrapUpCode("not-reached", "Nobody was there"),
        WRONG_SKILL,
    ),
    "lumio": (
        WrapUpCode("resolved", "Solved"),
        WrapUpCode("replaced", "The device is replaced"),
        WrapUpCode("known-fault", "A known fault of the firmware"),
        WrapUpCode("follow-up", "Somebody must follow it up"),
        WrapUpCode("not-reached", "Nobody was there"),
        WRONG_SKILL,
    ),
}


async def seed(store: PbxStore) -> None:
    """Give each sample provider its codes, unless it has some. May be run again."""
    present = await store.wrap_up_codes()
    for provider_id, codes in SAMPLE_CODES.items():
        if provider_id not in present:
            await store.add_wrap_up_codes(provider_id, codes)


class WrapUps:
    """`on_wrong_skill` gets a contact, the skill that was really needed, and the agent who says so."""

    def __init__(
        self,
        store: PbxStore,
        states: AgentStates,
        roster: Roster,
        events: EventLog,
        *,
        on_wrong_skill: Callable[[Contact, str, str], Awaitable[object]] | None = None,
    ) -> None:
        self._store = store
        self._states = states
        self._roster = roster
        self._events = events
        self._on_wrong_skill = on_wrong_skill
        self._codes: Mapping[str, tuple[WrapUpCode, ...]] = {}
        self._writing_up: dict[str, str] = {}  # by agent, the contact they had last
        self._as_it_was: dict[str, Contact] = {}  # by agent, the one they passed back into the queue
        self._skills: list[str] | None = None  # until the roster changes
        roster.on_change.append(self._roster_changed)
        events.subscribe(self._event_written, ("agent.state_changed",))

    async def load(self) -> None:
        """Read every provider's codes, before anybody is let in."""
        self._codes = await self._store.wrap_up_codes()

    def codes(self, provider_id: str) -> Sequence[WrapUpCode]:
        return self._codes.get(provider_id, DEFAULT_CODES)

    def writing_up(self, agent_id: str) -> str | None:
        """The contact this agent is writing up now."""
        return self._writing_up.get(agent_id)

    def passed_back(self, contact: Contact, agent_id: str) -> None:
        """The agent sends it to somebody else, who needs to know other things: what they say of it later is of how it
        came to them. To be told before it changes."""
        self._as_it_was[agent_id] = replace(contact)

    def skills(self) -> list[str]:
        """What may have been needed instead: all that anybody knows."""
        if self._skills is None:
            self._skills = sorted(self._roster.skills())
        return self._skills

    def _roster_changed(self, agent_id: str) -> None:
        self._skills = None

    async def say(
        self, contact: Contact, agent_id: str, code: str, note: str | None, needed: str | None
    ) -> None:
        """What became of it, by the agent who has it or had it last; durable when this returns.

        `needed` is the skill it should have gone to, and is asked for by codes that say it did not. TheirError 422 for
        a code this provider does not have, a missing or unknown skill; 413 for a note that is too long.
        """
        said = next((each for each in self.codes(contact.facts.provider_id) if each.code == code), None)
        if said is None:
            raise TheirError("Please choose what became of it.", 422)
        note = (note or "").strip() or None
        if note is not None and len(note) > LONGEST_NOTE:
            raise TheirError(f"A note may have {LONGEST_NOTE} characters at most.", 413)
        if not said.wrong_skill:
            needed = None
        elif needed not in self._roster.skills():
            raise TheirError("Please say which skill was really needed.", 422)
        before = contact.wrap_up_code
        contact.wrap_up_code, contact.wrap_up_note = said.code, note
        stored = self._store.wrapped_up(contact.id, said.code, note)
        # In the same commit: a crash leaves both or neither.
        self._events.write(
            "contact.wrapped_up",
            contact=contact.id,
            agent=agent_id,
            code=said.code,
            note=note,
            wrong_skill=said.wrong_skill,
            needed=needed,
        )
        await stored
        if needed is not None and before != said.code and self._on_wrong_skill is not None:
            came = self._as_it_was.get(agent_id)
            came = came if came is not None and came.id == contact.id else contact
            spawn(self._learn(self._on_wrong_skill(came, needed, agent_id)), f"learning from {contact.id}")
        if self._writing_up.get(agent_id) == contact.id:
            await self.done(agent_id)

    @staticmethod
    async def _learn(learning: Awaitable[object]) -> None:
        try:
            await learning
        except WarmlineError as error:  # what the agent said is stored; the rules stay as they are
            log.warn("Nothing was learnt from a wrong skill: {error}", error=error.reason)

    async def done(self, agent_id: str) -> None:
        """The agent has written up: ready again, or on the break they have asked for."""
        record = self._states.of(agent_id)
        if record.state is not AgentState.WRAP_UP:
            return
        if record.wants_ready:
            await self._states.ready(agent_id, "wrapped up")
        else:
            await self._states.not_ready(agent_id, "wrapped up")

    def _event_written(self, event: Event) -> None:
        if event.agent is None:
            return
        old, new = event.facts.get("old"), event.facts.get("new")
        if new == AgentState.WRAP_UP.value:
            # Asked by name in the middle of it, and not joined: they go on with what they were writing up.
            if old == AgentState.TALKING.value and event.contact is not None:
                self._writing_up[event.agent] = event.contact
        elif new != AgentState.RESERVED.value:
            self._writing_up.pop(event.agent, None)
            self._as_it_was.pop(event.agent, None)
