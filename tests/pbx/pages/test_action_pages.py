"""What an agent can do with a contact from their page, and what the page says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from agent_presence.agent_state import AgentState
from agent_presence.roster import Agent
from config.errors import TheirError
from pbx.agent_desk import Candidate, Control
from pbx.contact import CallBack, Contact, Disposition
from pbx.pages.words import DISPOSITION_WORDS
from pbx.store import Voicemail
from tests.conftest import run
from tests.pbx.desk import AT
from tests.pbx.pages.test_agent_pages import Rig
from tests.pbx.web import words

JSON = {"Accept": "application/json"}


@pytest.fixture
def rig(clock: Clock, now: Callable[[], float]) -> Iterator[Rig]:
    rig = Rig(clock, now)
    yield rig
    run(rig.ana.close())


async def with_maria(rig: Rig, channel: str = "voice", contact_id: str = "c_1") -> Contact:
    await rig.people.hire()
    rig.people.register("ana")
    await rig.people.states.ready("ana")
    contact = rig.desk.make(contact_id, channel=channel)
    await rig.people.states.reserve("ana", contact_id, channel=channel, lease_s=60)
    rig.desk.connect(contact, "ana")
    rig.people.states.accepted("ana", contact_id)
    return contact


async def writing_up(rig: Rig) -> Contact:
    contact = await with_maria(rig)
    rig.desk.finish(contact)
    rig.people.states.release("ana", contact.id, wrap_up_s=10)
    assert rig.state("ana") is AgentState.WRAP_UP
    return contact


@pytest.mark.parametrize(
    ("what", "fields", "done"),
    [
        ("hold", {}, ("hold", "ana", "c_1")),
        ("unhold", {}, ("unhold", "ana", "c_1")),
        ("transfer", {"to": "agent:bo"}, ("transfer", "ana", "c_1", "agent:bo")),
        ("consult", {"to": "number:+49301"}, ("consult", "ana", "c_1", "number:+49301")),
        ("complete", {}, ("complete", "ana", "c_1")),
        ("confer", {}, ("confer", "ana", "c_1")),
        ("call-off", {}, ("call-off", "ana", "c_1")),
    ],
)
async def test_each_button_does_its_thing(
    rig: Rig, what: str, fields: dict[str, str], done: tuple[str, ...]
) -> None:
    await with_maria(rig)
    reply = await rig.ana.submit(f"/agent/contacts/c_1/do/{what}", fields)
    assert (reply.status, reply.headers["location"]) == (303, "/agent")
    assert rig.actions.done == [done]


async def test_nothing_is_done_without_the_token_or_the_login(rig: Rig) -> None:
    await with_maria(rig)
    for what in ("hold", "transfer", "wrap-up"):
        assert (await rig.ana.submit(f"/agent/contacts/c_1/do/{what}", {}, csrf=None)).status == 403
        assert (await rig.stranger.submit(f"/agent/contacts/c_1/do/{what}", {}, csrf=None)).status == 401
    assert (await rig.stranger.get("/agent/contacts/c_1/candidates?q=")).status == 401
    assert (await rig.ana.submit("/agent/contacts/c_1/do/dance", {})).status == 404
    assert rig.actions.done == []


async def test_what_cannot_be_done_is_said(rig: Rig) -> None:
    await with_maria(rig)
    rig.actions.refuses = TheirError("Bo is busy.", 409)
    reply = await rig.ana.submit("/agent/contacts/c_1/do/consult", {"to": "agent:bo"}, **JSON)
    assert (reply.status, json.loads(reply.body)) == (409, {"error": "Bo is busy."})
    assert "Bo is busy." in words(await rig.ana.submit("/agent/contacts/c_1/do/consult", {"to": "agent:bo"}))


async def test_whom_it_may_go_to(rig: Rig) -> None:
    await with_maria(rig)
    rig.actions.found = [
        Candidate("agent:bo", "Bo <Lind>", "ready", True),
        Candidate("skill:billing", "Somebody for billing", "waits", False),
    ]
    reply = await rig.ana.get("/agent/contacts/c_1/candidates?q=bo%20l")
    assert json.loads(reply.body) == [
        {"to": "agent:bo", "name": "Bo <Lind>", "note": "ready", "free": True, "ask": True},
        {"to": "skill:billing", "name": "Somebody for billing", "note": "waits", "free": False, "ask": False},
    ]
    assert rig.actions.done == [("candidates", "ana", "c_1", "bo l")]


@pytest.mark.parametrize(
    ("control", "said", "unsaid"),
    [
        (Control(), ["Hold", "Ask or pass on", "Hang up"], ["Resume", "Hand over"]),
        (Control(held=True), ["on hold; with you", "Resume"], []),
        (Control(stage="ringing", other="Bo"), ["Ringing Bo. Maria Lopez hears music.", "Stop ringing"], ["Hold"]),
        (Control(stage="talking", other="Bo"), ["You are talking with Bo.", "Hand over", "All three", "Back to"], []),
        (Control(stage="conferred", other="Bo"), ["You, Maria Lopez and Bo", "Leave the two", "Without Bo"], []),
        (Control(stage="transferring", other="Bo"), ["Bo, who is to take over", "Stop ringing"], ["Ask or pass"]),
        (Control(stage="transferring"), ["Your phone is passing them on."], ["Stop ringing", "Hold"]),
        (Control(notice="Bo did not answer."), ["Bo did not answer.", "Hold"], []),
    ],
)  # fmt: skip
async def test_the_page_says_how_things_stand(
    rig: Rig, control: Control, said: list[str], unsaid: list[str]
) -> None:
    contact = await with_maria(rig)
    rig.actions.controls[contact.id] = control
    page = words(await rig.ana.get("/agent"))
    assert all(each in page for each in said), page
    assert not any(each in page for each in unsaid), page


async def test_a_chat_is_passed_on_and_not_held(rig: Rig) -> None:
    await with_maria(rig, "chat")
    page = words(await rig.ana.get("/agent"))
    assert "Pass on" in page
    assert "Hold" not in page
    assert "Ask first" not in page


async def test_what_became_of_it_is_said_and_ends_writing_up(rig: Rig) -> None:
    contact = await writing_up(rig)
    page = words(await rig.ana.get("/agent"))
    assert "Solved" in page
    assert "wifi pairing" in page
    reply = await rig.ana.submit(
        f"/agent/contacts/{contact.id}/do/wrap-up",
        {"code": "wrong-skill", "note": "Two\nlines", "needed": "wifi-pairing"},
    )
    assert reply.status == 303
    assert rig.actions.done == [("wrap-up", "ana", "c_1", "wrong-skill", "Two\nlines", "wifi-pairing")]
    assert (contact.wrap_up_code, contact.wrap_up_note) == ("wrong-skill", "Two\nlines")
    assert rig.state("ana") is AgentState.READY
    assert "Maria" not in words(await rig.ana.get("/agent"))
    assert (await rig.ana.submit("/agent/contacts/c_9/do/wrap-up", {"code": "resolved"})).status == 404


async def test_what_was_said_while_they_talk_is_shown(rig: Rig) -> None:
    contact = await with_maria(rig)
    await rig.ana.submit(f"/agent/contacts/{contact.id}/do/wrap-up", {"code": "resolved", "note": '"><b>'})
    body = (await rig.ana.get("/agent")).body
    assert 'value="resolved" required checked' in " ".join(body.split())
    assert "&#34;&gt;&lt;b&gt;" in body


async def test_who_has_passed_a_contact_on_writes_it_up_and_may_do_no_more_with_it(rig: Rig) -> None:
    contact = await with_maria(rig)
    rig.people.states.release("ana", contact.id, wrap_up_s=10)
    contact.agent_id = "bo"
    page = words(await rig.ana.get("/agent"))
    assert "passed on; with you before" in page
    assert "What became of it" in page
    for each in ("Hang up", "Hold", "Ask or pass on"):
        assert each not in page
    assert (await rig.ana.get(f"/context/{contact.id}")).status == 200


async def test_who_is_asked_about_a_contact_sees_it_and_by_whom(rig: Rig) -> None:
    contact = await with_maria(rig)
    assert (await rig.bo.get(f"/context/{contact.id}")).status == 404
    rig.actions.asked["bo"] = [contact]
    page = words(await rig.bo.get("/agent"))
    assert "Ana Sousa is asking you about this one." in page
    for each in ("Hang up", "Hold", "Ask or pass on", "What became of it"):
        assert each not in page
    assert (await rig.bo.get(f"/context/{contact.id}")).status == 200
    assert (await rig.bo.submit(f"/agent/contacts/{contact.id}/end", {})).status == 404


async def test_the_context_of_somebody_elses_contact_does_not_say_that_it_is_yours(rig: Rig) -> None:
    contact = await with_maria(rig)
    rig.actions.asked["bo"] = [contact]
    assert "with you" in words(await rig.ana.get(f"/context/{contact.id}"))
    page = words(await rig.bo.get(f"/context/{contact.id}"))
    assert "with a colleague" in page
    assert "with you" not in page


async def test_who_is_to_be_called_back_is_said_to_be_so_while_the_phone_rings_and_until_they_answer(
    rig: Rig,
) -> None:
    await rig.people.hire()
    contact = rig.desk.make("c_1", channel="voice")
    contact.call_back = CallBack("", AT)
    contact.ring("ana")
    page = words(await rig.ana.get("/agent"))
    assert "They wait to be called back. Answer on your phone, and stay on the line" in page


def test_every_ending_has_its_words() -> None:
    assert {each.value for each in Disposition} == set(DISPOSITION_WORDS)


# Messages left


def leave(rig: Rig, folder: Path) -> Voicemail:
    path = folder / "v_1.wav"
    path.write_bytes(b"RIFF a recording")
    contact = rig.desk.make("c_7", number="+15550100001", customer_name="", provider_id="kestrel")
    row = Voicemail("v_1", contact.id, "kestrel", str(path), AT, 74.2)
    rig.messages.left.append(row)
    rig.people.events.write("contact.voicemail_left", contact=contact.id, voicemail=row.id, seconds=74.2)
    return row


async def test_a_message_is_listened_to_and_dealt_with(rig: Rig, tmp_path: Path) -> None:
    await rig.people.hire()
    assert "Messages left" not in words(await rig.ana.get("/agent"))
    leave(rig, tmp_path)
    page = words(await rig.ana.get("/agent"))
    assert "Messages left by callers" in page
    assert "+15550100001" in page
    assert "74 s" in page
    heard = await rig.ana.get("/agent/voicemails/v_1")
    assert (heard.status, heard.headers["content-type"], heard.body) == (200, "audio/wav", "RIFF a recording")
    assert heard.headers["content-length"] == "16"
    assert "media-src 'self'" in heard.headers["content-security-policy"]
    assert (await rig.ana.submit("/agent/voicemails/v_1/done", {}, csrf=None)).status == 403
    assert (await rig.ana.submit("/agent/voicemails/v_1/done", {})).status == 303
    rig.people.events.write("contact.voicemail_done", contact="c_7", agent="ana", voicemail="v_1")
    assert "Messages left" not in words(await rig.ana.get("/agent"))


async def test_a_message_that_is_left_while_they_are_being_read_is_shown_next(
    rig: Rig, tmp_path: Path
) -> None:
    await rig.people.hire()
    as_they_are = rig.messages.to_do

    async def slow(agent: Agent) -> list[Voicemail]:
        found = await as_they_are(agent)
        if not rig.messages.left:
            leave(rig, tmp_path)
        return found

    rig.messages.to_do = slow  # type: ignore[method-assign]
    assert "Messages left" not in words(await rig.ana.get("/agent"))
    assert "Messages left by callers" in words(await rig.ana.get("/agent"))


async def test_who_no_longer_serves_a_provider_no_longer_sees_its_messages(rig: Rig, tmp_path: Path) -> None:
    await rig.people.hire()
    leave(rig, tmp_path)
    assert "Messages left by callers" in words(await rig.bo.get("/agent"))
    object.__setattr__(rig.people.roster.agent("bo"), "provider_ids", ("lumio",))
    assert "Messages left" not in words(await rig.bo.get("/agent"))


@pytest.mark.parametrize("name", ["v%00", "v%0A1", "v" * 101])
async def test_what_can_be_no_id_is_not_looked_for(rig: Rig, name: str) -> None:
    await rig.people.hire()
    assert (await rig.ana.get(f"/agent/voicemails/{name}")).status == 400
    assert (await rig.ana.submit(f"/agent/voicemails/{name}/done", {})).status == 400
    assert (await rig.ana.submit(f"/agent/contacts/{name}/do/wrap-up", {"code": "resolved"})).status == 400


async def test_messages_for_other_providers_are_not_there(rig: Rig, tmp_path: Path) -> None:
    await rig.people.hire()
    bo = rig.people.roster.agent("bo")
    object.__setattr__(bo, "provider_ids", ("lumio",))
    leave(rig, tmp_path)
    assert "Messages left" not in words(await rig.bo.get("/agent"))
    assert (await rig.bo.get("/agent/voicemails/v_1")).status == 404
    assert (await rig.bo.submit("/agent/voicemails/v_1/done", {})).status == 404
    assert (await rig.stranger.get("/agent/voicemails/v_1")).status == 401


async def test_the_store_is_not_asked_for_messages_each_time_the_page_changes(
    rig: Rig, tmp_path: Path
) -> None:
    await rig.people.hire()
    for _ in range(3):
        await rig.ana.get("/agent")
    assert rig.messages.asked == 1
    leave(rig, tmp_path)
    await rig.ana.get("/agent")
    assert rig.messages.asked == 2
