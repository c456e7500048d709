"""What a device can carry: yes, no, or nobody knows.

What somebody said in the agent's page goes before what the phone says with its registration (RFC 3840), and that before
what it answered when asked (OPTIONS, RFC 3261 s11). An absent tag means unknown, not no.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from agent_presence.roster import CHANNELS, Device
from sip_trunk.sip.errors import BadMessage

if TYPE_CHECKING:
    from agent_presence.location import Binding
    from sip_trunk.sip.message import Response

_TAGS = {"voice": "audio", "video": "video"}
_FALSE = "false"


def device_can(device: Device | None, bindings: Iterable[Binding], channel: str) -> bool | None:
    """Whether a device, as it is registered now, can carry a channel; None when nobody knows.

    Several phones may have registered with one device's credentials: one that can is enough.
    """
    if device is not None and channel in device.override:
        return device.override[channel]
    said = [binding_can(binding, channel) for binding in bindings]
    if any(said):
        return True
    if said and all(each is False for each in said):
        return False
    return device.learnt.get(channel) if device is not None else None


def may_carry(can: bool | None, channel: str) -> bool:
    """Whether to ring a phone of that capability: for video only when it is known to work, else unless it is not."""
    return can is True if channel == "video" else can is not False


def binding_can(binding: Binding, channel: str) -> bool | None:
    """What the feature tags of a binding say."""
    return _tagged(binding.features, channel)


def tells_enough(features: Mapping[str, str]) -> bool:
    """Whether the phone has said of voice and of video what it can do, so that it need not be asked."""
    return all(_tagged(features, channel) is not None for channel in _TAGS)


def from_options(response: Response) -> dict[str, bool]:
    """What a phone's answer to OPTIONS tells; channels it says nothing of are absent."""
    if not 200 <= response.status < 300:
        return {}
    learnt: dict[str, bool] = {}
    for contact in _contacts(response):
        for channel in CHANNELS:
            said = _tagged(contact, channel)
            if said is not None:
                learnt.setdefault(channel, said)
    # RFC 3261 s11.2: Allow names the methods, and the body is what an INVITE would have been answered with.
    allowed = {method.strip().upper() for method in response.headers.all("Allow")}
    if allowed:
        learnt.setdefault("chat", "MESSAGE" in allowed)
    for channel, said in from_session(response.body).items():
        learnt.setdefault(channel, said)
    return learnt


def from_session(body: bytes) -> dict[str, bool]:
    """What a session description says its sender can do: a medium with a port it can, a missing or refused one not."""
    ports: dict[str, bool] = {}
    for line in body.splitlines():
        if line.startswith(b"m="):
            fields = line[2:].split()
            if len(fields) >= 2:
                medium = fields[0].decode("ascii", "replace").lower()
                # RFC 3264 s6: a zero port is a refused medium.
                ports[medium] = ports.get(medium, False) or fields[1].split(b"/")[0] != b"0"
    if not ports:
        return {}
    return {channel: ports.get(tag, False) for channel, tag in _TAGS.items()}


def _tagged(features: Mapping[str, str], channel: str) -> bool | None:
    if channel == "chat":
        methods = features.get("methods")
        if methods is None:
            return None
        return "MESSAGE" in {method.strip().upper() for method in methods.split(",")}
    value = features.get(_TAGS[channel])
    return None if value is None else value.strip().lower() != _FALSE


def _contacts(response: Response) -> list[Mapping[str, str]]:
    try:
        return [contact.features() for contact in response.contacts]
    except BadMessage:  # a phone that writes a bad Contact may still have told the rest
        return []
