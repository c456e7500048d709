"""What is set about recordings: read as it is meant, refused with a reason, and no key is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.queue_settings import queues
from config.recording_settings import Keys, Recording, Retention, key_name, keys, retention
from config.settings import Settings, SettingsError

HEX = "ab" * 32


def test_days_are_everybodys_or_a_providers_own() -> None:
    read = retention("90, thermea=30, lumio=ever")
    assert (read.of("other"), read.of("thermea"), read.of("lumio")) == (90, 30, None)
    assert read.until("thermea", 1000.0) == 1000.0 + 30 * 86400
    assert read.until("lumio", 1000.0) is None
    assert retention(str(read)) == read
    assert retention({"days": 90, "thermea": 30, "lumio": "ever"}) == read
    assert retention("") == Retention()
    assert retention(7).of("any") == 7


@pytest.mark.parametrize(
    "raw", ["0", "-1", "many", "thermea=", "=5", "a=1, a=2", "99999999999", "3.5", "thermea=²"]
)
def test_days_that_mean_nothing_are_refused(raw: str) -> None:
    with pytest.raises(ValueError, match=r"should be|names"):
        retention(raw)


def test_a_key_is_hexadecimal_or_in_a_file(tmp_path: Path) -> None:
    for name, content in (("hex", f"{HEX}\n".encode()), ("raw", bytes.fromhex(HEX))):
        (tmp_path / name).write_bytes(content)
        assert keys(str(tmp_path / name)).first == bytes.fromhex(HEX)
    both = keys(f"{'cd' * 32}, {HEX}")
    assert both.first == bytes.fromhex("cd" * 32)
    assert both.by_name(key_name(bytes.fromhex(HEX))) == bytes.fromhex(HEX)
    assert both.by_name("other") is None
    assert keys("").first is None


@pytest.mark.parametrize("raw", ["ab" * 31, "no such file", "\x00", 5])
def test_a_key_that_is_none_is_refused_and_not_shown(raw: object) -> None:
    with pytest.raises(ValueError, match="should be") as refused:
        keys(raw)
    assert "abab" not in str(refused.value)


def test_a_file_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"ab" * 5)
    with pytest.raises(ValueError, match="neither"):
        keys(str(tmp_path / "short"))


def test_no_text_of_the_settings_holds_a_key() -> None:
    settings = Settings.load({"WARMLINE_RECORDING_KEY": HEX})
    assert settings.recording_key.first == bytes.fromhex(HEX)
    for text in (repr(settings), str(settings.recording_key), repr(Keys((bytes.fromhex(HEX),)))):
        assert "abab" not in text
        assert "\\xab" not in text


def test_a_queue_says_whether_its_calls_are_recorded() -> None:
    (queue,) = queues([{"name": "default", "recording": "ask", "recording_video": False}])
    assert (queue.recording, queue.recording_video) == (Recording.ASK, False)
    assert queue.shown() == {"name": "default", "recording": "ask", "recording_video": False}
    with pytest.raises(ValueError, match="one of off, announce, ask, always"):
        queues([{"name": "default", "recording": "yes"}])


def test_the_format_is_one_there_is() -> None:
    with pytest.raises(SettingsError, match="opus or wav"):
        Settings.load({"WARMLINE_RECORDING_FORMAT": "mp3"})
