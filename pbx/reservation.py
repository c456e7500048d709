"""A Reservation: one agent held for one contact, from the choice until the contact has ended or went elsewhere."""

from __future__ import annotations

from agent_presence.agent_state import AgentStates
from pbx.contact import Channel


class Reservation:
    """Made by `hold` only. It ends once: by `release`, or with `take_over` by another's."""

    def __init__(self, states: AgentStates, contact_id: str, agent_id: str) -> None:
        self._states = states
        self.contact_id = contact_id
        self.agent_id = agent_id
        self.released = False
        self.talking = False

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

    def accepted(self) -> bool:
        """The agent took the contact: talking from now on. False: they are no longer held for it."""
        self.talking = not self.released and self._states.accepted(self.agent_id, self.contact_id)
        return self.talking

    def take_over(self, giver: Reservation | None, *, wrap_up_s: float) -> bool:
        """This agent talks and the one before is let go, both at once. False: this one is no longer held for it."""
        if self.talking:  # they were asked about it first, and have talked to whoever passes it on
            if self.released or self.contact_id not in self._states.of(self.agent_id).active:
                return False
            if giver is not None:
                giver.release(wrap_up_s=wrap_up_s)
            return True
        before = giver.agent_id if giver is not None and not giver.released else None
        if self.released or not self._states.hand_over(
            self.contact_id, before, self.agent_id, wrap_up_s=wrap_up_s
        ):
            return False
        if giver is not None:
            giver.released = True
        return True

    def release(self, *, wrap_up_s: float = 0.0) -> bool:
        """The agent is free again, after `wrap_up_s` for notes. A second release is nothing."""
        if self.released:
            return False
        self.released = True
        return self._states.release(self.agent_id, self.contact_id, wrap_up_s=wrap_up_s)
