"""What one chat sends to its agent's phones as SIP MESSAGE (RFC 3428): lines, receipts, and that the customer writes.

A phone gets plain text unless it has shown that it reads more: it is asked by OPTIONS when the chat reaches it
(RFC 3261 s11), and one that sends an is-composing message reads them too. XML in a phone that knows none would stand
before the agent as if the customer had written it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from config.bridge import spawn
from config.ids import new_id
from pbx.composing import PROMISED_S
from pbx.contact import Channel, Contact
from pbx.invitation import contact_from
from pbx.staffing import Phone, Staffing
from pbx.store import Message
from sip_trunk.flow import Flow
from sip_trunk.sip import composing, cpim, imdn
from sip_trunk.sip.composing import Composing
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.header_values import parse_media_type, split_list
from sip_trunk.sip.imdn import About, AskedFor, Receipt
from sip_trunk.sip.message import Response
from sip_trunk.sip.uri import SipUri, parse_uri
from sip_trunk.user_agent import UserAgent

log = Logger()

PLAIN_TEXT = "text/plain;charset=UTF-8"
# How long a line waits for the phone to say what it reads; one that is slow gets it as plain text.
ASK_S = 1.0
MOST_PHONES = 20
# What a request comes back with that reached nobody (RFC 3261 s8.1.3.1, RFC 5626 s5.3).
_NOBODY_THERE = (408, 430, 503)

Where = tuple[str, str]
"""A device and the address it is registered at: another phone may use the same credentials later."""


@dataclass(frozen=True, slots=True)
class _Owed:
    """A line whose sender wants to be told when it was shown."""

    asked: AskedFor
    device_id: str
    flow: Flow


class ChatPhones:
    """`phone` is the one that took the last line, at first the one that accepted. `now` is in epoch seconds."""

    def __init__(
        self,
        contact: Contact,
        staffing: Staffing,
        user_agent: UserAgent,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        domain: str,
    ) -> None:
        self._contact = contact
        self._staffing = staffing
        self._user_agent = user_agent
        self._clock = clock
        self._now = now
        self._domain = domain
        self.phone: Phone | None = None
        self._reads: dict[Where, set[str]] = {}
        self._asking: dict[Where, asyncio.Task[None]] = {}
        self._sent_to: dict[str, str] = {}  # by line, the device whose receipts count
        self._owed: dict[str, _Owed] = {}  # by line

    def begin(self, phone: Phone) -> None:
        """The chat is this phone's: what another agent's phones can do and were owed is over."""
        self.end()
        self.phone = phone
        self._ask(phone)

    def end(self) -> None:
        self.phone = None
        for known in (self._reads, self._asking, self._sent_to, self._owed):
            known.clear()

    # What a phone reads

    def understood(self, device_id: str, flow: Flow, media_type: str) -> None:
        """The phone has sent such a body itself."""
        phone = self._phone_of(device_id, flow)
        if phone is not None:
            self._known(_where(phone)).add(media_type)

    def _known(self, where: Where) -> set[str]:
        if where not in self._reads and len(self._reads) >= MOST_PHONES:
            self._reads.clear()
            self._asking.clear()
        return self._reads.setdefault(where, set())

    def _ask(self, phone: Phone) -> asyncio.Task[None]:
        where = _where(phone)
        known = self._known(where)
        asking = self._asking.get(where)
        if asking is None:
            asking = self._asking[where] = spawn(
                self._learn(phone, known), f"asking {phone.name} what it reads"
            )
        return asking

    async def _learn(self, phone: Phone, known: set[str]) -> None:
        response = await self._user_agent.request(
            "OPTIONS", phone.target, from_=f"<sip:{self._domain}>", to=f"<{phone.aor}>"
        )
        known |= _accepted(response)

    async def _reads_of(self, phone: Phone) -> set[str]:
        asking = self._ask(phone)
        if not asking.done():
            late: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            timer = self._clock.callLater(ASK_S, late.set_result, None)
            try:
                await asyncio.wait([asking, late], return_when=asyncio.FIRST_COMPLETED)
            finally:
                if timer.active():
                    timer.cancel()
                late.cancel()
        return self._known(_where(phone))

    # Lines

    async def line(self, agent_id: str, line: Message) -> bool:
        """To the phone that has the conversation; if that one does not take it, to the agent's others.

        Only to where they are registered now: what was a phone's address yesterday may be somebody else's.
        """
        for phone in self._phones(agent_id):
            if await self._line_to(phone, line):
                self.phone = phone
                return True
        return False

    async def words(self, agent_id: str, text: str) -> bool:
        """A line of the house's own, of which no receipt is wanted. As `line`."""
        for phone in self._phones(agent_id):
            if await self._send(phone, text.encode("utf-8", "replace"), PLAIN_TEXT):
                return True
        return False

    async def _line_to(self, phone: Phone, line: Message) -> bool:
        reads = await self._reads_of(phone)
        if cpim.MEDIA_TYPE in reads:
            from_, to = contact_from(self._contact, self._domain), f"<{phone.aor}>"
            wrapped = imdn.request(line.id, from_, to, line.at, line.text)
            # Noted first: a receipt may overtake the 200.
            self._sent_to[line.id] = phone.device_id
            status = await self._request(phone, wrapped, cpim.MEDIA_TYPE)
            if 200 <= status < 300:
                return True
            self._sent_to.pop(line.id, None)
            if status != 415:
                self._not_taken(phone, status)
                return False
            reads.discard(cpim.MEDIA_TYPE)  # what a phone does goes before what it says
        return await self._send(phone, line.text.encode("utf-8", "replace"), PLAIN_TEXT)

    async def _send(self, phone: Phone, body: bytes, content_type: str) -> bool:
        status = await self._request(phone, body, content_type)
        if 200 <= status < 300:
            return True
        self._not_taken(phone, status)
        return False

    def _not_taken(self, phone: Phone, status: int) -> None:
        if status in _NOBODY_THERE:
            _wake(phone)
        log.info(
            "A line of {contact} was not taken by {phone}: {status}",
            contact=self._contact.id,
            phone=phone.name,
            status=status,
        )

    async def _request(self, phone: Phone, body: bytes, content_type: str) -> int:
        response = await self._user_agent.request(
            "MESSAGE",
            phone.target,
            from_=contact_from(self._contact, self._domain),
            to=f"<{phone.aor}>",
            headers=[("X-Warmline-Contact", self._contact.id)],
            body=body,
            content_type=content_type,
        )
        return response.status

    # That the customer writes

    def composing(self, active: bool) -> None:
        """Told to the phone that has the conversation, if it reads that. Once: it is worth nothing later."""
        phone = self._still_there()
        if phone is None or composing.MEDIA_TYPE not in self._known(_where(phone)):
            return
        state = Composing(active, PROMISED_S if active else None, "text/plain")
        spawn(self._tell_state(phone, state), f"composing state of {self._contact.id}")

    async def _tell_state(self, phone: Phone, state: Composing) -> None:
        if await self._request(phone, state.to_bytes(), composing.MEDIA_TYPE) == 415:
            self._known(_where(phone)).discard(composing.MEDIA_TYPE)

    # Receipts

    def is_receipt_of(self, line_id: str, device_id: str) -> bool:
        """Whether a receipt for this line may come from this device: RFC 5438 s14, only from where the line went."""
        return self._sent_to.get(line_id) == device_id

    def taken(self, line: Message, asked: AskedFor, device_id: str, flow: Flow) -> None:
        """A line of the agent's is durable: its phone hears so, and hears of its display when that comes."""
        owed = _Owed(asked, device_id, flow)
        if asked.delivery:
            self._receipt(owed, About.DELIVERY, "delivered")
        if asked.display and line.read_at is None:
            self._owed[line.id] = owed

    def shown(self, line_id: str) -> None:
        """The customer's page has shown a line of the agent's."""
        owed = self._owed.pop(line_id, None)
        if owed is not None:
            self._receipt(owed, About.DISPLAY, "displayed")

    def _receipt(self, owed: _Owed, about: About, status: str) -> None:
        phone = self._phone_of(owed.device_id, owed.flow)
        if phone is None:
            return
        now = self._now()
        sent_at = owed.asked.sent_at if owed.asked.sent_at is not None else now
        body = imdn.answer(
            Receipt(owed.asked.message_id, sent_at, about, status),
            new_id("r"),
            contact_from(self._contact, self._domain),
            f"<{phone.aor}>",
            now,
        )
        spawn(self._request(phone, body, cpim.MEDIA_TYPE), f"receipt in {self._contact.id}")

    # Which phone

    def _phones(self, agent_id: str) -> list[Phone]:
        phones = []
        for phone in self._staffing.phones(agent_id, Channel.CHAT):
            if phone.asleep:
                _wake(phone)  # it gets what it has missed when it is back
            else:
                phones.append(phone)
        last = self.phone
        if last is not None:
            phones.sort(
                key=lambda phone: (phone.device_id != last.device_id, phone.target.uri != last.target.uri)
            )
        return phones

    def _still_there(self) -> Phone | None:
        agent_id, last = self._contact.agent_id, self.phone
        if agent_id is None or last is None:
            return None
        where = _where(last)
        phones = self._staffing.phones(agent_id, Channel.CHAT)
        return next((phone for phone in phones if _where(phone) == where and not phone.asleep), None)

    def _phone_of(self, device_id: str, flow: Flow) -> Phone | None:
        """The registered phone that a request of this device came from by `flow`; None when it cannot be told."""
        agent_id = self._contact.agent_id
        if agent_id is None:
            return None
        phones = [
            phone for phone in self._staffing.phones(agent_id, Channel.CHAT) if phone.device_id == device_id
        ]
        exact = [phone for phone in phones if phone.target.flow is flow or _address(phone) == flow.peer]
        if len(exact) == 1:
            return exact[0]
        return phones[0] if len(phones) == 1 else None


def _wake(phone: Phone) -> None:
    if phone.wake is not None:
        phone.wake("message", lambda now, why: None)


def _where(phone: Phone) -> Where:
    return phone.device_id, str(phone.target.uri)


def _address(phone: Phone) -> tuple[str, int] | None:
    try:
        uri = parse_uri(str(phone.target.uri))
    except BadMessage:
        return None
    return (uri.host, uri.port or 5060) if isinstance(uri, SipUri) else None


def _accepted(response: Response) -> set[str]:
    """The media types of a 2xx's Accept that are named in full: a wildcard is no promise to read our XML."""
    if not 200 <= response.status < 300:
        return set()
    found = set()
    try:
        for item in (item for value in response.headers.all("Accept") for item in split_list(value)):
            found.add(parse_media_type(item)[0])
    except BadMessage:
        return found
    return found
