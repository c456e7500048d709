"""Voice and video contacts: the customer's leg from its INVITE on, and the Bridge once an agent has answered.

Whatever may end such a contact comes together here: either leg hung up, a browser or a phone that vanished, media
that went silent, a caller who never came. Each wait for a customer to come (back) has one timer and one ending.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from config.bridge import spawn
from config.errors import WarmlineError
from config.events import EventLog
from media.sdp import parse
from media.server import ALL_KINDS, AUDIO_ONLY, MediaServer
from pbx.bridge import Bridge
from pbx.contact import Channel, Contact, Disposition, State
from pbx.leg import Gone, Leg, LegEvent, Plugged, Unplugged, tidy
from pbx.open_contacts import OpenContacts
from pbx.profile import profile_of_call
from pbx.prompt import Taken
from sip_trunk import user_agent as sip

if TYPE_CHECKING:
    from sip_trunk.refer import Refer

log = Logger()

# A peer from whom a packet came so lately is there, whatever became of its signalling.
_HEARD_S = 2.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a customer who is not there is waited for, in seconds."""

    invite_s: float = 30.0  # till the browser calls its contact's address
    waiting_s: float = 15.0  # till it is back, while in the queue
    talking_s: float = 5.0  # till it is back, while an agent listens to nothing
    after_restart_s: float = 60.0  # till the page has found the server again


@dataclass(frozen=True, slots=True)
class Greeting:
    """A caller whose media is settled and who has not been answered yet."""

    leg: Leg
    session: bytes
    offer: bytes  # empty: they left it to us to offer

    @property
    def offered(self) -> bool:
        return bool(self.offer)


