"""What a phone is offered: how its packets travel, and in whose codecs; and what next, where it refuses that (488).

A phone is offered what it was last seen to answer, at first plain RTP. SDES is offered only where the signalling is
encrypted, for its keys stand in the description (RFC 4568 s7.3); what a phone offers of itself is taken as it comes.
Codecs that the caller does not have come last but one, for they must be transcoded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from media.peer_address import is_far, one_host
from media.server import Profile
from sip_trunk.flow import Flow
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.uri import SipUri, parse_uri
from sip_trunk.user_agent import Target

# RFC 3261 s21.4.26 and s21.6.4: the session as it was described will not do.
REFUSALS = (488, 606)
# RFC 8866 s5.7
_CONNECTION = re.compile(rb"^c=IN IP[46] ([0-9A-Fa-f.:]{2,45})", re.MULTILINE)
_VIDEO = re.compile(rb"^m=video (?!0+[ /])", re.MULTILINE)
_SECTION = re.compile(rb"^m=", re.MULTILINE)
_DIRECTION = re.compile(rb"^a=(sendrecv|sendonly|recvonly|inactive)\s*$", re.MULTILINE)
_NOWHERE = re.compile(rb"^c=IN IP4 0\.0\.0\.0\s*$", re.MULTILINE)
_ENCRYPTED = ("TLS", "WSS")
# What is learnt of a device, next to its channels (`Roster.learn`).
_LEARNT = {"sdes": Profile.SDES, "dtls": Profile.DTLS}


@dataclass(frozen=True, slots=True)
class Terms:
    """`wide`: with our own codecs behind the caller's."""

    profile: Profile
    wide: bool = False


def next_terms(target: Target, tried: Sequence[Terms]) -> Terms | None:
    """What to offer a phone that has refused all of `tried`, of which the first was the best guess; None: give up."""
    best = tried[0].profile
    ways = [Terms(best, wide=True)]
    if best is not Profile.WEBRTC:
        others = [Profile.RTP, Profile.DTLS]
        if is_encrypted(target):
            others.insert(1, Profile.SDES)
            if best is Profile.RTP:
                # Phones set to encrypt are more of them than phones without a common codec.
                ways.insert(0, Terms(Profile.SDES))
        ways += [Terms(other, wide=True) for other in others if other is not best]
    return next((way for way in ways if way not in tried), None)


def is_encrypted(target: Target) -> bool:
    """Whether what is said to this phone is for its next hop's eyes only."""
    if target.flow is not None:
        return target.flow.transport in _ENCRYPTED
    uri = _uri(target)
    return uri is not None and (uri.scheme == "sips" or (uri.transport or "").upper() in _ENCRYPTED)


def is_ipv6(target: Target) -> bool:
    """Whether this phone is reached by IPv6, and so its packets too."""
    if target.flow is not None:
        return ":" in target.flow.peer[0]
    uri = _uri(target)
    return uri is not None and ":" in uri.host


def _uri(target: Target) -> SipUri | None:
    try:
        uri = parse_uri(target.uri) if isinstance(target.uri, str) else target.uri
    except BadMessage:
        return None
    return uri if isinstance(uri, SipUri) else None


def has_video(offer: bytes) -> bool:
    """Whether an offer that media has taken is for pictures too: one with port 0 is not (RFC 3264 s5.1)."""
    return _VIDEO.search(offer) is not None


def holds(body: bytes) -> bool:
    """Whether who describes their side so does not listen: the other is on hold (RFC 3264 s8.4)."""
    session, *sections = _SECTION.split(body)
    audio = next((each for each in sections if each.startswith(b"audio ")), None)
    if audio is None:
        return False
    said = _DIRECTION.search(audio) or _DIRECTION.search(session)
    return _NOWHERE.search(audio) is not None or (said is not None and said[1] in (b"sendonly", b"inactive"))


def behind_nat(body: bytes, flow: Flow | None) -> str | None:
    """Where a peer's signalling comes from, if its description names a private address and another one, or one that no
    media server takes from elsewhere (loopback, link-local).

    A phone that asks no STUN server knows no better; its packets then come from where its signalling does.
    """
    if flow is None:
        return None
    here = flow.peer[0]
    for found in _CONNECTION.finditer(body):
        said = found[1].decode()
        ip = one_host(said)
        if ip is not None and ((said != here and ip.is_private) or not is_far(ip)):
            return here
    return None


def learnt_profile(learnt: Mapping[str, bool]) -> Profile:
    """How the packets of a device travel that is no browser, as far as is known."""
    return next((profile for name, profile in _LEARNT.items() if learnt.get(name)), Profile.RTP)


def lesson(profile: Profile) -> dict[str, bool]:
    """What an answer to an offer of that profile teaches of a device."""
    return {name: each is profile for name, each in _LEARNT.items()}
