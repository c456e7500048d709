"""Whether two peers of rtpengine can hear each other with nobody between, and in which words it is told so. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from config.errors import TheirError
from media import sdp
from media.offer_answer import is_event, same_codec
from media.peer_address import NOBODY, is_far, one_host
from media.sdp import NOWHERE, NOWHERES, Direction, Media, Payload, SessionDescription
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
    in a packet is the same for both (RFC 4585 section 4)."""
    media = []
    for each in description.media:
        protocol = each.protocol.removesuffix("F") if each.protocol.endswith("AVPF") else each.protocol
        # RFC 8866 section 5.7: every m-line has an address, if only that of nowhere.
        address = each.address or NOWHERE
        media.append(replace(each, protocol=protocol, address=address))
    return replace(description, media=tuple(media))


def from_peer(description: SessionDescription, profile: Profile, *, all_here: bool) -> SessionDescription:
    """What a peer says, without what must not come to rtpengine, which sends wherever it is told: places where no peer
    can be, unless all peers are on this machine; and keys for another way than the one that was agreed on. Raises
    TheirError(488)."""
    return replace(
        description, media=tuple(_from_peer(each, profile, all_here=all_here) for each in description.media)
    )


def _from_peer(media: Media, profile: Profile, *, all_here: bool) -> Media:
    if media.refused:
        return media
    unwanted = {"crypto"} if profile in (Profile.DTLS, Profile.WEBRTC) else set()
    media = replace(
        media,
        fingerprint=None if profile is Profile.SDES else media.fingerprint,
        setup="" if profile is Profile.SDES else media.setup,
        attributes=tuple(
            (name, value)
            for name, value in media.attributes
            if name not in unwanted and (name != "candidate" or _may_check(value or "", all_here=all_here))
        ),
    )
    nowhere = media.address in NOWHERES or not media.address
    address = NOBODY if nowhere else _sent_to(media.address, all_here=all_here)
    if profile is Profile.WEBRTC and address == NOBODY:
        # RFC 8829 section 5.2.1: candidates alone say where a browser is.
        return replace(media, address=NOWHERE, port=media.port and 9, rtcp_port=None, rtcp_address="")
    if nowhere:
        # To the kernel that is this machine. Whom nothing is to be sent (RFC 3264 section 8.4) says so by a direction.
        media = replace(media, direction=Direction.of(sends=media.direction.sends, receives=False))
    beside = nowhere or not media.rtcp_address or media.rtcp_address in NOWHERES
    rtcp_address = "" if beside else _sent_to(media.rtcp_address, all_here=all_here)
    return replace(media, address=address, rtcp_address=rtcp_address)


def _sent_to(address: str, *, all_here: bool) -> str:
    ip = one_host(address)
    if ip is None:
        raise TheirError("The media address must be an IP address", 488)
    return str(ip) if all_here or is_far(ip) else NOBODY


def _may_check(candidate: str, *, all_here: bool) -> bool:
    """Whether it may be sent checks. RFC 8839 section 5.1: the fifth is the address, or a name that hides it."""
    parts = candidate.split()
    ip = one_host(parts[4]) if len(parts) > 4 else None
    return ip is not None and (all_here or is_far(ip))


def with_roles(theirs: SessionDescription, answer: bytes) -> SessionDescription:
    """A peer's offer as it would say it now that it was answered: who begins DTLS is settled (RFC 5763 section 5). Were
    it left open, rtpengine would shake hands anew."""
    media = tuple(
        replace(each, setup=_OTHER_ROLE.get(told.setup, each.setup)) if each.setup else each
        for each, told in zip(theirs.media, sdp.parse(answer).media, strict=True)
    )
    return replace(theirs, media=media)


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
