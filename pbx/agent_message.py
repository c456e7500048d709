"""A MESSAGE from an agent's phone: a line of the chat whose address it was sent to."""

from __future__ import annotations

from collections.abc import Callable

from agent_presence.roster import Roster
from config.bridge import spawn
from config.errors import WarmlineError
from pbx.chat import LONGEST_LINE, Chats
from pbx.contact import Channel, Disposition, State
from pbx.open_contacts import OpenContacts
from sip_trunk.authentication import Challenge
from sip_trunk.flow import Flow
from sip_trunk.incoming_request import IncomingRequest
from sip_trunk.sip.message import Request

Authenticate = Callable[[Request, Flow], str | Challenge]
"""The name a request proves, or the refusal to send: `Authenticator.check`, with the guard told what came of it."""

END = "/end"
_LARGEST_BODY = 4 * LONGEST_LINE


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
        ended), not plain text (415), too long (413). Taken (200): once the line is durable."""
        message = request.message
        who = self._authenticate(message, request.flow)
        if isinstance(who, Challenge):
            request.respond(who.status, who.reason, headers=who.headers)
            return
        agent = self._roster.agent_of_username(who)
        if agent is None:
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
        elif not contact.open:
            request.respond(410, "This Chat Has Ended")
        elif contact.state is not State.CONNECTED:
            request.respond(403, "Not Your Chat Yet")
        elif message.content_type not in (None, "text/plain"):
            request.respond(415, headers=[("Accept", "text/plain")])
        elif len(message.body) > _LARGEST_BODY:
            request.respond(413)
        else:
            try:
                text = message.body.decode()
            except UnicodeDecodeError:
                request.respond(415, "Not UTF-8", headers=[("Accept", "text/plain;charset=UTF-8")])
                return
            if text.strip() == END:
                request.respond(200)
                self._contacts.end(contact, Disposition.AGENT_HUNG_UP, reason="the agent ended the chat")
                return
            spawn(self._take(request, contact.id, text), f"a line of the agent for {contact.id}")

    async def _take(self, request: IncomingRequest, contact_id: str, text: str) -> None:
        message = request.message
        contact = self._contacts.get(contact_id)
        try:
            if contact is None:
                request.respond(410, "This Chat Has Ended")
                return
            # A phone that did not hear our 200 may say it again in a new transaction, with the same two.
            await self._chats.say(contact, "agent", f"{message.call_id} {message.cseq.number}", text)
        except WarmlineError as error:
            request.respond(error.status, error.reason)
        except Exception:
            request.respond(500)
            raise
        else:
            request.respond(200)
