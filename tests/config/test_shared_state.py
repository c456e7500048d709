"""One set of promises for both: in-process with a made-up clock, Redis with a real server."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from config.errors import OurError
from config.shared_state import InProcessState, RedisState, SharedState
from tests.conftest import run


@dataclass
class Subject:
    state: SharedState
    passes: Callable[[float], Awaitable[None]]
    second: float  # how long a test's second is


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Its connections are there, and nobody reads them."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    command = shutil.which("redis-server")
    if command is None:
        pytest.skip("redis-server is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    folder: Path = tmp_path_factory.mktemp("redis")
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen([command, *words], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield Server(port, server)
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(params=["in-process", "redis"])
def subject(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Subject]:
    if request.param == "in-process":

        async def advance(seconds: float) -> None:
            clock.advance(seconds)

        yield Subject(InProcessState(clock), advance, 1.0)
    else:
        port = request.getfixturevalue("redis_server").port
        state = RedisState(f"redis://127.0.0.1:{port}/0", prefix=f"{request.node.name}:")
        # Redis has a clock of its own: its seconds are made short instead.
        yield Subject(state, asyncio.sleep, 0.05)
        run(state.close())


async def test_one_key_has_one_holder(subject: Subject) -> None:
    state = subject.state
    claims = [state.claim("agent:1", f"contact {number}", 60) for number in range(10)]
    won = await asyncio.gather(*claims)
    assert won.count(True) == 1
    assert await state.holder("agent:1") == f"contact {won.index(True)}"
    assert await state.holder("agent:2") is None


async def test_its_holder_may_claim_it_again(subject: Subject) -> None:
    assert await subject.state.claim("agent:1", "contact 1", 60)
    assert await subject.state.claim("agent:1", "contact 1", 60)


async def test_a_released_key_is_free(subject: Subject) -> None:
    state = subject.state
    await state.claim("agent:1", "contact 1", 60)
    assert await state.release("agent:1", "contact 1")
    assert await state.holder("agent:1") is None
    assert await state.claim("agent:1", "contact 2", 60)


async def test_only_the_holder_releases(subject: Subject) -> None:
    state = subject.state
    await state.claim("agent:1", "contact 1", 60)
    assert not await state.release("agent:1", "contact 2")
    assert await state.holder("agent:1") == "contact 1"
    assert not await state.release("agent:2", "contact 1")


async def test_a_lease_ends_by_itself(subject: Subject) -> None:
    state, second = subject.state, subject.second
    await state.claim("agent:1", "contact 1", 2 * second)
    await subject.passes(3 * second)
    assert await state.holder("agent:1") is None
    assert not await state.release("agent:1", "contact 1")
    assert await state.claim("agent:1", "contact 2", 60)


async def test_a_lease_claimed_again_outlasts_its_first_term(subject: Subject) -> None:
    state, second = subject.state, subject.second
    await state.claim("agent:1", "contact 1", 3 * second)
    assert await state.claim("agent:1", "contact 1", 30 * second)
    await subject.passes(5 * second)
    assert await state.holder("agent:1") == "contact 1"


async def test_leases_nobody_asks_about_again_do_not_pile_up(clock: Clock) -> None:
    state = InProcessState(clock)
    for number in range(10_000):
        await state.claim(f"agent:{number}", "contact 1", 1)
        clock.advance(0.01)
    assert len(state._leases) <= 1024


async def test_a_redis_that_hangs_costs_a_moment_and_an_error_and_holds_nobody_afterwards(
    redis_server: Server, request: pytest.FixtureRequest
) -> None:
    prefix = f"{request.node.name}:"
    url = f"redis://127.0.0.1:{redis_server.port}/0"
    state, other = RedisState(url, prefix=prefix, answer_s=0.3), RedisState(url, prefix=prefix)
    assert await state.claim("agent:1", "contact 1", 60)
    assert await other.claim("agent:3", "contact 9", 60)
    with redis_server.hanging():
        began = time.monotonic()
        asked = await asyncio.gather(
            state.release("agent:1", "contact 1"),
            state.claim("agent:2", "contact 2", 60),
            state.claim("agent:3", "contact 3", 60),
            state.holder("agent:1"),
            return_exceptions=True,
        )
        assert time.monotonic() - began < 3.0
        assert [error.status for error in asked if isinstance(error, OurError)] == [503] * 4
    # Heard or not, what was asked meanwhile keeps none of our agents from the next contact, and takes nobody else's.
    assert await state.claim("agent:1", "contact 4", 60)
    assert await state.claim("agent:2", "contact 5", 60)
    assert not await state.claim("agent:2", "contact 6", 60)
    assert not await state.claim("agent:3", "contact 7", 60)
    assert await other.holder("agent:3") == "contact 9"
    assert not state._doubtful
    await state.close()
    await other.close()


async def test_a_redis_that_is_not_there_is_an_error_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        state = RedisState(f"redis://127.0.0.1:{free.getsockname()[1]}/0")
        with pytest.raises(OurError):
            await asyncio.wait_for(state.claim("agent:1", "contact 1", 60), 1.0)
    await state.close()
