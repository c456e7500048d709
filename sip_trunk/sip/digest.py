"""Digest authentication (RFC 7616, RFC 8760, RFC 3261 s22): asking, checking and answering.

Passwords are only ever seen by `ha1`; what is kept is HA1. Nonces carry their own proof, so that a stranger who asks
for thousands of challenges costs no memory; only a nonce somebody proved a password with is remembered.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.header_values import quote_string, unquote_string

ALGORITHMS = ("SHA-256", "MD5")
"""Best first (RFC 8760 s2.3); a name is written as it stands here."""

_PART = re.compile(r'\s*([A-Za-z0-9*_-]+)\s*=\s*("[^"\\]*(?:\\.[^"\\]*)*"|[^\s,"]+)\s*(?:,|$)', re.DOTALL)
_PLAIN_NAMES = frozenset(
    "username realm nonce uri response algorithm opaque qop nc cnonce stale domain".split()  # noqa: SIM905
)
_SCHEME = re.compile(r"\s*([A-Za-z0-9_-]+)\s+")
_NC = re.compile(r"[0-9a-fA-F]{8}")


def _digest(algorithm: str, text: str | bytes) -> str:
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if algorithm == "MD5":
        return hashlib.md5(data, usedforsecurity=False).hexdigest()
    return hashlib.sha256(data).hexdigest()


def ha1(username: str, realm: str, password: str, algorithm: str) -> str:
    """What is kept in place of a password (RFC 7616 s3.4.2). `algorithm` is one of ALGORITHMS."""
    if algorithm not in ALGORITHMS:
        raise ValueError(algorithm)
    return _digest(algorithm, f"{username}:{realm}:{password}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """One user's HA1 by MD5 and by SHA-256, in hexadecimal. An empty one means that algorithm cannot be used."""

    username: str
    realm: str
    md5: str
    sha256: str

    @classmethod
    def of(cls, username: str, realm: str, password: str) -> Credentials:
        return cls(
            username, realm, ha1(username, realm, password, "MD5"), ha1(username, realm, password, "SHA-256")
        )

    def ha1(self, algorithm: str) -> str:
        return self.md5 if algorithm == "MD5" else self.sha256

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, {self.realm!r})"


_STEP_S = 60.0
"""A nonce made for a request says the beginning of this minute as its time, so it is up to that much older."""


class NonceState(Enum):
    FRESH = "fresh"
    STALE = "stale"
    INVALID = "invalid"


class Nonces:
    """Nonces that prove by themselves when we made them.

    secret: at least 16 octets that nobody else knows; nodes that share it accept each other's nonces.
    lifetime_s: how long a nonce is good for.
    remembered: how many nonces in use are kept to refuse a repeated nc; the oldest give way and become stale.
    """

    __slots__ = ("_forgotten", "_keyed", "_limit", "_serial", "_used", "lifetime_s")

    # How far behind the highest nc another may come: UDP reorders.
    _WINDOW = 64

    def __init__(self, secret: bytes, lifetime_s: float = 300.0, *, remembered: int = 100_000) -> None:
        if len(secret) < 16:
            raise ValueError("a secret for nonces needs 16 octets")
        # Keyed BLAKE2 is a MAC by itself, at a third of what an HMAC costs; a copy of it has taken in the key already.
        self._keyed = hashlib.blake2b(key=hashlib.sha256(secret).digest(), digest_size=12)
        self.lifetime_s = lifetime_s
        self._limit = remembered
        self._serial = itertools.count(secrets.randbits(40))
        # nonce -> (highest nc, bits of those seen below it, when it was made). A plain dict that loses its first entry
        # again and again has to look for the next one farther and farther in.
        self._used: OrderedDict[str, tuple[int, int, float]] = OrderedDict()
        self._forgotten = 0.0

    def __len__(self) -> int:
        """How many nonces are remembered."""
        return len(self._used)

    def _proof(self, text: str) -> str:
        keyed = self._keyed.copy()
        keyed.update(text.encode("utf-8", "surrogateescape"))
        return keyed.hexdigest()

    def issue(self, now: float, of: str | None = None) -> str:
        """A new nonce. `of` is what a request is known by: when it comes again, it is most often asked with the same
        nonce again, as if its challenge had been kept; phones that tell responses only by their Call-ID rely on it.
        """
        if of is None:
            text = f"{int(now * 1000):x}.{next(self._serial):x}"
        else:
            text = f"{int(now / _STEP_S) * int(_STEP_S * 1000):x}.{self._proof(of)}"
        return f"{text}.{self._proof(text)}"

    def _made_at(self, nonce: str) -> float | None:
        text, _, proof = nonce.rpartition(".")
        if len(nonce) > 80 or not nonce.isascii() or not hmac.compare_digest(proof, self._proof(text)):
            return None
        return _time_in(text)

    def check(self, nonce: str, now: float) -> NonceState:
        """Whether we made it and it is still good. It changes nothing, so it costs a stranger's flood no memory."""
        made_at = self._made_at(nonce)
        if made_at is None:
            return NonceState.INVALID
        if now - made_at > self.lifetime_s or (made_at <= self._forgotten and nonce not in self._used):
            return NonceState.STALE
        return NonceState.FRESH

    def use(self, nonce: str, nc: int, now: float) -> bool:
        """Take an nc of a nonce that `check` found fresh, after the password was proved.

        False if it was taken before: a replay (RFC 7616 s5.4). A legacy answer without nc counts as nc 1, so its
        nonce serves once.
        """
        known = self._used.get(nonce)
        if known is None:
            known = (0, 0, _time_in(nonce))
        highest, seen, made_at = known
        behind = highest - nc
        if nc > highest:
            shift = nc - highest
            seen = ((seen << shift) | 1) & ((1 << self._WINDOW) - 1) if shift < self._WINDOW else 1
            highest = nc
        elif behind >= self._WINDOW or seen >> behind & 1:
            return False
        else:
            seen |= 1 << behind
        self._used[nonce] = (highest, seen, made_at)
        self._tidy(now)
        return True

    def _tidy(self, now: float) -> None:
        # Two for each one taken: those past their lifetime are refused without being remembered, so they go first.
        for _ in range(2):
            oldest, (_, _, made_at) = next(iter(self._used.items()))
            if len(self._used) > self._limit:
                self._forgotten = max(self._forgotten, made_at)
            elif now - made_at <= self.lifetime_s or len(self._used) == 1:
                return
            del self._used[oldest]


