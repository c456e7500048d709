"""How a peer's packets will travel, told before any have: a browser's by WebRTC, a phone's as plain RTP.

A browser behind an edge proxy comes by the proxy's UDP or TCP, so that the way alone does not tell.
"""

from __future__ import annotations

from agent_presence.location import Binding
from media.server import Profile
from sip_trunk import user_agent as sip
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.uri import SipUri, parse_uri

_WEBSOCKET = ("WS", "WSS")


def profile_of_call(call: sip.IncomingCall) -> Profile:
    """What the caller offers says it, and without an offer the way it came."""
    by_websocket = call.flow is not None and call.flow.transport in _WEBSOCKET
    # RFC 8829 s4.1: every offer of a browser's has both; no phone without ICE can talk to our WebRTC side.
    webrtc = b"a=ice-ufrag:" in call.offer and b"a=fingerprint:" in call.offer
    return Profile.WEBRTC if by_websocket or webrtc else Profile.RTP


def profile_of_binding(binding: Binding) -> Profile:
    """RFC 7118 s5.3: a browser's Contact says ws, whatever lies between it and us."""
    try:
        uri = parse_uri(binding.contact_uri)
    except BadMessage:
        uri = None
    says = (uri.transport or "").upper() if isinstance(uri, SipUri) else ""
    return Profile.WEBRTC if binding.transport in _WEBSOCKET or says in _WEBSOCKET else Profile.RTP
