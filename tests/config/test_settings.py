from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import settings as module
from config.settings import Settings, SettingsError, meanings
from config.trunk_settings import TrunkSettings


def faults(environ: dict[str, str], toml: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ, toml)
    return list(caught.value.faults)


def test_nothing_set_serves_this_machine_alone() -> None:
    settings = Settings.load({}, None)
    assert settings.host == settings.public_host == settings.domain == "127.0.0.1"
    assert settings.rtp_ports == (30000, 30999)
    assert settings.data == Path("var").absolute()
    assert settings.database_url == f"sqlite:///{Path('var').absolute()}/warmline.sqlite3"


def test_a_missing_file_is_no_fault(tmp_path: Path) -> None:
    assert Settings.load({}, tmp_path / "warmline.toml") == Settings.load({})


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "warmline.toml"
    file.write_text(
        'http_port = 8001\nsip_port = 5070\nrobot_agent = false\nrtp_ports = "31000-31099"\nring_s = 2.5\n'
    )
    settings = Settings.load({"WARMLINE_HTTP_PORT": "8002", "PATH": "/bin"}, file)
    assert (settings.http_port, settings.sip_port, settings.robot_agent) == (8002, 5070, False)
    assert (settings.rtp_ports, settings.ring_s) == ((31000, 31099), 2.5)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "warmline.toml"
    file.write_text('sip_prot = 5060\nhost = "not a host"\n')
    found = faults({"WARMLINE_HTTP_PORT": "x", "WARMLINE_RING_S": "-1", "WARMLINE_ROBOT": "on"}, file)
    assert len(found) == 5
    text = "\n".join(found)
    assert "sip_prot is no setting; did you mean sip_port?" in text
    assert "WARMLINE_ROBOT is no setting" in text
    assert "WARMLINE_HTTP_PORT: 'x' should be a whole number from 0 to 65535" in text


