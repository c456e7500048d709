"""`/metrics`, for Prometheus: to this machine, or to whoever brings the token."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable

from twisted.web.resource import Resource
from twisted.web.server import Request

from pbx.operations.metrics import CONTENT_TYPE


class MetricsPage(Resource):
    """token: asked of everybody ("Authorization: Bearer …") where it is set; where it is empty only this machine is let
    in, and nothing that came through a proxy on it."""

    isLeaf = True

    def __init__(self, page: Callable[[], str], token: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._page = page
        self._token = token

    def render_GET(self, request: Request) -> bytes:
        if not self._may(request):
            # Not 401: a browser would ask its user for a password that is nobody's.
            request.setResponseCode(403)
            request.setHeader(b"content-type", b"text/plain; charset=utf-8")
            return b"Not for you.\n"
        request.setHeader(b"content-type", CONTENT_TYPE.encode("ascii"))
        request.setHeader(b"cache-control", b"no-store")
        return self._page().encode()

    def _may(self, request: Request) -> bool:
        if self._token:
            given = request.getHeader(b"authorization") or b""
            return hmac.compare_digest(given, b"Bearer " + self._token.encode())
        forwarded = request.getHeader(b"x-forwarded-for") or request.getHeader(b"forwarded")
        host = getattr(request.getClientAddress(), "host", "")
        try:
            return not forwarded and ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False
