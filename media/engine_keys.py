"""Keys pressed by those who are joined in rtpengine: it tells them to where its --dtmf-log-dest says, a UDP datagram
with JSON for each, when the key is let go."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from config.errors import OurError
from media.heard_keys import KEYS, MOST_A_SECOND

LONGEST = 4096
MOST_DATAGRAMS_A_SECOND = 1000
_LONGEST_S = 65.535  # RFC 4733 section 2.5.1.3, at 1000 ticks a second


class Pressed(NamedTuple):
    """`call` and `tag` as they are named in rtpengine; `seconds` the key was held."""

    call: str
    tag: str
    key: str
    seconds: float


def read(datagram: bytes) -> Pressed | None:
    """None for what tells of no key."""
    if len(datagram) > LONGEST:
        return None
    try:
        said = json.loads(datagram)
        call, tag, event, millis = (said[name] for name in ("callid", "source_tag", "event", "duration"))
        known = said["type"] == "DTMF" and type(event) is int and type(millis) is int
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if not known or not isinstance(call, str) or not isinstance(tag, str) or event not in KEYS:
        return None
    return Pressed(call, tag, KEYS[event], min(_LONGEST_S, max(0, millis) / 1000))


class Presses:
    """Those of one branch: which of them are new."""

    def __init__(self) -> None:
        self._told: deque[tuple[str, float]] = deque(maxlen=MOST_A_SECOND)

    def is_new(self, pressed: Pressed, now: float, since: float) -> bool:
        """`since`: what was begun before was told by the studio. Times are seconds of one clock."""
        if now - pressed.seconds < since:
            return False
        if self._told:
            key, at = self._told[-1]
            # The end of an event is sent three times (RFC 4733 section 2.5.1.4); nobody presses as fast as that.
            if key == pressed.key and now - at < pressed.seconds / 2:
                return False
            if len(self._told) == MOST_A_SECOND and now - self._told[0][1] < 1.0:
                return False
        self._told.append((pressed.key, now))
        return True


class KeyLog(asyncio.DatagramProtocol):
    """Where rtpengine tells of keys. Whatever comes from any address but its own is passed over."""

    def __init__(self, source: str, tell: Callable[[Pressed], None], now: Callable[[], float]) -> None:
        self._source = _plain(source)
        self._tell = tell
        self._now = now
        self._second = 0.0
        self._count = 0
        self._transport: asyncio.BaseTransport | None = None

    @classmethod
    async def at(
        cls, address: tuple[str, int], source: str, tell: Callable[[Pressed], None], now: Callable[[], float]
    ) -> KeyLog:
        """Raises OurError(503) where that address cannot be listened on."""
        loop = asyncio.get_running_loop()
        try:
            _, log = await loop.create_datagram_endpoint(lambda: cls(source, tell, now), local_addr=address)
        except OSError as error:
            raise OurError(
                f"Keys cannot be listened for at {address[0]}:{address[1]} (WARMLINE_RTPENGINE_KEYS): {error}",
                503,
            ) from None
        return log

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if _plain(addr[0]) != self._source:
            return
        now = self._now()
        if not 0 <= now - self._second < 1.0:
            self._second, self._count = now, 0
        self._count += 1
        if self._count > MOST_DATAGRAMS_A_SECOND:
            return
        pressed = read(data)
        if pressed is not None:
            self._tell(pressed)


def _plain(address: str) -> str:
    """One spelling of an address; an IPv4 one that came by an IPv6 socket is that IPv4 one."""
    try:
        read = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(getattr(read, "ipv4_mapped", None) or read)
