"""What a command tells whoever typed it, on a terminal of whatever encoding."""

from __future__ import annotations

import sys
from typing import TextIO


def say(*lines: str) -> None:
    """Lines of the answer."""
    for line in lines or ("",):
        _write(sys.stdout, line)


def complain(*lines: str) -> None:
    """Why there is none, or what is odd about it."""
    for place, line in enumerate(lines):
        _write(sys.stderr, f"  {line}" if place else f"warmline: {line}")


def _write(stream: TextIO, line: str) -> None:
    encoding = stream.encoding or "ascii"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
