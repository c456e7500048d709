"""Transfers: an agent's phone passes the other party on, blind (REFER to an address) or attended (to a call of theirs).

    blind     202 -> music for the other -> the target rung -> taken: joined, NOTIFY 200, the agent's leg ends
                                                            -> not: NOTIFY its status; as before
    attended  202 -> the other is joined with whom the agent has asked; both legs of the agent end

A phone may hang up as soon as it has seen the 202. The transfer then goes on without it; and a customer whom nobody
took is back in the queue, in their place.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger

from config.bridge import spawn
from config.errors import TheirError, WarmlineError
from config.events import EventLog
from media.server import MediaServer
from pbx.by_name import ByName, wall
from pbx.calls import Calls
from pbx.contact import Contact, State
from pbx.destination import Destination, Destinations
from pbx.direct_call import DirectCall, Party
from pbx.direct_calls import DirectCalls
from pbx.dispatch import Dispatch
from pbx.leg import Leg
from pbx.open_contacts import OpenContacts
from pbx.other_phone import Claims, OtherPhones
from pbx.prompt import Outcome, Prompt, Taken, status_of
from pbx.reservation import Reservation
from pbx.staffing import Phone
from sip_trunk import user_agent as sip

if TYPE_CHECKING:
    from sip_trunk.refer import Refer

log = Logger()


class Asker(Protocol):
    """What asked for a transfer and is told how it goes: a phone's REFER, or an agent's page."""

    def accept(self) -> None: ...
    def progress(self, status: int) -> None: ...
    def finish(self, status: int) -> None: ...


@dataclass(slots=True, eq=False)
class _Transfer:
    """One that is under way. `giver` is the agent who asked for it, `taker` the one asked, if it is an agent."""

    asker: Asker
    giver: str
    taker: str | None
    prompt: Prompt | None = None
    over: bool = False  # whoever was to be passed on has gone

    def give_up(self, why: str) -> None:
        self.over = True
        if self.prompt is not None:
            self.prompt.withdraw(why)


class Transfers:
    """Gives `Calls`, `DirectCalls` and the user agent's INVITEs with Replaces what they ask for."""

    def __init__(
        self,
        contacts: OpenContacts,
        calls: Calls,
        direct_calls: DirectCalls,
        dispatch: Dispatch,
        destinations: Destinations,
        by_name: ByName,
        media: MediaServer,
        events: EventLog,
    ) -> None:
        self._contacts = contacts
        self._calls = calls
        self._direct_calls = direct_calls
        self._dispatch = dispatch
        self._destinations = destinations
        self._by_name = by_name
        self._events = events
        self._under_way: dict[str, _Transfer] = {}  # by contact or direct call
        self.claims = Claims()
        self._other_phones = OtherPhones(calls, direct_calls, media, events, self.claims)
        calls.on_transfer = self.of_contact
        calls.shared = direct_calls.shared
        direct_calls.on_transfer = self.of_direct_call
        contacts.on_ended.append(lambda contact: self._gone(contact.id))
        direct_calls.on_ended.append(lambda direct: self._gone(direct.id))

    def _gone(self, call_id: str) -> None:
        transfer = self._under_way.get(call_id)
        if transfer is not None:
            transfer.give_up("the caller hung up")

    # What is asked for

    def of_contact(self, contact: Contact, leg: Leg, refer: Refer) -> None:
        """The agent of this contact wants the customer passed on."""
        giver = contact.agent_id
        if giver is None:
            # Somebody outside has it: calls out at their word would be at our cost.
            refer.refuse(403, "Only Agents Transfer Calls")
        elif self.claims.busy(contact.id):
            refer.refuse(491)
        elif refer.replaces is not None:
            found = self._consultation(refer, giver)
            if found is not None and self._may_go_to(refer, contact, *found):
                self._hand_to(contact, giver, refer, *found)
        elif (destination := self._wanted(refer, contact)) is not None:
            self.blind(contact, giver, destination, refer)

    def of_direct_call(self, direct: DirectCall, party: Party, refer: Refer) -> None:
        """An agent in a direct call wants the other party passed on."""
        giver = party.agent_id
        assert giver is not None
        if self.claims.busy(direct.id):
            refer.refuse(491)
        elif refer.replaces is None:
            destination = self._wanted(refer)
            if destination is None:
                return
            found = self._on_the_line(giver, destination, direct.media_call)
            if found is not None and found[0] is not direct:
                self._join_direct(direct, party, giver, refer, *found)
            else:
                self._pass_on_direct(direct, party, giver, refer, destination)
        elif (contact := self._contact_named(refer)) is not None:
            # The customer's side may just as well be the call that is replaced: then this one is the consultation.
            if contact.agent_id != giver or contact.state is not State.CONNECTED:
                refer.refuse(403, "Not Your Call")
            elif self.claims.busy(contact.id):
                refer.refuse(491)
            elif direct.media_call != contact.id:
                refer.refuse(488)
            elif self._may_go_to(refer, contact, direct, party):
                self._hand_to(contact, giver, refer, direct, party)
        elif (found := self._consultation(refer, giver)) is not None:
            if found[0] is direct:
                refer.refuse(400, "That Is This Call")
            else:
                self._join_direct(direct, party, giver, refer, *found)

    # What an agent's page asks for

    def blind(self, contact: Contact, giver: str, destination: Destination, asker: Asker) -> None:
        """Pass the customer on to somebody who is rung now. TheirError 491 where that is being done already."""
        if self.claims.busy(contact.id):
            raise TheirError("A Transfer Is Under Way", 491)
        found = self._on_the_line(giver, destination, contact.id)
        if found is not None:
            self._hand_to(contact, giver, asker, *found)
        else:
            self._pass_on(contact, giver, asker, destination)

    def call_off(self, contact: Contact) -> bool:
        """Whoever is rung is rung no longer, and the agent has the customer again. False: nothing was under way."""
        transfer = self._under_way.get(contact.id)
        if transfer is None:
            return False
        transfer.give_up("the agent thought better of it")
        return True

    def _wanted(self, refer: Refer, contact: Contact | None = None) -> Destination | None:
        try:
            destination = self._destinations.find(refer.target, numbers=True)
            if contact is not None:
                wall(contact, destination)
            return destination
        except TheirError as error:
            refer.refuse(error.status, error.reason)
            return None

    def _may_go_to(self, refer: Refer, contact: Contact, direct: DirectCall, party: Party) -> bool:
        """Whom an agent has asked by a direct call may be of other providers; the customer does not go there."""
        asked = direct.other(party)
        try:
            wall(contact, Destination(asked.shown, asked.from_, self._destinations.agent(asked.agent_id)))
        except TheirError as error:
            refer.refuse(error.status, error.reason)
            return False
        return True

    def _contact_named(self, refer: Refer) -> Contact | None:
        return self._calls.contact_of(refer.replaces_call) if refer.replaces_call is not None else None

    def _consultation(self, refer: Refer, agent_id: str) -> tuple[DirectCall, Party] | None:
        """The agent's own direct call that the REFER names, in which they are the party found."""
        found = self._direct_calls.find(refer.replaces_call) if refer.replaces_call is not None else None
        if found is None:
            refer.refuse(481, "That Call Is Not Here")
            return None
        direct, party = found
        if party.agent_id != agent_id:
            # RFC 3891 s9: who may name a dialog may steal it.
            refer.refuse(403, "Not Your Call")
            return None
        if direct.connected_at is None or self.claims.busy(direct.id):
            refer.refuse(491)
            return None
        return found

    def _on_the_line(
        self, agent_id: str, destination: Destination, media_call: str
    ) -> tuple[DirectCall, Party] | None:
        """Whom they ask for by name they talk to already: many phones have but one key for both transfers."""
        found = self._direct_calls.with_whom(agent_id, destination)
        if found is None or found[0].media_call != media_call or self.claims.busy(found[0].id):
            return None
        return found

    def _go(self, transfer: _Transfer, work: Coroutine[Any, Any, None], *call_ids: str) -> None:
        for call_id in call_ids:
            self._under_way[call_id] = transfer
            self.claims.take(call_id)

        async def run() -> None:
            try:
                await work
            except BaseException:
                transfer.asker.finish(500)
                raise
            finally:
                for call_id in call_ids:
                    del self._under_way[call_id]
                    self.claims.drop(call_id)

        spawn(run(), f"the transfer of {call_ids[0]}")

    # A contact, blind

    def _pass_on(self, contact: Contact, giver: str, asker: Asker, destination: Destination) -> None:
        transfer = _Transfer(asker, giver, destination.agent_id)
        # At once, and before the 202: many phones hang up as soon as they see it, some do not even wait for it.
        self._calls.set_aside(contact, lambda: self._giver_left(contact, transfer))
        self._accept(asker, contact, destination.shown, destination.agent_id, "blind")
        self._go(transfer, self._offer(contact, transfer, destination), contact.id)

    async def _offer(self, contact: Contact, transfer: _Transfer, destination: Destination) -> None:
        reservation, taken, status = None, False, 500
        try:
            phones = self._destinations.phones(destination, transfer.giver)
            reservation = await self._by_name.hold(contact, destination)
            await self._calls.play_music(contact)
            if transfer.over:
                status = 487
            else:
                prompt = self._by_name.prompt(contact, transfer.giver, destination, phones)
                prompt.on_ringing = lambda: transfer.asker.progress(180)
                transfer.prompt = prompt
                outcome = await self._by_name.ring(contact, destination, prompt)
                status = status_of(outcome)
                if isinstance(outcome, Taken):
                    status = 480
                    taken = await self._taken(contact, transfer, destination, outcome, reservation)
        except WarmlineError as error:
            status = error.status
        finally:
            if not taken:
                if reservation is not None:
                    reservation.release()
                await self._not_taken(contact, transfer, destination, status if contact.open else 487)

    async def _taken(
        self,
        contact: Contact,
        transfer: _Transfer,
        destination: Destination,
        taken: Taken,
        reservation: Reservation | None,
    ) -> bool:
        def decide() -> bool:
            if not self._dispatch.hand_over(contact, reservation):
                return False
            to = Party(
                destination.shown, destination.from_, destination.agent_id, destination.trunk_name, taken.leg
            )
            self._tell_transferred(contact, transfer, to, "blind")
            return True

        if contact.open and await self._calls.take_over(contact, taken.leg, decide):
            return True
        taken.leg.end("the caller hung up" if not contact.open else "too late")
        return False

    def _giver_left(self, contact: Contact, transfer: _Transfer) -> None:
        """Their part is done: they write up, while the target still rings."""
        self._dispatch.let_go(contact)
        if contact.state is State.CONNECTED:
            self._contacts.agent_left(contact, transfer.taker)

    async def _not_taken(
        self, contact: Contact, transfer: _Transfer, destination: Destination, status: int
    ) -> None:
        self._failed(contact, transfer, destination, status)
        if not contact.open:
            return
        if contact.state is State.CONNECTED:
            await self._calls.give_back(contact)
        else:
            self._calls.back_to_queue(contact, transfer.taker)

    # A contact, attended

    def _hand_to(self, contact: Contact, giver: str, asker: Asker, direct: DirectCall, party: Party) -> None:
        """Join the customer with whom the agent has asked: the other party of `direct`."""
        asked = direct.other(party)
        transfer = _Transfer(asker, giver, asked.agent_id)
        self._calls.set_aside(contact, lambda: self._giver_left(contact, transfer))
        self._direct_calls.set_aside(direct, party)
        self._accept(asker, contact, asked.shown, asked.agent_id, "attended")
        self._go(transfer, self._hand_over(contact, transfer, direct, asked), contact.id, direct.id)

    async def _hand_over(
        self, contact: Contact, transfer: _Transfer, direct: DirectCall, asked: Party
    ) -> None:
        leg = asked.leg
        reservation, taken, status = None, False, 488

        def decide() -> bool:
            if direct.over or leg is None or asked.leg is not leg:
                return False
            if not self._dispatch.hand_over(contact, reservation):
                return False
            self._tell_transferred(contact, transfer, asked, "attended")
            leg.tidies = True
            self._direct_calls.hand_out(direct, asked)
            return True

        try:
            if direct.media_call == contact.id and leg is not None:
                status = 480
                if asked.agent_id is not None:
                    reservation = await self._dispatch.hold(contact, asked.agent_id)
                held = asked.agent_id is None or reservation is not None
                if held and contact.open and not direct.over:
                    taken = await self._calls.take_over(contact, leg, decide)
        except WarmlineError as error:
            status = error.status
        finally:
            if not taken:
                if reservation is not None:
                    reservation.release()
                # Both calls of the agent are as they were, or over if the agent has left them.
                await self._direct_calls.give_back(direct)
                destination = Destination(asked.shown, asked.from_)
                await self._not_taken(contact, transfer, destination, status if contact.open else 487)

    # Direct calls

    def _pass_on_direct(
        self, direct: DirectCall, party: Party, giver: str, refer: Refer, destination: Destination
    ) -> None:
        transfer = _Transfer(refer, giver, destination.agent_id)
        self._direct_calls.set_aside(direct, party)
        refer.accept()
        self._tell_direct("transfer_requested", direct, giver, destination.shown)
        self._go(transfer, self._offer_direct(direct, party, transfer, destination), direct.id)

    async def _offer_direct(
        self, direct: DirectCall, party: Party, transfer: _Transfer, destination: Destination
    ) -> None:
        taken, status = False, 487
        try:
            phones = self._destinations.phones(destination, transfer.giver)
            with self._direct_calls.rung(transfer.taker):
                await self._direct_calls.play_music(direct, party)
                if not direct.over:
                    outcome = await self._ring_direct(direct, party, transfer, destination, phones)
                    status = status_of(outcome)
                    if isinstance(outcome, Taken):
                        status = 480
                        taken = await self._taken_direct(direct, party, transfer, destination, outcome)
        except WarmlineError as error:
            status = error.status
        finally:
            if not taken:
                await self._direct_not_taken(direct, transfer, destination.shown, status)

    async def _ring_direct(
        self,
        direct: DirectCall,
        party: Party,
        transfer: _Transfer,
        destination: Destination,
        phones: list[Phone],
    ) -> Outcome:
        prompt = self._direct_calls.prompt_for(direct, party, destination, phones)
        prompt.on_ringing = lambda: transfer.asker.progress(180)
        transfer.prompt = prompt
        return await prompt.ring()

    async def _taken_direct(
        self, direct: DirectCall, party: Party, transfer: _Transfer, destination: Destination, taken: Taken
    ) -> bool:
        new = Party(destination.shown, destination.from_, destination.agent_id, destination.trunk_name)
        if await self._direct_calls.take_over(direct, party, new, taken.leg):
            transfer.asker.finish(200)
            return True
        taken.leg.end("the caller hung up")
        taken.leg.drop()
        return False

    async def _direct_not_taken(self, direct: DirectCall, transfer: _Transfer, to: str, status: int) -> None:
        told = 487 if direct.over else status
        self._tell_direct("transfer_failed", direct, transfer.giver, to, status=told)
        transfer.asker.finish(told)
        await self._direct_calls.give_back(direct)

    def _join_direct(
        self,
        direct: DirectCall,
        party: Party,
        giver: str,
        refer: Refer,
        other: DirectCall,
        other_party: Party,
    ) -> None:
        """Two direct calls of one agent become one, without the agent."""
        asked = other.other(other_party)
        transfer = _Transfer(refer, giver, asked.agent_id)
        self._direct_calls.set_aside(direct, party)
        self._direct_calls.set_aside(other, other_party)
        refer.accept()
        self._tell_direct("transfer_requested", direct, giver, asked.shown)
        self._go(transfer, self._become_one(direct, party, transfer, other, asked), direct.id, other.id)

    async def _become_one(
        self, direct: DirectCall, party: Party, transfer: _Transfer, other: DirectCall, asked: Party
    ) -> None:
        leg, status = asked.leg, 488

        def decide() -> bool:
            if other.over or asked.leg is not leg:
                return False
            transfer.asker.finish(200)
            self._direct_calls.hand_out(other, asked)
            return True

        if direct.media_call == other.media_call and leg is not None:
            status = 480
            new = Party(asked.shown, asked.from_, asked.agent_id, asked.trunk)
            if await self._direct_calls.take_over(direct, party, new, leg, decide):
                return
        await self._direct_calls.give_back(other)
        await self._direct_not_taken(direct, transfer, asked.shown, status)

    async def replace(self, call: sip.IncomingCall, agent_id: str, replaced: sip.Call) -> None:
        """An agent goes on at another of their phones. As `OtherPhones.replace`."""
        await self._other_phones.replace(call, agent_id, replaced)

    # What is told

    def _accept(self, asker: Asker, contact: Contact, to: str, to_agent: str | None, kind: str) -> None:
        asker.accept()
        self._events.write(
            "contact.transfer_requested",
            contact=contact.id,
            agent=contact.agent_id,
            to=to,
            to_agent=to_agent,
            how=kind,
            session=contact.session,
        )

    def _tell_transferred(self, contact: Contact, transfer: _Transfer, to: Party, how: str) -> None:
        self._contacts.transferred(
            contact,
            to.agent_id,
            from_agent=transfer.giver,
            to=to.shown,
            through=to.trunk,
            how=how,
            call_id=to.leg.call.id if to.leg is not None else None,
            session=contact.session,
        )
        transfer.asker.finish(200)

    def _failed(self, contact: Contact, transfer: _Transfer, destination: Destination, status: int) -> None:
        if not contact.open:
            then = "ended"
        elif contact.state is State.CONNECTED:
            then = "with the agent again"
        else:
            then = "back in the queue"
        self._events.write(
            "contact.transfer_failed",
            contact=contact.id,
            agent=transfer.giver,
            to=destination.shown,
            to_agent=destination.agent_id,
            status=status,
            then=then,
            session=contact.session,
        )
        transfer.asker.finish(status)

    def _tell_direct(self, kind: str, direct: DirectCall, giver: str, to: str, **facts: Any) -> None:
        self._events.write(
            f"call.{kind}", agent=giver, call=direct.id, session=direct.session, to=to, **facts
        )
