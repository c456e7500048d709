"""sipvicious, the scanner that every server on the Internet meets, against a running server.

It says who it is, and is not heard at all then; so here it calls itself a phone. It attacks from 127.0.0.2, the phones
are at 127.0.0.1, and the guard exempts neither.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from pathlib import Path

import pytest

from tests.peers.baresip import Baresip
from tests.peers.people import make_ready, phone, phone_hears
from tests.peers.process import Process, free_sip_port, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

ATTACKER = "127.0.0.2"
BOILER_NUMBER = "+15550200"
MARIA = "+15550100001"
# `friendly-scanner` is a default argument, the same function is used everywhere; a phone's name takes its place. The
# address to bind to that the tools are given, they forget; so every socket is bound to it here.
DISGUISED = """
import socket
import sys


class Bound(socket.socket):
    def bind(self, address):
        super().bind(("127.0.0.2", address[1]))


socket.socket = Bound
from sipvicious.libs import svhelper
name = sys.argv[1]
if name.startswith("-"):
    name = name[1:]
else:
    known = svhelper.makeRequest.__defaults__
    assert "friendly-scanner" in known
    svhelper.makeRequest.__defaults__ = tuple("Phone/1.0" if each == "friendly-scanner" else each for each in known)
import importlib
del sys.argv[1]
importlib.import_module("sipvicious." + name).main()
"""
KNOWN = ["ana", "bo", "carla", "deniz"]
UNKNOWN = ["anna", "bob", "carl", "dennis", "100", "101", "admin", "zz9plural"]


def scanner(server: Warmline, tool: str, *arguments: str) -> Process:
    """`tool` is svwar or svcrack; with a dash before it, undisguised."""
    return Process(
        f"scanner-{tool}-{free_sip_port()}",
        [
            sys.executable, "-c", DISGUISED, tool, "-b", ATTACKER, "-x", ATTACKER, "-P", str(free_sip_port()),
            *arguments, f"udp://127.0.0.1:{server.sip_port}",
        ],
        folder=server.folder,
        environment=server.environment,
    )  # fmt: skip


def answer_to(server: Warmline, method: str, name: str) -> str:
    """What a stranger is told about a name, without what is different each time and without the name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((ATTACKER, 0))
        stranger.settimeout(5)
        request = (
            f"{method} sip:{name}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {ATTACKER};branch=z9hG4bK-{name};rport\r\n"
            f"From: <sip:{name}@127.0.0.1>;tag=1\r\nTo: <sip:{name}@127.0.0.1>\r\nCall-ID: {name}-{method}\r\n"
            f"CSeq: 1 {method}\r\nContact: <sip:{name}@{ATTACKER}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
        stranger.sendto(request.encode(), ("127.0.0.1", server.sip_port))
        answer = stranger.recv(65_535).decode()
        port = stranger.getsockname()[1]
    answer = re.sub(r'(nonce="|;tag=|Session-ID: )[^";\r]*', r"\1", answer)
    answer = answer.replace(str(port), "port")
    return re.sub(
        rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", "name", answer
    )  # 100 stands in 100rel, bo in outbound


def dictionary(folder: Path, *words: str) -> str:
    path = folder / f"words-{len(words)}-{len(list(folder.glob('words-*')))}.txt"
    path.write_text("\n".join(words) + "\n")
    return str(path)


async def output_of(process: Process, seconds: float = 60) -> str:
    async with process:
        await process.wait(seconds)
    return process.output()


def commanded(server: Warmline, *arguments: str) -> Process:
    return Process(
        "-".join(arguments[:2]), [sys.executable, "-m", "pbx.cli", *arguments], folder=server.folder,
        environment=server.environment,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["REGISTER", "INVITE", "OPTIONS"])
async def test_svwar_tells_no_valid_extension_from_an_invalid_one(tmp_path: Path, method: str) -> None:
    async with Warmline(tmp_path, guard_exempt="") as server, phone(tmp_path, server, "ana"):
        words = dictionary(
            tmp_path, *[name for pair in zip(UNKNOWN, KNOWN * 2, strict=True) for name in pair]
        )
        said = await output_of(
            scanner(server, "svwar", "-m", method, "-d", words, "--force", "--maximumtime=3")
        )
        assert "Traceback" not in said, said
        rows = [
            line.split()[1] for line in said.splitlines() if line.startswith("| ") and "Extension" not in line
        ]
        assert set(rows) in (set(), {*KNOWN, *UNKNOWN}), said
        # The tool looks at first lines; a better one would look at everything.
        answers = {name: await asyncio.to_thread(answer_to, server, method, name) for name in KNOWN + UNKNOWN}
        assert len(set(answers.values())) == 1, answers
        assert not [row for row in server.events() if row["kind"] == "contact.requested"]


async def crack(server: Warmline, folder: Path, user: str, *words: str) -> str:
    # It gives up after a second of silence: the guard lets one guess through every other second.
    return await output_of(
        scanner(server, "svcrack", "-u", user, "-d", dictionary(folder, *words), "--maximumtime=1"), 90
    )


async def test_svcrack_finds_a_weak_password_where_nobody_stops_it(tmp_path: Path) -> None:
    """Else the test below would prove nothing."""
    async with Warmline(tmp_path, guard_exempt="127.0.0.0/8") as server:
        words = [f"wrong-{number}" for number in range(100)]
        assert "bo-phone" in await crack(server, tmp_path, "bo", *words, "bo-phone", *words[:20])


async def test_svcrack_guesses_nothing_and_phones_talk_meanwhile(tmp_path: Path) -> None:
    async with (
        Warmline(tmp_path, guard_exempt="") as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1") as ana,
    ):
        words = [f"wrong-{number}" for number in range(200)]
        attack = asyncio.create_task(crack(server, tmp_path, "ana", *words, "ana-phone", *words[:20]))
        other = asyncio.create_task(crack(server, tmp_path, "bo", *words, "bo-phone", *words[:20]))
        try:
            dropped = await server.event("guard.dropped", source=ATTACKER, seconds=30)
            assert dropped["facts"]["why"]["guessing"] > 0
            await talk(tmp_path, server, ana)
            # A phone that was not there before registers in the middle of it, under a name that is being guessed at.
            async with phone(tmp_path, server, "bo"):
                pass
            listed = await output_of(commanded(server, "guard"))
            assert ATTACKER in listed
            assert "guessing" in listed
            said = await asyncio.gather(attack, other)
        finally:
            attack.cancel()
            other.cancel()
        for text in said:
            assert "-phone" not in text.replace("sip-phone", ""), text
            assert "Traceback" not in text
        _, page = await server.get("/metrics")
        counted = {
            line.split(" ")[0]: float(line.split(" ")[1]) for line in page.splitlines() if line[0] != "#"
        }
        assert counted['warmline_guard_dropped_total{reason="guessing"}'] > 10
        assert f"from {ATTACKER}" in server.process.output()
        lines = [line for line in server.process.output().splitlines() if f"messages from {ATTACKER}" in line]
        assert len(lines) <= 4, "a line a minute, not one a message"
        forgiven = await output_of(commanded(server, "guard", "forgive", ATTACKER))
        assert f"{ATTACKER}: forgiven" in forgiven


async def talk(folder: Path, server: Warmline, ana: Baresip) -> None:
    await make_ready(server, ana)
    async with Sipp(
        folder,
        "caller_waits_for_bye",
        server_port=server.sip_port,
        port=server.trunk_port,
        keys={"number": BOILER_NUMBER, "caller": MARIA},
    ) as sipp:
        await ana.event("CALL_INCOMING")
        await ana.accept()
        await server.event("contact.connected")
        await until(lambda: phone_hears(ana, 880), "the echo of the agent's own tone")
        await ana.hang_up()
        await sipp.finished()


async def test_a_scanner_that_says_what_it_is_gets_no_answer(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server:
        said = await output_of(scanner(server, "-svwar", "-e", "100-105", "--maximumtime=2"))
        assert "401" not in said
        dropped = await server.event("guard.dropped", source=ATTACKER)
        assert set(dropped["facts"]["why"]) == {"scanner"}
