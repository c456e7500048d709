"""Logins for all pages: argon2 passwords, sessions kept by the hash of their cookie, CSRF tokens, a rate limit."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from twisted.web.server import Request

from config.database import Database, metadata
from config.errors import TheirError
from config.rate_limit import source_of

Kind = Literal["customer", "agent", "staff"]

login_session = sa.Table(
    "login_session",
    metadata,
    sa.Column("token_hash", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("subject", sa.String(64), nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Index("login_session_by_expiry", "expires_at"),
)

_INSERT = login_session.insert()
_BY_TOKEN = sa.select(login_session.c.subject, login_session.c.expires_at).where(
    login_session.c.token_hash == sa.bindparam("token"), login_session.c.kind == sa.bindparam("kind")
)
_DELETE = login_session.delete().where(login_session.c.token_hash == sa.bindparam("token"))
_DELETE_EXPIRED = login_session.delete().where(login_session.c.expires_at <= sa.bindparam("moment"))

# Customers come back to an article days later; those who see customers' data log in every working day.
_LIFETIME_S: dict[Kind, float] = {"customer": 30 * 86400.0, "agent": 14 * 3600.0, "staff": 14 * 3600.0}

_WINDOW_S = 300.0
_LONGEST_PASSWORD = 1024  # argon2 would hash a megabyte just as patiently


@dataclass(frozen=True, slots=True)
class Login:
    """Who is logged in: ``subject`` is the customer's, agent's or staff member's id; ``csrf`` goes into forms."""

    kind: Kind
    subject: str
    csrf: str


class Attempts:
    """How often each name and each address may try a password: ``limit`` wrong ones within five minutes.

    Holds at most ``size`` of each and forgets the one heard of longest ago, so that a flood costs no memory.
    """

    def __init__(self, now: Callable[[], float], *, limit: int, size: int = 10_000) -> None:
        self._now = now
        self._limit = limit
        self._size = size
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def allowed(self, who: str) -> bool:
        """Whether ``who`` may try now."""
        return self._count(who) < self._limit

    def wrong(self, who: str) -> None:
        """``who`` gave a wrong password."""
        count = self._count(who)
        since = self._wrong[who][1] if count else self._now()
        self._wrong[who] = count + 1, since
        self._wrong.move_to_end(who)
        if len(self._wrong) > self._size:
            self._wrong.popitem(last=False)

    def right(self, who: str) -> None:
        """``who`` gave the right password: what went before is forgiven."""
        self._wrong.pop(who, None)

    def undone(self, who: str) -> None:
        """The last try of ``who`` was right after all; those before it still count."""
        count = self._count(who)
        if count > 1:
            self._wrong[who] = count - 1, self._wrong[who][1]
        else:
            self._wrong.pop(who, None)

    def _count(self, who: str) -> int:
        count, since = self._wrong.get(who, (0, 0.0))
        if count and since + _WINDOW_S <= self._now():
            del self._wrong[who]
            return 0
        return count


