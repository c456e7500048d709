"""How long something takes, in a measure that a slow or busy machine stretches as well."""

from __future__ import annotations

import time
from collections.abc import Callable


def moments(work: Callable[[], object]) -> float:
    """The CPU time of `work` as a multiple of a fixed piece of Python's own work, some 60 ms on a machine of 2024."""

    def measure() -> None:
        sum(number * number for number in range(1_000_000))

    return _cpu_of(work) / min(_cpu_of(measure) for _ in range(2))


def _cpu_of(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
