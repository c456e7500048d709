"""Runs every measurement against servers of its own on 127.0.0.1 and writes bench/results.json."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from bench import call, queued_call, register, relay, router
from bench.figure import Figure
from tests.peers.process import PeerFailed

RESULTS = Path(__file__).parent / "results.json"


def machine() -> dict[str, object]:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


async def measure() -> tuple[list[Figure], list[str]]:
    """What was measured, and what could not be: of it nothing is known, and the rest is worth having."""
    figures: list[Figure] = []
    failed = []
    for each in (register, call, queued_call, relay):
        try:
            with tempfile.TemporaryDirectory(prefix="warmline-bench-") as folder:
                figures += await each.measure(Path(folder))
        except PeerFailed as error:
            failed.append(f"{each.__name__} was not measured: {error}")
    return figures, failed


def main() -> None:
    figures, failed = asyncio.run(measure())
    figures += router.measure()
    width = max(len(figure.name) for figure in figures)
    print(f"{'figure':{width}}  {'value':>10}  {'unit':16}  goal")
    for figure in figures:
        goal = "" if figure.goal is None else f"{figure.goal:g}"
        print(f"{figure.name:{width}}  {figure.value:10.3f}  {figure.unit:16}  {goal}")
    content = {"machine": machine(), "results": [figure.as_json() for figure in figures]}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
