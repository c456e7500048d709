"""How well those hear each other who are joined in rtpengine: what their own RTCP says, as rtpengine has read it.

A peer reports on what comes to it all the way from the other, so loss and jitter are of both legs together; rtpengine
counts no gaps in what comes to itself, so what was lost between a peer and it (`loss_in`) stays unknown. The round trip
is of the one leg. rtpengine keeps a report only where the other sends reports, too: else nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from media.engine_dialogue import kinds_in, medias
from media.quality import Judge, Share, mos

SETTLE_S = 10.0
"""Whoever hears a stream again that it has heard before counts what it missed of it meanwhile as lost; by then it has
said so (RFC 3550 section 6.2: a report about every 5 s), and it is left out."""
_MOST_LOST = 4  # of each that passed


class Report(NamedTuple):
    """What one SSRC says of all that came to it. `mark` changes with every report of which rtpengine kept something."""

    ssrc: int
    mark: tuple[int, int]
    lost: int
    jitter_ms: float | None
    round_trip_ms: float | None


class _Look(NamedTuple):
    report: Report
    sent: int


def reports_in(reply: Mapping[str, Any], tag: str) -> dict[str, Report]:
    """By kind of media that it sends, what a tag has reported by now (maybe nothing), of a reply to `query`."""
    all_reports = _dictionary(reply.get("SSRC"))
    found = {}
    for media in medias(reply, tag):
        for stream in media.get("streams", ()):
            ssrc = _number(stream.get("SSRC"))
            said = _dictionary(all_reports.get(str(ssrc)))
            if b"RTP" in stream.get("flags", ()) and ssrc:
                found[media.get("type", b"").decode(errors="replace")] = _report(ssrc, said)
    return found


def _report(ssrc: int, said: Mapping[str, Any]) -> Report:
    entries = _dictionary(said.get("MOS progression")).get("entries")
    last = _dictionary(entries[-1]) if isinstance(entries, list) and entries else {}
    average = _dictionary(said.get("average MOS"))
    # Where no report of its could be answered to, there is no round trip, and with it no MOS and no average.
    measured = average if _number(average.get("samples")) else last
    micros = _number(measured.get("round-trip time leg")) or _number(measured.get("round-trip time"))
    return Report(
        ssrc,
        (_number(average.get("samples")), _number(last.get("reported at"))),
        _number(said.get("cumulative loss")),
        float(_number(measured.get("jitter"))) if measured else None,
        micros / 1000 if micros else None,
    )


class _Kind:
    """Of one kind of media, what was sent to the peer and came."""

    def __init__(self) -> None:
        self.outward = Share()
        self.jitter_ms: float | None = None
        self.round_trip_ms: float | None = None
        self.codec = ""
        self.received = 0
        self.last_packet_at: float | None = None
        self.judged = (0, 0)
        self._before: _Look | None = None

    def begins(self) -> None:
        self._before = None

    def looked(self, report: Report, sent: int) -> None:
        before = self._before
        if before is not None and before.report.ssrc == report.ssrc:
            if before.report.mark == report.mark:
                return  # what has been sent since is not reported on yet
            lost, passed = report.lost - before.report.lost, sent - before.sent
            # Any other has begun to count anew.
            if passed > 0 and -passed <= lost <= _MOST_LOST * passed:
                # It is not known on which leg they were lost: if on the other's, as many more were sent.
                self.outward.sent += passed + max(0, lost)
                self.outward.lost += lost
        self.jitter_ms, self.round_trip_ms = report.jitter_ms, report.round_trip_ms
        self._before = _Look(report, sent)

    def worth(self, loss: float) -> float:
        return mos(
            self.codec, loss=loss, jitter_ms=self.jitter_ms or 0.0, round_trip_ms=self.round_trip_ms or 0.0
        )


class Told:
    """What one branch has told of what it heard whenever it took the shortcut. Times are those of any clock."""

    def __init__(self) -> None:
        self.judge = Judge()
        self._kinds: dict[str, _Kind] = {}
        self._lately: float | None = None
        self._counts_from = 0.0
        self._began_at: float | None = None

    def begins(self, now: float, wall: float, *, again: bool) -> None:
        """The shortcut was taken; `again`: it has heard that peer there before. `wall` is in epoch seconds."""
        self._counts_from = now + SETTLE_S if again else now
        if self._began_at is None:
            self._began_at = wall
        for kind in self._kinds.values():
            kind.begins()

    def looked(self, reply: Mapping[str, Any], tag: str, other: str, now: float) -> None:
        """A reply to `query`, while `tag` hears `other`."""
        came, sent, reports = kinds_in(reply, tag), kinds_in(reply, other), reports_in(reply, tag)
        for name, counted in came.items():
            kind = self._kinds.setdefault(name, _Kind())
            kind.received, kind.last_packet_at = counted["packets_in"], counted["last_packet_at"]
            kind.codec = _codec(reply, tag, name)
            if now >= self._counts_from and name in sent and name in reports:
                kind.looked(reports[name], sent[name]["packets_in"])

    def news(self, now: float) -> str:
        """ "poor", "fair" or empty, of the voice since this was asked last; see `media.quality.Judge`."""
        voice = self._kinds.get("audio")
        if voice is None:
            return ""
        lost, sent = voice.outward.lost - voice.judged[0], voice.outward.sent - voice.judged[1]
        if sent <= 0:
            return ""
        voice.judged = voice.outward.lost, voice.outward.sent
        self._lately = voice.worth(min(1.0, max(0.0, lost / sent)))
        return self.judge.judge(self._lately, now)

    def facts(self, kind: str, studios: Mapping[str, Any], received: int) -> dict[str, Any]:
        """`MediaServer.stats`' quality of a kind: what the studio says, who got `received` of its packets, and this."""
        mine = self._kinds.get(kind)
        if mine is None:
            return dict(studios)
        weight = mine.outward.sent
        loss_out = _mean(studios["loss_out"], received, mine.outward.all, weight)
        jitter_ms = _mean(studios["jitter_ms"], received, mine.jitter_ms, weight)
        round_trip_ms = _mean(studios["round_trip_ms"], received, mine.round_trip_ms, weight)
        losses = [each for each in (studios["loss_in"], loss_out) if each is not None]
        worth = None
        if kind == "audio" and losses:
            worth = mos(
                mine.codec, loss=max(losses), jitter_ms=jitter_ms or 0.0, round_trip_ms=round_trip_ms or 0.0
            )
        return {
            "loss_in": studios["loss_in"],
            "loss_out": _rounded(loss_out, 5),
            "jitter_ms": _rounded(jitter_ms, 2),
            "round_trip_ms": _rounded(round_trip_ms, 1),
            "mos": _rounded(worth, 2),
        }

    def kept(self, studios: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """`MediaServer.on_quality`'s facts, of those of the studio and this."""
        found = {name: dict(facts) for name, facts in studios.items()}
        for name, kind in self._kinds.items():
            if not kind.received or self._began_at is None:
                continue
            old = found.get(name, {})
            started_at = old.get("started_at", round(self._began_at, 3))
            seconds = max(old.get("seconds", 0.0), (kind.last_packet_at or 0.0) - started_at)
            found[name] = {
                **self.facts(name, {**_UNKNOWN, **old}, old.get("received", 0)),
                "started_at": started_at,
                "seconds": round(seconds, 3),
                "lost": old.get("lost", 0),
                "received": max(kind.received, old.get("received", 0)),
            }
            lately = self._lately if self._lately is not None else found[name]["mos"]
            if name == "audio" and lately is not None:
                found[name]["mos_lately"] = round(lately, 2)
        return found


_UNKNOWN = dict.fromkeys(("loss_in", "loss_out", "jitter_ms", "round_trip_ms", "mos"))


def _codec(reply: Mapping[str, Any], tag: str, kind: str) -> str:
    names = [m.get("codec", b"") for m in medias(reply, tag) if m.get("type") == kind.encode()]
    return names[0].decode(errors="replace").partition("/")[0].lower() if names else ""


def _mean(a: float | None, of_a: int, b: float | None, of_b: int) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return (a * of_a + b * of_b) / (of_a + of_b) if of_a + of_b > 0 else b


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
