"""RTCP (RFC 3550 section 6, RFC 4585, RFC 5104) of forwarded streams: read, rewritten for the other side.

Each side knows only our SSRCs. Sender and receiver reports go through with SSRCs, sequence numbers and timestamps
shifted as the RTP was, so loss, jitter and round trip are those of the whole way. Requests for a key frame go to
whoever makes the pictures, in whichever of three ways they were asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from media.rtp import Stream

SR, RR, SDES, BYE, APP, RTPFB, PSFB = 200, 201, 202, 203, 204, 205, 206
OLD_FIR = 192  # RFC 2032 section 5.2.1, which baresip still sends
NACK = 1
PLI, FIR = 1, 4
# Of one compound, what is sent again or asked for again: more than so much of a second is better mended by a key frame.
MOST_AGAIN = 100
MOST_NAMED = 4  # streams that one compound may say so of
# A key frame is a burst: however often one who sees it asks, its maker is asked so often at most.
KEY_FRAME_S = 0.2
_BLOCK = struct.Struct("!IIIIII")


def packets(compound: bytes) -> list[tuple[int, int, bytes]]:
    """(type, count or format, body) of each packet; what follows a malformed one is left out."""
    found = []
    at = 0
    while at + 4 <= len(compound):
        first, kind, words = struct.unpack_from("!BBH", compound, at)
        end = at + 4 + words * 4
        if first & 0xC0 != 0x80 or end > len(compound):
            break
        found.append((kind, first & 0x1F, compound[at + 4 : end]))
        at = end
    return found


def write(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def source_description(stream: Stream) -> bytes:
    name = stream.name.encode()
    chunk = struct.pack("!IBB", stream.ssrc, 1, len(name)) + name + b"\0"
    return write(SDES, 1, chunk + b"\0" * (-len(chunk) % 4))


def compound(stream: Stream, report: bytes, *others: bytes) -> bytes:
    """RFC 3550 section 6.1: a report and a CNAME stand in every compound."""
    return b"".join(
        (report or write(RR, 0, struct.pack("!I", stream.ssrc)), source_description(stream), *others)
    )


def key_frame_request(stream: Stream) -> bytes:
    """Ask the peer of `stream` for a key frame (RFC 4585 section 6.3.1); empty while it has sent nothing."""
    if stream.ssrc_in is None:
        return b""
    if stream.fir:
        # RFC 5104 section 4.3.1.1: each request is numbered, or it would be taken for the last one said again.
        stream.firs = (stream.firs + 1) & 0xFF
        request = struct.pack("!IIIB3x", stream.ssrc, 0, stream.ssrc_in, stream.firs)
        return compound(stream, b"", write(PSFB, FIR, request))
    return compound(stream, b"", write(PSFB, PLI, struct.pack("!II", stream.ssrc, stream.ssrc_in)))


def forward(data: bytes, streams: Sequence[Stream], now: float) -> list[tuple[Stream, bytes]]:
    """What to send where, of a compound that came from the leg that holds `streams` `now`, in seconds of any clock.

    Packets it has lost, and that are still here, are sent to it again meanwhile.
    """
    outgoing: list[tuple[Stream, bytes]] = []
    wanted: list[Stream] = []
    lost: dict[int, list[int]] = {}
    for kind, count, body in packets(data):
        if kind in (SR, RR) and len(body) >= 4:
            outgoing += _reports(kind, count, body, streams)
        elif kind == PSFB and count == PLI and len(body) >= 8:
            wanted += _asked(streams, struct.unpack_from("!I", body, 4)[0])
        elif kind == PSFB and count == FIR:
            for at in range(8, len(body) - 7, 8):
                wanted += _asked(streams, struct.unpack_from("!I", body, at)[0])
        elif kind == RTPFB and count == NACK and len(body) >= 8:
            lost.setdefault(struct.unpack_from("!I", body, 4)[0], []).extend(numbers(body[8:]))
        elif kind == OLD_FIR and len(body) >= 4:
            wanted += _asked(streams, struct.unpack_from("!I", body, 0)[0])
    for ssrc, missing in list(lost.items())[:MOST_NAMED]:
        outgoing += _lost(ssrc, missing[:MOST_AGAIN], streams)
    for stream in dict.fromkeys(wanted):
        if now - stream.asked_at >= KEY_FRAME_S and (request := key_frame_request(stream)):
            stream.asked_at = now
            outgoing.append((stream, request))
    return outgoing


def _lost(ssrc: int, numbers: Sequence[int], streams: Sequence[Stream]) -> list[tuple[Stream, bytes]]:
    """What we still have is sent again at once; for the rest its sender is asked, in its own numbers."""
    mine = next((s for s in streams if s.ssrc == ssrc), None)
    if mine is None:
        return []
    recent = mine.recent
    missing = [seq for seq in numbers if recent is None or not recent.again(seq)]
    far = mine.source
    if not missing or far is None or far.sink is not mine or not far.mends or mine.source_ssrc is None:
        return []
    asked = b"".join(struct.pack("!HH", (seq - mine.seq_shift) & 0xFFFF, 0) for seq in missing)
    request = write(RTPFB, NACK, struct.pack("!II", far.ssrc, mine.source_ssrc) + asked)
    return [(far, compound(far, b"", request))]


def numbers(pairs: bytes) -> list[int]:
    """Sequence numbers of a generic NACK: each of its pairs names one, and by bits the 16 after it."""
    found: list[int] = []
    for at in range(0, len(pairs) - 3, 4):
        first, bits = struct.unpack_from("!HH", pairs, at)
        found.append(first)
        found += [(first + bit + 1) & 0xFFFF for bit in range(16) if bits >> bit & 1]
        if len(found) >= MOST_AGAIN:
            break
    return found[:MOST_AGAIN]


def _asked(streams: Sequence[Stream], ssrc: int) -> list[Stream]:
    """The stream at the far side whose peer makes what we send under `ssrc`."""
    return [s.source for s in streams if s.ssrc == ssrc and s.source is not None and s.source.sink is s]


def _reports(kind: int, count: int, body: bytes, streams: Sequence[Stream]) -> list[tuple[Stream, bytes]]:
    """One report for each far side that it says something about."""
    sender = struct.unpack_from("!I", body)[0]
    start = 24 if kind == SR else 4
    if len(body) < start + count * 24:
        return []
    blocks: dict[Stream, list[bytes]] = {}
    for index in range(count):
        ssrc, loss, highest, jitter, lsr, dlsr = _BLOCK.unpack_from(body, start + index * 24)
        mine = next((s for s in streams if s.ssrc == ssrc), None)
        far = mine.source if mine is not None else None
        if mine is None or far is None or far.sink is not mine or mine.source_ssrc is None:
            continue
        # The extended number counts wraps of our numbers, not of theirs; the low half is what senders use.
        theirs = (highest & 0xFFFF0000) | ((highest - mine.seq_shift) & 0xFFFF)
        blocks.setdefault(far, []).append(_BLOCK.pack(mine.source_ssrc, loss, theirs, jitter, lsr, dlsr))
    outgoing = []
    about = next((s for s in streams if s.ssrc_in == sender), None)
    far = about.sink if about is not None else None
    if kind == SR and about is not None and far is not None and far.source_ssrc == sender:
        _, ntp_high, ntp_low, timestamp, sent, octets = struct.unpack_from("!IIIIII", body)
        shifted = (timestamp + far.timestamp_shift) & 0xFFFFFFFF
        mine_blocks = blocks.pop(far, [])
        head = struct.pack("!IIIIII", far.ssrc, ntp_high, ntp_low, shifted, sent, octets)
        report = write(SR, len(mine_blocks), head + b"".join(mine_blocks))
        outgoing.append((far, compound(far, report)))
    for stream, theirs_blocks in blocks.items():
        head = struct.pack("!I", stream.ssrc)
        report = write(RR, len(theirs_blocks), head + b"".join(theirs_blocks))
        outgoing.append((stream, compound(stream, report)))
    return outgoing
