"""Many timers on one: thousands of transactions must not mean thousands of calls to the reactor."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import ceil

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

log = Logger()

TOGETHER = 0.001
"""Deadlines closer than this, in seconds, are met in one go."""

LEISURE = 0.25
"""How many seconds later what is in no hurry may be done."""

NEVER = float("inf")


class Deadline:
    """Something to be done at a time; `cancel` may be called at any time, also when it is over."""

    __slots__ = ("_action", "_arguments", "_of", "at")

    def __init__(
        self, of: Deadlines, at: float, action: Callable[..., None], arguments: tuple[object, ...]
    ) -> None:
        self._of = of
        self._action: Callable[..., None] | None = action
        self._arguments = arguments
        self.at = at

    @property
    def pending(self) -> bool:
        return self._action is not None

    def cancel(self) -> None:
        if self._action is not None:
            self._action = None
            self._of.one_less()

    def meet(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            action(*self._arguments)


class Deadlines:
    """A heap of deadlines behind a single `callLater`.

    A cancelled one stays in the heap until its time or until more than half of the heap is cancelled, because most
    are cancelled (an answer came) and removing each would cost more than all the rest.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Deadline]] = []
        self._count = 0
        self._cancelled = 0
        self._call: IDelayedCall | None = None
        self._call_at = NEVER

    def now(self) -> float:
        return self._clock.seconds()

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def after(self, seconds: float, action: Callable[[], None]) -> Deadline:
        return self.at(self._clock.seconds() + seconds, action)

    def at(self, when: float, action: Callable[..., None], *arguments: object) -> Deadline:
        """Call `action` at `when`, by the clock given. An exception it raises is logged."""
        deadline = Deadline(self, when, action, arguments)
        self._count += 1
        heappush(self._heap, (when, self._count, deadline))
        if when < self._call_at:
            self._arm()
        return deadline

    def not_before(self, when: float, action: Callable[..., None], *arguments: object) -> Deadline:
        """As `at`, up to LEISURE later, with all else of its kind: to be woken costs more than most actions."""
        return self.at(ceil(when / LEISURE) * LEISURE, action, *arguments)

    def one_less(self) -> None:
        """A deadline in the heap was cancelled."""
        self._cancelled += 1
        if self._cancelled > 1000 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].pending]
            heapify(self._heap)
            self._cancelled = 0

    def stop(self) -> None:
        """Forget all of them."""
        self._heap.clear()
        self._cancelled = 0
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._call_at = NEVER

    def _arm(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._call_at = NEVER
        while self._heap and not self._heap[0][2].pending:
            heappop(self._heap)
            self._cancelled -= 1
        if self._heap:
            self._call_at = self._heap[0][0]
            self._call = self._clock.callLater(max(0.0, self._call_at - self._clock.seconds()), self._meet)

    def _meet(self) -> None:
        self._call = None
        due = self._clock.seconds() + TOGETHER
        self._call_at = -NEVER  # new deadlines need not arm: it is done once, below
        while self._heap and self._heap[0][0] <= due:
            _, _, deadline = heappop(self._heap)
            if not deadline.pending:
                self._cancelled -= 1
                continue
            try:
                deadline.meet()
            except Exception:
                log.failure("A deadline's action failed")
        self._arm()
