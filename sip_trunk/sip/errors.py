"""The two families of things that go wrong: theirs and ours, each with the SIP status that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sip_trunk.sip.message import Request


class SipError(Exception):
    """Anything this package refuses to do. `str(error)` is `reason`, which is safe to put in a response."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class BadMessage(SipError):
    """The peer sent something wrong.

    `request` holds as much of the request as could be read, so that it can be answered; it is None when the
    start line itself could not be read or the message was a response.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason, status)
        self.request: Request | None = None


class SipFault(SipError):
    """We failed: a value of our own that cannot be written, no way to a peer, and the like."""

    def __init__(self, reason: str, status: int = 500) -> None:
        super().__init__(reason, status)
