"""The settings: from ``warmline.toml`` and ``WARMLINE_*`` variables (which win), checked at start, all at once."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from config import menu_settings, queue_settings, recording_settings, trunk_settings
from config import setting_values as value_of
from config.errors import OurError
from config.menu_settings import MenuSettings
from config.queue_settings import QueueSettings
from config.recording_settings import Keys, Retention
from config.trunk_settings import TrunkSettings

PREFIX = "WARMLINE_"
# Says where the file is, so it cannot stand in it.
FILE_VARIABLE = PREFIX + "CONFIG"
# Asks `make` for the compiled build, and is of no interest to what was built.
BUILD_VARIABLE = PREFIX + "COMPILE"

_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104


class SettingsError(OurError):
    """The settings are wrong; ``faults`` lists everything that is, one line each."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(faults))


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting. Its key in warmline.toml is its name; its variable is ``WARMLINE_`` and its name in capitals."""

    data: Path = _setting(Path("var"), "folder of the database, certificates, prompts and recordings")
    host: str = _setting(
        "127.0.0.1",
        "address listened on; 0.0.0.0 opens the server to the network, :: to IPv6 too",
    )
    public_host: str = _setting(
        "",
        "address or name that phones and browsers reach the server by; "
        "default: host, or this machine's address in its network where host is 0.0.0.0 or ::",
    )
    public_host6: str = _setting(
        "",
        "IPv6 address that phones with IPv6 reach the server by, where public_host is an IPv4 address; "
        "default: this machine's where host is ::",
    )
    domain: str = _setting("", "the SIP domain, the part after @ in SIP addresses; default: public_host")
    realm: str = _setting("warmline", "realm of SIP passwords; changing it makes every stored one useless")

    http_port: int = _setting(8080, "TCP port of plain HTTP; 0 = off")
    https_port: int = _setting(8443, "TCP port of HTTPS; 0 = off")
    sip_port: int = _setting(5060, "UDP and TCP port of SIP")
    sips_port: int = _setting(5061, "TCP port of SIP over TLS; 0 = off")
    rtp_ports: tuple[int, int] = _setting((30000, 30999), "first and last UDP port of media, as 30000-30999")
    media: str = _setting(
        "embedded",
        "who carries the packets of calls: embedded, a process of our own, or rtpengine, for many calls",
    )
    rtpengine: str = _setting(
        "127.0.0.1:2223", "host:port where rtpengine listens for NG; it must reach this server's rtp_ports"
    )
    rtpengine_keys: str = _setting(
        "",
        "host:port of this server, given to rtpengine as --dtmf-log-dest, so that keys pressed during calls that it "
        "carries alone are known; empty = they are not",
    )
    rtpengine_interfaces: str = _setting(
        "",
        "names of rtpengine's --interface for peers and for this server, as public, studio, where those are not the "
        "same address; empty = there is one for both",
    )

    database_url: str = _setting(
        "",
        "sqlite:///path or postgresql+asyncpg://user:password@host/name; default: warmline.sqlite3 in data",
    )
    redis_url: str = _setting(
        "", "redis://host:port/number, where several nodes serve together; empty = one node"
    )

    certificate: str = _setting(
        "", "path of a PEM certificate with its chain; empty = one of our own authority"
    )
    private_key: str = _setting("", "path of the certificate's PEM private key")
    trusted_authorities: str = _setting(
        "",
        "path of PEM certificates of the authorities that may vouch for trunks called by TLS and for the push gateway; "
        "empty = the system's",
    )

    sample_data: bool = _setting(
        True, "whether providers, customers and agents to try out, with known passwords, are added: on or off"
    )
    robot_agent: bool = _setting(True, "whether a phone that answers by itself is started along: on or off")

    ring_s: float = _setting(20.0, "seconds an agent's phone rings before the next agent is tried")
    unreachable_s: float = _setting(
        4.0, "seconds without any sign of life before a phone counts as unreachable"
    )
    wrap_up_s: float = _setting(10.0, "seconds an agent has after a contact before the next one")
    lease_s: float = _setting(60.0, "seconds an agent stays held by a node that has died")
    chat_idle_s: float = _setting(600.0, "seconds of silence that end a chat")
    call_back_again_s: float = _setting(
        120.0, "seconds till whoever did not answer a call back is called again"
    )
    chats_per_agent: int = _setting(2, "chats one agent can have at a time")
    media_silence_s: float = _setting(
        60.0,
        "seconds without a packet from a phone after which that is told, or its call ended if nothing passes the other "
        "way either, on hold excepted; 0 = never",
    )
    drain_s: float = _setting(10.0, "seconds that ending calls may take when the server stops")

    recording_key: Keys = _setting(  # noqa: RUF009 (a field, and Keys is frozen)
        Keys(),
        "64 hexadecimal digits, or the path of a file with them, that seal recordings; several after commas: the first "
        "one seals, all open; empty = not sealed",
    )
    recording_days: Retention = _setting(  # noqa: RUF009 (a field, and Retention is frozen)
        Retention(),
        "days that recordings, and messages that were dealt with, are kept, as 90, thermea=30, lumio=ever",
    )
    recording_format: str = _setting(
        "opus", "how calls without pictures are recorded: opus (small) or wav (for any player)"
    )
    recording_pause_s: float = _setting(
        300.0, "seconds after which a recording that an agent has paused goes on by itself; 0 = it does not"
    )
    recording_for_agents: bool = _setting(
        False, "whether agents, too, may listen to recordings of their own contacts: on or off"
    )

    supervision_announced: bool = _setting(
        False, "whether agents are told, too, when a supervisor only listens to their call: on or off"
    )

    push_gateway_url: str = _setting(
        "",
        "https address that is asked to wake an agent's sleeping softphone by a push (docs/operations.md); empty = "
        "nobody is woken",
    )
    push_gateway_token: str = _setting("", "what the push gateway is shown as Authorization: Bearer")
    push_providers: tuple[str, ...] = _setting(
        ("apns", "apns.dev", "fcm"), "push services (pn-provider) that the gateway reaches, as apns, fcm"
    )
    push_wait_s: float = _setting(8.0, "seconds a phone that was pushed may take to register again")

    guard_exempt: str = _setting(
        "127.0.0.1, ::1",
        "addresses and networks whose rates the guard does not limit; behind a proxy on this machine, empty",
    )
    metrics_token: str = _setting(
        "", "what /metrics asks for as Authorization: Bearer; empty = it answers this machine alone"
    )
    hep: str = _setting("", "host:port that gets a copy of every SIP message by HEP version 3; empty = off")
    hep_id: int = _setting(0, "our number at that capture server")
    hep_password: str = _setting("", "the capture server's password")
    hep_masked: bool = _setting(True, "whether secrets and texts are masked in those copies: on or off")

    trunks: tuple[TrunkSettings, ...] = _setting(
        (TrunkSettings("sample-carrier", ("127.0.0.1:5070",)),),
        "trunks whose calls are let in: [[trunks]] with name and peers, and to call out through one dial (prefixes as "
        "+49, with ! what may not be called as !+49900), via, "
        "username, password, options_s, caller_id; register = true registers with it (register_as: the "
        "address, where it is not the username's; register_s: for how long); extensions = true lets its callers dial "
        "agents' user names (as a variable: JSON)",
    )
    queues: tuple[QueueSettings, ...] = _setting(
        (),
        "queues that are not as the default one: [[queues]] with name, what is in it (provider, product, channel, "
        "number), strategy, priority_s, prefer_last_s, relax, max_wait_s, overflow, comfort_s, call_back, recording "
        "(off, announce, ask, always), recording_video, and what an offer that was declined, no_answer, busy, "
        "unreachable or asleep means: docs/routing.md (as a variable: JSON)",
    )

    menus: tuple[MenuSettings, ...] = _setting(
        (),
        "numbers whose callers are asked what it is about: [[menus]] with number, choices (key, say, product, skills), "
        "greeting, file (a sound in place of what is spoken), timeout_s, rounds, default (as a variable: JSON)",
    )

    @property
    def anywhere(self) -> bool:
        """Whether the server listens on every address of this machine."""
        return self.host in _ANYWHERE

    @property
    def here(self) -> str:
        """The address by which this machine itself reaches the server."""
        return "127.0.0.1" if self.anywhere else self.host

    @property
    def url_host(self) -> str:
        """public_host as it stands in a URL, and wherever a port follows it."""
        return f"[{self.public_host}]" if ":" in self.public_host else self.public_host

    @property
    def sip_hosts(self) -> tuple[str, ...]:
        """The addresses SIP listens on: both families each by a socket of its own, so that an IPv4 peer is one."""
        return ("0.0.0.0", "::") if self.host == "::" else (self.host,)  # noqa: S104

    @property
    def rtpengine_address(self) -> tuple[str, int]:
        host, _, port = self.rtpengine.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def rtpengine_keys_address(self) -> tuple[str, int] | None:
        host, _, port = self.rtpengine_keys.rpartition(":")
        return (host.strip("[]"), int(port)) if host else None

    @property
    def rtpengine_interface_names(self) -> tuple[str, str] | None:
        """For peers, and for this server."""
        peers, comma, studio = self.rtpengine_interfaces.partition(",")
        return (peers.strip(), studio.strip()) if comma else None

    @property
    def media_host(self) -> str:
        """The address media listens on; :: is both families by one socket."""
        return self.host

    @property
    def media_public_host(self) -> str:
        """The address media is sent to; after a comma that of the other family, where both are listened on."""
        if self.host != "::":
            return self.public_host
        if ":" in self.public_host:
            return f"{own_address()},{self.public_host}"
        return f"{self.public_host},{self.public_host6}" if self.public_host6 else self.public_host

    @classmethod
    def load(cls, environ: Mapping[str, str], toml_path: Path | None = None) -> Settings:
        """Read the file (which may be missing) and then the variables; SettingsError tells every fault at once."""
        faults: list[str] = []
        values: dict[str, Any] = {}
        for source, name, raw in _given(environ, toml_path, faults):
            try:
                values[name] = _READERS[name](raw)
            except ValueError as error:
                faults.append(f"{source}: {error}")
        settings = dataclasses.replace(cls(), **values)
        faults += _contradictions(settings)
        if faults:
            raise SettingsError(faults)
        return settings._completed()

    def _completed(self) -> Settings:
        public_host = self.public_host or (own_address() if self.host in _ANYWHERE else self.host)
        return dataclasses.replace(
            self,
            data=self.data.absolute(),
            public_host=public_host,
            public_host6=self.public_host6 or (own_address6() if self.host == "::" else ""),
            # sip:ana@[::1] is a domain few phones can be told.
            domain=self.domain or ("localhost" if ":" in public_host else public_host),
            database_url=self.database_url or f"sqlite:///{self.data.absolute() / 'warmline.sqlite3'}",
        )


def meanings() -> dict[str, tuple[Any, str]]:
    """Every setting's default and meaning (with its unit), in order: for help texts."""
    return {each.name: (each.default, each.metadata["meaning"]) for each in dataclasses.fields(Settings)}


