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
        cls,
        states: AgentStates,
        contact_id: str,
        agent_id: str,
        channel: Channel,
        *,
        lease_s: float,
        named: bool = False,
    ) -> Reservation | None:
        """Hold the agent, atomically: of two who try, one gets None. `lease_s` bounds it should this process die.

        `named`: a colleague asks for this agent and no other, ready or not.
        """
        if await states.reserve(agent_id, contact_id, channel=channel.value, lease_s=lease_s, named=named):
            return cls(states, contact_id, agent_id)
        return None

    async def accepted(self) -> bool:
        """The agent took the contact: talking from now on. False: they are no longer held for it."""
        return not self.released and await self._states.accepted(self.agent_id, self.contact_id)

    def take_over(self, giver: Reservation | None, *, wrap_up_s: float) -> bool:
        """This agent talks and the one before is let go, both at once. False: this one is no longer held for it."""
        before = giver.agent_id if giver is not None and not giver.released else None
        if self.released or not self._states.hand_over(
            self.contact_id, before, self.agent_id, wrap_up_s=wrap_up_s
        ):
            return False
        if giver is not None:
            giver.released = True
        return True

    def release(self, *, wrap_up_s: float = 0.0) -> asyncio.Task[bool] | None:
        """The agent is free again, after `wrap_up_s` for notes. A second release is nothing."""
        if self.released:
            return None
        self.released = True
        return spawn(
            self._states.release(self.agent_id, self.contact_id, wrap_up_s=wrap_up_s),
            f"releasing {self.agent_id} from {self.contact_id}",
        )
