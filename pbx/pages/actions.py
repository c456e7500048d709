"""What an agent does with a contact from the page, and what the page says of it; and the messages callers have left.

The routes are in routes.py. Who may do what is for `AgentActions` and `Voicemails` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from agent_presence.roster import Agent
from config.errors import TheirError
from config.events import Event, EventLog
from pbx.agent_desk import Candidate, Control
from pbx.api.edge import identifier
from pbx.contact import Channel, Contact, State
from pbx.pages import words
from pbx.store import Voicemail, WrapUpCode
from pbx.wrap_up import LONGEST_NOTE

MOST_MESSAGES = 20
_MESSAGE_NEWS = ("contact.voicemail_left", "contact.voicemail_done")


class Actions(Protocol):
    """`pbx.agent_desk.AgentActions`, seen from the page."""

    def control(self, contact: Contact) -> Control: ...
    def asked_about(self, agent_id: str) -> list[Contact]: ...
    def candidates(self, agent_id: str, contact_id: str, text: str) -> list[Candidate]: ...
    def codes(self, contact: Contact) -> Sequence[WrapUpCode]: ...
    def needed_skills(self) -> list[str]: ...
    def writing_up(self, agent_id: str) -> str | None: ...
    async def hold(self, agent_id: str, contact_id: str) -> None: ...
    async def unhold(self, agent_id: str, contact_id: str) -> None: ...
    async def transfer(self, agent_id: str, contact_id: str, to: str) -> None: ...
    async def call_off(self, agent_id: str, contact_id: str) -> None: ...
    async def consult(self, agent_id: str, contact_id: str, to: str) -> None: ...
    async def complete(self, agent_id: str, contact_id: str) -> None: ...
    async def confer(self, agent_id: str, contact_id: str) -> None: ...
    async def wrap_up(
        self, agent_id: str, contact: Contact, code: str, note: str | None, needed_skill: str | None
    ) -> None: ...


class Recorder(Protocol):
    """`pbx.recordings.Recordings`, seen from the page."""

    def state(self, contact: Contact) -> str: ...
    def may_choose(self, contact: Contact) -> bool: ...
    async def pause(self, agent_id: str, contact_id: str) -> None: ...
    async def unpause(self, agent_id: str, contact_id: str) -> None: ...
    async def told(self, agent_id: str, contact_id: str, given: bool) -> None: ...


class Messages(Protocol):
    """`pbx.voicemail.Voicemails`, seen from the page."""

    async def to_do(self, agent: Agent) -> list[Voicemail]: ...
    async def audio(self, agent: Agent, voicemail_id: str) -> Path: ...
    async def done(self, agent: Agent, voicemail_id: str) -> None: ...


class PageActions:
    """`contact_of` finds any contact by its id, ended ones too; `supervised` says what its agent is told of a
    supervisor in the call."""

    def __init__(
        self,
        actions: Actions,
        messages: Messages,
        events: EventLog,
        *,
        contact_of: Callable[[str], Any],
        recorder: Recorder | None = None,
        supervised: Callable[[str], str] = lambda contact_id: "",
    ) -> None:
        self._supervised = supervised
        self._actions = actions
        self._messages = messages
        self._contact_of = contact_of
        self._recorder = recorder
        # By agent, the messages shown: for as long as there is no news, and they serve the same providers.
        self._shelf: dict[str, tuple[object, list[dict[str, Any]]]] = {}
        self._news = 0
        events.subscribe(self._event_written, _MESSAGE_NEWS)

    # What is done

    async def do(self, agent: Agent, contact_id: str, what: str, fields: Mapping[str, str]) -> None:
        """One press of a button. TheirError as `AgentActions` says, 404 for a button there is not."""
        match what:
            case "hold":
                await self._actions.hold(agent.id, contact_id)
            case "unhold":
                await self._actions.unhold(agent.id, contact_id)
            case "transfer":
                await self._actions.transfer(agent.id, contact_id, fields.get("to", ""))
            case "consult":
                await self._actions.consult(agent.id, contact_id, fields.get("to", ""))
            case "complete":
                await self._actions.complete(agent.id, contact_id)
            case "confer":
                await self._actions.confer(agent.id, contact_id)
            case "call-off":
                await self._actions.call_off(agent.id, contact_id)
            case "pause-recording" | "resume-recording" | "allow-recording" | "refuse-recording":
                await self._record(agent, contact_id, what.partition("-")[0])
            case "wrap-up":
                contact = await self._contact_of(_known_as(contact_id))
                if contact is None:
                    raise TheirError("You have no such contact.", 404)
                await self._actions.wrap_up(
                    agent.id, contact, fields.get("code", ""), fields.get("note"), fields.get("needed")
                )
            case _:
                raise TheirError("There is no such thing to do.", 404)

    async def _record(self, agent: Agent, contact_id: str, what: str) -> None:
        recorder = self._recorder
        if recorder is None:
            raise TheirError("Nothing is recorded here.", 404)
        match what:
            case "pause":
                await recorder.pause(agent.id, contact_id)
            case "resume":
                await recorder.unpause(agent.id, contact_id)
            case _:
                await recorder.told(agent.id, contact_id, what == "allow")

    def candidates(self, agent: Agent, contact_id: str, text: str) -> list[dict[str, Any]]:
        """Whom the contact may go to, as actions.js shows them."""
        return [
            {
                "to": each.to,
                "name": each.name,
                "note": each.note,
                "free": each.free,
                "ask": _can_be_asked(each),
            }
            for each in self._actions.candidates(agent.id, contact_id, text)
        ]

    # What the page says

    async def others(self, agent: Agent) -> list[Contact]:
        """Contacts that are not the agent's, and concern them: asked about by a colleague, or being written up."""
        found = self._actions.asked_about(agent.id)
        last = self._actions.writing_up(agent.id)
        if last is not None:
            written_up = await self._contact_of(last)
            if written_up is not None and all(each.id != last for each in found):
                found.append(written_up)
        return found

    def panel(self, agent: Agent, contact: Contact, giver: str | None) -> dict[str, Any]:
        """What a contact's card says of what can be done; `giver` is the name of the agent who has it."""
        mine = contact.agent_id == agent.id and contact.state is State.CONNECTED
        writing_up = self._actions.writing_up(agent.id) == contact.id
        control = self._actions.control(contact) if mine else Control()
        chat = contact.channel is Channel.CHAT
        said: dict[str, Any] = {
            "stage": control.stage,
            "held": control.held,
            "notice": control.notice,
            "situation": _situation(contact, control),
            "can_hold": mine and not chat and not control.stage,
            "can_pass_on": mine and not control.stage,
            "can_ask": not chat,
            "other": control.other,
            "wrap_up": self._wrap_up(contact, writing_up) if mine or writing_up else None,
            "recording": self._recording(contact) if mine else None,
            "supervised": self._supervised(contact.id) if mine else "",
        }
        if control.stage and not chat:
            # It would end for the customer too: to whom they are left is said first.
            said["can_end"] = False
        if control.held and not control.stage:
            said["state_word"] = "on hold; with you"
        if not mine and contact.open and contact.agent_id != agent.id:
            said |= {"can_end": False, "can_write": False, "state": "other"}
            if writing_up:
                said |= {"state_word": "passed on; with you before", "hint": "", "since_words": ""}
            else:
                who = giver or "A colleague"
                said |= {"state_word": f"with {who}", "hint": f"{who} is asking you about this one."}
        return said

    def _wrap_up(self, contact: Contact, writing_up: bool) -> dict[str, Any]:
        return {
            "open": writing_up,
            "codes": [
                {"code": each.code, "words": each.words, "wrong": each.wrong_skill}
                for each in self._actions.codes(contact)
            ],
            "skills": [
                {"skill": skill, "words": words.skill(skill)} for skill in self._actions.needed_skills()
            ],
            "chosen": contact.wrap_up_code or "",
            "note": contact.wrap_up_note or "",
            "longest": LONGEST_NOTE,
        }

    def _recording(self, contact: Contact) -> dict[str, Any] | None:
        state = self._recorder.state(contact) if self._recorder is not None else ""
        if self._recorder is None or not state:
            return None
        may_choose = self._recorder.may_choose(contact)
        return {
            "state": state,
            "word": _RECORDING_WORDS[state],
            "can_pause": state == "recording",
            "can_resume": state == "paused",
            "can_refuse": may_choose and state in ("recording", "paused", "silent", "on"),
            "can_allow": may_choose and state in ("asked", "refused"),
        }

    # Messages left

    async def messages(self, agent: Agent) -> list[dict[str, Any]]:
        """The oldest messages nobody has dealt with, as the page shows them."""
        now = self._news, tuple(agent.provider_ids)
        before = self._shelf.get(agent.id)
        if before is not None and before[0] == now:
            return before[1]
        rows = await self._messages.to_do(agent)
        shown = [await self._message(row) for row in rows[:MOST_MESSAGES]]
        self._shelf[agent.id] = now, shown
        return shown

    async def _message(self, row: Voicemail) -> dict[str, Any]:
        contact = await self._contact_of(row.contact_id)
        facts = contact.facts if contact is not None else None
        about = " · ".join(
            part for part in (facts.product_name or facts.provider_name, facts.article_title) if part
        ) if facts is not None else ""  # fmt: skip
        number = facts.number if facts is not None else ""
        caller = facts.caller if facts is not None else "Unknown caller"
        return {
            "id": row.id,
            "caller": caller,
            "number": number if number != caller else "",
            "about": about or "No product",
            "at": words.iso(row.left_at),
            "day": words.date(row.left_at),
            "time": words.clock_time(row.left_at),
            "seconds": words.length(row.seconds or 0.0),
        }

    async def audio(self, agent: Agent, voicemail_id: str) -> Path:
        return await self._messages.audio(agent, _known_as(voicemail_id))

    async def done(self, agent: Agent, voicemail_id: str) -> None:
        await self._messages.done(agent, _known_as(voicemail_id))

    def _event_written(self, event: Event) -> None:
        self._news += 1


_RECORDING_WORDS = {
    "recording": "Recorded",
    "paused": "Recording paused",
    "silent": "Not recorded while they wait",
    "on": "Recording starts…",
    "asked": "Not recorded: they have not said whether they agree",
    "refused": "Not recorded: they did not want it",
    "failed": "Not recorded: the recording failed",
}


def _known_as(name: str) -> str:
    """An id in an address. TheirError 400 for what can be none, and no database should be asked for."""
    return identifier(name, "What you asked for") or ""


def _can_be_asked(candidate: Candidate) -> bool:
    return candidate.to.startswith(("agent:", "number:"))


def _situation(contact: Contact, control: Control) -> str:
    caller, other = contact.facts.caller, control.other
    match control.stage:
        case "ringing":
            return f"Ringing {other}. {caller} hears music."
        case "talking":
            return f"You are talking with {other}. {caller} hears music."
        case "conferred":
            return f"You, {caller} and {other} hear each other."
        case "transferring" if not other:
            return "Your phone is passing them on."
        case "transferring" if contact.channel is Channel.CHAT:
            return f"Ringing {other}. The chat stays with you until they answer."
        case "transferring":
            return f"Ringing {other}, who is to take over. {caller} hears music."
        case _:
            return ""
