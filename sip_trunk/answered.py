"""Answers that took no thought, kept only to be said again (RFC 3261 §17.2.2, the Completed state and Timer J).

Most requests are answered while they are being handed over: a registration that is refreshed, a BYE, a refusal. All
that is left of such a transaction is the bytes of its answer, so that is all that is kept, under one timer for all.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sip_trunk.deadlines import Deadline, Deadlines
    from sip_trunk.flow import Flow

Key = tuple[object, ...]

SWEEP_S = 1.0


class Answered:
    """Answers by the key of their transaction, each for `lifetime_s`, at most `most` of them: then the oldest goes, and
    its request, should it come again, is a new one. `answers` is only to be looked into."""

    def __init__(self, timers: Deadlines, lifetime_s: float, most: int) -> None:
        self._timers = timers
        self._lifetime_s = lifetime_s
        self._most = most
        self.answers: OrderedDict[Key, tuple[float, Flow, bytes, Key | None]] = OrderedDict()
        self._merge_keys: set[Key] = set()
        self._sweep: Deadline | None = None

    def __len__(self) -> int:
        return len(self.answers)

    def keep(self, key: Key, flow: Flow, data: bytes, merge_key: Key | None = None) -> None:
        """merge_key: what the same request by another path would be known by (§8.2.2.2)."""
        self.answers[key] = (self._timers.now() + self._lifetime_s, flow, data, merge_key)
        if merge_key is not None:
            self._merge_keys.add(merge_key)
        if len(self.answers) > self._most:
            self._drop_oldest()
        if self._sweep is None:
            self._sweep = self._timers.after(SWEEP_S, self._drop_expired)

    def say_again(self, key: Key) -> bool:
        """False when there is no such answer."""
        known = self.answers.get(key)
        if known is None:
            return False
        known[1].send(known[2])
        return True

    def merged(self, merge_key: Key) -> bool:
        return merge_key in self._merge_keys

    def clear(self) -> None:
        self.answers.clear()
        self._merge_keys.clear()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _drop_oldest(self) -> None:
        _, (_, _, _, merge_key) = self.answers.popitem(last=False)
        if merge_key is not None:
            self._merge_keys.discard(merge_key)

    def _drop_expired(self) -> None:
        now = self._timers.now()
        while self.answers and next(iter(self.answers.values()))[0] <= now:
            self._drop_oldest()
        self._sweep = self._timers.after(SWEEP_S, self._drop_expired) if self.answers else None
