"""What one party says, laid on the time of a recording: in order, decoded, and silent where nothing came.

Loading this brings the codecs; see `media.speech`.
"""

from __future__ import annotations

from bisect import insort
from operator import itemgetter

import numpy as np

from media.speech import Decoder, Samples, silence
from media.timeline import Timeline

# More than any phone sends in the time between two calls of `take`.
MOST_WAITING = 1000
_POSITION = itemgetter(0)


class Voice:
    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._timeline = Timeline(rate)
        self._waiting: list[tuple[int, str, bytes]] = []  # by position
        self._decoders: dict[str, Decoder] = {}
        self._newest = -1
        self._at = 0
        self._held = silence(0, rate)  # what was decoded and lies behind `_at`

    def put(self, codec: str, clock: int, ssrc: int, timestamp: int, payload: bytes, at: float) -> None:
        """A packet, `at` seconds after the beginning."""
        position = self._timeline.place(ssrc, clock, timestamp, at)
        if len(self._waiting) < MOST_WAITING:
            insort(self._waiting, (position, codec, payload), key=_POSITION)

    def take(self, size: int) -> Samples:
        """The next so many samples. What arrives for them later is lost."""
        end = self._at + size
        pieces = [self._held]
        heard = self._at + len(self._held)
        while self._waiting and self._waiting[0][0] < end:
            position, codec, payload = self._waiting.pop(0)
            if position <= self._newest:
                continue  # it came twice, or a sender's clock that was ahead is being put right
            self._newest = position
            sound = self._decode(codec, payload)
            if position > heard:
                pieces.append(np.zeros(position - heard, np.int16))
                heard = position
            # For what comes too late there has been silence already.
            sound = sound[heard - position :]
            pieces.append(sound)
            heard += len(sound)
        if heard < end:
            pieces.append(np.zeros(end - heard, np.int16))
        said = np.concatenate(pieces)
        self._at = end
        self._held = said[size:]
        return said[:size]

    def _decode(self, codec: str, payload: bytes) -> Samples:
        decoder = self._decoders.get(codec)
        if decoder is None:
            decoder = self._decoders[codec] = Decoder(codec, self._rate)
        return decoder.decode(payload)
