"""What a request says, made safe to use: form fields, where the reader came from, the token of the login form."""

from __future__ import annotations

import hmac
import math
import secrets
import unicodedata
from urllib.parse import parse_qs, urlsplit

from twisted.web.server import Request


def field(request: Request, name: str, longest: int) -> str:
    """One field of a form or query, cut at `longest` characters; "" when it is missing. Broken UTF-8 is replaced."""
    given: bytes = (request.args or {}).get(name.encode(), [b""])[0]
    return given.decode("utf-8", "replace")[:longest]


def header(request: Request, name: str) -> str:
    """A header; "" when it is missing. Broken UTF-8 is replaced, where Twisted's own str would raise."""
    given: bytes = request.getHeader(name.encode()) or b""
    return given.decode("utf-8", "replace")


def plain_text(text: str) -> str:
    """Without control characters (PostgreSQL takes no NUL), and with single spaces."""
    return " ".join("".join(" " if unicodedata.category(c).startswith("C") else c for c in text).split())


def number(request: Request, name: str) -> float:
    """A field as a number; NaN when it is none."""
    try:
        return float(field(request, name, 40))
    except ValueError:
        return math.nan


def local_path(text: str) -> str:
    """`text` if it is a path on this site, else "/": a login must not send people to somebody else's page."""
    if text.startswith("http"):
        try:
            parts = urlsplit(text)
        except ValueError:
            return "/"
        text = parts.path + (f"?{parts.query}" if parts.query else "")
    # Browsers read both // and /\ as the beginning of a host.
    if (
        not text.startswith("/")
        or text[1:2] in ("/", "\\")
        or not text.isprintable()
        or text.startswith("/login")
    ):
        return "/"
    return text


def came_from(request: Request) -> tuple[str, str]:
    """The path on this site the reader came from, and what they had searched for there.

    From another site only its host is told, from nowhere "".
    """
    try:
        parts = urlsplit(header(request, "referer"))
        host = parts.netloc
        query = parse_qs(parts.query, errors="replace") if parts.path == "/search" else {}
    except ValueError:
        return "", ""
    if host != header(request, "host"):
        return plain_text(host), ""
    return plain_text(parts.path), plain_text(query.get("q", [""])[0])


class FormToken:
    """The login form's guard against forged posts: there is no login yet to hang a CSRF token on, so a cookie
    that only this site can set must come back in the form as well.
    """

    @staticmethod
    def cookie(request: Request) -> bytes:
        # Of two names, for the reason that config/login.py has two for its cookies.
        return b"__Secure-warmline_form" if request.isSecure() else b"warmline_form"

    @classmethod
    def given(cls, request: Request) -> str:
        """The browser's token; a new one is set as a cookie on the answer."""
        name = cls.cookie(request)
        held: bytes | None = request.getCookie(name)
        if held and len(held) == 43:
            return held.decode("ascii", "replace")
        token = secrets.token_urlsafe(32)
        request.addCookie(
            name, token, path="/login", httpOnly=True, sameSite="strict", secure=request.isSecure()
        )
        return token

    @classmethod
    def matches(cls, request: Request) -> bool:
        held: bytes = request.getCookie(cls.cookie(request)) or b""
        sent: bytes = (request.args or {}).get(b"form_token", [b""])[0]
        return bool(held) and hmac.compare_digest(held, sent)
