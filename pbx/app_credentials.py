"""SIP credentials for customers' browsers: made when asked for, good for minutes, never stored."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from sip_trunk.sip.digest import Credentials

LIFETIME_S = 600.0


@dataclass(frozen=True, slots=True)
class Issued:
    """What the page gets. `password` is shown this once; `expires_s` is how long it is good for."""

    uri: str
    username: str
    password: str = field(repr=False)
    realm: str
    expires_s: float


@dataclass(frozen=True, slots=True)
class _Known:
    customer_id: str
    credentials: Credentials
    good_until: float


class AppCredentials:
    """`now` is wall time in epoch seconds."""

    def __init__(self, *, domain: str, realm: str, now: Callable[[], float]) -> None:
        self._domain = domain
        self._realm = realm
        self._now = now
        self._known: dict[str, _Known] = {}  # in the order they were made, so the oldest come first

    def issue(self, customer_id: str) -> Issued:
        """New ones, beside those a page of the same customer may be using still."""
        self._forget_old()
        username, password = f"cust-{secrets.token_hex(8)}", secrets.token_urlsafe(24)
        credentials = Credentials.of(username, self._realm, password)
        self._known[username] = _Known(customer_id, credentials, self._now() + LIFETIME_S)
        return Issued(f"sip:{username}@{self._domain}", username, password, self._realm, LIFETIME_S)

    def credentials_of(self, username: str) -> Credentials | None:
        """What digest authentication checks against; None when they were never made or are too old."""
        known = self._good(username)
        return known.credentials if known is not None else None

    def customer_of(self, username: str) -> str | None:
        known = self._good(username)
        return known.customer_id if known is not None else None

    def _good(self, username: str) -> _Known | None:
        known = self._known.get(username)
        return known if known is not None and known.good_until > self._now() else None

    def _forget_old(self) -> None:
        now = self._now()
        for username, known in list(self._known.items()):
            if known.good_until > now:
                break
            del self._known[username]
