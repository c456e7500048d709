"""The quality of a leg (see `media.quality`): from what RTCP says of it, and as it is told and kept."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from media import rtcp
from media.leg import Leg
from media.quality import FAIR_MOS, POOR_S, Block
from media.rtp import Stream

_BLOCK = struct.Struct("!IB3sII4sI")
REPORT_S = 5
"""How often we say ourselves how it goes; what others say is passed on as it comes."""
_NTP_EPOCH = 2208988800
# RFC 3550 section 6.4.1: the middle 32 bits of the NTP time in a sender report, by which it is answered.
_NAME = slice(10, 14)


def blocks(compound: bytes) -> Iterator[Block]:
    """All that it says of streams, in its sender and receiver reports."""
    for kind, count, body in rtcp.packets(compound):
        if kind not in (rtcp.SR, rtcp.RR):
            continue
        start = 24 if kind == rtcp.SR else 4
        for at in range(start, min(start + count * 24, len(body) - 23), 24):
            ssrc, fraction, lost, highest, jitter, last, since = _BLOCK.unpack_from(body, at)
            yield Block(
                ssrc, fraction, int.from_bytes(lost, "big", signed=True), highest, last, since, jitter
            )


def heard(streams: Sequence[Stream], compound: bytes, now: float) -> None:
    """The peer of these streams has sent it."""
    if len(compound) >= 28 and compound[1] == rtcp.SR:
        for stream in streams:
            if stream.ssrc_in == int.from_bytes(compound[4:8], "big"):
                stream.measured.hears_report(compound[_NAME], now)
    for block in blocks(compound):
        for stream in streams:
            if stream.ssrc == block.ssrc:
                stream.measured.told(block, stream.packets_out, stream.seq, now)


def sent(stream: Stream, compound: bytes, now: float) -> None:
    """The peer of this stream gets it."""
    if compound[1] == rtcp.SR:
        stream.measured.reported(compound[_NAME], now)


def own(stream: Stream, clock: int, now: float, wall: float) -> bytes:
    """Our own report, of sound that is ours (music, a mix) and of what the peer sends (RFC 3550 section 6.4)."""
    block = stream.measured.ours(clock, now)
    said = b""
    if block is not None:
        lost = block.lost.to_bytes(3, "big")
        said = _BLOCK.pack(
            *(
                block.ssrc,
                block.fraction,
                lost,
                block.highest,
                block.jitter,
                block.last_report,
                block.since_report,
            )
        )
    count = 1 if said else 0
    if not stream.at:
        return rtcp.compound(stream, rtcp.write(rtcp.RR, count, struct.pack("!I", stream.ssrc) + said))
    ntp = int((wall + _NTP_EPOCH) * (1 << 32))
    stamp = (stream.timestamp + int((now - stream.at) * clock)) & 0xFFFFFFFF
    octets = (stream.bytes_out - 12 * stream.packets_out) & 0xFFFFFFFF
    head = struct.pack("!IQIII", stream.ssrc, ntp, stamp, stream.packets_out & 0xFFFFFFFF, octets)
    return rtcp.compound(stream, rtcp.write(rtcp.SR, count, head + said))


def swept(leg: Leg, now: float, wall: float) -> str:
    """A second has passed: what there is to tell of the leg's voice, see `media.quality.Judge`."""
    speech = leg.speech()
    if speech is None:
        return ""
    stream, payload = speech
    measured = stream.measured
    measured.inward.swept()
    measured.outward.swept()
    measured.sweeps += 1
    # Where another's packets pass, that one's reports pass, too; and where none pass, there is nothing to report.
    speaks = stream.source is None and now - max(stream.at, stream.last_in) < REPORT_S
    if speaks and leg.ready and measured.sweeps % REPORT_S == 0:
        report = own(stream, payload.clock, now, wall)
        sent(stream, report, now)
        stream.send_rtcp(report)
    if now - stream.last_in > POOR_S / 2:
        return ""  # on hold, or muted: there is no judging what nobody says
    return leg.judge.judge(measured.now_worth(payload.name.lower(), at_most=FAIR_MOS), now)


def facts(leg: Leg, stream: Stream) -> dict[str, float | None]:
    """See `MediaServer.stats`."""
    speech = leg.speech() if stream.kind == "audio" else None
    return stream.measured.facts(speech[1].name.lower() if speech is not None else None)


def kept(leg: Leg, epoch: float) -> dict[str, dict[str, Any]]:
    """See `MediaServer.on_quality`; of every stream in which enough has come. `epoch` makes our times wall times."""
    found: dict[str, dict[str, Any]] = {}
    speech = leg.speech()
    for stream in leg.carried:
        measured = stream.measured
        if measured.began_at is not None:
            found[stream.kind] = {
                **facts(leg, stream),
                "started_at": round(measured.began_at + epoch, 3),
                "seconds": round(max(0.0, stream.last_in - measured.began_at), 3),
                "lost": max(0, measured.inward.lost),
                "received": stream.packets_in,
            }
            if speech is not None and stream is speech[0]:
                found[stream.kind]["mos_lately"] = round(measured.now_worth(speech[1].name.lower()), 2)
    return found
