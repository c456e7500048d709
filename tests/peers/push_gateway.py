"""A push gateway as an operator has one: what is posted to it wakes a phone, or nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Self

from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site

from config.bridge import as_future

TOKEN = "the operators own"


class PushGateway:
    """`url` and TOKEN are what the server is told. `on_push` hears each body that came, and may start a phone."""

    def __init__(self, on_push: Callable[[dict[str, Any]], None] = lambda body: None) -> None:
        self.on_push = on_push
        self.bodies: list[dict[str, Any]] = []
        self.status = 202

    async def __aenter__(self) -> Self:
        from twisted.internet import reactor

        net: Any = reactor
        self._port = net.listenTCP(0, Site(_Door(self)), interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self._port.getHost().port}/push"
        return self

    async def __aexit__(self, *_: object) -> None:
        await as_future(self._port.stopListening())


class _Door(Resource):
    isLeaf = True

    def __init__(self, gateway: PushGateway) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gateway = gateway

    def render_POST(self, request: Request) -> bytes:
        shown = request.getHeader("Authorization")
        if shown != f"Bearer {TOKEN}" or request.content is None:
            request.setResponseCode(401)
            return b""
        body = json.loads(request.content.read())
        self._gateway.bodies.append(body)
        self._gateway.on_push(body)
        request.setResponseCode(self._gateway.status)
        return b""
