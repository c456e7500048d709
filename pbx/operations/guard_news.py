"""What the guard did, told so that a flood of messages is no flood of news: by source, at most once a minute."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from config.events import EventLog

log = Logger()

EVERY_S = 60.0
FIRST_S = 1.0
"""After a quiet time the first news come this soon, so that whoever looks sees an attack begin."""
MOST_TOLD = 20
"""So many sources are told of one by one; of the others only how many they were."""
MOST_COUNTED = 10_000


@dataclass(slots=True)
class _Count:
    why: Counter[str] = field(default_factory=Counter)
    accounts: set[str] = field(default_factory=set)


class GuardNews:
    """`heard` goes into `Guard.on_drop`. Writes a line to the log and one event `guard.dropped` for each source."""

    def __init__(self, events: EventLog, clock: IReactorTime) -> None:
        self._events = events
        self._clock = clock
        self._counts: dict[str, _Count] = {}
        self._others = 0
        self._timer: IDelayedCall | None = None
        self._told_at = -EVERY_S
        self._since = 0.0

    def heard(self, source: str, why: str, account: str) -> None:
        """A message was dropped."""
        count = self._counts.get(source)
        if count is None:
            if len(self._counts) >= MOST_COUNTED:
                self._others += 1
                return
            count = self._counts[source] = _Count()
        count.why[why] += 1
        if account and len(count.accounts) < 5:
            count.accounts.add(account[:64])
        if self._timer is None:
            now = self._clock.seconds()
            self._since = now
            self._timer = self._clock.callLater(max(FIRST_S, self._told_at + EVERY_S - now), self._tell)

    def stop(self) -> None:
        """Tell what is left, and nothing more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
            self._tell()

    def _tell(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        self._told_at = now
        counts, self._counts = self._counts, {}
        left_out, self._others = self._others, 0
        seconds = max(1, round(now - self._since))
        ranked = sorted(counts.items(), key=lambda each: -each[1].why.total())
        for source, count in ranked[:MOST_TOLD]:
            accounts = sorted(count.accounts)
            log.warn(
                "Dropped {total} messages from {source} within {seconds} s: {why}{accounts}",
                total=count.why.total(), source=source, seconds=seconds, why=_words(count.why),
                accounts=f"; accounts {', '.join(accounts)}" if accounts else "",
            )  # fmt: skip
            self._events.write(
                "guard.dropped", source=source, seconds=seconds, count=count.why.total(), why=dict(count.why),
                accounts=accounts or None,
            )  # fmt: skip
        rest = ranked[MOST_TOLD:]
        if rest:
            why: Counter[str] = sum((count.why for _, count in rest), Counter())
            log.warn(
                "Dropped {total} messages from {sources} other sources within {seconds} s: {why}",
                total=why.total() + left_out, sources=len(rest), seconds=seconds, why=_words(why),
            )  # fmt: skip
            self._events.write(
                "guard.dropped", source=f"{len(rest)} others", seconds=seconds, count=why.total() + left_out,
                why=dict(why),
            )  # fmt: skip


def _words(why: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in why.most_common())
