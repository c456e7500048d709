"""A browser small enough for a test: it keeps cookies, follows nothing by itself, and shows the whole answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer
from twisted.web.http_headers import Headers

from config.bridge import as_future


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def header(self, name: str) -> str:
        return "; ".join(self.headers.getRawHeaders(name, []))

    def hidden(self, name: str) -> str:
        """The value of a hidden field, or of <meta name=csrf>."""
        found = re.search(rf'name="{name}" (?:value|content)="([^"]*)"', self.text)
        assert found is not None, f"no {name} in the page"
        return found.group(1)

    def attribute(self, name: str) -> str:
        found = re.search(rf'{name}="([^"]*)"', self.text)
        assert found is not None, f"no {name} in the page"
        return found.group(1)


class _Body(Protocol):
    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred()
        self._parts: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.whole.callback(b"".join(self._parts))


class Browser:
    def __init__(self, reactor: Any, origin: str) -> None:
        self.origin = origin
        self.cookies: dict[str, str] = {}
        self._agent = Agent(reactor)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask(b"GET", path, None, headers)

    async def post(self, path: str, fields: dict[str, str] | bytes, **headers: str) -> Answer:
        body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
        return await self.ask(b"POST", path, body, headers)

    async def log_in(self, email: str, password: str, target: str = "") -> Answer:
        form = await self.get("/login")
        fields = {
            "email": email,
            "password": password,
            "form_token": form.hidden("form_token"),
            "next": target,
        }
        return await self.post("/login", fields)

    async def ask(
        self,
        method: bytes,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        *,
        also: Headers | None = None,
    ) -> Answer:
        """`also` holds headers as bytes, for what no decent browser sends."""
        sent = also.copy() if also is not None else Headers()
        for name, value in headers.items():
            sent.addRawHeader(name.replace("_", "-"), value)
        if self.cookies:
            sent.addRawHeader("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        if body is not None and not sent.hasHeader("content-type"):
            sent.addRawHeader("content-type", "application/x-www-form-urlencoded")
        producer = None if body is None else FileBodyProducer(BytesIO(body))
        response = await as_future(self._agent.request(method, (self.origin + path).encode(), sent, producer))
        body_read = _Body()
        response.deliverBody(body_read)
        content = await as_future(body_read.whole)
        for line in response.headers.getRawHeaders("set-cookie", []):
            name, _, value = line.split(";")[0].partition("=")
            self.cookies[name] = value
        return Answer(response.code, response.headers, content)
