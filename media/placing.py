"""What our side of a description says of where one medium is, and of what it is believed by."""

from __future__ import annotations

from media.leg import Leg
from media.offer_answer import Line, Local
from media.rtp import Stream
from media.sdp import Fingerprint
from media.secure import SecureEndpoint
from media.webrtc import BrowserPort


def place(
    leg: Leg, stream: Stream, line: Line, browsers: BrowserPort, address: str, *, answering: bool
) -> Local:
    """`line` as it is agreed or offered; `address` is the one to announce."""
    if leg.transport is not None:
        return Local(
            address=address,
            port=browsers.port,
            ice_ufrag=leg.transport.ufrag,
            ice_pwd=leg.transport.pwd,
            fingerprint=browsers.certificate.fingerprint,
            setup="passive" if answering else "actpass",
            candidates=(f"1 1 udp 2130706431 {address} {browsers.port} typ host",),
            ssrc=stream.ssrc,
        )
    endpoint = leg.endpoints[stream]
    fingerprint: Fingerprint | None = None
    setup = ""
    if not isinstance(endpoint, SecureEndpoint):
        return Local(address, endpoint.port, endpoint.port + 1)
    if endpoint.by_handshake:
        fingerprint = browsers.certificate.fingerprint
        setup = endpoint.setup(answering=answering)
    return Local(
        address,
        endpoint.port,
        endpoint.port + 1,
        fingerprint=fingerprint,
        setup=setup,
        cryptos=endpoint.cryptos(line.crypto if answering else None),
    )
