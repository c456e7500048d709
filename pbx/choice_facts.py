"""What a choice is made from, as the event log tells it: queues, who waits for what, who is free."""

from __future__ import annotations

from collections.abc import Iterable
from math import isinf
from typing import Any

from config.queue_settings import Consequence, QueueSettings
from pbx.queue import Group, Waiting
from pbx.router import FreeAgent

OUTCOMES = ("declined", "no_answer", "busy", "unreachable", "asleep")


def waiting_facts(waiting: Waiting) -> dict[str, Any]:
    """What the router knows of a contact, as the event log tells it."""
    return {
        "queue": waiting.group.queue,
        "place": waiting.place,
        "group": group_facts(waiting.group),
        "steps": step_facts(waiting.steps),
        "preferred": waiting.preferred,
        "preferred_until": waiting.preferred_until,
        "refusals": {
            agent_id: None if isinf(until) else until for agent_id, until in waiting.refusals.items()
        },
        "last_refused": waiting.last_refused,
    }


def agent_facts(free: FreeAgent) -> dict[str, Any]:
    """What the router knows of an agent, as the event log tells it."""
    return {
        "skills": dict(free.levels),
        "providers": sorted(free.providers),
        "channels": sorted(free.channels),
        "languages": sorted(free.languages),
        "idle_since": free.idle_since,
        "offered_at": free.offered_at,
        "taken": free.taken,
        "standby": free.standby,
    }


def group_facts(group: Group) -> dict[str, Any]:
    """A group as the event log tells it."""
    return {
        "provider": group.provider_id,
        "channel": group.channel,
        "language": group.language,
        "required": dict(sorted(group.required)),
    }


def step_facts(steps: Iterable[tuple[float, Group]]) -> list[Any]:
    """Steps as the event log tells them: only what they change."""
    return [
        [at, {"required": dict(sorted(group.required)), "language": group.language}] for at, group in steps
    ]


def queue_facts(queue: QueueSettings) -> dict[str, Any]:
    """A queue's settings as the event log tells them; an infinite pause is `never`, JSON having no infinity."""
    found: dict[str, Any] = {
        name: getattr(queue, name)
        for name in (
            *("provider", "product", "channel", "number", "strategy", "priority_s", "prefer_last_s"),
            *("max_wait_s", "overflow", "overflow_queue", "comfort_s", "call_back"),
        )
    }
    found["relax"] = [
        {
            "after_s": step.after_s,
            "lower": step.lower,
            "drop": step.drop,
            "any_language": step.any_language,
        }
        for step in queue.relax
    ]
    for outcome in OUTCOMES:
        consequence: Consequence = getattr(queue, outcome)
        found[outcome] = {
            "pause_s": pause_fact(consequence.pause_s),
            "not_ready_after": consequence.not_ready_after,
        }
    return found


def pause_fact(seconds: float) -> float | str:
    return "never" if isinf(seconds) else seconds
