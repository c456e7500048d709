from __future__ import annotations

from collections import deque

import pytest

from media.dtls import DATAGRAM, MOST_SOURCES, Certificate, Dtls, DtlsFailed, Srtp, datagrams
from media.rtp import Packet
from media.sdp import Fingerprint

PACKET = b"\x80\x60\x00\x01\x00\x00\x00\x10\x00\x00\x00\x07" + bytes(160)


class Pair:
    """A client and a server whose datagrams cross in memory."""

    def __init__(self, *, expected: Fingerprint | None = None) -> None:
        ours, theirs = Certificate(), Certificate()
        self.to_server: deque[bytes] = deque()
        self.to_client: deque[bytes] = deque()
        self.server = Dtls(ours, expected or theirs.fingerprint, self.to_client.append)
        self.client = Dtls(theirs, ours.fingerprint, self.to_server.append, server=False)

    def run(self) -> None:
        self.client.handshake()
        self.cross()

    def cross(self) -> None:
        while self.to_server or self.to_client:
            while self.to_server:
                self.server.received(self.to_server.popleft())
            while self.to_client:
                self.client.received(self.to_client.popleft())


def sealed(pair: Pair) -> tuple[Packet, Srtp, Packet, Srtp]:
    assert pair.server.keys is not None
    assert pair.client.keys is not None
    a, b = Packet(), Packet()
    return a, Srtp(a, pair.server.keys), b, Srtp(b, pair.client.keys)


def test_both_ends_derive_keys_that_open_each_others_packets() -> None:
    pair = Pair()
    pair.run()
    ours, server, theirs, client = sealed(pair)
    ours.data[: len(PACKET)] = PACKET
    size = server.protect(len(PACKET))
    assert size > len(PACKET)
    assert bytes(ours.view[12 : len(PACKET)]) != PACKET[12:]
    theirs.data[:size] = ours.data[:size]
    assert client.unprotect(size) == len(PACKET)
    assert bytes(theirs.view[: len(PACKET)]) == PACKET


def test_a_replayed_or_changed_packet_is_not_opened() -> None:
    pair = Pair()
    pair.run()
    ours, server, theirs, client = sealed(pair)
    ours.data[: len(PACKET)] = PACKET
    size = server.protect(len(PACKET))
    protected = bytes(ours.view[:size])
    theirs.data[:size] = protected[:-1] + bytes([protected[-1] ^ 1])
    assert client.unprotect(size) == 0
    theirs.data[:size] = protected
    assert client.unprotect(size) == len(PACKET)
    theirs.data[:size] = protected
    assert client.unprotect(size) == 0


def test_rtcp_is_sealed_and_opened_too_and_leaves_the_packet_in_hand_alone() -> None:
    pair = Pair()
    pair.run()
    ours, server, theirs, client = sealed(pair)
    ours.data[:4] = b"kept"
    report = b"\x80\xc9\x00\x01\x00\x00\x00\x07"
    protected = server.protect_rtcp(report)
    assert bytes(ours.view[:4]) == b"kept"
    theirs.data[: len(protected)] = protected
    assert client.unprotect_rtcp(len(protected)) == report


def test_packets_longer_than_pylibsrtp_takes_pass() -> None:
    pair = Pair()
    pair.run()
    ours, server, _, _ = sealed(pair)
    ours.data[: len(PACKET)] = PACKET
    assert server.protect(1450) > 1450


def test_a_certificate_that_the_sdp_did_not_name_is_refused() -> None:
    pair = Pair(expected=Fingerprint("sha-256", ":".join(["00"] * 32)))
    with pytest.raises(DtlsFailed, match="not the one named"):
        pair.run()
    assert pair.server.keys is None


def test_a_fingerprint_in_a_weak_hash_is_refused() -> None:
    pair = Pair(expected=Fingerprint("sha-1", ":".join(["00"] * 20)))
    with pytest.raises(DtlsFailed, match="cannot check"):
        pair.run()


def test_a_peer_that_closes_says_so() -> None:
    pair = Pair()
    pair.run()
    pair.client.close()
    with pytest.raises(DtlsFailed, match="closed by the peer"):
        pair.cross()


def test_a_flight_is_cut_where_records_end() -> None:
    record = b"\x16\xfe\xfd" + bytes(8) + (500).to_bytes(2, "big") + bytes(500)
    cut = datagrams(record * 5)
    assert b"".join(cut) == record * 5
    assert all(len(each) <= DATAGRAM and len(each) % len(record) == 0 for each in cut)


def test_nonsense_does_not_break_the_handshake() -> None:
    pair = Pair()
    pair.server.received(b"\x16\xfe\xfd" + bytes(40))
    pair.run()
    assert pair.server.keys is not None


def test_an_empty_datagram_is_nothing() -> None:
    certificate = Certificate()
    Dtls(certificate, certificate.fingerprint, lambda datagram: None).received(b"")


def test_a_peer_that_speaks_as_ever_new_sources_is_heard_as_so_many_and_no_more() -> None:
    """libsrtp goes through all it knows for every packet."""
    pair = Pair()
    pair.run()
    ours, server, theirs, client = sealed(pair)
    heard: list[bool] = []
    for ssrc in (*range(MOST_SOURCES + 20), 0, MOST_SOURCES - 1):
        packet = (
            PACKET[:2]
            + (1 + len(heard)).to_bytes(2, "big")
            + PACKET[4:8]
            + ssrc.to_bytes(4, "big")
            + bytes(20)
        )
        ours.data[: len(packet)] = packet
        size = server.protect(len(packet))
        theirs.data[:size] = ours.data[:size]
        heard.append(client.unprotect(size) > 0)
    assert heard == [True] * MOST_SOURCES + [False] * 20 + [True, True]
    for ssrc, known in ((0, True), (MOST_SOURCES + 30, False)):
        report = server.protect_rtcp(b"\x80\xc9\x00\x01" + ssrc.to_bytes(4, "big"))
        theirs.data[: len(report)] = report
        assert bool(client.unprotect_rtcp(len(report))) is known
