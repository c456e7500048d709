"""A Reservation: one agent held for one contact, from the choice until the contact has ended or went elsewhere."""

from __future__ import annotations

import asyncio

from agent_presence.agent_state import AgentStates
from config.bridge import spawn
from pbx.contact import Channel


class Reservation:
    """Made by `hold` only. It ends once: by `release`."""

    def __init__(self, states: AgentStates, contact_id: str, agent_id: str) -> None:
        self._states = states
        self.contact_id = contact_id
        self.agent_id = agent_id
        self.released = False

    @classmethod
    async def hold(
        cls, states: AgentStates, contact_id: str, agent_id: str, channel: Channel, *, lease_s: float
    ) -> Reservation | None:
        """Hold the agent, atomically: of two who try, one gets None. `lease_s` bounds it should this process die."""
        if await states.reserve(agent_id, contact_id, channel=channel.value, lease_s=lease_s):
            return cls(states, contact_id, agent_id)
        return None

    async def accepted(self) -> bool:
        """The agent took the contact: talking from now on. False: they are no longer held for it."""
        return not self.released and await self._states.accepted(self.agent_id, self.contact_id)

    def release(self, *, wrap_up_s: float = 0.0) -> asyncio.Task[bool] | None:
        """The agent is free again, after `wrap_up_s` for notes. A second release is nothing."""
        if self.released:
            return None
        self.released = True
        return spawn(
            self._states.release(self.agent_id, self.contact_id, wrap_up_s=wrap_up_s),
            f"releasing {self.agent_id} from {self.contact_id}",
        )
