"""A softphone that knows is-composing and receipts: the project's own user agent, told by the test what to do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Self

from sip_trunk.sip import composing, cpim, imdn
from sip_trunk.sip.composing import Composing, parse_composing
from sip_trunk.sip.cpim import parse_cpim
from sip_trunk.sip.imdn import About, AskedFor, Receipt, asked_for, read_receipt
from sip_trunk.transactions import TransactionLayer
from sip_trunk.transport import Transports
from sip_trunk.user_agent import CallEvent, IncomingCall, IncomingRequest, Target, UserAgent
from tests.peers.process import PeerFailed, until
from tests.peers.warmline import Warmline

ACCEPT = f"application/sdp, text/plain, {composing.MEDIA_TYPE}, {cpim.MEDIA_TYPE}, {imdn.MEDIA_TYPE}"
# Nobody hears this phone: it takes the short call that asks for a chat, and waits for its end.
SOUNDLESS = (
    b"v=0\r\no=phone 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=recvonly\r\n"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A line on the phone's screen. `asked`: the receipts its sender wants."""

    contact: str
    text: str
    asked: AskedFor | None


class TextPhone:
    """It picks up every call, and says "delivered" of every line that asks; "displayed" is said by the test."""

    def __init__(self, server: Warmline, user: str) -> None:
        self.user = user
        self.address = f"sip:{user}@127.0.0.1"
        self.lines: list[Shown] = []
        self.states: list[tuple[str, Composing]] = []  # (contact, state)
        self.receipts: list[tuple[str, Receipt]] = []  # (contact, receipt)
        self._server = ("127.0.0.1", server.sip_port)
        self._credentials = (user, f"{user}-phone")

    async def __aenter__(self) -> Self:
        from twisted.internet import reactor

        self._transports = Transports(reactor, public_host="127.0.0.1")
        self._layer = TransactionLayer(self._transports, reactor)
        agent = UserAgent(
            self._layer,
            self._transports,
            clock=reactor,
            domain_names=set(),
            product="Text phone",
        )
        self._agent = agent
        agent.on_invite = self._on_invite
        agent.methods["MESSAGE"] = self._on_message
        agent.methods["OPTIONS"] = lambda request: request.respond(
            200, headers=[("Accept", ACCEPT), ("Allow", "INVITE, ACK, CANCEL, BYE, MESSAGE, OPTIONS")]
        )
        self._transports.listen_udp("127.0.0.1", 0)
        self._flow = self._transports.flow_to_address("UDP", *self._server)
        await self.registers()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hangs_up()
        self._layer.stop()
        await self._transports.stop()

    # What the test does with it

    async def registers(self) -> None:
        """For two minutes from now on."""
        contact = f"<{self._agent.contact(self._flow, self.user)}>"
        status = await self._request(
            "REGISTER", "sip:127.0.0.1", headers=[("Contact", contact), ("Expires", "120")]
        )
        if status != 200:
            raise PeerFailed(f"{self.user} cannot register: {status}")

    def hangs_up(self) -> None:
        """Every call it has, be the server there to hear it or not."""
        for call in tuple(self._agent.calls):
            call.hangup()

    async def says(self, contact: str, text: str) -> int:
        """A line that asks for both receipts; its Message-ID is its text."""
        body = imdn.request(
            text.replace(" ", "-"), self.address, f"sip:{contact}@127.0.0.1", 1_700_000_000.0, text
        )
        return await self._message(contact, body, cpim.MEDIA_TYPE)

    async def composes(self, contact: str, active: bool, refresh_s: int | None = None) -> int:
        return await self._message(contact, Composing(active, refresh_s).to_bytes(), composing.MEDIA_TYPE)

    async def displays(self, line: Shown) -> int:
        """The agent has looked at the line: its sender is told."""
        return await self._tells(line, About.DISPLAY, "displayed")

    async def shows(self, contact: str, text: str) -> Shown:
        """The line on the screen, once it is there."""

        def found() -> Shown | None:
            return next((line for line in self.lines if (line.contact, line.text) == (contact, text)), None)

        return await until(found, f"{text!r} of {contact} on the phone; it shows {self.lines}")

    def told(self, contact: str) -> list[tuple[str, str]]:
        """(Message-ID, status) of each receipt that came from a contact."""
        return [(receipt.message_id, receipt.status) for whose, receipt in self.receipts if whose == contact]

    # What it does by itself

    def _on_invite(self, call: IncomingCall) -> None:
        def ignore(event: CallEvent) -> None: ...

        call.on_event = ignore
        call.accept(SOUNDLESS)

    def _on_message(self, request: IncomingRequest) -> None:
        message = request.message
        contact = str(message.from_.uri).removeprefix("sip:").partition("@")[0]
        request.respond(200)
        if message.content_type == composing.MEDIA_TYPE:
            self.states.append((contact, parse_composing(message.body)))
        elif message.content_type == cpim.MEDIA_TYPE:
            wrapped = parse_cpim(message.body)
            receipt = read_receipt(wrapped)
            if receipt is not None:
                self.receipts.append((contact, receipt))
                return
            line = Shown(contact, wrapped.text, asked_for(wrapped))
            self.lines.append(line)
            if line.asked is not None and line.asked.delivery:
                self._later = asyncio.ensure_future(self._tells(line, About.DELIVERY, "delivered"))
        else:
            self.lines.append(Shown(contact, message.body.decode(), None))

    async def _tells(self, line: Shown, about: About, status: str) -> int:
        if line.asked is None:
            raise PeerFailed(f"{line} wants no receipt")
        receipt = Receipt(line.asked.message_id, line.asked.sent_at or 0.0, about, status)
        body = imdn.answer(
            receipt, "of-the-phone", self.address, f"sip:{line.contact}@127.0.0.1", 1_700_000_000.0
        )
        return await self._message(line.contact, body, cpim.MEDIA_TYPE)

    async def _message(self, contact: str, body: bytes, content_type: str) -> int:
        return await self._request(
            "MESSAGE",
            f"sip:{contact}@127.0.0.1",
            to=f"sip:{contact}@127.0.0.1",
            body=body,
            content_type=content_type,
        )

    async def _request(self, method: str, uri: str, *, to: str | None = None, **more: Any) -> int:
        response = await self._agent.request(
            method,
            Target(uri, flow=self._flow),
            from_=self.address,
            to=to or self.address,
            credentials=self._credentials,
            **more,
        )
        return response.status
