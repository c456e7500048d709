"""Events that the database did not take, kept in order until it does: what happened while it was away is told later."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from twisted.logger import Logger

from config.absence import is_away
from config.bridge import spawn
from config.database import Database, to_json

log = Logger()

MOST = 10_000
MOST_OCTETS = 16 << 20
"""How many events are kept and, by what they say, how large they may be together; those after them are lost."""
RETRY_S = 1.0
"""How long after one attempt the next one follows."""
_AT_ONCE = 500
_PAGE = 1000
_CLOCKS_S = 60.0  # how far apart the clocks of several nodes may be
_MOST_PAGES = 200

_What = tuple[float, str, str | None, str | None, str | None, str]


@dataclass(slots=True)
class _Kept:
    row: dict[str, Any]
    what: _What
    size: int
    told: bool


class KeptEvents:
    """Those of one table. ``lost`` counts what could not be kept since there last were none."""

    def __init__(self, database: Database, table: sa.Table) -> None:
        self._database = database
        self._table = table
        self._insert = table.insert()
        self._events: deque[_Kept] = deque()
        self._octets = 0
        self._retry: asyncio.TimerHandle | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._closing = False
        self.lost = 0

    def __len__(self) -> int:
        return len(self._events)

    def keep(self, row: Mapping[str, Any], *, told: bool) -> None:
        """Unless there are too many. `told`: the database was, and may have written it."""
        try:
            facts = json.loads(to_json(row["facts"]))
        except (TypeError, ValueError, RecursionError) as error:
            self.lost += 1
            log.error("An event {kind} is lost: {error}", kind=row["kind"], error=str(error))
            return
        kept = {**row, "facts": facts}
        what = _what(kept)
        size = len(what[-1])
        if len(self._events) >= MOST or self._octets + size > MOST_OCTETS:
            if not self.lost:
                log.error("The database is away, and no more events can be kept: they are lost from now on")
            self.lost += 1
            return
        if not self._events and self._attempt is None:
            log.warn("The database is away; events are kept until it is back")
            self._database.before_closing.add(self.last_attempt)
        self._events.append(_Kept(kept, what, size, told))
        self._octets += size
        self._later()

    async def last_attempt(self) -> None:
        """Write them now or never: the database is about to be closed."""
        self._closing = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        left = len(self._events) + 1
        while 0 < len(self._events) < left:
            left = len(self._events)
            await self._attempted()
        if self._events:
            log.error("{count} events are lost: the database is still away", count=len(self._events))

    def _later(self) -> None:
        if self._retry is None and self._attempt is None and not self._closing:
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._now)

    def _now(self) -> None:
        self._retry = None
        spawn(self._attempted(), "writing kept events")

    async def _attempted(self) -> None:
        """One attempt; never two at a time."""
        if self._attempt is None:
            self._attempt = spawn(self._write(), "an attempt to write kept events")
            self._attempt.add_done_callback(self._over)
        await asyncio.wait([self._attempt])

    def _over(self, attempt: asyncio.Task[None]) -> None:
        self._attempt = None
        if self._events:
            self._later()
            return
        self._database.before_closing.discard(self.last_attempt)
        log.warn("The database is back, and has the events that were kept; {lost} were lost", lost=self.lost)
        self.lost = 0

    async def _write(self) -> None:
        try:
            await self._leave_out_what_was_written()
            while self._events:
                await self._write_some()
        except Exception as error:
            if not is_away(error):
                raise

    async def _write_some(self) -> None:
        """Raises what the database says of itself while it is still away."""
        some = [self._events[at] for at in range(min(_AT_ONCE, len(self._events)))]
        for event in some:
            event.told = True
        # Each by itself: one that the database will not have must not keep the others from it.
        writes = [self._database.write((self._insert, [event.row])) for event in some]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        again: list[_Kept] = []
        away: BaseException | None = None
        for event, outcome in zip(some, outcomes, strict=True):
            self._octets -= self._events.popleft().size
            if outcome is None:
                continue
            if is_away(outcome):
                away = outcome
                again.append(event)
            else:
                self.lost += 1
                kind = event.what[1]
                log.error("The database does not take a kept {kind}: {error}", kind=kind, error=str(outcome))
        self._events.extendleft(reversed(again))
        self._octets += sum(event.size for event in again)
        if away is not None:
            raise away

    async def _leave_out_what_was_written(self) -> None:
        """A commit that was not answered may have taken."""
        told = [event for event in self._events if event.told]
        if not told:
            return
        await self._database.outlast(self._table)
        written = await self._written(Counter(event.what for event in told))
        for _ in range(len(self._events)):
            event = self._events.popleft()
            if event.told and written[event.what]:
                written[event.what] -= 1
                self._octets -= event.size
            else:
                event.told = False
                self._events.append(event)

    async def _written(self, wanted: Counter[_What]) -> Counter[_What]:
        """How often each of these is in the table, looking no further back than the oldest can be."""
        found: Counter[_What] = Counter()
        oldest = min(what[0] for what in wanted) - _CLOCKS_S
        columns = self._table.c
        query = sa.select(self._table).order_by(columns.seq.desc()).limit(_PAGE)
        below: int | None = None
        for _ in range(_MOST_PAGES):
            page = await self._database.read(query if below is None else query.where(columns.seq < below))
            for row in page:
                if row.at >= oldest:
                    what = _what(row._mapping)
                    if what in wanted:
                        found[what] += 1
            if len(page) < _PAGE or max(row.at for row in page) < oldest:
                break
            below = page[-1].seq
        return found


def _what(row: Mapping[Any, Any]) -> _What:
    """All that an event says: two that say the same, at the same time, are one."""
    facts = json.dumps(row["facts"], sort_keys=True)
    return row["at"], row["kind"], row["contact_id"], row["visit_id"], row["agent_id"], facts
