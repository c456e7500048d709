"""Files of two parties, one on each side, that can be played at every moment: WAV, and Matroska with Opus and pictures.

Loading this brings the codecs; see `media.speech`. All of it blocks.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from media import matroska
from media.matroska import AUDIO, Block, Cue, Track
from media.pictures import CLOCK, Picture
from media.sealed_file import made, on_disk, write_at
from media.speech import Samples

SIDES = ("left", "right")
_WAVE = struct.Struct("<4sI4s4sIHHIIHH4sI")
WAVE_HEAD = _WAVE.size
# Of Matroska: sound alone, and with two codecs of pictures on either side.
SOUND_HEAD, PICTURES_HEAD = 512, 4096
# Parameter sets of one track that still fit there.
MOST_SETUP = 1000
# Opus frames this long cost two thirds of what 20 ms cost; a file has no loss that would make them regretted.
_OPUS_FRAME_S = 0.060
_OPUS = {"application": "audio", "frame_duration": "60", "compression_level": "3"}
_OPUS_BITS = 48000
_NAMES = {"vp8": "V_VP8", "h264": "V_MPEG4/ISO/AVC"}
_CUE_EACH_MS = 2000
# Larger than any phone's: a peer's word for its size must not take all memory.
MOST_PIXELS = 4096 * 2304


class Paper(Protocol):
    """What is written on: a head of fixed size that is written anew, and what is appended. Methods raise OSError."""

    def head(self, data: bytes) -> None: ...

    def append(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...


class PlainWriter:
    """A `Paper` that anybody can read. Raises OSError."""

    def __init__(self, path: Path, head_size: int) -> None:
        self._path = path
        self._descriptor = made(path)
        self._at = head_size

    def head(self, data: bytes) -> None:
        write_at(self._descriptor, data, 0)

    def append(self, data: bytes) -> None:
        write_at(self._descriptor, data, self._at)
        self._at += len(data)

    def close(self) -> None:
        on_disk(self._descriptor, self._path)
        self.abandon()

    def abandon(self) -> None:
        os.close(self._descriptor)


class WaveFile:
    """16 bits, two channels."""

    def __init__(self, paper: Paper, rate: int) -> None:
        self._paper = paper
        self._rate = rate
        self._size = 0
        self._head()

    def add(self, left: Samples, right: Samples, shown: tuple[Sequence[Picture], Sequence[Picture]]) -> None:
        """What was said, both for the same time, and shown by the two in it. Raises OSError."""
        data = np.column_stack((left, right)).astype("<i2").tobytes()
        self._paper.append(data)
        self._size += len(data)
        # Only now: it never promises what is not there.
        self._head()

    def close(self) -> None:
        """Complete and on the disk. Raises OSError."""
        self._paper.close()

    def _head(self) -> None:
        self._paper.head(
            _WAVE.pack(
                *(b"RIFF", _WAVE.size - 8 + self._size, b"WAVE", b"fmt ", 16),
                # PCM, two channels, samples and octets a second, octets and bits of a sample of both
                *(1, 2, self._rate, self._rate * 4, 4, 16),
                *(b"data", self._size),
            )
        )


class MatroskaFile:
    """A cluster for all that is added at once. Each party's pictures are a track, found when their first comes."""

    def __init__(self, paper: Paper, rate: int, head_size: int) -> None:
        self._paper = paper
        self._rate = rate
        self._head_size = head_size
        self._opus = _StereoOpus(rate)
        self._sound = Track(
            AUDIO, "A_OPUS", self._opus.setup, "left and right", rate=48000, delay_s=self._opus.delay_s
        )
        self._tracks: dict[tuple[int, str], Track] = {}
        self._latest: dict[int, int] = {}
        self._samples = 0
        self._size = head_size
        self._clusters: list[tuple[int, int, int]] = []  # time, track, where in the file
        self._head()

    def add(self, left: Samples, right: Samples, shown: tuple[Sequence[Picture], Sequence[Picture]]) -> None:
        """See `WaveFile.add`."""
        blocks = [Block(ms, AUDIO, True, data) for ms, data in self._opus.encode(left, right)]
        for side, pictures in enumerate(shown):
            blocks += [block for picture in pictures if (block := self._block(side, picture)) is not None]
        self._samples += len(left)
        self._cluster(blocks)
        self._head()

    def close(self) -> None:
        """See `WaveFile.close`."""
        self._cluster([Block(ms, AUDIO, True, data) for ms, data in self._opus.flush()])
        start = matroska.segment_start(self._all())
        index = matroska.cues([Cue(ms, track, at - start) for ms, track, at in self._clusters])
        self._paper.append(index)
        self._head(segment=self._size + len(index) - start, cues_at=self._size - start)
        self._paper.close()

    def _all(self) -> list[Track]:
        # The first is what most players show: of the left party, the codec it began with.
        ordered = sorted(self._tracks.items(), key=lambda each: (each[0][0], each[1].number))
        return [self._sound, *(track for _, track in ordered)]

    def _head(self, segment: int = 0, cues_at: int = 0) -> None:
        ms = self._samples / self._rate * 1000
        self._paper.head(matroska.head(self._all(), ms, self._head_size, segment=segment, cues_at=cues_at))

    def _cluster(self, blocks: list[Block]) -> None:
        if not blocks:
            return
        blocks.sort(key=lambda block: block.ms)
        # Where pictures can be entered: they need their key frame, sound does not.
        entry = next((block for block in blocks if block.key and block.track != AUDIO), blocks[0])
        last = self._clusters[-1][0] if self._clusters else -_CUE_EACH_MS
        if (entry.track != AUDIO or not self._tracks) and entry.ms - last >= _CUE_EACH_MS:
            self._clusters.append((entry.ms, entry.track, self._size))
        data = matroska.cluster(blocks)
        self._paper.append(data)
        self._size += len(data)

    def _block(self, side: int, picture: Picture) -> Block | None:
        track = self._tracks.get((side, picture.codec))
        if track is None:
            track = self._track(side, picture)
            if track is None:
                return None
            self._tracks[side, picture.codec] = track
        # Time goes on in a track, whatever a sender's clock does.
        ms = max(picture.at * 1000 // CLOCK, self._latest.get(track.number, -1) + 1)
        self._latest[track.number] = ms
        return Block(ms, track.number, picture.key, picture.data)

    def _track(self, side: int, picture: Picture) -> Track | None:
        width, height = size_of(picture)
        if not picture.key or not width or not height or len(picture.setup) > MOST_SETUP:
            return None
        number = AUDIO + 1 + len(self._tracks)
        codec, name = _NAMES[picture.codec], SIDES[side]
        return Track(number, codec, picture.setup, name, default=side == 0, width=width, height=height)


class _StereoOpus:
    def __init__(self, rate: int) -> None:
        context: Any = av.CodecContext.create("libopus", "w")
        context.sample_rate, context.layout, context.format = rate, "stereo", "s16"
        context.bit_rate = _OPUS_BITS
        context.options = dict(_OPUS)
        context.open()
        self.setup = bytes(context.extradata)
        # RFC 7845 section 5.1: the pre-skip, at 48 kHz.
        self.delay_s = int.from_bytes(self.setup[10:12], "little") / 48000
        self._context = context
        self._rate = rate
        self._size = round(_OPUS_FRAME_S * rate)
        self._held = np.zeros(0, np.int16)
        self._given = 0
        self._frames = 0

    def encode(self, left: Samples, right: Samples) -> list[tuple[int, bytes]]:
        """(milliseconds, packet) of all frames that are full."""
        both = np.concatenate((self._held, np.column_stack((left, right)).reshape(-1)))
        frame = 2 * self._size
        whole = len(both) // frame * frame
        self._held = both[whole:]
        return self._timed(
            [data for at in range(0, whole, frame) for data in self._encode(both[at : at + frame])]
        )

    def flush(self) -> list[tuple[int, bytes]]:
        rest = np.zeros(2 * self._size, np.int16)
        rest[: len(self._held)] = self._held
        # Without any sound it would be no file to some players.
        packets = self._encode(rest) if len(self._held) or not self._frames else []
        return self._timed(packets + [bytes(packet) for packet in self._context.encode(None)])

    def _encode(self, both: Samples) -> list[bytes]:
        frame: Any = av.AudioFrame.from_ndarray(both.reshape(1, -1), "s16", "stereo")
        frame.sample_rate = self._rate
        frame.pts = self._given
        self._given += self._size
        return [bytes(packet) for packet in self._context.encode(frame)]

    def _timed(self, packets: list[bytes]) -> list[tuple[int, bytes]]:
        timed = []
        for packet in packets:
            timed.append((round(self._frames * _OPUS_FRAME_S * 1000), packet))
            self._frames += 1
        return timed


def size_of(picture: Picture) -> tuple[int, int]:
    """Width and height of what a key frame shows; 0, 0 if it does not say."""
    if picture.codec == "vp8":
        # RFC 6386 section 9.1: a start code, then 14 bits of each.
        if len(picture.data) < 10 or picture.data[3:6] != b"\x9d\x01\x2a":
            return 0, 0
        width, height = struct.unpack_from("<HH", picture.data, 6)
        return width & 0x3FFF, height & 0x3FFF
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.extradata = picture.setup
    decoder.options = {"max_pixels": str(MOST_PIXELS)}
    decoder.thread_count = 1
    try:
        frames = [*decoder.decode(av.Packet(picture.data)), *decoder.decode(None)]
    except (av.FFmpegError, ValueError):
        return 0, 0
    return (frames[0].width, frames[0].height) if frames else (0, 0)
