"""Everything that is read from octets a stranger sends, held to what it promises.

`check` raises for a bug alone: a BadMessage (theirs) is what a wrong message is answered with, anything else is ours.
The ordinary tests run it over the torture messages (test_targets.py); a coverage-guided run looks for more:

    python3.11 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris==3.0.0
    mkdir -p /tmp/corpus
    /tmp/fuzz/bin/python -m tests.fuzz sip_messages /tmp/corpus -max_total_time=3600 \\
        -dict=tests/fuzz/sip_messages.dict -artifact_prefix=/tmp/found-

(atheris 2.3.0 breaks the code it instruments on Python 3.11.) The torture messages are its seeds. A finding is
written to `/tmp/found-crash-…`; give its path in place of the corpus to see it again, mend it, and add it to
tests/sip_trunk/sip/torture/found/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from sip_trunk.sip import extension_headers as extension
from sip_trunk.sip import header_values as h
from sip_trunk.sip.digest import parse_authorization, parse_challenge
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Message, Request, Response
from sip_trunk.sip.multipart import body_parts, part, unknown_required
from sip_trunk.sip.parser import KeepAlive, StreamParser, is_keep_alive, parse
from sip_trunk.sip.uri import parse_sip_uri, parse_uri

SEEDS = Path(__file__).parent.parent / "sip_trunk" / "sip" / "torture"

PROPERTIES = """vias top_via from_ to call_id cseq contacts contact_star routes record_routes content_type
    max_forwards expires content_length reasons history diversions privacy session_id""".split()  # noqa: SIM905
READERS: list[Callable[[str], object]] = [
    h.parse_name_addr,
    h.parse_via,
    h.parse_cseq,
    h.parse_media_type,
    h.parse_params,
    h.split_list,
    extension.parse_replaces,
    extension.parse_reason,
    extension.parse_rack,
    extension.parse_rseq,
    extension.parse_session_expires,
    extension.parse_min_se,
    extension.parse_privacy,
    extension.parse_session_id,
    lambda value: h.parse_contacts([value]),
    lambda value: extension.parse_history_info([value]),
    lambda value: extension.parse_diversions([value]),
    parse_uri,
    parse_sip_uri,
    parse_authorization,
    parse_challenge,
]


RICH = b"""INVITE sip:+4930@example.com;user=phone SIP/2.0
Via: SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bK1;rport
From: "Zo\\"e" <tel:030123;phone-context=+49;ext=1-2>;tag=a
To: <sips:b@[2001:db8::1]:5061;transport=tcp;lr>
Call-ID: c@h
CSeq: 1 INVITE
Contact: <sip:a@h;gr=1>;q=0.5;expires=60;+sip.instance="<urn:uuid:1>";audio, *
Replaces: c;to-tag=1;from-tag=2;early-only
Reason: SIP;cause=200;text="a, b", Q.850;cause=16
History-Info: <sip:a@h?Reason=SIP%3Bcause%3D302&Privacy=history>;index=1.1;rc=1
Diversion: <sip:a@h>;reason=user-busy;counter=2;privacy=off;screen=no
Privacy: id;critical
Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=47755a9de7794ba387653f2099600ef2
Session-Expires: 1800;refresher=uac
Min-SE: 90
RAck: 1 2 INVITE
RSeq: 3
Refer-To: <sip:b@h?Replaces=c%3Bto-tag%3D1%3Bfrom-tag%3D2>
Accept: application/sdp;q=0.1, */*
Authorization: Digest username="a", realm="r", nonce="n", uri="sip:h", response="0123", algorithm=SHA-256, qop=auth, nc=00000001, cnonce="c"
WWW-Authenticate: Digest realm="r", nonce="n", algorithm=MD5, qop="auth,auth-int", stale=true
Content-Type: multipart/mixed;boundary="b1"
Content-Length: 219

--b1
Content-Type: application/sdp
Content-Disposition: session;handling=required

v=0
--b1
Content-Type: multipart/alternative;boundary=b2

--b2
Content-Transfer-Encoding: base64

djA=
--b2--
--b1--
""".replace(b"\n", b"\r\n")  # noqa: E501


def seeds() -> Iterable[bytes]:
    sound = RICH.replace(b", *\r\n", b"\r\n")
    body = sound.partition(b"\r\n\r\n")[2]
    sound = sound.replace(b"Content-Length: 219", b"Content-Length: %d" % len(body))
    return [RICH, sound, *(path.read_bytes() for path in sorted(SEEDS.rglob("*.dat")))]


def check(data: bytes) -> None:
    """Raises anything at all only for a bug."""
    is_keep_alive(data)
    try:
        message = parse(data)
    except BadMessage as fault:
        _check_fault(fault)
    else:
        _check_datagram(message, data)
        _check_message(message)
    _check_stream(data)


def _check_fault(fault: BadMessage) -> None:
    assert 400 <= fault.status < 600, fault.status
    if fault.request is not None:
        # Whatever could not be read is answered all the same, and nothing in the answer breaks a line.
        answer = fault.request.response(fault.status, fault.reason, to_tag="t").to_bytes()
        assert answer.endswith(b"\r\n\r\n")
        _try(lambda: parse(answer))


def _check_datagram(message: Message, data: bytes) -> None:
    counted = "content-length" in message.headers
    written = message.to_bytes()
    if counted:
        # All but the start line, whose SIP/2.0 may come in any case, is as it came; what follows the body is dropped.
        came = data.lstrip(b"\r\n").partition(b"\r\n")[2]
        assert came.startswith(written.partition(b"\r\n")[2])
    assert parse(written).to_bytes() == written


def _check_message(message: Message) -> None:
    before = message.to_bytes()
    for name in PROPERTIES:
        _try(lambda: getattr(message, name))  # noqa: B023 (called at once)
    _try(lambda: message.accepts("application/sdp"))
    for name, value in message.headers:
        for read in READERS:
            _try(lambda: read(value))  # noqa: B023
        _try(lambda: message.headers.all(name))  # noqa: B023
        _try(lambda: message.addresses(name))  # noqa: B023
    _try(lambda: body_parts(message))
    _try(lambda: part(message, "application/sdp"))
    _try(lambda: unknown_required(message, {"application/sdp"}))
    assert message.to_bytes() == before, "reading changed it"
    if isinstance(message, Request):
        answer = message.response(200, to_tag="t")
        assert answer.to.tag
        again = parse(answer.to_bytes())
        assert isinstance(again, Response)
        assert (again.call_id, again.cseq) == (message.call_id, message.cseq)
        stamped = message.copy()
        stamped.stamp_source("192.0.2.1", 5060)
        assert parse(stamped.to_bytes()).top_via.branch == message.top_via.branch


def _check_stream(data: bytes) -> None:
    whole = _fed([data])
    size = 1 + len(data) % 7
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert _fed(pieces) == whole, "it matters where a stream is cut"


def _fed(pieces: Iterable[bytes]) -> list[str]:
    parser = StreamParser()
    found: list[str] = []
    for piece in pieces:
        for item in parser.feed(piece):
            if isinstance(item, BadMessage):
                _check_fault(item)
                found.append(f"{item.status} {item.reason}")
            elif isinstance(item, KeepAlive):
                found.append(item.name)
            else:
                found.append(repr((item.start_line, item.headers.lines, item.body)))
    found.append(f"broken={parser.broken} idle={parser.idle}")
    return found


def _try(read: Callable[[], object]) -> None:
    try:
        read()
    except BadMessage as fault:
        if not 400 <= fault.status < 600:
            raise AssertionError(fault.status) from fault
