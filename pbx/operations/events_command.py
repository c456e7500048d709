"""`warmline events`: the event log, for eyes and for programs."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import time
from typing import TYPE_CHECKING

from config.settings import Settings

if TYPE_CHECKING:
    from config.events import Event, EventLog


class _Wanted:
    """Which events are shown: all, or what a session is told with, and all there is of the contacts it belongs to."""

    def __init__(self, session: str | None) -> None:
        self._session = session
        self._contacts: set[str] = set()

    async def look(self, log: EventLog) -> None:
        """Find those contacts; what comes before the session is known belongs to it too."""
        seen = 0
        while self._session is not None and (events := await log.read(after_seq=seen, limit=500)):
            seen = events[-1].seq
            for event in events:
                self.has(event)

    def has(self, event: Event) -> bool:
        if self._session is None:
            return True
        if event.facts.get("session") == self._session:
            if event.contact:
                self._contacts.add(event.contact)
            return True
        return event.contact in self._contacts


def read_events(
    settings: Settings,
    *,
    contact: str | None,
    session: str | None,
    as_json: bool,
    follow: bool,
    since: float | None = None,
) -> int:
    """Print the event log, oldest first; with `follow`, until Ctrl-C. `session` is a Session-ID (RFC 7989), `since` the
    moment (epoch seconds) before which nothing is shown."""
    from config.database import Database
    from config.events import EventLog
    from pbx.stretch import number_at

    # What a stranger sent may not be valid UTF-8, and is told all the same.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")

    async def run() -> int:
        database = Database.open(settings.database_url)
        log = EventLog(database, time.time)
        wanted = _Wanted(session)
        seen = shown = 0
        day = ""
        try:
            await wanted.look(log)
            if since is not None:
                seen = await number_at(database, since) - 1
            while True:
                found = await log.read(contact=contact, after_seq=seen, limit=500)
                for event in found:
                    seen = event.seq
                    if not wanted.has(event):
                        continue
                    shown += 1
                    if not as_json and (today := _day(event)) != day:
                        day = today
                        _print(day, flush=follow)
                    _print(_as_json(event) if as_json else _as_line(event), flush=follow)
                if not found:
                    if not follow:
                        return shown
                    await asyncio.sleep(0.3)
        finally:
            await database.close()

    try:
        shown = asyncio.run(run())
    except KeyboardInterrupt:
        return 0
    for what, name in ((contact, "contact"), (session, "session")):
        if what is not None and not shown:
            of_then = "" if since is None else " since then"
            sys.stderr.write(f"warmline: there is no {name} {what}{of_then}\n")
            return 1
    return 0


def _as_json(event: Event) -> str:
    facts = {
        "seq": event.seq, "at": event.at, "kind": event.kind, "contact": event.contact,
        "visit": event.visit, "agent": event.agent, "facts": event.facts,
    }  # fmt: skip
    return json.dumps(facts, ensure_ascii=False)


def _day(event: Event) -> str:
    return time.strftime("%A, %d %B %Y (%Z)", time.localtime(event.at))


def _as_line(event: Event) -> str:
    seconds = time.strftime("%H:%M:%S", time.localtime(event.at)) + f".{int(event.at * 1000) % 1000:03d}"
    who = " ".join(filter(None, (event.contact, event.agent, event.visit)))
    facts = "  ".join(f"{name}={_short(value)}" for name, value in event.facts.items() if value is not None)
    return f"{seconds}  {event.kind:24} {who:28}  {facts}"


def _print(line: str, *, flush: bool) -> None:
    sys.stdout.write(line + "\n")
    if flush:
        sys.stdout.flush()


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 500 else text[:497] + "..."
