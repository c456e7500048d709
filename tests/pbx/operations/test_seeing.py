from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.task import Clock

from config.database import Database
from config.events import EventLog
from config.settings import Settings
from config.trunk_settings import TrunkSettings
from pbx.operations.seeing import Parts, Seeing
from sip_trunk.flow import Flow
from sip_trunk.guard import Guard, Rates
from sip_trunk.sip.message import Request
from sip_trunk.trunk import TrunkTable

STRANGER = Flow("UDP", ("192.0.2.66", 5060), "s")


class House:
    """Real guard, trunks, events and settings; the rest is not asked for anything here."""

    def __init__(self, tmp_path: Path, database: Database, **settings: str) -> None:
        self.events = EventLog(database, lambda: 1000.0)
        self.clock = Clock()
        self.guard = Guard(lambda: 1000.0, rates=Rates(dialled=0.0, dialled_at_once=3.0), exempt=[])
        self.wires: list[Any] = []
        transports = SimpleNamespace(
            wires=self.wires, on_bad=None, via=lambda flow: (flow.transport, "sip.example.org", 5061)
        )
        parts = cast(Any, SimpleNamespace)(
            transports=transports, guard=self.guard, events=self.events, database=database, user_agent=None,
            trunks=TrunkTable([TrunkSettings("carrier", ("192.0.2.1:5060",))]), media=None, roster=None,
            location=None, states=None, contacts=None,
        )  # fmt: skip
        loaded = Settings.load({"WARMLINE_DATA": str(tmp_path), **settings})
        self.seeing = Seeing(loaded, cast(Parts, parts), self.clock, lambda: 1000.0)

    def dials(self) -> bool:
        return self.guard.allow(STRANGER, Request("INVITE", "sip:+1900@h", [("To", "<sip:+1900@h>")]), 1000.0)


async def test_strangers_who_try_numbers_are_told_to_the_guard(tmp_path: Path, database: Database) -> None:
    await database.create_all()
    house = House(tmp_path, database)
    for _ in range(3):
        assert house.dials()
        house.events.write("call.refused", status=403, reason="No", peer=STRANGER.peer[0])
    assert not house.dials()
    house.clock.advance(1)
    found = [event for event in await house.events.read() if event.kind == "guard.dropped"]
    await database.create_all()
    assert house.guard.dropped["toll fraud"] == 1
    assert len(found) <= 1


async def test_those_whom_we_know_are_not(tmp_path: Path, database: Database) -> None:
    await database.create_all()
    house = House(tmp_path, database)
    peer = STRANGER.peer[0]
    for _ in range(5):
        house.events.write("call.refused", status=404, peer=peer, agent="agent-ana")
        house.events.write("call.refused", status=404, peer=peer, trunk="carrier")
        house.events.write("call.refused", status=403, peer=peer, customer="maria")
        house.events.write("call.refused", status=488, peer=peer)
        house.events.write("call.refused", status=410, peer=peer, contact="c_1")
    assert house.dials()


async def test_copies_go_to_a_capture_server_that_is_named(tmp_path: Path, database: Database) -> None:
    await database.create_all()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as capture:
        capture.bind(("127.0.0.1", 0))
        capture.settimeout(5)
        port = capture.getsockname()[1]
        house = House(tmp_path, database, WARMLINE_HEP=f"127.0.0.1:{port}", WARMLINE_HOST="198.51.100.1")
        await house.seeing.start()
        opening = house.seeing._opening
        assert opening is not None
        await asyncio.wait_for(opening, 5)
        for wire in house.wires:
            wire(True, STRANGER, b"OPTIONS sip:h SIP/2.0\r\n\r\n")
        data = capture.recv(65_535)
        assert b"OPTIONS sip:h SIP/2.0" in data
        assert socket.inet_aton("198.51.100.1") in data, "where our name is none, the address we listen on"
        assert b'warmline_sip_requests_total{direction="out",transport="UDP",method="OPTIONS"} 1' in (
            house.seeing.metrics.page().encode()
        )
        await house.seeing.stop()
    assert not (tmp_path / "trace.sock").exists()
