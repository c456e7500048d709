"""What the settings of queues mean for a contact: where it waits, what it needs and when less, and what it costs an
agent not to take it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from config.queue_settings import DEFAULT, Consequence, QueueSettings, Step, Strategy
from pbx.contact import Contact, Facts
from pbx.queue import Group, Waiting
from pbx.skills import Need


class Policies:
    """The queues as they are set, and the queue `default`, which takes what no other does."""

    def __init__(self, queues: Iterable[QueueSettings] = ()) -> None:
        self._queues = {DEFAULT: QueueSettings(DEFAULT), **{queue.name: queue for queue in queues}}
        self._asked = tuple(queue for queue in self._queues.values() if queue.names_something)

    @property
    def strategies(self) -> Mapping[str, Strategy]:
        """By queue, for the router."""
        return {name: queue.strategy for name, queue in self._queues.items()}

    def __iter__(self) -> Iterator[QueueSettings]:
        return iter(self._queues.values())

    def of(self, queue: str) -> QueueSettings:
        """The settings of a queue; a contact left in one that is no longer set is served as in `default`."""
        return self._queues.get(queue) or self._queues[DEFAULT]

    def queue_for(self, facts: Facts, dialled: str = "") -> str:
        """The name of the first queue that takes such a contact; `dialled` is the number a phone caller called."""
        for queue in self._asked:
            if (
                queue.provider in ("", facts.provider_id)
                and queue.product in ("", facts.product_id)
                and queue.channel in ("", facts.channel.value)
                and queue.number in ("", dialled)
            ):
                return queue.name
        return DEFAULT

    def consequence(self, contact: Contact, outcome: str) -> Consequence:
        """What an offer of this contact that came to nothing means; `outcome` as in the event: `no_answer`."""
        found: Consequence = getattr(self.of(contact.queue), outcome)
        return found

    def preferred_until(self, contact: Contact) -> float:
        """Until when it is kept for the agent who helped this customer last; 0: it is not."""
        kept_s = self.of(contact.queue).prefer_last_s
        if contact.preferred_agent_id is None or not kept_s or contact.preferred_agent_id in contact.refusals:
            return 0.0
        return contact.place_at + kept_s

    def waiting(self, contact: Contact, *, kept: bool) -> Waiting:
        """The contact as the router sees it. `kept`: the agent who helped last is there, and worth waiting for."""
        queue = self.of(contact.queue)
        return Waiting(
            contact_id=contact.id,
            group=group_of(contact),
            place=contact.place_at - queue.priority_s,
            asked_at=contact.facts.asked_at,
            refusals={agent_id: refusal.until for agent_id, refusal in contact.refusals.items()},
            last_refused=next(reversed(contact.refusals), None),
            preferred=contact.preferred_agent_id if queue.prefer_last_s else None,
            preferred_until=self.preferred_until(contact) if kept else 0.0,
            steps=steps_of(contact, queue.relax) if queue.relax else (),
        )


def group_of(contact: Contact) -> Group:
    """What it needs before anything is relaxed."""
    facts = contact.facts
    return Group(
        provider_id=facts.provider_id,
        channel=facts.channel.value,
        required=frozenset((need.skill, need.level) for need in contact.needs if need.required),
        language=facts.language,
        queue=contact.queue,
    )


def steps_of(contact: Contact, relax: Sequence[Step]) -> tuple[tuple[float, Group], ...]:
    """From when on it needs less, and what then. A later step never asks for more than one before it.

    The provider and the channel stay: a wall does not fall because somebody waits.
    """
    facts = contact.facts
    before = group_of(contact)
    strongest = _strongest_first(contact.needs)
    lower = drop = 0
    any_language = False
    steps: list[tuple[float, Group]] = []
    for step in relax:
        lower, drop = max(lower, step.lower), max(drop, step.drop)
        any_language = any_language or step.any_language
        kept = strongest[: max(0, len(strongest) - drop)]
        group = Group(
            provider_id=facts.provider_id,
            channel=facts.channel.value,
            required=frozenset((need.skill, max(1, need.level - lower)) for need in kept),
            language=None if any_language else facts.language,
            queue=contact.queue,
        )
        if group != before:
            steps.append((contact.place_at + step.after_s, group))
            before = group
    return tuple(steps)


def _strongest_first(needs: Iterable[Need]) -> list[Need]:
    return sorted((need for need in needs if need.required), key=lambda need: -need.weight)
