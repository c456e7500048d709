"""Messages of callers: every way in which leaving one may end, what is kept of it, and who may hear it."""

from __future__ import annotations

import asyncio
import math
import wave
from array import array
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from config.errors import OurError, TheirError
from config.queue_settings import Overflow, QueueSettings
from pbx.contact import Contact, Disposition, State
from pbx.store import Voicemail
from pbx.voicemail import LIMIT_S, SILENCE_S, seconds_of
from tests.pbx.callers import by_phone, heard, hears, set_queue
from tests.pbx.centre import Caller, Centre


async def leaves(folder: Path, *, until: str = "recording") -> tuple[Centre, Contact, Caller]:
    """A caller who leaves a message; `until` "asked": they are being asked to speak still."""
    centre = await Centre.open(folder=folder)
    set_queue(centre, overflow=Overflow.VOICEMAIL)
    contact, caller = await by_phone(centre)
    assert centre.voicemails.take(contact)
    await centre.settle()
    if until == "recording":
        await centre.passes(6.5)
        assert (contact.id, "customer-1") in centre.media.recordings
    return centre, contact, caller


async def rows(centre: Centre) -> list[Voicemail]:
    return await centre.store._voicemails(sa.true())


def says(path: str, seconds: float, *, cut: int = 0) -> None:
    """What the media process has written: a tone of 440 Hz, cut off in the middle of a word."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        tone = (int(9000 * math.sin(2 * math.pi * 440 * n / 8000)) for n in range(int(seconds * 8000)))
        file.writeframes(array("h", tone).tobytes())
    if cut:
        with open(path, "r+b") as raw:
            raw.truncate(Path(path).stat().st_size - cut)


async def test_it_is_durable_that_a_message_is_left_before_anybody_is_asked_to_speak(tmp_path: Path) -> None:
    centre, contact, _ = await leaves(tmp_path, until="asked")
    assert hears(centre, contact) == ("voicemail-leave", "beep")
    (row,) = await rows(centre)
    assert (row.contact_id, row.provider_id, row.seconds) == (contact.id, "thermea", None)
    assert row.path == str(tmp_path / f"{row.id}.wav")
    assert centre.media.recordings == {}
    assert not contact.routable


async def test_after_the_tone_it_is_recorded_with_its_limits(tmp_path: Path) -> None:
    centre, contact, _ = await leaves(tmp_path)
    (row,) = await rows(centre)
    recording = centre.media.recordings[contact.id, "customer-1"]
    assert recording == {"path": row.path, "limit_s": LIMIT_S, "silence_s": SILENCE_S}


@pytest.mark.parametrize(("why", "kept"), [("limit", 4.0), ("key", 4.0), ("failed", 4.0)])
async def test_when_it_is_over_the_caller_is_thanked_and_hung_up_on(
    tmp_path: Path, why: str, kept: float
) -> None:
    centre, contact, caller = await leaves(tmp_path)
    centre.media.ends_recording(contact.id, "customer-1", why)
    await centre.settle()
    assert hears(centre, contact) == "voicemail-thanks"
    assert caller.over is None
    (row,) = await rows(centre)
    assert row.seconds == kept  # is durable before they are told that it has reached us
    await centre.passes(3.5)
    assert contact.disposition is Disposition.VOICEMAIL
    assert caller.log == ["BYE"]
    assert [event.facts["seconds"] for event in centre.events("contact.voicemail_left")] == [kept]
    assert len(centre.voicemails._leaving) == 0


async def test_the_silence_at_the_end_is_no_message(tmp_path: Path) -> None:
    centre, contact, _ = await leaves(tmp_path)
    centre.media.recorded_s = 16.0
    centre.media.ends_recording(contact.id, "customer-1", "silence")
    await centre.settle()
    (row,) = await rows(centre)
    assert row.seconds == 10.0


async def test_who_says_nothing_leaves_nothing(tmp_path: Path) -> None:
    centre, contact, caller = await leaves(tmp_path)
    (row,) = await rows(centre)
    says(row.path, 6.0)
    centre.media.recorded_s = 6.0
    centre.media.ends_recording(contact.id, "customer-1", "silence")
    await centre.passes(1.0)
    assert contact.disposition is Disposition.CUSTOMER_GAVE_UP
    assert caller.log == ["BYE"]
    assert await rows(centre) == []
    assert not Path(row.path).exists()
    assert "voicemail-thanks" not in heard(centre, contact)


async def test_the_hash_key_by_info_ends_it_too(tmp_path: Path) -> None:
    centre, contact, _ = await leaves(tmp_path)
    centre.menu.pressed(contact, "1")
    await centre.settle()
    assert centre.media.recordings
    centre.menu.pressed(contact, "#")
    await centre.settle()
    assert not centre.media.recordings
    assert hears(centre, contact) == "voicemail-thanks"


async def test_who_hangs_up_in_the_middle_has_left_what_they_said(tmp_path: Path) -> None:
    centre, contact, caller = await leaves(tmp_path)
    caller.hang_up()
    await centre.passes(1.0)
    assert contact.disposition is Disposition.VOICEMAIL
    (row,) = await rows(centre)
    assert row.seconds == 4.0
    assert "voicemail-thanks" not in heard(centre, contact)


async def test_who_hangs_up_before_they_said_anything_gave_up(tmp_path: Path) -> None:
    centre, contact, caller = await leaves(tmp_path)
    centre.media.recorded_s = 0.4
    caller.hang_up()
    await centre.passes(1.0)
    assert contact.disposition is Disposition.CUSTOMER_GAVE_UP
    assert await rows(centre) == []


async def test_who_hangs_up_while_they_are_asked_gave_up(tmp_path: Path) -> None:
    centre, contact, caller = await leaves(tmp_path, until="asked")
    caller.hang_up()
    await centre.passes(1.0)
    assert contact.disposition is Disposition.CUSTOMER_GAVE_UP
    assert await rows(centre) == []
    assert centre.media.recordings == {}


async def test_who_hangs_up_while_they_are_thanked_has_left_it(tmp_path: Path) -> None:
    centre, contact, caller = await leaves(tmp_path)
    centre.media.ends_recording(contact.id, "customer-1", "key")
    await centre.settle()
    caller.hang_up()
    await centre.settle()
    assert contact.disposition is Disposition.VOICEMAIL


async def test_where_the_media_process_says_nothing_the_file_is_asked(tmp_path: Path) -> None:
    centre, contact, caller = await leaves(tmp_path)
    (row,) = await rows(centre)
    says(row.path, 2.5)
    centre.media.recordings.clear()  # it will never tell
    caller.hang_up()
    await centre.passes(4.0)
    assert contact.open
    await centre.passes(2.0)
    assert contact.disposition is Disposition.VOICEMAIL
    (row,) = await rows(centre)
    assert row.seconds == 2.5


async def test_one_that_never_ends_is_ended(tmp_path: Path) -> None:
    centre, contact, caller = await leaves(tmp_path)
    (row,) = await rows(centre)
    says(row.path, 3.0)
    centre.media.recordings.clear()
    await centre.passes(LIMIT_S + 10.0)
    await centre.passes(5.0)  # they are thanked once it is stored, whenever that is
    assert contact.disposition is Disposition.VOICEMAIL
    assert caller.log == ["BYE"]


async def test_where_nothing_can_be_recorded_nobody_is_left_on_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    centre, contact, caller = await leaves(tmp_path, until="asked")

    async def fails(*_: object, **__: object) -> None:
        raise OurError("The disk is full.")

    monkeypatch.setattr(centre.media, "record", fails)
    await centre.passes(7.0)
    assert contact.disposition is Disposition.MEDIA_FAILED
    assert caller.log == ["BYE"]
    assert await rows(centre) == []


async def test_where_the_row_cannot_be_stored_nobody_is_asked_to_speak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    centre = await Centre.open(folder=tmp_path)
    contact, caller = await by_phone(centre)

    def fails(_: object) -> None:
        raise OurError("The database is gone.")

    monkeypatch.setattr(centre.store, "add_voicemail", fails)
    assert centre.voicemails.take(contact)
    await centre.settle()
    assert contact.disposition is Disposition.MEDIA_FAILED
    assert caller.log == ["BYE"]
    assert "voicemail-leave" not in heard(centre, contact)
    assert len(centre.voicemails._leaving) == 0


async def test_media_that_dies_in_the_middle_leaves_what_was_said(tmp_path: Path) -> None:
    centre, contact, _ = await leaves(tmp_path)
    (row,) = await rows(centre)
    says(row.path, 3.0)
    centre.media.recordings.clear()
    centre.calls.media_died()
    await centre.passes(6.0)
    assert contact.disposition is Disposition.MEDIA_FAILED
    (row,) = await rows(centre)
    assert row.seconds == 3.0


async def test_only_a_telephone_caller_who_waits_can_leave_one(tmp_path: Path) -> None:
    centre = await Centre.open(folder=tmp_path)
    app = await centre.asks()
    await centre.calls_in(app)
    assert not centre.voicemails.take(app)
    phone, _ = await by_phone(centre, "+15557654321")
    assert centre.voicemails.take(phone)
    assert not centre.voicemails.take(phone)
    await centre.desk.end(phone.id, "customer")
    assert not centre.voicemails.take(phone)


async def test_while_it_is_left_no_agent_is_asked(tmp_path: Path) -> None:
    centre, contact, _ = await leaves(tmp_path)
    await centre.agent()
    await centre.passes(30.0)
    assert centre.phone.rung == []
    assert contact.state is State.WAITING


async def test_who_has_waited_as_long_as_they_may_leaves_one(tmp_path: Path) -> None:
    centre = await Centre.open(
        folder=tmp_path, queues=[QueueSettings("default", max_wait_s=30.0, overflow=Overflow.VOICEMAIL)]
    )
    contact, _ = await by_phone(centre)
    app = await centre.asks("jonas")
    await centre.calls_in(app)
    await centre.passes(31.0)
    assert contact.id in centre.voicemails
    assert app.disposition is Disposition.NO_AGENT
    assert [event.facts["how"] for event in centre.events("contact.overflowed")] == ["voicemail"]
    await centre.passes(60.0)
    assert contact.open  # their limit has come, and they are leaving a message
    assert (contact.id, "customer-1") in centre.media.recordings


async def test_a_server_that_stops_in_the_middle_keeps_what_was_said(tmp_path: Path) -> None:
    centre, contact, _ = await leaves(tmp_path)
    await centre.desk.drain()
    await centre.settle()
    assert contact.disposition is Disposition.SERVER_STOPPED
    (row,) = await rows(centre)
    assert row.seconds == 4.0


async def test_where_too_many_were_left_nobody_is_asked_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbx.voicemail.MOST_TO_DO", 1)
    centre, contact, _ = await leaves(tmp_path)
    ana = await centre.house.hire()
    second, caller = await by_phone(centre, "+15557654321")
    assert not centre.voicemails.take(second)  # the first is still being left
    assert "voicemail-offer" not in centre.menu.offers(second)
    centre.media.ends_recording(contact.id, "customer-1", "key")
    await centre.passes(5.0)
    caller.hang_up()
    again = await centre.again()
    third, _ = await by_phone(again, "+15557654321")
    assert not again.voicemails.take(third)
    (row,) = await rows(again)
    await again.voicemails.done(ana, row.id)
    assert again.voicemails.take(third)


# After a crash


async def test_what_was_said_when_the_server_died_is_kept(tmp_path: Path) -> None:
    centre, contact, _ = await leaves(tmp_path)
    (row,) = await rows(centre)
    says(row.path, 5.0, cut=4001)  # the last bytes never reached the disk, the header promises them
    again = await centre.again()
    (row,) = await rows(again)
    assert row.seconds is not None
    assert 4.7 <= row.seconds <= 4.8
    stored = await again.store.contact(contact.id)
    assert stored is not None
    assert stored.disposition is Disposition.VOICEMAIL
    assert len(again.contacts) == 0


@pytest.mark.parametrize("seconds", [None, 0.4])
async def test_where_nothing_was_said_yet_the_server_cut_them_off(
    tmp_path: Path, seconds: float | None
) -> None:
    centre, contact, _ = await leaves(tmp_path)
    (row,) = await rows(centre)
    if seconds is not None:
        says(row.path, seconds)
    again = await centre.again()
    assert await rows(again) == []
    assert not Path(row.path).exists()
    stored = await again.store.contact(contact.id)
    assert stored is not None
    assert stored.disposition is Disposition.SERVER_DIED


async def test_a_server_that_dies_while_it_thanks_has_the_message(tmp_path: Path) -> None:
    centre, contact, _ = await leaves(tmp_path)
    centre.media.ends_recording(contact.id, "customer-1", "key")
    await centre.settle()
    assert contact.open
    again = await centre.again()
    stored = await again.store.contact(contact.id)
    assert stored is not None
    assert stored.disposition is Disposition.VOICEMAIL
    (row,) = await rows(again)
    assert row.seconds == 4.0
    assert again.events("contact.voicemail_left") == [], "it has been told already"


async def test_a_server_that_dies_before_it_tells_of_a_message_tells_of_it_at_the_next_start(
    tmp_path: Path,
) -> None:
    centre, contact, _ = await leaves(tmp_path)
    (row,) = await rows(centre)
    says(row.path, 3.0)
    await centre.store.voicemail_left(row.id, 3.0)
    again = await centre.again()
    (told,) = again.events("contact.voicemail_left")
    assert (told.contact, told.facts["seconds"]) == (contact.id, 3.0)


@pytest.mark.parametrize("garbage", [b"", b"RIFF", b"\0" * 100, b"RIFF" + b"\xff" * 200])
def test_a_file_that_is_no_recording_has_no_seconds(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(garbage)
    assert seconds_of(str(path)) == 0.0
    assert seconds_of(str(tmp_path / "none.wav")) == 0.0


# For agents


async def test_agents_find_what_was_left_for_their_providers_and_nothing_else(tmp_path: Path) -> None:
    centre, contact, _ = await leaves(tmp_path)
    (row,) = await rows(centre)
    says(row.path, 4.0)
    ana = await centre.agent()
    roster = centre.house.roster
    theirs = await roster.add_agent(
        "Cy", "cy", "hash", skills={}, provider_ids=("thermea",), agent_id="agent-cy"
    )
    others = await roster.add_agent(
        "Di", "di", "hash", skills={}, provider_ids=("lumio",), agent_id="agent-di"
    )
    assert await centre.voicemails.to_do(ana) == []  # it is being left
    with pytest.raises(TheirError):
        await centre.voicemails.audio(ana, row.id)
    centre.media.ends_recording(contact.id, "customer-1", "key")
    await centre.passes(5.0)
    for agent in (ana, theirs):
        (found,) = await centre.voicemails.to_do(agent)
        assert (found.id, found.seconds, found.product_name) == (row.id, 4.0, "Boiler 200")
        assert (found.customer_name, found.number) == ("Maria", "+15550100001")
        assert await centre.voicemails.audio(agent, row.id) == Path(row.path)
    assert await centre.voicemails.to_do(others) == []
    for denied in (centre.voicemails.audio, centre.voicemails.done):
        with pytest.raises(TheirError) as error:
            await denied(others, row.id)
        assert error.value.status == 404


async def test_heard_is_kept_once_and_done_takes_it_off_the_list(tmp_path: Path) -> None:
    centre, contact, _ = await leaves(tmp_path)
    (row,) = await rows(centre)
    says(row.path, 4.0)
    ana = await centre.agent()
    centre.media.ends_recording(contact.id, "customer-1", "key")
    await centre.passes(5.0)
    await centre.voicemails.audio(ana, row.id)
    first = (await rows(centre))[0].heard_at
    await centre.passes(5.0)
    await centre.voicemails.audio(ana, row.id)
    assert (await rows(centre))[0].heard_at == first
    await centre.voicemails.done(ana, row.id)
    await centre.voicemails.done(ana, row.id)
    assert await centre.voicemails.to_do(ana) == []
    (row,) = await rows(centre)
    assert row.done_by == ana.id
    assert len(centre.events("contact.voicemail_done")) == 1
    Path(row.path).unlink()
    with pytest.raises(TheirError):
        await centre.voicemails.audio(ana, row.id)


async def test_a_message_that_cannot_be_stored_takes_no_place_from_others(tmp_path: Path) -> None:
    centre = await Centre.open(folder=tmp_path)
    set_queue(centre, overflow=Overflow.VOICEMAIL)
    contact, _ = await by_phone(centre)

    def broken(voicemail: Voicemail) -> asyncio.Future[None]:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.set_exception(OurError("The disk is full."))
        return lost

    store: Any = centre.store
    store.add_voicemail = broken
    assert centre.voicemails.take(contact)
    await centre.settle()
    assert contact.disposition is Disposition.MEDIA_FAILED
    assert centre.voicemails._to_do["thermea"] == 0
