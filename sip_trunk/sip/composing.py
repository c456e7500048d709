"""Is-composing status messages (RFC 3994): one side of a chat tells that it is writing, or no more."""

from __future__ import annotations

from dataclasses import dataclass

from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.small_xml import escaped, moment, parse_xml, written

MEDIA_TYPE = "application/im-iscomposing+xml"
NAMESPACE = "urn:ietf:params:xml:ns:im-iscomposing"

DEFAULT_REFRESH_S = 120
"""How long "active" lasts when its sender does not say (s3.3)."""
LONGEST_REFRESH_S = 600
"""A phone that promises more has most likely gone by then."""


@dataclass(frozen=True, slots=True)
class Composing:
    """`active`: writing now. `refresh_s`: when the sender means to say so again; seconds.

    `last_active`: epoch seconds. `content_type`: of what is being written, as it came.
    """

    active: bool
    refresh_s: int | None = None
    content_type: str | None = None
    last_active: float | None = None

    @property
    def lasts_s(self) -> int:
        """Seconds after which "active" is over unless it is said again (s3.3)."""
        return min(DEFAULT_REFRESH_S if self.refresh_s is None else self.refresh_s, LONGEST_REFRESH_S)

    def to_bytes(self) -> bytes:
        inside = [f"<state>{'active' if self.active else 'idle'}</state>"]
        if self.content_type is not None:
            inside.append(f"<contenttype>{escaped(self.content_type)}</contenttype>")
        if self.last_active is not None:
            inside.append(f"<lastactive>{written(self.last_active)}</lastactive>")
        if self.refresh_s is not None:
            inside.append(f"<refresh>{self.refresh_s}</refresh>")
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<isComposing xmlns="{NAMESPACE}">'
            f"{''.join(inside)}</isComposing>\n"
        ).encode()


def parse_composing(body: bytes) -> Composing:
    """Read a status message. Raises BadMessage: 413 when it is too large, 400 when it is none."""
    root = parse_xml(body)
    if (root.namespace, root.name) != (NAMESPACE, "isComposing"):
        raise BadMessage("Not isComposing")
    state = root.words("state")
    if state is None:
        raise BadMessage("No <state>")
    refresh, last_active = root.words("refresh"), root.words("lastactive")
    return Composing(
        # s3.4: whatever other states may come to be, to one who does not know them they are idle.
        active=state == "active",
        refresh_s=None if refresh is None else _seconds(refresh),
        content_type=root.words("contenttype") or None,
        last_active=None if last_active is None else moment(last_active),
    )


def _seconds(text: str) -> int:
    # xs:positiveInteger
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) > 0):
        raise BadMessage("Bad <refresh>")
    return int(text)
