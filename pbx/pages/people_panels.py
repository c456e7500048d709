"""What the pages of people say of somebody, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent_presence.agent_state import AgentStateRecord
from agent_presence.location import Binding
from agent_presence.roster import Agent, Device
from pbx.contact import Contact
from pbx.pages import languages, words
from pbx.pages.panels import device_panel
from pbx.pages.supervisor_panels import STATES
from pbx.people import Busy, may_change


def matches(agent: Agent, wanted: str) -> bool:
    """Whether each word that is looked for stands in their name, login, skills or languages."""
    if not wanted:
        return True
    told = [agent.name, agent.login, *(words.skill(skill) for skill in agent.skills), *agent.skills]
    told += [languages.named(code) for code in agent.languages]
    text = " ".join(told).casefold()
    return all(word in text for word in wanted.casefold().split())


def person_panel(
    person: Agent,
    supervisor: Agent,
    record: AgentStateRecord,
    providers: Mapping[str, str],
    *,
    phones: int,
    registered: int,
    chats: int,
    now: float,
) -> dict[str, Any]:
    """`providers`: names of those the supervisor serves; of others it is told only that there are some."""
    state, word = STATES[record.state]
    theirs = [providers.get(each, each) for each in person.provider_ids if supervisor.serves(each)]
    others = len(theirs) < len(person.provider_ids)
    left = person.left_at is not None
    return {
        "id": person.id,
        "name": person.name,
        "login": person.login,
        "state": "offline" if left else state,
        "word": "left" if left else word,
        "since_words": words.length(now - record.since) if record.since and not left else "",
        "left_on": words.date(person.left_at) if person.left_at is not None else "",
        "skills": [(words.skill(skill), level) for skill, level in sorted(person.skills.items())],
        "languages": [languages.named(code) for code in person.languages],
        "providers": theirs + (["others"] if others else []) if person.provider_ids else ["every provider"],
        "chats": person.chats or chats,
        "phones": phones,
        "registered": registered,
        "standby": person.standby,
        "supervisor": person.supervisor,
        "me": person.id == supervisor.id,
        "mine": may_change(supervisor, person),
    }


def phone_panel(device: Device, bindings: Sequence[Binding]) -> dict[str, Any]:
    panel = device_panel(device, bindings)
    video = next(each for each in panel["abilities"] if each["channel"] == "Video")
    return {**panel, "video": {"yes": "video", "no": "no video", "unknown": ""}[video["word"]]}


def busy_panel(busy: Busy, supervisor: Agent, now: float) -> dict[str, Any]:
    """What holds somebody; of customers of other providers only that there is one."""
    return {
        "contacts": [_contact(contact, supervisor, now) for contact in busy.contacts],
        "rings": busy.rings,
        "calls": busy.calls,
        "any": bool(busy),
    }


def _contact(contact: Contact, supervisor: Agent, now: float) -> dict[str, str]:
    facts = contact.facts
    seen = supervisor.serves(facts.provider_id)
    return {
        "id": contact.id if seen else "",
        "caller": facts.caller if seen else "somebody",
        "channel": facts.channel.value,
        "channel_word": words.CHANNEL_WORDS[facts.channel],
        "about": (facts.product_name or facts.provider_name) if seen else "",
        "since_words": words.length(now - (contact.connected_at or facts.asked_at)),
    }