@pytest.mark.parametrize(
    ("environ", "part"),
    [
        ({"WARMLINE_HTTP_PORT": "5060"}, "both 5060"),
        ({"WARMLINE_HTTP_PORT": "0", "WARMLINE_HTTPS_PORT": "0"}, "nobody could reach"),
        ({"WARMLINE_SIP_PORT": "30500"}, "among the rtp_ports"),
        ({"WARMLINE_RTP_PORTS": "40000-30000"}, "at least four ports"),
        ({"WARMLINE_RTP_PORTS": "30000"}, "two ports"),
        ({"WARMLINE_CERTIFICATE": "/etc/hostname"}, "together or not at all"),
        (
            {"WARMLINE_CERTIFICATE": "/no/such.pem", "WARMLINE_PRIVATE_KEY": "/no/such.key"},
            "no file /no/such.key",
        ),
        ({"WARMLINE_DATABASE_URL": "mysql://root:secret@db/x"}, "sqlite:///path"),
        ({"WARMLINE_REDIS_URL": "localhost"}, "redis://"),
        ({"WARMLINE_MEDIA": "asterisk"}, "embedded or rtpengine"),
        ({"WARMLINE_RTPENGINE": "127.0.0.1"}, "host:port"),
        ({"WARMLINE_RTPENGINE": "127.0.0.1:70000"}, "host:port"),
        ({"WARMLINE_RTPENGINE_KEYS": "2224"}, "host:port"),
        ({"WARMLINE_RTPENGINE_KEYS": "127.0.0.1:30002"}, "among the rtp_ports"),
        ({"WARMLINE_ROBOT_AGENT": "maybe"}, "on or off"),
        ({"WARMLINE_PUBLIC_HOST": "0.0.0.0"}, "no address"),
        ({"WARMLINE_HOST": "1.2.3"}, "neither an address nor a name"),
        ({"WARMLINE_TRUNKS": "{"}, "not JSON"),
        ({"WARMLINE_TRUNKS": '[{"name": "a", "peers": ["x:99999"]}]'}, "address or address:port"),
        (
            {
                "WARMLINE_TRUNKS": '[{"name": "a", "peers": ["192.0.2.1"]}, {"name": "a", "peers": ["192.0.2.2"]}]'
            },
            "two trunks",
        ),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(environ: dict[str, str], part: str) -> None:
    found = faults(environ)
    assert any(part in fault for fault in found), found
    assert "secret" not in "".join(found)


def test_keys_of_rtpengine_are_listened_for_only_where_it_is_said() -> None:
    assert Settings.load({}).rtpengine_keys_address is None
    assert Settings.load({"WARMLINE_RTPENGINE_KEYS": " "}).rtpengine_keys_address is None
    told = Settings.load({"WARMLINE_RTPENGINE_KEYS": "[::1]:2224"})
    assert told.rtpengine_keys_address == ("::1", 2224)


def test_trunks_are_read_from_the_file_and_from_json(tmp_path: Path) -> None:
    file = tmp_path / "warmline.toml"
    file.write_text(
        '[[trunks]]\nname = "carrier"\npeers = ["192.0.2.8", "192.0.2.7:5080", "[2001:db8::1]:5060"]\n'
    )
    carrier = TrunkSettings("carrier", ("192.0.2.8", "192.0.2.7:5080", "[2001:db8::1]:5060"))
    assert Settings.load({}, file).trunks == (carrier,)
    pbx = {"name": "pbx", "peers": ["10.0.0.1"]}
    settings = Settings.load({"WARMLINE_TRUNKS": json.dumps([pbx])}, file)
    assert settings.trunks == (TrunkSettings("pbx", ("10.0.0.1",)),)


def test_a_trunk_is_known_by_an_address_and_never_by_a_name() -> None:
    by_name = [{"name": "carrier", "peers": ["sip.example.net"]}]
    with pytest.raises(SettingsError, match="should be address or address:port"):
        Settings.load({"WARMLINE_TRUNKS": json.dumps(by_name)})


def test_open_to_the_network_announces_the_address_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "own_address", lambda: "192.0.2.9")
    settings = Settings.load({"WARMLINE_HOST": "0.0.0.0"})
    assert (settings.host, settings.public_host, settings.domain) == ("0.0.0.0", "192.0.2.9", "192.0.2.9")


def test_an_unreadable_file_is_a_fault_not_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "warmline.toml"
    file.write_text("http_port = = 1")
    assert "cannot be read" in faults({}, file)[0]


def test_every_setting_has_a_meaning_and_is_read() -> None:
    assert set(meanings()) == {each.name for each in dataclasses.fields(Settings)} == set(module._READERS)
    assert all(meaning for _, meaning in meanings().values())


@given(st.sampled_from(sorted(module._READERS)), st.text())
def test_whatever_stands_in_a_variable_is_read_or_refused(name: str, value: str) -> None:
    # Anything but a SettingsError is a traceback at start.
    with contextlib.suppress(SettingsError):
        Settings.load({f"WARMLINE_{name.upper()}": value})


FULL = {
    "name": "carrier",
    "peers": ["192.0.2.8"],
    "dial": ["+49", "+1555"],
    "via": "sip.carrier.example;transport=tls",
    "username": "warmline",
    "password": "s3cret",
    "options_s": 30,
    "caller_id": "+15550100",
    "extensions": True,
}


def test_a_trunk_to_call_through_is_read_whole() -> None:
    (trunk,) = Settings.load({"WARMLINE_TRUNKS": json.dumps([FULL])}).trunks
    assert trunk == TrunkSettings(
        "carrier", ("192.0.2.8",), ("+49", "+1555"), "sip.carrier.example;transport=tls", "warmline", "s3cret", 30.0,
        "+15550100", True,
    )  # fmt: skip


REGISTERING = {
    "name": "carrier",
    "via": "carrier.example",
    "register": True,
    "username": "u",
    "password": "p",
}


def test_a_trunk_that_is_registered_with_needs_no_peers() -> None:
    extra = {"register_as": "sip:+4930123@carrier.example", "register_s": 3600}
    (trunk,) = Settings.load({"WARMLINE_TRUNKS": json.dumps([REGISTERING | extra])}).trunks
    assert (trunk.peers, trunk.register, trunk.register_as, trunk.register_s) == ((), True, *extra.values())
    assert trunk.shown()["register"] is True
    assert trunk.shown()["password"] == "***"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"register": "yes"}, "list of peers"),
        ({"register": False}, "list of peers"),
        ({"via": ""}, "list of peers"),
        ({"username": "", "password": ""}, "are needed"),
        ({"register_as": "+4930123"}, "an address as"),
        ({"register_as": "sip:a b@carrier.example"}, "an address as"),
        ({"register_as": "sip:u@car\nrier"}, "an address as"),
        ({"register_s": 59}, "60 at least"),
        ({"register_s": 90.5}, "60 at least"),
        ({"register_s": True}, "number of seconds"),
    ],
)
def test_what_is_wrong_with_a_registration_is_said(change: dict[str, object], part: str) -> None:
    with pytest.raises(SettingsError, match=part):
        Settings.load({"WARMLINE_TRUNKS": json.dumps([REGISTERING | change])})


