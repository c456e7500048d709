"""The guards of the login form, where there is no login yet whose CSRF token it could carry."""

from __future__ import annotations

import hmac
import re
import secrets

from twisted.web.server import Request

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_CONTEXT = re.compile(r"/context/[A-Za-z0-9_-]{1,100}")


def _cookie(request: Request) -> bytes:
    # Of two names, for the reason that config/login.py has two for its cookies.
    return b"__Secure-warmline_agent_form" if request.isSecure() else b"warmline_agent_form"


def form_token(request: Request) -> str:
    """The token for the login form; the same goes into a cookie, which another site can neither read nor set."""
    name = _cookie(request)
    held = (request.getCookie(name) or b"").decode("ascii", "replace")
    if _TOKEN.fullmatch(held):
        return held
    token = secrets.token_urlsafe(32)
    request.addCookie(
        name, token, path="/agent/login", httpOnly=True, sameSite="strict", secure=request.isSecure()
    )
    return token


def from_our_own_form(request: Request) -> bool:
    """Whether the login form was ours: otherwise another site could log its visitor in as somebody else."""
    held = request.getCookie(_cookie(request)) or b""
    sent = (request.args or {}).get(b"csrf", [b""])[0]
    if not held or not hmac.compare_digest(held, sent):
        return False
    origin = request.getHeader(b"origin")
    host: bytes = request.getHeader(b"host") or b""
    return origin is None or bool(origin.lower().partition(b"://")[2] == host.lower())


def way_on(path: str | None) -> str:
    """Where to go after the login: back to the context page that was asked for, or to the agent's own page."""
    return path if path is not None and _CONTEXT.fullmatch(path) else "/agent"


def easy_to_type() -> str:
    """A password of 80 bits, in groups, without characters that look alike on a small screen."""
    letters = "abcdefghijkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(4))
