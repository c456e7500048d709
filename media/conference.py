"""Several branches of one call that hear each other: decoded, added up, encoded for each without its own voice.

Who hears one other alone, in a codec both have, gets the packets of that one as they came: a supervisor who listens
changes nothing for the two who talk.

Importing this loads the codecs; see `media.speech`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from media import offer_answer
from media.jitter import Jitter
from media.leg import Leg, ask_key_frames, link, unlink
from media.prompts import FRAMES_A_SECOND, TICKS
from media.rtp import Heard, Stream
from media.sdp import Payload
from media.speech import NARROW, Decoder, Encoder, Samples, clipped, rate_of, silence

FRAME_S = 1 / FRAMES_A_SECOND


class _Seat:
    """What one of them says and hears."""

    def __init__(self, leg: Leg) -> None:
        self.leg = leg
        self.sources: tuple[_Seat, ...] = ()  # whom it hears
        self.direct: _Seat | None = None  # the one whose packets go there as they come
        self.decoded = False  # somebody hears this one mixed with others, or in another codec
        self.prompted = False  # it heard a prompt a moment ago
        self.jitter = Jitter()
        self._rate = NARROW
        self._sound: Samples = silence(0, NARROW)
        self._decoders: dict[str, Decoder] = {}
        self._encoder: Encoder | None = None
        self._speech: tuple[Stream, Payload] | None = None
        self._first = True

    def agree(self, rate: int) -> None:
        """What its peer wants to be spoken to in may have changed, or the rate at which all are mixed."""
        speech = self.leg.speech()
        if rate != self._rate:
            self._rate = rate
            self._sound = silence(0, rate)
            self._decoders.clear()
            self._encoder = None
        if speech is None:
            self._encoder = None
        elif self._encoder is None or speech != self._speech:
            self._encoder = Encoder(speech[1].name.lower(), rate)
            self._first = True
        self._speech = speech

    def says(self, now: float) -> Samples | None:
        """20 ms; None for silence."""
        size = self._rate // FRAMES_A_SECOND
        while len(self._sound) < size:
            piece = self.jitter.take(now)
            if piece is None:
                break
            if piece.payload is None:
                sound = silence(piece.seconds, self._rate)
            else:
                if piece.codec not in self._decoders:
                    self._decoders[piece.codec] = Decoder(piece.codec, self._rate)
                sound = self._decoders[piece.codec].decode(piece.payload)
                self.jitter.played(len(sound) / self._rate)
            self._sound = np.concatenate((self._sound, sound))
        if not len(self._sound):
            return None
        said, self._sound = self._sound[:size], self._sound[size:]
        return said if len(said) == size else np.concatenate((said, np.zeros(size - len(said), np.int16)))

    def agreed_with(self, source: _Seat) -> bool:
        """Whether all that `source` may say can be heard here as it is."""
        mine, theirs = self.leg.first("audio"), source.leg.first("audio")
        if mine is None or theirs is None:
            return False
        numbers = offer_answer.payload_map(theirs[1], mine[1])
        return all(numbers[p.number] >= 0 for p in theirs[1].ours if not offer_answer.is_event(p))

    def link(self) -> None:
        """Packets of `direct` come here from now on; of nobody, without one."""
        mine = self.leg.first("audio")
        theirs = self.direct.leg.first("audio") if self.direct is not None else None
        if mine is not None and theirs is not None:
            theirs[0].payload_map = offer_answer.payload_map(theirs[1], mine[1])
            theirs[0].sink = mine[0]
            self._first = True

    def hears(self, sound: Samples, now: float) -> None:
        leg, speech, encoder = self.leg, self._speech, self._encoder
        if speech is None or encoder is None or leg.playing is not None:
            self._first = True
            return
        stream, payload = speech
        if not leg.ready or not stream.takes:
            self._first = True
            return
        if frame := encoder.encode(sound):
            ticks = TICKS[payload.name.lower()]
            stream.send_frame(frame, payload.number, ticks, now, first=self._first)
            self._first = False


class Conference:
    """Those of one call who hear each other; of pictures, the first two who have any see each other's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float]) -> None:
        self._loop = loop
        self._now = now
        self._seats: dict[Leg, _Seat] = {}  # in the order they were named
        self._hears: dict[Leg, Sequence[Leg]] = {}  # of those who do not hear all the others
        self._rate = NARROW
        self._seen: tuple[Leg, ...] = ()
        self.share = 0.0
        """Of this process's time, what mixing has taken lately."""
        self._due = now()
        self._timer: asyncio.Handle | None = loop.call_soon(self._tick)

    @property
    def legs(self) -> tuple[Leg, ...]:
        return tuple(self._seats)

    def seat(self, legs: Sequence[Leg], hears: Mapping[Leg, Sequence[Leg]] | None = None) -> None:
        """These, and nobody else, from now on; of whom `hears` says nothing, each hears all others. Whoever was here
        already goes on without a gap."""
        for leg in self.legs:
            if leg not in legs:
                self._rise(leg)
        self._seats = {leg: self._seats.get(leg) or _Seat(leg) for leg in legs}
        self._hears = dict(hears or {})
        for leg in legs:
            leg.conference = self
            leg.take()
        self.agreed()

    def leave(self, leg: Leg) -> None:
        """The others go on; the last one hears silence."""
        self._rise(leg)
        self.agreed()

    def close(self) -> None:
        self.seat(())

    def agreed(self, leg: Leg | None = None) -> None:
        """Who is here, or what `leg` has agreed on with its peer, has changed."""
        if not self._seats:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        spoken = [speech[1].name.lower() for each in self._seats if (speech := each.speech()) is not None]
        self._rate = max(map(rate_of, spoken), default=NARROW)
        for seat in self._seats.values():
            seat.agree(self._rate)
        self._show(anew=leg in self._seen)
        self._route()

    def heard(self, leg: Leg, codec: str, clock: int, packet: Heard) -> None:
        seat = self._seats[leg]
        if seat.decoded:
            seat.jitter.put(codec, clock, packet)

    def _rise(self, leg: Leg) -> None:
        if self._seats.pop(leg, None) is None:
            return
        leg.conference = None
        unlink(leg)
        leg.take()

    def _route(self) -> None:
        """Who hears whom, and how."""
        seats = self._seats
        taken: set[_Seat] = set()
        for leg, seat in seats.items():
            audio = leg.first("audio")
            if audio is not None:
                audio[0].sink = None
            others = [each for each in seats if each is not leg]
            named = self._hears.get(leg, others)
            # As `join` is undone by a prompt: whoever hears one is heard by nobody meanwhile.
            seat.sources = tuple(seats[each] for each in others if each in named and each.playing is None)
            seat.prompted = leg.playing is not None
            seat.decoded = False
        for leg, seat in seats.items():
            # Where others may come any moment all are mixed from the start, so that none is missed for a moment then.
            only = seat.sources[0] if leg in self._hears and len(seat.sources) == 1 else None
            # A stream has one sink. What is played to a leg comes in place of everything else.
            free = only is not None and only not in taken and not seat.prompted and seat.agreed_with(only)
            seat.direct = only if free else None
            if seat.direct is not None:
                taken.add(seat.direct)
        for seat in seats.values():
            seat.link()
            for source in seat.sources:
                source.decoded = source.decoded or seat.direct is None

    def _show(self, *, anew: bool) -> None:
        seeing = tuple(leg for leg in self._seats if leg.first("video") is not None)[:2]
        if len(seeing) < 2:
            seeing = ()
        if seeing == self._seen and not anew:
            return
        unlink(*(leg for leg in self._seen if leg in self._seats))
        self._seen = seeing
        if seeing:
            link(seeing[0], seeing[1], ("video",))
            for leg in seeing:
                ask_key_frames(leg)

    def _sum(self, voices: Sequence[Samples | None]) -> Samples:
        sounds = [sound for sound in voices if sound is not None]
        if len(sounds) == 1:
            return sounds[0]
        together = np.zeros(self._rate // FRAMES_A_SECOND, np.int32)
        for sound in sounds:
            together += sound
        return clipped(together)

    def _tick(self) -> None:
        """20 ms of everybody, by the clock as prompts are."""
        now = self._now()
        seats = self._seats.values()
        if any(seat.prompted is (seat.leg.playing is None) for seat in seats):
            self._route()
        said = {seat: seat.says(now) for seat in seats if seat.decoded}
        for seat in seats:
            if seat.direct is None:
                seat.hears(self._sum([said.get(source) for source in seat.sources]), now)
        self.share += ((self._now() - now) / FRAME_S - self.share) * 0.02
        self._due += FRAME_S
        if self._due < now - 5 * FRAME_S:
            self._due = now  # the process was held up; catching up would only burst
        self._timer = self._loop.call_later(max(0.0, self._due - self._now()), self._tick)
