"""Sound as samples, for those few who look into packets: recordings, what plays them, and conferences.

Loading this brings numpy and FFmpeg, which the forwarding of packets never needs: it is imported late, in a thread.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]

NARROW, WIDE = 8000, 16000
# Codec -> the rate at which it is taken apart. Opus always comes out at 48 kHz.
_DECODED_AT = {"opus": 48000, "g722": WIDE, "pcma": NARROW, "pcmu": NARROW}
_OPUS_BITS = 32000
# For sound on its way: a third of the work that "voip" takes, for half as many bits again, and 4 ms less delay.
_OPUS_WAY = {"frame_duration": "20", "application": "lowdelay", "compression_level": "5"}
_TAPS_A_STEP = 16


def rate_of(codec: str) -> int:
    """The rate that keeps what a codec carries of a voice, in samples a second: 8000 or 16000."""
    return NARROW if codec in ("pcma", "pcmu") else WIDE


def silence(seconds: float, rate: int) -> Samples:
    return np.zeros(round(seconds * rate), np.int16)


def _mu_law() -> Samples:
    """What each octet stands for (ITU-T G.711, table 2)."""
    octets = ~np.arange(256, dtype=np.int32) & 0xFF
    size = ((((octets & 0x0F) << 3) + 0x84) << ((octets & 0x70) >> 4)) - 0x84
    return np.where(octets & 0x80, -size, size).astype(np.int16)


def _a_law() -> Samples:
    """What each octet stands for (ITU-T G.711, table 1)."""
    octets = np.arange(256, dtype=np.int32) ^ 0x55
    segment = (octets & 0x70) >> 4
    step = ((octets & 0x0F) << 4) + 8
    size = np.where(segment > 0, (step + 0x100) << np.maximum(segment - 1, 0), step)
    return np.where(octets & 0x80, size, -size).astype(np.int16)


def _nearest(table: Samples) -> NDArray[np.uint8]:
    """The octet that comes nearest to each sample, by the sample's own 16 bits."""
    # From behind: mu-law has two zeros, and silence is the one that comes last.
    levels, behind = np.unique(table[::-1], return_index=True)
    octets = len(table) - 1 - behind
    edges = (levels[:-1].astype(np.float64) + levels[1:]) / 2
    samples = np.arange(1 << 16).astype(np.uint16).view(np.int16)
    return octets[np.searchsorted(edges, samples)].astype(np.uint8)


_LAWS = {"pcmu": _mu_law(), "pcma": _a_law()}
_OCTETS = {codec: _nearest(table) for codec, table in _LAWS.items()}


class Resampler:
    """Samples at one rate, as samples at another that is a simple multiple or part of it; piece after piece."""

    def __init__(self, rate: int, to: int) -> None:
        common = int(np.gcd(rate, to))
        self._up, self._down = to // common, rate // common
        # A windowed sinc that ends a tenth below the lower of the two Nyquist frequencies.
        widest = max(self._up, self._down)
        at = np.arange(-_TAPS_A_STEP * widest // 2, _TAPS_A_STEP * widest // 2 + 1)
        taps = np.sinc(0.9 * at / widest) * np.hamming(len(at))
        self._taps = (taps * (self._up / taps.sum())).astype(np.float32)
        self._held = np.zeros(len(at) - 1, np.float32)

    def __call__(self, samples: Samples) -> Samples:
        if self._up == self._down:
            return samples
        fresh = np.zeros(len(samples) * self._up, np.float32)
        fresh[:: self._up] = samples
        sound = np.concatenate((self._held, fresh))
        over = len(self._taps) - 1
        whole = (len(sound) - over) // self._down * self._down
        if not whole:
            self._held = sound
            return np.zeros(0, np.int16)
        self._held = sound[whole:]
        return clipped(np.convolve(sound[: whole + over], self._taps, "valid")[:: self._down])


def clipped(sound: NDArray[Any]) -> Samples:
    """What is too loud stays as loud as can be: it must not wrap around."""
    # np.clip takes three times as long.
    samples: Samples = np.minimum(np.maximum(sound, -32768), 32767).astype(np.int16)
    return samples


class Decoder:
    """Payloads of one source in one codec, as samples at `rate`."""

    def __init__(self, codec: str, rate: int) -> None:
        self._law = _LAWS.get(codec)
        self._resample = Resampler(_DECODED_AT[codec], rate)
        self._context: Any = None
        if self._law is None:
            self._context = av.CodecContext.create("libopus" if codec == "opus" else codec, "r")
            self._context.sample_rate = _DECODED_AT[codec]
            self._context.layout = "mono"

    def decode(self, payload: bytes) -> Samples:
        """Nothing for what cannot be decoded: to whoever listens it is as good as lost."""
        if not payload:
            # RFC 6263 section 4.2: some keep the way open so. To a decoder it would be the end of all there is.
            return np.zeros(0, np.int16)
        if self._law is not None:
            return self._resample(self._law[np.frombuffer(payload, np.uint8)])
        try:
            pieces = [frame.to_ndarray()[0] for frame in self._context.decode(av.Packet(payload))]
        except (av.FFmpegError, ValueError):
            return np.zeros(0, np.int16)
        return self._resample(np.concatenate(pieces)) if pieces else np.zeros(0, np.int16)


class Encoder:
    """Samples at `rate` (8000 or 16000), 20 ms at a time, as payloads of one codec."""

    def __init__(self, codec: str, rate: int) -> None:
        # Opus is told the rate of what it gets; its RTP clock runs at 48 kHz all the same (RFC 7587 section 4.1).
        self._rate = rate if codec == "opus" else _DECODED_AT[codec]
        self._resample = Resampler(rate, self._rate)
        self._octets = _OCTETS.get(codec)
        self._context: Any = None
        self._at = 0
        if self._octets is None:
            self._context = av.CodecContext.create("libopus" if codec == "opus" else codec, "w")
            self._context.sample_rate = self._rate
            self._context.layout = "mono"
            self._context.format = "s16"
            if codec == "opus":
                self._context.bit_rate = _OPUS_BITS
                self._context.options = dict(_OPUS_WAY)

    def encode(self, samples: Samples) -> bytes:
        """Empty where the codec has not heard enough yet, as some have not after the first 20 ms."""
        sound = self._resample(samples)
        if self._octets is not None:
            return self._octets[sound.view(np.uint16)].tobytes()
        frame: Any = av.AudioFrame.from_ndarray(sound.reshape(1, -1), "s16", "mono")
        frame.sample_rate = self._rate
        frame.pts = self._at
        self._at += len(sound)
        return b"".join(bytes(packet) for packet in self._context.encode(frame))
