"""What becomes of packets in a file: order, losses, sources that change; and a header that is never wrong."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from media.clip import Clip
from media.speech import Encoder
from media.voice_file import Spoken, VoiceFile
from tests.media.test_speech import tone
from tests.media.tone_phone import level

TICKS = {"pcmu": (8000, 160), "g722": (8000, 160), "opus": (48000, 960)}


def said(codec: str, frequency: float, seconds: float, *, start: int = 0, ssrc: int = 7) -> list[Spoken]:
    clock, ticks = TICKS[codec]
    rate = 8000 if codec == "pcmu" else 16000
    encoder, size = Encoder(codec, rate), rate // 50
    samples = tone(frequency, rate, seconds)
    frames = [encoder.encode(samples[at : at + size]) for at in range(0, len(samples), size)]
    return [
        Spoken(codec, clock, ssrc, (start + number * ticks) & 0xFFFFFFFF, frame, 1.0 + number * 0.02)
        for number, frame in enumerate(frames)
        if frame
    ]


def opened(folder: Path, rate: int = 8000, most_s: float = 60) -> VoiceFile:
    file = VoiceFile(folder / "new" / "m.wav", rate, most_s)
    file.open()
    return file


def read(folder: Path) -> NDArray[numpy.int16]:
    path = folder / "new" / "m.wav"
    with wave.open(str(path), "rb") as file:
        assert path.stat().st_size == 44 + 2 * file.getnframes()
        return numpy.frombuffer(file.readframes(file.getnframes()), "<i2")


@pytest.mark.parametrize("codec", list(TICKS))
def test_a_tone_is_there_in_its_length_whatever_the_codec(tmp_path: Path, codec: str) -> None:
    rate = 8000 if codec == "pcmu" else 16000
    file = opened(tmp_path, rate)
    packets = said(codec, 620, 2.0, start=0xFFFF_FF00)
    for at in range(0, len(packets), 25):
        file.add(packets[at : at + 25], packets[min(at + 25, len(packets)) - 1].at)
    file.close(4.0)
    sound = read(tmp_path)
    assert len(sound) == pytest.approx(2 * rate, abs=rate // 25)
    assert file.seconds == len(sound) / rate
    assert level(sound[rate // 2 :], rate, 620) == pytest.approx(8000, rel=0.05)


def test_the_file_is_right_at_every_moment(tmp_path: Path) -> None:
    file = opened(tmp_path)
    assert len(read(tmp_path)) == 0
    packets = said("pcmu", 620, 1.0)
    for number, packet in enumerate(packets):
        file.add([packet], packet.at + 0.1)
        assert len(read(tmp_path)) == (number + 1) * 160


def test_what_is_lost_is_silence_of_the_right_length(tmp_path: Path) -> None:
    file = opened(tmp_path)
    packets = said("pcmu", 620, 1.0)
    file.add(packets[:20] + packets[25:], 3.0)
    file.close(3.0)
    sound = read(tmp_path)
    assert len(sound) == 8000
    assert not sound[3200:4000].any()
    assert numpy.abs(sound[4000:]).max() > 7000


def test_what_overtook_is_put_back_in_its_place_across_two_flushes_too(tmp_path: Path) -> None:
    file = opened(tmp_path)
    packets = said("pcmu", 620, 1.0)
    packets[24], packets[25] = (
        packets[25]._replace(at=packets[24].at),
        packets[24]._replace(at=packets[25].at),
    )
    packets[4], packets[6] = packets[6], packets[4]
    file.add(packets[:25], packets[24].at)
    file.add(packets[25:] + packets[30:31], 3.0)
    file.close(3.0)
    reference = opened(tmp_path / "straight")
    reference.add(said("pcmu", 620, 1.0), 3.0)
    reference.close(3.0)
    assert (read(tmp_path) == read(tmp_path / "straight")).all()


def test_a_pause_in_which_nothing_is_sent_keeps_its_length(tmp_path: Path) -> None:
    file = opened(tmp_path)
    first = said("pcmu", 620, 0.5)
    later = [p._replace(at=p.at + 3.0, timestamp=p.timestamp + 24000) for p in first]
    file.add(first, 2.0)
    file.add(later, 6.0)
    file.close(6.0)
    assert len(read(tmp_path)) == 8000 * 3.5


def test_a_source_that_begins_anew_is_placed_by_the_time_it_came(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.add(said("pcmu", 620, 0.5), 2.0)
    file.add([p._replace(at=p.at + 1.0) for p in said("pcmu", 620, 0.5, start=0x7777_0000, ssrc=8)], 4.0)
    file.add([p._replace(at=p.at + 2.0) for p in said("pcmu", 620, 0.5, start=0x1111_0000, ssrc=8)], 5.0)
    file.close(6.0)
    sound = read(tmp_path)
    assert len(sound) == pytest.approx(2.5 * 8000, abs=320)
    for start in (0, 8000, 16000):
        assert level(sound[start : start + 3600], 8000, 620) > 7000


def test_a_peer_that_changes_its_codec_is_recorded_on(tmp_path: Path) -> None:
    file = opened(tmp_path, 16000)
    file.add(said("opus", 620, 0.5), 2.0)
    file.add([p._replace(at=p.at + 0.5) for p in said("pcmu", 880, 0.5, start=5555)], 4.0)
    file.close(6.0)
    sound = read(tmp_path)
    assert level(sound[1600:7600], 16000, 620) > 7000
    assert level(sound[9600:15600], 16000, 880) > 7000


def test_nobody_can_make_it_longer_than_it_may_be(tmp_path: Path) -> None:
    file = opened(tmp_path, most_s=1.0)
    file.add([p._replace(at=1.0) for p in said("pcmu", 620, 5.0)], 3.0)
    assert file.full
    file.close(3.0)
    assert file.seconds == 1.0
    assert len(read(tmp_path)) == 8000


def test_a_voice_is_told_from_a_quiet_room(tmp_path: Path) -> None:
    file = opened(tmp_path)
    assert file.add(said("pcmu", 300, 0.5), 3.0)
    noise = numpy.random.default_rng(1).normal(0, 60, 4000).astype(numpy.int16)
    encoder = Encoder("pcmu", 8000)
    quiet = [
        Spoken("pcmu", 8000, 7, 4000 + at, encoder.encode(noise[at : at + 160]), 1.5 + at / 8000)
        for at in range(0, 4000, 160)
    ]
    assert not file.add(quiet, 4.0)
    assert not file.add((), 5.0)


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    opened(tmp_path).close(1.0)
    with pytest.raises(FileExistsError):
        opened(tmp_path)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFFFFFF), st.sampled_from((1, 2)), st.binary(max_size=40), st.floats(0, 5)
        ),
        max_size=40,
    )
)
def test_whatever_comes_the_file_is_no_longer_than_it_took(
    tmp_path_factory: pytest.TempPathFactory, arrivals: list[tuple[int, int, bytes, float]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    file = opened(folder)
    packets = sorted(
        (Spoken("pcmu", 8000, ssrc, stamp, payload, at) for stamp, ssrc, payload, at in arrivals),
        key=lambda spoken: spoken.at,
    )
    file.add(packets[:20], 2.5)
    file.add(packets[20:], 5.0)
    file.close(6.0)
    # A timestamp may be ahead of the time by a second, each time a source changes.
    assert len(read(folder)) / 8000 <= 5.0 + 1.1 * len(arrivals)


def test_a_recording_is_played_in_whole_frames_and_never_empty(tmp_path: Path) -> None:
    opened(tmp_path).close(1.0)
    assert len(Clip.read(tmp_path / "new" / "m.wav").frames("pcmu").frames) == 1
    clip = Clip(tone(440, 8000, 0.05), 8000)
    assert clip.seconds == pytest.approx(0.06)
    frames = clip.frames("PCMU")
    assert [len(frame) for frame in frames.frames] == [160] * 3
    assert frames.ticks == 160
