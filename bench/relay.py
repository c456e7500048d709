"""relay.*, rtpengine.*: what packets cost the media server on one core, phones and browsers being on another.

    python -m bench.relay [--only relay|rtpengine] [--quick]

Voice is 50 packets a second each way, G.711. A video call is one with a browser (DTLS-SRTP): 50 of voice and 100 of
pictures each way. A packet's price is the CPU time of whatever carries them, less what it takes when nobody speaks,
over all that arrive, whichever way they went. What the load itself cannot keep up with counts against the server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figure import Figure, children_of, cpu_seconds
from bench.rtp_load import HOST, OPUS, PCMU, VP8, Browser, Counted, Load, Phone
from media.prompts import NAMES, Prompts
from media.rtpengine import Rtpengine
from media.watched import WatchedMedia
from tests.peers import rtpengine

PORTS = (10000, 16999)
ENGINE_PORTS = 3600
CALLS = 200
SECONDS = 8.0
CPU_STEP_S = 3.0
VOICE_STEPS = range(250, 451, 50)  # ENGINE_PORTS are enough for 450
VIDEO_STEPS = range(40, 201, 20)
STEP_S = 5.0
# Of so many runs of a step one has to pass: a machine that is shared takes a core away now and then.
TRIES = 5
BETWEEN_S = 0.5
BROWSER_CALLS = 100
DELAY_GOAL_MS = 5.0
BEGIN_GOAL_MS = 150.0

Pair = tuple[Phone | Browser, Phone]


class House:
    """A media server, and the calls it carries."""

    def __init__(self, media: WatchedMedia | Rtpengine) -> None:
        self.media = media
        self.processes = children_of(os.getpid())
        self.load = Load()
        self._calls = 0

    async def grow(self, calls: int, make: Callable[[Load], Pair]) -> None:
        """Until there are so many calls."""
        while self._calls < calls:
            await self.call(make)

    async def call(self, make: Callable[[Load], Pair]) -> tuple[Pair, float]:
        """Two that are joined by what answers the second; and when they were."""
        self._calls += 1
        name = f"call-{self._calls}"
        caller, callee = make(self.load)
        callers = await self.media.answer(name, "a", caller.offer())
        callees = await self.media.answer(name, "b", callee.offer(), like="a")
        await self.media.join(name, "a", "b")
        joined = time.monotonic()
        await asyncio.to_thread(caller.answered, callers)
        callee.answered(callees)
        return (caller, callee), joined

    async def run(self, seconds: float) -> Counted:
        await asyncio.to_thread(self.load.run, BETWEEN_S)  # the first packets fix addresses
        return await asyncio.to_thread(self.load.run, seconds)

    async def cost_us(self, seconds: float) -> tuple[float, Counted]:
        """CPU time of a packet."""
        before = self._cpu()
        await asyncio.sleep(CPU_STEP_S)
        idle = (self._cpu() - before) / CPU_STEP_S
        await asyncio.to_thread(self.load.run, BETWEEN_S)
        before, begun = self._cpu(), time.monotonic()
        counted = await asyncio.to_thread(self.load.run, seconds)
        used = self._cpu() - before - idle * (time.monotonic() - begun)
        return used / max(1, counted.received) * 1e6, counted

    async def most(self, steps: Sequence[int], make: Callable[[Load], Pair]) -> int:
        """Of so many calls at once the most that lost no packet, and delayed hardly any by more than the goal."""
        best = 0
        for calls in steps:
            await self.grow(calls, make)
            for _ in range(TRIES):
                counted = await self.run(STEP_S)
                if not counted.lost and counted.delay(0.99) * 1000 < DELAY_GOAL_MS:
                    best = calls
                    break
            else:
                return best
        return best

    def _cpu(self) -> float:
        return sum(map(cpu_seconds, self.processes))


def voice(load: Load) -> Pair:
    return load.phone(PCMU), load.phone(PCMU)


def browser_voice(load: Load) -> Pair:
    return load.browser(PCMU), load.phone(PCMU)


def video(load: Load) -> Pair:
    return load.browser(OPUS, VP8), load.phone(OPUS, VP8)


@contextlib.asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[House]:
    media = WatchedMedia()
    await media.start(host=HOST, public=HOST, ports=PORTS, prompts=folder / "prompts")
    async with _carrying(media) as house:
        yield house


@contextlib.asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[House]:
    async with rtpengine.Rtpengine(folder, ports=ENGINE_PORTS) as daemon:
        media = Rtpengine(daemon.address)
        await media.start(host=HOST, public=HOST, ports=PORTS, prompts=folder / "prompts")
        async with _carrying(media) as house:
            yield house


@contextlib.asynccontextmanager
async def _carrying(media: WatchedMedia | Rtpengine) -> AsyncIterator[House]:
    house = House(media)
    ours = os.sched_getaffinity(0)
    first, *others = sorted(ours)
    for process in house.processes:
        for thread in os.listdir(f"/proc/{process}/task"):
            os.sched_setaffinity(int(thread), {first})
    try:
        if others:
            os.sched_setaffinity(0, others)
        yield house
    finally:
        os.sched_setaffinity(0, ours)
        house.load.close()
        await media.end()


async def begin_ms(house: House) -> float:
    """How long after the answer a browser and a phone hear each other, ICE and DTLS included; 95th percentile."""
    took = []
    for _ in range(BROWSER_CALLS):
        pair, joined = await house.call(browser_voice)
        await asyncio.to_thread(house.load.until_heard, pair)
        took.append(time.monotonic() - joined)
    return sorted(took)[BROWSER_CALLS * 95 // 100] * 1000


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    start: Callable[[Path], contextlib.AbstractAsyncContextManager[House]]


KINDS = (Kind("relay", embedded), Kind("rtpengine", engine))


async def measure(folder: Path) -> list[Figure]:
    figures = []
    for kind in KINDS:
        figures += await measure_one(kind, folder)
    return figures


async def measure_one(kind: Kind, folder: Path, *, quick: bool = False) -> list[Figure]:
    # Or they would be made while we measure.
    await asyncio.to_thread(Prompts(folder / "prompts").make, NAMES)
    ours = kind.name == "relay"

    def figure(name: str, value: float, unit: str, goal: float) -> Figure:
        return Figure(f"{kind.name}.{name}", value, unit, goal if ours else None)

    async with kind.start(folder) as house:
        await house.grow(CALLS, voice)
        rtp_us, counted = await house.cost_us(SECONDS)
        found = [
            figure("rtp_us", rtp_us, "CPU-µs/packet", 24),
            figure("packets_lost", counted.lost, f"of {counted.sent}", 0),
            figure("added_delay_p99_ms", counted.delay(0.99) * 1000, "ms", DELAY_GOAL_MS),
        ]
        voice_calls = 0 if quick else await house.most(VOICE_STEPS, voice)
    async with kind.start(folder) as house:
        begins = await begin_ms(house)
        await house.grow(CALLS, browser_voice)
        srtp_us, _ = await house.cost_us(SECONDS)
    found.append(figure("srtp_us", srtp_us, "CPU-µs/packet", 36))
    found.append(figure("both_ways_p95_ms", begins, "ms from the answer", BEGIN_GOAL_MS))
    if quick:
        return found
    async with kind.start(folder) as house:
        video_calls = await house.most(VIDEO_STEPS, video)
    found.append(figure("voice_calls", voice_calls, "calls on a core", 350))
    found.append(figure("video_calls", video_calls, "calls on a core", 80))
    return found


async def _main(options: Any) -> None:
    kinds = [kind for kind in KINDS if options.only in (None, kind.name)]
    with tempfile.TemporaryDirectory(prefix="warmline-bench-") as folder:
        for kind in kinds:
            for each in await measure_one(kind, Path(folder), quick=options.quick):
                goal = "" if each.goal is None else f"{each.goal:g}"
                print(f"{each.name:30}  {each.value:10.2f}  {each.unit:20}  {goal}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__)
    parser.add_argument("--only", choices=[kind.name for kind in KINDS])
    parser.add_argument("--quick", action="store_true", help="not how many calls at most")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
