"""Recordings that were made: who hears them, and when they are gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config.errors import OurError, TheirError
from config.recording_settings import Keys, Retention
from media.recorded import seconds_of
from pbx.recording_archive import SWEEP_S, RecordingArchive
from pbx.recording_store import Recording, TapeState
from pbx.store import voicemail_table
from tests.pbx.centre import Centre, _at_once
from tests.pbx.recorded import hire, opened, recorded, talking

DAY = 86400.0


async def state_of(centre: Centre, recording: Recording) -> TapeState:
    found = await centre.recording_store.one(recording.id)
    assert found is not None
    return found.state


def file_of(centre: Centre, recording: Recording) -> Path:
    assert centre.folder is not None
    return centre.folder / recording.file


async def test_supervisors_hear_those_of_their_providers_and_nobody_else_does(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    recording = await recorded(centre)
    for name, providers, supervisor, hears in (
        ("carla", (), True, True),
        ("tom", ("thermea",), True, True),
        ("lena", ("lumio",), True, False),
        ("ben", ("thermea",), False, False),
    ):
        who = await hire(centre, name, *providers, supervisor=supervisor)
        if hears:
            assert [each.id for each in await centre.archive.list(who)] == [recording.id]
            (await centre.archive.play(who, recording.id, "192.0.2.9")).sound.close()
            continue
        with pytest.raises(TheirError) as refused:
            await centre.archive.play(who, recording.id, "192.0.2.9")
        assert refused.value.status == 404
        with pytest.raises(TheirError) as nothing:
            await centre.archive.play(who, "r_none", "192.0.2.9")
        assert nothing.value.reason == refused.value.reason
        if supervisor:
            assert await centre.archive.list(who, recording.contact_id) == []


async def test_an_agent_hears_their_own_where_it_is_set_so(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    recording = await recorded(centre)
    archive = RecordingArchive(
        centre.recording_store, centre.house.events, centre.house.now,
        folder=tmp_path, keys=Keys(), retention=Retention(), for_agents=True, in_thread=_at_once,
    )  # fmt: skip
    ana, ben = centre.house.roster.agent("agent-ana"), await hire(centre, "ben", supervisor=False)
    assert ana is not None
    assert [each.id for each in await archive.list(ana)] == [recording.id]
    assert await archive.list(ben) == []
    with pytest.raises(TheirError):
        await centre.archive.list(ana)


async def test_an_agents_own_are_not_hidden_behind_those_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbx.recording_archive.MOST_SHOWN", 1)
    centre = await opened(tmp_path)
    recording = await recorded(centre)
    await centre.recording_store.add(replace(recording, id="r_later", agent_id="agent-ben"))
    archive = RecordingArchive(
        centre.recording_store, centre.house.events, centre.house.now,
        folder=tmp_path, keys=Keys(), retention=Retention(), for_agents=True, in_thread=_at_once,
    )  # fmt: skip
    ana = centre.house.roster.agent("agent-ana")
    assert ana is not None
    assert [each.id for each in await archive.list(ana)] == [recording.id]


async def test_each_playback_is_written_down_once_and_before_anything_is_heard(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    recording, carla = await recorded(centre), await hire(centre, "carla")
    for address in ("192.0.2.9", "192.0.2.9", "192.0.2.10"):
        (await centre.archive.play(carla, recording.id, address)).sound.close()
    centre.clock.advance(601)
    (await centre.archive.play(carla, recording.id, "192.0.2.9")).sound.close()
    told = [(event.agent, event.contact, event.facts) for event in centre.events("recording.played")]
    assert told == [
        ("agent-carla", recording.contact_id, {"recording": recording.id, "address": address})
        for address in ("192.0.2.9", "192.0.2.10", "192.0.2.9")
    ]


async def test_what_cannot_be_written_down_is_not_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    centre = await opened(tmp_path)
    recording, carla = await recorded(centre), await hire(centre, "carla")

    async def fails(*given: Any, **more: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(centre.house.events, "write", fails)
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            await centre.archive.play(carla, recording.id, "192.0.2.9")


async def test_what_runs_cannot_be_played_and_what_is_gone_is_said_to_be(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    carla = await hire(centre, "carla")
    recording = await recorded(centre)
    file_of(centre, recording).unlink()
    with pytest.raises(TheirError, match="not there any more"):
        await centre.archive.play(carla, recording.id, "192.0.2.9")
    contact = await talking(centre, "jonas")
    (running,) = await centre.archive.list(carla, contact.id)
    with pytest.raises(TheirError) as refused:
        await centre.archive.play(carla, running.id, "192.0.2.9")
    assert refused.value.status == 409


async def test_without_its_key_a_sealed_one_says_so(tmp_path: Path) -> None:
    class Sealed(Centre):
        recording_keys = Keys((bytes(range(32)),))

    centre = await Sealed.open(folder=tmp_path, queues=(await opened(tmp_path)).queues.values())
    carla, recording = await hire(centre, "carla"), await recorded(centre)
    centre.archive._keys = Keys()
    with pytest.raises(OurError, match="key"):
        await centre.archive.play(carla, recording.id, "192.0.2.9")


# Their day


async def test_on_its_day_a_recording_is_deleted_and_its_row_says_so(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    recording = await recorded(centre)
    assert recording.delete_after == pytest.approx(recording.started_at + 30 * DAY)
    centre.clock.advance(29 * DAY)
    assert await centre.archive.sweep() == 0
    assert file_of(centre, recording).is_file()
    centre.clock.advance(1.1 * DAY)
    assert await centre.archive.sweep() == 1
    assert not file_of(centre, recording).exists()
    assert await state_of(centre, recording) is TapeState.DELETED
    (told,) = centre.events("recording.deleted")
    assert told.facts == {"recording": recording.id, "by": "retention"}
    assert await centre.archive.sweep() == 0


async def test_what_is_held_outlives_its_day_until_it_is_let_go(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    recording, carla = await recorded(centre), await hire(centre, "carla")
    lena = await hire(centre, "lena", "lumio")
    with pytest.raises(TheirError):
        await centre.archive.hold(lena, recording.id, True)
    await centre.archive.hold(carla, recording.id, True)
    centre.clock.advance(100 * DAY)
    assert await centre.archive.sweep() == 0
    with pytest.raises(TheirError) as refused:
        await centre.archive.delete(recording.id, "root")
    assert refused.value.status == 409
    await centre.archive.hold(carla, recording.id, False)
    assert await centre.archive.sweep() == 1
    assert [event.kind for event in centre.house.told if event.kind.startswith("recording.")] == [
        "recording.held", "recording.released", "recording.deleted",
    ]  # fmt: skip


async def test_what_is_held_while_others_are_deleted_is_not_deleted_after_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    centre = await opened(tmp_path)
    recording, carla = await recorded(centre), await hire(centre, "carla")
    centre.clock.advance(31 * DAY)
    due = centre.recording_store.due

    async def looked_up(*given: Any, **more: Any) -> list[Recording]:
        found = await due(*given, **more)
        if found:
            await centre.archive.hold(carla, recording.id, True)
        return found

    monkeypatch.setattr(centre.recording_store, "due", looked_up)
    assert await centre.archive.sweep() == 0
    assert file_of(centre, recording).is_file()
    assert await state_of(centre, recording) is TapeState.KEPT
    assert centre.events("recording.deleted") == []


async def test_one_of_which_nobody_could_say_that_it_has_ended_is_deleted_on_its_day_too(
    tmp_path: Path,
) -> None:
    centre = await opened(tmp_path)
    contact = await talking(centre)
    (running,) = await centre.recording_store.latest(None, contact_id=contact.id, limit=5)
    file_of(centre, running).write_bytes(b"sealed by a key that was lost")
    centre.clock.advance(31 * DAY)
    assert await centre.archive.sweep() == 1
    assert not file_of(centre, running).exists()
    assert await state_of(centre, running) is TapeState.DELETED


async def test_one_that_cannot_be_deleted_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbx.recording_archive._AT_ONCE", 1)
    centre = await opened(tmp_path)
    stuck, other = await recorded(centre, "jonas"), await recorded(centre)
    file_of(centre, stuck).unlink()
    file_of(centre, stuck).mkdir()
    centre.clock.advance(31 * DAY)
    assert await centre.archive.sweep() == 1
    assert await state_of(centre, other) is TapeState.DELETED
    assert await state_of(centre, stuck) is TapeState.KEPT


async def test_messages_go_so_many_days_after_they_were_dealt_with(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    contact = await talking(centre)
    now = centre.house.now()
    rows = []
    for name, done_at in (("old", now - 40 * DAY), ("new", now - 10 * DAY), ("waits", None)):
        path = tmp_path / f"{name}.wav"
        path.write_bytes(b"RIFF")
        rows.append(
            {"id": name, "contact_id": contact.id, "provider_id": "thermea", "path": str(path),
             "left_at": now - 50 * DAY, "seconds": 4.0, "done_at": done_at}
        )  # fmt: skip
    await centre.house.database.write((voicemail_table.insert(), rows))
    assert await centre.archive.sweep() == 1
    assert sorted(path.name for path in tmp_path.glob("*.wav")) == ["new.wav", "waits.wav"]
    assert [event.facts["voicemail"] for event in centre.events("contact.voicemail_deleted")] == ["old"]
    assert await centre.archive.sweep() == 0


async def test_it_is_swept_every_day(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    recording = await recorded(centre)
    centre.archive.start(centre.clock)
    for _ in range(31):
        centre.clock.advance(SWEEP_S)
    await centre.settle()
    assert await state_of(centre, recording) is TapeState.DELETED
    centre.archive.stop()


async def test_an_export_is_the_recording_and_is_written_down(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    recording = await recorded(centre, seconds=3)
    size = await centre.archive.export(recording.id, tmp_path / "out.wav", "root")
    assert size == file_of(centre, recording).stat().st_size
    assert seconds_of(tmp_path / "out.wav", None) == 3.0
    assert (tmp_path / "out.wav").stat().st_mode & 0o077 == 0, "unsealed, it is for who exported it"
    with pytest.raises(FileExistsError):
        await centre.archive.export(recording.id, tmp_path / "out.wav", "root")
    assert len(centre.events("recording.exported")) == 2


async def test_a_deleted_one_cannot_be_played_exported_or_deleted_again(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    recording, carla = await recorded(centre), await hire(centre, "carla")
    await centre.archive.delete(recording.id, "root")
    assert not file_of(centre, recording).exists()
    for act in (
        centre.archive.play(carla, recording.id, "192.0.2.9"),
        centre.archive.export(recording.id, tmp_path / "out", "root"),
        centre.archive.delete(recording.id, "root"),
        centre.archive.hold(carla, recording.id, True),
    ):
        with pytest.raises(TheirError) as refused:
            await act
        assert refused.value.status == 404
    assert replace(recording, state=TapeState.DELETED).can_be_played is False
