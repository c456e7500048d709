"""The rules in force of every provider: in memory, versioned, changed by people and by what agents say was wrong.

A version is never changed: whoever edits puts a new one, and says which one they had before them, so that of two who
edit at once the second is told. Another process may put one as well (`warmline rules put`); it is noticed within
`LOOK_EVERY_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from sqlalchemy.exc import IntegrityError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from config.bridge import spawn
from config.errors import TheirError
from config.events import EventLog
from pbx.rule_text import checked, warnings_about
from pbx.skills import Rule
from pbx.store import PbxStore, RuleVersion

log = Logger()

LOOK_EVERY_S = 3.0
LONGEST_NOTE = 500


class Rules:
    """`highest(provider_id)` gives the highest level that somebody who serves the provider has of each skill.

    `now` is wall time in epoch seconds.
    """

    def __init__(
        self,
        store: PbxStore,
        events: EventLog,
        now: Callable[[], float],
        *,
        highest: Callable[[str], Mapping[str, int]],
    ) -> None:
        self._store = store
        self._events = events
        self._now = now
        self._highest = highest
        self._current: dict[str, RuleVersion] = {}
        self._clock: IReactorTime | None = None
        self._look: IDelayedCall | None = None

    def current(self, provider_id: str) -> RuleVersion:
        """What is in force; version 0, without rules, for a provider that has none."""
        return self._current.get(provider_id) or RuleVersion(provider_id, 0)

    async def version(self, provider_id: str, version: int) -> RuleVersion:
        """One version as it was. TheirError 404."""
        found = await self._store.rule_version(provider_id, version)
        if found is None:
            raise TheirError(f"There is no version {version} of these rules.", 404)
        return found

    async def history(self, provider_id: str, *, limit: int = 100) -> list[RuleVersion]:
        """The versions, the latest first, without their rules."""
        return await self._store.rule_history(provider_id, limit=limit)

    def warnings(self, provider_id: str, rules: Iterable[Rule]) -> list[str]:
        """What is odd about these rules and yet allowed, in sentences."""
        return warnings_about(rules, self._highest(provider_id))

    async def put(
        self, provider_id: str, rules: Iterable[Rule], *, author: str, note: str, base: int | None = None
    ) -> RuleVersion:
        """Put rules in force; durable when this returns. `base` is the version they were made from, if any.

        TheirError 422 (WrongRules) for rules that make no sense, 409 when the version in force is another one by now.
        """
        rules = checked(rules)
        note = note.strip()
        if len(note) > LONGEST_NOTE:
            raise TheirError(f"A note may have {LONGEST_NOTE} characters at most.", 422)
        await self.look()
        before = self.current(provider_id)
        if base is not None and base != before.version:
            raise self._outdated(provider_id)
        put = RuleVersion(provider_id, before.version + 1, self._now(), author, note, rules)
        try:
            await self._store.add_rules(put)
        except IntegrityError:
            await self.look()
            raise self._outdated(provider_id) from None
        if put.version > self.current(provider_id).version:
            self._current[provider_id] = put
        await self._events.write(
            "rules.changed", provider=provider_id, version=put.version, author=author, note=note
        )
        return put

    async def put_back(self, provider_id: str, version: int, *, author: str, base: int) -> RuleVersion:
        """Put an earlier version in force again, as a new one. TheirError 404, 409."""
        old = await self.version(provider_id, version)
        return await self.put(
            provider_id, old.rules, author=author, note=f"version {version} again", base=base
        )

    # What others have put

    async def load(self) -> None:
        """Read what is in force; once, before the first contact."""
        self._current = await self._store.rules()

    async def look(self) -> None:
        """Take up what another process has put."""
        for provider_id, version in (await self._store.rule_versions()).items():
            if version > self.current(provider_id).version:
                found = await self._store.rule_version(provider_id, version)
                if found is not None and version > self.current(provider_id).version:
                    self._current[provider_id] = found

    def start(self, clock: IReactorTime) -> None:
        """Go on looking, until `stop`."""
        self._clock = clock
        self._look = clock.callLater(LOOK_EVERY_S, lambda: spawn(self._look_again(), "looking for new rules"))

    def stop(self) -> None:
        self._clock = None
        if self._look is not None and self._look.active():
            self._look.cancel()
        self._look = None

    async def _look_again(self) -> None:
        try:
            await self.look()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the database is away for a moment; the rules stay as they are
            log.warn("Could not look for new rules: {error}", error=str(error))
        finally:
            if self._clock is not None:
                self.start(self._clock)

    def _outdated(self, provider_id: str) -> TheirError:
        latest = self.current(provider_id)
        by = f" by {latest.author}" if latest.author else ""
        return TheirError(
            f"Version {latest.version}{by} came in between: look at it, and then change what is still to be changed.",
            409,
        )
