"""What whoever runs the server sees of a call: `warmline sip trace`, copies by HEP, `/metrics`."""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path

from tests.peers.baresip import Baresip
from tests.peers.people import make_ready, phone
from tests.peers.process import Process, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline
from tests.scenarios.test_events_command import command, said_by

BOILER_NUMBER = "+15550200"
MARIA = "+15550100001"


async def call_from_maria(folder: Path, server: Warmline, ana: Baresip) -> str:
    """A whole call; the contact it was."""
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
        await ana.hang_up()
        await sipp.finished()
    return str((await server.event("contact.ended"))["contact_id"])


def proofs(ana: Baresip) -> set[str]:
    return {
        found[1]
        for message in ana.trace()
        for found in re.finditer(r'(?:response|cnonce|nonce)="([^"]+)"', message.head)
    }


def trace(server: Warmline, name: str, *arguments: str) -> Process:
    return command(server, name, "sip", "trace", *arguments)


async def test_a_call_is_drawn_as_it_happens_with_all_its_legs_and_no_secret(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server:
        async with (
            trace(server, "live", "--raw") as live,
            trace(server, "registering", "--user", "ana") as registering,
            trace(server, "ringing", "--number", MARIA) as ringing,
        ):
            await until(
                lambda: server.process.running and all(each.running for each in (live, registering, ringing)),
                "those who look on",
            )
            # A phone registers again and again; what the first trace shows before it is there does not matter.
            async with phone(tmp_path, server, "ana") as ana:
                contact = await call_from_maria(tmp_path, server, ana)
                secrets = proofs(ana)
                await until(lambda: "BYE" in ringing.output(), "the end of the call in the trace by number")
                prompts = {message.header("Call-ID") for message in ana.invites()}
            await until(lambda: "200 OK (BYE)" in live.output(), "the end of the call in the trace")
        assert secrets
        for process in (live, registering, ringing):
            assert not [secret for secret in secrets if secret in process.output()]
            assert "\x1b" not in process.output(), "no terminal, no colours"
        for word in (
            "trunk carrier",
            "phone ana",
            "Warmline",
            "180 Ringing (INVITE)",
            "m=audio",
            'username="ana"',
        ):
            assert word in live.output(), word
        assert "REGISTER" in registering.output()
        assert "REGISTER" not in ringing.output()
        assert BOILER_NUMBER in ringing.output()

        drawn = await said_by(trace(server, "contact", "--contact", contact, "--since", "1m", "--no-follow"))
        caller = next(row["facts"] for row in server.events(contact) if row["kind"] == "contact.invited")[
            "call_id"
        ]
        (prompt,) = prompts
        for call_id in (caller, prompt):
            assert call_id in drawn
        assert "REGISTER" not in drawn
        assert "trunk carrier" in drawn
        assert "phone ana" in drawn

        one = await said_by(trace(server, "one", "--call", prompt, "--since", "1m", "--no-follow"))
        assert "180 Ringing (INVITE)" in one
        assert "REGISTER" not in one
        nobody = await said_by(trace(server, "nobody", "--user", "nobody", "--since", "1m", "--no-follow"))
        assert not nobody.strip()


async def test_what_a_stranger_sends_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for line in (
                b"OPTIONS sip:\x1b[2J@127.0.0.1 SIP/2.0",
                b"\x1b]0;owned\x07 \x9b31m SIP/2.0",
                b"\x00\xff\xfe",
            ):
                data = (
                    line
                    + b"\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\x1b[1m\r\nFrom: <sip:\x1b[5mx@h>;tag=1\r\n"
                    b"To: <sip:y@h>\r\nCall-ID: \x1b[31m\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\r\n\x1bc"
                )
                stranger.sendto(data, ("127.0.0.1", server.sip_port))

        async def all_drawn() -> str | None:
            said = await said_by(trace(server, "hostile", "--raw", "--since", "1m", "--no-follow"))
            return said if said.count("\\x1bc") >= 3 else None

        said = await until(all_drawn, "the stranger's messages in the trace")
        assert all(c.isprintable() or c == "\n" for c in said)
        assert "\x1b" not in server.process.output()


async def test_no_server_is_said_in_one_line(tmp_path: Path) -> None:
    server = Warmline(tmp_path)
    for arguments in (("sip", "trace"), ("guard",)):
        said = await said_by(command(server, f"none-{arguments[0]}", *arguments), status=1)
        assert said.splitlines() == [
            f"warmline: no server is running with the data folder {server.settings['data']}"
        ]


async def test_a_capture_server_gets_every_message_and_prometheus_its_numbers(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as capture:
        capture.bind(("127.0.0.1", 0))
        capture.setblocking(False)
        packets: list[dict[int, bytes]] = []

        def heard(*starts: bytes) -> bool:
            while True:
                try:
                    packets.append(chunks(capture.recv(65_535)))
                except BlockingIOError:
                    break
            return all(any(each[0x0F].startswith(start) for each in packets) for start in starts)

        port = capture.getsockname()[1]
        async with (
            Warmline(tmp_path, hep=f"127.0.0.1:{port}", hep_id=42, hep_password="kapture") as server,
            phone(tmp_path, server, "ana") as ana,
        ):
            await until(lambda: heard(b"REGISTER ", b"SIP/2.0 401", b"SIP/2.0 200"), "a registration by HEP")
            for packet in packets:
                assert packet[0x0C] == struct.pack(">I", 42)
                assert packet[0x0E] == b"kapture"
                assert {packet[7], packet[8]} & {struct.pack(">H", server.sip_port)}
                assert packet[3] == packet[4] == socket.inet_aton("127.0.0.1")
            whole = b"".join(packet[0x0F] for packet in packets)
            assert b'username="ana"' in whole
            assert not [secret for secret in proofs(ana) if secret.encode() in whole]
            status, page = await server.get("/metrics")
            assert status == 200
            for line in (
                'warmline_sip_requests_total{direction="in",transport="UDP",method="REGISTER"} 2',
                'warmline_sip_responses_total{direction="out",transport="UDP",status="4xx"} 1',
                'warmline_bindings{transport="UDP"} 1',
                'warmline_agents{state="NotReady"} 1',
                'warmline_contacts{channel="voice",state="waiting"} 0',
                "warmline_media_up 1",
                "warmline_hep_lost_total 0",
            ):
                assert f"\n{line}\n" in page, page


def chunks(data: bytes) -> dict[int, bytes]:
    assert data[:4] == b"HEP3"
    assert struct.unpack(">H", data[4:6]) == (len(data),)
    found: dict[int, bytes] = {}
    at = 6
    while at < len(data):
        _, kind, length = struct.unpack(">HHH", data[at : at + 6])
        found[kind] = data[at + 6 : at + length]
        at += length
    return found
