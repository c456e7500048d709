"""A recording that is played: read whole, encoded as it is heard, for its hearers are few and their codecs differ."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from config.errors import OurError, TheirError
from media.prompts import FRAMES_A_SECOND, TICKS, Frames
from media.speech import NARROW, WIDE, Encoder, Samples

MOST_S = 300


class Clip:
    """Sound in memory."""

    def __init__(self, samples: Samples, rate: int) -> None:
        size = rate // FRAMES_A_SECOND
        short = -len(samples) % size or (0 if len(samples) else size)
        self.samples: Samples = np.concatenate((samples, np.zeros(short, np.int16)))
        self.rate = rate

    @classmethod
    def read(cls, path: Path) -> Clip:
        """Of a WAV file as `VoiceFile` writes it; TheirError(404) where there is none, OurError(500) for another.

        Blocks: to be called in a thread.
        """
        try:
            with wave.open(str(path), "rb") as file:
                shape = file.getnchannels(), file.getsampwidth()
                rate = file.getframerate()
                if shape != (1, 2) or rate not in (NARROW, WIDE):
                    raise OurError(f"The recording {path.name} is not one of ours")
                samples = np.frombuffer(file.readframes(MOST_S * rate), "<i2")
        except FileNotFoundError:
            raise TheirError("There is no such recording", 404) from None
        except (OSError, wave.Error, EOFError, ValueError) as error:
            raise OurError(f"The recording {path.name} cannot be read: {error}") from None
        return cls(samples, rate)

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def frames(self, codec: str) -> Frames:
        codec = codec.lower()
        return Frames(_Encoded(self, codec), TICKS[codec])


class _Encoded(Sequence[bytes]):
    """Frames that are made when they are asked for, one after the other."""

    def __init__(self, clip: Clip, codec: str) -> None:
        self._clip = clip
        self._encoder = Encoder(codec, clip.rate)
        self._size = clip.rate // FRAMES_A_SECOND

    def __len__(self) -> int:
        return len(self._clip.samples) // self._size

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        at = range(len(self))[index] * self._size
        return self._encoder.encode(self._clip.samples[at : at + self._size])
