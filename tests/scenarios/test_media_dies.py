"""The media process is killed while somebody talks and somebody waits."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

from tests.peers.people import make_ready, phone, phone_hears
from tests.peers.process import free_sip_port, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline

BOILER_NUMBER = "+15550200"


def media_processes(server: Warmline) -> list[int]:
    """The server's children that carry media."""
    parent = server.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children if b"-m\0media\0" in Path(f"/proc/{child}/cmdline").read_bytes()]


def taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


async def test_calls_end_with_a_clear_word_and_new_ones_work_a_few_seconds_later(tmp_path: Path) -> None:
    ports = [free_sip_port(), free_sip_port()]
    trunks = json.dumps([{"name": "carrier", "peers": [f"127.0.0.1:{port}" for port in ports]}])

    def caller(name: str, port: int, number: str) -> Sipp:
        return Sipp(
            tmp_path / name,
            "caller_waits_for_bye",
            server_port=server.sip_port,
            port=port,
            keys={"number": BOILER_NUMBER, "caller": number},
        )

    async with (
        Warmline(tmp_path, trunks=trunks, wrap_up_s=1) as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1") as ana,
    ):
        await make_ready(server, ana)
        async with caller("talking", ports[0], "+15550100001") as talking:
            await ana.event("CALL_INCOMING")
            await ana.accept()
            connected = await server.event("contact.connected")
            async with caller("waiting", ports[1], "+15550100002") as waiting:
                await server.event("contact.queued", count=2)
                (killed,) = media_processes(server)
                os.kill(killed, signal.SIGKILL)
                await talking.finished(5)
                await waiting.finished(5)
        await server.event("contact.ended", count=2, disposition="media_failed", whose="server", seconds=2)
        await ana.event("CALL_CLOSED", count=2, seconds=2)
        await server.agent_is("agent-ana", "WrapUp", "Ready", seconds=1)
        ended = {row["contact_id"] for row in server.events() if row["kind"] == "contact.ended"}
        assert connected["contact_id"] in ended
        await server.agent_is("agent-ana", "Ready", seconds=5)
        await until(lambda: media_processes(server) not in ([], [killed]), "another media process", seconds=5)
        first_port = int(str(server.settings["rtp_ports"]).partition("-")[0])
        await until(lambda: taken(first_port), "its port for browsers", seconds=5)
        async with caller("again", ports[0], "+15550100001") as again:
            await ana.event("CALL_INCOMING", count=2)
            await ana.accept()
            await server.event("contact.connected", count=2)
            await until(lambda: phone_hears(ana, 880), "the echo of the agent's own tone")
            await ana.hang_up()
            await again.finished()
