"""Where an HTTP request becomes Python and an ending, good or bad, becomes a response.

Routes are coroutines returning an `Answer`. `settle` is the one place that knows what each kind of failure looks
like from outside: nobody is ever shown a traceback, and what they are shown can be found in the log.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException

from config.bridge import as_deferred, spawn
from config.errors import TheirError, WarmlineError

log = Logger()

MAX_TEXT = 4_000
MAX_ID = 100


@dataclass(frozen=True)
class Answer:
    """A whole response. `headers` are added to those the site gives everybody."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def write_head(self, request: Request) -> None:
        request.setResponseCode(self.status)
        if self.body or self.status not in (204, 303, 304):
            request.setHeader(b"content-type", self.content_type.encode("ascii"))
        for name, value in self.headers.items():
            request.setHeader(name.encode("ascii"), value.encode("latin-1", "replace"))


class Streamed:
    """What a route returns that has written its own response as it went."""


STREAMED = Streamed()

Work = Callable[[], Coroutine[Any, Any, Answer | Streamed]]


@dataclass(frozen=True)
class Refusal:
    """Why a request was not done, in words fit for whoever asked."""

    status: int
    reason: str
    reference: str | None = None
    """For 5xx only: the same short code is in the server's log."""


def json_answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Answer(body, status, "application/json", {"Cache-Control": "no-store", **(headers or {})})


def json_refusal(refusal: Refusal) -> Answer:
    body: dict[str, object] = {"error": refusal.reason}
    if refusal.reference is not None:
        body["reference"] = refusal.reference
    return json_answer(body, refusal.status, retry_header(refusal.status))


def retry_header(status: int) -> dict[str, str]:
    """RFC 9110 10.2.3: those told to wait are told how long."""
    return {"Retry-After": "10"} if status in (429, 503) else {}


def settle(
    request: Request,
    work: Work,
    refuse: Callable[[Refusal], Answer],
    *,
    to_the_end: bool = False,
) -> Deferred[bytes]:
    """Run a route and write its response; Klein is given the Deferred.

    With `to_the_end`, the work goes on when the client hangs up in the middle: a contact that is half requested or
    a line that is half said would be worse than one nobody waited for.
    """

    async def ending() -> Answer | Streamed:
        try:
            return await work()
        except Exception as error:
            return refuse(refusal_of(error))

    async def run() -> bytes:
        try:
            answer = await (asyncio.shield(spawn(ending(), "a request")) if to_the_end else ending())
        except asyncio.CancelledError:
            # Klein cancels when the client has gone: nobody is left to be told anything.
            return b""
        if isinstance(answer, Streamed):
            return b""
        answer.write_head(request)
        return answer.body

    return as_deferred(run())


def refusal_of(error: BaseException | None) -> Refusal:
    """What `error` is to the outside. What is our own fault is logged under the reference it is given."""
    if isinstance(error, WarmlineError):
        if error.status < 500:
            return Refusal(error.status, error.reason)
        reference = new_reference()
        log.error(
            "request failed ({reference}): {status} {reason}",
            reference=reference,
            status=error.status,
            reason=error.reason,
        )
        return Refusal(error.status, error.reason, reference)
    if isinstance(error, HTTPException):
        return routing_refusal(error)
    reference = new_reference()
    log.failure("request failed ({reference})", failure=Failure(error), reference=reference)
    return Refusal(500, f"Something went wrong on our side. Reference: {reference}.", reference)


def routing_refusal(error: HTTPException) -> Refusal:
    if error.code == 405:
        return Refusal(405, "This address does not take that method.")
    # Werkzeug would redirect `//x` and the like; nothing of ours links to such addresses, so they are simply not there.
    return Refusal(404, "There is nothing at this address.")


def new_reference() -> str:
    return secrets.token_hex(4)


def wants_streaming(request: Request) -> bool:
    """False for HEAD, which must not be kept waiting for a body that never comes."""
    return bool(request.method != b"HEAD")


def argument(request: Request, name: str) -> str | None:
    """The first value of a query or form argument, None when absent or empty. TheirError 400 when it is not UTF-8."""
    values = (request.args or {}).get(name.encode("ascii")) or [b""]
    try:
        text = cast(bytes, values[0]).decode("utf-8")
    except UnicodeDecodeError:
        raise TheirError(f"The field “{name}” is not UTF-8 text.") from None
    return text or None


def identifier(value: str | None, name: str) -> str | None:
    """An id that came from outside: short and without control characters, or None."""
    if value is None or value == "":
        return None
    if len(value) > MAX_ID or not value.isprintable():
        raise TheirError(f"“{name}” is not an id.")
    return value


class Body:
    """A JSON object from outside, whose fields are asked for by name and type.

    TheirError 400, or 415 when it does not say it is JSON, or 422 when a text is longer than allowed.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    @classmethod
    def of(cls, request: Request) -> Body:
        raw = request.content.read() if request.content is not None else b""
        kind = (request.getHeader(b"content-type") or b"").split(b";")[0].strip().lower()
        if kind != b"application/json":
            raise TheirError("Send JSON, with Content-Type: application/json.", 415)
        try:
            value = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise TheirError("The request is not valid JSON.") from None
        if not isinstance(value, dict):
            raise TheirError("The request must be a JSON object.")
        return cls(value)

    def text(self, name: str, *, limit: int = MAX_TEXT) -> str:
        value = self.optional_text(name, limit=limit)
        if value is None:
            raise TheirError(f"“{name}” is missing or empty.")
        return value

    def optional_text(self, name: str, *, limit: int = MAX_TEXT) -> str | None:
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise TheirError(f"“{name}” must be text.")
        return clean_text(value, name, limit=limit)

    def id(self, name: str) -> str:
        value = self.optional_id(name)
        if value is None:
            raise TheirError(f"“{name}” is missing or empty.")
        return value

    def optional_id(self, name: str) -> str | None:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, str):
            raise TheirError(f"“{name}” must be text.")
        return identifier(value, name)

    def flag(self, name: str) -> bool:
        value = self._fields.get(name)
        if not isinstance(value, bool):
            raise TheirError(f"“{name}” must be true or false.")
        return value


def clean_text(value: str, name: str, *, limit: int = MAX_TEXT) -> str | None:
    """`value` without blanks around it, None if nothing is left. TheirError when it is too long or no text at all."""
    value = value.strip()
    if len(value) > limit:
        raise TheirError(f"“{name}” is too long: at most {limit:,} characters.", 422)
    # A lone surrogate (valid as a JSON escape) is no Unicode text, and NUL is refused by PostgreSQL.
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise TheirError(f"“{name}” holds characters that are not text.")
    return value or None


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
