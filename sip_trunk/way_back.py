"""Where the answers to a request go: back the way it came or, when that has closed, by a new connection (RFC 3261
§18.2.2, RFC 3263 §5)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from sip_trunk.locate import DEFAULT_PORTS, Hop, is_numeric
from sip_trunk.sip.message import Request

if TYPE_CHECKING:
    from sip_trunk.flow import Flow
    from sip_trunk.transport import Transports

LOWEST_PORT = 1024
"""No SIP is spoken below it; what else listens there is not for a Via to have us knock at."""


def way_back(request: Request, flow: Flow, transports: Transports) -> Flow:
    """For a request that came by this flow. Raises SipFault 503."""
    if flow.reliable:
        return flow
    via = request.top_via
    if via.wants_rport or (via.port or 5060) == flow.peer[1]:  # RFC 3581 §4
        return flow
    return transports.flow_to_address("UDP", flow.peer[0], via.port or 5060)


def way_anew(request: Request, closed: Flow) -> Hop | None:
    """Where a connection can be opened to whoever sent the request by one that has closed: the address it came from,
    which is never for the sender to say, at the port of its sent-by. None when nobody can be listening there."""
    if closed.transport not in ("TCP", "TLS"):  # RFC 7118 §1: a browser takes no connection
        return None
    via = request.top_via
    host = closed.peer[0]
    port = via.port or DEFAULT_PORTS[closed.transport]
    if port < LOWEST_PORT:
        return None
    if is_numeric(via.host) and ip_address(via.host) != ip_address(host):
        # It is behind NAT, where only connections of its own making pass (RFC 5626 §1).
        return None
    # RFC 5922 §4: who its certificate must be for. A connection that we had opened was checked for its name already.
    return Hop(closed.transport, host, port, closed.tags.get("checked name") or via.host)
