from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Settings, SettingsError


def test_nobody_is_woken_unless_it_is_set() -> None:
    settings = Settings.load({})
    assert (settings.push_gateway_url, settings.push_gateway_token) == ("", "")
    assert settings.push_providers == ("apns", "apns.dev", "fcm")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://push.example.org/warmline?x=1",
        "https://[2001:db8::1]:8443/",
        "http://127.0.0.1:9000/push",
    ],
)
def test_where_pushes_may_be_posted(url: str) -> None:
    assert Settings.load({"WARMLINE_PUSH_GATEWAY_URL": url}).push_gateway_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://push.example.org/",
        "http://127.0.0.1.example.org/",
        "ftp://127.0.0.1/",
        "https://",
        "https://user:word@push.example.org/",
        "https://push.example.org:99999/",
        "https://push.example.org/#x",
        "https://päsh.example.org/",
        "https://[2001:db8::1/",
        "push.example.org",
    ],
)
def test_where_they_may_not(url: str) -> None:
    with pytest.raises(SettingsError, match="WARMLINE_PUSH_GATEWAY_URL"):
        Settings.load({"WARMLINE_PUSH_GATEWAY_URL": url})


def test_the_services_that_the_gateway_reaches(tmp_path: Path) -> None:
    assert Settings.load({"WARMLINE_PUSH_PROVIDERS": "acme, fcm"}).push_providers == ("acme", "fcm")
    file = tmp_path / "warmline.toml"
    file.write_text('push_providers = ["acme"]\n')
    assert Settings.load({}, file).push_providers == ("acme",)


@pytest.mark.parametrize("names", ['a"b', "a;b", "x" * 41])
def test_a_service_is_a_plain_word(names: str) -> None:
    with pytest.raises(SettingsError, match="no name of a push service"):
        Settings.load({"WARMLINE_PUSH_PROVIDERS": names})


def test_a_gateway_that_reaches_nothing_is_a_fault() -> None:
    with pytest.raises(SettingsError, match="names no service"):
        Settings.load(
            {"WARMLINE_PUSH_GATEWAY_URL": "https://push.example.org", "WARMLINE_PUSH_PROVIDERS": ""}
        )
