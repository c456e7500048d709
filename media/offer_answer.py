"""Offers and answers (RFC 3264): which media and codecs two sides share. Pure.

Packets are forwarded and never decoded, so this is all there is to agreeing: the codecs we carry, in the
offerer's order of preference, under the offerer's own payload types.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from config.errors import TheirError
from media import sdes
from media.sdes import Crypto
from media.sdp import NOWHERES, Direction, Fingerprint, Media, Origin, Payload, SessionDescription
from media.server import Profile

# (name, clock, channels) of what is carried, as RFC 7587, RFC 3551, RFC 4733, RFC 7741 and RFC 6184 name them.
AUDIO = (("opus", 48000, 2), ("G722", 8000, 1), ("PCMA", 8000, 1), ("PCMU", 8000, 1))
VIDEO = (("VP8", 90000, 1), ("H264", 90000, 1))
EVENTS = "telephone-event"

PLAIN_PROTOCOLS = ("RTP/AVP", "RTP/AVPF")
SDES_PROTOCOLS = ("RTP/SAVP", "RTP/SAVPF")
DTLS_PROTOCOLS = ("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF")
# What we offer. Without the F: phones that know RFC 4585 take a=rtcp-fb all the same, others refuse the profile.
PROTOCOL = {
    Profile.RTP: "RTP/AVP",
    Profile.SDES: "RTP/SAVP",
    Profile.DTLS: "UDP/TLS/RTP/SAVP",
    Profile.WEBRTC: "UDP/TLS/RTP/SAVPF",
}

# What is offered when there is nobody whose codecs to follow: prompts for chat, announcements.
OWN_AUDIO = (
    Payload(111, "opus", 48000, 2, "minptime=10;useinbandfec=1"),
    Payload(9, "G722", 8000),
    Payload(8, "PCMA", 8000),
    Payload(0, "PCMU", 8000),
    Payload(101, EVENTS, 8000, 1, "0-15"),
)
# A call that goes on to the telephone network should not have to change its codec when it gets there.
TELEPHONE_AUDIO = OWN_AUDIO[2:]
OWN_VIDEO = (
    Payload(96, "VP8", 90000),
    Payload(97, "H264", 90000, 1, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    Payload(98, "H264", 90000, 1, "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"),
)
# No phone has so many; it bounds what two m-lines need in numbers when they are put into one bundle.
MAX_CODECS = 24
# A lost key frame heals by these two (RFC 4585 section 6.3.1, RFC 5104 section 4.3.1), any other packet by "nack".
KEY_FRAME_FEEDBACK = ("ccm fir", "nack pli")
FEEDBACK = ("ccm fir", "nack", "nack pli")


@dataclass(frozen=True, slots=True)
class Line:
    """One m-line as the two sides agreed on it.

    `ours` are the payload types the peer sends us, `theirs` those we send the peer; they are the same codecs in the
    same order. `they_send` and `they_receive` are the peer's wishes. `aliases` are payload types the peer may send by
    mistake, with the one that is meant. `crypto` is the key the peer sends with, where that is said (SDES).
    """

    kind: str
    protocol: str
    formats: tuple[str, ...]
    mid: str = ""
    accepted: bool = False
    ours: tuple[Payload, ...] = ()
    theirs: tuple[Payload, ...] = ()
    aliases: tuple[tuple[int, int], ...] = ()
    they_send: bool = False
    they_receive: bool = False
    ptime: int | None = None
    mux: bool = False
    crypto: Crypto | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """Where one of our m-lines is to be reached, and what it needs to be believed."""

    address: str
    port: int
    rtcp_port: int | None = None
    ice_ufrag: str = ""
    ice_pwd: str = ""
    fingerprint: Fingerprint | None = None
    setup: str = ""
    candidates: tuple[str, ...] = ()
    ssrc: int = 0
    cryptos: tuple[Crypto, ...] = ()


def carried(kind: str, payload: Payload) -> bool:
    if kind == "audio":
        if payload.name.lower() == EVENTS:
            return True
        return any(_is(payload, *codec) for codec in AUDIO)
    return kind == "video" and any(_is(payload, *codec) for codec in VIDEO)


def _is(payload: Payload, name: str, clock: int, channels: int) -> bool:
    return payload.name.lower() == name.lower() and payload.clock == clock and payload.channels == channels


def mends(line: Line) -> bool:
    """Whether both sides send again what the other says was lost (RFC 4585 section 4.2)."""
    return line.kind == "video" and any("nack" in p.feedback for p in line.theirs)


def only_fir(line: Line) -> bool:
    """Whether the peer makes a key frame for a FIR (RFC 5104 section 4.3.1), and does not say for a PLI, too."""
    said = {feedback for payload in line.theirs for feedback in payload.feedback}
    return line.kind == "video" and "ccm fir" in said and "nack pli" not in said


def is_event(payload: Payload) -> bool:
    return payload.name.lower() == EVENTS


def parameters(payload: Payload) -> dict[str, str]:
    pairs = (part.partition("=") for part in payload.fmtp.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs if name.strip()}


def h264_profile(payload: Payload) -> str:
    """RFC 6184 section 8.1, table 5: different bytes can name one profile. Unknown ones name themselves."""
    level_id = parameters(payload).get("profile-level-id", "42000a").lower()
    if len(level_id) != 6 or not all(c in "0123456789abcdef" for c in level_id):
        return level_id
    idc, iop = int(level_id[:2], 16), int(level_id[2:4], 16)
    if (
        (idc == 0x42 and iop & 0x4F == 0x40)
        or (idc == 0x4D and iop & 0x8F == 0x80)
        or (idc == 0x58 and iop & 0xCF == 0xC0)
    ):
        return "constrained baseline"
    if (idc == 0x42 and iop & 0x4F == 0) or (idc == 0x58 and iop & 0xCF == 0x80):
        return "baseline"
    return level_id[:4]


def same_codec(a: Payload, b: Payload) -> bool:
    """Whether packets of `a` can be forwarded as `b` untouched."""
    if (a.name.lower(), a.clock, a.channels) != (b.name.lower(), b.clock, b.channels):
        return False
    return a.name.lower() != "h264" or (_mode(a) == _mode(b) and h264_profile(a) == h264_profile(b))


def _mode(payload: Payload) -> str:
    return parameters(payload).get("packetization-mode", "0")


def profile_of(media: Media, crypto: Crypto | None, *, bundled: bool) -> Profile | None:
    """Which kind of leg an offered m-line asks for; None when it is none of ours. `bundled`: of a bundle.

    Plain RTP stays so even with keys beside it. A phone that offers candidates is answered without, and then does
    without (RFC 8839 section 4.2.5); browsers cannot, and they alone bundle (RFC 8829 section 4.1.1). Of one that
    offers keys both ways the protocol says which is meant: RTP/SAVP is SDES (RFC 4568 section 4), UDP/TLS/… is DTLS
    (RFC 5764 section 8); but a browser cannot do without DTLS, whatever it is called.
    """
    if media.protocol in PLAIN_PROTOCOLS:
        return Profile.RTP
    by_handshake = media.protocol in DTLS_PROTOCOLS and media.fingerprint is not None
    if by_handshake and bundled and media.ice_ufrag and media.ice_pwd:
        return Profile.WEBRTC
    if media.protocol in SDES_PROTOCOLS and crypto is not None:
        return Profile.SDES
    return Profile.DTLS if by_handshake else None


def read_offer(offer: SessionDescription, kinds: Iterable[str]) -> tuple[Profile, tuple[Line, ...]]:
    """What we take of an offer. Raises TheirError(488) when that is nothing."""
    wanted = frozenset(kinds)
    profile: Profile | None = None
    lines: list[Line] = []
    bundled = set(offer.bundle)
    reasons: list[str] = []
    for media in offer.media:
        line = Line(media.kind, media.protocol, media.formats, media.mid)
        crypto = sdes.first(media.attributes)
        offered = profile_of(media, crypto, bundled=bool(bundled))
        codecs = tuple(p for p in media.payloads if carried(media.kind, p))[:MAX_CODECS]
        why = ""
        if media.refused:
            why = "refused"
        elif media.kind not in wanted:
            why = f"{media.kind} is not taken here"
        elif offered is None or (profile is not None and offered is not profile):
            why = f"{media.protocol} is not carried"
        elif not any(not is_event(p) for p in codecs):
            why = "No common codec"
        elif offered is Profile.WEBRTC and (not media.rtcp_mux or media.setup == "passive"):
            # One port serves every browser, so RTCP must share it (RFC 5761), and we are the DTLS server.
            why = "rtcp-mux and an active DTLS role are needed"
        elif offered is Profile.WEBRTC and any(x.accepted for x in lines) and media.mid not in bundled:
            why = "media of one browser must be bundled"
        elif offered is Profile.WEBRTC and media.mid in (x.mid for x in lines):
            why = "each medium needs an a=mid of its own"  # RFC 5888 section 4
        if why:
            reasons.append(why)
            lines.append(line)
            continue
        profile = offered
        held = offered is not Profile.WEBRTC and media.address in NOWHERES
        lines.append(
            replace(
                line,
                accepted=True,
                ours=codecs,
                theirs=codecs,
                they_send=media.direction.sends,
                they_receive=media.direction.receives and not held,
                ptime=media.ptime,
                mux=media.rtcp_mux,
                crypto=crypto if offered is Profile.SDES else None,
            )
        )
    if profile is None:
        plain = [r for r in reasons if r != "refused"]
        raise TheirError(plain[0] if plain else "No media offered", 488)
    return profile, tuple(lines)


def read_answer(offered: Sequence[Line], answer: SessionDescription, profile: Profile) -> tuple[Line, ...]:
    """What became of our offer. Raises TheirError(488) when nothing is left, or the answer does not fit the offer."""
    if len(answer.media) != len(offered):
        raise TheirError("the answer has another number of media than the offer", 488)
    lines = []
    for line, media in zip(offered, answer.media, strict=True):
        if media.kind != line.kind:
            raise TheirError("the answer has other media than the offer", 488)
        ours, theirs = [], []
        for payload in media.payloads:
            match = _find(payload, line.ours)
            if match is not None and match not in ours:
                ours.append(match)
                theirs.append(payload)
        speaks = any(not is_event(p) for p in ours)
        if not line.accepted or media.refused or not speaks:
            lines.append(replace(line, accepted=False))
            continue
        if profile is Profile.WEBRTC and (not media.fingerprint or not media.ice_pwd):
            raise TheirError("the answer lacks a fingerprint or ICE credentials", 488)
        crypto = sdes.first(media.attributes) if profile is Profile.SDES else None
        if (profile is Profile.SDES and crypto is None) or (
            profile is Profile.DTLS and not media.fingerprint
        ):
            raise TheirError("the answer lacks what its packets are to be read with", 488)
        if profile is Profile.WEBRTC and media.setup == "passive":
            raise TheirError("an active DTLS role is needed", 488)
        held = profile is not Profile.WEBRTC and media.address in NOWHERES
        lines.append(
            replace(
                line,
                crypto=crypto,
                ours=tuple(ours),
                theirs=tuple(theirs),
                aliases=_aliases(line.ours, ours),
                they_send=media.direction.sends,
                they_receive=media.direction.receives and not held,
                ptime=media.ptime or line.ptime,
                mux=media.rtcp_mux,
            )
        )
    if not any(line.accepted for line in lines):
        raise TheirError("No common codec", 488)
    return tuple(lines)


def _aliases(offered: Sequence[Payload], agreed: Sequence[Payload]) -> tuple[tuple[int, int], ...]:
    """baresip, offered H.264 in several profiles, answers with the last of them and sends under the first."""
    return tuple(
        (other.number, codec.number)
        for codec in agreed[::-1]
        for other in offered
        if codec.name.lower() == other.name.lower() == "h264"
        and other not in agreed
        and _mode(codec) == _mode(other)
    )


def _find(payload: Payload, codecs: Sequence[Payload]) -> Payload | None:
    for codec in codecs:
        if same_codec(codec, payload):
            return codec
    # A phone that answers H.264 under our own number means our format, even where it spells the profile in its own
    # way (RFC 6184 section 8.2.2: the answer's level may differ; some write a profile for their encoder only).
    for codec in codecs:
        if (
            codec.number == payload.number
            and codec.name.lower() == payload.name.lower() == "h264"
            and _mode(codec) == _mode(payload)
        ):
            return codec
    # Some phones leave out Opus's second channel, though RFC 7587 section 7 wants it.
    for codec in codecs:
        if codec.name.lower() == payload.name.lower() == "opus" and codec.number == payload.number:
            return codec
    return None


def offer_lines(
    profile: Profile,
    like: Sequence[Line] | None,
    kinds: frozenset[str] | None,
    current: Sequence[Line] = (),
    *,
    telephone: bool = False,
    wide: bool = False,
    adding: bool = False,
) -> tuple[Line, ...]:
    """The m-lines of an offer in the codecs of `like`, each kind once; without it our own audio, and video if `kinds`
    names it.

    `telephone` leaves of our own audio what every telephone network carries; `wide` adds it behind that of `like`.

    With `current` this is a re-offer: its m-lines stay in place under their own payload types (RFC 3264 section 8),
    narrowed to what `like` agreed; `adding` what it has besides, and leaving audio that is transcoded as it is.
    """
    wanted: list[tuple[str, tuple[Payload, ...], int | None]] = []
    if like is None:
        wanted.append(("audio", TELEPHONE_AUDIO if telephone else OWN_AUDIO, 20))
        if kinds is not None and "video" in kinds and not telephone:
            wanted.append(("video", OWN_VIDEO, None))
    else:
        for line in like:
            taken = line.kind in (w[0] for w in wanted) or (kinds is not None and line.kind not in kinds)
            if line.accepted and not taken:
                codecs = _widened(line.ours) if wide and line.kind == "audio" else line.ours
                wanted.append((line.kind, codecs, line.ptime))
    if current:
        if adding:
            return tuple(_added(_shared(current, wanted), wanted, profile))
        return tuple(_narrow(line, wanted, like is None) for line in current)
    if not wanted:
        raise TheirError("No common media", 488)
    return tuple(_added([], wanted, profile))


def _added(
    lines: Sequence[Line], wanted: Sequence[tuple[str, tuple[Payload, ...], int | None]], profile: Profile
) -> list[Line]:
    """RFC 3264 section 8.1: media that are not there yet, in a place of theirs that was refused, or at the end."""
    found = list(lines)
    numbers = {p.number for line in lines if line.accepted for p in line.ours}
    for kind, theirs, ptime in wanted:
        at = next((index for index, line in enumerate(found) if line.kind == kind), len(found))
        if at < len(found) and found[at].accepted:
            continue
        # RFC 9143 section 9.2: inside a bundle a payload type names one codec.
        codecs = _distinct(theirs, numbers) if profile is Profile.WEBRTC else theirs
        names = {line.mid for line in found}
        fresh = Line(
            kind,
            found[0].protocol if found else PROTOCOL[profile],
            tuple(str(p.number) for p in codecs),
            mid=next(name for name in map(str, range(at, at + len(found) + 1)) if name not in names),
            accepted=True,
            ours=codecs,
            theirs=codecs,
            they_send=True,
            they_receive=True,
            ptime=ptime,
        )
        found[at : at + 1] = [fresh]
    return found


def _widened(codecs: Sequence[Payload]) -> tuple[Payload, ...]:
    others = tuple(p for p in OWN_AUDIO if not is_event(p) and not _has(codecs, p))
    numbers = {p.number for p in codecs}
    events = tuple(p for p in OWN_AUDIO if is_event(p) and not any(is_event(x) for x in codecs))
    return (*codecs, *_distinct((*others, *events), numbers))


def _distinct(codecs: Sequence[Payload], taken: set[int]) -> tuple[Payload, ...]:
    distinct = []
    for codec in codecs:
        number = codec.number
        if number in taken:
            number = next(n for n in (*range(96, 128), *range(35, 64)) if n not in taken)
        taken.add(number)
        distinct.append(replace(codec, number=number))
    return tuple(distinct)


def narrowed(lines: Sequence[Line], like: Sequence[Line]) -> tuple[Line, ...]:
    """An offer's lines, with no more taken of it than `like` has, but for audio of which it has nothing: that can be
    transcoded. Raises TheirError(488) when nothing is left."""
    wanted = [(line.kind, line.ours, line.ptime) for line in like if line.accepted]
    kept = _shared(lines, wanted)
    if not any(line.accepted for line in kept):
        raise TheirError("No common codec", 488)
    return tuple(kept)


def _shared(
    lines: Sequence[Line], wanted: Sequence[tuple[str, tuple[Payload, ...], int | None]]
) -> list[Line]:
    kept: list[Line] = []
    for line in lines:
        try:
            kept.append(_narrow(line, wanted, False))
        except TheirError:  # this medium is refused, the others may do
            kept.append(line if line.kind == "audio" else replace(line, accepted=False))
    return kept


def _narrow(line: Line, wanted: Sequence[tuple[str, tuple[Payload, ...], int | None]], own: bool) -> Line:
    if not line.accepted or own:
        return line
    for kind, codecs, _ptime in wanted:
        if kind != line.kind:
            continue
        kept = [mine for codec in codecs for mine in line.ours if same_codec(codec, mine)]
        if any(not is_event(p) for p in kept):
            ours = tuple(dict.fromkeys(kept))
            return replace(line, ours=ours, theirs=ours, formats=tuple(str(p.number) for p in ours))
        raise TheirError(f"No common codec for {line.kind}", 488)
    return replace(line, accepted=False)


def can_hear(a: Sequence[Line], b: Sequence[Line]) -> bool:
    """Whether `a` and `b` can be joined as they are: what each sends first, the other takes."""
    shared = False
    for line in a:
        other = next((x for x in b if x.accepted and x.kind == line.kind), None)
        if not line.accepted or other is None:
            continue
        if not _has(line.theirs, _speech(other.ours)) or not _has(other.theirs, _speech(line.ours)):
            return False
        shared = True
    return shared


def differ(a: Sequence[Line], b: Sequence[Line]) -> bool:
    """Whether both have audio, and one says first what the other does not take: it must be transcoded."""
    audio = [next((x for x in lines if x.accepted and x.kind == "audio"), None) for lines in (a, b)]
    mine, theirs = audio
    if mine is None or theirs is None:
        return False
    return not (_has(mine.theirs, _speech(theirs.ours)) and _has(theirs.theirs, _speech(mine.ours)))


def _speech(codecs: Sequence[Payload]) -> Payload:
    return next(p for p in codecs if not is_event(p))


def _has(codecs: Sequence[Payload], wanted: Payload) -> bool:
    return any(same_codec(codec, wanted) for codec in codecs)


def payload_map(source: Line, sink: Line) -> list[int]:
    """Payload type as it comes in on `source` -> as it goes out on `sink`; -1 where the sink has no such codec."""
    table = [-1] * 128
    for codec in source.ours:
        for number, payload in zip((p.number for p in sink.theirs), sink.ours, strict=True):
            if same_codec(codec, payload):
                table[codec.number] = number
                break
    for alias, number in source.aliases:
        table[alias] = table[number]
    return table


def write(
    origin: Origin, profile: Profile, lines: Sequence[Line], local: Sequence[Local | None], *, answering: bool
) -> SessionDescription:
    """Our description of `lines`; `local` says for each accepted one where it is."""
    media = tuple(
        _write_line(origin, profile, line, where, answering) for line, where in zip(lines, local, strict=True)
    )
    webrtc = profile is Profile.WEBRTC
    bundle = tuple(m.mid for m in media if m.port and m.mid) if webrtc else ()
    return SessionDescription(origin, media, bundle=bundle, ice_lite=webrtc)


def _write_line(origin: Origin, profile: Profile, line: Line, where: Local | None, answering: bool) -> Media:
    if not line.accepted or where is None:
        # RFC 3264 section 6: port zero; the formats stand there because something must, and so does an address
        # (RFC 8866 section 5.7).
        return Media(
            *(line.kind, 0, line.protocol, line.formats),
            address=origin.address,
            mid=line.mid,
            direction=Direction.INACTIVE,
        )
    webrtc = profile is Profile.WEBRTC
    feedback = FEEDBACK if webrtc or answering else KEY_FRAME_FEEDBACK
    payloads = tuple(_write_payload(line.kind, p, feedback, answering) for p in line.ours)
    # RFC 5761 section 5.1.1: offered where it spares a handshake, and used where it is answered.
    mux = webrtc or (line.mux if answering else profile is Profile.DTLS)
    direction = Direction.of(sends=line.they_receive, receives=line.they_send)
    attributes: list[tuple[str, str | None]] = [("crypto", str(crypto)) for crypto in where.cryptos]
    if webrtc:
        attributes += [("msid", f"warmline {line.kind}{line.mid}"), ("ssrc", f"{where.ssrc} cname:warmline")]
        attributes += [("candidate", candidate) for candidate in where.candidates]
        attributes.append(("end-of-candidates", None))
    return Media(
        kind=line.kind,
        port=where.port,
        protocol=line.protocol,
        formats=tuple(str(p.number) for p in payloads),
        payloads=payloads,
        address=where.address,
        direction=direction if answering else Direction.SENDRECV,
        mid=line.mid if webrtc or answering else "",
        rtcp_mux=mux,
        rtcp_port=where.rtcp_port,
        ice_ufrag=where.ice_ufrag,
        ice_pwd=where.ice_pwd,
        fingerprint=where.fingerprint,
        setup=where.setup,
        ptime=line.ptime,
        attributes=tuple(attributes),
    )


def _write_payload(kind: str, payload: Payload, feedback: Sequence[str], answering: bool) -> Payload:
    if kind != "video":
        return replace(payload, feedback=())
    if answering:
        # RFC 6184 section 8.2.2: these are the sets of whoever says them, and the offerer's are not ours.
        parts = (part.strip() for part in payload.fmtp.split(";"))
        own = (part for part in parts if not part.lower().startswith("sprop-"))
        payload = replace(payload, fmtp=";".join(own))
    kept = tuple(f for f in feedback if not answering or f in payload.feedback)
    return replace(payload, feedback=kept)