def _time_in(nonce: str) -> float:
    return int(nonce.partition(".")[0], 16) / 1000


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate or Proxy-Authenticate."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    qop: tuple[str, ...] = ("auth",)
    opaque: str | None = None
    stale: bool = False

    def __str__(self) -> str:
        parts = [f"realm={quote_string(self.realm)}", f'nonce="{self.nonce}"']
        if self.opaque is not None:
            parts.append(f"opaque={quote_string(self.opaque)}")
        if self.stale:
            parts.append("stale=true")
        parts.append(f"algorithm={self.algorithm}")
        if self.qop:
            parts.append(f'qop="{",".join(self.qop)}"')
        return "Digest " + ", ".join(parts)


def challenges(
    realm: str, nonce: str, *, stale: bool = False, algorithms: Iterable[str] = ALGORITHMS
) -> list[str]:
    """Header values to ask with, one for each algorithm in the order given (RFC 8760 s2.4: best first)."""
    return [nonce.join(_around_nonce(realm, algorithm, stale)) for algorithm in algorithms]


@lru_cache(maxsize=64)
def _around_nonce(realm: str, algorithm: str, stale: bool) -> list[str]:
    """What stands before and after the nonce; no header has a NUL."""
    return str(Challenge(realm, "\0", algorithm, stale=stale)).split("\0")


def _parts(text: str) -> dict[str, str]:
    """The auth-params of a `Digest …` value, unquoted, by lower-case name. Raises BadMessage."""
    match = _SCHEME.match(text)
    if match is None:
        raise BadMessage("Bad credentials")
    if match[1].lower() != "digest":
        raise BadMessage("Unsupported authentication scheme")
    at = match.end()
    plain = _plain_parts(text[at:])
    if plain is not None:
        return plain
    parts: dict[str, str] = {}
    # Match by match, not `findall`, which would start again at each character of what does not match.
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            raise BadMessage("Bad credentials")
        name, value = match.groups()
        name = name.lower()
        if name in parts:
            # Two readers who pick different ones would check different things.
            raise BadMessage("Bad credentials")
        parts[name] = unquote_string(value)
        at = match.end()
    return parts


def _plain_parts(text: str) -> dict[str, str] | None:
    """The same, where they are as phones and proxies write them: names we know, no escape, no comma in a value."""
    parts: dict[str, str] = {}
    if "\\" in text:
        return None
    for item in text.split(","):
        name, _, value = item.partition("=")
        name = name.lstrip(" ")
        if name not in _PLAIN_NAMES or name in parts:
            return None
        if value[:1] == '"':
            if value[-1] != '"' or value.count('"') != 2:
                return None
            value = value[1:-1]
        elif not value.isalnum() and value != "SHA-256":
            return None
        parts[name] = value
    return parts


def _algorithm(name: str | None) -> str | None:
    """As in ALGORITHMS; None for one we do not speak, among them the -sess ones (RFC 8760 s2.1)."""
    if name is None:
        return "MD5"
    upper = name.upper()
    return upper if upper in ALGORITHMS else None


