"""Two families of errors: theirs (bad input) and ours (our fault). The edge turns both into HTTP or SIP answers."""

from __future__ import annotations


class WarmlineError(Exception):
    """An error with a status hint. ``reason`` is a whole sentence that is safe to show to whoever asked."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class TheirError(WarmlineError):
    """What was asked cannot be done as it was asked; ``status`` is a 4xx hint."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason, status)


class OurError(WarmlineError):
    """What was asked was right and could not be done; ``status`` is a 5xx hint."""

    def __init__(self, reason: str, status: int = 500) -> None:
        super().__init__(reason, status)
