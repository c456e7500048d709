"""The quality of a leg (see `media.quality`): from what RTCP says of it, and as it is told and kept."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from media import rtcp
from media.leg import Leg
from media.quality import POOR_S, Block
from media.rtp import Stream

_BLOCK = struct.Struct("!IB3sI4x4sI")
# RFC 3550 section 6.4.1: the middle 32 bits of the NTP time in a sender report, by which it is answered.
_NAME = slice(10, 14)


def blocks(compound: bytes) -> Iterator[Block]:
    """All that it says of streams, in its sender and receiver reports."""
    for kind, count, body in rtcp.packets(compound):
        if kind not in (rtcp.SR, rtcp.RR):
            continue
        start = 24 if kind == rtcp.SR else 4
        for at in range(start, min(start + count * 24, len(body) - 23), 24):
            ssrc, fraction, lost, highest, last_report, since = _BLOCK.unpack_from(body, at)
            yield Block(ssrc, fraction, int.from_bytes(lost, "big", signed=True), highest, last_report, since)


def heard(streams: Sequence[Stream], compound: bytes, now: float) -> None:
    """The peer of these streams has sent it."""
    for block in blocks(compound):
        for stream in streams:
            if stream.ssrc == block.ssrc:
                stream.measured.told(block, stream.packets_out, stream.seq, now)


def sent(stream: Stream, compound: bytes, now: float) -> None:
    """The peer of this stream gets it."""
    if compound[1] == rtcp.SR:
        stream.measured.reported(compound[_NAME], now)


def swept(leg: Leg, now: float) -> str:
    """A second has passed: what there is to tell of the leg's voice, see `media.quality.Judge`."""
    speech = leg.speech()
    if speech is None:
        return ""
    stream, payload = speech
    measured = stream.measured
    measured.inward.swept()
    measured.outward.swept()
    if now - stream.last_in > POOR_S / 2:
        return ""  # on hold, or muted: there is no judging what nobody says
    return leg.judge.judge(measured.now_worth(payload.name.lower()), now)


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
