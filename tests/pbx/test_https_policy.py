"""Requests of ours by HTTPS go to the server whose certificate is for the name meant, and to nobody else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from twisted.web.resource import Resource
from twisted.web.server import Site

from agent_presence.push_contact import PushAddress
from agent_presence.push_gateway import PushGateway
from config.bridge import as_future
from config.certificates import server_certificate
from config.errors import OurError
from pbx.tls import context_factory, https_policy

PHONE = PushAddress("fcm", "5ecret")


class Door(Resource):
    isLeaf = True
    asked = 0

    def render_POST(self, request: Any) -> bytes:
        self.asked += 1
        return b""


@pytest.mark.parametrize(
    ("host", "trusted", "believed"),
    [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("127.0.0.2", True, False)],
)
async def test_a_push_is_for_the_gateway_alone(
    tmp_path: Path, host: str, trusted: bool, believed: bool
) -> None:
    from twisted.internet import reactor

    net: Any = reactor
    certificate = server_certificate(tmp_path, [], time.time())
    door = Door()  # type: ignore[no-untyped-call]
    port = net.listenSSL(0, Site(door), context_factory(certificate), interface=host)
    authority = str(certificate.authority) if trusted else ""
    url = f"https://{host}:{port.getHost().port}/"
    gateway = PushGateway(url, "t0ken", reactor, tls=https_policy(authority))
    try:
        if believed:
            assert await gateway.send(PHONE, "call", 8.0)
        else:
            with pytest.raises(OurError, match="did not answer"):
                await gateway.send(PHONE, "call", 8.0)
        assert door.asked == believed
    finally:
        await gateway.close()
        await as_future(port.stopListening())
