from __future__ import annotations

import pytest

from config.settings import Settings, SettingsError


def test_what_is_seen_by_whom_is_set_with_safe_defaults() -> None:
    settings = Settings.load({})
    assert (settings.guard_exempt, settings.metrics_token, settings.hep) == ("127.0.0.1, ::1", "", "")
    assert settings.hep_masked is True


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("guard_exempt", "", ""),
        ("guard_exempt", "10.0.0.0/8,2001:db8::/32  192.0.2.7", "10.0.0.0/8, 2001:db8::/32, 192.0.2.7"),
        ("hep", "homer.example.org:9060", "homer.example.org:9060"),
        ("hep", "[2001:db8::1]:9060", "[2001:db8::1]:9060"),
        ("hep_id", "4294967295", 4294967295),
        ("hep_masked", "off", False),
        ("metrics_token", "a b", "a b"),
    ],
)
def test_what_can_be_set(name: str, value: str, kept: object) -> None:
    assert getattr(Settings.load({f"WARMLINE_{name.upper()}": value}), name) == kept


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guard_exempt", "localhost"),
        ("guard_exempt", "192.0.2.7/40"),
        ("hep", "homer.example.org"),
        ("hep", "homer.example.org:0"),
        ("hep", "homer.example.org:9060;transport=tcp"),
        ("hep", ":9060"),
        ("hep_id", "-1"),
        ("hep_masked", "perhaps"),
        ("hep_password", "s3cret\n"),
    ],
)
def test_what_cannot_be_set_is_said_and_no_secret_with_it(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({f"WARMLINE_{name.upper()}": value})
    (fault,) = raised.value.faults
    assert f"WARMLINE_{name.upper()}" in fault
    assert "s3cret" not in fault
