"""What one leg says, in the codec of another. Importing this loads the codecs; see `media.speech`."""

from __future__ import annotations

import numpy as np

from media.leg import Leg
from media.prompts import FRAMES_A_SECOND, TICKS
from media.rtp import Heard
from media.speech import Decoder, Encoder, Samples, rate_of, silence

# A timestamp further away is that of a source that began anew.
JUMP_S = 2.0
# Of a packet: those of phones are of 20 to 60 ms (RFC 7587 section 3.2 allows 120).
LONGEST_S = 0.12
# What one leg may have made of its packets: as much sound as time goes by, and this much ahead of it (what the network
# held up comes all at once). A packet of next to no sound is work, too, and counts as this much.
AHEAD_S = 1.0
LEAST_S = 0.0025


class Way:
    """What one says, on its way to the other."""

    def __init__(self, sink: Leg, codec: str, clock: int) -> None:
        spoken = sink.speech()
        assert spoken is not None
        self._stream, payload = spoken
        self._sink = sink
        self._number = payload.number
        name = payload.name.lower()
        self._ticks = TICKS[name]
        self._clock = clock
        self._rate = min(rate_of(codec), rate_of(name))
        self._size = self._rate // FRAMES_A_SECOND
        self._decoder = Decoder(codec, self._rate)
        self._encoder = Encoder(name, self._rate)
        self._sound: Samples = silence(0, self._rate)
        self._ssrc: int | None = None
        self._seq = 0
        self._due = 0
        self._first = True
        self._room_s = AHEAD_S
        self._room_at: float | None = None

    def carry(self, packet: Heard, now: float) -> None:
        stream = self._stream
        if not self._sink.ready or not stream.takes or self._sink.playing is not None:
            self._first = True
            return
        if self._is_late(packet) or not self._has_room(now):
            return
        sound = self._decoder.decode(packet.payload)[: int(LONGEST_S * self._rate)]
        self._room_s -= max(LEAST_S, len(sound) / self._rate)
        self._due = (self._due + len(sound) * self._clock // self._rate) & 0xFFFFFFFF
        self._sound = np.concatenate((self._sound, sound))
        while len(self._sound) >= self._size:
            piece, self._sound = self._sound[: self._size], self._sound[self._size :]
            if frame := self._encoder.encode(piece):
                stream.send_frame(frame, self._number, self._ticks, now, first=self._first)
                self._first = False

    def _has_room(self, now: float) -> bool:
        """Whether its peer sends no more than it can say: the packets of all calls wait while one is decoded."""
        passed = now - self._room_at if self._room_at is not None else 0.0
        self._room_at = now
        self._room_s = min(AHEAD_S, self._room_s + passed)
        return self._room_s > 0

    def _is_late(self, packet: Heard) -> bool:
        """Or a repetition, or empty. If not, our numbers and our time have jumped as theirs did."""
        if not packet.payload:
            return True
        gap = ((packet.timestamp - self._due + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        if packet.ssrc != self._ssrc or abs(gap) > JUMP_S * self._clock:
            self._ssrc = packet.ssrc
            self._first = True
        elif gap < 0:
            return True
        else:
            lost = (packet.seq - self._seq - 1) & 0xFFFF
            stream = self._stream
            if lost < FRAMES_A_SECOND:
                stream.seq = (stream.seq + lost) & 0xFFFF
            ticks = gap * self._ticks * FRAMES_A_SECOND // self._clock
            stream.timestamp = (stream.timestamp + ticks) & 0xFFFFFFFF
            # RFC 3551 section 4.1: a talkspurt begins.
            self._first = self._first or packet.marker
        self._seq = packet.seq
        self._due = packet.timestamp
        return False
