"""What the supervisor's pages say of queues, agents and choices, in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from agent_presence.agent_state import AgentState
from agent_presence.roster import Agent
from pbx.call_back import masked
from pbx.contact import Contact, State
from pbx.pages import words
from pbx.pages.panels import StatesView
from pbx.queue import Group
from pbx.router import Floor, may_serve
from pbx.why import CHOSEN, Choice
from pbx.why_words import became

MOST_SHOWN = 25
"""Contacts of one queue; how many more there are is told."""
MOST_AGENTS = 200

STATES = {
    AgentState.READY: ("ready", "ready"),
    AgentState.TALKING: ("talking", "with a customer"),
    AgentState.RESERVED: ("reserved", "being asked"),
    AgentState.WRAP_UP: ("wrap-up", "writing up"),
    AgentState.NOT_READY: ("not-ready", "not ready"),
    AgentState.OFFLINE: ("offline", "offline"),
}


def queues_panel(
    contacts: Iterable[Contact],
    floor: Floor,
    agents: Sequence[Agent],
    states: StatesView,
    now: float,
) -> list[dict[str, Any]]:
    """Every queue somebody waits in, the longest wait first."""
    queues: dict[str, list[Contact]] = {}
    able = _Able(agents)
    for contact in contacts:
        if contact.state in (State.WAITING, State.RINGING):
            queues.setdefault(contact.queue, []).append(contact)
    found = []
    for name, waiting in queues.items():
        waiting.sort(key=lambda contact: (contact.place_at, contact.id))
        found.append(
            {
                "name": name,
                "count": len(waiting),
                "call_backs": sum(each.call_back is not None for each in waiting),
                "longest": words.length(now - waiting[0].facts.asked_at),
                "contacts": [_waiting(each, floor, able, states, now) for each in waiting[:MOST_SHOWN]],
                "more": max(0, len(waiting) - MOST_SHOWN),
            }
        )
    return sorted(found, key=lambda queue: (-int(str(queue["count"])), str(queue["name"])))


def _waiting(contact: Contact, floor: Floor, able: _Able, states: StatesView, now: float) -> dict[str, Any]:
    facts = contact.facts
    needs = [
        words.skill(need.skill) + (f" {need.level}" if need.level > 1 else "")
        for need in contact.needs
        if need.required
    ]
    return {
        "id": contact.id,
        "caller": facts.caller,
        "channel": facts.channel.value,
        "channel_word": words.CHANNEL_WORDS[facts.channel],
        "about": facts.product_name or facts.provider_name,
        "needs": needs,
        "since": facts.asked_at,
        "since_words": words.length(now - facts.asked_at),
        "rings": contact.state is State.RINGING,
        "call_back": _call_back(contact, now) if contact.state is State.WAITING else "",
        "why": _why_waiting(contact, floor, able, states, now),
    }


def _call_back(contact: Contact, now: float) -> str:
    """When somebody who has hung up is to be called back, and where; empty for whoever waits on the line."""
    back = contact.call_back
    if back is None:
        return ""
    where = f"on {masked(back.number)}" if back.number else "in their page"
    if back.not_before > now:
        tried = "once" if back.attempts == 1 else f"{back.attempts} times"
        return f"{where}, again in {words.length(back.not_before - now)}: tried {tried}, not answered"
    return f"{where}, as soon as somebody is free for it"


class _Able:
    """The agents who have what a group of contacts needs, found once for all of them."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        self._agents = agents
        self._names = {agent.id: agent.name for agent in agents}
        self._of: dict[Group, list[Agent]] = {}

    def name(self, agent_id: str | None) -> str:
        return self._names.get(agent_id or "", "somebody")

    def for_(self, group: Group) -> list[Agent]:
        """The first `MOST_AGENTS` of them."""
        if group not in self._of:
            able = (
                agent
                for agent in self._agents
                if agent.serves(group.provider_id)
                and all(agent.skills.get(skill, 0) >= level for skill, level in group.required)
                and (group.language is None or not agent.languages or group.language in agent.languages)
            )
            self._of[group] = list(islice(able, MOST_AGENTS))
        return self._of[group]


