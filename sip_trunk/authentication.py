"""Who sent a request: digest, asked and checked in our own role of UAS (RFC 3261 s22.2)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from sip_trunk.sip.digest import (
    Authorization,
    Credentials,
    Nonces,
    NonceState,
    challenges,
    parse_authorization,
    verify,
)
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request

ALGORITHMS = ("MD5", "SHA-256")
"""What is offered, in order. RFC 8760 would have the best first, but sipp and phones like it read only the first
challenge and know only MD5; those that choose the best still find it."""

MD5_ONLY = re.compile(r"baresip v[01]\.|JsSIP")
"""User-Agents that give up altogether when any challenge is not MD5 (seen: baresip 1.0.0), or that read only the last
one and know only MD5 (seen: JsSIP 3.13.8)."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The refusal to send. `failed` tells that a proof was given and was wrong, which `Guard.failed` wants to know; a
    request without proof, or with one that only came too late, did not fail."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()
    failed: bool = False


class Authenticator:
    """realm: what users see and HA1 is made with. credentials_of: a name's credentials, or None."""

    def __init__(
        self,
        realm: str,
        nonces: Nonces,
        credentials_of: Callable[[str], Credentials | None],
        now: Callable[[], float],
    ) -> None:
        self.realm = realm
        self._nonces = nonces
        self._credentials_of = credentials_of
        self._now = now
        # Somebody whose password nobody can know: unknown names are checked against it, by the same steps and in the
        # same time as known ones, so that an answer does not tell which names exist.
        self._nobody = Credentials("", realm, secrets.token_hex(16), secrets.token_hex(32))

    def check(self, request: Request) -> str | Challenge:
        """The name that was proved, or the refusal to send."""
        now = self._now()
        try:
            authorization = self._ours(request)
        except BadMessage as error:
            return Challenge(400, error.reason)
        if authorization is None:
            return self._challenge(request, now)
        state = self._nonces.check(authorization.nonce, now)
        credentials = self._credentials_of(authorization.username) or self._nobody
        if not verify(authorization, credentials, request.method, request.body):
            return self._challenge(request, now, failed=True)
        # RFC 7616 s3.3: the password is right, only the nonce is not, so nobody is asked for it again.
        if state is not NonceState.FRESH or not self._nonces.use(authorization.nonce, authorization.nc, now):
            return self._challenge(request, now, stale=True)
        return authorization.username

    def _ours(self, request: Request) -> Authorization | None:
        """The first proof for our realm; a request may carry others' (RFC 3261 s22.3)."""
        for value in request.headers.all("authorization")[:8]:
            if value[:7].lower() != "digest ":
                continue  # RFC 4475 s3.3.7: another scheme is as good as none
            authorization = parse_authorization(value)
            if authorization.realm == self.realm and authorization.algorithm in ALGORITHMS:
                return authorization
        return None

    def _challenge(
        self, request: Request, now: float, *, stale: bool = False, failed: bool = False
    ) -> Challenge:
        via = request.top_via
        of = f"{via.branch} {via.host} {request.call_id} {request.cseq.number} {request.method}"
        nonce = self._nonces.issue(now, of)
        agent = request.headers.first("user-agent")
        algorithms = ("MD5",) if agent is not None and MD5_ONLY.search(agent) else ALGORITHMS
        values = challenges(self.realm, nonce, stale=stale, algorithms=algorithms)
        return Challenge(
            401, "Unauthorized", tuple(("WWW-Authenticate", value) for value in values), failed=failed
        )