def test_a_trunks_password_is_never_shown() -> None:
    (trunk,) = Settings.load({"WARMLINE_TRUNKS": json.dumps([FULL])}).trunks
    assert "s3cret" not in repr(trunk) + str(trunk.shown())
    assert trunk.shown()["username"] == "warmline"


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("dail", ["+49"], "unknown keys dail"),
        ("dial", "+49", "list of prefixes"),
        ("dial", ["0049"], "list of prefixes"),
        ("dial", ["+49", "!900"], "list of prefixes"),
        ("via", "host:0", "host:port;transport=tcp"),
        ("via", "host:5060;transport=sctp", "host:port;transport=tcp"),
        ("via", "[x]:5060", "host:port;transport=tcp"),
        ("via", "a b", "host:port;transport=tcp"),
        ("password", "", "together"),
        ("username", "", "together"),
        ("password", "s3cret\n", "printable"),
        ("password", ["s3cret"], "printable"),
        ("options_s", 1, "at least 5"),
        ("options_s", "often", "number of seconds"),
        ("caller_id", "0301234567", "+15550100"),
        ("extensions", "yes", "true or false"),
    ],
)
def test_a_wrong_trunk_says_what_is_wrong_and_no_secret(key: str, value: object, part: str) -> None:
    (fault,) = faults({"WARMLINE_TRUNKS": json.dumps([{**FULL, key: value}])})
    assert part in fault
    assert "s3cret" not in fault


def test_both_families_are_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "own_address", lambda: "192.0.2.9")
    monkeypatch.setattr(module, "own_address6", lambda: "2001:db8::9")
    both = Settings.load({"WARMLINE_HOST": "::"})
    assert (both.sip_hosts, both.anywhere) == (("0.0.0.0", "::"), True)
    assert (both.public_host, both.public_host6) == ("192.0.2.9", "2001:db8::9")
    assert (both.media_host, both.media_public_host) == ("::", "192.0.2.9,2001:db8::9")
    six = Settings.load({"WARMLINE_HOST": "::1"})
    assert (six.sip_hosts, six.public_host, six.media_host, six.media_public_host) == (
        ("::1",), "::1", "::1", "::1",
    )  # fmt: skip
    four = Settings.load({})
    assert (four.sip_hosts, four.media_host, four.public_host6) == (("127.0.0.1",), "127.0.0.1", "")


def test_an_ipv6_address_is_no_domain_and_has_brackets_where_a_port_follows() -> None:
    six = Settings.load({"WARMLINE_HOST": "::1"})
    assert (six.domain, six.url_host) == ("localhost", "[::1]")
    assert Settings.load({}).url_host == "127.0.0.1"
    assert "must be a name" in faults({"WARMLINE_DOMAIN": "::1"})[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("192.0.2.1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(FULL)), JSON))
def test_whatever_stands_in_a_trunk_is_read_or_refused(changes: dict[str, object]) -> None:
    with contextlib.suppress(SettingsError):
        Settings.load({"WARMLINE_TRUNKS": json.dumps([{**FULL, **changes}])})


def test_what_make_is_asked_for_is_no_fault_of_the_settings(tmp_path: Path) -> None:
    assert Settings.load({"WARMLINE_COMPILE": "1", "WARMLINE_DATA": str(tmp_path)}, None).data == tmp_path
