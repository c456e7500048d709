"""What media makes of a session description: read, agreed on, answered, offered on, transcoded or not.

python -m tests.fuzz media_descriptions CORPUS
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from config.errors import TheirError
from media import offer_answer, sdes, sdp
from media.offer_answer import Line, Local
from media.plain import PortRange
from media.sdp import Origin
from media.server import ALL_KINDS, Profile
from tests.media.descriptions import BARESIP_ANSWER, CHROMIUM, FINGERPRINT, SIPP, plain

T = TypeVar("T")
_CRYPTO = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + b"A" * 40 + b"|2^31 WSH=64\r\n"
_DTLS = b"a=fingerprint:sha-256 " + FINGERPRINT.encode() + b"\r\na=setup:actpass\r\n"
_PORTS = PortRange("::", 2, 4)
_MODEL = offer_answer.read_offer(sdp.parse(CHROMIUM), ALL_KINDS)[1]


def seeds() -> list[bytes]:
    return [
        CHROMIUM,
        BARESIP_ANSWER,
        SIPP,
        plain(4000, codecs="8 0 9 101", direction="sendonly"),
        plain(4000, address="0.0.0.0"),
        plain(4000).replace(b"RTP/AVP", b"RTP/SAVP") + _CRYPTO,
        plain(4000).replace(b"RTP/AVP", b"UDP/TLS/RTP/SAVP") + _DTLS,
        plain(65535).replace(b"IP4 127.0.0.1", b"IP6 ::1"),
    ]


def check(data: bytes) -> None:
    """Raises anything at all only for a bug."""
    description = _tried(400, sdp.parse, data)
    if description is None:
        return
    for media in description.media:
        found = sdes.first(media.attributes)
        assert found is None or sdes.read(str(found)) == found
    read = _tried(488, offer_answer.read_offer, description, ALL_KINDS)
    if read is not None:
        _answered(*read)
        for each in description.media:
            _tried(488, _PORTS.destination, each.address, each.port)
    for offered in (_MODEL, offer_answer.offer_lines(Profile.RTP, None, None)):
        for profile in Profile:
            agreed = _tried(488, offer_answer.read_answer, offered, description, profile)
            if agreed is not None:
                _forwards(agreed, _MODEL)


def _answered(profile: Profile, lines: tuple[Line, ...]) -> None:
    written = _written(profile, lines, answering=True)
    again = sdp.parse(written)
    assert len(again.media) == len(lines), "an answer has the offer's m-lines (RFC 3264 section 6)"
    assert sdp.parse(again.to_bytes()) == again
    _forwards(lines, _MODEL)
    for other in Profile:
        sdp.parse(_written(other, offer_answer.offer_lines(other, lines, None, wide=True), answering=False))
    more = _tried(488, partial(offer_answer.offer_lines, adding=True), profile, _MODEL, None, lines)
    if more is not None:
        sdp.parse(_written(profile, more, answering=False))


def _written(profile: Profile, lines: Sequence[Line], *, answering: bool) -> bytes:
    where = [_place(line) if line.accepted else None for line in lines]
    return offer_answer.write(Origin(), profile, lines, where, answering=answering).to_bytes()


def _place(line: Line) -> Local:
    return Local("192.0.2.1", 30000, 30001, cryptos=(line.crypto,) if line.crypto else ())


def _forwards(lines: Sequence[Line], others: Sequence[Line]) -> None:
    offer_answer.can_hear(lines, others)
    offer_answer.differ(lines, others)
    for line in lines:
        for other in others:
            if line.accepted and other.accepted and line.kind == other.kind:
                assert all(-1 <= number < 128 for number in offer_answer.payload_map(line, other))


def _tried(status: int, read: Callable[..., T], *given: Any) -> T | None:
    """None for what is refused, by that status and no other."""
    try:
        return read(*given)
    except TheirError as error:
        if error.status != status:
            raise
        return None
