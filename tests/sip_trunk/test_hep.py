"""The decoder of these tests is written from the HEP3 document alone, and shares nothing with ours."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.flow import Flow
from sip_trunk.hep import HepExport, Packet, decode, encode

PACKET = Packet(
    ("192.0.2.7", 5060), ("198.51.100.1", 5070), 1_700_000_000.123456, b"OPTIONS sip:h SIP/2.0\r\n\r\n",
    capture_id=2001, key="s3cret", correlation="0123456789abcdef0123456789abcdef",
)  # fmt: skip


def chunks(data: bytes) -> dict[int, bytes]:
    """By the document: 'HEP3', total length, then (vendor, type, length that counts its own six octets, value)."""
    assert data[:4] == b"\x48\x45\x50\x33"
    (total,) = struct.unpack(">H", data[4:6])
    assert total == len(data)
    found: dict[int, bytes] = {}
    at = 6
    while at < total:
        vendor, kind, length = struct.unpack(">HHH", data[at : at + 6])
        assert vendor == 0
        assert kind not in found
        found[kind] = data[at + 6 : at + length]
        at += length
    assert at == total
    return found


def test_every_chunk_stands_as_the_document_says() -> None:
    found = chunks(encode(PACKET))
    assert found == {
        0x0001: b"\x02",
        0x0002: b"\x11",
        0x0003: socket.inet_pton(socket.AF_INET, "192.0.2.7"),
        0x0004: socket.inet_pton(socket.AF_INET, "198.51.100.1"),
        0x0007: struct.pack(">H", 5060),
        0x0008: struct.pack(">H", 5070),
        0x0009: struct.pack(">I", 1_700_000_000),
        0x000A: struct.pack(">I", 123456),
        0x000B: b"\x01",
        0x000C: struct.pack(">I", 2001),
        0x000E: b"s3cret",
        0x000F: b"OPTIONS sip:h SIP/2.0\r\n\r\n",
        0x0011: b"0123456789abcdef0123456789abcdef",
    }


def test_ipv6_and_connections_have_their_own_chunks_and_numbers() -> None:
    six = replace(
        PACKET, source=("2001:db8::1", 5061), target=("::1", 1), stream=True, key="", correlation=""
    )
    found = chunks(encode(six))
    assert (found[1], found[2]) == (b"\x0a", b"\x06")
    assert found[5] == socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    assert found[6] == socket.inet_pton(socket.AF_INET6, "::1")
    assert not {3, 4, 0x0E, 0x11} & found.keys()


addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)
ports = st.integers(0, 65535)


packets = st.builds(
    lambda pair, one, two, **rest: Packet((str(pair[0]), one), (str(pair[1]), two), **rest),
    addresses,
    ports,
    ports,
    at=st.integers(0, 2**32 - 1).map(float),
    payload=st.binary(max_size=500),
    stream=st.booleans(),
    capture_id=st.integers(0, 2**32 - 1),
    key=st.text(st.characters(codec="utf-8"), max_size=20),
    correlation=st.text(st.characters(codec="utf-8"), max_size=20),
)


@given(packets)
def test_what_is_encoded_is_decoded(packet: Packet) -> None:
    assert decode(encode(packet)) == packet


@given(
    st.binary(max_size=200)
    | st.binary(max_size=100).map(lambda rest: b"HEP3" + struct.pack(">H", len(rest) + 6) + rest)
)
def test_garbage_is_no_packet_and_nothing_worse(data: bytes) -> None:
    try:
        decode(data)
    except ValueError:
        pass


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        encode(replace(PACKET, payload=b"x" * 65_500))
    with pytest.raises(ValueError, match="two families"):
        encode(replace(PACKET, source=("::1", 1)))


class Listener:
    """A capture server: a socket."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(2)
        self.port = self.socket.getsockname()[1]

    def next(self) -> dict[int, bytes]:
        return chunks(self.socket.recv(65_535))


SESSION = "0123456789abcdef0123456789abcdef"
INVITE = b'INVITE sip:b@h SIP/2.0\r\nCall-ID: 1@h\r\nAuthorization: Digest username="ana", response="5ECRET"\r\n%s\r\n'


def test_messages_reach_a_listener_with_both_ways_and_one_correlation() -> None:
    listener = Listener()
    hep = HepExport(lambda: 1_700_000_000.5, lambda flow: ("198.51.100.1", 5060), capture_id=7)
    phone = Flow("WSS", ("192.0.2.7", 40000), "a")
    hep.wire(False, phone, INVITE % b"")  # not open yet
    hep.open("127.0.0.1", listener.port)
    hep.wire(
        True, phone, INVITE % b"Session-ID: %s;remote=00000000000000000000000000000000\r\n" % SESSION.encode()
    )
    hep.wire(False, phone, b"SIP/2.0 180 Ringing\r\nCall-ID: 1@h\r\n\r\n")
    hep.wire(False, phone, b"SIP/2.0 180 Ringing\r\nCall-ID: 2@h\r\n\r\n")
    out, back, other = listener.next(), listener.next(), listener.next()
    assert (out[3], out[7]) == (socket.inet_aton("198.51.100.1"), struct.pack(">H", 5060))
    assert (out[4], out[8]) == (socket.inet_aton("192.0.2.7"), struct.pack(">H", 40000))
    assert (back[3], back[4]) == (out[4], out[3])
    assert out[2] == b"\x06", "a web socket is a TCP connection"
    assert out[0x0C] == struct.pack(">I", 7)
    assert out[0x11] == back[0x11] == SESSION.encode()
    assert other[0x11] == b"2@h"
    assert b"5ECRET" not in out[0x0F]
    assert b'username="ana"' in out[0x0F]
    assert (hep.sent, hep.lost) == (3, 0)
    hep.close()
    listener.socket.close()


def test_whole_messages_are_sent_only_to_whom_asks_for_them() -> None:
    listener = Listener()
    hep = HepExport(lambda: 1.0, lambda flow: ("127.0.0.1", 5060), masked=False)
    hep.open("127.0.0.1", listener.port)
    hep.wire(True, Flow("UDP", ("127.0.0.1", 1), "a"), INVITE % b"")
    assert b"5ECRET" in listener.next()[0x0F]
    hep.close()
    listener.socket.close()


def test_families_that_differ_and_names_become_the_unknown_address() -> None:
    listener = Listener()
    hep = HepExport(lambda: 1.0, lambda flow: ("sip.example.org", 5060))
    hep.open("127.0.0.1", listener.port)
    hep.wire(False, Flow("UDP", ("2001:db8::7", 1), "a"), b"x")
    hep.wire(False, Flow("UDP", ("::ffff:192.0.2.7", 1), "a"), b"x")
    six, four = listener.next(), listener.next()
    assert (six[5], six[6]) == (socket.inet_pton(socket.AF_INET6, "2001:db8::7"), bytes(16))
    assert (four[3], four[4]) == (socket.inet_aton("192.0.2.7"), bytes(4))
    hep.close()
    listener.socket.close()


def test_a_listener_that_is_gone_costs_the_copy_and_nothing_else() -> None:
    listener = Listener()
    hep = HepExport(lambda: 1.0, lambda flow: ("127.0.0.1", 5060))
    hep.open("127.0.0.1", listener.port)
    listener.socket.close()
    flow = Flow("UDP", ("127.0.0.1", 1), "a")
    for _ in range(4):
        hep.wire(True, flow, b"x")
    hep.wire(True, flow, b"x" * 65_507)
    assert hep.lost >= 2
    assert hep.sent + hep.lost == 5
    hep.close()
