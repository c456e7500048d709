"""A carrier that wants a REGISTER: a second server, where ours is the phone of an agent.

What is called there comes down to ours as a call from the trunk; what ours calls there goes out with its password.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.peers.pjsua import Pjsua
from tests.peers.process import until
from tests.peers.warmline import Warmline


@asynccontextmanager
async def both(
    folder: Path, transport: str, password: str = "ana-phone"
) -> AsyncIterator[tuple[Warmline, Warmline]]:
    """The carrier, and ours, which is registered there as Ana's phone."""
    carrier = Warmline(folder / "carrier", trunks="[]")
    trunk: dict[str, Any] = {
        "name": "registering", "via": f"127.0.0.1:{carrier.sip_port};transport={transport}", "register": True,
        "register_as": "sip:ana@127.0.0.1", "register_s": 60, "username": "ana", "password": password,
        "extensions": True, "options_s": 5, "dial": ["+49"],
    }  # fmt: skip
    async with carrier, Warmline(folder / "ours", trunks=json.dumps([trunk])) as ours:
        yield carrier, ours


def phone(folder: Path, server: Warmline, user: str, tone: int) -> Pjsua:
    return Pjsua(
        folder,
        user=user,
        password=f"{user}-phone",
        domain="127.0.0.1",
        registrar_port=server.sip_port,
        tone=tone,
    )


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_call_to_our_account_comes_down_as_the_trunks(tmp_path: Path, transport: str) -> None:
    """Deniz, with the carrier, calls the account; ours rings its own Ana, whom the account is named after."""
    async with AsyncExitStack() as opened:
        carrier, ours = await opened.enter_async_context(both(tmp_path, transport))
        registered = await ours.event("trunk.registered", trunk="registering")
        assert registered["facts"]["expires_s"] == 60
        caller = await opened.enter_async_context(phone(tmp_path / "deniz", carrier, "deniz", 440))
        agent = await opened.enter_async_context(phone(tmp_path / "ana", ours, "ana", 880))
        call = await caller.dial("ana")
        incoming = (await agent.event("incoming"))["call"]
        await agent.do("answer", call=incoming)
        await caller.event("call", call=call, state="CONFIRMED")
        await until(lambda: caller.hears_tone(call, 880), "the agent's tone at the carrier's phone")
        await until(lambda: agent.hears_tone(incoming, 440), "the caller's tone at the agent's phone")
        assert (await ours.event("call.started"))["facts"]["trunk"] == "registering"
        await caller.do("hang_up", call=call)
        await ours.event("call.ended")
        # A call out goes with the account's password: the carrier knows who asks, and what it says is about the number.
        await agent.dial("+4930123456")
        refused = await carrier.event("call.refused")
        assert (refused["facts"]["status"], refused["facts"]["reason"]) == (403, "No Trunk For That Number")
        assert refused["facts"]["from_"] == "sip:ana@127.0.0.1"


async def test_it_is_taken_back_when_the_server_stops(tmp_path: Path) -> None:
    async with AsyncExitStack() as opened:
        carrier, ours = await opened.enter_async_context(both(tmp_path, "tcp"))
        await ours.event("trunk.registered")
        assert await until(lambda: bindings(carrier), "the binding at the carrier")
        await ours.process.stop(seconds=10)
        await until(lambda: not bindings(carrier), "the binding to be gone")


async def test_a_wrong_password_is_told(tmp_path: Path) -> None:
    async with both(tmp_path, "udp", "wrong") as (carrier, ours):
        failed = await ours.event("trunk.registration_failed", trunk="registering")
        assert failed["facts"]["status"] in (401, 403)
        assert failed["facts"]["again_s"] >= 900
        assert not bindings(carrier)


def bindings(server: Warmline) -> list[dict[str, Any]]:
    try:
        return server.rows("SELECT * FROM binding")
    except sqlite3.OperationalError:
        return []
