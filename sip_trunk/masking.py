"""What nobody who looks on may see of a message: proofs, keys, passwords, tokens, and what people wrote or dialled.

For eyes and recorders only, never for the wire. Works on bytes and on messages no parser would take: a hostile one may
be looked at too, and a proof in it may be somebody's. What is hidden keeps its length wherever the length says nothing,
so that Content-Length stays true.
"""

from __future__ import annotations

import re

_END_OF_HEAD = re.compile(rb"\r?\n\r?\n|\r\r")
# A header's value goes on over folded lines (RFC 3261 s7.3.1); the name may have blanks before its colon.
_PROOF = re.compile(
    rb"^((?:proxy-|www-)?(?:authorization|authenticate|authentication-info)|identity)([ \t]*:)"
    rb"([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)",
    re.IGNORECASE | re.MULTILINE,
)
_DIGEST = re.compile(rb"\s*Digest\s", re.IGNORECASE)
_PARAMETER = re.compile(rb'([A-Za-z0-9*_-]+)(\s*=\s*)("(?:[^"\\]|\\.)*"|[^\s,"]+)', re.DOTALL)
_SHOWN = frozenset(
    {b"username", b"username*", b"realm", b"uri", b"algorithm", b"qop", b"nc", b"stale", b"domain"}
)
_STRAY = re.compile(
    rb'\b(response|cnonce|nonce|nextnonce|rspauth|passw(?:or)?d|pwd|pn-prid|access_token)(\s*=\s*)("[^"\r\n]*"|[^\s,;&>]+)',
    re.IGNORECASE,
)
_PROOF_WORDS = (b"authorization", b"authenticat", b"identity")
_STRAY_WORDS = (
    b"response",
    b"nonce",
    b"rspauth",
    b"passw",
    b"pwd",
    b"pn-prid",
    b"access_token",
    b"authorization=",
)
_STRAY_HEADER = re.compile(rb"((?:proxy-)?authorization=)([^&\s>\"]+)", re.IGNORECASE)
_URI_PASSWORD = re.compile(rb"(\bsips?:[^:@\s<>\";,]*):([^@\s<>\"]+)@", re.IGNORECASE)
# RFC 4568 s9.1, RFC 8839 s5.4, RFC 8866 s5.12, RFC 4567
_KEY_LINE = re.compile(rb"^(a=ice-pwd:|k=|a=key-mgmt:|a=3ge2ae:)([^\r\n]+)", re.IGNORECASE | re.MULTILINE)
_INLINE = re.compile(rb"(\binline:)([^\s|;]+)", re.IGNORECASE)
_PRIVATE = re.compile(rb"^(?:cseq)[ \t]*:\s*\d+\s+(?:MESSAGE|INFO)\b", re.IGNORECASE | re.MULTILINE)
_PRIVATE_START = (b"MESSAGE ", b"INFO ")


def mask(data: bytes, *, texts: bool = False) -> bytes:
    """`data` without its secrets. `texts`: leave what people wrote (MESSAGE) and dialled in a call (INFO) readable."""
    found = _END_OF_HEAD.search(data)
    head, body = (data[: found.end()], data[found.end() :]) if found is not None else (data, b"")
    masked = _head(head)
    if not body:
        return masked
    if not texts and (head.startswith(_PRIVATE_START) or _PRIVATE.search(head)):
        return masked + _stars(body)
    body = _KEY_LINE.sub(lambda m: m[1] + _stars(m[2]), body)
    if b"inline:" in body.lower():
        body = _INLINE.sub(lambda m: m[1] + _stars(m[2]), body)
    return masked + _everywhere(body)


def _head(head: bytes) -> bytes:
    lower = head.lower()
    if not any(word in lower for word in _PROOF_WORDS):
        return _everywhere(head)
    parts: list[bytes] = []
    at = 0
    for found in _PROOF.finditer(head):
        parts += (_everywhere(head[at : found.start()]), _URI_PASSWORD.sub(_no_password, _proof(found)))
        at = found.end()
    return b"".join(parts) + _everywhere(head[at:])


def _everywhere(text: bytes) -> bytes:
    """Secrets wherever they stand: in a header we do not know, in a URI, in the part of a message inside another."""
    # Looking for a word is a tenth of what its pattern costs, and most messages have none of them.
    lower = text.lower()
    if any(word in lower for word in _STRAY_WORDS):
        text = _STRAY.sub(_stray, text)
        text = _STRAY_HEADER.sub(lambda m: m[1] + b"***", text)
    if b"@" in text:
        text = _URI_PASSWORD.sub(_no_password, text)
    return text


def _no_password(found: re.Match[bytes]) -> bytes:
    return found[1] + b":***@"


def _proof(found: re.Match[bytes]) -> bytes:
    name, colon, value = found[1], found[2], found[3]
    scheme = _DIGEST.match(value)
    if scheme is None and not name.lower().endswith(b"-info"):
        return name + colon + b" ***"  # Basic, Bearer, or nothing we know: all of it is secret
    start = scheme.end() if scheme is not None else 0
    parts, at = [value[:start]], start
    for parameter in _PARAMETER.finditer(value, start):
        # Only what is between well-formed parameters is shown; garbage may be a secret in the wrong place.
        between = value[at : parameter.start()]
        parts.append(between if not between.strip(b" \t\r\n,") else b"***,")
        shown = parameter[1].lower() in _SHOWN
        parts.append(parameter[1] + parameter[2] + (parameter[3] if shown else _quoted(parameter[3])))
        at = parameter.end()
    rest = value[at:]
    parts.append(rest if not rest.strip(b" \t\r\n,") else b"***")
    return name + colon + b"".join(parts)


def _stray(found: re.Match[bytes]) -> bytes:
    return found[1] + found[2] + _quoted(found[3])


def _quoted(value: bytes) -> bytes:
    return b'"***"' if value[:1] == b'"' else b"***"


def _stars(text: bytes) -> bytes:
    return b"*" * len(text)
