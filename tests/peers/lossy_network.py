"""A network between a browser and the media port that loses packets of media, and none of ICE and DTLS."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Self

HOST = "127.0.0.1"
Address = tuple[str, int]


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, arrived: Callable[[bytes, Address], None]) -> None:
        self._arrived = arrived

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._arrived(data, addr)


class LossyNetwork:
    """`loss` of what passes, each way, is lost from the moment it is set. Whoever sends to `port` reaches `target`."""

    def __init__(self, target: int, *, loss: float = 0.0) -> None:
        self.loss = loss
        self.lost = 0
        self.port = 0
        self._target = (HOST, target)
        self._chance = random.Random(target)
        self._near: Any = None
        self._far: dict[Address, Any] = {}
        self._opening: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._near, _ = await loop.create_datagram_endpoint(
            lambda: _Socket(self._from_browser), local_addr=(HOST, 0)
        )
        self.port = self._near.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._opening)
        self._near.close()
        for transport in self._far.values():
            if transport is not None:
                transport.close()

    def through(self, answer: bytes) -> str:
        """The media server's description, as if it were at this end of the network."""
        return answer.decode().replace(f" {self._target[1]} ", f" {self.port} ")

    def _from_browser(self, data: bytes, browser: Address) -> None:
        if browser not in self._far:
            self._far[browser] = None
            self._opening.append(asyncio.ensure_future(self._open(browser)))
        elif (far := self._far[browser]) is not None and not self._loses(data):
            far.sendto(data)

    async def _open(self, browser: Address) -> None:
        def to_browser(data: bytes, _: Address) -> None:
            if not self._loses(data):
                self._near.sendto(data, browser)

        loop = asyncio.get_running_loop()
        self._far[browser], _ = await loop.create_datagram_endpoint(
            lambda: _Socket(to_browser), remote_addr=self._target
        )

    def _loses(self, data: bytes) -> bool:
        lost = 127 < data[0] < 192 and self._chance.random() < self.loss
        self.lost += lost
        return lost
