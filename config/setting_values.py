"""What the values of settings are read as, each from a file's value or a variable's text. All raise ValueError."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_WAY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:;]+)(?::([0-9]{1,5}))?(?:;transport=(?:udp|tcp|tls))?")


def text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"{raw!r} should be text")
    return raw.strip()


def host(raw: Any) -> str:
    """An address or a name, in lower case."""
    name = text(raw)
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        if not _HOST.fullmatch(name) or name.replace(".", "").isdigit():
            raise ValueError(f"{name!r} is neither an address nor a name") from None
        return name.lower()


def seconds(raw: Any) -> float:
    try:
        value = float(raw) if not isinstance(raw, bool) else -1.0
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value <= 86400:
        raise ValueError(f"{raw!r} should be a number of seconds from 0 to 86400")
    return value


def secret(raw: Any) -> str:
    """What goes into a digest. What is wrong with a password is not said by showing it."""
    if not isinstance(raw, str) or not raw.isprintable():
        raise ValueError("username and password should be printable text")
    return raw


def way(raw: Any) -> str:
    """``host``, ``host:port`` or either with ``;transport=udp``, ``tcp`` or ``tls``."""
    where = text(raw)
    found = _WAY.fullmatch(where)
    try:
        if found is None or not 0 < int(found[2] or 5060) <= 65535:
            raise ValueError
        host(found[1].strip("[]"))
    except ValueError:
        raise ValueError(f"via {where!r} should be host, host:port or host:port;transport=tcp") from None
    return where
