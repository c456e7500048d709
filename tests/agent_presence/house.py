"""The parts of agent_presence, built on a database in memory and a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from twisted.internet.task import Clock

from agent_presence.agent_state import AgentStates
from agent_presence.location import Binding, Location
from agent_presence.push import Push
from agent_presence.push_contact import PushAddress, PushServices
from agent_presence.roster import Agent, Device, Roster
from agent_presence.store import PresenceStore
from config.database import Database
from config.events import Event, EventLog
from config.shared_state import InProcessState

START = 1_700_000_000.0
DOMAIN = "warmline.test"


class FakeGateway:
    """Remembers what it was asked for. `answer` is what it says: whether the phone is known, an error, or nothing."""

    def __init__(self) -> None:
        self.sent: list[tuple[PushAddress, str, float]] = []
        self.answer: bool | Exception | None = True
        self.closed = False

    async def send(self, to: PushAddress, why: str, good_for_s: float) -> bool:
        self.sent.append((to, why, good_for_s))
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            await asyncio.get_running_loop().create_future()
        return bool(self.answer)

    async def close(self) -> None:
        self.closed = True

    @property
    def reasons(self) -> list[str]:
        return [why for _, why, _ in self.sent]


class House:
    """Everything of one server; `again` is the same server after a crash. `providers` are its push services."""

    def __init__(
        self, database: Database | None = None, clock: Clock | None = None, providers: Iterable[str] = ()
    ) -> None:
        self.providers = tuple(providers)
        self.services = PushServices(self.providers)
        self.gateway = FakeGateway()
        self.clock = clock or Clock()
        self.database = database or Database.open("sqlite://")
        self.live_flows: set[str] = set()
        self.events = EventLog(self.database, self.now)
        self.told: list[Event] = []
        self.events.subscribe(self.told.append)
        self.store = PresenceStore(self.database)
        self.shared = InProcessState(self.clock)
        self.roster = Roster(self.store, realm="warmline")
        self.location = Location(
            self.store,
            self.events,
            self.roster,
            domain=DOMAIN,
            clock=self.clock,
            now=self.now,
            flow_alive=self.live_flows.__contains__,
            wakes=self.services.wake,
        )
        self.push = Push(
            self.gateway,
            self.services,
            self.location,
            self.roster,
            self.events,
            clock=self.clock,
            now=self.now,
            wait_s=8.0,
            spread=lambda least, most: most,
        )
        self.states = AgentStates(
            self.store, self.events, self.shared, self.roster, self.location, clock=self.clock, now=self.now
        )

    def now(self) -> float:
        return START + self.clock.seconds()

    async def open(self) -> House:
        await self.database.create_all()
        await self.roster.load()
        await self.location.load()
        self.push.start()
        await self.states.load()
        return self

    async def again(self) -> House:
        """What a crash leaves: the database as it is stored, and nothing of the memory."""
        await self.settle()
        self.states.stop()
        for call in tuple(self.clock.getDelayedCalls()):
            call.cancel()
        return await House(self.database, self.clock, self.providers).open()

    async def settle(self) -> None:
        """Wait until everything written so far is stored."""
        await self.database.write()

    async def hire(self, name: str = "ana", **skills: int) -> Agent:
        agent = await self.roster.add_agent(
            name.title(), name, "hash", skills=skills, agent_id=f"agent-{name}"
        )
        await self.roster.add_device(agent.id, "Phone", name, f"{name}-phone", device_id=f"device-{name}")
        return agent

    def device(self, name: str = "ana") -> Device:
        device = self.roster.device_by_username(name)
        assert device is not None
        return device

    async def bind(self, name: str = "ana", *, expires_s: float = 300.0, **changes: Any) -> Binding:
        aor = self.location.aor(name)
        binding = binding_of(
            aor=aor,
            expires_at=self.now() + expires_s,
            **{"registered_at": self.now(), "device_id": f"device-{name}", **changes},
        )
        await self.location.bind(aor, binding)
        return binding

    async def register(self, name: str = "ana", **changes: Any) -> Binding:
        """As `bind`, and its REGISTER is answered."""
        if changes.get("transport", "UDP") != "UDP":
            self.live_flows.add(changes["flow_token"])
        binding = await self.bind(name, **changes)
        self.push.registered(binding)
        return binding

    def close(self, token: str) -> None:
        """The connection ends."""
        self.live_flows.discard(token)
        self.location.flow_closed(token)

    def drop(self, name: str = "ana") -> None:
        aor = self.location.aor(name)
        for key in tuple(self.location.all_bindings(aor)):
            self.location.drop(aor, key, "unregistered")

    def advance(self, seconds: float) -> None:
        """Let time pass in steps of a second, as it does."""
        while seconds > 0:
            self.clock.advance(min(1.0, seconds))
            seconds -= 1.0

    def kinds(self, kind: str) -> list[Event]:
        return [event for event in self.told if event.kind == kind]


def binding_of(**changes: Any) -> Binding:
    values: dict[str, Any] = {
        "aor": f"sip:ana@{DOMAIN}",
        "key": "sip:ana@192.0.2.7:5062",
        "contact_uri": "sip:ana@192.0.2.7:5062",
        "flow_token": "udp:192.0.2.7:5062",
        "transport": "UDP",
        "source_ip": "192.0.2.7",
        "source_port": 5062,
        "expires_at": START + 300.0,
        "registered_at": START,
        "call_id": "call-1",
        "cseq": 1,
    }
    return Binding(**{**values, **changes})
