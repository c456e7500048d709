"""The embedded MediaServer's core: calls, their legs, and what each leg hears. Lives in the media process.

All methods are synchronous, and everything happens in one thread: between two packets the state is whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from config.errors import OurError, TheirError
from media import offer_answer, reports, rtcp, sdp
from media.arrivals import Arrivals
from media.conferences import Conferences
from media.keys import Keys
from media.leg import Leg, ask_key_frames, link, unlink
from media.offer_answer import Line, Local
from media.placing import announced, check, place, reach
from media.plain import PlainEndpoint, PortRange
from media.playing import Player
from media.prompts import Prompts
from media.recording import END_KEY, Recordings
from media.resending import Recent
from media.rtp import Packet, Stream
from media.sdp import Media, Origin
from media.secure import SecureEndpoint
from media.server import ALL_KINDS, MOST_IN_CONFERENCE, SILENCE_S, Profile
from media.silence import Silence, swept
from media.tap import Taps
from media.transcoding import Transcodings
from media.webrtc import BrowserPort, BrowserTransport

SWEEP_S = 1.0
DISK_THREADS = 4


class Relay:
    """See `MediaServer` for what the methods mean."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        host: str,
        public: str,
        ports: tuple[int, int],
        prompts: Prompts,
        on_gone: Callable[[str, str, str], None],
        on_keys: Callable[[str, str, str], None],
        on_recorded: Callable[[str, str, str, float], None],
        on_tapped: Callable[[str, str, float], None] = lambda *_: None,
        on_quality: Callable[[str, str, str, dict[str, Any]], None] = lambda *_: None,
        on_transcoding: Callable[[str, str, str], None] = lambda *_: None,
        silence_s: float = SILENCE_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._public = tuple(public.split(","))
        self._on_gone = on_gone
        self._on_keys = on_keys
        self._on_quality = on_quality
        self._silence_s = silence_s
        self._now = now
        self._packet = Packet()
        self._arrivals = Arrivals(loop, now)
        self._browsers = BrowserPort(loop, self._arrivals, host, ports[0], self._packet, now)
        self._ports = PortRange(host, ports[0] + 1, ports[1], self._public)
        self._calls: dict[str, dict[str, Leg]] = {}
        self._threads = ThreadPoolExecutor(DISK_THREADS, "disk")
        self._player = Player(loop, prompts, self._threads, now, self._arrivals.take_due)
        self._recordings = Recordings(self._threads, now, on_recorded)
        self._taps = Taps(now, on_tapped)
        self._conferences = Conferences(loop, now)
        self._transcodings = Transcodings(
            loop, self._threads, now, lambda a, b: on_transcoding(a.call, a.branch, b.branch)
        )
        self._sweep_timer = loop.call_later(SWEEP_S, self._sweep)

    def answer(
        self,
        call: str,
        branch: str,
        offer: bytes,
        *,
        kinds: frozenset[str] = ALL_KINDS,
        like: str | None = None,
    ) -> bytes:
        leg = self._calls.get(call, {}).get(branch)
        if leg is not None and leg.read is not None and leg.read[0] == (offer, kinds):
            description, profile, lines = leg.read[1]
        else:
            description = sdp.parse(offer)
            profile, lines = offer_answer.read_offer(description, kinds)
        read = (offer, kinds), (description, profile, lines)
        if like is not None:
            lines = offer_answer.narrowed(lines, self._leg(call, like).lines)
        new = leg is None
        if leg is None:
            leg = self._new_leg(call, branch, profile)
            leg.read = read
        elif leg.profile is not profile:
            raise TheirError("A call cannot change between plain RTP, SRTP and WebRTC", 488)
        try:
            check(self._ports, leg, lines, description.media)
            if leg.transport is not None:
                chosen = _first_accepted(lines, description.media)
                if leg.transport.restarted(chosen.ice_ufrag):
                    leg.transport.renew_credentials()
            self._open(leg, lines)
        except Exception:
            if new:
                self.drop(call, branch)
            raise
        leg.offered = ()
        self._agreed(leg, lines, description.media)
        return self._describe(leg, lines, answering=True)

    def offer(
        self,
        call: str,
        branch: str,
        *,
        profile: Profile,
        like: str | None = None,
        kinds: frozenset[str] | None = None,
        telephone: bool = False,
        wide: bool = False,
        ipv6: bool = False,
        adding: bool = False,
    ) -> bytes:
        model: tuple[Line, ...] | None = None
        if like is not None:
            followed = self._leg(call, like)
            # Who was offered to late (RFC 3261 section 13.2.1) answers in the ACK, which may still be on its way.
            model = followed.lines or followed.offered
        leg = self._calls.get(call, {}).get(branch)
        if leg is not None:
            current = leg.lines or leg.offered
            leg.offered = offer_answer.offer_lines(leg.profile, model, kinds, current, adding=adding)
            self._open(leg, leg.offered)
            return self._describe(leg, leg.offered, answering=False)
        lines = offer_answer.offer_lines(profile, model, kinds, telephone=telephone, wide=wide)
        leg = self._new_leg(call, branch, profile)
        leg.six = ipv6
        try:
            self._open(leg, lines)
        except Exception:
            self.drop(call, branch)
            raise
        leg.offered = lines
        return self._describe(leg, lines, answering=False)

    def accept(self, call: str, branch: str, answer: bytes) -> None:
        leg = self._leg(call, branch)
        if not leg.offered:
            raise TheirError("an answer came without an offer", 488)
        description = sdp.parse(answer)
        lines = offer_answer.read_answer(leg.offered, description, leg.profile)
        check(self._ports, leg, lines, description.media)
        self._agreed(leg, lines, description.media)

    def answer_joined(self, call: str, branch: str, offer: bytes, *, peer: str, answer: bytes) -> bytes:
        self.accept(call, peer, answer)
        ours = self.answer(call, branch, offer, like=peer)
        self.join(call, branch, peer)
        return ours

    def seen_at(self, call: str, branch: str, address: str) -> None:
        leg = self._leg(call, branch)
        leg.seen_at = address = self._ports.host_of(address)
        for endpoint in leg.endpoints.values():
            endpoint.seen_at = address

    def compatible(self, call: str, a: str, b: str) -> bool:
        return offer_answer.can_hear(self._leg(call, a).lines, self._leg(call, b).lines)

    def play(
        self, call: str, branch: str, prompts: Sequence[str], *, repeat: bool = False
    ) -> float | Awaitable[float]:
        leg = self._leg(call, branch)
        seconds = self._player.play(leg, prompts, repeat=repeat)
        if leg.peer is not None:
            unlink(leg, leg.peer)
        return seconds

    def stop(self, call: str, branch: str) -> None:
        self._player.stop(self._leg(call, branch))

    def keys(self, call: str, branch: str, keys: str) -> bool:
        leg = self._leg(call, branch)
        audio = leg.first("audio")
        if audio is None:
            return False
        stream, line = audio
        speech = next(p for p in line.theirs if not offer_answer.is_event(p))
        events = [p for p in line.theirs if offer_answer.is_event(p)]
        if not events:
            return False
        if leg.keys is None:
            if not leg.ready or not line.they_receive:
                return True  # on hold nobody hears a key, whichever way it is told
            # RFC 4733 §2.1: its clock is that of the audio beside it, where they were asked for one like that.
            event = next((p for p in events if p.clock == speech.clock), events[0])
            leg.keys = Keys(
                self._loop, stream, event.number, event.clock, self._now, lambda: self._keys_sent(leg)
            )
        leg.keys.add(keys)
        return True

    def _keys_sent(self, leg: Leg) -> None:
        leg.keys = None
        audio = leg.first("audio")
        if audio is not None:
            audio[0].takes = audio[1].they_receive

    def _key_heard(self, leg: Leg, key: str) -> None:
        if leg.recording is not None and key == END_KEY:
            self._recordings.end(leg, "key")
        else:
            if leg.transcoding is not None:
                self.keys(leg.call, leg.transcoding.other(leg).branch, key)
            self._on_keys(leg.call, leg.branch, key)

    def join(self, call: str, a: str, b: str) -> None:
        first, second = self._leg(call, a), self._leg(call, b)
        if first is second:
            raise OurError("a leg cannot be joined to itself")
        first.read = second.read = None
        for leg in (first, second):
            self._player.stop(leg)
            self._conferences.leave(leg)
            if leg.peer is not None and leg.peer not in (first, second):
                unlink(leg, leg.peer)
        first.peer, second.peer = second, first
        link(first, second)
        try:
            self._transcodings.settle(first, second, self._conferences.share)
        except OurError:
            unlink(first, second)
            raise
        ask_key_frames(first)
        ask_key_frames(second)

    def join_alike(self, call: str, a: str, b: str) -> bool:
        alike = self.compatible(call, a, b)
        if alike:
            self.join(call, a, b)
        return alike

    def confer(
        self, call: str, branches: Sequence[str], *, hears: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        there = (leg.conference for leg in self._calls.get(call, {}).values())
        conference = next((each for each in there if each is not None), None)
        if len(branches) < 2:
            if conference is not None:
                self._conferences.end(conference)
            return
        legs = [self._leg(call, branch) for branch in branches]
        if len(set(legs)) < len(legs) or len(legs) > MOST_IN_CONFERENCE:
            raise OurError(f"a conference is of 2 to {MOST_IN_CONFERENCE} branches, each once")
        wanted = {
            self._leg(call, branch): [self._leg(call, each) for each in named]
            for branch, named in (hears or {}).items()
        }
        if conference is None:
            conference = self._conferences.begin(self._transcodings.share)
        for leg in legs:
            leg.read = None
            self._player.stop(leg)
            if leg.peer is not None:
                unlink(leg, leg.peer)
        conference.seat(legs, wanted)

    def record(self, call: str, branch: str, path: str, *, limit_s: float, silence_s: float) -> None:
        self._recordings.start(self._leg(call, branch), Path(path), limit_s=limit_s, silence_s=silence_s)

    def stop_recording(self, call: str, branch: str) -> Awaitable[float]:
        return self._recordings.stop(self._leg(call, branch))

    def tap(
        self,
        call: str,
        left: str,
        right: str,
        path: str,
        *,
        video: bool = False,
        key: bytes | None = None,
        limit_s: float,
    ) -> Awaitable[None]:
        legs = self._calls.get(call, {}).values()
        return self._taps.start(call, (left, right), legs, Path(path), video=video, key=key, limit_s=limit_s)

    def pause_tap(self, call: str, paused: bool) -> bool:
        return self._taps.pause(call, paused)

    def end_tap(self, call: str) -> Awaitable[float]:
        return self._taps.end(call)

    def part(self, call: str, a: str, b: str) -> None:
        legs = self._calls.get(call, {})
        first, second = legs.get(a), legs.get(b)
        if first is not None and second is not None and first.peer is second:
            unlink(first, second)

    def drop(self, call: str, branch: str) -> None:
        legs = self._calls.get(call, {})
        leg = legs.pop(branch, None)
        if not legs:
            self._calls.pop(call, None)
        if leg is None:
            return
        if kept := reports.kept(leg, time.time() - self._now()):
            self._on_quality(call, branch, "ended", kept)
        self._player.stop(leg)
        self._conferences.leave(leg)
        if leg.recording is not None:
            self._recordings.end(leg, "gone")
        self._taps.left(leg)
        if leg.keys is not None:
            leg.keys.stop()
        if leg.peer is not None:
            unlink(leg, leg.peer)
        if leg.transport is not None:
            leg.transport.close()
        for endpoint in leg.endpoints.values():
            endpoint.close()
        leg.let_go()

    def delete(self, call: str) -> None:
        for branch in list(self._calls.get(call, {})):
            self.drop(call, branch)

    def stats(self, call: str) -> dict[str, Any]:
        legs = self._calls.get(call)
        if legs is None:
            raise OurError(f"There is no call {call} in the media server")
        epoch = time.time() - self._now()
        return {
            branch: {
                "ready": leg.ready,
                "transcoded": leg.transcoding is not None,
                "kinds": {
                    stream.kind: {
                        "packets_in": stream.packets_in,
                        "packets_out": stream.packets_out,
                        "bytes_in": stream.bytes_in,
                        "bytes_out": stream.bytes_out,
                        "last_packet_at": stream.last_in + epoch if stream.last_in else None,
                        "quality": reports.facts(leg, stream),
                    }
                    for stream in leg.carried
                },
            }
            for branch, leg in legs.items()
        }

    def behind(self, call: str, branch: str, *, waits: bool) -> None:
        """The peer of this plain leg is behind another relay, and its media comes here from now on, or again.

        It must be heard of within the time that silence may last. We send under new SSRCs, for some peers never listen
        again to one that was replaced; with `waits` only once the peer was heard: then the way to it is open.
        """
        self._leg(call, branch).behind(self._now(), waits=waits)

    def take_packets(self) -> None:
        """Those that are due by now: for whoever has one request after the other, which they need not wait for."""
        self._arrivals.take_due()

    async def finish_recordings(self) -> None:
        """Their files are complete when it returns."""
        await asyncio.gather(self._recordings.finish(), self._taps.finish())

    def close(self) -> None:
        for call in list(self._calls):
            self.delete(call)
        self._sweep_timer.cancel()
        self._player.close()
        self._taps.close()
        self._browsers.close()
        self._arrivals.close()
        self._threads.shutdown(wait=False)

    def _leg(self, call: str, branch: str) -> Leg:
        leg = self._calls.get(call, {}).get(branch)
        if leg is None:
            raise OurError(f"There is no branch {branch} of call {call} in the media server")
        return leg

    def _new_leg(self, call: str, branch: str, profile: Profile) -> Leg:
        leg = Leg(call, branch, profile, self._key_heard)
        if profile is Profile.WEBRTC:
            leg.transport = BrowserTransport(
                self._browsers,
                on_ready=lambda: self._reachable(leg),
                on_gone=lambda why: self._lost(leg, why),
                on_rtcp=lambda data: self._rtcp_arrived(leg, data),
            )
        self._calls.setdefault(call, {})[branch] = leg
        self._taps.came(leg)
        return leg

    def _open(self, leg: Leg, lines: tuple[Line, ...]) -> None:
        """A stream, and for plain RTP its ports, for each m-line that may carry something."""
        while len(leg.streams) < len(lines):
            leg.streams.append(None)
        while len(leg.streams) > len(lines):  # offered in addition, and never agreed
            if (left := leg.streams[-1]) is not None:
                self._shut(leg, len(leg.streams) - 1, left)
            leg.streams.pop()
        for index, line in enumerate(lines):
            old = leg.streams[index]
            if line.accepted and old is not None and old.kind != line.kind:
                self._shut(leg, index, old)  # RFC 3264 section 8.3.3: another kind of media in the same place
            if line.accepted and leg.streams[index] is None:
                stream = Stream(line.kind, self._packet)
                stream.on_source = self._new_source
                if leg.transport is None:
                    leg.endpoints[stream] = self._endpoint(leg, stream)
                leg.streams[index] = stream

    def _endpoint(self, leg: Leg, stream: Stream) -> PlainEndpoint | SecureEndpoint:
        def on_rtcp(from_stream: Stream, data: bytes) -> None:
            self._plain_rtcp_arrived(leg, from_stream, data)

        if leg.profile is Profile.RTP:
            return PlainEndpoint(self._arrivals, self._ports, self._packet, stream, on_rtcp, leg.seen_at)
        return SecureEndpoint(
            *(self._loop, self._arrivals, self._ports, self._packet, stream, on_rtcp),
            certificate=self._browsers.certificate if leg.profile is Profile.DTLS else None,
            on_ready=lambda: self._reachable(leg),
            on_gone=lambda why: self._lost(leg, why),
            seen_at=leg.seen_at,
        )

    def _agreed(self, leg: Leg, lines: tuple[Line, ...], media: tuple[Media, ...]) -> None:
        """Offer and answer are both known."""
        leg.lines = lines
        leg.gone = False  # it has just spoken, whatever was said of it before
        leg.agreed_at = self._now()
        leg.six = any(":" in each.address for each, line in zip(media, lines, strict=True) if line.accepted)
        if leg.heard_at or any(stream.last_in for stream in leg.carried):
            # Silence counts from here on: after a long hold nothing has come for as long, and that is no fault.
            leg.heard_at = self._now()
        for index, (line, each) in enumerate(zip(lines, media, strict=True)):
            stream = leg.streams[index]
            if stream is None:
                continue
            if not line.accepted:
                self._shut(leg, index, stream)
                continue
            if leg.keys is not None:
                # Their payload type may be another from here on; what was pressed in this moment is lost.
                leg.keys.stop()
                leg.keys = None
            if line.they_receive and not stream.takes:
                # What was held back was never sent: numbers go on where they stopped, or it would look like loss.
                stream.source_ssrc = None
            stream.takes = line.they_receive
            stream.mends = offer_answer.mends(line)
            stream.fir = offer_answer.only_fir(line)
            if stream.mends and leg.transport is not None and stream.recent is None:
                stream.recent = Recent(self._packet)
            if leg.transport is None:
                reach(leg.endpoints[stream], line, each)
        leg.take()
        if leg.transport is not None:
            chosen = _first_accepted(lines, media)
            if chosen.fingerprint is None:
                raise TheirError("a fingerprint is needed", 488)
            leg.transport.carry(leg.carried)
            leg.transport.reach(chosen.ice_ufrag, chosen.fingerprint)
        if leg.playing is not None:
            leg.playing.stream = None  # the codec may be another now
        if leg.conference is not None:
            leg.conference.agreed(leg)
        if leg.peer is not None:
            link(leg, leg.peer)
            self._transcodings.settle(leg, leg.peer)
            # Whoever was on hold or has moved sees pictures again that go on from some it never got.
            ask_key_frames(leg)
            ask_key_frames(leg.peer)

    def _shut(self, leg: Leg, index: int, stream: Stream) -> None:
        leg.streams[index] = None
        stream.takes = False
        if stream.sink is not None:
            stream.sink.sink = None
            stream.sink = None
        endpoint = leg.endpoints.pop(stream, None)
        if endpoint is not None:
            endpoint.close()

    def _describe(self, leg: Leg, lines: tuple[Line, ...], *, answering: bool) -> bytes:
        leg.version += 1
        origin = Origin("-", leg.session_id, leg.version, announced(self._public, six=leg.six))
        local: list[Local | None] = [
            place(leg, stream, line, self._browsers, self._public, answering=answering)
            if line.accepted and stream is not None
            else None
            for line, stream in zip(lines, leg.streams, strict=True)
        ]
        return offer_answer.write(origin, leg.profile, lines, local, answering=answering).to_bytes()

    def _new_source(self, stream: Stream) -> None:
        """Its pictures are seen from here on by somebody who has not seen any of them yet."""
        if stream.kind == "video" and (request := rtcp.key_frame_request(stream)):
            # The packet in hand is still in the shared buffer; RTCP goes out by a buffer of its own.
            stream.send_rtcp(request)

    def _reachable(self, leg: Leg) -> None:
        if leg.peer is not None:
            ask_key_frames(leg.peer)
            ask_key_frames(leg)

    def _lost(self, leg: Leg, why: str) -> None:
        if not leg.gone:
            leg.gone = True
            if leg.recording is not None:
                self._recordings.end(leg, "gone")
            self._on_gone(leg.call, leg.branch, why)

    def _plain_rtcp_arrived(self, leg: Leg, stream: Stream, data: bytes) -> None:
        leg.heard_at = self._now()
        # Each medium has a session of its own here (RFC 3550 section 5.2): SSRCs of another are not meant.
        self._forward_rtcp((stream,), data)

    def _rtcp_arrived(self, leg: Leg, data: bytes) -> None:
        self._forward_rtcp(leg.carried, data)

    def _forward_rtcp(self, streams: tuple[Stream, ...], data: bytes) -> None:
        now = self._now()
        reports.heard(streams, data, now)
        for to, report in rtcp.forward(data, streams, now):
            reports.sent(to, report, now)
            to.send_rtcp(report)

    def _sweep(self) -> None:
        self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)
        now = self._now()
        for legs in list(self._calls.values()):
            for leg in list(legs.values()):
                try:
                    self._look_after(leg, now)
                except Exception as error:  # a defect that one leg shows must not leave all others unwatched
                    self._loop.call_exception_handler({"message": "a leg failed", "exception": error})
            self._arrivals.take_due()  # of many calls, packets wait for one

    def _look_after(self, leg: Leg, now: float) -> None:
        if leg.transport is not None:
            leg.transport.sweep(now)
        elif (found := swept(leg, now, self._silence_s)) is Silence.GONE:
            self._lost(leg, f"nothing was received for {self._silence_s:.0f} s")
        elif found is Silence.BEGINS:
            self._on_quality(leg.call, leg.branch, found.value, reports.kept(leg, time.time() - now))
        if news := reports.swept(leg, now, time.time()):
            self._on_quality(leg.call, leg.branch, news, reports.kept(leg, time.time() - now))


def _first_accepted(lines: tuple[Line, ...], media: tuple[Media, ...]) -> Media:
    """The m-line whose transport carries the bundle (RFC 9143 section 7.2)."""
    return next(each for line, each in zip(lines, media, strict=True) if line.accepted)
