"""The embedded MediaServer's core: calls, their legs, and what each leg hears. Lives in the media process.

All methods are synchronous, and everything happens in one thread: between two packets the state is whole.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.errors import OurError, TheirError
from media import offer_answer, rtcp, sdp
from media.keys import Keys
from media.leg import Leg, ask_key_frames, link, unlink
from media.offer_answer import Line, Local
from media.plain import PlainEndpoint, PortRange, destination
from media.playing import Player
from media.prompts import Prompts
from media.recording import END_KEY, Recordings
from media.rtp import Packet, Stream
from media.sdp import Media, Origin
from media.server import ALL_KINDS, MOST_IN_CONFERENCE, Profile
from media.webrtc import BrowserPort, BrowserTransport

if TYPE_CHECKING:
    from media.conference import Conference

SWEEP_S = 1.0
# A plain RTP peer that was heard and then sends neither RTP nor RTCP this long is gone.
SILENCE_S = 60.0
# Imported when there is a conference: it brings the codecs.
MIXER = "media.conference"
# Packets of all calls wait while one of them is mixed: at most so much of the time, and however quick it is.
MOST_MIXING = 0.4
MOST_CONFERENCES = 32
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
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._public = public
        self._on_gone = on_gone
        self._on_keys = on_keys
        self._now = now
        self._packet = Packet()
        self._browsers = BrowserPort(loop, host, ports[0], self._packet, now)
        self._ports = PortRange(host, ports[0] + 1, ports[1])
        self._calls: dict[str, dict[str, Leg]] = {}
        self._threads = ThreadPoolExecutor(DISK_THREADS, "disk")
        self._player = Player(loop, prompts, self._threads, now)
        self._recordings = Recordings(self._threads, now, on_recorded)
        self._conferences: set[Conference] = set()
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
            raise TheirError("A call cannot change between WebRTC and plain RTP", 488)
        try:
            self._check_addresses(leg, lines, description.media)
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
    ) -> bytes:
        model = self._leg(call, like).lines if like is not None else None
        leg = self._calls.get(call, {}).get(branch)
        if leg is not None:
            leg.offered = offer_answer.offer_lines(leg.profile, model, kinds, leg.lines or leg.offered)
            return self._describe(leg, leg.offered, answering=False)
        lines = offer_answer.offer_lines(profile, model, kinds, telephone=telephone)
        leg = self._new_leg(call, branch, profile)
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
        self._check_addresses(leg, lines, description.media)
        self._agreed(leg, lines, description.media)

    def answer_joined(self, call: str, branch: str, offer: bytes, *, peer: str, answer: bytes) -> bytes:
        self.accept(call, peer, answer)
        ours = self.answer(call, branch, offer, like=peer)
        self.join(call, branch, peer)
        return ours

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
            self._on_keys(leg.call, leg.branch, key)

    def join(self, call: str, a: str, b: str) -> None:
        first, second = self._leg(call, a), self._leg(call, b)
        if first is second:
            raise OurError("a leg cannot be joined to itself")
        first.read = second.read = None
        for leg in (first, second):
            self._player.stop(leg)
            self._leave(leg)
            if leg.peer is not None and leg.peer not in (first, second):
                unlink(leg, leg.peer)
        first.peer, second.peer = second, first
        link(first, second)
        ask_key_frames(first)
        ask_key_frames(second)

    def confer(self, call: str, branches: Sequence[str]) -> None:
        there = (leg.conference for leg in self._calls.get(call, {}).values())
        conference = next((each for each in there if each is not None), None)
        if len(branches) < 2:
            if conference is not None:
                conference.close()
                self._conferences.discard(conference)
            return
        legs = [self._leg(call, branch) for branch in branches]
        if len(set(legs)) < len(legs) or len(legs) > MOST_IN_CONFERENCE:
            raise OurError(f"a conference is of 2 to {MOST_IN_CONFERENCE} branches, each once")
        if conference is None:
            mixing = sum(each.share for each in self._conferences)
            if len(self._conferences) >= MOST_CONFERENCES or mixing >= MOST_MIXING:
                raise OurError("There are too many conferences", 503)
            conference = importlib.import_module(MIXER).Conference(self._loop, self._now)
            self._conferences.add(conference)
        for leg in legs:
            leg.read = None
            self._player.stop(leg)
            if leg.peer is not None:
                unlink(leg, leg.peer)
        conference.seat(legs)

    def _leave(self, leg: Leg) -> None:
        conference = leg.conference
        if conference is not None:
            conference.leave(leg)
            if not conference.legs:
                self._conferences.discard(conference)

    def record(self, call: str, branch: str, path: str, *, limit_s: float, silence_s: float) -> None:
        self._recordings.start(self._leg(call, branch), Path(path), limit_s=limit_s, silence_s=silence_s)

    def stop_recording(self, call: str, branch: str) -> Awaitable[float]:
        return self._recordings.stop(self._leg(call, branch))

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
        self._player.stop(leg)
        self._leave(leg)
        if leg.recording is not None:
            self._recordings.end(leg, "gone")
        if leg.keys is not None:
            leg.keys.stop()
        if leg.peer is not None:
            unlink(leg, leg.peer)
        if leg.transport is not None:
            leg.transport.close()
        for endpoint in leg.endpoints.values():
            endpoint.close()

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
                "kinds": {
                    stream.kind: {
                        "packets_in": stream.packets_in,
                        "packets_out": stream.packets_out,
                        "bytes_in": stream.bytes_in,
                        "bytes_out": stream.bytes_out,
                        "last_packet_at": stream.last_in + epoch if stream.last_in else None,
                    }
                    for stream in leg.carried
                },
            }
            for branch, leg in legs.items()
        }

    async def finish_recordings(self) -> None:
        """Their files are complete when it returns."""
        await self._recordings.finish()

    def close(self) -> None:
        for call in list(self._calls):
            self.delete(call)
        self._sweep_timer.cancel()
        self._player.close()
        self._browsers.close()
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
        return leg

    def _open(self, leg: Leg, lines: tuple[Line, ...]) -> None:
        """A stream, and for plain RTP its ports, for each m-line that may carry something."""
        while len(leg.streams) < len(lines):
            leg.streams.append(None)
        for index, line in enumerate(lines):
            if line.accepted and leg.streams[index] is None:
                stream = Stream(line.kind, self._packet)
                stream.on_source = self._new_source
                if leg.profile is Profile.RTP:
                    leg.endpoints[stream] = PlainEndpoint(
                        self._loop,
                        self._ports,
                        self._packet,
                        stream,
                        self._now,
                        lambda from_stream, data: self._plain_rtcp_arrived(leg, from_stream, data),
                    )
                leg.streams[index] = stream

    def _check_addresses(self, leg: Leg, lines: tuple[Line, ...], media: tuple[Media, ...]) -> None:
        """Before anything changes. Raises TheirError(488)."""
        if leg.profile is Profile.RTP:
            for line, each in zip(lines, media, strict=True):
                if line.accepted:
                    destination(each.address, each.port)
                    if each.rtcp_address:
                        destination(each.rtcp_address, each.rtcp_port or 0)

    def _agreed(self, leg: Leg, lines: tuple[Line, ...], media: tuple[Media, ...]) -> None:
        """Offer and answer are both known."""
        leg.lines = lines
        leg.gone = False  # it has just spoken, whatever was said of it before
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
            if leg.profile is Profile.RTP:
                rtcp_at = None
                if each.rtcp_port is not None:
                    rtcp_at = (each.rtcp_address or each.address, each.rtcp_port)
                leg.endpoints[stream].reach((each.address, each.port), rtcp_at, mux=line.mux)
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
        origin = Origin("-", leg.session_id, leg.version, self._public)
        local: list[Local | None] = []
        for line, stream in zip(lines, leg.streams, strict=True):
            if not line.accepted or stream is None:
                local.append(None)
            elif leg.transport is not None:
                port = self._browsers.port
                local.append(
                    Local(
                        address=self._public,
                        port=port,
                        ice_ufrag=leg.transport.ufrag,
                        ice_pwd=leg.transport.pwd,
                        fingerprint=self._browsers.certificate.fingerprint,
                        setup="passive" if answering else "actpass",
                        candidates=(f"1 1 udp 2130706431 {self._public} {port} typ host",),
                        ssrc=stream.ssrc,
                    )
                )
            else:
                port = leg.endpoints[stream].port
                local.append(Local(self._public, port, port + 1))
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
        for to, report in rtcp.forward(data, (stream,)):
            to.send_rtcp(report)

    def _rtcp_arrived(self, leg: Leg, data: bytes) -> None:
        for to, report in rtcp.forward(data, leg.carried):
            to.send_rtcp(report)

    def _sweep(self) -> None:
        now = self._now()
        for legs in list(self._calls.values()):
            for leg in list(legs.values()):
                if leg.transport is not None:
                    leg.transport.sweep(now)
                else:
                    self._listen_for_silence(leg, now)
        self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)

    def _listen_for_silence(self, leg: Leg, now: float) -> None:
        heard = max((leg.heard_at, *(s.last_in for s in leg.carried)), default=0.0)
        if not any(line.accepted and line.they_send for line in leg.lines):
            leg.heard_at = now if heard else 0.0  # on hold: silence is what was asked for
        elif heard and now - heard > SILENCE_S:
            self._lost(leg, f"nothing was received for {SILENCE_S:.0f} s")


def _first_accepted(lines: tuple[Line, ...], media: tuple[Media, ...]) -> Media:
    """The m-line whose transport carries the bundle (RFC 9143 section 7.2)."""
    return next(each for line, each in zip(lines, media, strict=True) if line.accepted)