@dataclass(slots=True)
class _Line:
    contact: Contact
    customer: Leg | None = None
    agent: Leg | None = None
    bridge: Bridge | None = None
    legs: int = 0
    timer: IDelayedCall | None = None
    music: IDelayedCall | None = None
    # While the agent passes the contact on the customer hears music; this is told when the agent goes before that.
    aside: Callable[[], None] | None = None


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
        self._clock = clock
        self._now = now
        self._patience = patience or Patience()
        self._lines: dict[str, _Line] = {}
        self.on_transfer: Callable[[Contact, Leg, Refer], None] | None = None
        """An agent's phone asks that its contact be transferred; whoever hears it answers the REFER."""
        self.shared: Callable[[str], bool] = lambda contact_id: False
        """Whether other calls have branches in a contact's media: then those stay when the contact ends."""
        contacts.on_ended.append(self._contact_ended)

    def expect(self, contact: Contact, *, after_restart: bool = False) -> None:
        """A customer asked for a call in the page: its INVITE should come soon."""
        line = self._lines.setdefault(contact.id, _Line(contact))
        self._await_customer(
            line, self._patience.after_restart_s if after_restart else self._patience.invite_s
        )

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
        line = self._lines.setdefault(contact.id, _Line(contact, legs=1))
        before, line.customer = line.customer, leg
        self._found(line)
        if contact.session is None:
            contact.session = leg.call.session_id
        self._events.write(
            "contact.invited",
            contact=contact.id,
            call_id=leg.call.id,
            again=before is not None,
            video=_has_video(greeting.offer),
            session=contact.session,
        )
        if before is not None:
            before.on_event = None
            before.end("called again")
        leg.on_event = lambda event: self._customer_event(line, leg, event)
        leg.on_transfer = _not_theirs
        leg.on_keys = lambda keys: _pass_keys(line, leg, keys)
        if not leg.alive:
            return
        leg.answer(greeting.session, offered=greeting.offered)
        if line.aside is not None:
            # Passed on just now; should nobody take it, they are in the queue.
            if not leg.unplugged:
                self._contacts.set_routable(contact, True)
            await self._entertain(line, leg, "music")
            return
        if line.agent is not None and line.agent.alive and contact.state is State.CONNECTED:
            await self._rejoin(line, leg, line.agent)
            return
        if not leg.unplugged:
            self._contacts.set_routable(contact, True)
        await self._entertain(line, leg, "please-wait")

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
        self._stop_music(line)
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
                self._await_customer(line, self._patience.talking_s)
            return True
        line.agent = line.bridge = None
        agent.on_event = None
        agent.end("the customer is not there")
        if line.customer.alive:
            await self._entertain(line, line.customer, "music")
        return False

    def _listen(self, line: _Line, agent: Leg) -> None:
        agent.on_event = lambda event: self._agent_event(line, agent, event)
        agent.on_transfer = lambda refer: self._transfer_asked(line, agent, refer)
        agent.on_keys = lambda keys: _pass_keys(line, agent, keys)

    async def _bridge(self, line: _Line, agent: Leg) -> bool:
        """Join the customer with this agent's leg. False: one of them was gone. Raises WarmlineError."""
        contact = line.contact
        assert line.customer is not None
        line.bridge = bridge = Bridge(self._media, contact.id, line.customer, agent)
        joined = await bridge.join()
        if not joined and agent.alive and contact.open and line.customer is not bridge.customer:
            # The page was loaded again in this very moment; its new leg is the one to join.
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

    def set_aside(self, contact: Contact, agent_gone: Callable[[], None]) -> None:
        """From now on the agent may hang up without ending the contact: `agent_gone` is told of it.

        It ends with `take_over`, `give_back`, `back_to_queue` or the contact.
        """
        line = self._lines.get(contact.id)
        if line is not None:
            line.aside = agent_gone

    async def play_music(self, contact: Contact) -> None:
        """Something to hear for a customer who is being passed on."""
        line = self._lines.get(contact.id)
        if line is not None and line.customer is not None:
            line.bridge = None
            await self._entertain(line, line.customer, "music")

    async def give_back(self, contact: Contact) -> None:
        """The customer hears the agent again who wanted to pass them on."""
        line = self._lines.get(contact.id)
        if line is None or line.aside is None:
            return
        line.aside = None
        await self.join_again(contact)

    async def join_again(self, contact: Contact) -> None:
        """The two hear each other as before, or that is the end of it."""
        line = self._lines.get(contact.id)
        if line is not None and line.customer is not None and line.agent is not None:
            await self._rejoin(line, line.customer, line.agent)

    def back_to_queue(self, contact: Contact, asked: str | None) -> None:
        """The agent has gone and nobody took it: the customer waits again, in the old place.

        `asked` is the agent who did not take it, and is not the next one the queue asks.
        """
        line = self._lines.get(contact.id)
        if line is not None and line.customer is not None:
            line.aside = line.bridge = None
            spawn(self._entertain(line, line.customer, "music"), f"music for {contact.id}")
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
        self._stop_music(line)
        before = line.agent
        try:
            joined = await self._bridge(line, leg)
        except WarmlineError as error:
            log.warn("Contact {id} could not be joined: {error}", id=contact.id, error=error.reason)
            joined = False
        if not (joined and contact.open and leg.alive and decide()):
            return False
        line.agent, line.aside = leg, None
        if before is not None and before is not leg:
            before.on_event = None
            before.end("transferred")
        self._listen(line, leg)
        if line.customer.unplugged:
            self._await_customer(line, self._patience.talking_s)
        return True

    def _transfer_asked(self, line: _Line, leg: Leg, refer: Refer) -> None:
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
            self._contacts.end(line.contact, _other_side(line.contact, lost=True), reason=why)

    def media_died(self) -> None:
        """All packets stopped: nobody hears anybody, in the queue or in a conversation."""
        for line in tuple(self._lines.values()):
            if line.customer is not None:
                self._contacts.end(line.contact, Disposition.MEDIA_FAILED, reason="the media process ended")

    # What the legs tell

    def _customer_event(self, line: _Line, leg: Leg, event: LegEvent) -> None:
        if line.customer is not leg:
            return
        match event:
            case Gone("lost", _):
                self._customer_lost(line)
            case Gone(_, reason):
                talking = line.contact.state is State.CONNECTED
                how = Disposition.CUSTOMER_HUNG_UP if talking else Disposition.CUSTOMER_GAVE_UP
                self._contacts.end(line.contact, how, reason=reason)
            case Unplugged():
                self._customer_lost(line)
            case Plugged():
                self._found(line)
                if line.contact.state is not State.CONNECTED:
                    self._contacts.set_routable(line.contact, True)

    def _agent_event(self, line: _Line, leg: Leg, event: LegEvent) -> None:
        if line.agent is not leg or line.contact.state is not State.CONNECTED:
            return  # before the two are joined it is `connect` that sees it
        match event:
            case Gone() if line.aside is not None:
                line.agent = None
                line.aside()
            case Gone(by, reason):
                self._contacts.end(line.contact, _other_side(line.contact, lost=by == "lost"), reason=reason)
            case _:
                # A phone's connection may come and go under a call that goes on; media tells when it does not.
                pass

    # The customer who is not there

    def _customer_lost(self, line: _Line) -> None:
        contact = line.contact
        if not contact.open:
            return
        if contact.facts.from_app:
            talking = contact.state is State.CONNECTED
            if not talking:
                # Nobody new is rung for a customer who may not be there; the place in the queue stays theirs.
                self._contacts.set_routable(contact, False)
            self._await_customer(line, self._patience.talking_s if talking else self._patience.waiting_s)
        else:
            self._contacts.end(contact, _lost(contact))

    def _await_customer(self, line: _Line, patience_s: float) -> None:
        if line.timer is None or not line.timer.active():
            line.timer = self._clock.callLater(patience_s, self._given_up, line)

    def _found(self, line: _Line) -> None:
        if line.timer is not None and line.timer.active():
            line.timer.cancel()
        line.timer = None

    def _given_up(self, line: _Line) -> None:
        line.timer = None
        if line.customer is not None and line.customer.alive:
            spawn(self._look_for(line, line.customer), f"looking for the customer of {line.contact.id}")
        else:
            self._give_up(line, "did not come back" if line.legs > 0 else "never called")

    async def _look_for(self, line: _Line, leg: Leg) -> None:
        """A web socket may break, in a tunnel say, while sound and pictures go on: then nobody is lost."""
        heard = await self._heard_lately(line.contact.id, leg.branch)
        if line.timer is not None or line.customer is not leg:
            return  # they came back meanwhile
        if not heard:
            self._give_up(line, "did not come back")
            return
        self._await_customer(line, self._patience.talking_s)
        if line.contact.state is not State.CONNECTED:
            self._contacts.set_routable(line.contact, True)

    async def _heard_lately(self, contact_id: str, branch: str) -> bool:
        try:
            found = (await self._media.stats(contact_id)).get(branch, {})
        except WarmlineError:
            return False
        packets_at = (kind["last_packet_at"] for kind in found.get("kinds", {}).values())
        return any(at is not None and self._now() - at < _HEARD_S for at in packets_at)

    def _give_up(self, line: _Line, reason: str) -> None:
        self._contacts.end(line.contact, _lost(line.contact), reason=reason)

    # Media

    async def _entertain(self, line: _Line, leg: Leg, prompt: str) -> None:
        """Something to hear: first what is going on, then music until somebody answers."""
        try:
            length_s = await self._media.play(line.contact.id, leg.branch, prompt, repeat=prompt == "music")
        except WarmlineError as error:
            if leg.alive and line.customer is leg:
                # Their media is gone: they hear nothing, and no agent could ever be joined to them.
                self._contacts.end(line.contact, Disposition.MEDIA_FAILED, reason=error.reason)
            return
        self._stop_music(line)
        if prompt != "music" and self._listening(line, leg):
            line.music = self._clock.callLater(length_s, self._music, line, leg)

    def _music(self, line: _Line, leg: Leg) -> None:
        line.music = None
        if self._listening(line, leg):
            spawn(self._entertain(line, leg, "music"), f"music for {line.contact.id}")

    @staticmethod
    def _listening(line: _Line, leg: Leg) -> bool:
        return leg.alive and line.customer is leg and line.bridge is None and line.contact.open

    def _stop_music(self, line: _Line) -> None:
        if line.music is not None and line.music.active():
            line.music.cancel()
        line.music = None

    async def _rejoin(self, line: _Line, customer: Leg, agent: Leg) -> None:
        line.bridge = Bridge(self._media, line.contact.id, customer, agent)
        try:
            await line.bridge.join()
        except WarmlineError as error:
            self._contacts.end(line.contact, Disposition.MEDIA_FAILED, reason=error.reason)

    def _drop(self, contact_id: str, branch: str) -> None:
        tidy(self._media.drop(contact_id, branch), f"dropping {branch} of {contact_id}")

    # The end

    def _contact_ended(self, contact: Contact) -> None:
        line = self._lines.pop(contact.id, None)
        if line is None:
            return
        self._found(line)
        self._stop_music(line)
        reason = contact.disposition.value if contact.disposition is not None else ""
        for leg in (line.customer, line.agent):
            if leg is not None:
                leg.on_event = None
                leg.end(reason)
        if not self.shared(contact.id):
            tidy(self._media.delete(contact.id), f"deleting the media of {contact.id}")


def _pass_keys(line: _Line, leg: Leg, keys: str) -> None:
    """What one presses in an INFO, the other hears of, while the two are joined."""
    bridge = line.bridge
    if bridge is not None and leg in (bridge.customer, bridge.agent):
        other = bridge.agent if leg is bridge.customer else bridge.customer
        if other.alive:
            other.press(keys)


def _not_theirs(refer: Refer) -> None:
    refer.refuse(403, "Customers Are Not Transferred By Themselves")


def _lost(contact: Contact) -> Disposition:
    if contact.state is State.CONNECTED:
        return Disposition.CUSTOMER_LOST
    return Disposition.CUSTOMER_GAVE_UP


def _other_side(contact: Contact, *, lost: bool) -> Disposition:
    """Who was with the customer has gone: their agent, or somebody outside to whom they were passed on."""
    if contact.agent_id is None:
        return Disposition.OTHER_LOST if lost else Disposition.OTHER_HUNG_UP
    return Disposition.AGENT_LOST if lost else Disposition.AGENT_HUNG_UP


def _has_video(offer: bytes) -> bool:
    if not offer:
        return False
    try:
        return parse(offer).has_video
    except WarmlineError:
        return False
