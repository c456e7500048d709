"""A brake: agents whose phones fail one contact after the other, with no person behind it, are let be for a while.

Without it every contact that waits is offered to every such agent at once, one after another as fast as they refuse,
and a fault in the network of many phones, or a queue that is full, costs more than all the calls that could be served.
"""

from __future__ import annotations

from collections.abc import Callable

from sip_trunk.deadlines import Deadline, Deadlines

IN_A_ROW = 3
"""So many offers in a row come to nothing before the agent is let be: a phone may well be busy twice."""
FIRST_S, LONGEST_S = 1.0, 30.0


class Resting:
    """`over` is told of an agent who may be asked again. Agents who are gone take nothing with them: there are as many
    entries as agents at most."""

    def __init__(self, deadlines: Deadlines, over: Callable[[str], None]) -> None:
        self._deadlines = deadlines
        self._over = over
        self._failures: dict[str, int] = {}
        # Of those who rest, which state of their phones failed, and until when.
        self._rests: dict[str, tuple[int, Deadline]] = {}

    def lets_be(self, agent_id: str, phones: int) -> bool:
        """Whether the agent is not to be asked now. `phones` is their phones' state: with another one they are."""
        rest = self._rests.get(agent_id)
        return rest is not None and rest[0] == phones

    def reached(self, agent_id: str) -> None:
        """A person has answered, declined, or let it ring."""
        self._failures.pop(agent_id, None)

    def failed(self, agent_id: str, phones: int) -> float:
        """Busy or not to be reached; for how many seconds the agent is let be now, 0.0: not yet."""
        failures = self._failures[agent_id] = self._failures.get(agent_id, 0) + 1
        if failures < IN_A_ROW:
            return 0.0
        seconds: float = min(FIRST_S * 2 ** min(failures - IN_A_ROW, 10), LONGEST_S)
        before = self._rests.get(agent_id)
        if before is not None:
            before[1].cancel()
        self._rests[agent_id] = phones, self._deadlines.after(seconds, lambda: self._end(agent_id))
        return seconds

    def _end(self, agent_id: str) -> None:
        self._rests.pop(agent_id, None)
        self._over(agent_id)
