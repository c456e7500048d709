"""Real roster, states and location over a store that forgets: two agents with phones, for tests of the pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from agent_presence.agent_state import AgentStates
from agent_presence.location import Binding, Location
from agent_presence.roster import Agent, Roster
from config.events import EventLog
from config.shared_state import InProcessState


def done(*_: Any, **__: Any) -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


class ForgetfulStore:
    """Takes every write and keeps nothing."""

    def __getattr__(self, name: str) -> Any:
        return done


class ForgetfulDatabase:
    write = staticmethod(done)


class People:
    """Ana (one softphone) and Bo (one softphone)."""

    def __init__(self, clock: Clock, now: Callable[[], float]) -> None:
        self.now = now
        store: Any = ForgetfulStore()
        self.events = EventLog(ForgetfulDatabase(), now)  # type: ignore[arg-type]
        self.roster = Roster(store, realm="warmline")
        self.location = Location(
            store,
            self.events,
            self.roster,
            domain="help.example",
            clock=clock,
            now=now,
            flow_alive=lambda token: True,
        )
        self.states = AgentStates(
            store, self.events, InProcessState(clock), self.roster, self.location, clock=clock, now=now
        )

    async def hire(self) -> None:
        for login, name, skills in (
            ("ana", "Ana Sousa", {"heating": 4, "boiler-hydraulics": 5}),
            ("bo", "Bo Lind", {"wifi-pairing": 3}),
        ):
            agent: Agent = await self.roster.add_agent(
                name, login, f"hash of {login}-agent", skills=skills, agent_id=login
            )
            await self.roster.add_device(
                agent.id, f"{name.split()[0]}’s softphone", login, "old", device_id=f"d_{login}"
            )

    def register(self, username: str, **changes: Any) -> Binding:
        aor = self.location.aor(username)
        known: dict[str, Any] = {
            "aor": aor,
            "key": "one",
            "contact_uri": f"sip:{username}@192.0.2.9:5062",
            "flow_token": "t",
            "transport": "UDP",
            "source_ip": "192.0.2.9",
            "source_port": 5062,
            "expires_at": self.now() + 3600,
            "registered_at": self.now(),
            "call_id": "x",
            "cseq": 1,
            "user_agent": "baresip v1.0.0",
            "device_id": f"d_{username}",
            **changes,
        }
        binding = Binding(**known)
        self.location.bind(aor, binding)
        return binding

    def unregister(self, username: str) -> None:
        self.location.drop(self.location.aor(username), "one", "unregistered")
