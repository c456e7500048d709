"""Sends pushes: one HTTPS POST each to the operator's gateway, which knows the push services and has their keys."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectionDone, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    FileBodyProducer,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseFailed,
)
from twisted.web.http_headers import Headers

from config.bridge import as_future
from config.errors import OurError

if TYPE_CHECKING:
    from twisted.web.iweb import IPolicyForHTTPS

    from agent_presence.push_contact import PushAddress

TIMEOUT_S = 5.0
"""How long connecting and the head of the answer may take together, and then reading the rest of it."""
MOST_READ = 65_536

_FAILURES = (
    ConnectError, ConnectionDone, ConnectTimeout, DNSLookupError, RequestTransmissionFailed, ResponseFailed,
    TimeoutError, CancelledError,
)  # fmt: skip


class PushGateway:
    """`url` is where pushes are posted to, `token` what it is shown as a bearer, "" for nothing. `tls` says whose
    certificates are believed; None: those of the system's authorities."""

    def __init__(self, url: str, token: str, reactor: Any, *, tls: IPolicyForHTTPS | None = None) -> None:
        self._url = url.encode()
        self._token = token
        self._clock = reactor
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        more = {} if tls is None else {"contextFactory": tls}
        # Redirects are not followed: the phone's identifier and our token are for this address alone.
        self._agent = Agent(reactor, connectTimeout=TIMEOUT_S, pool=self._pool, **more)

    async def send(self, to: PushAddress, why: str, good_for_s: float) -> bool:
        """Ask for a push that is of use for so many seconds. False: the service knows that phone no more.

        Raises OurError when the gateway refuses or does not answer in time; its text names neither phone nor token.
        """
        body = {
            "provider": to.provider,
            "param": to.param,
            "prid": to.prid,
            "why": why,
            "good_for_s": round(good_for_s),
        }
        headers = Headers({"Content-Type": ["application/json"], "User-Agent": ["Warmline"]})
        if self._token:
            headers.addRawHeader("Authorization", f"Bearer {self._token}")
        asked: Any = self._agent.request(
            b"POST", self._url, headers, FileBodyProducer(BytesIO(json.dumps(body).encode()))
        )
        asked.addTimeout(TIMEOUT_S, self._clock)
        try:
            response: Any = await as_future(asked)
        except _FAILURES as error:
            raise OurError(f"the push gateway did not answer ({_cause(error)})", 503) from None
        response.deliverBody(_Discarded(self._clock))
        if response.code in (404, 410):
            return False
        if not 200 <= response.code < 300:
            raise OurError(f"the push gateway answered {response.code}", 502)
        return True

    async def close(self) -> None:
        """End the connections that are kept open."""
        await as_future(self._pool.closeCachedConnections())


def _cause(error: BaseException) -> str:
    """In few words; of a failure that holds others, the first of these: a certificate that is not believed, say."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        error = reasons[0].value
    return f"{type(error).__name__} {error}".strip()[:200]


class _Discarded(Protocol):
    """Reads what nobody wants to know, so that the connection can be used again; not for ever, and not without end."""

    def __init__(self, clock: Any) -> None:
        self._left = MOST_READ
        self._limit = clock.callLater(TIMEOUT_S, self._enough)

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._enough()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._limit.active():
            self._limit.cancel()

    def _enough(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
