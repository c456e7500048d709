from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from argon2 import PasswordHasher

from config.database import Database
from config.events import EventLog
from config.login import Logins
from kb_portal.sample import seed
from kb_portal.store import PortalStore
from kb_portal.tracking import Tracker
from tests.conftest import run

if TYPE_CHECKING:
    from kb_portal.pages import Portal
    from tests.kb_portal.browser import Browser

FAST = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def logins(database: Database, now: Callable[[], float]) -> Iterator[Logins]:
    made = Logins(database, now, hasher=FAST, attempts_per_name=3)
    yield made
    made.close()


@pytest.fixture
def store(database: Database, logins: Logins) -> PortalStore:
    """The portal's tables, with the sample in them."""
    filled = PortalStore(database)
    run(seed(filled, logins))
    return filled


@pytest.fixture
def events(database: Database, now: Callable[[], float]) -> EventLog:
    return EventLog(database, now)


@pytest.fixture
def tracker(store: PortalStore, events: EventLog, now: Callable[[], float]) -> Tracker:
    return Tracker(store, events, now)


# Klein and twisted.web install a reactor where they are imported, and a conftest is read before the right one is.


@pytest.fixture
def portal(store: PortalStore, logins: Logins, tracker: Tracker) -> Portal:
    from kb_portal.pages import Portal

    ca_pem = b"-----BEGIN CERTIFICATE-----\n"
    return Portal(store, logins, tracker, ca_pem=ca_pem, secure_url="https://here:8443/")


@pytest.fixture
def new_browser(portal: Portal) -> Iterator[Callable[[], Browser]]:
    """The portal on a free port of this machine, and browsers that know nothing of each other."""
    from twisted.internet import reactor
    from twisted.web.server import Site

    from tests.kb_portal.browser import Browser

    site: Any = Site(portal.resource())
    port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
    yield lambda: Browser(reactor, f"http://127.0.0.1:{port.getHost().port}")
    pytest_twisted.blockon(port.stopListening())


@pytest.fixture
def browser(new_browser: Callable[[], Browser]) -> Browser:
    return new_browser()
