"""Templates, static files and the headers that guard both."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from twisted.web.server import Request

from kb_portal.forms import header
from kb_portal.static_files import StaticFiles

_HERE = Path(__file__).parent

# Scripts come from files only. The phone in the page speaks SIP to a web socket, which may be on another port.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "media-src 'self' blob: mediastream:; connect-src 'self' ws: wss:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# Drawings carry a small style of their own; nothing else may happen when one is opened by itself.
_DRAWING_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"


def security_headers(request: Request, *, policy: str = _POLICY) -> None:
    for name, value in (
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("permissions-policy", "camera=(self), microphone=(self), geolocation=()"),
        ("cache-control", "no-store"),
    ):
        request.setHeader(name, value)
    if request.isSecure():  # over plain http browsers ignore it, and complain
        request.setHeader("cross-origin-opener-policy", "same-origin")


class Html:
    """Renders templates, all escaped, and serves the files they name."""

    def __init__(self, *, secure_url: str, with_ca: bool) -> None:
        self._files = StaticFiles(_HERE / "static")
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {"static": self._files.url, "secure_url": secure_url, "with_ca": with_ca}
        self._templates.filters |= {"month": _month, "phone": _phone}

    def render(self, request: Request, template: str, **facts: Any) -> str:
        path = request.path.decode("ascii", "replace")
        defaults: dict[str, Any] = {"view": None, "path": path}
        return self._templates.get_template(template).render(defaults | facts)

    def login_url(self, target: str) -> str:
        return "/login" if target == "/" else f"/login?next={quote(target, safe='/')}"

    def static(self, request: Request, path: str) -> bytes | None:
        """A static file as the answer to `request`; None when there is none."""
        file = self._files.find(path)
        if file is None:
            return None
        security_headers(request, policy=_DRAWING_POLICY if file.content_type == "image/svg+xml" else _POLICY)
        request.setHeader("content-type", file.content_type)
        request.setHeader(
            "cache-control", "public, max-age=31536000, immutable" if file.lasting else "no-cache"
        )
        if file.packed is None:
            return file.content
        request.setHeader("vary", "accept-encoding")
        if "gzip" not in (header(request, "accept-encoding")):
            return file.content
        request.setHeader("content-encoding", "gzip")
        return file.packed


def _month(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%B %Y")


def _phone(e164: str) -> str:
    """+15550200 as +1 555 0200, for eyes."""
    digits = e164.removeprefix("+1")
    return f"+1 {digits[:3]} {digits[3:]}" if e164.startswith("+1") else e164