def own_address() -> str:
    """This machine's address in its network, or 127.0.0.1. Nothing is sent: the kernel is asked for a route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: an address that is nobody's
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def own_address6() -> str:
    """This machine's IPv6 address in its network, or ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(("2001:db8::1", 9))  # RFC 3849: an address that is nobody's
            return str(probe.getsockname()[0])
    except OSError:
        return "::1"


def _given(
    environ: Mapping[str, str], toml_path: Path | None, faults: list[str]
) -> list[tuple[str, str, Any]]:
    """What was set, the file first: (where from, name, value as it stands there)."""
    given: list[tuple[str, str, Any]] = []
    for key, raw in _file(toml_path, faults).items():
        if key in _READERS:
            given.append((f"{toml_path}: {key}", key, raw))
        else:
            faults.append(f"{toml_path}: {key} is no setting{_perhaps(key, list(_READERS))}")
    for variable, raw in environ.items():
        if not variable.startswith(PREFIX) or variable in (FILE_VARIABLE, BUILD_VARIABLE):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in _READERS:
            given.append((variable, name, raw))
        else:
            known = [PREFIX + each.upper() for each in _READERS]
            faults.append(f"{variable} is no setting{_perhaps(variable, known)}")
    return given


def _file(path: Path | None, faults: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        faults.append(f"{path}: cannot be read: {error}")
        return {}


def _perhaps(wrong: str, known: list[str]) -> str:
    near = difflib.get_close_matches(wrong, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _host6(raw: Any) -> str:
    text = value_of.text(raw)
    try:
        return str(ipaddress.IPv6Address(text)) if text else ""
    except ValueError:
        raise ValueError(f"{text!r} is no IPv6 address") from None


def _realm(raw: Any) -> str:
    text = value_of.text(raw)
    if not text or not text.isprintable() or '"' in text or "\\" in text:
        raise ValueError(f"{text!r} cannot be a realm: it must be printable text without quotes")
    return text


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(raw: Any) -> int:
        text = str(raw).strip()
        if isinstance(raw, bool) or not re.fullmatch(r"[0-9]+", text) or not low <= int(text) <= high:
            raise ValueError(f"{raw!r} should be a whole number from {low} to {high}")
        return int(text)

    return read


def _switch(raw: Any) -> bool:
    match str(raw).strip().lower():
        case "on" | "true" | "yes" | "1":
            return True
        case "off" | "false" | "no" | "0":
            return False
    raise ValueError(f"{raw!r} should be on or off")


def _ports(raw: Any) -> tuple[int, int]:
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*-\s*([0-9]{1,5})\s*", raw) if isinstance(raw, str) else None
    if found is None:
        raise ValueError(f"{raw!r} should be two ports, as 30000-30999")
    first, last = int(found[1]), int(found[2])
    # One voice call of two plain RTP legs needs four: RTP and RTCP on each.
    if not 1024 <= first or not last <= 65535 or last - first < 3:
        raise ValueError(f"{raw!r} should be at least four ports, from 1024 to 65535")
    return first, last


def _data(raw: Any) -> Path:
    text = value_of.text(raw)
    if not text:
        raise ValueError("a folder is needed")
    return Path(text).expanduser()


def _database_url(raw: Any) -> str:
    text = value_of.text(raw)
    try:
        kind = make_url(text).get_backend_name() if text else "sqlite"
    except ArgumentError:
        kind = ""
    if kind not in ("sqlite", "postgresql"):  # the URL itself may hold a password and is not shown
        raise ValueError("should be sqlite:///path or postgresql+asyncpg://user:password@host/name")
    return text


def _redis_url(raw: Any) -> str:
    text = value_of.text(raw)
    if text and not re.match(r"(rediss?|unix)://", text):
        raise ValueError("should be redis://host:port/number")
    return text


def _networks(raw: Any) -> str:
    text = ", ".join(value_of.text(raw).replace(",", " ").split())
    for each in text.split(", ") if text else []:
        ipaddress.ip_network(each, strict=False)
    return text


def _capture(raw: Any) -> str:
    text = value_of.text(raw)
    if text and (";" in text or not re.search(r":[0-9]+\Z", value_of.way(text))):
        raise ValueError(f"{text!r} should be host:port")
    return text


def _media(raw: Any) -> str:
    text = value_of.text(raw)
    if text not in ("embedded", "rtpengine"):
        raise ValueError(f"{text!r} should be embedded or rtpengine")
    return text


def _host_and_port(raw: Any) -> str:
    text = value_of.text(raw)
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise ValueError(f"{text!r} should be host:port")
    return text


def _interfaces(raw: Any) -> str:
    text = value_of.text(raw)
    if text and not re.fullmatch(r"[\w.-]+\s*,\s*[\w.-]+", text):
        raise ValueError(f"{text!r} should be two names, as public, studio")
    return text


def _recording_format(raw: Any) -> str:
    text = value_of.text(raw)
    if text not in ("opus", "wav"):
        raise ValueError(f"{text!r} should be opus or wav")
    return text


def _gateway_url(raw: Any) -> str:
    text = value_of.text(raw)
    if not text:
        return text
    try:
        parts = urlsplit(text)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(f"{text!r} is no address of a web server") from None
    # What is posted there wakes phones: in the clear it may not leave this machine.
    here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    whole = port_is_right and parts.hostname and not (parts.username or parts.fragment)
    if not (parts.scheme == "https" or here) or not whole or not text.isascii():
        raise ValueError("should be an https address without a user name; http only on 127.0.0.1")
    return text


def _providers(raw: Any) -> tuple[str, ...]:
    names = tuple(raw) if isinstance(raw, list) else tuple(value_of.text(raw).replace(",", " ").split())
    for name in names:
        # It stands in a URI, and between quotes in an answer (RFC 8599 s8.2).
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9.-]{1,40}", name):
            raise ValueError(f"{name!r} is no name of a push service, as apns or fcm")
    return names


_READERS: dict[str, Callable[[Any], Any]] = {
    "data": _data,
    "host": value_of.host,
    "public_host": value_of.host,
    "public_host6": _host6,
    "domain": value_of.host,
    "realm": _realm,
    "http_port": _whole(0, 65535),
    "https_port": _whole(0, 65535),
    "sip_port": _whole(1, 65535),
    "sips_port": _whole(0, 65535),
    "rtp_ports": _ports,
    "database_url": _database_url,
    "redis_url": _redis_url,
    "certificate": value_of.text,
    "private_key": value_of.text,
    "trusted_authorities": value_of.text,
    "sample_data": _switch,
    "robot_agent": _switch,
    "ring_s": value_of.seconds,
    "unreachable_s": value_of.seconds,
    "wrap_up_s": value_of.seconds,
    "lease_s": value_of.seconds,
    "chat_idle_s": value_of.seconds,
    "call_back_again_s": value_of.seconds,
    "chats_per_agent": _whole(1, 20),
    "media_silence_s": value_of.seconds,
    "drain_s": value_of.seconds,
    "recording_key": recording_settings.keys,
    "recording_days": recording_settings.retention,
    "recording_format": _recording_format,
    "media": _media,
    "rtpengine": _host_and_port,
    "rtpengine_keys": lambda raw: _host_and_port(raw) if value_of.text(raw) else "",
    "rtpengine_interfaces": _interfaces,
    "recording_pause_s": value_of.seconds,
    "recording_for_agents": _switch,
    "supervision_announced": _switch,
    "push_gateway_url": _gateway_url,
    "push_gateway_token": value_of.secret,
    "push_providers": _providers,
    "push_wait_s": value_of.seconds,
    "guard_exempt": _networks,
    "metrics_token": value_of.secret,
    "hep": _capture,
    "hep_id": _whole(0, 2**32 - 1),
    "hep_password": value_of.secret,
    "hep_masked": _switch,
    "trunks": trunk_settings.trunks,
    "queues": queue_settings.queues,
    "menus": menu_settings.menus,
}


def _contradictions(settings: Settings) -> list[str]:
    """What is right alone and wrong together."""
    faults = []
    taken: dict[int, str] = {}
    for name in ("http_port", "https_port", "sip_port", "sips_port"):
        port = getattr(settings, name)
        if port and port in taken:
            faults.append(f"{name} and {taken[port]} are both {port}")
        taken.setdefault(port, name)
    if settings.robot_agent and not settings.sample_data:
        faults.append("robot_agent is on, but it is one of the sample's agents, and sample_data is off")
    if not settings.http_port and not settings.https_port:
        faults.append("http_port and https_port are both off: nobody could reach the portal")
    first, last = settings.rtp_ports
    if first <= settings.sip_port <= last:
        faults.append(f"sip_port {settings.sip_port} lies among the rtp_ports {first}-{last}")
    keys = settings.rtpengine_keys_address
    if keys is not None and first <= keys[1] <= last:
        faults.append(f"rtpengine_keys {settings.rtpengine_keys} lies among the rtp_ports {first}-{last}")
    if settings.push_gateway_url and not settings.push_providers:
        faults.append("push_gateway_url is set, but push_providers names no service that it reaches")
    if bool(settings.certificate) != bool(settings.private_key):
        faults.append("certificate and private_key are set together or not at all")
    for name in ("certificate", "private_key", "trusted_authorities"):
        path = getattr(settings, name)
        if path and not Path(path).is_file():
            faults.append(f"{name}: there is no file {path}")
    if ":" in settings.domain:
        faults.append(f"domain {settings.domain} is an IPv6 address: it must be a name, or an IPv4 address")
    if settings.public_host6 == "::":
        faults.append("public_host6 :: is no address that anyone could reach")
    if settings.public_host in _ANYWHERE:
        faults.append(f"public_host {settings.public_host} is no address that anyone could reach")
    return faults