def _why_waiting(contact: Contact, floor: Floor, able: _Able, states: StatesView, now: float) -> str:
    if contact.state is State.RINGING:
        return f"{able.name(contact.agent_id)} is being asked"
    waiting = floor.waiting(contact.id)
    if waiting is None:
        return "their phone or page is not there just now" if contact.call_back is None else ""
    group = waiting.needs(now)
    can: dict[str, list[str]] = {}
    for agent in able.for_(group):
        free = floor.agent(agent.id)
        if free is None:
            doing = STATES[states.of(agent.id).state][1]
        else:
            code = (may_serve(free, waiting, now) or "").partition(":")[0]
            doing = {
                "": "about to be asked",
                "refused": "did not take it",
                "channel": f"no phone for {group.channel}",
                "kept-for": "free, but it is kept for another",
            }.get(code, "free")
        can.setdefault(doing, []).append(agent.name)
    if not can:
        return "nobody has what it needs"
    return "; ".join(f"{_names(names)}: {doing}" for doing, names in can.items())


def agents_panel(
    agents: Iterable[Agent], contacts: Iterable[Contact], states: StatesView, now: float
) -> list[dict[str, Any]]:
    """Those who work first, and no more than `MOST_AGENTS`."""
    theirs: dict[str, list[Contact]] = {}
    for contact in contacts:
        if contact.agent_id is not None:
            theirs.setdefault(contact.agent_id, []).append(contact)
    order = {state: place for place, state in enumerate(STATES)}
    ranked = sorted(agents, key=lambda agent: (order[states.of(agent.id).state], agent.name, agent.id))
    found = []
    for agent in ranked[:MOST_AGENTS]:
        record = states.of(agent.id)
        name, word = STATES[record.state]
        found.append(
            {
                "name": agent.name,
                "state": name,
                "word": word + (", then a break" if record.pending_not_ready else ""),
                "why": "made so after offers that came to nothing" if record.why else "",
                "since": record.since,
                "since_words": words.length(now - record.since) if record.since else "",
                "skills": [f"{words.skill(skill)} {level}" for skill, level in sorted(agent.skills.items())],
                "standby": agent.standby,
                "contacts": [
                    {"id": each.id, "caller": each.facts.caller} for each in theirs.get(agent.id, ())
                ],
            }
        )
    return found


def found_row(contact: Contact) -> dict[str, Any]:
    """A contact among those that were found, with how it ended or stands."""
    facts = contact.facts
    ending = words.DISPOSITION_WORDS.get(contact.disposition.value if contact.disposition else "", "")
    return {
        "id": contact.id,
        "caller": facts.caller,
        "number": facts.number if facts.number != facts.caller else "",
        "channel": facts.channel.value,
        "channel_word": words.CHANNEL_WORDS[facts.channel],
        "about": facts.product_name or facts.provider_name,
        "day": words.date(facts.asked_at),
        "time": words.clock_time(facts.asked_at),
        "iso": words.iso(facts.asked_at),
        "state": ending or contact.state.value,
    }


def why_page(contact: Contact, choices: Sequence[Choice]) -> dict[str, Any]:
    """A contact, what it needs, and each choice that was made for it."""
    facts = contact.facts
    ending = words.DISPOSITION_WORDS.get(contact.disposition.value if contact.disposition else "", "")
    return {
        "contact": {
            "id": contact.id,
            "caller": facts.caller,
            "channel": facts.channel.value,
            "channel_word": words.CHANNEL_WORDS[facts.channel],
            "about": facts.product_name or facts.provider_name,
            "asked": words.date(facts.asked_at),
            "asked_time": words.clock_time(facts.asked_at),
            "iso": words.iso(facts.asked_at),
            "state": contact.state.value,
            "ending": ending,
            "queue": contact.queue,
        },
        "needs": [
            {
                "skill": words.skill(need.skill),
                "level": need.level,
                "required": need.required,
                "reasons": ", ".join(need.reasons),
            }
            for need in contact.needs
        ],
        "choices": [_choice(choice) for choice in choices],
    }


def _choice(choice: Choice) -> dict[str, Any]:
    by_id: Mapping[str, str] = {each.agent_id: each.name for each in choice.candidates}
    return {
        "time": words.clock_time(choice.at),
        "iso": words.iso(choice.at),
        "waited": words.length(choice.waited_s),
        "chosen": by_id.get(choice.chosen, choice.chosen) if choice.chosen is not None else None,
        "became": became(choice.outcome),
        "needs": choice.needs,
        "queue": choice.queue,
        "strategy": choice.strategy.replace("-", " "),
        "step": choice.step,
        "ahead": choice.ahead,
        "candidates": [
            {
                "name": each.name,
                "words": each.words,
                "verdict": each.verdict,
                "near": each.verdict in (CHOSEN, "later"),
            }
            for each in choice.candidates
        ],
        "would": list(choice.would),
        "agrees": choice.agrees is not False,
    }


def _names(names: Sequence[str]) -> str:
    shown = list(names[:3])
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    return ", ".join(shown)
