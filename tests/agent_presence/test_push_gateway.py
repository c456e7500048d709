"""What a push gateway is asked, over real HTTP, and what its answers mean."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from agent_presence import push_gateway
from agent_presence.push_contact import PushAddress
from agent_presence.push_gateway import PushGateway
from config.bridge import as_future
from config.errors import OurError
from tests.peers.process import until

PHONE = PushAddress("fcm", "5ecret", "app-1")


class Asked(Resource):
    """Notes what was posted, and answers as the test says."""

    isLeaf = True

    def __init__(self, answer: Callable[[Any], bytes | int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.peers: set[Any] = set()

    def render_POST(self, request: Request) -> bytes | int:
        assert request.content is not None
        self.bodies.append(json.loads(request.content.read()))
        self.headers.append(
            {name.decode(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()}
        )
        self.peers.add((request.getClientAddress().host, request.getClientAddress().port))
        return self._answer(request)


def status(code: int) -> Callable[[Any], bytes]:
    def answer(request: Any) -> bytes:
        request.setResponseCode(code)
        request.setHeader("Location", "http://127.0.0.1:9/elsewhere")
        return b"some words"

    return answer


@asynccontextmanager
async def serving(
    answer: Callable[[Any], bytes | int], token: str = "t0ken"
) -> AsyncIterator[tuple[PushGateway, Asked]]:
    from twisted.internet import reactor

    net: Any = reactor
    asked = Asked(answer)
    site = Site(asked)
    port = net.listenTCP(0, site, interface="127.0.0.1")
    gateway = PushGateway(f"http://127.0.0.1:{port.getHost().port}/push", token, reactor)
    try:
        yield gateway, asked
    finally:
        await gateway.close()
        await as_future(port.stopListening())


async def test_it_is_told_whom_to_push_and_why_and_nothing_of_the_customer() -> None:
    async with serving(status(202)) as (gateway, asked):
        assert await gateway.send(PHONE, "call", 8.0)
        assert await gateway.send(PHONE, "refresh", 119.6)
    assert asked.bodies == [
        {"provider": "fcm", "param": "app-1", "prid": "5ecret", "why": "call", "good_for_s": 8},
        {"provider": "fcm", "param": "app-1", "prid": "5ecret", "why": "refresh", "good_for_s": 120},
    ]
    assert asked.headers[0]["Authorization"] == "Bearer t0ken"
    assert asked.headers[0]["Content-Type"] == "application/json"
    assert len(asked.peers) == 1, "one connection serves many pushes"


async def test_without_a_token_none_is_shown() -> None:
    async with serving(status(200), "") as (gateway, asked):
        assert await gateway.send(PHONE, "call", 8.0)
    assert "Authorization" not in asked.headers[0]


@pytest.mark.parametrize("code", [404, 410])
async def test_a_phone_that_is_known_no_more(code: int) -> None:
    async with serving(status(code)) as (gateway, _):
        assert not await gateway.send(PHONE, "call", 8.0)


@pytest.mark.parametrize("code", [302, 307, 400, 401, 429, 500, 503])
async def test_a_refusal_says_no_more_than_its_code_and_is_not_followed_elsewhere(code: int) -> None:
    async with serving(status(code)) as (gateway, asked):
        with pytest.raises(OurError) as refused:
            await gateway.send(PHONE, "call", 8.0)
    assert refused.value.reason == f"the push gateway answered {code}"
    assert len(asked.bodies) == 1


async def test_nobody_there() -> None:
    from twisted.internet import reactor

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gateway = PushGateway(f"http://127.0.0.1:{taken.getsockname()[1]}/", "t", reactor)
        with pytest.raises(OurError, match="did not answer"):
            await gateway.send(PHONE, "call", 8.0)


async def test_one_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_gateway, "TIMEOUT_S", 0.2)
    async with serving(lambda request: NOT_DONE_YET) as (gateway, _):
        with pytest.raises(OurError, match="did not answer"):
            await gateway.send(PHONE, "call", 8.0)


async def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_gateway, "MOST_READ", 1000)
    ended: list[Any] = []

    def flood(request: Any) -> int:
        request.notifyFinish().addBoth(ended.append)

        def more() -> None:
            if not ended:
                request.write(b"x" * 1000)
                from twisted.internet import reactor

                net: Any = reactor
                net.callLater(0.01, more)

        more()
        return NOT_DONE_YET

    async with serving(flood) as (gateway, _):
        assert await gateway.send(PHONE, "call", 8.0)
        await until(lambda: bool(ended), "the connection to be ended", seconds=5)
