"""Who could take a contact now, and on which phones: roster, states and bindings in the router's terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent_presence.agent_state import AgentState, AgentStates
from agent_presence.capability import device_can, may_carry
from agent_presence.location import Binding, Location
from agent_presence.roster import Roster
from media.server import Profile
from pbx.contact import Channel
from pbx.profile import profile_of_binding
from pbx.queue import Group
from pbx.router import FreeAgent
from sip_trunk.flow import Flow
from sip_trunk.sip.uri import SipUri, parse_uri
from sip_trunk.user_agent import Target


@dataclass(frozen=True, slots=True)
class Phone:
    """One way to reach somebody: an agent's device by one of its bindings, or a number by a trunk."""

    device_id: str
    name: str
    aor: str
    target: Target
    profile: Profile
    credentials: tuple[str, str] | None = None  # asked for by a trunk


class Staffing:
    """`flow_of` finds the flow of a binding's token. Reads memory only."""

    def __init__(
        self,
        roster: Roster,
        location: Location,
        states: AgentStates,
        *,
        flow_of: Callable[[str], Flow | None],
    ) -> None:
        self._roster = roster
        self._location = location
        self._states = states
        self._flow_of = flow_of
        self._in_calls: dict[str, int] = {}  # by agent: direct calls they are in

    def occupy(self, agent_id: str) -> None:
        """The agent is in a direct call: asked for no contact until `vacate`."""
        self._in_calls[agent_id] = self._in_calls.get(agent_id, 0) + 1

    def vacate(self, agent_id: str) -> None:
        """One direct call of theirs is over."""
        left = self._in_calls.get(agent_id, 0) - 1
        if left > 0:
            self._in_calls[agent_id] = left
        else:
            self._in_calls.pop(agent_id, None)

    def direct_calls(self, agent_id: str) -> int:
        """How many direct calls the agent is in."""
        return self._in_calls.get(agent_id, 0)

    def agents(self) -> list[str]:
        return [agent.id for agent in self._roster.agents()]

    def agent_name(self, agent_id: str | None) -> str | None:
        agent = self._roster.agent(agent_id) if agent_id is not None else None
        return agent.name if agent is not None else None

    def agent_of_aor(self, aor: str) -> str | None:
        username = self._location.username(aor)
        agent = self._roster.agent_of_username(username) if username is not None else None
        return agent.id if agent is not None else None

    def free_agent(self, agent_id: str) -> FreeAgent | None:
        """The agent as the router sees them; None: not to be asked for anything now."""
        if agent_id in self._in_calls:
            return None
        agent = self._roster.agent(agent_id)
        if agent is None:
            return None
        channels = frozenset(
            channel.value
            for channel in Channel
            if self._states.free_for(agent_id, channel.value) and self._can(agent_id, channel)
        )
        if not channels:
            return None
        return FreeAgent(
            agent_id=agent_id,
            skills=frozenset(str(skill) for skill in agent.skills),
            providers=frozenset(agent.provider_ids),
            channels=channels,
            idle_since=self._states.of(agent_id).free_since,
            standby=agent.standby,
        )

    def phones(self, agent_id: str, channel: Channel) -> list[Phone]:
        """Every phone of the agent that may be rung for the channel, the most wanted first."""
        found: list[Phone] = []
        for device in self._roster.devices_of(agent_id):
            aor = self._location.aor(device.username)
            seen: set[str] = set()
            for binding in self._location.bindings(aor):
                if not may_carry(device_can(device, (binding,), channel.value), channel.value):
                    continue
                # RFC 5626 s6: several flows of one phone are ways to the same phone; it is rung by one of them.
                if binding.instance is not None:
                    if binding.instance in seen:
                        continue
                    seen.add(binding.instance)
                target = Target(binding.contact_uri, binding.path, self._flow_to(binding))
                found.append(Phone(device.id, device.name, aor, target, profile_of_binding(binding)))
        return found

    def outlook(self, group: Group) -> str:
        """What a customer who asks for this may expect: "now", "wait" (all who can are busy) or "none"."""
        best = "none"
        for agent in self._roster.agents():
            known = frozenset(str(skill) for skill in agent.skills)
            if not (agent.serves(group.provider_id) and group.required <= known):
                continue
            if not self._can(agent.id, Channel(group.channel)):
                continue
            if self._states.free_for(agent.id, group.channel):
                if agent.id not in self._in_calls:
                    return "now"
                best = "wait"
                continue
            record = self._states.of(agent.id)
            if record.state not in (AgentState.OFFLINE, AgentState.NOT_READY) and record.wants_ready:
                best = "wait"
        return best

    def _flow_to(self, binding: Binding) -> Flow | None:
        """The way a phone registered by; None where its Contact tells the way itself.

        A UDP phone that names the address it sent from is behind no NAT, so the port it names is the one it listens on
        (RFC 3261 s8.1.2), unless it has asked for its flow to be used (RFC 5626 s5.3).
        """
        if binding.transport == "UDP" and binding.reg_id is None:
            uri = parse_uri(binding.contact_uri)
            if isinstance(uri, SipUri) and uri.host == binding.source_ip:
                return None
        return self._flow_of(binding.flow_token)

    def _can(self, agent_id: str, channel: Channel) -> bool:
        return bool(self.phones(agent_id, channel))
