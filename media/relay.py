"""The embedded MediaServer's core: calls, their legs, and what each leg hears. Lives in the media process.

All methods are synchronous, and everything happens in one thread: between two packets the state is whole.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

from config.errors import OurError, TheirError
from media import offer_answer, rtcp, sdp
from media.keys import Keys
from media.offer_answer import Line, Local
from media.plain import PlainEndpoint, PortRange, destination
from media.prompts import Frames, Prompts
from media.rtp import Packet, Stream
from media.sdp import Media, Origin, SessionDescription
from media.server import ALL_KINDS, Profile
from media.webrtc import BrowserPort, BrowserTransport

FRAME_S = 0.020
SWEEP_S = 1.0
# A plain RTP peer that was heard and then sends neither RTP nor RTCP this long is gone.
SILENCE_S = 60.0


_Read = tuple[SessionDescription, Profile, tuple[Line, ...]]


class Leg:
    """One branch of a call: what was agreed with its peer, and a stream for each m-line that carries something."""

    def __init__(self, call: str, branch: str, profile: Profile) -> None:
        self.call = call
        self.branch = branch
        self.profile = profile
        self.lines: tuple[Line, ...] = ()
        self.offered: tuple[Line, ...] = ()
        # Its first offer as it was read: once somebody has answered the call, the same is answered again.
        self.read: tuple[tuple[bytes, frozenset[str]], _Read] | None = None
        self.streams: list[Stream | None] = []
        self.endpoints: dict[Stream, PlainEndpoint] = {}
        self.transport: BrowserTransport | None = None
        self.session_id = secrets.randbits(62)
        self.version = 0
        self.peer: Leg | None = None
        self.playing: Playing | None = None
        self.keys: Keys | None = None
        self.heard_at = 0.0
        self.gone = False

    @property
    def carried(self) -> tuple[Stream, ...]:
        return tuple(s for s in self.streams if s is not None)

    @property
    def ready(self) -> bool:
        """Whether anything sent now can reach the peer."""
        return self.transport.ready if self.transport is not None else bool(self.lines)

    def first(self, kind: str) -> tuple[Stream, Line] | None:
        for stream, line in zip(self.streams, self.lines, strict=False):
            if stream is not None and line.accepted and line.kind == kind:
                return stream, line
        return None


class Playing:
    """A prompt on its way to one leg. It waits for the leg to be reachable, so its beginning is never lost."""

    def __init__(self, leg: Leg, prompt: str, *, repeat: bool) -> None:
        self.leg = leg
        self.prompt = prompt
        self.repeat = repeat
        self.frames: Frames | None = None
        self.stream: Stream | None = None
        self.number = 0
        self.index = 0
        self.first = True


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
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._public = public
        self._prompts = prompts
        self._on_gone = on_gone
        self._now = now
        self._packet = Packet()
        self._browsers = BrowserPort(loop, host, ports[0], self._packet, now)
        self._ports = PortRange(host, ports[0] + 1, ports[1])
        self._calls: dict[str, dict[str, Leg]] = {}
        self._playing: set[Playing] = set()
        self._frame_due = 0.0
        self._frame_timer: asyncio.Handle | None = None
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
    ) -> bytes:
        model = self._leg(call, like).lines if like is not None else None
        leg = self._calls.get(call, {}).get(branch)
        if leg is not None:
            leg.offered = offer_answer.offer_lines(leg.profile, model, kinds, leg.lines or leg.offered)
            return self._describe(leg, leg.offered, answering=False)
        lines = offer_answer.offer_lines(profile, model, kinds)
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

    def play(self, call: str, branch: str, prompt: str, *, repeat: bool = False) -> float:
        leg = self._leg(call, branch)
        seconds = self._prompts.seconds(prompt)
        self.stop(call, branch)
        if leg.peer is not None:
            self._unlink(leg, leg.peer)
        leg.playing = Playing(leg, prompt, repeat=repeat)
        self._playing.add(leg.playing)
        if self._frame_timer is None:
            self._frame_due = self._now()
            self._frame_timer = self._loop.call_soon(self._frame)
        return seconds

    def stop(self, call: str, branch: str) -> None:
        leg = self._leg(call, branch)
        if leg.playing is not None:
            self._playing.discard(leg.playing)
            leg.playing = None

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

    def join(self, call: str, a: str, b: str) -> None:
        first, second = self._leg(call, a), self._leg(call, b)
        if first is second:
            raise OurError("a leg cannot be joined to itself")
        self.stop(call, a)
        self.stop(call, b)
        first.read = second.read = None
        for leg in (first, second):
            if leg.peer is not None and leg.peer not in (first, second):
                self._unlink(leg, leg.peer)
        first.peer, second.peer = second, first
        self._link(first)
        self._ask_key_frames(first)
        self._ask_key_frames(second)

    def part(self, call: str, a: str, b: str) -> None:
        legs = self._calls.get(call, {})
        first, second = legs.get(a), legs.get(b)
        if first is not None and second is not None and first.peer is second:
            self._unlink(first, second)

    def drop(self, call: str, branch: str) -> None:
        legs = self._calls.get(call, {})
        leg = legs.pop(branch, None)
        if not legs:
            self._calls.pop(call, None)
        if leg is None:
            return
        if leg.playing is not None:
            self._playing.discard(leg.playing)
        if leg.keys is not None:
            leg.keys.stop()
        if leg.peer is not None:
            self._unlink(leg, leg.peer)
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

    def close(self) -> None:
        for call in list(self._calls):
            self.delete(call)
        self._sweep_timer.cancel()
        if self._frame_timer is not None:
            self._frame_timer.cancel()
        self._browsers.close()

    def _leg(self, call: str, branch: str) -> Leg:
        leg = self._calls.get(call, {}).get(branch)
        if leg is None:
            raise OurError(f"There is no branch {branch} of call {call} in the media server")
        return leg

    def _new_leg(self, call: str, branch: str, profile: Profile) -> Leg:
        leg = Leg(call, branch, profile)
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
            stream.taken = [False] * 128
            for payload in line.ours:
                stream.taken[payload.number] = line.they_send
                stream.clock_of[payload.number] = payload.clock
            for alias, number in line.aliases:
                stream.taken[alias] = stream.taken[number]
                stream.clock_of[alias] = stream.clock_of[number]
            if leg.profile is Profile.RTP:
                rtcp_at = None
                if each.rtcp_port is not None:
                    rtcp_at = (each.rtcp_address or each.address, each.rtcp_port)
                leg.endpoints[stream].reach((each.address, each.port), rtcp_at, mux=line.mux)
        if leg.transport is not None:
            chosen = _first_accepted(lines, media)
            if chosen.fingerprint is None:
                raise TheirError("a fingerprint is needed", 488)
            leg.transport.carry(leg.carried)
            leg.transport.reach(chosen.ice_ufrag, chosen.fingerprint)
        if leg.playing is not None:
            leg.playing.stream = None  # the codec may be another now
        if leg.peer is not None:
            self._link(leg)
            # Whoever was on hold or has moved sees pictures again that go on from some it never got.
            self._ask_key_frames(leg)
            self._ask_key_frames(leg.peer)

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

    def _link(self, leg: Leg) -> None:
        """Let media of the same kind flow between a leg and its peer, both ways."""
        other = leg.peer
        if other is None:
            return
        for a, b in ((leg, other), (other, leg)):
            for stream in a.carried:
                stream.sink = None
            for kind in ALL_KINDS:
                mine, theirs = a.first(kind), b.first(kind)
                if mine is not None and theirs is not None:
                    mine[0].payload_map = offer_answer.payload_map(mine[1], theirs[1])
                    mine[0].sink = theirs[0]

    def _unlink(self, a: Leg, b: Leg) -> None:
        a.peer = b.peer = None
        for stream in (*a.carried, *b.carried):
            stream.sink = None
            stream.source = stream.source_ssrc = None

    def _ask_key_frames(self, leg: Leg) -> None:
        for stream in leg.carried:
            if stream.kind == "video" and (request := rtcp.key_frame_request(stream)):
                stream.send_rtcp(request)

    def _new_source(self, stream: Stream) -> None:
        """Its pictures are seen from here on by somebody who has not seen any of them yet."""
        if stream.kind == "video" and (request := rtcp.key_frame_request(stream)):
            # The packet in hand is still in the shared buffer; RTCP goes out by a buffer of its own.
            stream.send_rtcp(request)

    def _reachable(self, leg: Leg) -> None:
        if leg.peer is not None:
            self._ask_key_frames(leg.peer)
            self._ask_key_frames(leg)

    def _lost(self, leg: Leg, why: str) -> None:
        if not leg.gone:
            leg.gone = True
            self._on_gone(leg.call, leg.branch, why)

    def _plain_rtcp_arrived(self, leg: Leg, stream: Stream, data: bytes) -> None:
        leg.heard_at = self._now()
        # Each medium has a session of its own here (RFC 3550 section 5.2): SSRCs of another are not meant.
        for to, report in rtcp.forward(data, (stream,)):
            to.send_rtcp(report)

    def _rtcp_arrived(self, leg: Leg, data: bytes) -> None:
        for to, report in rtcp.forward(data, leg.carried):
            to.send_rtcp(report)

    def _frame(self) -> None:
        """20 ms of every prompt that is playing. The next is due by the clock, not by our work: nothing drifts."""
        now = self._now()
        for playing in list(self._playing):
            self._play_frame(playing, now)
        if not self._playing:
            self._frame_timer = None
            return
        self._frame_due += FRAME_S
        if self._frame_due < now - 5 * FRAME_S:
            self._frame_due = now  # the process was held up; catching up would only burst
        self._frame_timer = self._loop.call_later(max(0.0, self._frame_due - self._now()), self._frame)

    def _play_frame(self, playing: Playing, now: float) -> None:
        leg = playing.leg
        if playing.stream is None and not self._choose(playing):
            return
        stream, frames = playing.stream, playing.frames
        if stream is None or frames is None or not leg.ready or not stream.takes:
            return
        if playing.index == len(frames.frames):
            if not playing.repeat:
                self._playing.discard(playing)
                leg.playing = None
                return
            playing.index = 0
        frame = frames.frames[playing.index]
        stream.send_frame(frame, playing.number, frames.ticks, now, first=playing.first)
        playing.first = False
        playing.index += 1

    def _choose(self, playing: Playing) -> bool:
        """The prompt in the codec this leg likes best."""
        audio = playing.leg.first("audio")
        if audio is None:
            return False
        stream, line = audio
        payload = next(p for p in line.theirs if not offer_answer.is_event(p))
        playing.frames = self._prompts.frames(playing.prompt, payload.name)
        playing.stream = stream
        playing.number = payload.number
        playing.first = True
        return True

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
