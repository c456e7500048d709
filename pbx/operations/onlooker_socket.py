"""Where the door of `onlookers.py` is; apart from it, so that a command finds it without loading the server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "trace.sock"
_LONGEST_PATH = 100
"""Of a Unix socket's name (sun_path has 108 octets); a longer folder is gone to by its descriptor."""


@contextmanager
def socket_path(folder: Path) -> Iterator[str]:
    """The name to bind or connect to, good inside the `with`. OSError when there is no such folder."""
    path = str(folder / NAME)
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)
