"""A media server of either kind as tests have it, and what they ask of phones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from media.rtpengine import Rtpengine
from media.sdp import parse
from media.server import SILENCE_S, Profile
from media.watched import WatchedMedia
from tests.media.phone import HOST
from tests.media.tone_phone import LEVEL, TonePhone
from tests.peers import rtpengine
from tests.peers.process import free_range, until

Server = WatchedMedia | Rtpengine


class House:
    """A media server of either kind, and the news it gives."""

    def __init__(self, media: Server, engine: rtpengine.Rtpengine | None) -> None:
        self.media = media
        self.engine = engine
        self.gone: list[tuple[str, str, str]] = []
        self.pressed: list[tuple[str, str, str]] = []
        self.recorded: list[tuple[str, str, str, float]] = []
        self.qualities: list[tuple[str, str, str, dict[str, Any]]] = []
        media.on_gone = lambda *news: self.gone.append(news)
        media.on_keys = lambda *news: self.pressed.append(news)
        media.on_recorded = lambda *news: self.recorded.append(news)
        media.on_quality = lambda *news: self.qualities.append(news)

    async def called(self, branch: str, phone: TonePhone) -> None:
        """The phone has offered and been answered."""
        phone.start(await self.media.answer("c", branch, phone.offer()))

    async def calls(self, branch: str, phone: TonePhone, *, like: str) -> None:
        """The phone was offered to, and has answered."""
        offer = await self.media.offer("c", branch, profile=Profile.RTP, like=like)
        await self.media.accept("c", branch, phone.offer())
        phone.start(offer)


Open = Callable[[], contextlib.AbstractAsyncContextManager[House]]


@contextlib.asynccontextmanager
async def house(
    kind: str, folder: Path, prompts: Path, *, public: str = HOST, silence_s: float = SILENCE_S
) -> AsyncIterator[House]:
    """`public` is what peers are told to send to: whoever that is told sends to `HOST` all the same."""
    far = public != HOST
    async with contextlib.AsyncExitStack() as stack:
        engine = None
        media: Server
        if kind == "rtpengine":
            interfaces = (f"peers/{HOST}!{public}", f"near/{HOST}") if far else ()
            engine = await stack.enter_async_context(rtpengine.Rtpengine(folder, interfaces=interfaces))
            named = ("peers", "near") if far else None
            media = Rtpengine(engine.address, keys=engine.keys, interfaces=named, silence_s=silence_s)
        else:
            media = WatchedMedia(silence_s=silence_s)
        await media.start(host=HOST, public=public, ports=free_range(64), prompts=prompts)
        stack.push_async_callback(media.end)
        yield House(media, engine)


def ports(description: bytes) -> tuple[int, ...]:
    return tuple(media.port for media in parse(description).media)


def only_embedded(why: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """What rtpengine cannot do is known, and found out when it can."""

    def marked(test: Callable[..., object]) -> Callable[..., object]:
        cases = ["embedded", pytest.param("rtpengine", marks=pytest.mark.xfail(reason=why, strict=True))]
        parametrized: Callable[..., object] = pytest.mark.parametrize("opened", cases, indirect=True)(test)
        return parametrized

    return marked


def deafen(*phones: TonePhone) -> None:
    """What they hear from here on counts."""
    for phone in phones:
        phone.sound = numpy.zeros(0, numpy.int16)
        phone.headers.clear()


async def hear_each_other(a: TonePhone, b: TonePhone) -> None:
    deafen(a, b)
    await until(
        lambda: a.hears(b.tone) > LEVEL * 0.6 and b.hears(a.tone) > LEVEL * 0.6, "the two to hear each other"
    )


async def silent(*phones: TonePhone) -> bool:
    await asyncio.sleep(0.1)  # what is on its way
    deafen(*phones)
    await asyncio.sleep(0.3)
    return not any(phone.headers for phone in phones)
