"""A web site without sockets: requests go in as bytes, answers come out as bytes, all in the test's own loop."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from config.login import Login
from pbx.api.site import WarmlineSite

CSRF = "the-token"


class Wire(StringTransport):
    """A connection that remembers how it was closed."""

    aborted = False
    protocol: Any = None

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.7", 5000))  # type: ignore[no-untyped-call]

    @property
    def sent(self) -> bytes:
        return bytes(self.value())  # type: ignore[no-untyped-call]

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: str

    def json(self) -> Any:
        return json.loads(self.body)


def words(reply: Reply) -> str:
    """What a reader sees of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", reply.body)).split())


@dataclass
class ServerEvent:
    name: str
    data: Any
    id: str | None


class Stream:
    """An open response, as far as it has come."""

    def __init__(self, wire: Wire, protocol: Any) -> None:
        self.wire = wire
        self._protocol = protocol
        self._gone = False

    @property
    def text(self) -> str:
        return self.wire.sent.decode().partition("\r\n\r\n")[2]

    @property
    def status(self) -> int:
        return int(self.wire.sent.split(b" ", 2)[1])

    @property
    def closed(self) -> bool:
        return bool(self.wire.disconnecting)

    def events(self, name: str | None = None) -> list[ServerEvent]:
        found = []
        for block in self.text.split("\n\n"):
            fields = dict(
                line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":"
            )
            if "event" in fields and name in (None, fields["event"]):
                found.append(ServerEvent(fields["event"], json.loads(fields["data"]), fields.get("id")))
        return found

    def leave(self) -> None:
        """The client is gone; a second time is nothing."""
        if self._gone:
            return
        self._gone = True
        self._protocol.connectionLost(Failure(ConnectionLost()))


async def settle() -> None:
    """Let everything that can happen without time passing happen."""
    for _ in range(60):
        await asyncio.sleep(0)


class Browser:
    """Sends requests to a site, with the cookies of one person."""

    def __init__(self, site: WarmlineSite, cookies: Mapping[str, str] | None = None) -> None:
        self.site = site
        self.cookies = dict(cookies or {})
        self.streams: list[Stream] = []

    def _send(self, raw: bytes) -> tuple[Wire, Any]:
        protocol: Any = self.site.buildProtocol(IPv4Address("TCP", "192.0.2.7", 5000))  # type: ignore[no-untyped-call]
        assert protocol is not None
        wire = Wire()
        wire.protocol = protocol
        protocol.makeConnection(wire)
        protocol.dataReceived(raw)
        return wire, protocol

    def _raw(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        lines = {"Host": "help.example", **headers}
        if self.cookies:
            lines["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if body or method == "POST":
            lines["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        # HTTP/1.0: a body without chunks that ends with the connection.
        return f"{method} {path} HTTP/1.0\r\n{head}\r\n".encode() + body

    async def ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Reply:
        wire, protocol = self._send(self._raw(method, path, headers or {}, body))
        for _ in range(400):
            await asyncio.sleep(0)
            if wire.disconnecting:
                break
        else:
            for _ in range(200):  # the work is in a thread: a database, a password
                await asyncio.sleep(0.02)
                if wire.disconnecting:
                    break
        head, _, text = wire.sent.decode().partition("\r\n\r\n")
        first, *rest = head.split("\r\n")
        found: dict[str, str] = {}
        for line in rest:
            name, _, value = line.partition(": ")
            found[name.lower()] = value
            if name.lower() == "set-cookie":
                cookie, _, given = value.split(";")[0].partition("=")
                self.cookies[cookie] = given
        protocol.connectionLost(Failure(ConnectionLost()))
        return Reply(int(first.split()[1]), found, text)

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.ask("GET", path, headers={n.replace("_", "-"): v for n, v in headers.items()})

    async def close(self) -> None:
        """Leave every stream that is still open."""
        for stream in self.streams:
            stream.leave()
        await settle()

    async def post(self, path: str, value: Any = None, *, csrf: str | None = CSRF) -> Reply:
        """POST JSON, as help.js does."""
        headers = {"Content-Type": "application/json"}
        if csrf is not None:
            headers["X-CSRF-Token"] = csrf
        body = b"" if value is None else value if isinstance(value, bytes) else json.dumps(value).encode()
        return await self.ask("POST", path, headers=headers, body=body)

    async def submit(
        self, path: str, fields: Mapping[str, str], *, csrf: str | None = CSRF, **headers: str
    ) -> Reply:
        """POST a form, as a page without scripts does."""
        if csrf is not None:
            fields = {"csrf": csrf, **fields}
        sent = {
            "Content-Type": "application/x-www-form-urlencoded",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return await self.ask("POST", path, headers=sent, body=urlencode(fields).encode())

    async def follow(self, path: str, **headers: str) -> Stream:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        stream = Stream(*self._send(self._raw("GET", path, sent, b"")))
        self.streams.append(stream)
        await settle()
        return stream


class CookieLogins:
    """Logins whose cookie is the person's id; the token is always the same."""

    def __init__(self) -> None:
        self.ended: set[str] = set()

    async def who(self, request: Any, kind: str) -> Login | None:
        raw = request.getCookie(f"warmline_{kind}".encode())
        if not raw or raw.decode() in self.ended:
            return None
        return Login(kind, raw.decode(), CSRF)  # type: ignore[arg-type]

    def csrf_ok(self, login: Login, request: Any) -> bool:
        given = request.getHeader(b"x-csrf-token") or (request.args or {}).get(b"csrf", [b""])[0]
        return bool(given == login.csrf.encode())

    async def start(self, kind: str, subject: str, request: Any) -> None:
        request.addCookie(f"warmline_{kind}", subject, path="/")

    async def end(self, request: Any, kind: str) -> None:
        request.addCookie(f"warmline_{kind}", "", path="/")

    async def check_password(
        self, hash: str | None, password: str, *, name: str = "", address: str = ""
    ) -> bool:
        return hash is not None and hash == f"hash of {password}"
