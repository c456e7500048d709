"""Session timers (RFC 4028): what two sides agree on, and what they say to each other for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.extension_headers import SessionExpires, parse_min_se, parse_session_expires
from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.sip.option_tags import supports

SHORTEST_S = 90
"""What Min-SE is when nobody says (§5)."""

_CACHED_UP_TO = 40


@dataclass(frozen=True, slots=True)
class Agreement:
    """How long the session lasts unless it is refreshed, and by whom.

    `ours`: we refresh. `binding`: the peer, or a proxy for it, counts too, and without a refresh the session is over;
    otherwise we alone look whether the other side is still there. `least` is the largest Min-SE that was asked for.
    """

    seconds: int
    ours: bool
    binding: bool
    least: int = SHORTEST_S

    @property
    def refresh_after(self) -> float:
        return self.seconds / 2  # §7.2

    @property
    def ends_after(self) -> float:
        return self.seconds - min(32.0, self.seconds / 3)  # §10

    def headers(self) -> tuple[tuple[str, str], ...]:
        """For a request of ours: who refreshed goes on doing so (§7.4). There "uac" is who asks."""
        return (
            ("Session-Expires", f"{self.seconds};refresher={'uac' if self.ours else 'uas'}"),
            ("Min-SE", str(self.least)),
        )


def asking(seconds: int, least: int) -> tuple[tuple[str, str], ...]:
    """For an INVITE of ours; who refreshes is left to the other side (§7.1)."""
    return (("Session-Expires", str(max(seconds, least))), ("Min-SE", str(least))) if seconds else ()


def too_brief(request: Request, least: int) -> bool:
    """Whether it is to be refused with 422: only a caller who knows the extension can do better (§9).

    Raises BadMessage.
    """
    value = request.headers.first("session-expires")
    return value is not None and _read(value).seconds < least and supports(request, "timer")


def agreed_by_us(
    request: Request, wanted: int, least: int
) -> tuple[Agreement | None, tuple[tuple[str, str], ...]]:
    """For our 2xx to an INVITE or UPDATE: what holds from now on, and the headers that say so (§9, table 2).

    wanted: seconds of our own, 0 for none.
    """
    value = request.headers.first("session-expires")
    said = _read_or_none(value)
    least = max(least, _least_of(request))
    if said is None:
        if not wanted:
            return None, ()
        # Whatever its caller can do, we may refresh; it need not have asked.
        seconds = max(wanted, least)
        knows = supports(request, "timer")
        return Agreement(seconds, True, knows, least), (("Session-Expires", f"{seconds};refresher=uas"),)
    seconds = max(said.seconds, least)
    if wanted:
        seconds = min(seconds, max(wanted, least))
    if supports(request, "timer") and said.refresher != "uas":
        return Agreement(seconds, False, True, least), (
            ("Session-Expires", f"{seconds};refresher=uac"),
            ("Require", "timer"),
        )
    # A proxy may have asked for a caller who cannot: then it is we who refresh, and nothing is required.
    return Agreement(seconds, True, True, least), (("Session-Expires", f"{seconds};refresher=uas"),)


def agreed_by_them(request: Request, response: Response, least: int) -> Agreement | None:
    """What a 2xx to our INVITE or UPDATE makes of what we asked for (§7.2).

    None when we did not ask and they did not say. A 2xx cannot be refused, so what makes no sense in it counts as not
    said, and too short an interval as our least.
    """
    said = _read_or_none(response.headers.first("session-expires"))
    asked = _read_or_none(request.headers.first("session-expires"))
    shortest, least = least, max(least, _least_of(request))
    if said is None:
        return None if asked is None else Agreement(max(asked.seconds, shortest), True, False, least)
    seconds = said.seconds if asked is None else min(said.seconds, asked.seconds)
    return Agreement(max(seconds, shortest), said.refresher != "uas", True, least)


def longer(request: Request, response: Response) -> tuple[tuple[str, str], ...] | None:
    """The headers with which to ask again after a 422 (§7.3); None when that would help nothing."""
    value = response.headers.first("min-se")
    said = _read_or_none(request.headers.first("session-expires"))
    if value is None or said is None:
        return None
    try:
        least = parse_min_se(value)
    except BadMessage:
        return None
    if least <= said.seconds:
        return None
    return ("Session-Expires", str(SessionExpires(least, said.refresher))), ("Min-SE", str(least))


def _least_of(message: Message) -> int:
    value = message.headers.first("min-se")
    try:
        return 0 if value is None else parse_min_se(value)
    except BadMessage:
        return 0


def _read(value: str) -> SessionExpires:
    # The same few values stand in every call.
    return _read_cached(value) if len(value) <= _CACHED_UP_TO else parse_session_expires(value)


def _read_or_none(value: str | None) -> SessionExpires | None:
    try:
        return None if value is None else _read(value)
    except BadMessage:
        return None


_read_cached = lru_cache(maxsize=512)(parse_session_expires)
