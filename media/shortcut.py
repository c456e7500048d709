"""Whether two peers of rtpengine can hear each other with nobody between, and in which words it is told so. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace

from config.errors import TheirError
from media import sdp
from media.offer_answer import is_event, same_codec
from media.sdp import NOWHERE, Direction, Media, Payload, SessionDescription
from media.server import Profile

_OTHER_ROLE = {"active": "passive", "passive": "active"}


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a peer and we have said to each other last: each one's description, in plain RTP's protocols."""

    profile: Profile
    peer_offered: bool
    theirs: SessionDescription
    ours: SessionDescription


def for_rtpengine(description: SessionDescription) -> SessionDescription:
    """Between AVPF and AVP it drops what asks for key frames, so it is told of AVP alone, and all of it passes: what is
    in a packet is the same for both (RFC 4585 section 4). Raises TheirError(488) for addresses nothing is sent to."""
    media = []
    for each in description.media:
        protocol = each.protocol.removesuffix("F") if each.protocol.endswith("AVPF") else each.protocol
        # RFC 8866 section 5.7: every m-line has an address, if only that of nowhere.
        address = each.address or NOWHERE
        if not _is_one_we_send_to(address):
            raise TheirError("The media address must be an IP address", 488)
        media.append(replace(each, protocol=protocol, address=address))
    return replace(description, media=tuple(media))


def with_roles(theirs: SessionDescription, answer: bytes) -> SessionDescription:
    """A peer's offer as it would say it now that it was answered: who begins DTLS is settled (RFC 5763 section 5). Were
    it left open, rtpengine would shake hands anew."""
    media = tuple(
        replace(each, setup=_OTHER_ROLE.get(told.setup, each.setup)) if each.setup else each
        for each, told in zip(theirs.media, sdp.parse(answer).media, strict=True)
    )
    return replace(theirs, media=media)


def _is_one_we_send_to(address: str) -> bool:
    try:
        return not ipaddress.ip_address(address).is_multicast
    except ValueError:
        return False


def with_protocols(description: bytes, protocols: Sequence[str]) -> bytes:
    """A description of rtpengine's, with the protocols that its m-lines have for the peer (RFC 3264 section 6)."""
    read = sdp.parse(description)
    if len(read.media) != len(protocols):
        return description
    media = tuple(replace(m, protocol=p) for m, p in zip(read.media, protocols, strict=True))
    return replace(read, media=media).to_bytes()


def shortcut(a: Agreed, b: Agreed) -> tuple[bytes, bytes] | None:
    """The descriptions of the two as rtpengine is to be told them; None where somebody must stand between: codecs under
    other numbers, media that only one has, hold, a phone that shakes hands."""
    if Profile.DTLS in (a.profile, b.profile):
        # A handshake of one of its ports that is done while rtpengine is told leaves the phone deaf now and then.
        return None
    lines_a, lines_b = _lines(a), _lines(b)
    if not lines_a or not lines_b or len(lines_a) != len(lines_b):
        return None
    for (mine, mine_sent), (theirs, theirs_sent) in zip(lines_a, lines_b, strict=True):
        if mine.kind != theirs.kind or not _alike(mine_sent, theirs_sent):
            return None
    return tuple(  # type: ignore[return-value]
        replace(
            each.theirs,
            media=tuple(
                replace(media, payloads=sent, formats=tuple(str(p.number) for p in sent))
                for media, sent in lines
            ),
        ).to_bytes()
        for each, lines in ((a, lines_a), (b, lines_b))
    )


def _lines(agreed: Agreed) -> list[tuple[Media, tuple[Payload, ...]]]:
    """The peer's m-lines with the codecs of each; none of them if there is more to it than media both ways."""
    lines = []
    pairs = list(zip(agreed.theirs.media, agreed.ours.media, strict=False))
    while pairs and (pairs[-1][0].refused or pairs[-1][1].refused):
        pairs.pop()
    for theirs, ours in pairs:
        answered, offered = (ours, theirs) if agreed.peer_offered else (theirs, ours)
        sent = tuple(
            codec
            for codec in answered.payloads
            if any(p.number == codec.number and same_codec(p, codec) for p in offered.payloads)
        )
        both_ways = theirs.direction is ours.direction is Direction.SENDRECV
        held = agreed.profile is Profile.RTP and theirs.address == NOWHERE
        if theirs.refused or ours.refused or not both_ways or held or all(map(is_event, sent)):
            return []
        lines.append((theirs, sent))
    return lines


def _alike(a: tuple[Payload, ...], b: tuple[Payload, ...]) -> bool:
    """What each sends first the other knows by that number, and no number means two codecs."""
    known = {codec.number: codec for codec in b}
    if not all(same_codec(codec, known.get(codec.number, codec)) for codec in a):
        return False
    first_a, first_b = (next(p for p in codecs if not is_event(p)) for codecs in (a, b))
    return first_a.number in known and any(p.number == first_b.number for p in a)