class Logins:
    """Passwords and login sessions. One cookie per kind, so that one browser may hold a customer and an agent."""

    def __init__(
        self,
        database: Database,
        now: Callable[[], float],
        *,
        hasher: PasswordHasher | None = None,
        attempts_per_name: int = 10,
        attempts_per_address: int = 30,
    ) -> None:
        self._database = database
        self._now = now
        self._hasher = hasher or PasswordHasher()
        # Two at a time: each takes 64 MiB and a core for as long as it runs, and many may log in at once.
        self._threads = ThreadPoolExecutor(2, "passwords")
        self._names = Attempts(now, limit=attempts_per_name)
        self._addresses = Attempts(now, limit=attempts_per_address)
        self._nobodys_hash: str | None = None

    async def hash_password(self, password: str) -> str:
        """The argon2 hash to store; TheirError for a password that is empty or too long."""
        if not password or len(password) > _LONGEST_PASSWORD:
            raise TheirError(f"A password has from 1 to {_LONGEST_PASSWORD} characters.")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._hasher.hash, password)

    async def check_password(
        self, hash: str | None, password: str, *, name: str = "", address: str = ""
    ) -> bool:
        """Whether ``password`` is right. ``hash`` is None for a name nobody has, which takes just as long.

        With the login ``name`` and the asking ``address``, tries are counted: TheirError 429 when too many were wrong.
        """
        name, address = name.casefold()[:256], source_of(address)
        if not self._names.allowed(name) or not self._addresses.allowed(address):
            raise TheirError("Too many wrong passwords. Please try again in a few minutes.", 429)
        # Counted before the slow check, or many tries at once would all slip through.
        for attempts, who in ((self._names, name), (self._addresses, address)):
            if who:
                attempts.wrong(who)
        right = len(password) <= _LONGEST_PASSWORD and await asyncio.get_running_loop().run_in_executor(
            self._threads, self._verify, hash, password
        )
        if right:
            self._names.right(name)
            # Not all is forgiven here: with one login of their own, anybody could go on guessing others' for ever.
            self._addresses.undone(address)
        return right

    def _verify(self, stored: str | None, password: str) -> bool:
        if stored is None:
            if self._nobodys_hash is None:
                self._nobodys_hash = self._hasher.hash(secrets.token_hex())
            stored, password = self._nobodys_hash, ""
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def start(self, kind: Kind, subject: str, request: Request) -> None:
        """Log ``subject`` in: a new session is stored, then its cookie set on the answer to ``request``."""
        token = secrets.token_urlsafe(32)
        now = self._now()
        row = {
            "token_hash": _hash(token),
            "kind": kind,
            "subject": subject,
            "started_at": now,
            "expires_at": now + _LIFETIME_S[kind],
        }
        # A browser that logs in anew leaves its old session behind; it must not stay good.
        old = _token(request, kind)
        dropped = [(_DELETE, {"token": _hash(old)})] if old else []
        await self._database.write(*dropped, (_DELETE_EXPIRED, {"moment": now}), (_INSERT, row))
        self._set_cookie(request, kind, token, _LIFETIME_S[kind])

    async def who(self, request: Request, kind: Kind) -> Login | None:
        """Who of this kind sent ``request``; None if nobody is logged in."""
        token = _token(request, kind)
        if token is None:
            return None
        rows = await self._database.read(_BY_TOKEN, {"token": _hash(token), "kind": kind})
        if not rows or rows[0].expires_at <= self._now():
            return None
        return Login(kind, rows[0].subject, _csrf(token))

    async def end(self, request: Request, kind: Kind) -> None:
        """Log out: the session is gone, and so is the cookie."""
        token = _token(request, kind)
        if token is not None:
            await self._database.write((_DELETE, {"token": _hash(token)}))
        self._set_cookie(request, kind, "", 0)

    async def end_all(self, kind: Kind, subject: str) -> None:
        """Log this person out wherever they are logged in."""
        mine = sa.and_(login_session.c.kind == kind, login_session.c.subject == subject)
        await self._database.write(login_session.delete().where(mine))

    def csrf_ok(self, login: Login, request: Request) -> bool:
        """Whether ``request`` carries this login's token, in the field ``csrf`` or the header X-CSRF-Token."""
        given: bytes = request.getHeader(b"x-csrf-token") or (request.args or {}).get(b"csrf", [b""])[0]
        return hmac.compare_digest(given, login.csrf.encode())

    def close(self) -> None:
        """Let the password threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _set_cookie(request: Request, kind: Kind, token: str, lifetime_s: float) -> None:
        request.addCookie(
            _cookie(kind, request),
            token,
            path="/",
            max_age=str(int(lifetime_s)),
            httpOnly=True,
            sameSite="lax",
            secure=request.isSecure(),
        )


def _cookie(kind: Kind, request: Request) -> str:
    # A browser gives http no cookie that was set as secure, nor lets http replace it (RFC 6265bis 5.7): with one name
    # for both, who had logged in on https could not log in on http any more. The prefix lets nobody but us set it.
    return f"__Host-warmline_{kind}" if request.isSecure() else f"warmline_{kind}"


def _token(request: Request, kind: Kind) -> str | None:
    raw = request.getCookie(_cookie(kind, request).encode())
    return raw.decode("ascii", "replace") if raw else None


def _hash(token: str) -> str:
    # Who reads the database must not be able to log in by it. A random token needs no slow hash.
    return hashlib.sha256(token.encode()).hexdigest()


def _csrf(token: str) -> str:
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()
