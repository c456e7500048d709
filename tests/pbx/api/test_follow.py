"""A contact followed as it happens: server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from twisted.internet.task import Clock

from pbx.api.event_stream import HEARTBEAT_S
from pbx.api.routes import MAX_STREAMS
from tests.conftest import run
from tests.pbx.api.test_routes import Rig
from tests.pbx.web import settle

LIVE = "/api/contacts/c_1/live"


@pytest.fixture
def rig(clock: Clock, now: Callable[[], float]) -> Iterator[Rig]:
    rig = Rig(clock, now)
    rig.desk.make("c_1")
    yield rig
    run(rig.maria.close())


async def test_the_present_state_comes_at_once_then_changes(rig: Rig) -> None:
    stream = await rig.maria.follow(LIVE)
    assert stream.status == 200
    assert "content-type: text/event-stream" in stream.wire.sent.decode().lower()
    assert [event.data["state"] for event in stream.events("state")] == ["waiting"]
    assert "messages" not in stream.events("state")[0].data
    rig.desk.connect(rig.desk.contacts["c_1"], "ana")
    await settle()
    assert stream.events("state")[-1].data["state"] == "connected"
    assert stream.events("state")[-1].data["agent"] == {"name": "Ana"}


async def test_lines_come_as_they_are_said_each_once(rig: Rig) -> None:
    rig.desk.line("c_1", "customer", "first")
    stream = await rig.maria.follow(LIVE)
    rig.desk.line("c_1", "agent", "über\nzwei Zeilen 🙂")
    await settle()
    lines = stream.events("message")
    assert [(line.id, line.data["text"]) for line in lines] == [
        ("m_1", "first"),
        ("m_2", "über\nzwei Zeilen 🙂"),
    ]
    assert lines[1].data["from"] == "agent"


async def test_one_who_comes_back_hears_only_what_was_missed(rig: Rig) -> None:
    for text in ("one", "two", "three"):
        rig.desk.line("c_1", "customer", text)
    stream = await rig.maria.follow(LIVE, Last_Event_ID="m_1")
    assert [line.data["text"] for line in stream.events("message")] == ["two", "three"]


async def test_one_who_comes_back_with_an_unknown_id_hears_everything(rig: Rig) -> None:
    rig.desk.line("c_1", "customer", "one")
    stream = await rig.maria.follow(LIVE, Last_Event_ID="m_999")
    assert [line.data["text"] for line in stream.events("message")] == ["one"]


async def test_it_is_told_when_a_line_has_reached_the_agents_phone(rig: Rig) -> None:
    stream = await rig.maria.follow(LIVE)
    rig.desk.line("c_1", "customer", "is it the valve?")
    rig.desk.deliver("c_1", "m_1")
    await settle()
    assert [event.name for event in stream.events()] == ["state", "message", "delivered"]
    assert stream.events("message")[0].data["delivered"] is False
    assert stream.events("delivered")[0].data["id"] == "m_1"
    assert stream.events("delivered")[0].id is None, "coming back is counted in lines"


async def test_one_who_comes_back_is_told_what_has_been_delivered_meanwhile(rig: Rig) -> None:
    for text in ("one", "two", "three"):
        rig.desk.line("c_1", "customer", text)
    for message_id in ("m_1", "m_3"):
        rig.desk.deliver("c_1", message_id)
    stream = await rig.maria.follow(LIVE, Last_Event_ID="m_2")
    assert [event.data["id"] for event in stream.events("delivered")] == ["m_1"]
    assert [(line.id, line.data["delivered"]) for line in stream.events("message")] == [("m_3", True)]


async def test_it_is_told_when_the_agent_writes_and_never_that_the_customer_does(rig: Rig) -> None:
    stream = await rig.maria.follow(LIVE)
    for side in ("agent", "customer"):
        for active in (True, False):
            rig.desk.tell("c_1", "composing", {"from": side, "active": active})
    await settle()
    assert [event.data for event in stream.events("composing")] == [
        {"from": "agent", "active": True},
        {"from": "agent", "active": False},
    ]
    assert all(event.id is None for event in stream.events("composing"))


async def test_one_who_comes_while_the_agent_writes_is_told_so(rig: Rig) -> None:
    rig.desk.writers["c_1"] = ("customer", "agent")
    stream = await rig.maria.follow(LIVE)
    assert [event.data for event in stream.events("composing")] == [{"from": "agent", "active": True}]


async def test_that_a_line_was_read_is_told_now_and_to_one_who_comes_back(rig: Rig) -> None:
    stream = await rig.maria.follow(LIVE)
    rig.desk.line("c_1", "customer", "is it the valve?")
    rig.desk.deliver("c_1", "m_1")
    rig.desk.show("c_1", "m_1")
    await settle()
    assert [event.data["id"] for event in stream.events("read")] == ["m_1"]
    again = await rig.maria.follow(LIVE, Last_Event_ID="m_1")
    assert [event.name for event in again.events()] == ["state", "delivered", "read"]


async def test_a_line_said_while_the_past_is_read_is_told_once(rig: Rig) -> None:
    inner = rig.desk.messages

    async def messages(contact_id: str) -> list[dict[str, object]]:
        rig.desk.line(contact_id, "agent", "just now")  # after listening began, before the past is known
        return await inner(contact_id)

    rig.desk.messages = messages  # type: ignore[method-assign]
    stream = await rig.maria.follow(LIVE)
    await settle()
    assert [line.data["text"] for line in stream.events("message")] == ["just now"]


async def test_the_stream_ends_with_the_contact_after_saying_so(rig: Rig) -> None:
    stream = await rig.maria.follow(LIVE)
    rig.desk.line("c_1", "agent", "good bye")
    rig.desk.line("c_1", "customer", "thanks")
    rig.desk.finish(rig.desk.contacts["c_1"])
    await settle()
    assert [event.name for event in stream.events()] == ["state", "message", "message", "state"]
    last = stream.events()[-1]
    assert last.data["state"] == "ended"
    assert last.data["disposition"] == "customer_hung_up"
    assert stream.closed
    assert not rig.desk.listeners
    again = await rig.maria.get(LIVE, Last_Event_ID=str(last.id))
    assert again.status == 204, "an EventSource stops coming back only when it is told so"


async def test_one_who_comes_late_is_told_that_it_has_ended(rig: Rig) -> None:
    rig.desk.finish(rig.desk.contacts["c_1"])
    stream = await rig.maria.follow(LIVE)
    assert [event.data["state"] for event in stream.events("state")] == ["ended"]
    assert stream.closed
    assert not rig.desk.listeners


async def test_a_quiet_stream_beats(rig: Rig, clock: Clock) -> None:
    stream = await rig.maria.follow(LIVE)
    assert ": still here" not in stream.text
    for beats in (1, 2):
        clock.advance(HEARTBEAT_S)
        await settle()
        assert stream.text.count(": still here") == beats


async def test_how_long_it_may_yet_take_is_told_anew_with_a_beat_and_only_when_it_has_changed(
    rig: Rig, clock: Clock
) -> None:
    stream = await rig.maria.follow(LIVE)
    for waits, told in ((240.0, [240.0]), (180.0, [240.0, 180.0]), (None, [240.0, 180.0, None])):
        rig.desk.waits = waits
        clock.advance(HEARTBEAT_S)
        await settle()
        assert [event.data["expected_wait_s"] for event in stream.events("state")] == told


async def test_nothing_is_left_behind_and_nothing_logged_when_the_client_goes(
    rig: Rig, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    before = len(clock.getDelayedCalls())
    stream = await rig.maria.follow(LIVE)
    assert rig.desk.listeners
    assert rig.api.streams.of("maria") == 1
    stream.leave()
    await settle()
    assert not rig.desk.listeners
    assert len(rig.api.streams) == 0
    assert "Traceback" not in "".join(capfd.readouterr())
    assert len(clock.getDelayedCalls()) == before


async def test_one_who_does_not_read_is_dropped(rig: Rig, clock: Clock) -> None:
    stream = await rig.maria.follow(LIVE)
    assert stream.wire.producer is not None
    stream.wire.producer.pauseProducing()
    clock.advance(HEARTBEAT_S)
    await settle()
    assert stream.wire.aborted
    assert not rig.desk.listeners


async def test_the_stream_ends_when_the_login_does(rig: Rig, clock: Clock) -> None:
    stream = await rig.maria.follow(LIVE)
    rig.logins.ended.add("maria")
    for _ in range(4):
        clock.advance(HEARTBEAT_S)
        await settle()
    assert stream.closed
    assert not rig.desk.listeners


async def test_one_customer_has_only_so_many_streams(rig: Rig) -> None:
    streams = [await rig.maria.follow(LIVE) for _ in range(MAX_STREAMS)]
    refused = await rig.maria.get(LIVE)
    assert refused.status == 429
    streams[0].leave()
    await settle()
    assert (await rig.maria.follow(LIVE)).status == 200


async def test_head_is_answered_without_waiting(rig: Rig) -> None:
    reply = await rig.maria.ask("HEAD", LIVE)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert not rig.desk.listeners


async def test_streams_end_before_the_server_stops(rig: Rig, clock: Clock) -> None:
    before = len(clock.getDelayedCalls())
    streams = [await rig.maria.follow(LIVE) for _ in range(3)]
    await rig.api.close()
    await settle()
    assert all(stream.closed for stream in streams)
    assert not rig.desk.listeners
    assert len(clock.getDelayedCalls()) == before
