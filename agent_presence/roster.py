"""The roster: the people who answer, what they know, and the phones they answer with.

It is read at every REGISTER and every routing decision, so it lives in memory and is written through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NewType

from config.errors import TheirError
from config.ids import new_id
from sip_trunk.sip.digest import Credentials

if TYPE_CHECKING:
    from agent_presence.store import PresenceStore

Skill = NewType("Skill", str)
"""What an agent knows, by its name on the roster: `wifi-pairing`."""

CHANNELS = ("chat", "voice", "video")


@dataclass(frozen=True, slots=True)
class Agent:
    """A person. `skills` maps a skill to a level from 1 to 5; without `provider_ids` they serve every provider.

    One on `standby` is asked only when nobody else is free. A `supervisor` sees how their providers' contacts were
    routed, and changes the rules and the people. `chats`: how many they have at a time, None: as many as the server's
    settings say. `left_at`: since when (epoch seconds) they are here no longer.
    """

    id: str
    name: str
    login: str
    password_hash: str = field(repr=False)
    skills: Mapping[str, int] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    provider_ids: tuple[str, ...] = ()
    standby: bool = False
    supervisor: bool = False
    chats: int | None = None
    left_at: float | None = None

    def serves(self, provider_id: str) -> bool:
        """Whether this agent may see customers of that provider."""
        return not self.provider_ids or provider_id in self.provider_ids


@dataclass(frozen=True, slots=True)
class Device:
    """A phone of an agent, with SIP credentials of its own.

    `override` is what somebody said in the agent's page it can do, `learnt` what it said of itself when asked; both map
    a channel to yes or no, and a channel that is absent is unknown.
    """

    id: str
    agent_id: str
    name: str
    username: str
    credentials: Credentials = field(repr=False)
    override: Mapping[str, bool] = field(default_factory=dict)
    learnt: Mapping[str, bool] = field(default_factory=dict)


class Roster:
    """All agents and devices, in memory, written through to the store.

    Who has left is here for their name and their login alone, which nobody else gets: no other question finds them.
    `on_change` listeners get the id of the agent whose entry or whose device changed, once that is in force.
    """

    def __init__(self, store: PresenceStore, *, realm: str) -> None:
        self._store = store
        self._realm = realm
        self._agents: dict[str, Agent] = {}
        self._by_name: tuple[Agent, ...] | None = None  # all, until one of them changes
        self._by_login: dict[str, Agent] = {}
        self._left: dict[str, Agent] = {}
        self._devices: dict[str, Device] = {}
        self._by_username: dict[str, Device] = {}
        self._devices_of: dict[str, tuple[str, ...]] = {}
        self.on_change: list[Callable[[str], None]] = []

    async def load(self) -> None:
        """Read everything from the store; what was in memory is forgotten."""
        agents = await self._store.agents()
        devices = await self._store.devices()
        self._agents.clear()
        self._by_name = None
        self._by_login.clear()
        self._left.clear()
        self._devices.clear()
        self._by_username.clear()
        self._devices_of.clear()
        for agent in agents:
            self._keep_agent(agent)
        for device in devices:
            self._keep_device(device)

    def agents(self) -> tuple[Agent, ...]:
        """Every agent, by name."""
        if self._by_name is None:
            self._by_name = tuple(sorted(self._agents.values(), key=lambda agent: (agent.name, agent.id)))
        return self._by_name

    def agent(self, agent_id: str) -> Agent | None:
        return self._agents.get(agent_id)

    def by_login(self, login: str) -> Agent | None:
        """The agent with this page login, whatever the case it was typed in."""
        return self._by_login.get(login.strip().lower())

    def ever_by_login(self, login: str) -> Agent | None:
        """The agent with this login, also one who had it when they left: nobody else gets it."""
        login = login.strip().lower()
        found = self._by_login.get(login)
        return found or next((agent for agent in self._left.values() if agent.login == login), None)

    def login_taken(self, login: str) -> bool:
        """Whether somebody has this login, or had it when they left."""
        return self.ever_by_login(login) is not None

    def left(self) -> tuple[Agent, ...]:
        """Who has left, the latest first."""
        return tuple(sorted(self._left.values(), key=lambda agent: (-(agent.left_at or 0.0), agent.id)))

    def ever(self, agent_id: str) -> Agent | None:
        """The agent, also one who has left: for what is told of the past."""
        return self._agents.get(agent_id) or self._left.get(agent_id)

    def device(self, device_id: str) -> Device | None:
        return self._devices.get(device_id)

    def device_by_username(self, username: str) -> Device | None:
        return self._by_username.get(username)

    def devices_of(self, agent_id: str) -> tuple[Device, ...]:
        """This agent's devices, in the order they were given out."""
        return tuple(self._devices[device_id] for device_id in self._devices_of.get(agent_id, ()))

    def agent_of_username(self, username: str) -> Agent | None:
        """Whose phone registers under this SIP username."""
        device = self._by_username.get(username)
        return None if device is None else self._agents.get(device.agent_id)

    def credentials_of(self, username: str) -> Credentials | None:
        """What digest authentication checks against; None for a name that is nobody's."""
        device = self._by_username.get(username)
        return None if device is None else device.credentials

    def skills(self) -> frozenset[str]:
        """Every skill somebody has."""
        return frozenset(skill for agent in self._agents.values() for skill in agent.skills)

    async def add_agent(
        self,
        name: str,
        login: str,
        password_hash: str,
        *,
        skills: Mapping[str, int],
        languages: Iterable[str] = (),
        provider_ids: Iterable[str] = (),
        standby: bool = False,
        supervisor: bool = False,
        chats: int | None = None,
        agent_id: str | None = None,
    ) -> Agent:
        """Take somebody on. Raises TheirError 409 when the login is taken, 400 for a level outside 1 to 5."""
        login = login.strip().lower()
        agent = Agent(
            id=agent_id or new_id("a"),
            name=name,
            login=login,
            password_hash=password_hash,
            skills=dict(skills),
            languages=tuple(languages),
            provider_ids=tuple(provider_ids),
            standby=standby,
            supervisor=supervisor,
            chats=chats,
        )
        self._check(agent)
        # Memory first: whoever asks for the same login meanwhile is told that it is taken.
        self._keep_agent(agent)
        try:
            await self._store.add_agent(agent)
        except BaseException:
            self._forget_agent(agent)
            raise
        self._announce(agent.id)
        return agent

    async def change_agent(self, agent: Agent) -> Agent:
        """Put this in place of what was known of the agent: their skills, their login, that they leave or come back.

        Who leaves gives up their devices. Raises TheirError 404, and as `add_agent`.
        """
        before = self.ever(agent.id)
        if before is None:
            raise TheirError("There is no such agent", 404)
        self._check(agent)
        self._forget_agent(before)
        self._keep_agent(agent)
        if agent.left_at is not None:
            for device in self.devices_of(agent.id):
                self._forget_device(device)
        written = self._store.change_agent(agent)
        # At once: whoever has left is asked for nothing more, stored or not.
        self._announce(agent.id)
        await written
        return agent

    async def add_device(
        self,
        agent_id: str,
        name: str,
        username: str,
        password: str,
        *,
        override: Mapping[str, bool] | None = None,
        device_id: str | None = None,
    ) -> Device:
        """Give an agent a phone. The password is not kept, only its HA1. Raises TheirError 404 or 409."""
        if agent_id not in self._agents:
            raise TheirError("There is no such agent", 404)
        if username in self._by_username:
            raise TheirError(f"The SIP user name {username} is taken", 409)
        device = Device(
            id=device_id or new_id("d"),
            agent_id=agent_id,
            name=name,
            username=username,
            credentials=self._credentials(username, password),
            override=dict(override or {}),
        )
        self._keep_device(device)
        try:
            await self._store.add_device(device)
        except BaseException:
            self._forget_device(device)
            raise
        self._announce(agent_id)
        return device

    async def remove_device(self, device_id: str) -> Device:
        """Take a phone back: its password opens nothing from now on. Raises TheirError 404.

        Its bindings are another's to drop, and before this, while it is known whose they are.
        """
        device = self._known(device_id)
        self._forget_device(device)
        written = self._store.remove_device(device)
        self._announce(device.agent_id)
        await written
        return device

    async def set_password(self, device_id: str, password: str) -> Device:
        """Change a device's SIP password. Raises TheirError 404."""
        device = self._known(device_id)
        return await self._change(replace(device, credentials=self._credentials(device.username, password)))

    async def set_capability(self, device_id: str, channel: str, value: bool | None) -> Device:
        """Say what a device can do; None takes the word back. Raises TheirError 404, or 400 for an unknown channel."""
        if channel not in CHANNELS:
            raise TheirError("A channel is chat, voice or video", 400)
        device = self._known(device_id)
        return await self._change(replace(device, override=_with(device.override, channel, value)))

    async def learn(self, device_id: str, learnt: Mapping[str, bool]) -> Device:
        """Note what a device said of itself; channels not named keep what was known. Raises TheirError 404."""
        device = self._known(device_id)
        merged = {**device.learnt, **learnt}
        if merged == device.learnt:
            return device
        return await self._change(replace(device, learnt=merged))

    def _known(self, device_id: str) -> Device:
        device = self._devices.get(device_id)
        if device is None:
            raise TheirError("There is no such device", 404)
        return device

    def _credentials(self, username: str, password: str) -> Credentials:
        return Credentials.of(username, self._realm, password)

    async def _change(self, device: Device) -> Device:
        # Memory first: two changes made at once must build on each other, and the store keeps their order.
        self._keep_device(device)
        await self._store.change_device(device)
        self._announce(device.agent_id)
        return device

    def _check(self, agent: Agent) -> None:
        before = self.ever(agent.id)
        if (before is None or before.login != agent.login) and self.login_taken(agent.login):
            raise TheirError(f"The login {agent.login} is taken", 409)
        if any(not 1 <= level <= 5 for level in agent.skills.values()):
            raise TheirError("A skill's level is a number from 1 to 5", 400)

    def _keep_agent(self, agent: Agent) -> None:
        self._by_name = None
        if agent.left_at is not None:
            self._left[agent.id] = agent
            return
        self._agents[agent.id] = agent
        self._by_login[agent.login] = agent

    def _forget_agent(self, agent: Agent) -> None:
        self._by_name = None
        self._left.pop(agent.id, None)
        if self._agents.pop(agent.id, None) is not None:
            self._by_login.pop(agent.login, None)

    def _forget_device(self, device: Device) -> None:
        self._devices.pop(device.id, None)
        self._by_username.pop(device.username, None)
        left = tuple(each for each in self._devices_of.get(device.agent_id, ()) if each != device.id)
        if left:
            self._devices_of[device.agent_id] = left
        else:
            self._devices_of.pop(device.agent_id, None)

    def _keep_device(self, device: Device) -> None:
        if device.id not in self._devices:
            self._devices_of[device.agent_id] = (*self._devices_of.get(device.agent_id, ()), device.id)
        self._devices[device.id] = device
        self._by_username[device.username] = device

    def _announce(self, agent_id: str) -> None:
        for listener in tuple(self.on_change):
            listener(agent_id)


def _with(known: Mapping[str, bool], channel: str, value: bool | None) -> dict[str, bool]:
    changed = {name: said for name, said in known.items() if name != channel}
    if value is not None:
        changed[channel] = value
    return changed
