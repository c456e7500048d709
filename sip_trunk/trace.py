"""Looking on: the latest messages in and out, kept a moment, and given to whoever asks for those of one conversation.

What nobody looks at costs a place in a ring: no copy is made and nothing is read.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from twisted.logger import Logger

from sip_trunk.flow import Flow

log = Logger()

MOST_IDS = 2_000
"""How many Call-IDs and Session-IDs one onlooker follows; the oldest are forgotten."""

_NIL = "0" * 32  # RFC 7989 s5: a UUID nobody has told yet
_UUID = re.compile(r"[0-9a-f]{32}")
_USER = re.compile(r"(?:sips?:([^@\s<>,\"]+)@|tel:([^\s<>,;\"]+))", re.IGNORECASE)
_CREDENTIALS = re.compile(r'username\s*=\s*"([^"]*)"', re.IGNORECASE)
_NAMES = {
    "i": "call-id",
    "f": "from",
    "t": "to",
    "m": "contact",
    "v": "via",
    "r": "refer-to",
    "b": "referred-by",
}
_WHO = frozenset(
    {
        "from", "to", "contact", "p-asserted-identity", "p-preferred-identity", "remote-party-id", "diversion",
        "history-info", "refer-to", "referred-by", "p-called-party-id",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Traced:
    """One message: when (epoch seconds), which way, by which flow, and its bytes."""

    number: int
    at: float
    sent: bool
    flow: Flow
    data: bytes


@dataclass(frozen=True, slots=True)
class Brief:
    """What tells whose a message is, read without judging it: hostile messages are looked at too.

    `ids`: its Call-ID and the UUIDs of its Session-ID (RFC 7989). `users`: the user parts of the addresses in it.
    """

    start: str
    method: str
    status: int | None
    call_id: str
    ids: tuple[str, ...]
    users: frozenset[str]
    head: str
    has_sdp: bool


def brief(data: bytes) -> Brief:
    """Raises nothing, whatever `data` is."""
    head = data.partition(b"\r\n\r\n")[0][:65_536].decode("utf-8", "surrogateescape")
    lines = head.replace("\r\n", "\n").split("\n")
    start = lines[0]
    call_id = session = method = ""
    users: set[str] = set()
    has_sdp = False
    for line in lines[1:]:
        name, _, value = line.partition(":")
        name = name.strip().lower()
        name = _NAMES.get(name, name)
        if name == "call-id":
            call_id = call_id or value.strip()
        elif name == "session-id":
            session = session or value.lower()
        elif name == "cseq":
            method = method or value.strip().partition(" ")[2].strip()
        elif name in ("content-type", "c"):
            has_sdp = "application/sdp" in value.lower()
        elif name in _WHO:
            users.update(_users(value))
        elif name in ("authorization", "proxy-authorization"):
            users.update(_CREDENTIALS.findall(value))
    status = None
    if start.startswith("SIP/2.0 "):
        code = start[8:11]
        status = int(code) if code.isascii() and code.isdigit() else 0
    else:
        method = start.partition(" ")[0]
        users.update(_users(start))
    uuids = [each for each in _UUID.findall(session) if each != _NIL]
    ids = tuple(dict.fromkeys(([call_id] if call_id else []) + uuids))
    return Brief(start, method, status, call_id, ids, frozenset(users), head, has_sdp)


def _users(text: str) -> list[str]:
    found = []
    for sip, tel in _USER.findall(text):
        user = (sip or tel).partition(";")[0].partition(":")[0]
        if user:
            found.append(user)
    return found


class Trail:
    """Which messages one onlooker wants: all, or those of one contact, call, number or user, and with each such message
    those of every other leg that shares its Session-ID or Call-ID.

    Of a contact, the OPTIONS by which each side makes sure that the other is there are left out, unless refused.
    """

    def __init__(self, *, contact: str = "", call: str = "", number: str = "", user: str = "") -> None:
        self.contact = contact
        self._user = user.lower()
        self._digits = _digits(number)
        self.everything = not (contact or call or number or user)
        self._ids: OrderedDict[str, None] = OrderedDict()
        if call:
            self.learn([call])

    def learn(self, ids: Iterable[str]) -> bool:
        """Follow these too; whether any was new."""
        new = False
        for each in ids:
            if each not in self._ids:
                new = True
                self._ids[each] = None
                if len(self._ids) > MOST_IDS:
                    self._ids.popitem(last=False)
        return new

    def wants(self, message: Brief) -> bool:
        """Whether it belongs here; `learn` is for the caller, who may have passed over others of its legs."""
        if self.contact and _just_asking(message):
            return False
        if self.everything or any(each in self._ids for each in message.ids):
            return True
        if self.contact:
            return self.contact in message.head
        if self._digits:
            return any(_same_number(self._digits, _digits(user)) for user in message.users)
        return bool(self._user) and any(user.lower() == self._user for user in message.users)


def _just_asking(message: Brief) -> bool:
    """Every 10 s in every call, and outside calls too: what a contact is about would drown in them."""
    return message.method == "OPTIONS" and (message.status is None or 100 <= message.status < 300)


def _digits(number: str) -> str:
    kept = re.sub(r"[^0-9+]", "", number)
    return kept.lstrip("+0")


def _same_number(one: str, other: str) -> bool:
    """+49 171 1234567, 0049171…, 0171…: the longer ends with the shorter, if that is long enough to mean something."""
    short, long = sorted((one, other), key=len)
    return bool(short) and (one == other or (len(short) >= 6 and long.endswith(short)))


class Onlooker:
    """One who looks on; made by `Tracer.watch`. `tell` gets each message once, in order but for those that only turned
    out later to belong here."""

    def __init__(self, tracer: Tracer, trail: Trail, tell: Callable[[Traced], None], since: float) -> None:
        self._tracer = tracer
        self._trail = trail
        self._tell = tell
        self._since = since
        self._told: OrderedDict[int, None] = OrderedDict()

    def learn(self, ids: Iterable[str]) -> None:
        """These ids belong to it: tell what the ring still has of them."""
        if self._trail.learn(ids):
            self.look_back()

    def stop(self) -> None:
        self._tracer.forget(self)

    def hear(self, message: Traced) -> None:
        """A message has just passed."""
        if self._take(message):
            self.look_back()

    def _take(self, message: Traced) -> bool:
        """Tell it if it belongs here; whether that taught us new ids."""
        if message.number in self._told or message.at < self._since:
            return False
        if self._trail.everything:
            self._note(message)
            return False
        found = brief(message.data)
        if not self._trail.wants(found):
            return False
        self._note(message)
        return self._trail.learn(found.ids)

    def _note(self, message: Traced) -> None:
        self._told[message.number] = None
        if len(self._told) > 2 * self._tracer.messages:
            self._told.popitem(last=False)
        self._tell(message)

    def look_back(self) -> None:
        """Tell what the ring has since the time asked for."""
        # Each round but the last learns an id, and what is told is not told again: it ends.
        again = True
        while again:
            again = False
            for message in self._tracer.kept():
                again = self._take(message) or again


class Tracer:
    """`wire` goes into `Transports.wires`. Keeps the last `messages`, of at most `size` octets together.

    now: epoch seconds.
    """

    def __init__(self, now: Callable[[], float], *, messages: int = 2_000, size: int = 2 << 20) -> None:
        self.messages = messages
        self._now = now
        self._size_limit = size
        self._size = 0
        self._number = 0
        self._ring: deque[tuple[int, float, bool, Flow, bytes]] = deque()
        self._onlookers: list[Onlooker] = []

    def wire(self, sent: bool, flow: Flow, data: bytes) -> None:
        """A message goes by."""
        self._number += 1
        record = (self._number, self._now(), sent, flow, data)
        ring = self._ring
        ring.append(record)
        self._size += len(data)
        while len(ring) > self.messages or self._size > self._size_limit:
            self._size -= len(ring.popleft()[4])
        if self._onlookers:
            message = Traced(*record)
            for onlooker in tuple(self._onlookers):
                try:
                    onlooker.hear(message)
                except Exception:
                    log.failure("An onlooker failed, and is let go")
                    self.forget(onlooker)

    def kept(self) -> list[Traced]:
        """What the ring has, oldest first."""
        return [Traced(*record) for record in self._ring]

    def watch(self, trail: Trail, tell: Callable[[Traced], None], *, since: float | None = None) -> Onlooker:
        """Tell of every message of `trail` from now on, or from `since` (epoch seconds) as far as the ring goes."""
        onlooker = Onlooker(self, trail, tell, self._now() if since is None else since)
        self._onlookers.append(onlooker)
        onlooker.look_back()
        return onlooker

    def forget(self, onlooker: Onlooker) -> None:
        """Stop telling it."""
        if onlooker in self._onlookers:
            self._onlookers.remove(onlooker)
