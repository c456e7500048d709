"""What every test may use. A test written ``async def`` runs as an asyncio task in the reactor's own loop."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_twisted
from hypothesis import settings as hypothesis_settings
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from config import events, login
from config.bridge import as_deferred
from config.database import Database

# A shared machine is slow now and then; that alone is no failure. The same cases each time, so that a failure stays.
hypothesis_settings.register_profile("warmline", deadline=None, derandomize=True, max_examples=100)
hypothesis_settings.load_profile("warmline")

# Programs of others, and sound as it comes, on a machine that is shared: what was not there in time is tried once more
# from the start. The summary names it, and a second failure is one.
TRIED_AGAIN = pytest.mark.flaky(reruns=1)

T = TypeVar("T")

# Their tables must be known before any test makes a database.
TABLES = (events.event_table, login.login_session)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from a fixture that is none. (A test is ``async def`` instead.)"""
    from twisted.internet import reactor

    begun: Deferred[T] = Deferred()

    def begin() -> None:
        as_deferred(work).chainDeferred(begun)

    reactor.callLater(0, begin)
    result: T = pytest_twisted.blockon(begun)
    return result


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marked = any(item.get_closest_marker(name) is not None for name in ("interop", "scenario"))
        named = any(name in item.path.stem for name in ("_process", "rtpengine"))
        if marked or named or "opened" in getattr(item, "fixturenames", ()):
            item.add_marker(TRIED_AGAIN)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    # pytest-twisted waits for the Deferred that a test returns; Hypothesis keeps the test in `inner_test`.
    hypothesis = getattr(pyfuncitem.obj, "hypothesis", None)
    if hypothesis is not None and inspect.iscoroutinefunction(hypothesis.inner_test):
        hypothesis.inner_test = _as_task(hypothesis.inner_test)
    elif inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _as_task(pyfuncitem.obj)


def _as_task(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Deferred[None]]:
    @functools.wraps(test)
    def start(*args: Any, **kwargs: Any) -> Deferred[None]:
        return as_deferred(test(*args, **kwargs))

    return start


@pytest.fixture
def clock() -> Clock:
    """Twisted's clock for tests: time passes by ``advance`` only."""
    return Clock()


@pytest.fixture
def now(clock: Clock) -> Callable[[], float]:
    """Wall time that goes with ``clock``, from 1 January 2026 on."""
    return lambda: 1767225600.0 + clock.seconds()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A real SQLite database with every table that the test's imports declare."""
    opened = Database.open(f"sqlite:///{tmp_path / 'warmline.sqlite3'}")

    run(opened.create_all())
    yield opened
    run(opened.close())
