"""Files sealed at rest: AES-256-GCM under a key of each file's own, appended to while they grow, read anywhere.

    magic, salt (32), size of the head (4)   what follows is bound to these
    nonce (12), number (8), head, tag (16)   twice: what is written anew, each time under a new nonce and number, in
                                             turns in one place and the other, so that one of them is always whole
    length (4), chunk, tag (16)              again and again; the nonce is the number of the chunk
    0 (4), tag (16)                          the end mark

The keys come by HKDF (RFC 5869) from the key in the settings and the salt. A chunk that was changed, moved or brought
from another file fails, and so does a file cut short that still claims to be whole. One without its end mark was killed
or cut: it can be read up to its last whole chunk, and says so. All of this blocks: for threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import struct
from bisect import bisect_right
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from config.errors import OurError

KEY_SIZE = 32
MOST_CHUNK = 1 << 18
MOST_HEAD = 1 << 16
_MAGIC = b"WARMSEA1"
_PREFIX = struct.Struct("!8s32sI")
_LENGTH = struct.Struct("!I")
_NUMBER = struct.Struct("!Q")
_NONCE, _TAG = 12, 16
_PLACES = 2
_HEAD, _DATA, _END = b"head", b"data", b"end"


def _ciphers(key: bytes, salt: bytes) -> tuple[AESGCM, AESGCM]:
    """Of the head, whose nonces are random, and of the chunks, whose nonces count: no nonce meets another's.

    Raises OurError."""
    if len(key) != KEY_SIZE:
        raise OurError(f"The key of sealed files must be {KEY_SIZE} bytes")
    both = HKDF(SHA256(), 2 * KEY_SIZE, salt, b"warmline sealed file").derive(key)
    return AESGCM(both[:KEY_SIZE]), AESGCM(both[KEY_SIZE:])


def _place_size(head_size: int) -> int:
    """Of one of the two that heads are written to."""
    return _NONCE + _NUMBER.size + head_size + _TAG


def made(path: Path) -> int:
    """A new file that only we can read, in its folder; its descriptor. Raises OSError.

    It is locked (flock) until it is closed or we die: so others see that it still grows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):  # not every disk of a network can
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def write_at(descriptor: int, data: bytes, at: int) -> None:
    """All of it. Raises OSError."""
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, at)
        view, at = view[done:], at + done


def on_disk(descriptor: int, path: Path) -> None:
    """The file, and its name, which is its folder's to keep. Raises OSError."""
    os.fsync(descriptor)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class SealedWriter:
    """A new file with a head of `head_size` bytes that can be written again and again, and what is appended to it."""

    def __init__(self, path: Path, key: bytes, head_size: int) -> None:
        """Raises OurError, OSError."""
        salt = secrets.token_bytes(32)
        self._of_head, self._of_chunks = _ciphers(key, salt)
        self._path = path
        self._head_size = head_size
        self._prefix = _PREFIX.pack(_MAGIC, salt, head_size)
        self._descriptor = made(path)
        write_at(self._descriptor, self._prefix, 0)
        self._at = _PREFIX.size + _PLACES * _place_size(head_size)
        self._count = self._heads = 0

    def head(self, data: bytes) -> None:
        """Raises OSError."""
        assert len(data) == self._head_size
        nonce = secrets.token_bytes(_NONCE)
        numbered = _NUMBER.pack(self._heads) + data
        place = self._heads % _PLACES
        sealed = nonce + self._of_head.encrypt(nonce, numbered, self._prefix + _HEAD)
        write_at(self._descriptor, sealed, _PREFIX.size + place * _place_size(self._head_size))
        self._heads += 1

    def append(self, data: bytes) -> None:
        """Raises OSError."""
        for start in range(0, len(data), MOST_CHUNK):
            self._chunk(data[start : start + MOST_CHUNK], _DATA)

    def close(self) -> None:
        """Whole and on the disk. Raises OSError."""
        self._chunk(b"", _END)
        on_disk(self._descriptor, self._path)
        self.abandon()

    def abandon(self) -> None:
        """Leave it as it is, without an end mark."""
        os.close(self._descriptor)

    def _chunk(self, data: bytes, kind: bytes) -> None:
        sealed = self._of_chunks.encrypt(_nonce(self._count), data, self._prefix + kind)
        write_at(self._descriptor, _LENGTH.pack(len(data)) + sealed, self._at)
        self._at += _LENGTH.size + len(sealed)
        self._count += 1


