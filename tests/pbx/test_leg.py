"""What a leg does by itself, whatever its other side is doing."""

from __future__ import annotations

from typing import Any

import pytest

from media.server import Profile
from pbx.leg import Leg
from sip_trunk.call_events import InDialog
from sip_trunk.sip.message import Request
from tests.pbx.centre import FakeFlow, FakeMedia, Ringing


class Pressed:
    """An INFO inside the call."""

    def __init__(self, body: bytes, kind: str) -> None:
        self.message = Request("INFO", "sip:leg@warmline.test", (), body, kind)
        self.status: int | None = None

    def respond(self, status: int, reason: str | None = None, **more: Any) -> None:
        self.status = status


def leg() -> tuple[Leg, Ringing]:
    call = Ringing(
        1, type("T", (), {"flow": FakeFlow("UDP", ("192.0.2.7", 5062), "udp")})(), "", {"on_event": None}
    )
    call.answered = True
    return Leg(call, FakeMedia(), "c1", "agent-1", profile=Profile.RTP), call  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "kind", "status", "keys"),
    [
        (b"Signal=5\r\nDuration=160\r\n", "application/dtmf-relay", 200, ["5"]),
        (b"#", "application/dtmf", 200, ["#"]),
        (b"Signal=anything", "application/dtmf-relay", 400, []),
        (b"", "application/dtmf", 400, []),
        (b"<media_control/>", "application/media_control+xml", 200, []),
    ],
)
async def test_keys_in_info(body: bytes, kind: str, status: int, keys: list[str]) -> None:
    there, call = leg()
    heard: list[str] = []
    there.on_keys = heard.append
    info: Any = Pressed(body, kind)
    call.tell(InDialog(info))
    assert info.status == status
    assert heard == keys


async def test_keys_nobody_waits_for_are_taken_all_the_same() -> None:
    _, call = leg()
    info: Any = Pressed(b"5", "application/dtmf")
    call.tell(InDialog(info))
    assert info.status == 200


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("transferred", 'SIP;cause=200;text="transferred"'),
        ('Q.850;cause=16;text="Normal"', 'Q.850;cause=16;text="Normal"'),
        ("SIP ;cause=200", "SIP ;cause=200"),
        ("SIP;cause=x", 'SIP;cause=200;text="SIP;cause=x"'),
    ],
)
async def test_a_reason_is_passed_on_as_it_is(reason: str, sent: str) -> None:
    there, call = leg()
    there.end(reason)
    assert call.reason == sent
