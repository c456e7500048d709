"""Who could take a contact now, and on which phones: roster, states and bindings in the router's terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agent_presence.agent_state import AgentStates
from agent_presence.capability import device_can, may_carry
from agent_presence.location import Binding, Location
from agent_presence.push import Push
from agent_presence.push_contact import PushAddress
from agent_presence.roster import Agent, Device, Roster
from config.bridge import spawn
from media.server import Profile
from pbx.contact import Channel
from pbx.phone_media import is_encrypted, learnt_profile, lesson
from pbx.profile import profile_of_binding
from pbx.queue import Group
from pbx.router import FreeAgent
from sip_trunk.flow import Flow
from sip_trunk.sip.uri import SipUri, parse_uri
from sip_trunk.user_agent import Target


@dataclass(frozen=True, slots=True)
class Phone:
    """One way to reach somebody: an agent's device by one of its bindings, or a number by a trunk.

    `instance` says that it is the same phone as before, wherever it registered from (RFC 5626 s4.1). `push` is how it
    has said it may be woken (RFC 8599), so that its silence may be sleep. One that is `asleep` for certain cannot be
    sent anything before it was woken.
    """

    device_id: str
    name: str
    aor: str
    target: Target
    profile: Profile
    credentials: tuple[str, str] | None = None  # asked for by a trunk
    instance: str | None = None
    push: PushAddress | None = None
    asleep: bool = False
    wake: Wake | None = field(default=None, compare=False, repr=False)
    """Has it woken; None where nobody can."""
    learn: Callable[[Profile], None] = field(default=lambda profile: None, compare=False, repr=False)
    """To be told how its packets travel once it has answered."""

    @property
    def outside(self) -> bool:
        """Not a phone of an agent: a number, by a trunk."""
        return self.device_id.startswith("trunk:")

    def is_as(self, other: Phone) -> bool:
        """Whether it has said to be that same phone, though it may have registered from somewhere else."""
        if self.device_id != other.device_id:
            return False
        if self.instance is not None and self.instance == other.instance:
            return True
        return self.push is not None and self.push == other.push


Woken = Callable[["Phone | None", str], None]
"""Gets the phone as it can be reached now, or None and why it cannot; later than it was asked for, and in time."""

Wake = Callable[[str, Woken], Callable[[], None]]
"""Have a phone woken, for a "call" or a "message"; what it returns ends the waiting."""


class Staffing:
    """`flow_of` finds the flow of a binding's token. Reads memory only. Without `push` no phone is woken."""

    def __init__(
        self,
        roster: Roster,
        location: Location,
        states: AgentStates,
        *,
        flow_of: Callable[[str], Flow | None],
        push: Push | None = None,
    ) -> None:
        self._roster = roster
        self._location = location
        self._states = states
        self._flow_of = flow_of
        self._push = push
        self._in_calls: dict[str, int] = {}  # by agent: direct calls they are in
        # By agent, what their phones can carry, until these change.
        self._carries: dict[str, frozenset[Channel]] = {}
        self._versions: dict[str, int] = {}  # by agent: how often their phones have changed
        # Before all others, who will look at the agent because of the same news.
        location.on_change.insert(0, self._phones_changed)
        roster.on_change.insert(0, self._forget)

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

    def _phones_changed(self, aor: str, *_: Any) -> None:
        agent_id = self.agent_of_aor(aor)
        if agent_id is not None:
            self._forget(agent_id)

    def _forget(self, agent_id: str) -> None:
        self._carries.pop(agent_id, None)
        self._versions[agent_id] = self.phones_version(agent_id) + 1

    def phones_version(self, agent_id: str) -> int:
        """Another number after each change of the agent's phones, or of what is known of them."""
        return self._versions.get(agent_id, 0)

    def agents(self) -> list[str]:
        return [agent.id for agent in self._roster.agents()]

    def agent_name(self, agent_id: str | None) -> str | None:
        agent = self._roster.ever(agent_id) if agent_id is not None else None
        return agent.name if agent is not None else None

    def supervises(self, agent_id: str, provider_id: str) -> bool:
        """Whether this agent is on the roster as a supervisor of that provider's contacts."""
        agent = self._roster.agent(agent_id)
        return agent is not None and agent.supervisor and agent.serves(provider_id)

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
        record = self._states.of(agent_id)
        return FreeAgent(
            agent_id=agent_id,
            levels=dict(agent.skills),
            providers=frozenset(agent.provider_ids),
            channels=channels,
            languages=frozenset(agent.languages),
            idle_since=record.free_since,
            offered_at=record.offered_at,
            taken=record.taken,
            standby=agent.standby,
        )

    def is_there(self, agent_id: str) -> bool:
        """Whether the agent works now and will be free again: not offline, on no break and about to take none."""
        record = self._states.of(agent_id)
        return record.present and record.wants_ready

    def could_serve(self, agent_id: str, group: Group) -> bool:
        """Whether the agent, were they free, could be asked for this."""
        agent = self._roster.agent(agent_id)
        return agent is not None and _fits(agent, group) and self._can(agent_id, Channel(group.channel))

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
                found.append(self._phone(device, binding))
        return found

    def _phone(self, device: Device, binding: Binding) -> Phone:
        target = Target(binding.contact_uri, binding.path, self._flow_to(binding))
        can_wake = self._push is not None and self._push.wakes(binding)
        return Phone(
            device.id,
            device.name,
            binding.aor,
            target,
            _profile(device, binding, target),
            instance=binding.instance,
            push=binding.push,
            asleep=self._location.asleep(binding),
            wake=partial(self._wake, binding) if can_wake else None,
            learn=partial(self._learn, device.id),
        )

    def _wake(self, binding: Binding, why: str, woken: Woken) -> Callable[[], None]:
        assert self._push is not None

        def ended(now: Binding | None, reason: str) -> None:
            device = self._roster.device(binding.device_id or "")
            if now is not None and device is not None:
                woken(self._phone(device, now), "")
            else:
                woken(None, reason or "the phone is nobody's any more")

        return self._push.wake(binding, why, ended).cancel

    def carries(self, agent_id: str, device_id: str | None, channel: Channel) -> bool | None:
        """Whether this phone of theirs can carry a channel, without `device_id` any of them; None: nobody knows."""
        found = [each for each in self._roster.devices_of(agent_id) if device_id in (None, each.id)]
        said = {
            device_can(each, self._location.bindings(self._location.aor(each.username)), channel.value)
            for each in found
        }
        return True if True in said else False if said == {False} else None

    def _learn(self, device_id: str, profile: Profile) -> None:
        device = self._roster.device(device_id)
        if device is None or profile is Profile.WEBRTC or learnt_profile(device.learnt) is profile:
            return
        spawn(self._roster.learn(device_id, lesson(profile)), f"what {device.name} does with media")

    def outlook(self, group: Group) -> str:
        """What a customer who asks for this may expect: "now", "wait" (all who can are busy) or "none"."""
        best = "none"
        for agent in self._roster.agents():
            if not (_fits(agent, group) and self._can(agent.id, Channel(group.channel))):
                continue
            if self._states.free_for(agent.id, group.channel):
                if agent.id not in self._in_calls:
                    return "now"
                best = "wait"
                continue
            if self.is_there(agent.id):
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
        carries = self._carries.get(agent_id)
        if carries is None:
            carries = frozenset(each for each in Channel if self.phones(agent_id, each))
            self._carries[agent_id] = carries
        return channel in carries


def _profile(device: Device, binding: Binding, target: Target) -> Profile:
    profile = profile_of_binding(binding)
    if profile is Profile.RTP:
        profile = learnt_profile(device.learnt)
        if profile is Profile.SDES and not is_encrypted(target):
            return Profile.RTP
    return profile


def _fits(agent: Agent, group: Group) -> bool:
    return (
        agent.serves(group.provider_id)
        and (group.language is None or not agent.languages or group.language in agent.languages)
        and all(agent.skills.get(skill, 0) >= level for skill, level in group.required)
    )
