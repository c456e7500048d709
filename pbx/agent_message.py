"""A MESSAGE from an agent's phone: a line of the chat whose address it was sent to, or what is told about one.

What is in it may be plain text, an is-composing status (RFC 3994), or either of them or a receipt (RFC 5438) wrapped in
message/cpim (RFC 3862). Who sent it and to which chat only SIP's own headers say, which were proved; never CPIM's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent_presence.roster import Device, Roster
from config.bridge import spawn
from config.errors import WarmlineError
from pbx.chat import LONGEST_LINE, Chats
from pbx.contact import Channel, Contact, Disposition, State
from pbx.open_contacts import OpenContacts
from sip_trunk.authentication import Challenge
from sip_trunk.flow import Flow
from sip_trunk.incoming_request import IncomingRequest
from sip_trunk.sip import composing, cpim, imdn
from sip_trunk.sip.composing import Composing, parse_composing
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.imdn import AskedFor, Receipt
from sip_trunk.sip.message import Request

Authenticate = Callable[[Request, Flow], str | Challenge]
"""The name a request proves, or the refusal to send: `Authenticator.check`, with the guard told what came of it."""

END = "/end"
ACCEPTED = ("text/plain", composing.MEDIA_TYPE, cpim.MEDIA_TYPE, imdn.MEDIA_TYPE)
"""What an agent's phone may send: for our Accept."""
_LARGEST_BODY = 4 * LONGEST_LINE


@dataclass(frozen=True, slots=True)
class Line:
    """`asked`: what its sender wants to be told about it."""

    text: str
    asked: AskedFor | None = None


def read(message: Request) -> Line | Composing | Receipt:
    """What is in a MESSAGE. Raises BadMessage: 413 for too much, 415 for another type, 400 for a malformed one."""
    kind = message.content_type
    if kind == composing.MEDIA_TYPE:
        return parse_composing(message.body)
    if len(message.body) > _LARGEST_BODY + (cpim.LARGEST_HEAD if kind == cpim.MEDIA_TYPE else 0):
        raise BadMessage("Message Too Large", 413)
    if kind in (None, "text/plain"):
        return Line(_decoded(message.body))
    if kind != cpim.MEDIA_TYPE:
        raise BadMessage("Unsupported Media Type", 415)
    wrapped = cpim.parse_cpim(message.body)
    if wrapped.content_type == imdn.MEDIA_TYPE:
        return imdn.parse_imdn(wrapped.content)
    if wrapped.content_type == composing.MEDIA_TYPE:
        return parse_composing(wrapped.content)
    return Line(wrapped.text, imdn.asked_for(wrapped))


def _decoded(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadMessage("Not UTF-8", 415) from error


class AgentMessages:
    """What `UserAgent.methods["MESSAGE"]` is given to."""

    def __init__(
        self, contacts: OpenContacts, chats: Chats, roster: Roster, authenticate: Authenticate
    ) -> None:
        self._contacts = contacts
        self._chats = chats
        self._roster = roster
        self._authenticate = authenticate

    def on_message(self, request: IncomingRequest) -> None:
        """Refused: no proof of who it is (401), no agent or not their chat (403), no such chat (404, 410 when it has
        ended), of another type (415), malformed (400), too long (413). Taken (200): a line once it is durable."""
        message = request.message
        who = self._authenticate(message, request.flow)
        if isinstance(who, Challenge):
            request.respond(who.status, who.reason, headers=who.headers)
            return
        agent = self._roster.agent_of_username(who)
        device = self._roster.device_by_username(who)
        if agent is None or device is None:
            request.respond(403, "Only Agents Write Here")
            return
        # The address of the contact: phones answer to the From of what they were sent, some by its Contact.
        contact = self._contacts.known(message.uri.user or "") or self._contacts.known(
            message.to.uri.user or ""
        )
        if contact is None or contact.channel is not Channel.CHAT:
            request.respond(404, "No Such Chat")
        elif contact.agent_id != agent.id:
            request.respond(403, "Not Your Chat")
        else:
            try:
                said = read(message)
            except BadMessage as error:
                accept = [("Accept", ", ".join(ACCEPTED))] if error.status == 415 else ()
                request.respond(error.status, error.reason, headers=accept)
                return
            self._heard(request, contact, device, said)

    def _heard(
        self, request: IncomingRequest, contact: Contact, device: Device, said: Line | Composing | Receipt
    ) -> None:
        if isinstance(said, Receipt):
            # RFC 5438 s12: one that fits nothing is dropped, and its sender has done nothing wrong; an old chat's too.
            self._chats.receipt(contact, device.id, said)
            request.respond(200)
        elif not contact.open:
            request.respond(410, "This Chat Has Ended")
        elif contact.state is not State.CONNECTED:
            request.respond(403, "Not Your Chat Yet")
        elif isinstance(said, Composing):
            self._chats.phone_reads(contact, device.id, request.flow, composing.MEDIA_TYPE)
            self._chats.composing(contact, "agent", said.active, said.lasts_s)
            request.respond(200)
        elif said.text.strip() == END:
            request.respond(200)
            self._contacts.end(contact, Disposition.AGENT_HUNG_UP, reason="the agent ended the chat")
        else:
            spawn(self._take(request, contact, device, said), f"a line of the agent for {contact.id}")

    async def _take(self, request: IncomingRequest, contact: Contact, device: Device, said: Line) -> None:
        message = request.message
        try:
            # A phone that did not hear our 200 may say it again in a new transaction, with the same two.
            key = f"{message.call_id} {message.cseq.number}"
            line = await self._chats.say(contact, "agent", key, said.text)
        except WarmlineError as error:
            request.respond(error.status, error.reason)
        except Exception:
            request.respond(500)
            raise
        else:
            request.respond(200)
            if said.asked is not None:
                self._chats.receipt_wanted(contact, line, said.asked, device.id, request.flow)
