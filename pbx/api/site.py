"""The web site: which part answers which address, and what holds for every request whoever answers it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import IResource, Resource, getChildForRequest
from twisted.web.server import Request, Site

log = Logger()

_MEDIA_TYPE = re.compile(
    rb"[ \t]*([\w!#$%&'*+.^`|~-]{1,100}/[\w!#$%&'*+.^`|~-]{1,100})[ \t]*(?:;|\Z)", re.ASCII
)
_POLLED = frozenset((b"/agent/calls/now", b"/agent/supervisor/now"))

MAX_BODY = 1024 * 1024
IDLE_S = 60.0
"""A connection on which no request is under way is closed after this long."""
ARRIVAL_S = 30.0
"""A request must have arrived whole in this long, however steadily it drips (slow-client attacks)."""

COMMON_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Context and contact addresses are nobody else's business.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(self), geolocation=()"),
)
HSTS = b"max-age=31536000"


class Root(Resource):
    """Hands each request, with its whole path, to the part that owns the first segment of it.

    `parts` maps a first segment ("api", "agent", "context", "sip"), or the first two ("agent/supervisor"), to its
    resource; `otherwise` gets the rest.
    """

    isLeaf = True

    def __init__(self, parts: dict[str, IResource], otherwise: IResource, *, hsts: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._parts = {name.encode("ascii"): part for name, part in parts.items()}
        self._otherwise = otherwise
        self._hsts = hsts

    def render(self, request: Request) -> bytes | int:
        request.responseHeaders.removeHeader(b"server")
        for name, value in COMMON_HEADERS:
            request.setHeader(name, value)
        if self._hsts and request.isSecure():  # RFC 6797 7.2: never over plain http
            request.setHeader(b"strict-transport-security", HSTS)
        path = request.postpath or [b""]
        part = self._parts.get(b"/".join(path[:2])) or self._parts.get(path[0], self._otherwise)
        answer: bytes | int = getChildForRequest(part, request).render(request)
        return answer


class LimitedRequest(Request):
    """A request that is refused as soon as its body is known to be larger than `MAX_BODY`, or of several parts."""

    _refused = False
    arrived_at = 0.0

    def gotLength(self, length: int | None) -> None:
        too_large = length is not None and length > MAX_BODY
        kind = self._one_media_type()
        super().gotLength(0 if too_large or not kind else length)  # type: ignore[no-untyped-call]
        if not kind:
            self._refuse(b"415 Unsupported Media Type", "No request here has several parts.")
        elif too_large:
            self._refuse()

    def _one_media_type(self) -> bool:
        """Whether the body is of one kind, if any (RFC 9110 8.3); what is said beside it is left out.

        No form of ours has several parts, and Twisted would read them before anybody is asked who they are: in the
        reactor and for seconds, for the time that `email` takes grows with the square of a header's length.
        """
        said = self.requestHeaders.getRawHeaders(b"content-type")
        if not said:
            return True
        kind = _MEDIA_TYPE.match(said[0])
        if kind is None or len(said) > 1 or kind[1].lower().startswith(b"multipart/"):
            return False
        self.requestHeaders.setRawHeaders(b"content-type", [kind[1]])
        return True

    def handleContentChunk(self, data: bytes) -> None:
        if self._refused:
            return
        if (
            self.content is not None and self.content.tell() + len(data) > MAX_BODY
        ):  # a chunked body says no length beforehand
            self._refuse()
            return
        super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self._refused:
            return
        site = self.channel.site if isinstance(self.channel, PatientChannel) else None
        if site is not None:
            self.arrived_at = site.reactor.seconds()
        super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def _refuse(
        self,
        status: bytes = b"413 Content Too Large",
        reason: str = f"The request is larger than {MAX_BODY // 1024} KiB.",
    ) -> None:
        self._refused = True
        body = json.dumps({"error": reason}).encode("ascii")
        assert self.channel is not None
        assert self.channel.transport is not None
        self.channel.transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % (status, len(body)) + body
        )
        self.channel.loseConnection()


class PatientChannel(HTTPChannel):
    """Closes a connection whose request does not arrive whole within `ARRIVAL_S`.

    The idle timeout of Twisted starts again with every byte, so by itself it lets one byte a minute go on for ever.
    """

    site: Site
    _deadline: IDelayedCall | None = None

    def dataReceived(self, data: bytes) -> None:
        if self._deadline is None and not self._handlingRequest:
            self._deadline = self.callLater(ARRIVAL_S, self._too_slow)  # type: ignore[no-untyped-call]
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        self._forget_deadline()
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forget_deadline()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _too_slow(self) -> None:
        self._deadline = None
        self.forceAbortClient()  # type: ignore[no-untyped-call]

    def _forget_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None


class WarmlineSite(Site):
    """A twisted.web Site with our limits, and an access log that holds no query, cookie, body or name."""

    protocol = PatientChannel  # type: ignore[assignment]
    requestFactory = LimitedRequest
    displayTracebacks = False

    def __init__(
        self, root: IResource, reactor: IReactorTime, *, access_log: Callable[[str], None] | None = None
    ):
        super().__init__(root, requestFactory=LimitedRequest, timeout=IDLE_S, reactor=reactor)  # type: ignore[no-untyped-call]
        self._access_log = access_log

    def log(self, request: HttpRequest) -> None:
        # The path alone: queries hold what people searched for.
        line = (
            f"{printable(request.method)} {printable(request.path)} {request.code} {request.sentLength} B "
            f"{(self.reactor.seconds() - getattr(request, 'arrived_at', 0.0)) * 1000:.0f} ms {peer_of(request)}"
        )
        if self._access_log is not None:
            self._access_log(line)
        elif request.code < 400 and (request.path.startswith(b"/static/") or request.path in _POLLED):
            # A dozen to each page, or one every two seconds while it is open, and never the news.
            log.debug("{line}", line=line)
        else:
            log.info("{line}", line=line)


def build_root(
    *,
    api: IResource,
    pages: IResource,
    portal: IResource,
    sip: IResource | None,
    metrics: IResource | None = None,
    supervisor: IResource | None = None,
    more: Mapping[str, IResource] | None = None,
    hsts: bool = True,
) -> Root:
    """The one root resource: `/api`, `/agent`, `/context`, `/sip`, `/metrics`, and the portal for everything else.

    `more`: further parts, by their first segments.
    """
    parts = {"api": api, "agent": pages, "context": pages, **(more or {})}
    if supervisor is not None:
        parts["agent/supervisor"] = supervisor
    if sip is not None:
        parts["sip"] = sip
    if metrics is not None:
        parts["metrics"] = metrics
    return Root(parts, portal, hsts=hsts)


def printable(raw: bytes) -> str:
    """`raw` fit for one line of a log: at most 200 characters, none of them control characters."""
    text = raw[:200].decode("ascii", "backslashreplace")
    return "".join(c if c.isprintable() and c != " " else "?" for c in text)


def peer_of(request: HttpRequest) -> str:
    return getattr(request.getClientAddress(), "host", "-")
