"""One branch of a call as the relay holds it, and what links two of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from media import offer_answer, rtcp
from media.heard_keys import HeardKeys
from media.keys import Keys
from media.offer_answer import Line
from media.plain import PlainEndpoint
from media.quality import Judge
from media.rtp import Heard, Stream
from media.sdp import Payload, SessionDescription
from media.secure import SecureEndpoint
from media.server import ALL_KINDS, Profile
from media.webrtc import BrowserTransport

if TYPE_CHECKING:
    from media.conference import Conference
    from media.playing import Playing
    from media.recording import Recording
    from media.tap import Side
    from media.transcoding import Transcoding

Read = tuple[SessionDescription, Profile, tuple[Line, ...]]

_DEAF = HeardKeys(lambda key: None)


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
        self.endpoints: dict[Stream, PlainEndpoint | SecureEndpoint] = {}
        self.transport: BrowserTransport | None = None
        self.session_id = secrets.randbits(62)
        self.version = 0
        self.peer: Leg | None = None
        self.playing: Playing | None = None
        self.conference: Conference | None = None
        self.transcoding: Transcoding | None = None
        self.recording: Recording | None = None
        self.tapped: Side | None = None
        self.keys: Keys | None = None
        self.heard_keys = HeardKeys(lambda key: on_key(self, key))
        self.heard_at = 0.0
        self.agreed_at = 0.0
        self.hears_at = 0.0  # when there was last something for it to hear
        self.told_silent = False
        self.six = False  # its peer is reached by IPv6
        self.seen_at = ""  # where its signalling comes from, if that may be where its packets do
        self.judge = Judge()
        self.gone = False
        self._unheard_since: float | None = None

    @property
    def carried(self) -> tuple[Stream, ...]:
        return tuple(s for s in self.streams if s is not None)

    @property
    def ready(self) -> bool:
        """Whether anything sent now can reach the peer."""
        if self.transport is not None:
            return self.transport.ready
        since = self._unheard_since
        if (
            since is not None
            and self.heard_at <= since
            and not any(stream.last_in for stream in self.carried)
        ):
            return False
        return bool(self.lines) and all(endpoint.ready for endpoint in self.endpoints.values())

    def behind(self, now: float, *, waits: bool) -> None:
        """See `Relay.behind`."""
        self._unheard_since = now if waits else None
        self.heard_at = now
        self.gone = False
        for stream in self.carried:
            stream.ssrc = secrets.randbits(32) or 1
            stream.measured.begun_anew()

    def let_go(self) -> None:
        """The branch is over: what leads from it back to it goes, or it would be the garbage collector's to find, and
        packets wait while that looks through all the calls there are."""
        self.endpoints.clear()
        self.heard_keys = _DEAF
        for stream in self.carried:
            stream.listeners = {}

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
        if self.tapped is not None:
            self.tapped.agreed(self.lines)
        for stream, line in zip(self.streams, self.lines, strict=False):
            if stream is None or not line.accepted:
                continue
            first = self.first(line.kind)
            stream.taken = [False] * 128
            stream.listeners = {}
            stream.timed = [0] * 128
            named = {payload.number: payload for payload in line.ours}
            named |= {alias: named[number] for alias, number in line.aliases}
            for number, payload in named.items():
                stream.clock_of[number] = payload.clock
                stream.timed[number] = 0 if offer_answer.is_event(payload) else payload.clock
                if not line.they_send:
                    continue
                looked_into = first is not None and stream is first[0]
                listener = self._listener(line.kind, payload) if looked_into else None
                if listener is None:
                    stream.taken[number] = True
                else:
                    stream.listeners[number] = listener

    def _listener(self, kind: str, payload: Payload) -> Callable[[Heard], None] | None:
        if offer_answer.is_event(payload):
            return self.heard_keys.heard
        codec, clock = payload.name.lower(), payload.clock
        tapped = self.tapped if self.tapped is not None and self.tapped.hears(kind) else None
        if kind != "audio":
            return partial(tapped.heard, codec, clock) if tapped is not None else None
        listeners = self.recording, self.conference, self.transcoding, tapped
        if all(each is None for each in listeners):
            return None

        def spoken(heard: Heard) -> None:
            if self.recording is not None:
                self.recording.heard(codec, clock, heard)
            if self.conference is not None:
                self.conference.heard(self, codec, clock, heard)
            if self.transcoding is not None:
                self.transcoding.heard(self, codec, clock, heard)
            if tapped is not None:
                tapped.heard(codec, clock, heard)

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
        if leg.transcoding is not None:
            leg.transcoding.end()
        for stream in leg.carried:
            stream.sink = None
            stream.source = stream.source_ssrc = None


def ask_key_frames(leg: Leg) -> None:
    for stream in leg.carried:
        if stream.kind == "video" and (request := rtcp.key_frame_request(stream)):
            stream.send_rtcp(request)
