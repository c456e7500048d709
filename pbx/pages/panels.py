"""What the panels of the agent's page say: facts of roster, states, location and contacts, put into plain words.

Everything here is made anew each time it is shown, so a page that reconnects is right at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent_presence.agent_state import AgentState, AgentStateRecord
from agent_presence.capability import binding_can, device_can
from agent_presence.location import Binding
from agent_presence.roster import Device
from pbx.contact import Contact, State
from pbx.pages import words


class StatesView(Protocol):
    on_change: list[Callable[[str, AgentState, AgentState], None]]

    def of(self, agent_id: str) -> AgentStateRecord: ...
    async def ready(self, agent_id: str, why: str = ...) -> object: ...
    async def not_ready(self, agent_id: str, why: str = ...) -> object: ...


class LocationView(Protocol):
    on_change: list[Callable[[str, Sequence[Binding], Sequence[Binding]], None]]

    def aor(self, username: str) -> str: ...
    def username(self, aor: str) -> str | None: ...
    def bindings(self, aor: str) -> Sequence[Binding]: ...
    def asleep(self, binding: Binding) -> bool: ...


@dataclass(frozen=True)
class SoftphoneSetup:
    """What one types into a softphone. `server` is host:port, `transports` in words (“UDP”, “TCP”, …)."""

    domain: str
    server: str
    transports: tuple[str, ...]


STATE_WORDS = {
    AgentState.OFFLINE: ("offline", "Offline", "No phone of yours is registered."),
    AgentState.NOT_READY: ("not-ready", "Not ready", "Nobody is sent to you."),
    AgentState.READY: ("ready", "Ready", "The next one may be for you."),
    AgentState.RESERVED: ("reserved", "Ringing", "Somebody waits for you to answer."),
    AgentState.TALKING: ("talking", "With a customer", ""),
    AgentState.WRAP_UP: ("wrap-up", "Wrapping up", "A moment to write things down."),
}


# Why somebody was made not ready who did not say so, by the outcome of the offers that came to nothing.
_MADE_NOT_READY = {
    "declined": "You have declined several times in a row",
    "no_answer": "Your phone rang several times in a row and nobody answered",
    "busy": "Your phone was busy several times in a row",
    "unreachable": "Your phone could not be reached several times in a row",
    "asleep": "Your phone did not wake up several times in a row",
}


def state_panel(record: AgentStateRecord, now: float) -> dict[str, Any]:
    name, word, more = STATE_WORDS[record.state]
    count = len(record.active)
    if record.state is AgentState.TALKING:
        word = {0: word, 1: word}.get(count, f"With {count} customers")
        if record.reserved_for is not None and count > 1:
            more = "One more is ringing."
    pending = ""
    if record.pending_not_ready:
        pending = "Not ready when this contact ends. Press Ready if you changed your mind."
    warning = ""
    if record.why in _MADE_NOT_READY and not record.wants_ready:
        warning = f"{_MADE_NOT_READY[record.why]}, so nobody is sent to you. Press Ready when you are back."
    if record.state is AgentState.OFFLINE:
        warning = "Register a phone first: it is what rings when somebody needs you. Then say you are ready."
        if record.wants_ready:
            warning = "Your phone’s registration is gone, so nobody can reach you. You are ready again when it is back."
    return {
        "name": name,
        "word": word,
        "more": more,
        "since": record.since,
        "since_words": f"for {words.length(now - record.since)}" if record.since else "",
        "wants_ready": record.wants_ready,
        "pending": pending,
        "warning": warning,
    }


def device_panel(
    device: Device, bindings: Sequence[Binding], asleep: Callable[[Binding], bool] = lambda binding: False
) -> dict[str, Any]:
    said = device.override.get("video")
    return {
        "id": device.id,
        "name": device.name,
        "username": device.username,
        "bindings": [
            {"where": _where(binding, asleep(binding)), "user_agent": binding.user_agent}
            for binding in bindings
        ],
        "abilities": [_ability(device, bindings, channel) for channel in ("voice", "video")],
        "video_choice": "auto" if said is None else ("yes" if said else "no"),
    }


def _where(binding: Binding, asleep: bool) -> str:
    if asleep:
        return "asleep; it is woken when somebody wants you"
    return f"{binding.transport} from {_address(binding)}"


def _address(binding: Binding) -> str:
    host = f"[{binding.source_ip}]" if ":" in binding.source_ip else binding.source_ip
    return f"{host}:{binding.source_port}"


def _ability(device: Device, bindings: Sequence[Binding], channel: str) -> dict[str, str]:
    known = device_can(device, bindings, channel)
    word = {True: "yes", False: "no", None: "unknown"}[known]
    if channel in device.override:
        how = "you said so here"
    elif any(binding_can(binding, channel) is not None for binding in bindings):
        how = "the phone says so when it registers"
    elif channel in device.learnt:
        how = "the phone answered so when it was asked"
    elif known is None:
        how = "the phone did not say" if bindings else "the phone has not been here yet"
        if channel == "video":
            how += ": no video is sent to it"
    else:
        how = ""
    return {"channel": {"voice": "Sound"}.get(channel, "Video"), "can": word, "word": word, "how": how}


def contact_panel(contact: Contact, messages: Sequence[Mapping[str, Any]], now: float) -> dict[str, Any]:
    facts = contact.facts
    since = {
        State.WAITING: facts.asked_at,
        State.RINGING: facts.asked_at,
        State.CONNECTED: contact.connected_at or facts.asked_at,
        State.ENDED: contact.ended_at or facts.asked_at,
    }[contact.state]
    about = " · ".join(
        part for part in (facts.product_name or facts.provider_name, facts.article_title) if part
    )
    is_chat = facts.channel == "chat"
    state_word = {
        State.WAITING: "waiting",
        State.RINGING: "ringing; waiting",
        State.CONNECTED: "with you",
        State.ENDED: "ended",
    }[contact.state]
    hint = ""
    if contact.state is State.RINGING:
        hint = "Answer on your phone: the chat opens there and here." if is_chat else "Answer on your phone."
        if contact.call_back is not None:
            # So it is as well once the agent has answered, until the customer does.
            hint = "They wait to be called back. Answer on your phone, and stay on the line while they are called."
    return {
        "id": contact.id,
        "state": str(contact.state),
        "state_word": state_word,
        "channel": str(facts.channel),
        "channel_word": words.CHANNEL_WORDS[facts.channel],
        "caller": facts.caller,
        "about": about or "A call without a product",
        "hint": hint,
        "since": since,
        "since_words": f"for {words.length(now - since)}" if contact.open else "",
        "is_chat": is_chat,
        "messages": [line(message, facts.caller) for message in messages] if is_chat else [],
        "can_write": is_chat and contact.state is State.CONNECTED,
        "can_end": contact.state is State.CONNECTED,
        "end_word": "End chat" if is_chat else "Hang up",
    }


def line(message: Mapping[str, Any], caller: str) -> dict[str, Any]:
    sender = str(message["from"])
    return {
        "id": message["id"],
        "sender": sender if sender in ("customer", "agent") else "system",
        "who": {"customer": caller, "agent": "You"}.get(sender, "Warmline"),
        "text": message["text"],
        "time": words.clock_time(message["at"]),
        "iso": words.iso(message["at"]),
        "mark": mark(sender, delivered=message["delivered"], read=message["read"]),
    }


def mark(sender: str, *, delivered: bool, read: bool) -> str:
    """What became of a line, as far as the agent cares: theirs was read, the customer's is on their phone."""
    if sender == "agent":
        return "read" if read else "sent"
    return "on phone" if sender == "customer" and delivered else ""


def sign(contact: Contact, kind: str, data: Mapping[str, Any]) -> dict[str, Any] | None:
    """What happened in a chat ("delivered", "read", "composing") as agent.js shows it; None when it does not."""
    sender = str(data["from"])
    if kind == "composing":
        words_now = f"{contact.facts.caller} is writing…" if data["active"] else ""
        return {"words": words_now} if sender == "customer" else None
    now = mark(sender, delivered=kind == "delivered", read=kind == "read")
    return {"id": data["id"], "words": now} if now else None
