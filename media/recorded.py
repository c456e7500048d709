"""Recordings as they are read: plain or sealed, all of one or a part, how long, of what kind. Blocks: for threads."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from pathlib import Path
from typing import Self

from media import matroska
from media.sealed_file import SealedFile

_MOST_HEAD = 4096
_LOOK_S = 0.05
_CODECS_OF_PICTURES = (b"V_VP8", b"V_MPEG4/ISO/AVC")
# Matroska says before this which of its kinds it is.
_KIND_END = 40
_WAVE_BYTES_A_SECOND_AT, _WAVE_SIZE_AT, _WAVE_HEAD = 28, 40, 44


class PlainFile:
    """Read as a `SealedFile` is; raises OSError."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._descriptor)

    def read(self, start: int, length: int) -> bytes:
        """Less at the end, nothing behind it."""
        return os.pread(self._descriptor, max(0, min(length, self.size - start)), start)


def open_recorded(path: Path, key: bytes | None) -> PlainFile | SealedFile:
    """With `key` it is a sealed one. Raises OSError; OurError as `SealedFile` does."""
    return PlainFile(path) if key is None else SealedFile(path, key)


def seconds_of(path: Path, key: bytes | None) -> float:
    """How long a recording is by its head, which is right even if it was killed. Raises as `open_recorded` does."""
    head = _head(path, key)
    if not head.startswith(b"RIFF"):
        return matroska.duration_ms(head) / 1000
    if len(head) < _WAVE_HEAD:
        return 0.0
    (a_second,) = struct.unpack_from("<I", head, _WAVE_BYTES_A_SECOND_AT)
    (size,) = struct.unpack_from("<I", head, _WAVE_SIZE_AT)
    return float(size / a_second) if a_second else 0.0


def content_type(path: Path, key: bytes | None) -> str:
    """What a browser is told of it. Raises as `open_recorded` does."""
    head = _head(path, key)
    if head.startswith(b"RIFF"):
        return "audio/wav"
    if not _has_pictures(head):
        return "audio/webm"
    return "video/webm" if b"webm" in head[:_KIND_END] else "video/x-matroska"


def kinds_of(path: Path, key: bytes | None) -> str:
    """What is in it: "audio" or "audio,video". Raises as `open_recorded` does."""
    return "audio,video" if _has_pictures(_head(path, key)) else "audio"


def is_written(path: Path, within_s: float) -> bool:
    """Whether whoever writes it is done with it or gone, now or after so long at most. Raises OSError where there is
    no such file."""
    until = time.monotonic() + within_s
    with open(path, "rb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(_LOOK_S)
            except OSError:  # a disk that knows no locks
                return True
            else:
                return True


def _has_pictures(head: bytes) -> bool:
    # The names in full: what is behind a short head is sound, in which anything may stand.
    return any(name in head for name in _CODECS_OF_PICTURES)


def _head(path: Path, key: bytes | None) -> bytes:
    with open_recorded(path, key) as file:
        return file.read(0, _MOST_HEAD)
