"""Queue music and spoken prompts, encoded once for each codec and shared by all who hear them.

The folder holds `NAME.wav`, which may be replaced by any other WAV file, and beside it `NAME.CODEC`, made from it
whenever it is older. Making is done by a process of its own (`prompt_making`), so that the media process never loads
a codec for it: the few that any caller may hear at once before the first start, each other when it is first wanted,
and whatever is left when the server has been up for a while.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from config.errors import OurError

SPOKEN = {
    "chat-request": "You have a chat request. Answer, and read the messages in your phone.",
    "ready": "You are ready.",
    "not-ready": "You are not ready.",
    "please-wait": "Please wait. We are finding someone who can help you.",
    "goodbye": "Thank you. Goodbye.",
    "queue-next": "You are next in line.",
    "queue-many": "There are more than sixty callers ahead of you.",
    "wait-under-minute": "The expected wait is less than a minute.",
    "wait-over-hour": "The expected wait is more than an hour.",
    "comfort": "Thank you for waiting. Somebody will be with you as soon as possible.",
    "callback-offer": "To be called back without losing your place, press one.",
    "callback-taken": "Thank you. We will call you back when it is your turn. You can hang up now.",
    "callback-connecting": "Please hold the line while we call the customer.",
    "callback-hello": "This is your call back. Please stay on the line.",
    "voicemail-offer": "To leave a message, press two.",
    "voicemail-leave": "Nobody can take your call just now. Please leave a message after the tone. "
    "Press the hash key when you are done.",
    "menu-wrong": "That is not one of the choices.",
    "voicemail-thanks": "Thank you. Your message has reached us. Goodbye.",
    "recording-notice": "This call will be recorded. If you do not want that, please tell us.",
    "recording-ask": "We would like to record this call. Press one to allow it. Press two if you would rather not.",
    "recording-yes": "Thank you. The call will be recorded.",
    "recording-no": "The call will not be recorded.",
}
# What callers of a number are asked: made by `media.spoken`, and known by what it says.
OWN = re.compile(r"menu-[0-9a-f]{16}")
LARGEST_NUMBER = 60
# What is put together when it is played, with no pause between: "You are number" "3" "in line."
PIECES = {
    "queue-position": "You are number",
    "queue-in-line": "in line.",
    "wait-about": "The expected wait is about",
    "wait-minutes": "minutes.",
    "wait-minute": "one minute.",
    **{f"number-{number}": str(number) for number in range(1, LARGEST_NUMBER + 1)},
}
# Tones: (Hz, seconds) one after the other; 0 Hz is silence.
TONES = {
    "beep": ((440.0, 0.4),),
    "conference-join": ((587.33, 0.09), (0.0, 0.05), (587.33, 0.09)),
}
NAMES = ("music", *TONES, *SPOKEN, *PIECES)
FIRST = ("music", "chat-request", "ready", "not-ready", "please-wait", "goodbye")
# Set for a `prompt_making` that nobody waits for.
NICE = "WARMLINE_PROMPTS_NICE"
# Codec -> how far its RTP timestamp moves in 20 ms. G.722's clock is 8000 by an old mistake (RFC 3551 section 4.5.2).
TICKS = {"opus": 960, "g722": 160, "pcma": 160, "pcmu": 160}
FRAMES_A_SECOND = 50


@dataclass(frozen=True, slots=True)
class Frames:
    """A prompt in one codec: one frame each 20 ms."""

    frames: Sequence[bytes]
    ticks: int


class Prompts:
    """What is in the folder, read when first wanted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._frames: dict[tuple[str, str], Frames] = {}
        self._made: set[str] = set()
        self._making: set[subprocess.Popen[bytes]] = set()
        self.closed = False

    def make(self, names: Iterable[str] = FIRST, *, gently: bool = False) -> None:
        """Make what of these is missing or out of date; blocks. `gently`: it can wait for everybody else.

        Raises OurError.
        """
        missing = {path.stem for path in self.missing(names)}
        if not missing or self.closed:
            return
        making = subprocess.Popen(
            [sys.executable, "-m", "media.prompt_making", str(self._folder), *missing],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, NICE: "1"} if gently else None,
        )
        self._making.add(making)
        _, said = making.communicate()
        self._making.discard(making)
        if making.returncode or self.missing(missing):
            last = said.decode("utf-8", "replace").strip()[-400:]
            raise OurError(f"The prompts in {self._folder} could not be made: {last}")

    def close(self) -> None:
        """What is being made is given up."""
        self.closed = True
        for making in tuple(self._making):
            making.terminate()

    def missing(self, names: Iterable[str] = NAMES) -> list[Path]:
        """Encoded files that are not there, or older than the sound they are made of."""
        return [
            encoded
            for name in names
            for encoded in (encoded_path(self._folder, name, codec) for codec in TICKS)
            if not _fresh(encoded, self._folder / f"{name}.wav")
        ]

    def is_made(self, name: str) -> bool:
        """Whether it can be heard at once. Raises OurError for a prompt there is not."""
        if not is_prompt(name):
            raise OurError(f"There is no prompt {name}")
        if name not in self._made and not self.missing((name,)):
            self._made.add(name)
        return name in self._made

    def frames(self, name: str, codec: str) -> Frames:
        """Raises OurError for a prompt or codec there is not."""
        codec = codec.lower()
        key = (name, codec)
        if key not in self._frames:
            if not is_prompt(name) or codec not in TICKS:
                raise OurError(f"There is no prompt {name} in {codec}")
            try:
                data = encoded_path(self._folder, name, codec).read_bytes()
            except OSError as error:
                raise OurError(f"The prompt {name} cannot be read: {error.strerror}") from None
            self._frames[key] = Frames(unpack(data), TICKS[codec])
        return self._frames[key]

    def seconds(self, name: str) -> float:
        return len(self.frames(name, "pcmu").frames) / FRAMES_A_SECOND


def is_prompt(name: str) -> bool:
    return name in NAMES or OWN.fullmatch(name) is not None


def encoded_path(folder: Path, name: str, codec: str) -> Path:
    return folder / f"{name}.{codec}"


def _fresh(encoded: Path, sound: Path) -> bool:
    try:
        return encoded.stat().st_mtime_ns >= sound.stat().st_mtime_ns
    except OSError:  # not there, or not to be had: making it says why
        return False


def pack(frames: list[bytes]) -> bytes:
    return b"".join(struct.pack("!H", len(frame)) + frame for frame in frames)


def unpack(data: bytes) -> tuple[bytes, ...]:
    frames = []
    at = 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        frames.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return tuple(frames)