class Authorization(NamedTuple):
    """One Authorization or Proxy-Authorization. `algorithm` is None if it is one we do not speak; `qop` is None in the
    legacy form, which has no nc and cnonce either."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str | None
    qop: str | None
    nc: int
    nc_text: str
    cnonce: str


def parse_authorization(text: str) -> Authorization:
    """Raises BadMessage."""
    parts = _parts(text)
    try:
        if "username" in parts:
            username = parts["username"]
        else:
            # RFC 7616 s3.4, RFC 8187: a name that is not ASCII, as UTF-8''%C3%84nn
            charset, _, rest = parts["username*"].partition("'")
            if charset.upper() != "UTF-8":
                raise BadMessage("Bad credentials")
            username = unquote(rest.partition("'")[2], errors="surrogateescape")
        qop = parts.get("qop")
        if qop is not None:
            qop = qop.lower()
            if qop not in ("auth", "auth-int") or _NC.fullmatch(parts["nc"]) is None:
                raise BadMessage("Bad credentials")
        return Authorization(
            username,
            parts["realm"],
            parts["nonce"],
            parts["uri"],
            parts["response"],
            _algorithm(parts.get("algorithm")),
            qop,
            1 if qop is None else int(parts["nc"], 16),
            "" if qop is None else parts["nc"],
            "" if qop is None else parts["cnonce"],
        )
    except KeyError as missing:
        raise BadMessage("Bad credentials") from missing


def _response(
    algorithm: str,
    secret: str,
    method: str,
    uri: str,
    body: bytes,
    nonce: str,
    qop: str | None,
    nc_text: str,
    cnonce: str,
) -> str:
    """RFC 7616 s3.4.1."""
    a2 = f"{method}:{uri}"
    if qop == "auth-int":
        a2 = f"{a2}:{_digest(algorithm, body)}"
    if qop is None:
        return _digest(algorithm, f"{secret}:{nonce}:{_digest(algorithm, a2)}")
    return _digest(algorithm, f"{secret}:{nonce}:{nc_text}:{cnonce}:{qop}:{_digest(algorithm, a2)}")


def verify(authorization: Authorization, credentials: Credentials, method: str, body: bytes = b"") -> bool:
    """Whether whoever wrote this knows the password. It does not look at the nonce's age, nor at which URI was signed:
    a proxy on the way may have changed the Request-URI (RFC 3261 s22.4).
    """
    algorithm = authorization.algorithm
    if algorithm is None:
        return False
    if authorization.qop is None and algorithm != "MD5":
        return False  # only phones from before RFC 8760 may leave qop out
    secret = credentials.ha1(algorithm)
    expected = _response(
        algorithm,
        secret,
        method,
        authorization.uri,
        body,
        authorization.nonce,
        authorization.qop,
        authorization.nc_text,
        authorization.cnonce,
    )
    given = authorization.response.lower().encode("utf-8", "surrogateescape")
    return (
        hmac.compare_digest(expected.encode(), given)
        and bool(secret)
        and authorization.username == credentials.username
        and authorization.realm == credentials.realm
    )


def parse_challenge(text: str) -> Challenge | None:
    """None for one we cannot answer: another scheme, algorithm or qop, or nonsense."""
    try:
        parts = _parts(text)
    except BadMessage:
        return None
    algorithm = _algorithm(parts.get("algorithm"))
    qop = tuple(item.strip().lower() for item in parts["qop"].split(",")) if "qop" in parts else ()
    if algorithm is None or "realm" not in parts or "nonce" not in parts:
        return None
    if qop and not {"auth", "auth-int"} & set(qop):
        return None
    stale = parts.get("stale", "").lower() == "true"
    return Challenge(parts["realm"], parts["nonce"], algorithm, qop, parts.get("opaque"), stale)


def choose_challenge(values: Iterable[str]) -> Challenge | None:
    """The first we can answer: they come in the order the other side prefers (RFC 7616 s3.7)."""
    return next((challenge for value in values if (challenge := parse_challenge(value)) is not None), None)


def answer(
    challenge: Challenge,
    username: str,
    password: str | Credentials,
    method: str,
    uri: str,
    *,
    body: bytes = b"",
    nc: int = 1,
    cnonce: str | None = None,
) -> str:
    """The Authorization value that answers a challenge. `nc` counts the answers given to one nonce, from 1."""
    algorithm = challenge.algorithm
    secret = (
        password.ha1(algorithm)
        if isinstance(password, Credentials)
        else ha1(username, challenge.realm, password, algorithm)
    )
    qop = None
    if challenge.qop:
        qop = "auth" if "auth" in challenge.qop else "auth-int"
    cnonce = secrets.token_hex(8) if cnonce is None else cnonce
    nc_text = f"{nc:08x}"
    response = _response(algorithm, secret, method, uri, body, challenge.nonce, qop, nc_text, cnonce)
    parts = [
        f"username={quote_string(username)}",
        f"realm={quote_string(challenge.realm)}",
        f"nonce={quote_string(challenge.nonce)}",
        f"uri={quote_string(uri)}",
        f'response="{response}"',
        f"algorithm={algorithm}",
    ]
    if qop is not None:
        parts += (f"qop={qop}", f"nc={nc_text}", f'cnonce="{cnonce}"')
    if challenge.opaque is not None:
        parts.append(f"opaque={quote_string(challenge.opaque)}")
    return "Digest " + ", ".join(parts)
