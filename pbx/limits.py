"""How long each contact may wait yet. Pure; all times are epoch seconds."""

from __future__ import annotations

from heapq import heapify, heappop, heappush


class Limits:
    """By contact, when it has waited as long as it may."""

    def __init__(self) -> None:
        self._limits: dict[str, float] = {}
        # What is dropped stays in the heap until it comes up, or until most of the heap is such.
        self._heap: list[tuple[float, str]] = []

    def begin(self, contact_id: str, limit: float) -> None:
        """It waits from now on; one that waits already keeps its limit if that is earlier, and is due again where it
        has come."""
        limit = self._limits[contact_id] = min(limit, self._limits.get(contact_id, limit))
        heappush(self._heap, (limit, contact_id))
        if len(self._heap) > 64 + 2 * len(self._limits):
            self._heap = [(limit, contact_id) for contact_id, limit in self._limits.items()]
            heapify(self._heap)

    def drop(self, contact_id: str) -> None:
        self._limits.pop(contact_id, None)

    def due(self, now: float) -> list[str]:
        """Whose limit has come, each once, until it begins again."""
        found: dict[str, None] = {}
        while self._heap and self._heap[0][0] <= now:
            limit, contact_id = heappop(self._heap)
            if self._limits.get(contact_id) == limit:
                found[contact_id] = None
        return list(found)

    def next(self) -> float | None:
        """The earliest moment at which somebody is due."""
        while self._heap and self._limits.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None
