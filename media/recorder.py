"""The recording process: it gets packets of those calls that are recorded from the media process, and makes files.

python -m media.recorder --control-fd 3

A process of its own, because decoding and disks take time that packets on their way do not have; and because, when the
media process is killed, this one still completes every file. Both ends speak as `media.control` does:

    [number, "open", path, rate, video, key]                    -> [number, "opened"]
    [number, "add", until, packets]                             -> nothing, or [number, "key frame", (side, helped)]
    [number, "close", until]                                    -> [number, "closed", seconds]
    [number, "undo"]                                            -> nothing: whoever asked for this file has given up
    [0, "alive"]                                                -> [0, "alive"], and each second of work

and in place of each answer, or at any time, [number, "failed", reason]. Packets are (side 0 or 1, codec, clock, marker,
sequence number, timestamp, SSRC, payload, at); `at` and `until` are seconds since the recording began. One of the codec
`SETS` is none of its peer's, but has for its payload the parameter sets that stand in the peer's SDP.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import marshal
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config.errors import OurError
from media.parameter_sets import SETS
from media.pictures import Pictures
from media.sealed_file import SealedWriter
from media.stereo_file import (
    PICTURES_HEAD,
    SOUND_HEAD,
    WAVE_HEAD,
    MatroskaFile,
    Paper,
    PlainWriter,
    WaveFile,
)
from media.voice import Voice

# What may still come in its place: packets that overtake each other, are sent again, or wait on a bad way.
LATE_S = 0.4
# Made at once, after the media process was held up.
STEP_S = 1.0
PICTURES = ("vp8", "h264")
# As often it says so while it works: one that is behind, on a busy machine, is not stuck.
ALIVE_S = 1.0
# Files wait for packets on their way, not the other way round.
NICER = 5
_LENGTH = struct.Struct("!I")
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Tape:
    """One recording: two parties on one time, and the file it goes to."""

    def __init__(self, path: Path, rate: int, *, video: bool, key: bytes | None) -> None:
        """Raises OurError, OSError."""
        wave = path.suffix == ".wav"
        size = WAVE_HEAD if wave else PICTURES_HEAD if video else SOUND_HEAD
        self._paper: Paper = PlainWriter(path, size) if key is None else SealedWriter(path, key, size)
        try:
            self._file = WaveFile(self._paper, rate) if wave else MatroskaFile(self._paper, rate, size)
        except BaseException:
            self._paper.abandon()
            raise
        self._path = path
        self._rate = rate
        self._at = 0
        self._voices = Voice(rate), Voice(rate)
        self._pictures = Pictures(), Pictures()

    @property
    def seconds(self) -> float:
        return self._at / self._rate

    def add(self, packets: list[Any], until: float) -> list[tuple[int, bool]]:
        """Of the parties those whose pictures need a key frame, and whether one came since the last time. Raises
        OSError."""
        for side, codec, clock, marker, seq, timestamp, ssrc, payload, at in packets:
            if codec in PICTURES:
                self._pictures[side].put(codec, marker, seq, timestamp, ssrc, payload, at)
            elif codec == SETS:
                self._pictures[side].know(payload)
            else:
                self._voices[side].put(codec, clock, ssrc, timestamp, payload, at)
        self._write(until - LATE_S)
        wanting = []
        for side, pictures in enumerate(self._pictures):
            if pictures.wanting:
                wanting.append((side, pictures.begun))
                pictures.wanting = pictures.begun = False
        return wanting

    def close(self, until: float) -> float:
        """Complete and on the disk; its seconds. Raises OSError."""
        self._write(until)
        self._file.close()
        return self.seconds

    def abandon(self) -> None:
        """Leave the file as it is."""
        with contextlib.suppress(OSError):
            self._paper.abandon()

    def undo(self) -> None:
        """Raises OSError."""
        self._path.unlink(missing_ok=True)
        self.abandon()

    def _write(self, until: float) -> None:
        end = round(until * self._rate)
        while self._at < end:
            size = min(end - self._at, round(STEP_S * self._rate))
            self._at += size
            left, right = (voice.take(size) for voice in self._voices)
            first, second = (pictures.take(self.seconds) for pictures in self._pictures)
            self._file.add(left, right, (first, second))


class Recorder:
    """All tapes that are running, by number."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._tapes: dict[int, Tape] = {}
        self._until: dict[int, float] = {}
        self._said_at = 0.0

    def serve(self) -> None:
        """Until the other side is gone; then all that it has left is completed."""
        for number, what, *facts in _messages(self._sock):
            self._do(number, what, facts)
            if time.monotonic() - self._said_at >= ALIVE_S:
                self._say([0, "alive"])
        for number in list(self._tapes):
            self._do(number, "close", [self._until[number]])

    def _do(self, number: int, what: str, facts: list[Any]) -> None:
        try:
            if what == "open":
                path, rate, video, key = facts
                self._tapes[number] = Tape(Path(path), rate, video=video, key=key)
                self._until[number] = 0.0
                self._say([number, "opened"])
            elif what == "alive":
                self._said_at = 0.0  # whoever asks is answered at once
            elif number not in self._tapes:
                return  # it has failed, and this was on its way
            elif what == "add":
                until, packets = facts
                self._until[number] = until
                for wish in self._tapes[number].add(packets, until):
                    self._say([number, "key frame", wish])
            elif what == "undo":
                self._tapes[number].undo()
                self._forget(number)
            else:
                seconds = self._tapes[number].close(facts[0])
                self._forget(number)
                self._say([number, "closed", seconds])
        except Exception as error:  # of the disk, or a defect of ours: all other recordings go on
            reason = (
                error.reason if isinstance(error, OurError) else getattr(error, "strerror", "") or repr(error)
            )
            if number in self._tapes:
                self._tapes[number].abandon()
                self._forget(number)
            self._say([number, "failed", reason])

    def _forget(self, number: int) -> None:
        del self._tapes[number], self._until[number]

    def _say(self, message: list[Any]) -> None:
        self._said_at = time.monotonic()
        body = marshal.dumps(message)
        with contextlib.suppress(OSError):  # nobody is left to hear it
            self._sock.sendall(_LENGTH.pack(len(body)) + body)


def _messages(sock: socket.socket) -> Iterator[list[Any]]:
    with sock.makefile("rb", 1 << 18) as stream:
        while len(length := stream.read(_LENGTH.size)) == _LENGTH.size:
            (size,) = _LENGTH.unpack(length)
            body = stream.read(size)
            if len(body) < size:
                return
            yield marshal.loads(body)  # noqa: S302 (both ends are ours)


def _wake_when_parent_ends() -> None:
    """One that was stopped (SIGSTOP) goes on when the media process is gone, and so ends: nobody else would wake it."""
    with contextlib.suppress(AttributeError, OSError):  # it is Linux that knows this
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def main() -> None:
    for signal_of_others in (signal.SIGINT, signal.SIGTERM):
        # Whoever ends a service tells all its processes; this one ends by itself once it has everything.
        signal.signal(signal_of_others, signal.SIG_IGN)
    _wake_when_parent_ends()
    parser = argparse.ArgumentParser(prog="python -m media.recorder")
    parser.add_argument("--control-fd", type=int, required=True)
    options = parser.parse_args(sys.argv[1:])
    os.nice(NICER)
    with socket.socket(fileno=options.control_fd) as sock, contextlib.suppress(ConnectionError):
        Recorder(sock).serve()


if __name__ == "__main__":
    main()
