"""Every INVITE that comes from outside a dialog, by whom it is from:

from a trunk              to one of our numbers           a phone caller's contact        `_from_trunk`
                          to an agent, where it may       a direct call                   `_from_trunk`
from a customer's page    to its contact's own address    that contact's customer leg     `_from_app`
from an agent's phone     to a feature code               ready, not ready                `_from_phone`
                          to an agent, or a number        a direct call                   `_from_phone`
                          in place of another phone       the same call, at this phone    `_from_phone`
anything else                                             a clear refusal                 `_refuse`
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from twisted.logger import Logger

from agent_presence.roster import Agent, Roster
from config.bridge import spawn
from config.errors import WarmlineError
from config.events import EventLog
from pbx.agent_message import Authenticate
from pbx.app_credentials import AppCredentials
from pbx.calls import Calls
from pbx.contact import Channel, Contact, Disposition
from pbx.destination import Destinations
from pbx.direct_call import Caller
from pbx.direct_calls import DirectCalls
from pbx.dossier import highest_levels
from pbx.feature_codes import FeatureCodes
from pbx.front_desk import FrontDesk
from pbx.inbound_menu import InboundMenus
from pbx.invitation import plain
from pbx.open_contacts import OpenContacts
from pbx.transfer import Transfers
from sip_trunk.authentication import Challenge
from sip_trunk.call import Call
from sip_trunk.flow import Flow
from sip_trunk.identity import CallerIdentity, identity_of
from sip_trunk.sip.header_values import quote_string
from sip_trunk.sip.message import Request
from sip_trunk.sip.uri import SipUri
from sip_trunk.trunk import Trunk, TrunkTable, called_address, called_number
from sip_trunk.user_agent import IncomingCall

log = Logger()

# RFC 3323 s4.1.1.3
ANONYMOUS = "anonymous.invalid"


class Inbound:
    """`on_invite` and `vouch` are the `UserAgent`'s `on_invite` and `vouches`.

    `domain` is the one customers and agents are asked to prove.
    """

    def __init__(
        self,
        desk: FrontDesk,
        contacts: OpenContacts,
        calls: Calls,
        feature_codes: FeatureCodes,
        roster: Roster,
        app_credentials: AppCredentials,
        authenticate: Authenticate,
        trunks: TrunkTable,
        events: EventLog,
        *,
        domain: str,
        destinations: Destinations,
        direct_calls: DirectCalls,
        transfers: Transfers,
        menus: InboundMenus,
    ) -> None:
        self._menus = menus
        self._destinations = destinations
        self._direct_calls = direct_calls
        self._transfers = transfers
        self._desk = desk
        self._contacts = contacts
        self._calls = calls
        self._feature_codes = feature_codes
        self._roster = roster
        self._app_credentials = app_credentials
        self._authenticate = authenticate
        self._trunks = trunks
        self._events = events
        self._domain = domain.lower()

    def on_invite(self, call: IncomingCall) -> None:
        if self._desk.draining:
            self._refuse(call, 503, "The Server Is Stopping")
            return
        assert call.flow is not None
        browser = call.flow.transport in ("WS", "WSS")
        trunk = None if browser else self._trunks.of(call.request, call.flow)
        if trunk is not None:
            if call.replaces is not None:
                # RFC 3891 s9: who may name a dialog may steal it; no trunk has any business in one of ours.
                self._refuse(call, 403, "Only Agents Replace Calls")
                return
            self._serve(call, self._from_trunk(call, trunk))
            return
        if not (browser or self._says_ours(call.request)):
            self._refuse(call, 403, "Not From A Known Trunk")
            return
        who = self._authenticate(call.request, call.flow)
        if isinstance(who, Challenge):
            call.refuse(who.status, who.reason, headers=who.headers)
            return
        agent = self._roster.agent_of_username(who)
        if agent is not None:
            self._serve(call, self._from_phone(call, agent, who))
            return
        customer_id = self._app_credentials.customer_of(who)
        if customer_id is not None and call.replaces is None:
            self._serve(call, self._from_app(call, customer_id))
            return
        self._refuse(call, 403, "Nobody Known")

    def vouch(self, call: Call, request: Request, flow: Flow) -> Challenge | None:
        """For `UserAgent.vouches`: whoever speaks in a phone's call from another host has to know a password. A trunk
        knows none, and may well have hosts that nobody told us of."""
        if self._trunks.by_peer(flow) is not None or (call.flow and self._trunks.by_peer(call.flow)):
            return None
        who = self._authenticate(request, flow)
        return who if isinstance(who, Challenge) else None

    async def _from_trunk(self, call: IncomingCall, trunk: Trunk) -> None:
        """The called number says whose customer it is; the caller's, when they have proved it, which customer."""
        dialled, caller = called_number(call.request, trunk) or "", identity_of(call.request, trunk)
        contact, ours = None, ""
        # Some carriers leave out the plus of E.164.
        for number in (dialled, f"+{dialled}") if dialled else ():
            if contact is None:
                ours = number
                contact = await self._contact_from(trunk, number, caller)
        if contact is None:
            if trunk.extensions and not self._desk.draining:
                await self._to_extension(call, trunk, caller)
            else:
                self._refuse(call, 404, "Not One Of Our Numbers", dialled=dialled, trunk=trunk.name)
            return
        greeting = await self._calls.greet(contact.id, Channel.VOICE, call)
        if not greeting.leg.alive:  # hung up before there was anything
            return
        menu = self._menus.of(ours)
        if menu is None:
            await self._desk.take_call(contact, greeting, diverted_from=caller.diverted_from)
            return
        try:
            chosen = await self._menus.ask(contact.id, greeting, menu)
            if chosen is None:
                return
            if chosen.choice is not None and chosen.choice.product:
                product_id = chosen.choice.product
                contact = await self._contact_from(trunk, ours, caller, product_id, contact.id) or contact
            known = highest_levels(self._roster, contact.facts.provider_id)
            contact.needs = chosen.needs(contact.needs, known)
            greeting = replace(greeting, answered=True)
            await self._desk.take_call(contact, greeting, diverted_from=caller.diverted_from)
        except BaseException:
            if contact.open and self._contacts.get(contact.id) is contact:
                self._contacts.end(contact, Disposition.MEDIA_FAILED, reason="it could not be taken")
            greeting.leg.end("it could not be taken")  # answered as it is, it can no longer be refused
            raise

    async def _contact_from(
        self,
        trunk: Trunk,
        number: str,
        caller: CallerIdentity,
        product_id: str = "",
        contact_id: str | None = None,
    ) -> Contact | None:
        return await self._desk.from_phone(
            trunk.name,
            number,
            caller.number or "",
            anonymous=caller.anonymous,
            product_id=product_id,
            contact_id=contact_id,
        )

    async def _to_extension(self, call: IncomingCall, trunk: Trunk, caller: CallerIdentity) -> None:
        """An enterprise's own exchange calls an agent by name; nobody calls out from a trunk."""
        dialled = called_address(call.request, trunk)
        if dialled is not call.request.uri:
            # Called by the name we have there, which is known here by the user alone.
            dialled = SipUri(user=dialled.user, host=self._domain)
        destination = self._destinations.find(dialled, numbers=False)
        shown = f"<sip:anonymous@{ANONYMOUS}>"
        if not caller.anonymous:
            shown = f"{quote_string(plain(caller.name))} <sip:{caller.number or 'unknown'}@{self._domain}>"
        who = "anonymous" if caller.anonymous else caller.number or "unknown"
        await self._direct_calls.place(call, Caller(who, shown, trunk=trunk.name), destination)

    async def _from_app(self, call: IncomingCall, customer_id: str) -> None:
        """A page calls its contact's address: for the first time, or again after it was lost."""
        contact = self._contacts.known(call.request.uri.user or "")
        if contact is None:
            self._refuse(call, 404, "No Such Contact", customer=customer_id)
        elif contact.facts.customer_id != customer_id:
            self._refuse(call, 403, "Not Your Contact", customer=customer_id)
        elif not contact.open:
            self._refuse(call, 410, "This Contact Has Ended", contact=contact.id)
        elif contact.channel is Channel.CHAT:
            self._refuse(call, 488, "This Contact Is A Chat", contact=contact.id)
        else:
            await self._calls.arrive(contact, await self._calls.greet(contact.id, contact.channel, call))

    async def _from_phone(self, call: IncomingCall, agent: Agent, username: str) -> None:
        """A feature code, a colleague, a number; or another of their phones, that a call goes on at."""
        dialled = call.request.uri.user or ""
        if call.replaces is not None:
            await self._transfers.replace(call, agent.id, call.replaces)
        elif self._feature_codes.knows(dialled):
            await self._feature_codes.dialled(agent.id, dialled, call)
        else:
            destination = self._destinations.find(call.request.uri, numbers=True)
            address = f"sip:{username}@{self._domain}"
            caller = Caller(address, f"{quote_string(agent.name)} <{address}>", agent.id)
            await self._direct_calls.place(call, caller, destination)

    def _says_ours(self, request: Request) -> bool:
        """Whether they claim to be one of us: only then is there a password to ask for. No name of ours is a number."""
        address = request.from_.uri
        ours = isinstance(address, SipUri) and address.host.lower() == self._domain
        return (ours and not (address.user or "").startswith("+")) or "Authorization" in request.headers

    def _serve(self, call: IncomingCall, work: Coroutine[Any, Any, None]) -> None:
        spawn(self._served(call, work), f"the INVITE {call.id}")

    async def _served(self, call: IncomingCall, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except WarmlineError as error:
            self._refuse(call, error.status, error.reason.rstrip("."))
        except Exception:
            self._refuse(call, 500, "Server Internal Error")
            raise

    def _refuse(
        self, call: IncomingCall, status: int, reason: str, contact: str | None = None, **facts: str
    ) -> None:
        call.refuse(status, reason)
        self._events.write(
            "call.refused",
            contact=contact,
            status=status,
            reason=reason,
            from_=str(call.request.from_.uri),
            to=call.request.uri_text,
            peer=call.flow.peer[0] if call.flow is not None else None,
            **facts,
        )
