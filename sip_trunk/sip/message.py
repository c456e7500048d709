"""Requests and responses (RFC 3261 s7, s8), read lazily: what nobody asks for is never parsed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from sip_trunk.sip.errors import BadMessage, SipFault
from sip_trunk.sip.extension_headers import (
    Diversion,
    HistoryEntry,
    Reason,
    SessionId,
    parse_diversions,
    parse_history_info,
    parse_privacy,
    parse_reason,
    parse_session_id,
)
from sip_trunk.sip.header_values import (
    CSeq,
    NameAddr,
    Via,
    delta_seconds,
    is_token,
    parse_contacts,
    parse_cseq,
    parse_media_type,
    parse_name_addr,
    parse_via,
    split_list,
)
from sip_trunk.sip.headers import Headers
from sip_trunk.sip.uri import Uri, parse_uri

REASONS: dict[int, str] = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    412: "Conditional Request Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    429: "Provide Referrer Identity",
    430: "Flow Failed",
    433: "Anonymity Disallowed",
    439: "First Hop Lacks Outbound Support",
    440: "Max-Breadth Exceeded",
    469: "Bad Info Package",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
}

METHODS = frozenset(
    """ACK BYE CANCEL INFO INVITE MESSAGE NOTIFY OPTIONS PRACK PUBLISH REFER REGISTER SUBSCRIBE UPDATE""".split()  # noqa: SIM905
)
"""Those that need no look at their letters to be known for tokens."""

# RFC 3261 s8.2.6.2; s12.1.1 for Record-Route; s8.2.6.1 for a 100.
_COPIED = frozenset(("via", "from", "to", "call-id", "cseq"))
_COPIED_WITH_ROUTE = _COPIED | {"record-route"}
_COPIED_INTO_100 = _COPIED | {"timestamp"}


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # A lone surrogate that did not come off the wire (a name out of JSON) must not stop a message.
        return text.encode("utf-8", "replace")


class Message:
    """What requests and responses share.

    The typed properties parse on first use, keep what they read, and raise BadMessage for a header that is
    malformed, or missing where RFC 3261 s8.1.1 wants it.
    """

    __slots__ = ("body", "headers")

    def __init__(
        self, headers: Headers | Iterable[tuple[str, str]], body: bytes = b"", content_type: str | None = None
    ) -> None:
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.body = body
        if content_type is not None:
            self.headers.set("Content-Type", content_type)

    @property
    def start_line(self) -> str:
        raise NotImplementedError

    def to_bytes(self) -> bytes:
        """The message as it goes on the wire; a Content-Length that does not fit the body is put right."""
        headers = self.headers
        length = len(self.body)
        if "content-length" not in headers.keys:
            headers.add("Content-Length", str(length))
        else:
            written = headers.first("content-length")
            if written != str(length) and not (
                written and written.isdigit() and delta_seconds(written) == length
            ):
                headers.set("Content-Length", str(length))
        head = _encode("\r\n".join((self.start_line, *headers.lines, "", "")))
        return head + self.body if length else head

    def _mandatory(self, key: str, name: str) -> str:
        value = self.headers.first(key)
        if value is None:
            raise BadMessage(f"Missing {name}")
        return value

    @property
    def vias(self) -> list[Via]:
        cache = self.headers.cache
        vias: list[Via] | None = cache.get("via")
        if vias is None:
            vias = cache["via"] = [parse_via(item) for item in self.headers.all("via")]
        return vias

    @property
    def top_via(self) -> Via:
        cache = self.headers.cache
        via: Via | None = cache.get("top via")
        if via is None:
            value = self._mandatory("via", "Via")
            if "," in value:
                value = (split_list(value) or [""])[0]
            via = cache["top via"] = parse_via(value)
        return via

    def _address(self, key: str, name: str) -> NameAddr:
        value = self._mandatory(key, name)
        try:
            address = self.headers.cache[key] = parse_name_addr(value)
        except BadMessage as error:
            raise BadMessage(f"{error.reason} in {name}") from error
        return address

    # These two are asked for again and again, most often by whom they were read before.
    @property
    def from_(self) -> NameAddr:
        read: NameAddr | None = self.headers.cache.get("from")
        return read if read is not None else self._address("from", "From")

    @property
    def to(self) -> NameAddr:
        read: NameAddr | None = self.headers.cache.get("to")
        return read if read is not None else self._address("to", "To")

    @property
    def call_id(self) -> str:
        return self._mandatory("call-id", "Call-ID")

    @property
    def cseq(self) -> CSeq:
        cache = self.headers.cache
        cseq: CSeq | None = cache.get("cseq")
        if cseq is None:
            cseq = cache["cseq"] = parse_cseq(self._mandatory("cseq", "CSeq"))
        return cseq

    @property
    def contacts(self) -> list[NameAddr]:
        """Every Contact; none for `Contact: *`, which `contact_star` tells."""
        contacts = self._contacts()
        return [] if isinstance(contacts, str) else contacts

    @property
    def contact_star(self) -> bool:
        return self._contacts() == "*"

    def _contacts(self) -> list[NameAddr] | str:
        cache = self.headers.cache
        contacts: list[NameAddr] | str | None = cache.get("contact")
        if contacts is None:
            try:
                keys = self.headers.keys
                value = self.headers.first("contact") or ""
                if keys.count("contact") == 1 and "," not in value:
                    # The one address that nearly every message has.
                    contacts = "*" if value == "*" else [parse_name_addr(value)] if value else []
                else:
                    contacts = parse_contacts(self.headers.all("contact"))
                cache["contact"] = contacts
            except BadMessage as error:
                raise BadMessage(f"{error.reason} in Contact") from error
        return contacts

    def addresses(self, name: str) -> list[NameAddr]:
        """Every address of a comma-separated header such as Route or P-Asserted-Identity."""
        return [parse_name_addr(item) for item in self.headers.all(name)]

    def _routes(self, key: str) -> list[NameAddr]:
        cache = self.headers.cache
        routes: list[NameAddr] | None = cache.get(key)
        if routes is None:
            routes = cache[key] = self.addresses(key) if key in self.headers.keys else []
        return routes

    @property
    def routes(self) -> list[NameAddr]:
        return self._routes("route")

    @property
    def record_routes(self) -> list[NameAddr]:
        return self._routes("record-route")

    @property
    def reasons(self) -> list[Reason]:
        """Every Reason (RFC 3326). Raises BadMessage."""
        return [reason for item in self.headers.all("reason") for reason in parse_reason(item)]

    @property
    def history(self) -> list[HistoryEntry]:
        """Where the call was before it came here, the first address first (RFC 7044). Raises BadMessage."""
        return parse_history_info(self.headers.all("history-info"))

    @property
    def diversions(self) -> list[Diversion]:
        """Who sent the call on, the last one first (RFC 5806). Raises BadMessage."""
        return parse_diversions(self.headers.all("diversion"))

    @property
    def privacy(self) -> frozenset[str]:
        """The kinds of privacy asked for (RFC 3323); none when nothing is said. Raises BadMessage."""
        value = self.headers.first("privacy")
        return parse_privacy(value) if value is not None else frozenset()

    @property
    def session_id(self) -> SessionId | None:
        """The Session-ID (RFC 7989). Raises BadMessage."""
        value = self.headers.first("session-id")
        return parse_session_id(value) if value is not None else None

    @property
    def content_type(self) -> str | None:
        """ "type/subtype" in lower case without parameters; None when there is none."""
        value = self.headers.first("content-type")
        return None if value is None else parse_media_type(value)[0]

    def accepts(self, media_type: str) -> bool:
        """Whether an answer may have a body of that type, such as "application/sdp" (RFC 3261 s20.1).

        Nothing said means application/sdp alone, which is what INVITE and OPTIONS are asked about; q=0 excludes.
        """
        if "accept" not in self.headers.keys:
            return media_type == "application/sdp"
        major = media_type.partition("/")[0]
        for item in self.headers.all("accept"):
            try:
                kind, params = parse_media_type(item)
            except BadMessage as error:
                raise BadMessage("Bad Accept") from error
            if kind in (media_type, f"{major}/*", "*/*"):
                return (params.get("q") or "1").strip("0.") != ""
        return False

    def _number(self, key: str, name: str) -> int | None:
        value = self.headers.first(key)
        if value is None:
            return None
        if not (value.isdigit() and value.isascii()):
            raise BadMessage(f"Bad {name}")
        return int(value) if len(value) < 10 else delta_seconds(value)

    @property
    def max_forwards(self) -> int | None:
        return self._number("max-forwards", "Max-Forwards")

    @property
    def expires(self) -> int | None:
        """Seconds; a number too large for 32 bits is that largest one. Raises BadMessage."""
        return self._number("expires", "Expires")

    @property
    def content_length(self) -> int | None:
        return self._number("content-length", "Content-Length")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Message)
            and self.start_line == other.start_line
            and self.headers.lines == other.headers.lines
            and self.body == other.body
        )

    __hash__ = None  # type: ignore[assignment]


class Request(Message):
    """`uri_text` is the Request-URI as it stands in the start line; `uri` reads it, and may be set."""

    __slots__ = ("_uri", "method", "uri_text")

    def __init__(
        self,
        method: str,
        uri: Uri | str,
        headers: Headers | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
    ) -> None:
        super().__init__(headers, body, content_type)
        self.method = method
        self._uri: Uri | None = None
        if isinstance(uri, str):
            self.uri_text = uri
        else:
            self.uri = uri

    @property
    def uri(self) -> Uri:
        if self._uri is None:
            try:
                self._uri = parse_uri(self.uri_text)
            except BadMessage as error:
                raise BadMessage("Bad Request-URI") from error
        return self._uri

    @uri.setter
    def uri(self, uri: Uri) -> None:
        self._uri = uri
        self.uri_text = str(uri)

    @property
    def start_line(self) -> str:
        if not self.uri_text or " " in self.uri_text or "\n" in self.uri_text or "\r" in self.uri_text:
            raise SipFault("Bad start line")
        if self.method not in METHODS and not is_token(self.method):
            raise SipFault("Bad start line")
        return f"{self.method} {self.uri_text} SIP/2.0"

    @property
    def outside_dialog(self) -> bool:
        """Whether it claims no dialog. Some phones put the To tag of the last answer into their next REGISTER, which
        belongs to none all the same."""
        return self.to.tag is None or self.method == "REGISTER"

    def copy(self) -> Self:
        return type(self)(self.method, self.uri_text, self.headers.copy(), self.body)

    def stamp_source(self, host: str, port: int) -> None:
        """Note on the top Via where the request came from (RFC 3261 s18.2.1, RFC 3581 s4)."""
        via = self.top_via
        params = via.params
        wants_rport = via.wants_rport
        if not wants_rport and via.host == host and "received" not in params:
            return
        params = {**params, "received": host}
        if wants_rport:
            params["rport"] = str(port)
        stamped = Via(via.transport, via.host, via.port, params)
        self.headers.replace_first("Via", str(stamped))
        self.headers.cache["top via"] = stamped

    def response(
        self,
        status: int,
        reason: str | None = None,
        *,
        to_tag: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
    ) -> Response:
        """An answer to this request, with what RFC 3261 s8.2.6 copies into it.

        `to_tag` is added to a To that has none. Works on a request that was only partly readable, too.
        """
        copied = _COPIED_WITH_ROUTE if 100 < status < 300 else _COPIED if status > 100 else _COPIED_INTO_100
        keys: list[str] = []
        lines: list[str] = []
        for key, line in zip(self.headers.keys, self.headers.lines, strict=True):
            if key in copied:
                keys.append(key)
                lines.append(line)
        if to_tag is not None and "to" in keys and not self._has_to_tag():
            index = keys.index("to")
            lines[index] = f"{lines[index].rstrip()};tag={to_tag}"
        made = Headers.from_lines(keys, lines)
        made.extend(headers)
        return Response(status, reason, made, body, content_type)

    def _has_to_tag(self) -> bool:
        try:
            return self.to.tag is not None
        except BadMessage:
            return True

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.uri_text}>"


class Response(Message):
    """`local` tells a response we made up ourselves for want of one (RFC 3261 s8.1.3.1)."""

    __slots__ = ("local", "reason", "status")

    def __init__(
        self,
        status: int,
        reason: str | None = None,
        headers: Headers | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        *,
        local: bool = False,
    ) -> None:
        super().__init__(headers, body, content_type)
        self.status = status
        self.reason = REASONS.get(status, "") if reason is None else reason
        self.local = local

    @property
    def start_line(self) -> str:
        if "\n" in self.reason or "\r" in self.reason:
            raise SipFault("Bad start line")
        return f"SIP/2.0 {self.status} {self.reason}"

    def copy(self) -> Self:
        return type(self)(self.status, self.reason, self.headers.copy(), self.body, local=self.local)

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason}>"
