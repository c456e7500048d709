"""Where one medium is, and what it is believed by: what our description says of it, and what the peer's does."""

from __future__ import annotations

from collections.abc import Sequence

from config.errors import TheirError
from media.leg import Leg
from media.offer_answer import Line, Local
from media.plain import PlainEndpoint, PortRange
from media.rtp import Stream
from media.sdp import NOWHERES, Fingerprint, Media
from media.secure import SecureEndpoint
from media.webrtc import BrowserPort


def place(
    leg: Leg, stream: Stream, line: Line, browsers: BrowserPort, public: Sequence[str], *, answering: bool
) -> Local:
    """`line` as it is agreed or offered; `public` are our addresses, at most one of each family."""
    address = announced(public, six=leg.six)
    if leg.transport is not None:
        return Local(
            address=address,
            port=browsers.port,
            ice_ufrag=leg.transport.ufrag,
            ice_pwd=leg.transport.pwd,
            fingerprint=browsers.certificate.fingerprint,
            setup="passive" if answering else "actpass",
            candidates=tuple(
                # RFC 8421 section 4: IPv6 first, by its local preference.
                f"1 1 udp {2130706431 - index} {each} {browsers.port} typ host"
                for index, each in enumerate(sorted(public, key=lambda each: ":" not in each))
            ),
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


def announced(public: Sequence[str], *, six: bool) -> str:
    """Of our addresses the one of that family; the other where there is none."""
    return next((each for each in public if (":" in each) is six), public[0])


def check(ports: PortRange, leg: Leg, lines: Sequence[Line], media: Sequence[Media]) -> None:
    """Before anything changes: whether we can send to where this says. Raises TheirError(488)."""
    if leg.transport is None:
        for line, each in zip(lines, media, strict=True):
            if line.accepted:
                ports.destination(each.address, each.port)
                if ports.is_ours(each.address, each.port):
                    # A call of ours that came back to us with nobody's media between, or a circle of packets to be.
                    raise TheirError("The media address is one of this server's own", 488)
                if each.rtcp_address:
                    ports.destination(each.rtcp_address, each.rtcp_port or 0)


def reach(endpoint: PlainEndpoint | SecureEndpoint, line: Line, media: Media) -> None:
    """The peer's side of `line`."""
    rtcp_at = None
    if media.rtcp_port is not None:
        nowhere = not media.rtcp_address or media.rtcp_address in NOWHERES
        rtcp_at = (media.address if nowhere else media.rtcp_address, media.rtcp_port)
    if isinstance(endpoint, SecureEndpoint):
        endpoint.agree(line.crypto, media.fingerprint, media.setup)
    endpoint.reach((media.address, media.port), rtcp_at, mux=line.mux)