def _nonce(count: int) -> bytes:
    return count.to_bytes(_NONCE, "big")


class SealedFile:
    """What is in a sealed file, head first, as if it lay open. What was appended after it was opened is not seen."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Raises OSError; OurError for a wrong key, a file that was tampered with, or is no sealed file."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._open(key)
        except BaseException:
            self.close()
            raise

    def _open(self, key: bytes) -> None:
        self._prefix = os.pread(self._descriptor, _PREFIX.size, 0)
        if len(self._prefix) < _PREFIX.size or not self._prefix.startswith(_MAGIC):
            raise OurError("This is not a sealed file")
        _, salt, head_size = _PREFIX.unpack(self._prefix)
        of_head, self._of_chunks = _ciphers(key, salt)
        head, torn = self._newest(of_head, min(head_size, MOST_HEAD))
        self._head = head
        self._last = 0, head
        self._starts = [0]  # of each chunk in what is read
        self._places = [(0, 0)]  # where it is in the file and its length; the head comes first
        self.size = len(head)
        self.cut = not self._index(_PREFIX.size + _PLACES * _place_size(head_size))
        """Its end is missing."""
        if torn and not self.cut:  # whoever closed it had written both
            raise OurError("The sealed file was changed")

    def _newest(self, of_head: AESGCM, head_size: int) -> tuple[bytes, bool]:
        """The head, empty if it was killed as it began; and whether the other was torn as it was written."""
        size = _place_size(head_size)
        places = [os.pread(self._descriptor, size, _PREFIX.size + place * size) for place in range(_PLACES)]
        written = [place for place in places if any(place)]
        heads = []
        for place in written:
            with contextlib.suppress(OurError):
                if len(place) == size:
                    numbered = self._opened(of_head, place[:_NONCE], place[_NONCE:], _HEAD)
                    heads.append((_NUMBER.unpack_from(numbered)[0], numbered[_NUMBER.size :]))
        if not heads:
            if any(len(place) == size for place in written):
                raise OurError("The sealed file was changed, or sealed with another key")
            return b"", True
        number, head = max(heads)
        # The second place stays empty until the second head.
        return head, len(heads) < _PLACES and (number > 0 or len(written) > 1)

    def _index(self, at: int) -> bool:
        """Find all chunks; whether they are closed by the end mark."""
        end = os.fstat(self._descriptor).st_size
        while at + _LENGTH.size + _TAG <= end:
            (length,) = _LENGTH.unpack(os.pread(self._descriptor, _LENGTH.size, at))
            at += _LENGTH.size
            if length > MOST_CHUNK or at + length + _TAG > end:
                return False
            if length == 0:
                tag = os.pread(self._descriptor, _TAG, at)
                self._opened(self._of_chunks, _nonce(len(self._places) - 1), tag, _END)
                return True
            self._starts.append(self.size)
            self._places.append((at, length))
            self.size += length
            at += length + _TAG
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._descriptor)

    def read(self, start: int, length: int) -> bytes:
        """Less at the end, nothing behind it. Raises OSError; OurError for what was tampered with."""
        pieces = []
        end = min(start + length, self.size)
        while start < end:
            number = bisect_right(self._starts, start) - 1
            inside = start - self._starts[number]
            piece = self._chunk(number)[inside : inside + end - start]
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces)

    def _chunk(self, number: int) -> bytes:
        if number == 0:
            return self._head
        if self._last[0] != number:
            at, length = self._places[number]
            sealed = os.pread(self._descriptor, length + _TAG, at)
            self._last = number, self._opened(self._of_chunks, _nonce(number - 1), sealed, _DATA)
        return self._last[1]

    def _opened(self, cipher: AESGCM, nonce: bytes, sealed: bytes, kind: bytes) -> bytes:
        try:
            return cipher.decrypt(nonce, sealed, self._prefix + kind)
        except InvalidTag:
            raise OurError("The sealed file was changed, or sealed with another key") from None
