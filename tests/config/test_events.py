from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from config.database import Database
from config.events import Event, EventLog


async def test_events_come_back_in_order_each_with_its_time_and_facts(
    database: Database, clock: Clock, now: Callable[[], float]
) -> None:
    log = EventLog(database, now)
    began = now()
    log.write("contact.requested", contact="c_1", visit="v_1", channel="video")
    clock.advance(1.5)
    log.write("contact.reserved", contact="c_1", agent="a_1", why=["ready", {"skill": "Heizung – Störung"}])
    await log.write("contact.requested", contact="c_2", channel="chat")
    assert await log.read(contact="c_1") == [
        Event(1, began, "contact.requested", "c_1", "v_1", None, {"channel": "video"}),
        Event(
            2,
            began + 1.5,
            "contact.reserved",
            "c_1",
            None,
            "a_1",
            {"why": ["ready", {"skill": "Heizung – Störung"}]},
        ),
    ]


async def test_a_follower_reads_on_from_where_it_was(database: Database, now: Callable[[], float]) -> None:
    log = EventLog(database, now)
    for number in range(5):
        log.write("contact.queued", contact="c_1", number=number)
    await log.write("contact.queued", contact="c_1", number=5)
    first = await log.read(limit=2)
    rest = await log.read(after_seq=first[-1].seq)
    assert [event.facts["number"] for event in first + rest] == [0, 1, 2, 3, 4, 5]


async def test_listeners_hear_at_once_until_they_leave(database: Database, now: Callable[[], float]) -> None:
    log = EventLog(database, now)
    heard: list[str] = []
    leave = log.subscribe(lambda event: heard.append(event.kind))
    last = log.write("contact.requested", contact="c_1")
    assert heard == ["contact.requested"]
    leave()
    leave()
    await log.write("contact.ended", contact="c_1")
    assert heard == ["contact.requested"]
    assert last.done()


async def test_a_listener_hears_the_kinds_it_has_named_and_no_others(
    database: Database, now: Callable[[], float]
) -> None:
    log = EventLog(database, now)
    named: list[str] = []
    heard: list[str] = []
    log.write("contact.ended", contact="c_1")
    leave = log.subscribe(lambda event: named.append(event.kind), ("contact.ended", "contact.held"))
    log.subscribe(lambda event: heard.append(event.kind))
    for kind in ("contact.requested", "contact.held", "contact.ended"):
        log.write(kind, contact="c_1")
    assert named == ["contact.held", "contact.ended"]
    leave()
    await log.write("contact.ended", contact="c_1")
    assert named == ["contact.held", "contact.ended"]
    assert heard == ["contact.requested", "contact.held", "contact.ended", "contact.ended"]


async def test_a_failing_listener_is_logged_and_harms_neither_the_log_nor_the_others(
    database: Database, now: Callable[[], float]
) -> None:
    failures: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            failures.append(event["kind"])

    def fail(event: Event) -> None:
        raise ValueError("a listener's own fault")

    log = EventLog(database, now)
    heard: list[str] = []
    log.subscribe(fail)
    log.subscribe(lambda event: heard.append(event.kind))
    globalLogPublisher.addObserver(observe)
    try:
        await log.write("contact.ended", contact="c_1")
    finally:
        globalLogPublisher.removeObserver(observe)
    assert failures == heard == ["contact.ended"]
    assert len(await log.read()) == 1


async def test_a_fact_of_a_type_json_does_not_know_is_written_as_its_words(
    database: Database, now: Callable[[], float]
) -> None:
    log = EventLog(database, now)
    await log.write("contact.ended", contact="c_1", why=ValueError("lost"), devices={1})
    assert (await log.read())[0].facts == {"why": "lost", "devices": "{1}"}
