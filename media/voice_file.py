"""What one branch says, as a WAV file that can be read at every moment. Works in a thread, and blocks."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from media.speech import Decoder, Samples, silence
from media.timeline import after

# Packets that overtake each other on their way do so within this time.
REORDER_S = 0.06
# A timestamp that jumps further than time went by (and this) is that of a source that began anew.
JUMP_S = 1.0
# A voice on the telephone is at -20 to -30 dB of the loudest there is, a quiet room below -50; this is -44.
VOICE_RMS = 200.0
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_RIFF_SIZE_AT, _DATA_SIZE_AT = 4, 40


class Spoken(NamedTuple):
    """A packet of speech. `at`: when it came, in seconds of any clock."""

    codec: str
    clock: int
    ssrc: int
    timestamp: int
    payload: bytes
    at: float


class VoiceFile:
    """Sound is appended; then the sizes in the header are set right, so that they never promise what is not there."""

    def __init__(self, path: Path, rate: int, most_s: float) -> None:
        self._path = path
        self._rate = rate
        self._most = int(most_s * rate)
        self._file: BinaryIO | None = None
        self._written = 0
        self._waiting: list[Spoken] = []
        self._decoders: dict[str, Decoder] = {}
        self._source: tuple[int, int] | None = None  # SSRC and clock
        self._expected = 0
        self._last_at = 0.0

    @property
    def seconds(self) -> float:
        return self._written / self._rate

    @property
    def full(self) -> bool:
        return self._written >= self._most

    def open(self) -> None:
        """Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("xb", buffering=0)
        self._file.write(
            _HEADER.pack(
                *(b"RIFF", _HEADER.size - 8, b"WAVE", b"fmt ", 16),
                # PCM, one channel, samples and octets a second, octets and bits a sample
                *(1, 1, self._rate, self._rate * 2, 2, 16),
                *(b"data", 0),
            )
        )

    def add(self, packets: Sequence[Spoken], until: float) -> bool:
        """Write what came up to a moment; whether there was a voice in it. Raises OSError."""
        self._waiting += packets
        ready: list[Spoken] = []
        rest: list[Spoken] = []
        for _, group in groupby(self._waiting, key=lambda spoken: spoken.ssrc):
            run = list(group)
            first = run[0].timestamp
            for spoken in sorted(run, key=lambda spoken: after(spoken.timestamp, first)):
                # Once one is too fresh for others to have been overtaken, so are those behind it.
                (rest if rest or spoken.at > until - REORDER_S else ready).append(spoken)
        self._waiting = rest
        pieces = [piece for spoken in ready for piece in self._placed(spoken)]
        sound = np.concatenate(pieces)[: self._most - self._written] if pieces else silence(0, self._rate)
        self._write(sound)
        return _has_voice(sound, self._rate // 50)

    def close(self, until: float) -> None:
        """Complete and on the disk. Raises OSError."""
        self.add((), until + 2 * REORDER_S)
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # a new file's name is its folder's to keep
        finally:
            os.close(folder)

    def _placed(self, spoken: Spoken) -> list[Samples]:
        """The sound of a packet, after as much silence as lies between it and the one before."""
        clock = spoken.clock
        passed = spoken.at - self._last_at
        gap = after(spoken.timestamp, self._expected) / clock
        source = spoken.ssrc, clock
        if source != self._source:
            # Of the first packet of a source only the time when it came says where it belongs.
            gap = max(0.0, passed - 0.020) if self._source is not None else 0.0
        elif -JUMP_S < gap < 0:
            return []  # it is there already, or its place is
        elif gap < 0 or gap > passed + JUMP_S:
            gap = max(0.0, passed - 0.020)
        if spoken.codec not in self._decoders:
            self._decoders[spoken.codec] = Decoder(spoken.codec, self._rate)
        sound = self._decoders[spoken.codec].decode(spoken.payload)
        self._source = source
        self._last_at = spoken.at
        # G.722's clock runs at half its rate by an old mistake (RFC 3551 section 4.5.2): so by time, not by samples.
        self._expected = (spoken.timestamp + round(len(sound) * clock / self._rate)) & 0xFFFFFFFF
        return [silence(gap, self._rate), sound]

    def _write(self, sound: Samples) -> None:
        if self._file is None or not len(sound):
            return
        self._file.write(sound.astype("<i2").tobytes())
        self._written += len(sound)
        size = self._written * 2
        descriptor = self._file.fileno()
        os.pwrite(descriptor, struct.pack("<I", size), _DATA_SIZE_AT)
        os.pwrite(descriptor, struct.pack("<I", size + _HEADER.size - 8), _RIFF_SIZE_AT)


def _has_voice(sound: Samples, window: int) -> bool:
    windows = sound[: len(sound) // window * window].reshape(-1, window).astype(np.float32)
    return bool(len(windows)) and float(np.sqrt((windows**2).mean(axis=1)).max()) > VOICE_RMS
