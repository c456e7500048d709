"""How long who waits must expect to wait: from how long the last contacts of their queue kept an agent, and how many
agents are on who could serve them.

With c agents, each of whom is kept H seconds by a contact, one becomes free every H / c seconds, and whoever has n
contacts before them waits for n + 1 of these. Contacts that need other skills may be before them for the same agents:
they count by the part of their agents that is shared. `Pace` is that sum, pure; `ExpectedWait` feeds it with what
happens. Where too little has been seen, or nobody is on, the answer is None: an invented number is worse than none.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from math import exp

from agent_presence.agent_state import AgentState, AgentStates
from agent_presence.roster import Agent, Roster
from pbx.contact import Channel, Contact
from pbx.crew import Able, Crew, remember
from pbx.open_contacts import OpenContacts
from pbx.queue import Group
from pbx.router import Floor
from pbx.staffing import Staffing

FEWEST = 3
"""Contacts that must have been seen."""
REMEMBERED = 100
SMOOTH_S = 60.0
"""The time constant by which a change of pace is believed: agents who go for a coffee come back."""
Kind = tuple[str, str]
"""Contacts that keep agents equally long: (queue, channel)."""


class _Mean:
    """Of the last `REMEMBERED` values."""

    def __init__(self) -> None:
        self._values: deque[float] = deque()
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._values.append(value)
        self._sum += value
        if len(self._values) > REMEMBERED:
            self._sum -= self._values.popleft()

    @property
    def value(self) -> float | None:
        if len(self._values) < FEWEST:
            return None
        return max(0.0, self._sum / len(self._values))


class Pace:
    """How fast agents become free. All that a call tells it costs O(1); that an agent comes or goes, as much as there
    are groups; a question, too. Times in seconds."""

    def __init__(self) -> None:
        self._kept: dict[Kind, _Mean] = {}
        self.crew = Crew()
        # By group, the one asked for latest last: the pace it was told at a moment.
        self._told: OrderedDict[Group, tuple[float, float]] = OrderedDict()

    def kept(self, kind: Kind, seconds: float) -> None:
        """A contact of this kind has kept an agent so long, from being rung to being free again."""
        if seconds >= 0.0:
            self._kept.setdefault(kind, _Mean()).add(seconds)

    def on(self, agent_id: str, able: Able) -> None:
        """The agent works, free or not, and can take this."""
        self.crew.on(agent_id, able)

    def off(self, agent_id: str) -> None:
        """The agent takes no more contacts."""
        self.crew.off(agent_id)

    def serving(self, group: Group) -> int:
        """How many are on who could serve it."""
        return self.crew.serving(group)

    def expected_s(self, group: Group, ahead: Mapping[Group, int], now: float) -> float | None:
        """How long one of this group must expect to wait who has so many of each group before them; None: unknown.

        Of those who need other agents as well, only as many count as the agents they share with this group will take.
        """
        between_s, own_s = self._between_s(group, now), self._kept_s(group)
        if between_s is None or own_s is None:
            return None
        turns, sharing = 1.0, self.crew.sharing(group)
        for other, count in ahead.items():
            share = sharing(other)
            if share:
                kept_s = self._kept_s(other)
                longer = kept_s / own_s if kept_s is not None and own_s else 1.0
                turns += count * longer * share
        return turns * between_s

    def _between_s(self, group: Group, now: float) -> float | None:
        """Seconds between two agents becoming free for this group, smoothed so that it does not jump."""
        kept_s = self._kept_s(group)
        places = self.crew.places(group)
        if kept_s is None or not places:
            self._told.pop(group, None)
            return None
        pace = kept_s / places
        before = self._told.get(group)
        if before is not None:
            told, at = before
            pace = told + (pace - told) * (1.0 - exp(-max(0.0, now - at) / SMOOTH_S))
        remember(self._told, group, (pace, now))
        return pace

    def _kept_s(self, group: Group) -> float | None:
        mean = self._kept.get((group.queue, group.channel))
        return mean.value if mean is not None else None


class ExpectedWait:
    """`of` for any contact; `agent_changed` is told of a change of an agent's phones or entry on the roster. `now` is
    wall time in epoch seconds."""

    def __init__(
        self,
        contacts: OpenContacts,
        states: AgentStates,
        staffing: Staffing,
        roster: Roster,
        floor: Floor,
        now: Callable[[], float],
    ) -> None:
        self._contacts = contacts
        self._states = states
        self._staffing = staffing
        self._roster = roster
        self._floor = floor
        self._now = now
        self._pace = Pace()
        self._everybody = Crew()  # on the roster, on or not, with whatever phone
        self._on: set[str] = set()
        # By agent: since when a call keeps them (from its ringing on), and of which kind it is once they took it.
        self._kept: dict[str, tuple[float, Kind | None]] = {}
        states.on_change.append(self._state_changed)
        contacts.on_ended.append(self._contact_ended)
        floor.queue.sharing = self._sharing

    def start(self) -> None:
        """Look at everybody, once roster, location and states are loaded."""
        for agent_id in self._staffing.agents():
            self.agent_changed(agent_id)

    def of(self, contact_id: str) -> float | None:
        """Seconds until an agent should be free for it; None: not known, or it does not wait in the queue."""
        waiting = self._floor.waiting(contact_id)
        if waiting is None:
            return None
        now = self._now()
        return self._pace.expected_s(waiting.needs(now), self._floor.queue.ahead(contact_id), now)

    def agent_changed(self, agent_id: str) -> None:
        record, agent = self._states.of(agent_id), self._roster.agent(agent_id)
        if agent is None:
            self._everybody.off(agent_id)
        else:
            self._everybody.on(agent_id, self._able(agent, Channel))
        off = record.state in (AgentState.OFFLINE, AgentState.NOT_READY) or not record.wants_ready
        if off or agent is None:
            self._on.discard(agent_id)
            self._pace.off(agent_id)
            return
        self._on.add(agent_id)
        channels = (channel for channel in Channel if self._staffing.phones(agent_id, channel))
        self._pace.on(agent_id, self._able(agent, channels))

    def _able(self, agent: Agent, channels: Iterable[Channel]) -> Able:
        return Able(
            levels=dict(agent.skills),
            providers=frozenset(agent.provider_ids),
            channels=frozenset(channel.value for channel in channels),
            languages=frozenset(agent.languages),
            chats=self._states.chats_of(agent.id),
        )

    def _sharing(self, group: Group) -> Callable[[Group], float]:
        """With which others it has agents in common who are on; while nobody is on who could serve it, anybody on the
        roster counts: who comes next is one of these."""
        crew = self._pace.crew if self._pace.serving(group) else self._everybody
        return crew.sharing(group)

    def _state_changed(self, agent_id: str, old: AgentState, new: AgentState) -> None:
        record = self._states.of(agent_id)
        on = new not in (AgentState.OFFLINE, AgentState.NOT_READY) and record.wants_ready
        if on is not (agent_id in self._on):
            self.agent_changed(agent_id)
        if new is old:
            return
        if new is AgentState.TALKING:
            self._took(agent_id, self._contacts.get(record.contact_id or ""))
        elif new is not AgentState.WRAP_UP:
            self._freed(agent_id)
            if new is AgentState.RESERVED:
                self._kept[agent_id] = self._now(), None

    def _took(self, agent_id: str, contact: Contact | None) -> None:
        since, _ = self._kept.get(agent_id, (self._now(), None))
        # Chats keep an agent side by side: each counts by itself, when it ends.
        if contact is not None and contact.channel is not Channel.CHAT:
            self._kept[agent_id] = since, (contact.queue, contact.channel.value)

    def _freed(self, agent_id: str) -> None:
        since, kind = self._kept.pop(agent_id, (0.0, None))
        if kind is not None:
            self._pace.kept(kind, self._now() - since)

    def _contact_ended(self, contact: Contact) -> None:
        if (
            contact.channel is Channel.CHAT
            and contact.connected_at is not None
            and contact.ended_at is not None
        ):
            self._pace.kept((contact.queue, contact.channel.value), contact.ended_at - contact.connected_at)
