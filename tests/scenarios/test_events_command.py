"""The `warmline` command, as an operator types it: the event log, the settings, and why a server does not start."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from tests.peers.people import BOILER_ARTICLE, Reader, make_ready, phone
from tests.peers.process import Process, until
from tests.peers.warmline import Warmline

STORY = [
    "contact.requested",
    "contact.skills_inferred",
    "contact.reserved",
    "contact.prompted",
    "contact.accepted",
    "contact.connected",
    "contact.ended",
]


def command(server: Warmline, name: str, *arguments: str, **settings: object) -> Process:
    """`warmline` with the server's own settings, but for those given here."""
    environment = server.environment | {
        f"WARMLINE_{key.upper()}": str(value) for key, value in settings.items()
    }
    return Process(
        name, [sys.executable, "-m", "pbx.cli", *arguments], folder=server.folder, environment=environment
    )


async def said_by(process: Process, status: int = 0) -> str:
    async with process:
        assert await process.wait(20) == status, process.output()
    return process.output()


def kinds(lines: str) -> list[str]:
    return [json.loads(line)["kind"] for line in lines.splitlines()]


async def test_the_event_log_tells_the_story_of_a_contact_and_follows_it(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana") as ana:
        await make_ready(server, ana)
        async with (
            Reader(tmp_path, server, BOILER_ARTICLE) as maria,
            command(server, "follow", "events", "--follow", "--json") as following,
        ):
            await until(lambda: "visit.page_viewed" in following.output(), "the follower to have caught up")
            before = time.time()
            await maria.ask_for("chat")
            await ana.event("CALL_INCOMING")
            # While it rings, the follower has said so, and knows nothing yet of what comes after.
            await until(lambda: "contact.prompted" in kinds(following.output()), "the prompt, as it happens")
            assert "contact.accepted" not in kinds(following.output())
            await ana.accept()
            await until(
                lambda: "contact.connected" in kinds(following.output()), "the joining, as it happens"
            )
            await maria.hang_up()
            await until(lambda: "contact.ended" in kinds(following.output()), "the end, as it happens")

        contact = (await server.event("contact.ended"))["contact_id"]
        lines = await said_by(command(server, "story", "events", "--json", "--contact", contact))
        told = [json.loads(line) for line in lines.splitlines()]
        assert {event["contact"] for event in told} == {contact}
        assert [event["kind"] for event in told if event["kind"] in STORY] == STORY
        times = [event["at"] for event in told]
        assert times == sorted(times)
        assert before - 1 < times[0] < times[-1] < time.time()
        assert len({event["seq"] for event in told}) == len(told)

        facts = {event["kind"]: event["facts"] for event in told}
        agents = {event["kind"]: event["agent"] for event in told}
        assert facts["contact.requested"]["product"] == "boiler-200"
        reasons = [
            reason for skill in facts["contact.skills_inferred"]["skills"] for reason in skill["reasons"]
        ]
        assert any("Pressure keeps dropping" in reason for reason in reasons), reasons
        assert agents["contact.reserved"] == agents["contact.accepted"] == "agent-ana"
        assert facts["contact.ended"]["disposition"] == "customer_hung_up"
        assert facts["contact.ended"]["whose"] == "customer"

        plain = await said_by(command(server, "plain", "events", "--contact", contact))
        assert len(plain.splitlines()) == len(told) + 1, "a line each, under that of the day"
        for word in ("contact.connected", "agent-ana", "disposition=customer_hung_up"):
            assert word in plain
        async with command(server, "nobody", "events", "--contact", "c_none") as nobody:
            assert await nobody.wait(20) == 1
        assert "there is no contact c_none" in nobody.output()
        for kept in Path(str(server.settings["data"])).glob("warmline.sqlite3*"):
            assert not kept.stat().st_mode & 0o077, f"{kept.name} can be read by every user of the machine"


async def test_the_settings_say_what_is_set_and_what_it_means(tmp_path: Path) -> None:
    server = Warmline(
        tmp_path, ring_s=7, push_gateway_url="https://push.example/", push_gateway_token="not-for-eyes"
    )
    said = await said_by(command(server, "settings", "settings"))
    assert "not-for-eyes" not in said
    lines = {line.split()[0]: line for line in said.splitlines()}
    assert str(server.http_port) in lines["WARMLINE_HTTP_PORT"]
    assert "[default 8080]" in lines["WARMLINE_HTTP_PORT"]
    assert "7" in lines["WARMLINE_RING_S"]
    assert "seconds an agent's phone rings" in lines["WARMLINE_RING_S"]
    assert "apns, apns.dev, fcm" in lines["WARMLINE_PUSH_PROVIDERS"]
    for name in ("DATA", "HOST", "HTTPS_PORT", "SIP_PORT", "RTP_PORTS", "ROBOT_AGENT"):
        assert f"WARMLINE_{name}" in lines


async def test_wrong_settings_are_told_all_at_once(tmp_path: Path) -> None:
    server = Warmline(tmp_path)
    said = await said_by(
        command(server, "wrong", "serve", http_port="eighty", rtp_ports="9", robot_agnt="off"), status=2
    )
    assert "Traceback" not in said
    assert "WARMLINE_HTTP_PORT: 'eighty' should be a whole number" in said
    assert "WARMLINE_RTP_PORTS: '9' should be two ports" in said
    assert "WARMLINE_ROBOT_AGNT is no setting; did you mean WARMLINE_ROBOT_AGENT?" in said
    assert not (server.folder / "data").exists(), "nothing was begun"


async def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server:

        async def tries_to_start(taken: str) -> None:
            port = getattr(server, taken)
            second = Warmline(tmp_path / taken, **{taken: port})
            async with second.process as process:
                assert await process.wait(60) == 1, process.output()
            said = process.output()
            complaints = [line for line in said.splitlines() if line.startswith("warmline: ")]
            assert len(complaints) == 1, said
            assert str(port) in complaints[0]
            assert "another server" in complaints[0]
            assert "Traceback" not in said
            assert "Warmline is up" not in said

        await asyncio.gather(*(tries_to_start(taken) for taken in ("http_port", "https_port", "sip_port")))
        assert (await server.get("/login"))[0] == 200, "the first one goes on undisturbed"
