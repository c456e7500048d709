from __future__ import annotations

import os
from pathlib import Path

import numpy
import pytest
from numpy.typing import NDArray

from config.errors import OurError
from media import prompt_making
from media.prompts import FIRST, LARGEST_NUMBER, NAMES, TICKS, TONES, Prompts, encoded_path, pack, unpack
from media.speech import Decoder


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


def test_only_what_is_out_of_date_is_made_anew(tmp_path: Path) -> None:
    fill(tmp_path)
    prompt_making.write_wav(tmp_path / "beep.wav", prompt_making.tones(((1000.0, 0.3),)))
    later = (tmp_path / "beep.pcmu").stat().st_mtime + 10
    os.utime(tmp_path / "beep.wav", (later, later))
    before = (tmp_path / "music.pcmu").read_bytes()
    prompt_making.make(tmp_path)
    assert (tmp_path / "music.pcmu").read_bytes() == before
    prompts = Prompts(tmp_path)
    assert prompts.seconds("beep") == pytest.approx(0.3)
    heard = b"".join(prompts.frames("beep", "pcmu").frames)
    assert loudest(Decoder("pcmu", 8000).decode(heard), 8000) == pytest.approx(1000, abs=10)


def loudest(samples: NDArray[numpy.int16], rate: int) -> float:
    spectrum = numpy.abs(numpy.fft.rfft(samples * numpy.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))


@pytest.mark.parametrize("codec", list(TICKS))
def test_a_tone_is_the_same_tone_in_each_codec(codec: str) -> None:
    _, rate, _ = prompt_making.ENCODERS[codec]
    tone = prompt_making.tones(TONES["beep"])
    samples = (tone[:: prompt_making.RATE // rate] * 32767).astype(numpy.int16)
    decoder = Decoder(codec, 16000)
    heard = numpy.concatenate([decoder.decode(frame) for frame in prompt_making.encode(samples, codec)])
    assert len(heard) == pytest.approx(0.4 * 16000, abs=640)
    assert loudest(heard, 16000) == pytest.approx(440, abs=5)


def test_what_is_put_together_has_no_pause_between(tmp_path: Path) -> None:
    """Whichever voice there is: the chime that stands in for one has no pause either."""
    alone = prompt_making.speak("seven", tmp_path / "x.wav", prompt_making.LEAD_S)
    piece = prompt_making.speak("seven", tmp_path / "x.wav", prompt_making.PIECE_LEAD_S)
    assert len(alone) >= len(piece)
    quiet = numpy.abs(piece) < 0.01
    assert quiet[::-1].argmin() <= 0.06 * prompt_making.RATE
    assert quiet.argmin() <= 0.06 * prompt_making.RATE


def test_every_number_up_to_sixty_can_be_said() -> None:
    assert {f"number-{number}" for number in range(1, LARGEST_NUMBER + 1)} < set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


def test_a_prompt_is_read_with_its_length(tmp_path: Path) -> None:
    fill(tmp_path)
    prompts = Prompts(tmp_path)
    assert prompts.seconds("music") == 2.0
    assert prompts.frames("music", "OPUS").ticks == 960
    with pytest.raises(OurError, match="no prompt"):
        prompts.frames("../secret", "pcmu")


def test_only_what_a_caller_may_hear_at_once_is_waited_for_and_the_rest_is_made_when_wanted(
    tmp_path: Path,
) -> None:
    prompts = Prompts(tmp_path)
    prompts.make()
    assert {path.stem for path in prompts.missing()} == set(NAMES) - set(FIRST)
    assert prompts.is_made("music")
    assert not prompts.is_made("number-7")
    prompts.make(["beep", "number-7"])
    assert prompts.is_made("number-7")
    assert not prompts.is_made("number-8")
    assert list(tmp_path.glob("*.part")) == []
    with pytest.raises(OurError, match="no prompt"):
        prompts.is_made("number-61")
    prompts.close()
    prompts.make(["number-8"])
    assert not prompts.is_made("number-8"), "nothing is begun any more"


def test_prompts_that_cannot_be_made_say_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no folder")
    with pytest.raises(OurError, match=r"(?s)could not be made: .*File exists"):
        Prompts(tmp_path / "file").make(["beep"])
