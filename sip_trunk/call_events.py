"""What the owner of a call hears of it; the last event is exactly one of Refused, Cancelled and Ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sip_trunk.incoming_request import IncomingRequest
from sip_trunk.sip.headers import Headers
from sip_trunk.sip.message import Message, Response

if TYPE_CHECKING:
    from sip_trunk.refer import Refer


@dataclass(frozen=True, slots=True)
class Progress:
    """A provisional response to our INVITE, 100 included; `body` is its SDP."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """They answered our INVITE with a 2xx, which was acknowledged; `body` is their SDP, be it of an earlier reliable
    provisional response (RFC 3262 §5)."""

    body: bytes
    message: Response


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Their ACK came for our 2xx; `body` is their SDP if we made the offer. Of a re-INVITE only with a body."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Reoffered:
    """A re-INVITE or UPDATE came: `answer_reoffer` is due. An empty body asks for an offer of ours.

    Before the call is answered it comes only by UPDATE, and only after a reliable provisional response has
    brought or taken an answer (RFC 3311 §5.2).
    """

    body: bytes


@dataclass(frozen=True, slots=True)
class ReinviteAnswered:
    """Our `reinvite` or `update` was answered."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A refresh of ours that had to offer anew was answered: by the same description, or by one that has moved."""

    body: bytes


@dataclass(frozen=True, slots=True)
class ReinviteRefused:
    """Our `reinvite` or `update` was refused. The call goes on as it was."""

    status: int


@dataclass(frozen=True, slots=True)
class InDialog:
    """A MESSAGE or INFO inside the call; it has to be responded to."""

    request: IncomingRequest


@dataclass(frozen=True, slots=True)
class TransferRequested:
    """They ask us to call somebody in their place (REFER); it must be accepted or refused."""

    refer: Refer


@dataclass(frozen=True, slots=True)
class Refused:
    """Over before it began: they refused, nobody answered (408, `local`), no way to them (503, `local`), or we refused
    theirs (`local`; 504 when nobody acknowledged a reliable provisional response)."""

    status: int
    reason: str
    local: bool
    message: Message | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Over before an answer, by the caller: the peer, or we ourselves hanging up a call of ours."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Over after an answer. `by` is "peer", "us" or "lost" (no ACK, a dialog they no longer know, no way to them, a
    session that nobody refreshed)."""

    by: str
    reason: str


CallEvent = (
    Progress
    | Accepted
    | Confirmed
    | Reoffered
    | ReinviteAnswered
    | Refreshed
    | ReinviteRefused
    | InDialog
    | TransferRequested
    | Refused
    | Cancelled
    | Ended
)
