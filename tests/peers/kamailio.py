"""Kamailio 5.6 as an edge before the server: a proxy that records its route, and its Path on a REGISTER (RFC 3327)."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Self

from config.certificates import server_certificate
from tests.peers.process import PeerFailed, Process, free_port, free_sip_port, until

# Everything new goes to the server, but for what the server itself sends out through us: by the Path of a phone's
# registration, or to a number of the phone network.
CONFIG = """
debug=2
log_stderror=yes
fork=yes
children=1
tcp_children=1
tcp_connection_lifetime=600
tcp_rd_buf_size=65535
tcp_source_ipv4={host}
auto_aliases=no
enable_tls=yes
disable_core_dump=yes
server_signature=no
listen=udp:{host}:{port}
listen=tcp:{host}:{port}
listen=tls:{host}:{tls_port}

loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "path.so"
loadmodule "tls.so"

modparam("tm", "fr_timer", 5000)
modparam("tm", "fr_inv_timer", 120000)
modparam("rr", "enable_double_rr", 2)
modparam("rr", "append_fromtag", 0)
modparam("path", "use_received", 1)
modparam("path", "received_format", 0)
modparam("tls", "config", "{folder}/tls.cfg")

request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{
            if (is_method("NOTIFY|INVITE|UPDATE")) record_route();
            t_relay();
        }} else if (is_method("ACK") && t_check_trans()) t_relay();
        else if (!is_method("ACK")) sl_send_reply("404", "Not Here");
        exit;
    }}
    t_check_trans();
    # Takes our own Route away; only a Path of ours in it names where to, in its parameter `received`.
    loose_route();
    if (is_method("INVITE|SUBSCRIBE|REFER")) record_route();
    if ($du != $null) {{ t_relay(); exit; }}
    if (is_method("OPTIONS") && uri == myself && $rU == $null) {{ sl_send_reply("200", "OK"); exit; }}
    if (is_method("REGISTER")) add_path_received();
    if ($rU =~ "{network_numbers}") $du = "sip:{network}";
    else $du = "sip:{server}";
    t_relay();
}}
"""
TLS = """
[server:default]
method = TLSv1.2+
certificate = {own.certificate}
private_key = {own.private_key}
[client:default]
method = TLSv1.2+
verify_certificate = yes
require_certificate = yes
ca_list = {authority}
"""


class Kamailio:
    """A proxy at `host`:`port` (UDP, TCP) and `tls_port`, before the server.

    `server` is the server as host:port[;transport=…]. Requests for numbers that match the pattern `network_numbers` go
    to `network` instead. `authority` is what its server's certificate is checked with; `own_authority` is what its
    own is. Another address of 127/8 as `host` is of use where all its ports have to be told from everybody else's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        server: str,
        authority: Path,
        host: str = "127.0.0.1",
        network: str = "127.0.0.1:9",
        network_numbers: str = "^none$",
    ) -> None:
        self.port = free_sip_port()
        self.tls_port = free_port()
        self.host = host
        self.folder = folder / f"kamailio-{self.port}"
        self.folder.mkdir(parents=True)
        own = server_certificate(self.folder / "own", [host], time.time())
        self.own_authority = own.authority
        (self.folder / "tls.cfg").write_text(TLS.format(own=own, authority=authority))
        (self.folder / "kamailio.cfg").write_text(
            CONFIG.format(
                host=host,
                port=self.port,
                tls_port=self.tls_port,
                folder=self.folder,
                server=server,
                network=network,
                network_numbers=network_numbers,
            )
        )
        self.process = Process(
            "kamailio",
            # In the foreground, with the memory a test needs: shared, and of each process (MiB).
            [
                "kamailio", "-DD", "-E", "-f", str(self.folder / "kamailio.cfg"), "-m", "32", "-M", "4",
                "-Y", str(self.folder), "-w", str(self.folder),
            ],
            folder=self.folder,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        await self.process.start()
        try:
            await until(self._up, "Kamailio to answer OPTIONS")
        except BaseException:
            await self.process.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()

    def port_of(self, transport: str) -> int:
        return self.tls_port if transport == "tls" else self.port

    def _up(self) -> bool:
        if not self.process.running:
            raise PeerFailed(f"Kamailio ended:\n{self.process.output()[-3000:]}")
        return _answers(self.host, self.port)


def _answers(host: str, port: int) -> bool:
    """Whether somebody answers to OPTIONS there within a fifth of a second."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind((host, 0))
        asking.settimeout(0.2)
        here = f"{host}:{asking.getsockname()[1]}"
        lines = (
            f"OPTIONS sip:{host}:{port} SIP/2.0",
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{time.monotonic_ns()};rport",
            f"From: <sip:test@{here}>;tag=1",
            f"To: <sip:{host}:{port}>",
            f"Call-ID: {time.monotonic_ns()}",
            "CSeq: 1 OPTIONS",
            "Max-Forwards: 70",
            "Content-Length: 0",
            "",
            "",
        )
        try:
            asking.sendto("\r\n".join(lines).encode(), (host, port))
            return asking.recv(2000).startswith(b"SIP/2.0 200")
        except OSError:
            return False
