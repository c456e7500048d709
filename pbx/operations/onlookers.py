"""A door for whoever runs the server, on this machine and as the same user: a Unix socket in the data folder.

One line of JSON asks, lines of JSON answer:

    {"command": "trace", "contact": "", "call": "", "number": "", "user": "", "since": 30, "texts": false,
     "follow": true}
        each message as it passes, until the asker hangs up: at, sent, transport, host, port, party, text (masked)
    {"command": "guard"}                        each source that is being dropped
    {"command": "forgive", "who": "192.0.2.7"}  {"forgiven": true}

A reader that does not keep up is cut off: nobody who looks on may slow the server down.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from config.events import Event, EventLog
from pbx.operations.onlooker_socket import NAME, socket_path
from sip_trunk.flow import Flow
from sip_trunk.guard import Guard
from sip_trunk.masking import mask
from sip_trunk.trace import Onlooker, Traced, Tracer, Trail

log = Logger()

MOST_READERS = 8
MOST_UNREAD = 4 << 20
"""Octets kept for a reader; the whole ring fits, a reader that sleeps does not."""
PATIENCE_S = 5.0


class Onlookers:
    """`party_of(flow)`: what is at the other end of a flow, in a word or two. now: epoch seconds."""

    def __init__(
        self,
        tracer: Tracer,
        guard: Guard,
        events: EventLog,
        now: Callable[[], float],
        *,
        folder: Path,
        party_of: Callable[[Flow], str],
    ) -> None:
        self._tracer = tracer
        self._guard = guard
        self._events = events
        self._now = now
        self._folder = folder
        self._party_of = party_of
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """OSError when the folder does not take a socket."""
        with socket_path(self._folder) as path:
            door = _bound(path)
            try:
                self._server = await asyncio.start_unix_server(self._serve, sock=door, limit=8192)
            except BaseException:
                door.close()
                raise

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for writer in tuple(self._writers):
            writer.close()
        (self._folder / NAME).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            try:
                # Read first in any case: what is closed unread is a reset, and the answer is lost with it.
                line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
                if len(self._writers) >= MOST_READERS:
                    raise ValueError(f"{MOST_READERS} look on already")
                self._writers.add(writer)
                asked = json.loads(line)
                if not isinstance(asked, dict):
                    raise ValueError("an object is needed")
                await self._do(asked, reader, writer)
            except TimeoutError:
                _say(writer, {"error": "nothing was asked"})
            except (ValueError, TypeError, RecursionError) as error:
                _say(writer, {"error": f"not understood: {error}"})
        except ConnectionError:
            pass
        except Exception:
            log.failure("An onlooker could not be served")
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _do(
        self, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match asked.get("command"):
            case "trace":
                await self._trace(asked, reader, writer)
            case "guard":
                now = self._now()
                for each in self._guard.dropping():
                    _say(
                        writer,
                        {
                            "source": each.source, "for_s": round(now - each.since, 1), "account": each.account,
                            "last_s": round(now - each.last, 1), "why": dict(each.why),
                        },
                    )  # fmt: skip
            case "forgive":
                _say(writer, {"forgiven": self._guard.forgive(str(asked.get("who", "")))})
            case other:
                raise ValueError(f"no command {other!r}")

    async def _trace(
        self, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        contact = str(asked.get("contact") or "")
        trail = Trail(
            contact=contact,
            call=str(asked.get("call") or ""),
            number=str(asked.get("number") or ""),
            user=str(asked.get("user") or ""),
        )
        texts = asked.get("texts") is True
        if contact:
            trail.learn(_ids(await self._events.read(contact=contact)))

        def tell(message: Traced) -> None:
            if writer.transport.get_write_buffer_size() > MOST_UNREAD:
                writer.transport.abort()
            if writer.transport.is_closing():
                return
            _say(writer, self._told(message, texts))

        since_s = float(asked.get("since") or 0.0)
        onlooker = self._tracer.watch(trail, tell, since=self._now() - since_s)
        forget = self._events.subscribe(_learner(contact, onlooker)) if contact else None
        try:
            # Whatever it says more is not read, only its end.
            while asked.get("follow", True) and await reader.read(1024):
                pass
        finally:
            onlooker.stop()
            if forget is not None:
                forget()

    def _told(self, message: Traced, texts: bool) -> dict[str, Any]:
        flow = message.flow
        return {
            "at": message.at,
            "sent": message.sent,
            "transport": flow.transport,
            "host": flow.peer[0],
            "port": flow.peer[1],
            "party": self._party_of(flow),
            "text": mask(message.data, texts=texts).decode("utf-8", "surrogateescape"),
        }


def _bound(path: str) -> socket.socket:
    # One of a server that was killed is still there, and nobody listens to it.
    if os.path.lexists(path) and stat.S_ISSOCK(os.lstat(path).st_mode):
        os.unlink(path)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        door.bind(path)
        os.chmod(path, 0o600)  # before anybody can connect: it does not listen yet
    except BaseException:
        door.close()
        raise
    return door


def _learner(contact: str, onlooker: Onlooker) -> Callable[[Event], None]:
    def learn(event: Event) -> None:
        if event.contact == contact:
            onlooker.learn(_ids([event]))

    return learn


def _ids(events: Iterable[Event]) -> list[str]:
    """What events say of the calls they are about."""
    return [
        value
        for event in events
        for name, value in event.facts.items()
        if (name == "session" or name.endswith("call_id")) and isinstance(value, str) and value
    ]


def _say(writer: asyncio.StreamWriter, what: dict[str, Any]) -> None:
    writer.write(json.dumps(what, separators=(",", ":")).encode("ascii") + b"\n")
