from __future__ import annotations

import os
from pathlib import Path

import numpy
import pytest

from config.errors import OurError
from media import prompt_making
from media.prompts import NAMES, TICKS, Prompts, encoded_path, pack, unpack


def test_frames_are_packed_and_unpacked() -> None:
    assert unpack(pack([b"", b"ab", b"c" * 300])) == (b"", b"ab", b"c" * 300)
    assert unpack(pack([b"ab"])[:-1] + b"") == (b"a",)


def test_music_is_quiet_half_a_minute_long_and_ends_where_it_begins() -> None:
    music = prompt_making.music()
    assert len(music) == 30 * prompt_making.RATE
    assert numpy.abs(music).max() <= prompt_making.MUSIC_PEAK * 1.001
    assert abs(music[0] - music[-1]) < 0.01
    quietest = min(numpy.abs(part).max() for part in numpy.split(music, 60))
    assert quietest > 0.02, "whoever waits always hears something"


@pytest.mark.parametrize("codec", list(TICKS))
def test_each_codec_makes_a_frame_every_20_ms(codec: str) -> None:
    _, rate, size = prompt_making.ENCODERS[codec]
    tone = (8000 * numpy.sin(2 * numpy.pi * 440 * numpy.arange(rate) / rate)).astype(numpy.int16)
    frames = prompt_making.encode(tone, codec)
    assert 50 <= len(frames) <= 51
    if codec != "opus":
        assert {len(frame) for frame in frames} == {160}
    assert rate // size == 50


def test_without_a_voice_a_chime_is_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("media.prompt_making.shutil.which", lambda _: None)
    assert numpy.abs(prompt_making.speak("Hello", tmp_path / "x.wav")).max() > 0.1


def fill(folder: Path) -> None:
    for name in NAMES:
        (folder / f"{name}.wav").write_bytes(b"sound")
        for codec in TICKS:
            encoded_path(folder, name, codec).write_bytes(pack([b"x" * 160] * 100))


def test_only_what_is_older_than_its_sound_is_made_again(tmp_path: Path) -> None:
    fill(tmp_path)
    prompts = Prompts(tmp_path)
    assert prompts.missing() == []
    later = (tmp_path / "music.pcmu").stat().st_mtime + 10
    os.utime(tmp_path / "music.wav", (later, later))
    assert {path.name for path in prompts.missing()} == {f"music.{codec}" for codec in TICKS}


def test_a_prompt_is_read_with_its_length(tmp_path: Path) -> None:
    fill(tmp_path)
    prompts = Prompts(tmp_path)
    assert prompts.seconds("music") == 2.0
    assert prompts.frames("music", "OPUS").ticks == 960
    with pytest.raises(OurError, match="no prompt"):
        prompts.frames("../secret", "pcmu")
