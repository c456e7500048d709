"""H.264 parameter sets that stand in an SDP (RFC 6184 section 8.1): some peers never send them otherwise. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from media.offer_answer import parameters
from media.sdp import Payload

SETS = "h264 sets"
# A sequence and a picture parameter set, and some more for those who have several.
MOST_SETS, MOST_SIZE = 8, 500


def parameter_sets(payloads: Iterable[Payload]) -> tuple[bytes, ...]:
    """The NAL units of the first H.264 payload that names any; none of one that cannot be read."""
    for payload in payloads:
        named = parameters(payload).get("sprop-parameter-sets", "") if payload.name.lower() == "h264" else ""
        if named:
            return _decoded(named)
    return ()


def _decoded(named: str) -> tuple[bytes, ...]:
    try:
        units = [
            base64.b64decode(each.strip(), validate=True) for each in named.split(",", MOST_SETS)[:MOST_SETS]
        ]
    except (binascii.Error, ValueError):
        return ()
    return tuple(unit for unit in units if 0 < len(unit) <= MOST_SIZE)
