"""When something is to begin, as people type it: `10m` (ago), `2026-11-20`, `2026-11-20T09:00`."""

from __future__ import annotations

import argparse
import re
import time
from datetime import datetime

EXAMPLES = "10m, 2h, 3d (ago), 2026-11-20 or 2026-11-20T09:00"
LONGEST_S = 100 * 366 * 86400.0

_AGO = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([smhd]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def moment(text: str, now: float) -> float:
    """Epoch seconds; a number without a unit is seconds ago, a date without a zone is of the zone here.

    ValueError says what was meant to be typed.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        seconds = float(ago[1]) * _SECONDS[ago[2]]
        if seconds <= LONGEST_S:
            return now - seconds
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is no time: {EXAMPLES}") from None


def typed(text: str) -> float:
    """The same for argparse, of the moment it is typed."""
    try:
        return moment(text, time.time())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
