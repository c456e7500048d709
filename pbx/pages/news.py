"""Tells an open agent's page that something about its agent may have changed, whoever changed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent_presence.agent_state import AgentState
from agent_presence.location import Binding
from agent_presence.roster import Roster
from config.events import Event, EventLog
from pbx.pages.panels import LocationView, StatesView


class AgentNews:
    """One listener at each source for all pages: a thousand open pages must not make each event cost a thousand."""

    def __init__(
        self, *, states: StatesView, location: LocationView, roster: Roster, events: EventLog
    ) -> None:
        self._location = location
        self._roster = roster
        self._watchers: dict[str, set[Callable[[], None]]] = {}
        states.on_change.append(self._state_changed)
        location.on_change.append(self._bindings_changed)
        roster.on_change.append(self._tell)
        events.subscribe(self._event_written)

    def watch(self, agent_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` whenever this agent's page may look different; returns what ends that."""
        self._watchers.setdefault(agent_id, set()).add(callback)

        def unwatch() -> None:
            callbacks = self._watchers.get(agent_id)
            if callbacks is not None:
                callbacks.discard(callback)
                if not callbacks:
                    del self._watchers[agent_id]

        return unwatch

    def __len__(self) -> int:
        """How many agents are being watched."""
        return len(self._watchers)

    def _tell(self, agent_id: str) -> None:
        for callback in tuple(self._watchers.get(agent_id, ())):
            callback()

    def _state_changed(self, agent_id: str, old: AgentState, new: AgentState) -> None:
        self._tell(agent_id)

    def _bindings_changed(self, aor: str, added: Sequence[Binding], removed: Sequence[Binding]) -> None:
        username = self._location.username(aor)
        agent = None if username is None else self._roster.agent_of_username(username)
        if agent is not None:
            self._tell(agent.id)

    def _event_written(self, event: Event) -> None:
        if event.agent is not None:
            self._tell(event.agent)
        if event.kind in ("contact.voicemail_left", "contact.voicemail_done"):
            for agent_id in tuple(self._watchers):
                self._tell(agent_id)
