from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_trunk.masking import mask

REGISTER = (
    b"REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKx\r\nCall-ID: 1@h\r\nCSeq: 2 REGISTER\r\n"
    b"%s\r\nContent-Length: 0\r\n\r\n"
)
PROOF = (
    'username="ana", realm="warmline", nonce="N0NCE", uri="sip:h", response="5ECRET", cnonce="CN0NCE", qop=auth, '
    "nc=00000001"
)


@pytest.mark.parametrize(
    "name", ["Authorization", "Proxy-Authorization", "authorization ", "AUTHORIZATION\t"]
)
@pytest.mark.parametrize(
    "proof",
    [
        PROOF,
        PROOF.replace(", ", ",\r\n  "),  # folded
        PROOF.replace('"5ECRET"', "5ECRET").replace('"N0NCE"', "N0NCE"),
        PROOF.replace(", response", " 5ECRET garbage=, response"),
        PROOF.replace('response="5ECRET"', 'response="5ECRET'),  # never closed
        PROOF + ", password=5ECRET, opaque=5ECRET",
    ],
)
def test_a_proof_is_hidden_and_whose_it_is_is_not(name: str, proof: str) -> None:
    masked = mask(REGISTER % f"{name}: Digest {proof}".encode())
    for secret in (b"5ECRET", b"N0NCE"):
        assert secret not in masked
    assert b'username="ana"' in masked
    assert b'realm="warmline"' in masked
    assert masked.startswith(b"REGISTER sip:h SIP/2.0\r\n")
    assert masked.endswith(b"Content-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Basic 5ECRET",
        b"Authorization: Bearer 5ECRET",
        b"Authorization: 5ECRET",
        b"Identity: 5ECRET.5ECRET;info=<https://h>",
        b'WWW-Authenticate: Digest realm="warmline", nonce="5ECRET", opaque="5ECRET"',
        b'Authentication-Info: rspauth="5ECRET", nextnonce="5ECRET"',
        b'X-Old-Authorization: Digest response="5ECRET"',
        b"Contact: <sip:ana:5ECRET@192.0.2.7:5060>",
        b"Refer-To: <sip:b@h?Authorization=Digest%205ECRET>",
        b"Contact: <sip:ana@192.0.2.7;pn-provider=fcm;pn-prid=5ECRET;pn-param=p>",
    ],
)
def test_every_other_secret_of_a_header_is_hidden(line: bytes) -> None:
    assert b"5ECRET" not in mask(REGISTER % line)


def test_keys_in_sdp_are_hidden_and_the_length_stays_true() -> None:
    body = (
        b"v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nk=base64:5ECRET\r\na=ice-ufrag:abcd\r\na=ice-pwd:5ECRETpwd\r\n"
        b"m=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:5ECRETkey/+=|2^20|1:4\r\n"
        b"a=rtpmap:0 PCMU/8000\r\n"
    )
    data = b"INVITE sip:b@h SIP/2.0\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\n\r\n" + body
    masked = mask(data)
    assert b"5ECRET" not in masked
    assert len(masked) == len(data)
    for shown in (
        b"a=ice-ufrag:abcd",
        b"AES_CM_128_HMAC_SHA1_80 inline:*",
        b"|2^20|1:4",
        b"a=rtpmap:0 PCMU/8000",
    ):
        assert shown in masked


@pytest.mark.parametrize(
    "start",
    [
        b"MESSAGE sip:b@h SIP/2.0\r\nCSeq: 1 MESSAGE",
        b"INFO sip:b@h SIP/2.0\r\nCSeq: 1 INFO",
        b"SIP/2.0 200 OK\r\ncseq : 1 MESSAGE",
    ],
)
def test_what_people_write_and_dial_is_hidden_unless_asked_for(start: bytes) -> None:
    data = start + b"\r\nContent-Length: 12\r\n\r\nMy PIN is 12"
    assert mask(data).endswith(b"\r\n\r\n************")
    assert mask(data, texts=True) == data


def test_a_message_without_secrets_is_left_as_it_is() -> None:
    data = (
        b"INVITE sip:b@h:5060;transport=tcp SIP/2.0\r\nVia: SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bK1\r\n"
        b"From: <sip:+4930123@h>;tag=1\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\n"
    )
    assert mask(data) == data


@given(st.binary(max_size=400), st.booleans())
def test_no_input_raises(data: bytes, texts: bool) -> None:
    mask(data, texts=texts)


@given(
    st.text("abc0123456789ABCDEF", min_size=8, max_size=64),
    st.sampled_from(["response", "nonce", "cnonce", "rspauth"]),
)
def test_no_value_of_a_secret_parameter_survives(value: str, name: str) -> None:
    secret = f"Z{value}Z"
    masked = mask(REGISTER % f'Authorization: Digest username="u",{name}="{secret}"'.encode())
    assert secret.encode() not in masked
