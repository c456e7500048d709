"""Recording calls: who agrees, what is recorded of whom, and what silence is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from config.errors import OurError, TheirError
from config.queue_settings import DEFAULT, QueueSettings
from config.recording_settings import Keys, Recording, key_name
from media import matroska
from media.stereo_file import WAVE_HEAD, PlainWriter
from pbx import recordings
from pbx.contact import Contact
from pbx.recording_store import TapeState
from sip_trunk import user_agent as sip
from tests.pbx.callers import by_phone
from tests.pbx.centre import Centre
from tests.pbx.recorded import write_wav

KEY = bytes(range(32))


async def opened(mode: Recording, folder: Path, **more: Any) -> Centre:
    folder.mkdir(exist_ok=True)
    return await Centre.open(folder=folder, queues=[QueueSettings(DEFAULT, recording=mode, **more)])


async def talking(centre: Centre, channel: str = "voice", agent: str = "ana") -> Contact:
    """A customer of the app and an agent who hear each other."""
    await centre.agent(agent)
    if channel == "video":
        await centre.house.bind(agent, contact_uri=f"sip:{agent}@192.0.2.7:5062", features={"video": ""})
    contact = await centre.asks(channel=channel)
    await centre.calls_in(contact)
    await received(centre)
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    assert contact.state.value == "connected"
    return contact


async def received(centre: Centre) -> None:
    """They have gone through what is said and asked before they wait."""
    while len(centre.reception):
        await centre.passes(0.5)
    await centre.settle()


def consents(centre: Centre, contact: Contact) -> list[tuple[str, bool | None, str]]:
    return [
        (event.facts["party"], event.facts["given"], event.facts["how"])
        for event in centre.events("contact.recording_consent")
        if event.contact == contact.id
    ]


async def rows(centre: Centre) -> list[tuple[str, str, float | None]]:
    found = await centre.recording_store.latest(None, limit=50)
    return [(row.agent_id, row.state.value, row.seconds) for row in reversed(found)]


# Who agrees


async def test_calls_are_not_recorded_unless_it_is_set_so() -> None:
    centre = await Centre.open()
    contact = await talking(centre)
    assert centre.media.tapped == []
    assert centre.recordings.view(contact) is None
    assert centre.media.played[0] == ("customer-1", "please-wait")


async def test_who_stays_after_the_notice_agrees_and_nobody_is_rung_before(tmp_path: Path) -> None:
    centre = await opened(Recording.ANNOUNCE, tmp_path)
    await centre.agent()
    contact = await centre.asks()
    await centre.calls_in(contact)
    assert centre.media.playing[contact.id, "customer-1"] == "recording-notice"
    assert not centre.phone.rung
    assert consents(centre, contact) == []
    await received(centre)
    assert consents(centre, contact) == [("customer", True, "stayed after the notice")]
    centre.phone.rung[0].pick_up()
    await centre.settle()
    (tap,) = centre.media.tapped
    assert (tap["left"], tap["right"]) == ("customer-1", contact_branch(centre, contact))
    assert consents(centre, contact)[1:] == [("agent", True, "terms of work")]
    assert await rows(centre) == [("agent-ana", "running", None)]
    assert centre.recordings.state(contact) == "recording"


def contact_branch(centre: Centre, contact: Contact) -> str:
    leg = centre.calls.agent_leg(contact)
    assert leg is not None
    return leg.branch


async def test_who_was_joined_to_an_agent_in_the_middle_of_the_notice_has_not_stayed_after_it(
    tmp_path: Path,
) -> None:
    centre = await opened(Recording.ANNOUNCE, tmp_path)
    await centre.agent()
    contact = await centre.asks()
    await centre.calls_in(contact)
    centre.contacts.set_routable(contact, True)  # as when their web socket breaks and comes back
    await centre.settle()
    centre.phone.rung[0].pick_up()
    await centre.settle()
    await received(centre)
    assert contact.state.value == "connected"
    assert consents(centre, contact) == []
    assert not centre.media.tapped


async def test_a_page_loaded_again_in_the_notice_hears_it_anew_and_waits_after_it(tmp_path: Path) -> None:
    centre = await opened(Recording.ANNOUNCE, tmp_path)
    await centre.agent()
    contact = await centre.asks()
    await centre.calls_in(contact)
    await centre.passes(2)
    await centre.calls_in(contact)
    await centre.passes(2)
    assert consents(centre, contact) == []
    assert not centre.phone.rung
    await received(centre)
    assert consents(centre, contact) == [("customer", True, "stayed after the notice")]
    assert [what for branch, what in centre.media.played if branch == "customer-2"][:2] == [
        "recording-notice", "please-wait",
    ]  # fmt: skip
    assert len(centre.phone.rung) == 1


async def test_nobody_is_kept_from_the_queue_by_a_notice_that_cannot_be_played(tmp_path: Path) -> None:
    centre = await opened(Recording.ANNOUNCE, tmp_path)
    play = centre.media.play

    async def deaf(call: str, branch: str, prompt: Any, **more: Any) -> float:
        if prompt == "recording-notice":
            raise OurError("There is no prompt recording-notice")
        return await play(call, branch, prompt, **more)

    centre.media.play = deaf  # type: ignore[method-assign]
    contact = await talking(centre)
    assert consents(centre, contact) == []
    assert not centre.media.tapped


async def test_who_is_called_back_in_their_page_is_told_by_it(tmp_path: Path) -> None:
    centre = await opened(Recording.ANNOUNCE, tmp_path)
    await centre.agent()
    contact = await centre.asks()
    leave = centre.desk.listen(contact.id, lambda kind, what: None, by="customer")
    await centre.desk.ask_call_back(contact.id)
    await centre.settle()
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    await centre.calls_in(contact)
    assert contact.state.value == "connected"
    assert consents(centre, contact)[0] == ("customer", True, "shown in the page")
    assert centre.media.taps
    leave()


async def called_at_the_telephone(folder: Path, mode: Recording) -> tuple[Centre, Contact]:
    """A customer of the app without a page, who has answered; an agent is on the line."""
    centre = await opened(mode, folder)
    centre.trunks.trunks["carrier"].dial = ("+49", "+1555")
    contact = await centre.asks()
    await centre.desk.ask_call_back(contact.id, "phone")
    await centre.agent()
    centre.phone.rung[0].pick_up()
    await centre.settle()
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    return centre, contact


async def test_who_is_called_back_at_the_telephone_hears_the_notice_before_the_agent(tmp_path: Path) -> None:
    centre, contact = await called_at_the_telephone(tmp_path, Recording.ANNOUNCE)
    customer = centre.calls.customer_leg(contact)
    assert customer is not None
    assert centre.media.playing[contact.id, customer.branch] == "recording-notice"
    assert contact.state.value == "ringing"
    assert not centre.media.tapped
    await centre.passes(10)
    assert contact.state.value == "connected"
    assert consents(centre, contact)[0] == ("customer", True, "stayed after the notice")
    assert centre.recordings.state(contact) == "recording"
    await centre.recordings.allow(contact, False)
    assert not centre.media.taps


@pytest.mark.parametrize("mode", [Recording.OFF, Recording.ASK, Recording.ALWAYS])
async def test_who_is_called_back_at_the_telephone_hears_no_notice_where_there_is_none(
    tmp_path: Path, mode: Recording
) -> None:
    centre, contact = await called_at_the_telephone(tmp_path, mode)
    assert contact.state.value == "connected"
    assert len(centre.media.tapped) == (mode is Recording.ALWAYS)


@pytest.mark.parametrize("who", ["customer", "agent"])
async def test_whoever_goes_in_the_notice_of_a_call_back_ends_it(tmp_path: Path, who: str) -> None:
    centre, contact = await called_at_the_telephone(tmp_path, Recording.ANNOUNCE)
    agent, customer = centre.phone.rung
    (customer if who == "customer" else agent).hang_up()
    await centre.settle()
    assert consents(centre, contact) == []
    assert not centre.media.tapped
    if who == "customer":
        assert not contact.open
        assert agent.over is not None
        await centre.passes(30)
        assert centre.state() == "Ready"
    else:
        assert contact.open, "they wait on the line"
        assert customer.over is None
        assert contact.state.value == "waiting"
        assert contact.routable


async def test_whose_page_comes_only_after_they_were_connected_is_told_by_it_then(tmp_path: Path) -> None:
    centre = await opened(Recording.ANNOUNCE, tmp_path)
    centre.calling_back.has_page = lambda contact_id: True
    await centre.agent()
    contact = await centre.asks()
    await centre.desk.ask_call_back(contact.id)
    await centre.settle()
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    await centre.calls_in(contact)
    assert contact.state.value == "connected"
    assert consents(centre, contact) == []
    assert centre.recordings.state(contact) == "asked"
    leave = centre.desk.listen(contact.id, lambda kind, what: None, by="customer")
    await centre.settle()
    assert consents(centre, contact)[0] == ("customer", True, "shown in the page")
    assert centre.recordings.state(contact) == "recording"
    await centre.recordings.allow(contact, False)
    leave()
    centre.desk.listen(contact.id, lambda kind, what: None, by="customer")
    await centre.settle()
    assert not centre.media.taps, "once said, it holds"


async def test_a_caller_who_hangs_up_in_the_notice_has_agreed_to_nothing(tmp_path: Path) -> None:
    centre = await opened(Recording.ANNOUNCE, tmp_path)
    contact, caller = await by_phone(centre)
    caller.hang_up()
    await centre.passes(10)
    assert not contact.open
    assert consents(centre, contact) == []
    assert len(centre.reception) == 0


@pytest.mark.parametrize(
    ("key", "given", "how", "said"),
    [
        ("1", True, "pressed 1", "recording-yes"),
        ("2", False, "pressed 2", "recording-no"),
        ("", False, "pressed nothing", "recording-no"),
    ],
)
async def test_a_telephone_caller_is_asked_and_no_key_means_no(
    tmp_path: Path, key: str, given: bool, how: str, said: str
) -> None:
    centre = await opened(Recording.ASK, tmp_path)
    await centre.agent()
    contact, _ = await by_phone(centre)
    centre.media.on_keys(contact.id, "customer-1", "7")  # means nothing here
    if key:
        centre.media.on_keys(contact.id, "customer-1", key)
    await received(centre)
    assert consents(centre, contact) == [("customer", given, how)]
    assert ("customer-1", said) in centre.media.played
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert len(centre.media.tapped) == given
    assert centre.recordings.state(contact) == ("recording" if given else "refused")


async def test_a_customer_of_the_app_is_asked_by_the_page_alone_and_may_say_yes_in_the_call(
    tmp_path: Path,
) -> None:
    centre = await opened(Recording.ASK, tmp_path)
    contact = await talking(centre)
    assert ("customer-1", "recording-ask") not in centre.media.played
    assert centre.recordings.view(contact) == {
        "mode": "ask", "state": "asked", "may_choose": True, "kept": False
    }  # fmt: skip
    assert not centre.media.tapped
    await centre.recordings.allow(contact, True)
    assert centre.recordings.state(contact) == "recording"
    assert len(centre.media.taps) == 1


async def test_a_no_holds_where_all_others_are_recorded(tmp_path: Path) -> None:
    centre = await Centre.open(
        folder=tmp_path,
        queues=[
            QueueSettings(DEFAULT, recording=Recording.ASK),
            QueueSettings("all", recording=Recording.ALWAYS),
        ],
    )
    await centre.agent()
    contact, _ = await by_phone(centre)
    centre.media.on_keys(contact.id, "customer-1", "2")
    await received(centre)
    centre.contacts.requeue(contact, "all")
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert contact.state.value == "connected"
    assert not centre.media.tapped
    assert centre.recordings.state(contact) == "refused"


async def test_who_has_only_stayed_has_not_said_yes_where_that_is_asked_for(tmp_path: Path) -> None:
    centre = await Centre.open(
        folder=tmp_path,
        queues=[
            QueueSettings(DEFAULT, recording=Recording.ANNOUNCE),
            QueueSettings("asks", recording=Recording.ASK),
        ],
    )
    await centre.agent()
    contact, _ = await by_phone(centre)
    await received(centre)
    assert consents(centre, contact) == [("customer", True, "stayed after the notice")]
    centre.contacts.requeue(contact, "asks")
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert centre.recordings.state(contact) == "asked"
    assert not centre.media.tapped
    await centre.recordings.told("agent-ana", contact.id, True)
    assert len(centre.media.taps) == 1


async def test_a_slow_database_keeps_nobody_from_the_queue_and_nothing_is_recorded_meanwhile(
    tmp_path: Path,
) -> None:
    centre = await opened(Recording.ANNOUNCE, tmp_path)
    await centre.agent()
    write, waiting = centre.house.events.write, list[asyncio.Future[None]]()

    def slow(kind: str, **facts: Any) -> asyncio.Future[None]:
        done = write(kind, **facts)
        if kind != "contact.recording_consent":
            return done
        waiting.append(asyncio.get_running_loop().create_future())
        return waiting[-1]

    centre.house.events.write = slow  # type: ignore[method-assign]
    contact, _ = await by_phone(centre)
    await received(centre)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert contact.state.value == "connected"
    assert not centre.media.tapped
    for each in waiting:
        each.set_result(None)
    await centre.settle()
    assert len(centre.media.tapped) == 1


async def test_who_stops_it_in_their_page_is_told_that_what_was_recorded_is_kept_and_may_agree_again(
    tmp_path: Path,
) -> None:
    centre = await opened(Recording.ASK, tmp_path)
    contact = await talking(centre)

    def shown() -> tuple[str, bool, bool]:
        view = centre.desk.view(contact)["recording"]
        return view["state"], view["kept"], view["may_choose"]

    await centre.recordings.allow(contact, False)
    assert shown() == ("refused", False, True)
    await centre.recordings.allow(contact, True)
    assert shown() == ("recording", False, True)
    await centre.recordings.allow(contact, False)
    assert shown() == ("refused", True, True)
    await centre.recordings.allow(contact, True)
    assert shown() == ("recording", True, True)
    assert len(centre.media.tapped) == 2


async def test_what_was_stopped_before_anything_was_in_it_is_not_said_to_be_kept(tmp_path: Path) -> None:
    centre = await opened(Recording.ASK, tmp_path)
    contact = await talking(centre)
    await centre.recordings.allow(contact, True)
    centre.media.recorded_s = 0.2
    await centre.recordings.allow(contact, False)
    assert await rows(centre) == []
    assert centre.desk.view(contact)["recording"]["kept"] is False


async def test_consent_is_taken_back_by_page_or_agent_and_the_recording_has_ended_by_then(
    tmp_path: Path,
) -> None:
    centre = await opened(Recording.ANNOUNCE, tmp_path)
    contact = await talking(centre)
    await centre.recordings.allow(contact, False)
    assert not centre.media.taps
    assert centre.recordings.state(contact) == "refused"
    assert await rows(centre) == [("agent-ana", "kept", 4.0)]
    await centre.recordings.told("agent-ana", contact.id, True)
    assert len(centre.media.taps) == 1
    await centre.recordings.told("agent-ana", contact.id, False)
    assert not centre.media.taps
    said = [each for each in consents(centre, contact) if each[0] == "customer"]
    assert said[1:] == [("customer", given, how) for given, how in (
        (False, "page"), (True, "told the agent"), (False, "told the agent"),
    )]  # fmt: skip


async def test_what_is_always_recorded_is_asked_of_nobody_and_says_so(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    assert centre.media.taps
    assert consents(centre, contact)[0] == ("customer", None, "not asked")
    with pytest.raises(TheirError) as refused:
        await centre.recordings.allow(contact, False)
    assert refused.value.status == 409
    assert centre.media.taps


async def test_nothing_is_recorded_before_the_word_and_the_row_are_stored(tmp_path: Path) -> None:
    centre = await opened(Recording.ASK, tmp_path)
    contact = await talking(centre)
    order: list[str] = []
    write = centre.house.database.write

    def slow_write(*statements: Any, **more: Any) -> Any:
        done = write(*statements, **more)
        done.add_done_callback(lambda _: order.append("stored"))
        return done

    centre.house.database.write = slow_write  # type: ignore[method-assign]
    tap = centre.media.tap

    async def told(*given: Any, **more: Any) -> None:
        order.append("tap")
        await tap(*given, **more)

    centre.media.tap = told  # type: ignore[method-assign]
    await centre.recordings.allow(contact, True)
    before = order.index("tap")
    assert order[:before].count("stored") >= 3  # the customer's word, the agent's, and the row


# What is recorded of whom


async def test_a_video_call_is_recorded_with_pictures_unless_it_is_set_otherwise(tmp_path: Path) -> None:
    for wanted in (True, False):
        centre = await opened(Recording.ALWAYS, tmp_path, recording_video=wanted)
        await talking(centre, "video")
        (tap,) = centre.media.tapped
        assert tap["video"] is wanted
        assert tap["path"].endswith(".mkv" if wanted else ".mka")
        (row,) = await centre.recording_store.latest(None, limit=5)
        assert row.kinds == ("audio,video" if wanted else "audio")


async def test_pictures_that_join_a_call_of_sound_are_kept_and_the_list_says_so_once_they_are_there(
    tmp_path: Path,
) -> None:
    """Where there is a file to look at; see tests/media/test_joining_pictures.py for what is in it."""
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    (tap,) = centre.media.tapped
    assert tap["video"]
    assert tap["path"].endswith(".mkv")
    (row,) = await centre.recording_store.latest(None, limit=5)
    assert row.kinds == "audio"
    write_pictures(Path(tap["path"]))
    centre.phone.rung[0].hang_up()
    await centre.settle()
    assert not contact.open
    (row,) = await centre.recording_store.latest(None, limit=5)
    assert (row.kinds, row.state) == ("audio,video", TapeState.KEPT)


def write_pictures(path: Path) -> None:
    track = matroska.Track(2, "V_VP8", b"", "left", width=160, height=120)
    path.write_bytes(matroska.head([track], 4000.0, 1000))


async def test_a_wav_that_pictures_join_goes_on_in_a_file_that_has_a_place_for_them(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    centre.recordings._wav = True
    contact = await talking(centre)
    centre.media.ends_tap(contact.id, "pictures")
    await centre.settle()
    assert centre.recordings.state(contact) == "recording"
    assert [Path(tap["path"]).suffix for tap in centre.media.tapped] == [".wav", ".mkv"]
    assert all(tap["video"] for tap in centre.media.tapped)
    assert await rows(centre) == [("agent-ana", "kept", 4.0), ("agent-ana", "running", None)]
    assert [event.facts["kinds"] for event in centre.events("contact.recording_started")] == [
        "audio", "audio,video",
    ]  # fmt: skip
    assert [event.facts["why"] for event in centre.events("contact.recording_ended")] == ["pictures"]


async def test_the_recording_ends_with_the_call_and_is_complete(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    centre.phone.rung[0].hang_up()
    await centre.settle()
    assert not contact.open
    assert await rows(centre) == [("agent-ana", "kept", 4.0)]
    assert centre.kinds(contact)[-1] == "recording_ended"
    assert len(centre.recordings) == 0
    assert not centre.recordings._watches


async def test_on_hold_there_is_silence(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    await centre.actions.hold("agent-ana", contact.id)
    await centre.settle()
    assert centre.media.taps[contact.id]["paused"]
    assert centre.recordings.state(contact) == "silent"
    await centre.actions.unhold("agent-ana", contact.id)
    await centre.settle()
    assert centre.media.taps[contact.id]["pauses"] == [True, False]


async def test_on_hold_by_the_phones_own_key_there_is_silence_too(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    phone = centre.phone.rung[0]
    for direction, silent in ((b"sendonly", True), (b"inactive", True), (b"sendrecv", False)):
        phone.tell(sip.Reoffered(b"v=0\r\nm=audio 4000 RTP/AVP 0\r\na=%s\r\n" % direction))
        await centre.settle()
        assert centre.media.taps[contact.id]["paused"] is silent
        assert centre.recordings.state(contact) == ("silent" if silent else "recording")
    assert centre.media.taps[contact.id]["pauses"] == [True, False]
    assert [kind for kind in centre.kinds(contact) if kind.startswith("phone_")] == [
        "phone_held",
        "phone_unheld",
    ]


async def test_what_an_agent_says_to_a_colleague_is_silence_and_the_colleague_has_a_recording_of_their_own(
    tmp_path: Path,
) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    await centre.agent("ben")
    await centre.actions.consult("agent-ana", contact.id, "agent:agent-ben")
    await centre.settle()
    assert centre.media.taps[contact.id]["paused"]
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    assert centre.media.taps[contact.id]["paused"]
    await centre.actions.complete("agent-ana", contact.id)
    await centre.settle()
    assert [row[:2] for row in await rows(centre)] == [("agent-ana", "kept"), ("agent-ben", "running")]
    assert centre.media.taps[contact.id]["paused"] is False
    assert [party for party, _, _ in consents(centre, contact)] == ["customer", "agent", "agent"]


async def test_a_transfer_that_nobody_takes_goes_on_in_the_same_recording(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    await centre.agent("ben")
    await centre.actions.transfer("agent-ana", contact.id, "agent:agent-ben")
    await centre.settle()
    assert centre.media.taps[contact.id]["paused"]
    centre.phone.rung[-1].refuse(603)
    await centre.settle()
    assert centre.media.taps[contact.id]["pauses"] == [True, False]
    assert len(centre.media.tapped) == 1


async def test_a_page_that_was_loaded_again_is_recorded_on_from_there(tmp_path: Path) -> None:
    centre = await opened(Recording.ANNOUNCE, tmp_path)
    contact = await talking(centre)
    await centre.calls_in(contact)
    await centre.settle()
    assert [tap["left"] for tap in centre.media.tapped] == ["customer-1", "customer-2"]
    assert [row[1] for row in await rows(centre)] == ["kept", "running"]


async def test_a_chat_is_never_asked_about(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await centre.asks(channel="chat", text="hello")
    assert centre.recordings.view(contact) is None


# Pauses


async def test_when_pause_returns_the_file_is_silent_and_it_goes_on_by_itself(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    await centre.recordings.pause("agent-ana", contact.id)
    assert centre.media.taps[contact.id]["paused"]
    assert centre.recordings.state(contact) == "paused"
    await centre.passes(299)
    assert centre.media.taps[contact.id]["paused"]
    await centre.passes(2)
    assert not centre.media.taps[contact.id]["paused"]
    (resumed,) = centre.events("contact.recording_resumed")
    assert resumed.facts["why"] == "timer"


async def test_who_presses_pause_twice_hears_of_it_when_the_file_is_silent(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    first = asyncio.ensure_future(centre.recordings.pause("agent-ana", contact.id))
    await asyncio.sleep(0)
    await centre.recordings.pause("agent-ana", contact.id)
    assert centre.media.taps[contact.id]["paused"]
    await first
    assert len(centre.events("contact.recording_paused")) == 1


async def test_a_pause_outlasts_a_hold_and_ends_by_the_agents_word(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    await centre.recordings.pause("agent-ana", contact.id)
    await centre.actions.hold("agent-ana", contact.id)
    await centre.actions.unhold("agent-ana", contact.id)
    await centre.settle()
    assert centre.media.taps[contact.id]["pauses"] == [True]
    await centre.recordings.unpause("agent-ana", contact.id)
    assert centre.media.taps[contact.id]["pauses"] == [True, False]
    await centre.passes(400)
    assert centre.media.taps[contact.id]["pauses"] == [True, False]


async def test_a_page_loaded_again_in_a_pause_is_not_recorded_before_the_agent_says_so(
    tmp_path: Path,
) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    await centre.recordings.pause("agent-ana", contact.id)
    await centre.calls_in(contact)
    await centre.settle()
    assert not centre.media.taps
    assert centre.recordings.state(contact) == "paused"
    await centre.recordings.unpause("agent-ana", contact.id)
    assert centre.media.taps[contact.id]["left"] == "customer-2"


async def test_who_objects_in_a_pause_is_not_recorded_and_is_told_so(tmp_path: Path) -> None:
    centre = await opened(Recording.ANNOUNCE, tmp_path)
    contact = await talking(centre)
    await centre.recordings.pause("agent-ana", contact.id)
    await centre.recordings.allow(contact, False)
    assert not centre.media.taps
    assert centre.recordings.state(contact) == "refused"
    await centre.recordings.allow(contact, True)
    assert centre.recordings.state(contact) == "recording"
    assert centre.media.taps[contact.id]["pauses"] == []


async def test_a_pause_that_cannot_be_made_sure_ends_the_recording_and_says_so(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)

    async def fails(call: str, paused: bool) -> bool:
        raise OurError("The media process is gone.", 503)

    centre.media.pause_tap = fails  # type: ignore[method-assign]
    with pytest.raises(OurError, match="ended instead"):
        await centre.recordings.pause("agent-ana", contact.id)
    assert not centre.media.taps
    assert centre.recordings.state(contact) == "failed"


async def test_only_the_agent_who_has_the_contact_pauses_it(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    for who, what in (("agent-ben", contact.id), ("agent-ana", "c_none")):
        with pytest.raises(TheirError) as refused:
            await centre.recordings.pause(who, what)
        assert refused.value.status == 404
    with pytest.raises(TheirError) as refused:
        await centre.recordings.unpause("agent-ana", contact.id)
    assert refused.value.status == 409


# What goes wrong


@pytest.mark.parametrize(
    ("why", "state", "seconds"),
    [("failed", "cut", 3.0), ("failed: the recording process was stuck", "cut", 3.0), ("limit", "kept", 4.0)],
)
async def test_one_that_ends_by_itself_is_kept_and_only_a_full_one_goes_on(
    tmp_path: Path, why: str, state: str, seconds: float
) -> None:
    """One that broke off is as long as its file: what was heard after that never got there."""
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    write_wav(Path(centre.media.taps[contact.id]["path"]), seconds=3)
    centre.media.ends_tap(contact.id, why)
    await centre.settle()
    found = await rows(centre)
    assert found[0] == ("agent-ana", state, seconds)
    assert len(found) == (2 if why == "limit" else 1)
    assert [event.facts["why"] for event in centre.events("contact.recording_ended")] == [why]
    assert contact.open


async def test_a_call_whose_recording_cannot_begin_goes_on_without(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)

    async def fails(*given: Any, **more: Any) -> None:
        raise OurError("there is no space left")

    centre.media.tap = fails  # type: ignore[method-assign]
    contact = await talking(centre)
    assert contact.open
    assert centre.recordings.state(contact) == "failed"
    assert await rows(centre) == []
    (failed,) = centre.events("contact.recording_failed")
    assert failed.facts["reason"] == "there is no space left"


async def test_before_the_server_stops_every_file_is_complete(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    await talking(centre)
    await centre.desk.drain()
    await centre.recordings.close(5.0)
    assert await rows(centre) == [("agent-ana", "kept", 4.0)]


async def test_when_the_media_process_dies_what_there_is_is_kept(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    write_wav(Path(centre.media.taps[contact.id]["path"]), seconds=2)

    async def gone(call: str) -> float:
        raise OurError("The media process is gone.", 503)

    centre.media.end_tap = gone  # type: ignore[method-assign]
    centre.calls.media_died()
    await centre.settle()
    assert await rows(centre) == [("agent-ana", "cut", 2.0)]


async def test_what_is_still_being_written_is_not_taken_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The media process has died, and the recording process is behind."""
    monkeypatch.setattr(recordings, "WRITTEN_S", 0.1)
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    path = Path(centre.media.taps[contact.id]["path"])
    paper = PlainWriter(path, WAVE_HEAD)
    again = await centre.again()
    assert await rows(again) == [("agent-ana", "cut", 0.0)]
    assert path.is_file()
    paper.abandon()


