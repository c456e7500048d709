"""EmbeddedMedia: a MediaServer that is another process, spoken to over a Unix socket."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.logger import Logger

from config.errors import OurError, TheirError
from media.control import Framed
from media.server import ALL_KINDS, Profile

log = Logger()

# Every request is a matter of microseconds there: a process that leaves one unanswered this long has stuck.
ANSWER_S = 10.0
# Nobody waits until these are done: they go out with whatever is asked next. What is played to somebody new goes with
# the offer to whoever is rung for them.
_PATIENT = frozenset(("delete", "drop", "play"))


def _nobody(call: str, branch: str, why: str) -> None:
    log.warn("branch {branch} of {call} is gone: {why}", call=call, branch=branch, why=why)


def _unheard(call: str, branch: str, key: str) -> None:
    log.debug("the key {key} on {branch} of {call} is for nobody", call=call, branch=branch, key=key)


def _unwanted(call: str, branch: str, why: str, seconds: float) -> None:
    log.warn("the recording of {branch} of {call} ended: {why}", call=call, branch=branch, why=why)


def _unasked(call: str, branch: str, what: str, qualities: dict[str, Any]) -> None:
    log.debug("the voice of {branch} of {call}: {what}", call=call, branch=branch, what=what)


def _untold(call: str, why: str, seconds: float) -> None:
    log.warn("the recording of {call} ended: {why}", call=call, why=why)


def _transcoded(call: str, branch: str, other: str) -> None:
    log.info("{branch} and {other} of {call} are transcoded", call=call, branch=branch, other=other)


class RemoteMedia(ABC):
    """The methods of a `MediaServer` that is elsewhere, each one request; whom to ask is for the subclass to say."""

    def __init__(self) -> None:
        self.on_gone: Callable[[str, str, str], None] = _nobody
        self.on_keys: Callable[[str, str, str], None] = _unheard
        self.on_recorded: Callable[[str, str, str, float], None] = _unwanted
        self.on_tapped: Callable[[str, str, float], None] = _untold
        self.on_quality: Callable[[str, str, str, dict[str, Any]], None] = _unasked
        self.on_transcoding: Callable[[str, str, str], None] = _transcoded

    @abstractmethod
    def _ask(self, method: str, *arguments: Any, **keywords: Any) -> asyncio.Future[Any]:
        """Said at once, so that requests go out in the order they were made, whoever awaits them when, or nobody."""

    def answer(
        self,
        call: str,
        branch: str,
        offer: bytes,
        *,
        kinds: frozenset[str] = ALL_KINDS,
        like: str | None = None,
    ) -> asyncio.Future[bytes]:
        return self._ask("answer", call, branch, offer, kinds=kinds, like=like)

    def offer(
        self,
        call: str,
        branch: str,
        *,
        profile: Profile,
        like: str | None = None,
        kinds: frozenset[str] | None = None,
        telephone: bool = False,
        wide: bool = False,
        ipv6: bool = False,
        adding: bool = False,
    ) -> asyncio.Future[bytes]:
        return self._ask(
            "offer",
            call,
            branch,
            profile=profile.value,
            like=like,
            kinds=kinds,
            telephone=telephone,
            wide=wide,
            ipv6=ipv6,
            adding=adding,
        )

    def accept(self, call: str, branch: str, answer: bytes) -> asyncio.Future[None]:
        return self._ask("accept", call, branch, answer)

    def answer_joined(
        self, call: str, branch: str, offer: bytes, *, peer: str, answer: bytes
    ) -> asyncio.Future[bytes]:
        return self._ask("answer_joined", call, branch, offer, peer=peer, answer=answer)

    def seen_at(self, call: str, branch: str, address: str) -> asyncio.Future[None]:
        return self._ask("seen_at", call, branch, address)

    def compatible(self, call: str, a: str, b: str) -> asyncio.Future[bool]:
        return self._ask("compatible", call, a, b)

    def play(
        self, call: str, branch: str, prompt: str | Sequence[str], *, repeat: bool = False
    ) -> asyncio.Future[float]:
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        return self._ask("play", call, branch, prompts, repeat=repeat)

    def stop(self, call: str, branch: str) -> asyncio.Future[None]:
        return self._ask("stop", call, branch)

    def keys(self, call: str, branch: str, keys: str) -> asyncio.Future[bool]:
        return self._ask("keys", call, branch, keys)

    def join(self, call: str, a: str, b: str) -> asyncio.Future[None]:
        return self._ask("join", call, a, b)

    def join_alike(self, call: str, a: str, b: str) -> asyncio.Future[bool]:
        return self._ask("join_alike", call, a, b)

    def confer(
        self, call: str, branches: Sequence[str], *, hears: Mapping[str, Sequence[str]] | None = None
    ) -> asyncio.Future[None]:
        wanted = {branch: list(named) for branch, named in hears.items()} if hears else None
        return self._ask("confer", call, list(branches), hears=wanted)

    def part(self, call: str, a: str, b: str) -> asyncio.Future[None]:
        return self._ask("part", call, a, b)

    def record(
        self, call: str, branch: str, path: str, *, limit_s: float, silence_s: float
    ) -> asyncio.Future[None]:
        return self._ask("record", call, branch, path, limit_s=limit_s, silence_s=silence_s)

    def stop_recording(self, call: str, branch: str) -> asyncio.Future[float]:
        return self._ask("stop_recording", call, branch)

    def tap(
        self,
        call: str,
        left: str,
        right: str,
        path: str,
        *,
        video: bool = False,
        key: bytes | None = None,
        limit_s: float,
    ) -> asyncio.Future[None]:
        return self._ask("tap", call, left, right, path, video=video, key=key, limit_s=limit_s)

    def pause_tap(self, call: str, paused: bool) -> asyncio.Future[bool]:
        return self._ask("pause_tap", call, paused)

    def end_tap(self, call: str) -> asyncio.Future[float]:
        return self._ask("end_tap", call)

    def drop(self, call: str, branch: str) -> asyncio.Future[None]:
        return self._ask("drop", call, branch)

    def delete(self, call: str) -> asyncio.Future[None]:
        return self._ask("delete", call)

    def stats(self, call: str) -> asyncio.Future[dict[str, Any]]:
        return self._ask("stats", call)


class EmbeddedMedia(RemoteMedia):
    """See `MediaServer`. After the process has died or stuck, every request fails with OurError(503)."""

    def __init__(self) -> None:
        super().__init__()
        self.on_lost: Callable[[], None] = lambda: None
        """The connection ended, asked for or not."""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.alive = True
        self._line: _Line | None = None
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}  # in the order they were made
        self._overdue: asyncio.TimerHandle | None = None

    @classmethod
    async def over(cls, sock: socket.socket) -> EmbeddedMedia:
        """Speak to a media process at the other end of a connected socket; `ready` resolves when it serves."""
        media = cls()
        line = _Line(media)
        await asyncio.get_running_loop().create_unix_connection(lambda: line, sock=sock)
        media._line = line
        return media

    def close(self) -> None:
        """The media process deletes all calls and ends."""
        if self._line is not None and self._line.transport is not None:
            self._line.transport.close()

    def _ask(self, method: str, *arguments: Any, **keywords: Any) -> asyncio.Future[Any]:
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._line is None or not self.alive:
            reply.set_exception(OurError("The media server is not running", 503))
            return reply
        self._number += 1
        self._waiting[self._number] = reply
        self._line.say([self._number, method, arguments, keywords], patient=method in _PATIENT)
        if self._overdue is None:
            self._watch()
        return reply

    def _watch(self) -> None:
        """One timer for all requests: it looks whether the oldest of now has been answered by then."""
        oldest = next(iter(self._waiting), None)
        loop = asyncio.get_running_loop()
        self._overdue = loop.call_later(ANSWER_S, self._look, oldest) if oldest is not None else None

    def _look(self, number: int) -> None:
        if number in self._waiting:
            log.error("The media process has not answered for {seconds} s: it is given up", seconds=ANSWER_S)
            self.close()
        else:
            self._watch()

    def _heard(self, message: list[Any]) -> None:
        number, what = message[0], message[1]
        if number == 0 and what == "ready":
            if not self.ready.done():
                self.ready.set_result(None)
        elif number == 0 and what == "gone":
            self.on_gone(message[2], message[3], message[4])
        elif number == 0 and what == "keys":
            self.on_keys(message[2], message[3], message[4])
        elif number == 0 and what == "recorded":
            self.on_recorded(message[2], message[3], message[4], message[5])
        elif number == 0 and what == "transcoding":
            self.on_transcoding(message[2], message[3], message[4])
        elif number == 0 and what == "tapped":
            self.on_tapped(message[2], message[3], message[4])
        elif number == 0 and what == "quality":
            self.on_quality(message[2], message[3], message[4], message[5])
        else:
            reply = self._waiting.pop(number, None)
            if reply is None or reply.done():
                return
            if what == "ok":
                reply.set_result(message[2])
            else:
                family = TheirError if what == "their" else OurError
                reply.set_exception(family(message[2], message[3]))

    def _lost(self) -> None:
        self.alive = False
        for reply in (self.ready, *self._waiting.values()):
            if not reply.done():
                reply.set_exception(OurError("The media server has stopped", 503))
        self._waiting.clear()
        if self._overdue is not None:
            self._overdue.cancel()
        self.on_lost()


class _Line(Framed):
    def __init__(self, media: EmbeddedMedia) -> None:
        super().__init__()
        self._media = media

    def message(self, message: list[Any]) -> None:
        self._media._heard(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._media._lost()
