"""Prompts that are made for one house: what callers of a number are asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from config.errors import OurError
from media.prompts import TICKS, Prompts
from media.spoken import make
from tests.scenarios.test_waiting import write_tone

NAME = "menu-0123456789abcdef"


def test_a_sound_file_becomes_a_prompt_in_every_codec(tmp_path: Path) -> None:
    source = tmp_path / "theirs.wav"
    write_tone(source, 700, 0.5)
    make(tmp_path, NAME, source=source)
    prompts = Prompts(tmp_path)
    assert prompts.is_made(NAME)
    assert prompts.seconds(NAME) == pytest.approx(0.5, abs=0.03)
    assert all(prompts.frames(NAME, codec).frames for codec in TICKS)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_a_text_is_spoken(tmp_path: Path) -> None:
    make(tmp_path, NAME, "For a bill, press 2.")
    assert 0.8 < Prompts(tmp_path).seconds(NAME) < 5


def test_one_that_is_older_than_its_sound_is_made_again(tmp_path: Path) -> None:
    source = tmp_path / "theirs.wav"
    write_tone(source, 700, 0.5)
    make(tmp_path, NAME, source=source)
    write_tone(tmp_path / f"{NAME}.wav", 700, 1.0)  # replaced by hand, as any prompt may be
    prompts = Prompts(tmp_path)
    prompts.make((NAME,))
    assert prompts.seconds(NAME) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("name", ["menu-../../etc/passwd", "menu-0123456789abcdef.wav", "menu-", "other"])
def test_no_other_name_is_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(OurError):
        Prompts(tmp_path).is_made(name)
