"""The settings of trunks: ``[[trunks]]`` in warmline.toml, or ``WARMLINE_TRUNKS`` as JSON."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from config.setting_values import host, seconds, secret, text, way

LEAST_REGISTER_S = 60


@dataclass(frozen=True, slots=True)
class TrunkSettings:
    """A carrier or an existing PBX whose calls are let in, from these peers (``address`` or ``address:port``) only, and
    which may be called through.

    dial: prefixes of the numbers (E.164) that may be called through it, those of numbers that may not with a ! before
    them; the longest prefix of a number decides, and where there is none it may not be called.
    via: where calls out go, ``host``, ``host:port`` or either with ``;transport=udp``, ``tcp`` or ``tls``; a host alone
    is looked up with SRV; empty: the first peer. username, password: for its digest challenges. options_s: seconds
    between the OPTIONS by which it is known to be up; 0: none are sent, and it counts as up. caller_id: the number
    calls out come from (E.164). extensions: whether its callers may dial our agents' user names.

    register: whether we register with it at `via`; its calls then come by the way we registered, and peers are needed
    only for hosts besides that. register_as: the address that is registered, ``sip:number@domain``; empty: username at
    the host of `via`. register_s: the seconds asked for a registration.
    """

    name: str
    peers: tuple[str, ...]
    dial: tuple[str, ...] = ()
    via: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    options_s: float = 60.0
    caller_id: str = ""
    extensions: bool = False
    register: bool = False
    register_as: str = ""
    register_s: int = 600

    def shown(self) -> dict[str, Any]:
        """What was set of it, to be shown: without its password."""
        told = {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if getattr(self, each.name) != each.default
        }
        return told | {"password": "***"} if self.password else told


def trunks(raw: Any) -> tuple[TrunkSettings, ...]:
    """Raises ValueError."""
    if isinstance(raw, str):
        try:
            raw = json.loads(raw) if raw.strip() else []
        except json.JSONDecodeError as error:
            raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(raw, list):
        raise ValueError("should be a list of trunks")
    read = tuple(_trunk(each, place) for place, each in enumerate(raw, 1))
    names = [trunk.name for trunk in read]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two trunks have the name {name!r}")
    return read


def _trunk(raw: Any, place: int) -> TrunkSettings:
    if not isinstance(raw, dict):
        raise ValueError(f"trunk {place} should be a table with name and peers")
    strange = raw.keys() - {each.name for each in dataclasses.fields(TrunkSettings)}
    if strange:
        raise ValueError(f"trunk {place} has the unknown keys {', '.join(sorted(map(str, strange)))}")
    name, peers = raw.get("name"), raw.get("peers")
    if not isinstance(name, str) or not name:
        raise ValueError(f"trunk {place} has no name")
    if raw.get("register") is True and raw.get("via"):
        peers = peers or []
    elif not peers:
        raise ValueError(f"trunk {name!r} has no list of peers")
    if not isinstance(peers, list):
        raise ValueError(f"trunk {name!r} has no list of peers")
    try:
        optional = {key: _READERS[key](raw[key]) for key in _READERS if key in raw}
    except ValueError as error:
        raise ValueError(f"trunk {name!r}: {error}") from None
    trunk = TrunkSettings(name, tuple(_peer(name, peer) for peer in peers), **optional)
    if bool(trunk.username) != bool(trunk.password):
        raise ValueError(f"trunk {name!r}: username and password are set together or not at all")
    if trunk.register and not (trunk.username or trunk.register_as):
        raise ValueError(f"trunk {name!r}: to register, username and password or register_as are needed")
    return trunk


def _peer(name: str, raw: Any) -> str:
    found = (
        re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:]+)(?::([0-9]{1,5}))?", raw)
        if isinstance(raw, str)
        else None
    )
    # A name would have to be looked up again and again, and whoever answers for it could let anybody in.
    try:
        ipaddress.ip_address(found[1].strip("[]") if found is not None else "")
    except ValueError:
        found = None
    if found is None or not 0 < int(found[2] or 5060) <= 65535:
        raise ValueError(f"trunk {name!r}: the peer {raw!r} should be address or address:port")
    return str(raw)


def _dial(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(
        isinstance(each, str) and re.fullmatch(r"!?\+[0-9]{0,15}", each) for each in raw
    ):
        raise ValueError(
            f"dial {raw!r} should be a list of prefixes of numbers, as +49 (+ alone: every number), with ! before "
            "those that may not be called, as !+49900"
        )
    return tuple(raw)


def _caller_id(raw: Any) -> str:
    number = text(raw)
    if number and not re.fullmatch(r"\+[1-9][0-9]{6,14}", number):
        raise ValueError(f"caller_id {number!r} should be a number as +15550100")
    return number


def _options_s(raw: Any) -> float:
    value = seconds(raw)
    if 0 < value < 5:
        raise ValueError(f"options_s {raw!r} should be 0 or at least 5 seconds")
    return value


def _truth(name: str) -> Callable[[Any], bool]:
    def read(raw: Any) -> bool:
        if not isinstance(raw, bool):
            raise ValueError(f"{name} {raw!r} should be true or false")
        return raw

    return read


def _register_as(raw: Any) -> str:
    address = text(raw)
    found = re.fullmatch(r"(sips?):([^\s@:;?<>\"]{1,64})@([^\s@:;?<>]+)", address)
    try:
        if address and (found is None or not host(found[3])):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"register_as {address!r} should be an address as sip:+15550100@example.com"
        ) from None
    return address


def _register_s(raw: Any) -> int:
    value = seconds(raw)
    if value < LEAST_REGISTER_S or value != int(value):
        raise ValueError(
            f"register_s {raw!r} should be a whole number of seconds, {LEAST_REGISTER_S} at least"
        )
    return int(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "dial": _dial,
    "via": way,
    "username": secret,
    "password": secret,
    "options_s": _options_s,
    "caller_id": _caller_id,
    "extensions": _truth("extensions"),
    "register": _truth("register"),
    "register_as": _register_as,
    "register_s": _register_s,
}
