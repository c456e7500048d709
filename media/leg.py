"""One branch of a call as the relay holds it, and what links two of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from media import offer_answer, rtcp
from media.heard_keys import HeardKeys
from media.keys import Keys
from media.offer_answer import Line
from media.plain import PlainEndpoint
from media.rtp import Heard, Stream
from media.sdp import Payload, SessionDescription
from media.server import ALL_KINDS, Profile
from media.webrtc import BrowserTransport

if TYPE_CHECKING:
    from media.conference import Conference
    from media.playing import Playing
    from media.recording import Recording

Read = tuple[SessionDescription, Profile, tuple[Line, ...]]


class Leg:
    """One branch of a call: what was agreed with its peer, and a stream for each m-line that carries something."""

    def __init__(self, call: str, branch: str, profile: Profile, on_key: Callable[[Leg, str], None]) -> None:
        self.call = call
        self.branch = branch
        self.profile = profile
        self.lines: tuple[Line, ...] = ()
        self.offered: tuple[Line, ...] = ()
        # Its first offer as it was read: once somebody has answered the call, the same is answered again.
        self.read: tuple[tuple[bytes, frozenset[str]], Read] | None = None
        self.streams: list[Stream | None] = []
        self.endpoints: dict[Stream, PlainEndpoint] = {}
        self.transport: BrowserTransport | None = None
        self.session_id = secrets.randbits(62)
        self.version = 0
        self.peer: Leg | None = None
        self.playing: Playing | None = None
        self.conference: Conference | None = None
        self.recording: Recording | None = None
        self.keys: Keys | None = None
        self.heard_keys = HeardKeys(lambda key: on_key(self, key))
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

    def speech(self) -> tuple[Stream, Payload] | None:
        """Where and in which codec it wants to be spoken to."""
        audio = self.first("audio")
        if audio is None:
            return None
        return audio[0], next(p for p in audio[1].theirs if not offer_answer.is_event(p))

    def take(self) -> None:
        """Take what was agreed that the peer may send. Only what somebody listens to is looked into."""
        audio = self.first("audio")
        for stream, line in zip(self.streams, self.lines, strict=False):
            if stream is None or not line.accepted:
                continue
            stream.taken = [False] * 128
            stream.listeners = {}
            named = {payload.number: payload for payload in line.ours}
            named |= {alias: named[number] for alias, number in line.aliases}
            for number, payload in named.items():
                stream.clock_of[number] = payload.clock
                if not line.they_send:
                    continue
                listener = self._listener(payload) if audio is not None and stream is audio[0] else None
                if listener is None:
                    stream.taken[number] = True
                else:
                    stream.listeners[number] = listener

    def _listener(self, payload: Payload) -> Callable[[Heard], None] | None:
        if offer_answer.is_event(payload):
            return self.heard_keys.heard
        if self.recording is None and self.conference is None:
            return None
        codec, clock = payload.name.lower(), payload.clock

        def spoken(heard: Heard) -> None:
            if self.recording is not None:
                self.recording.heard(codec, clock, heard)
            if self.conference is not None:
                self.conference.heard(self, codec, clock, heard)

        return spoken


def link(a: Leg, b: Leg, kinds: Iterable[str] = ALL_KINDS) -> None:
    """Let media of the same kind flow between two legs, both ways, and of no other kind."""
    for one, other in ((a, b), (b, a)):
        for stream in one.carried:
            stream.sink = None
        for kind in kinds:
            mine, theirs = one.first(kind), other.first(kind)
            if mine is not None and theirs is not None:
                mine[0].payload_map = offer_answer.payload_map(mine[1], theirs[1])
                mine[0].sink = theirs[0]


def unlink(*legs: Leg) -> None:
    for leg in legs:
        leg.peer = None
        for stream in leg.carried:
            stream.sink = None
            stream.source = stream.source_ssrc = None


def ask_key_frames(leg: Leg) -> None:
    for stream in leg.carried:
        if stream.kind == "video" and (request := rtcp.key_frame_request(stream)):
            stream.send_rtcp(request)
