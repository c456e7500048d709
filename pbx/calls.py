"""Voice and video contacts: the customer's leg from its INVITE on, and the Bridge once an agent has answered.

Whatever may end such a contact comes together here: either leg hung up, a browser or a phone that vanished, media
that went silent, a caller who never came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from config.bridge import spawn
from config.errors import WarmlineError
from config.events import EventLog
from media.server import ALL_KINDS, AUDIO_ONLY, MediaServer
from pbx.absence import Absences, Patience
from pbx.bridge import Bridge
from pbx.contact import Channel, Contact, Disposition, State
from pbx.leg import Gone, Leg, LegEvent, Plugged, Unplugged, tidy
from pbx.line import Line, is_called_back, lost, other_side
from pbx.open_contacts import OpenContacts
from pbx.phone_media import has_video
from pbx.profile import profile_of_call
from pbx.prompt import Taken
from pbx.waiting import WaitingRoom
from sip_trunk import user_agent as sip
from sip_trunk.deadlines import Deadlines

if TYPE_CHECKING:
    from sip_trunk.refer import Refer

log = Logger()


@dataclass(frozen=True, slots=True)
class Greeting:
    """A caller whose media is settled and who has not been answered yet, or only been asked what it is about."""

    leg: Leg
    session: bytes
    offer: bytes  # empty: they left it to us to offer
    answered: bool = False  # they have been asked something before

    @property
    def offered(self) -> bool:
        return bool(self.offer)


def kinds_of(channel: Channel) -> frozenset[str]:
    return ALL_KINDS if channel is Channel.VIDEO else AUDIO_ONLY


class Calls:
    """`now` is wall time in epoch seconds."""

    def __init__(
        self,
        contacts: OpenContacts,
        media: MediaServer,
        events: EventLog,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        patience: Patience | None = None,
    ) -> None:
        self._contacts = contacts
        self._media = media
        self._events = events
        self._patience = patience or Patience()
        self._deadlines = Deadlines(clock)
        self._lines: dict[str, Line] = {}
        self._absences = Absences(
            media, self._deadlines, now, leg_of=self.customer_leg, heard=self._heard, lost=self._give_up
        )
        self.room = WaitingRoom(media, self._deadlines, deaf=self._deaf)
        self.on_keys: Callable[[Contact, str], None] = lambda contact, key: None
        """A key pressed by a customer who hears nobody yet."""
        self.on_transfer: Callable[[Contact, Leg, Refer], None] | None = None
        """An agent's phone asks that its contact be transferred; whoever hears it answers the REFER."""
        self.shared: Callable[[str], bool] = lambda contact_id: False
        """Whether other calls have branches in a contact's media: then those stay when the contact ends."""
        self.on_arrived: Callable[[Contact], bool] = lambda contact: False
        """Told of a customer's leg before it hears anything. True: an agent who has called them back takes it."""
        self.on_together: Callable[[Contact], None] = lambda contact: None
        """A customer and an agent who talked before have been joined again, or the customer with another agent."""
        self.on_let_go: Callable[[Contact], None] = lambda contact: None
        """The customer has no leg any more, and their contact goes on."""
        contacts.on_ended.append(self._contact_ended)

    def expect(self, contact: Contact, *, after_restart: bool = False) -> None:
        """A customer asked for a call in the page: its INVITE should come soon."""
        self._lines.setdefault(contact.id, Line(contact))
        patience = self._patience
        self._absences.expect(contact, patience.after_restart_s if after_restart else patience.invite_s)

    async def greet(self, contact_id: str, channel: Channel, call: sip.IncomingCall) -> Greeting:
        """Settle media with a caller, before or after there is a contact: that it can be done is asked first.

        Raises TheirError (488, 400) when what the caller offers is of no use; nothing is left of it then.
        """
        line = self._lines.get(contact_id)
        number = 1
        if line is not None:
            line.legs += 1
            number = line.legs
        kinds, profile = kinds_of(channel), profile_of_call(call)
        leg = Leg(call, self._media, contact_id, f"customer-{number}", profile=profile, kinds=kinds)
        offer = call.offer
        try:
            if offer:
                session = await self._media.answer(contact_id, leg.branch, offer, kinds=kinds)
                leg.seen(offer)
            else:
                # RFC 3261 s13.2.1: an INVITE without an offer is answered with ours; codecs are settled by their ACK.
                session = await self._media.offer(contact_id, leg.branch, profile=profile, kinds=kinds)
        except WarmlineError:
            self._drop(contact_id, leg.branch)
            raise
        return Greeting(leg, session, offer)

    async def arrive(self, contact: Contact, greeting: Greeting) -> None:
        """The customer's INVITE, the first or a later one: a page that was loaded again calls its contact again."""
        leg = greeting.leg
        if not contact.open:
            leg.end("the contact has ended")
            return
        if contact.channel is Channel.CHAT:
            leg.end("they went on in writing")  # while this call was on its way
            return
        line = self._lines.setdefault(contact.id, Line(contact, legs=1))
        before, line.customer = line.customer, leg
        self._absences.found(line.contact.id)
        if contact.session is None:
            contact.session = leg.call.session_id
        self._events.write(
            "contact.invited",
            contact=contact.id,
            call_id=leg.call.id,
            again=before is not None,
            video=has_video(greeting.offer),
            session=contact.session,
        )
        if before is not None:
            before.on_event = None
            # Two that came at once have the same branch: the later one speaks by it now.
            before.tidies = before.branch != leg.branch
            before.end("called again")
        self._listen_to_customer(line, leg)
        if not leg.alive:
            return
        if not greeting.answered:
            leg.answer(greeting.session, offered=greeting.offered)
        if self.on_arrived(contact):
            return
        if line.aside is not None:
            # Passed on just now; should nobody take it, they are in the queue.
            self._is_here(line, leg)
            await (line.came_back() if line.came_back is not None else self.room.hold(contact, leg))
        elif line.held:
            await self.room.hold(contact, leg)
        elif line.agent is not None and line.agent.alive and contact.state is State.CONNECTED:
            await self._rejoin(line, leg, line.agent)
        else:
            self._is_here(line, leg)
            await self.room.welcome(contact, leg)

    def called_back(self, contact: Contact, leg: Leg) -> None:
        """We have called the customer, and they have answered: this is their leg."""
        line = self._lines.setdefault(contact.id, Line(contact, legs=1))
        line.customer = leg
        self._listen_to_customer(line, leg)

    def let_go(self, contact: Contact, reason: str) -> None:
        """Hang up on a customer whose contact goes on without: they are called back, or go on in writing."""
        line = self._lines.pop(contact.id, None)
        if line is not None:
            self._absences.found(line.contact.id)
            self.room.leave(contact.id)
            if line.customer is not None:
                line.customer.on_event = None
                line.customer.end(reason)  # their branch alone: an agent may be there, who calls them back
        self.on_let_go(contact)

    def _listen_to_customer(self, line: Line, leg: Leg) -> None:
        leg.on_event = lambda event: self._customer_event(line, leg, event)
        leg.on_transfer = _not_theirs
        leg.on_keys = lambda keys: self._keys_pressed(line, leg, keys)

    def _is_here(self, line: Line, leg: Leg) -> None:
        if not leg.unplugged and line.apart is None:
            self._contacts.set_routable(line.contact, True)

    def branch_of(self, contact_id: str) -> str | None:
        """The customer's branch: what an agent's phone is offered the codecs of."""
        line = self._lines.get(contact_id)
        return line.customer.branch if line is not None and line.customer is not None else None

    async def connect(self, contact: Contact, taken: Taken) -> bool:
        """The agent has answered: join the two. False: one of them went before they heard each other."""
        agent = taken.leg
        line = self._lines.get(contact.id)
        if line is None or line.customer is None:
            agent.end("the customer left")
            return False
        self.room.leave(contact.id)
        line.agent = agent
        self._listen(line, agent)
        try:
            joined = await self._bridge(line, agent)
        except WarmlineError as error:
            log.warn("Contact {id} could not be joined: {error}", id=contact.id, error=error.reason)
            if agent.alive and contact.open:
                self._contacts.end(contact, Disposition.MEDIA_FAILED, reason=error.reason)
                return True
            joined = False
        if not contact.open:
            return True
        if joined:
            self._contacts.join(
                contact,
                customer_call_id=line.customer.call.id,
                agent_call_id=agent.call.id,
                session=contact.session,
            )
            if line.customer.unplugged:
                self._absences.expect(contact, self._patience.talking_s)
            return True
        line.agent = line.bridge = None
        agent.on_event = None
        agent.end("the customer is not there")
        if line.customer.alive:
            await self.room.back(contact, line.customer)
        return False

    def _listen(self, line: Line, agent: Leg) -> None:
        agent.on_event = lambda event: self._agent_event(line, agent, event)
        agent.on_transfer = lambda refer: self._transfer_asked(line, agent, refer)
        agent.on_keys = lambda keys: self._keys_pressed(line, agent, keys)
        agent.on_hold = lambda held: self._phone_holds(line, agent, held)

    def _phone_holds(self, line: Line, agent: Leg, held: bool) -> None:
        """By their phone's own key, of which nobody else here knows."""
        if line.agent is agent and line.contact.state is State.CONNECTED:
            self._events.write(
                "contact.phone_held" if held else "contact.phone_unheld",
                contact=line.contact.id, agent=line.contact.agent_id, call_id=agent.call.id,
            )  # fmt: skip

    async def _bridge(self, line: Line, agent: Leg) -> bool:
        """Join the customer with this agent's leg. False: one of them was gone. Raises WarmlineError."""
        contact = line.contact
        assert line.customer is not None
        line.held = False
        line.bridge = bridge = Bridge(self._media, contact.id, line.customer, agent)
        joined = await bridge.join()
        if not joined and agent.alive and contact.open and line.customer is not bridge.customer:
            # The page was loaded again in this very moment; its new leg is the one to join, and waits no longer.
            self.room.leave(contact.id)
            line.bridge = bridge = Bridge(self._media, contact.id, line.customer, agent)
            joined = await bridge.join()
        return joined

    # A contact that goes from one agent's leg to another

    def contact_of(self, call: sip.Call) -> Contact | None:
        """The contact in which this call is the agent's leg."""
        for line in self._lines.values():
            if line.agent is not None and line.agent.call is call:
                return line.contact
        return None

    def customer_leg(self, contact: Contact) -> Leg | None:
        """The customer's leg, None before their call has come."""
        line = self._lines.get(contact.id)
        return line.customer if line is not None else None

    def agent_leg(self, contact: Contact) -> Leg | None:
        """The leg of whoever the customer talks to, or talked to before they were set aside."""
        line = self._lines.get(contact.id)
        return line.agent if line is not None else None

    def together(self, contact: Contact) -> tuple[str, str] | None:
        """The branches of customer and agent, while these two hear each other."""
        line = self._lines.get(contact.id)
        if line is None or line.bridge is None or line.held or line.aside is not None:
            return None
        bridge = line.bridge
        whole = contact.state is State.CONNECTED and bridge.customer.alive and bridge.agent.alive
        return (bridge.customer.branch, bridge.agent.branch) if whole else None

    def has_agent(self, contact: Contact) -> bool:
        """Whether the leg of whoever the customer talks to is there."""
        leg = self.agent_leg(contact)
        return leg is not None and leg.alive

    def set_aside(
        self,
        contact: Contact,
        agent_gone: Callable[[], None],
        came_back: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """From now on the agent may hang up without ending the contact: `agent_gone` is told of it.

        A customer whose page was loaded again hears music, or what `came_back` lets them hear. It ends with
        `take_over`, `give_back`, `back_to_queue` or the contact.
        """
        line = self._lines.get(contact.id)
        if line is not None:
            line.aside, line.came_back = agent_gone, came_back

    async def play_music(self, contact: Contact) -> None:
        """Something to hear for a customer who is being passed on."""
        line = self._lines.get(contact.id)
        if line is not None and line.customer is not None:
            line.bridge = None
            await self.room.hold(contact, line.customer)

    async def give_back(self, contact: Contact) -> None:
        """The customer hears the agent again who wanted to pass them on."""
        line = self._lines.get(contact.id)
        if line is None or line.aside is None:
            return
        line.aside = line.came_back = None
        await self.join_again(contact)

    async def join_again(self, contact: Contact) -> None:
        """The two hear each other as before, or that is the end of it."""
        line = self._lines.get(contact.id)
        if line is not None and line.customer is not None and line.agent is not None:
            await self._rejoin(line, line.customer, line.agent)

    async def hold(self, contact: Contact) -> bool:
        """Music for the customer, while the agent's call stays. False: the two are not talking."""
        line = self._lines.get(contact.id)
        if line is None or line.bridge is None or line.aside is not None:
            return False
        if contact.state is not State.CONNECTED:
            return False
        line.held = True
        await self.play_music(contact)
        return contact.open

    async def unhold(self, contact: Contact) -> bool:
        """The two hear each other again. False: the customer was not on hold."""
        line = self._lines.get(contact.id)
        if line is None or not line.held:
            return False
        await self.join_again(contact)
        return contact.open

    def is_held(self, contact_id: str) -> bool:
        """Whether the agent has put the customer on hold."""
        line = self._lines.get(contact_id)
        return line is not None and line.held

    def set_apart(self, contact: Contact, gone: Callable[[], None]) -> Leg | None:
        """The customer leaves the queue for something else, and this is their leg; None: they are not waiting there.

        `gone` is told when they have hung up, or nothing is heard of them: that alone does not end the contact then.
        """
        line = self._lines.get(contact.id)
        if line is None or line.customer is None or not line.customer.alive or line.apart is not None:
            return None
        if contact.state is not State.WAITING or contact.call_back is not None:
            return None
        line.apart = gone
        self.room.leave(contact.id)
        self._contacts.set_routable(contact, False)
        return line.customer

    def is_apart(self, contact_id: str) -> bool:
        """Whether the customer does something else than wait, since `set_apart`."""
        line = self._lines.get(contact_id)
        return line is not None and line.apart is not None

    def back_to_queue(self, contact: Contact, asked: str | None) -> None:
        """The agent has gone, or goes now, and nobody took it: the customer waits again, in the old place.

        `asked` is the agent who did not take it, and is not the next one the queue asks.
        """
        line = self._lines.get(contact.id)
        if line is not None and line.customer is not None:
            line.aside = line.came_back = line.bridge = None
            before, line.agent = line.agent, None
            if before is not None:
                before.on_event = None
                before.end("transferred")
            line.held = False
            spawn(self.room.back(contact, line.customer), f"music for {contact.id}")
        if asked is not None:
            self._contacts.refused(contact, asked)
        else:
            self._contacts.back(contact)

    async def take_over(self, contact: Contact, leg: Leg, decide: Callable[[], bool]) -> bool:
        """Join the customer with another leg in place of the agent's. Nothing has changed when it is False.

        `decide` is asked when the two are joined, and makes it so for everybody else; the leg before is ended then.
        """
        line = self._lines.get(contact.id)
        if line is None or line.customer is None:
            return False
        self.room.leave(contact.id)
        before = line.agent
        try:
            joined = await self._bridge(line, leg)
        except WarmlineError as error:
            log.warn("Contact {id} could not be joined: {error}", id=contact.id, error=error.reason)
            joined = False
        if not (joined and contact.open and leg.alive and decide()):
            return False
        line.agent, line.aside, line.came_back = leg, None, None
        if before is not None and before is not leg:
            before.on_event = None
            before.end("transferred")
        self._listen(line, leg)
        if contact.agent_id is not None:
            leg.keep_asking(self._deadlines)
        if line.customer.unplugged:
            self._absences.expect(contact, self._patience.talking_s)
        self.on_together(contact)
        return True

    def _transfer_asked(self, line: Line, leg: Leg, refer: Refer) -> None:
        if line.agent is not leg or line.contact.state is not State.CONNECTED or self.on_transfer is None:
            refer.refuse(481 if line.agent is not leg else 403)
        else:
            self.on_transfer(line.contact, leg, refer)

    def media_gone(self, contact_id: str, branch: str, why: str) -> None:
        """MediaServer: nothing comes from this branch any more."""
        line = self._lines.get(contact_id)
        if line is None:
            return
        if line.customer is not None and line.customer.branch == branch:
            self._customer_lost(line)
        elif line.agent is None or line.agent.branch != branch:
            return
        elif line.aside is not None:
            line.agent.end("nothing is heard")
            self._agent_event(line, line.agent, Gone("lost", why))
        elif line.contact.state is State.CONNECTED:
            self._contacts.end(line.contact, other_side(line.contact, lost=True), reason=why)

    def media_silent(self, contact_id: str, branch: str) -> None:
        """MediaServer: this phone sends nothing, muted or gone; it is asked which."""
        line = self._lines.get(contact_id)
        for leg in (line.customer, line.agent) if line is not None else ():
            if leg is not None and leg.branch == branch:
                leg.keep_asking(self._deadlines)

    def keys_heard(self, contact_id: str, branch: str, key: str) -> None:
        """MediaServer: a key was pressed. While two are joined it passes on what they press by itself."""
        line = self._lines.get(contact_id)
        if line is not None and line.customer is not None and line.customer.branch == branch:
            self._pressed_alone(line, key)

    def media_died(self) -> None:
        """All packets stopped: nobody hears anybody, in the queue or in a conversation."""
        for line in tuple(self._lines.values()):
            if is_called_back(line.contact):
                self.let_go(line.contact, "they are called back")
            elif line.customer is not None:
                self._contacts.end(line.contact, Disposition.MEDIA_FAILED, reason="the media process ended")

    # What the legs tell

    def _customer_event(self, line: Line, leg: Leg, event: LegEvent) -> None:
        if line.customer is not leg:
            return
        if is_called_back(line.contact) and not isinstance(event, Plugged):
            self.let_go(line.contact, "they are called back")
            return
        match event:
            case Gone() if line.apart is not None:
                line.apart()
            case Gone("lost", _):
                self._customer_lost(line)
            case Gone(_, reason):
                talking = line.contact.state is State.CONNECTED
                how = Disposition.CUSTOMER_HUNG_UP if talking else Disposition.CUSTOMER_GAVE_UP
                self._contacts.end(line.contact, how, reason=reason)
            case Unplugged():
                self._customer_lost(line)
            case Plugged():
                self._absences.found(line.contact.id)
                if line.contact.state is not State.CONNECTED:
                    self._is_here(line, leg)

    def _agent_event(self, line: Line, leg: Leg, event: LegEvent) -> None:
        if line.agent is not leg or line.contact.state is not State.CONNECTED:
            return  # before the two are joined it is `connect` that sees it
        match event:
            case Gone() if line.aside is not None:
                line.agent = None
                line.aside()
            case Gone(by, reason):
                self._contacts.end(line.contact, other_side(line.contact, lost=by == "lost"), reason=reason)
            case _:
                # A phone's connection may come and go under a call that goes on; media tells when it does not.
                pass

    # The customer who is not there

    def _customer_lost(self, line: Line) -> None:
        contact = line.contact
        if not contact.open:
            return
        if is_called_back(contact):
            self.let_go(contact, "they are called back")
            return
        if line.apart is not None:
            line.apart()
        elif contact.facts.from_app:
            talking = contact.state is State.CONNECTED
            if not talking:
                # Nobody new is rung for a customer who may not be there; the place in the queue stays theirs.
                self._contacts.set_routable(contact, False)
            self._absences.expect(contact, self._patience.talking_s if talking else self._patience.waiting_s)
        else:
            self._contacts.end(contact, lost(contact))

    def _heard(self, contact: Contact) -> None:
        self._absences.expect(contact, self._patience.talking_s)
        if contact.state is not State.CONNECTED:
            self._contacts.set_routable(contact, True)

    def _give_up(self, contact: Contact) -> None:
        line = self._lines.get(contact.id)
        came = line is not None and line.legs > 0
        self._contacts.end(contact, lost(contact), reason="did not come back" if came else "never called")

    # Media

    def _deaf(self, contact: Contact, leg: Leg, reason: str) -> None:
        line = self._lines.get(contact.id)
        if line is not None and line.customer is leg:
            # Their media is gone: they hear nothing, and no agent could ever be joined to them.
            self._contacts.end(contact, Disposition.MEDIA_FAILED, reason=reason)

    def _keys_pressed(self, line: Line, leg: Leg, keys: str) -> None:
        """What one presses in an INFO, the other hears of, while the two are joined."""
        bridge = line.bridge
        if bridge is not None and leg in (bridge.customer, bridge.agent):
            other = bridge.agent if leg is bridge.customer else bridge.customer
            if other.alive:
                other.press(keys)
        elif leg is line.customer:
            for key in keys:
                self._pressed_alone(line, key)

    def _pressed_alone(self, line: Line, key: str) -> None:
        if line.contact.state in (State.WAITING, State.RINGING) and line.aside is None:
            self.on_keys(line.contact, key)

    async def _rejoin(self, line: Line, customer: Leg, agent: Leg) -> None:
        self.room.leave(line.contact.id)
        line.held = False
        line.bridge = Bridge(self._media, line.contact.id, customer, agent)
        try:
            await line.bridge.join()
            if line.held:  # put on hold meanwhile
                await self.room.hold(line.contact, customer)
            self.on_together(line.contact)
        except WarmlineError as error:
            self._contacts.end(line.contact, Disposition.MEDIA_FAILED, reason=error.reason)

    def _drop(self, contact_id: str, branch: str) -> None:
        tidy(self._media.drop(contact_id, branch), f"dropping {branch} of {contact_id}")

    # The end

    def _contact_ended(self, contact: Contact) -> None:
        line = self._lines.pop(contact.id, None)
        self.room.forget(contact.id)
        if line is None:
            return
        self._absences.found(line.contact.id)
        reason = contact.disposition.value if contact.disposition is not None else ""
        shared = self.shared(contact.id)
        for leg in (line.customer, line.agent):
            if leg is not None:
                leg.on_event = None
                leg.tidies = leg.tidies and shared  # else all branches go at once
                leg.end(reason)
        if not shared:
            tidy(self._media.delete(contact.id), f"deleting the media of {contact.id}")


def _not_theirs(refer: Refer) -> None:
    refer.refuse(403, "Customers Are Not Transferred By Themselves")