async def test_a_recording_without_a_sound_leaves_nothing(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    await talking(centre)
    centre.media.recorded_s = 0.1
    centre.phone.rung[0].hang_up()
    await centre.settle()
    assert await rows(centre) == []


async def test_what_a_dead_process_recorded_is_as_long_as_its_file(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    write_wav(Path(centre.media.taps[contact.id]["path"]), seconds=3)
    again = await centre.again()
    assert await rows(again) == [("agent-ana", "cut", 3.0)]
    assert [event.facts["why"] for event in again.events("contact.recording_ended")] == ["server died"]


async def test_a_file_that_cannot_be_read_after_a_crash_is_kept_all_the_same(tmp_path: Path) -> None:
    class Sealed(Centre):
        recording_keys = Keys((KEY,))

    centre = await Sealed.open(folder=tmp_path, queues=[QueueSettings(DEFAULT, recording=Recording.ALWAYS)])
    contact = await talking(centre)
    path = Path(centre.media.taps[contact.id]["path"])
    path.write_bytes(b"torn by a bad disk")
    again = await centre.again()
    again.recordings._keys = Keys((KEY,))
    await again.recordings.resume()
    assert await rows(again) == [("agent-ana", "cut", 0.0)]
    assert path.is_file()


async def test_a_folder_that_cannot_be_written_keeps_no_server_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    contact = await talking(centre)
    write_wav(Path(centre.media.taps[contact.id]["path"]), seconds=0)

    def fails(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", fails)
    again = await centre.again()
    assert await rows(again) == [("agent-ana", "running", None)]


async def test_what_a_dead_process_had_not_begun_leaves_nothing(tmp_path: Path) -> None:
    centre = await opened(Recording.ALWAYS, tmp_path)
    await talking(centre)
    assert await rows(await centre.again()) == []


async def test_a_word_said_before_a_crash_holds_after_it(tmp_path: Path) -> None:
    centre = await opened(Recording.ASK, tmp_path)
    contact = await centre.asks()
    await centre.recordings.allow(contact, True)
    again = await centre.again()
    left = again.contacts.get(contact.id)
    assert left is not None
    assert again.consents.given(left) is True


async def test_sealed_by_the_first_key(tmp_path: Path) -> None:
    class Sealed(Centre):
        recording_keys = Keys((KEY, bytes(32)))

    centre = await Sealed.open(folder=tmp_path, queues=[QueueSettings(DEFAULT, recording=Recording.ALWAYS)])
    await talking(centre)
    assert centre.media.tapped[0]["key"] == KEY
    (row,) = await centre.recording_store.latest(None, limit=5)
    assert row.sealed == key_name(KEY)
    assert row.state is TapeState.RUNNING
