"""Files of two parties, as FFmpeg reads them: whole, cut off anywhere, with pictures that come when they come."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy
import pytest
from numpy.typing import NDArray

from media import matroska
from media.pictures import Picture
from media.recorded import content_type, is_written, kinds_of, seconds_of
from media.stereo_file import (
    PICTURES_HEAD,
    SOUND_HEAD,
    WAVE_HEAD,
    MatroskaFile,
    PlainWriter,
    WaveFile,
)
from tests.media.moving import RATE, SIZE, shown
from tests.media.test_pictures import taken
from tests.media.test_speech import tone
from tests.media.tone_phone import level

LEFT, RIGHT = 440, 880
STEP_S = 0.3
Shown = tuple[list[Picture], list[Picture]]


def written(path: Path, rate: int, seconds: float, pictures: Shown = ([], []), *, end: bool = True) -> Path:
    """Tones of so many seconds, and pictures at their times."""
    wave = path.suffix == ".wav"
    head = WAVE_HEAD if wave else PICTURES_HEAD if path.suffix == ".mkv" else SOUND_HEAD
    paper = PlainWriter(path, head)
    file = WaveFile(paper, rate) if wave else MatroskaFile(paper, rate, head)
    left, right = tone(LEFT, rate, seconds), tone(RIGHT, rate, seconds)
    size = round(STEP_S * rate)
    for at in range(0, len(left), size):
        begin, finish = at / rate * 90000, (at + size) / rate * 90000
        one, other = ([p for p in side if begin <= p.at < finish] for side in pictures)
        file.add(left[at : at + size], right[at : at + size], (one, other))
    if end:
        file.close()
    else:
        paper.abandon()
    return path


def heard(data: Any) -> tuple[NDArray[Any], int]:
    with av.open(data) as file:
        stream = file.streams.audio[0]
        resampler = av.AudioResampler("s16", "stereo", stream.rate)
        frames = [piece for frame in file.decode(stream) for piece in resampler.resample(frame)]
        return numpy.concatenate([frame.to_ndarray().reshape(-1, 2) for frame in frames]), stream.rate


def seen(path: Path, track: int) -> list[float]:
    with av.open(str(path)) as file:
        return [frame.time for frame in file.decode(video=track)]


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("name", ["x.wav", "x.mka"])
def test_each_tone_is_on_its_side_alone_and_in_its_time(tmp_path: Path, name: str, rate: int) -> None:
    path = written(tmp_path / "new" / name, rate, 4.1)
    sound, played = heard(str(path))
    assert len(sound) / played == pytest.approx(4.1, abs=0.12)
    assert seconds_of(path, None) == pytest.approx(4.1)
    for side, own, other in ((0, LEFT, RIGHT), (1, RIGHT, LEFT)):
        piece = sound[played // 2 : 4 * played, side]
        assert level(piece, played, own) == pytest.approx(8000, rel=0.1)
        assert level(piece, played, other) < 80
    if name == "x.wav":
        assert played == rate
        assert numpy.abs(sound[: 2 * rate, 0].astype(int) - tone(LEFT, rate, 2.0)).max() == 0
    else:
        # The decoder drops what the encoder needed to begin.
        begin = sound[: played // 10, 0].astype(float)
        wanted = tone(LEFT, played, 0.1).astype(float)
        assert numpy.corrcoef(begin, wanted)[0, 1] > 0.9


@pytest.mark.parametrize("name", ["x.wav", "x.mka"])
def test_cut_off_anywhere_it_is_played_up_to_there(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, 8000, 3.0, end=False)
    assert seconds_of(path, None) == pytest.approx(3.0)
    data = path.read_bytes()
    for part in (0.3, 0.5, 0.77, 1.0):
        sound, played = heard(io.BytesIO(data[: int(len(data) * part)]))
        assert len(sound) / played == pytest.approx(3.0 * part, abs=0.4)


def test_without_any_sound_it_is_a_file_all_the_same(tmp_path: Path) -> None:
    for name in ("x.wav", "x.mka", "x.mkv"):
        path = written(tmp_path / name, 8000, 0.0)
        assert seconds_of(path, None) == 0.0
        with av.open(str(path)) as file:
            assert len(file.streams.audio) == 1


@pytest.mark.parametrize(("left", "right"), [("vp8", "vp8"), ("h264", "vp8"), ("h264", "h264")])
def test_pictures_of_both_are_tracks_of_their_own(tmp_path: Path, left: str, right: str) -> None:
    pictures = taken(shown(left, 45)), taken(shown(right, 15, at=2.5, size=(320, 240)))
    path = written(tmp_path / "x.mkv", 16000, 4.0, pictures)
    with av.open(str(path)) as file:
        assert [stream.codec_context.name for stream in file.streams.video] == [left, right]
        assert [(s.width, s.height) for s in file.streams.video] == [SIZE, (320, 240)]
        assert [s.metadata.get("title") for s in file.streams.video] == ["left", "right"]
        assert file.duration == 4_000_000
    assert seen(path, 0) == pytest.approx([1 + n / RATE for n in range(45)], abs=0.002)
    assert seen(path, 1) == pytest.approx([2.5 + n / RATE for n in range(15)], abs=0.002)
    webm = left == right == "vp8"
    assert content_type(path, None) == ("video/webm" if webm else "video/x-matroska")
    assert kinds_of(path, None) == "audio,video"


def test_a_party_may_change_its_codec_and_come_again(tmp_path: Path) -> None:
    pictures = taken(
        [*shown("vp8", 15), *shown("h264", 15, at=2.0, ssrc=10), *shown("vp8", 15, at=3.0, ssrc=11)]
    )
    assert len(pictures) == 45
    path = written(tmp_path / "x.mkv", 8000, 4.5, (pictures, []))
    assert [len(seen(path, track)) for track in (0, 1)] == [30, 15]


def test_it_is_entered_in_its_middle(tmp_path: Path) -> None:
    pictures = taken(shown("vp8", 150, keys=(0, 50, 100)))
    path = written(tmp_path / "x.mkv", 8000, 12.0, (pictures, []))
    with av.open(str(path)) as file:
        file.seek(7_500_000)
        first = next(file.decode(video=0))
        assert first.time == pytest.approx(1 + 50 / RATE, abs=1.0) or first.time == pytest.approx(
            1 + 100 / RATE, abs=1.0
        )
    path = written(tmp_path / "x.mka", 8000, 20.0)
    with av.open(str(path)) as file:
        file.seek(15_000_000)
        assert next(file.decode(audio=0)).time == pytest.approx(15.0, abs=2.1)


def test_sound_in_which_the_name_of_a_codec_seems_to_stand_is_sound(tmp_path: Path) -> None:
    path = written(tmp_path / "x.mka", 8000, 1.0)
    data = bytearray(path.read_bytes())
    data[SOUND_HEAD + 40 : SOUND_HEAD + 42] = b"V_"
    path.write_bytes(data)
    assert content_type(path, None) == "audio/webm"
    assert kinds_of(path, None) == "audio"


def test_time_goes_on_in_a_track_whatever_a_clock_does(tmp_path: Path) -> None:
    pictures = taken(shown("vp8", 15))
    pictures = [picture._replace(at=90000 if n > 5 else picture.at) for n, picture in enumerate(pictures)]
    times = seen(written(tmp_path / "x.mkv", 8000, 3.0, (pictures, [])), 0)
    assert len(times) == 15
    assert times == sorted(set(times))


def test_parameter_sets_that_fit_nowhere_are_no_track(tmp_path: Path) -> None:
    pictures = [picture._replace(setup=bytes(5000)) for picture in taken(shown("h264", 3))]
    path = written(tmp_path / "x.mkv", 8000, 2.0, (pictures, []))
    with av.open(str(path)) as file:
        assert len(file.streams.video) == 0


def test_a_head_that_is_too_small_is_said() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        matroska.head([matroska.Track(1, "A_OPUS", bytes(500), "x")], 0.0, SOUND_HEAD)


def test_it_is_seen_that_a_file_is_written_till_it_is_closed(tmp_path: Path) -> None:
    paper = PlainWriter(tmp_path / "x.wav", WAVE_HEAD)
    assert not is_written(tmp_path / "x.wav", 0.0)
    paper.abandon()
    assert is_written(tmp_path / "x.wav", 0.0)
    with pytest.raises(FileNotFoundError):
        is_written(tmp_path / "y.wav", 0.0)


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"something")
    with pytest.raises(FileExistsError):
        PlainWriter(tmp_path / "x.wav", WAVE_HEAD)
    path = written(tmp_path / "y.wav", 8000, 1.0)
    assert path.stat().st_mode & 0o777 == 0o600
