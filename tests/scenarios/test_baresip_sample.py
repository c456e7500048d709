"""docs/baresip.md is so: baresip, started with the files that stand there, registers, is rung and talks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.peers.baresip import Baresip
from tests.peers.people import make_ready, phone_hears
from tests.peers.process import free_range, free_sip_port, until
from tests.peers.sipp import Sipp
from tests.peers.warmline import ROOT, Warmline

PAGE = (ROOT / "docs" / "baresip.md").read_text("utf-8")
FILES = dict(re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
TONE = 880


class Sample(Baresip):
    """A phone with the files of the page. Ports and the certificate's place are the test's own. Sound card and terminal
    are not there: a tone and commands by TCP stand in for them."""

    def __init__(self, folder: Path, server: Warmline, account: str) -> None:
        tls = account == "sdes"
        sip_port, sips_port = free_sip_port(), int(str(server.settings["sips_port"]))
        super().__init__(
            folder, user="ana", password="ana-phone", domain="127.0.0.1", sip_port=sip_port,
            registrar_port=sips_port if tls else server.sip_port, transport="tls" if tls else "udp",
        )  # fmt: skip
        low, high = free_range(100)
        config, line = FILES["config"], FILES[account]
        for said, here in (
            ("127.0.0.1:5070", f"127.0.0.1:{sip_port}"),
            ("/etc/ssl/certs/warmline.pem", str(Path(str(server.settings["data"])) / "tls" / "ca.pem")),
            ("20000-20100", f"{low}-{high}"),
            (
                "module               stdio.so",
                f"module_app ctrl_tcp.so\nctrl_tcp_listen 127.0.0.1:{self._port}",
            ),
            (
                "module               alsa.so",
                "module ausine.so\nmodule aubridge.so\nmodule sndfile.so\nsnd_path .",
            ),
            (
                "audio_source         alsa,default",
                f"audio_source ausine,{TONE}\nausrc_srate 48000\nausrc_channels 2",
            ),
            (
                "audio_player         alsa,default",
                "audio_player aubridge,ana\nauplay_srate 48000\nauplay_channels 2",
            ),
            ("audio_alert          alsa,default", "audio_alert aubridge,ana"),
        ):
            assert config.count(said) == 1, said
            config = config.replace(said, here)
        door, port = ("127.0.0.1:5061", sips_port) if tls else ("127.0.0.1:5060", server.sip_port)
        assert line.count(door) == 1
        (self.folder / "config").write_text(config)
        (self.folder / "accounts").write_text(line.replace(door, f"127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("account", "speaks"),
    [("plain", "RTP/AVP"), ("dtls", "UDP/TLS/RTP/SAVP"), ("sdes", "RTP/SAVP")],
)
async def test_the_phone_of_the_page_registers_is_rung_and_talks(
    tmp_path: Path, account: str, speaks: str
) -> None:
    async with (
        Warmline(tmp_path, sips_port=free_sip_port()) as server,
        Sample(tmp_path, server, account) as ana,
    ):
        (binding,) = server.rows("SELECT * FROM binding")
        assert (binding["aor"], binding["transport"]) == (
            "sip:ana@127.0.0.1",
            "TLS" if account == "sdes" else "UDP",
        )
        await make_ready(server, ana)
        async with Sipp(
            tmp_path,
            "caller_waits_for_bye",
            server_port=server.sip_port,
            port=server.trunk_port,
            keys={"number": "+15550200", "caller": "+15550100001"},
        ) as sipp:
            await ana.event("CALL_INCOMING")
            await ana.accept()
            await server.event("contact.connected")
            answers = [
                message.body
                for message in ana.trace()
                if not message.received
                and message.start.startswith("SIP/2.0 200")
                and "m=audio" in message.body
            ]
            (media,) = re.findall(r"(?m)^m=audio \d+ (\S+)", answers[-1])
            assert media == speaks
            assert ("a=crypto:" in answers[-1], "a=fingerprint:" in answers[-1]) == (
                account == "sdes",
                account == "dtls",
            )
            await until(lambda: phone_hears(ana, TONE), "the caller's echo of the phone's own tone")
            await ana.hang_up()
            await sipp.finished()
        assert (await server.event("contact.ended"))["facts"]["disposition"] == "agent_hung_up"
    assert "could not load" not in ana.process.output().lower()
