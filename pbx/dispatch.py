"""Choose, reserve, prompt, outcome: how a waiting contact comes to an agent.

    wake -> choose a pair -> hold the agent -> ring their phones -> Taken? joined
                 ^                                                  anything else: back to its place, next agent
                 +--------------------------------------------------+

Every change of queue or roster wakes it; wake-ups of one moment are one run. One contact has at most one offer, one
agent at most one, and a reservation lives exactly as long as its offer and the conversation that came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from agent_presence.agent_state import AgentState, AgentStates
from config.bridge import spawn
from config.errors import WarmlineError
from config.events import EventLog
from pbx.contact import Channel, Contact, Disposition, State
from pbx.open_contacts import OpenContacts, is_waiting
from pbx.prompt import Declined, NoAnswer, Outcome, Prompt, Taken, Unreachable, Withdrawn
from pbx.queue import Group, Queue, Waiting
from pbx.reservation import Reservation
from pbx.router import PAUSE_S, Floor, FreeAgents, Pair, choose
from pbx.staffing import Staffing

log = Logger()

MAX_WAIT_S = 1800.0
POSITIONS_EVERY_S = 1.0
HELD_ELSEWHERE_S = 1.0

Ring = Callable[[Contact, str], Prompt]
"""Make the Prompt of one contact for one agent."""

Connect = Callable[[Contact, Taken], Awaitable[bool]]
"""Join a contact with the agent who took it; False: one of the two was gone before that."""


@dataclass(slots=True)
class _Offer:
    contact: Contact
    agent_id: str
    reservation: Reservation | None = None
    prompt: Prompt | None = None
    task: asyncio.Task[None] | None = None


class Dispatch:
    """Times in seconds. `connect` has one way for each channel; `wrap_up_s` follows every conversation."""

    def __init__(
        self,
        contacts: OpenContacts,
        staffing: Staffing,
        states: AgentStates,
        events: EventLog,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        ring: Ring,
        connect: Mapping[Channel, Connect],
        lease_s: float,
        wrap_up_s: float,
        pause_s: float = PAUSE_S,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        self._contacts = contacts
        self._staffing = staffing
        self._states = states
        self._events = events
        self._clock = clock
        self._now = now
        self._ring = ring
        self._connect = connect
        self._lease_s = lease_s
        self._wrap_up_s = wrap_up_s
        self._pause_s = pause_s
        self._max_wait_s = max_wait_s
        self.floor = Floor(Queue(), FreeAgents())
        self._offers: dict[str, _Offer] = {}  # by contact, from the choice on
        self._asked: dict[str, _Offer] = {}  # by agent, while they are being asked
        self._held: dict[str, Reservation] = {}  # by contact, after they took it
        # By contact, when it has waited as long as anyone may, the earliest first. It counts from when it came into
        # the queue: neither a conversation it had before nor the time the server was away is waiting.
        self._limits: dict[str, float] = {}
        self._run_soon: IDelayedCall | None = None
        self._look_again: IDelayedCall | None = None
        self._tell_soon: IDelayedCall | None = None
        self._told: dict[str, int | None] = {}
        self._stopped = False
        contacts.on_waiting.append(self._waiting_changed)
        contacts.on_ended.append(self._contact_ended)
        states.on_change.append(lambda agent_id, old, new: self.agent_changed(agent_id))

    def start(self) -> None:
        """Look at everybody, once roster, location and states are loaded."""
        for agent_id in self._staffing.agents():
            self.agent_changed(agent_id)

    def stop(self) -> None:
        """No new offers, and no timers of ours."""
        self._stopped = True
        for timer in (self._run_soon, self._look_again, self._tell_soon):
            if timer is not None and timer.active():
                timer.cancel()

    async def withdraw_all(self) -> None:
        """End every offer that has not been taken; returns when no agent is held for one."""
        offers = list(self._offers.values())
        for offer in offers:
            if offer.prompt is not None:
                offer.prompt.withdraw("the server stops")
        await asyncio.gather(
            *(offer.task for offer in offers if offer.task is not None), return_exceptions=True
        )

    def position(self, contact_id: str) -> int | None:
        """1: the next one of those who need the same agents. None: not waiting in the queue."""
        return self.floor.queue.position(contact_id)

    # Contacts that one agent passes on to another

    async def hold(self, contact: Contact, agent_id: str) -> Reservation | None:
        """Hold an agent whom a colleague has named; None: they are not to be had."""
        return await Reservation.hold(
            self._states, contact.id, agent_id, contact.channel, lease_s=self._lease_s, named=True
        )

    def hand_over(self, contact: Contact, taker: Reservation | None) -> bool:
        """The contact is the taker's (None: somebody's outside), and who had it writes up. False: nothing changed."""
        giver = self._held.get(contact.id)
        if taker is not None:
            if not taker.take_over(giver, wrap_up_s=self._wrap_up_s):
                return False
            self._held[contact.id] = taker
        else:
            self.let_go(contact)
        self._limits.pop(contact.id, None)
        return True

    def let_go(self, contact: Contact) -> None:
        """Who talked to this contact has left it, and writes up."""
        self._release(self._held.pop(contact.id, None), talked=True)

    # News

    def agent_changed(self, agent_id: str) -> None:
        """The agent's state, phones or entry on the roster changed."""
        offer = self._asked.get(agent_id)
        if offer is not None:
            if offer.prompt is not None and self._states.of(agent_id).state is AgentState.OFFLINE:
                offer.prompt.lose_agent("the registration of the last phone is gone")
            return  # looked at again when the offer is over
        free = self._staffing.free_agent(agent_id)
        if free is None:
            self.floor.free.remove(agent_id)
        else:
            self.floor.free.put(free)
            self.wake()

    def wake(self) -> None:
        if self._run_soon is None and not self._stopped:
            self._run_soon = self._clock.callLater(0, self._run)

    def _waiting_changed(self, contact: Contact) -> None:
        if contact.state is State.WAITING:
            self._release(self._held.pop(contact.id, None), talked=True)  # the one who had it is gone
        if is_waiting(contact) and contact.id not in self._offers:
            self._limits.setdefault(contact.id, self._now() + self._max_wait_s)
            self.floor.queue.add(
                Waiting(
                    contact.id,
                    group_of(contact),
                    contact.place_at,
                    {by: refusal.at for by, refusal in contact.refusals.items()},
                )
            )
            self.wake()
        else:
            self.floor.queue.remove(contact.id)
        self._positions_changed()

    def _contact_ended(self, contact: Contact) -> None:
        self.floor.queue.remove(contact.id)
        self._limits.pop(contact.id, None)
        self._positions_changed()
        offer = self._offers.get(contact.id)
        if offer is not None:
            if offer.prompt is not None:
                offer.prompt.withdraw(contact.disposition.value if contact.disposition else "ended")
            self._release(offer.reservation, talked=contact.connected_at is not None)
        self._release(self._held.pop(contact.id, None), talked=contact.connected_at is not None)

    # Choose

    def _run(self) -> None:
        self._run_soon = None
        if self._stopped:
            return
        now = self._now()
        self._end_overlong(now)
        while isinstance(found := choose(self.floor, now, pause_s=self._pause_s), Pair):
            contact = self._contacts.get(found.contact_id)
            self.floor.queue.remove(found.contact_id)
            if contact is None or not is_waiting(contact):
                continue
            facts = self._why(contact, found)
            self.floor.free.remove(found.agent_id)
            offer = _Offer(contact, found.agent_id)
            self._offers[contact.id] = self._asked[found.agent_id] = offer
            offer.task = spawn(self._offer(offer, facts), f"offering {contact.id} to {found.agent_id}")
        self._look_at(found.look_at)

    def _why(self, contact: Contact, pair: Pair) -> dict[str, Any]:
        """The facts behind the choice, as they are at this moment."""
        return {
            "skills": {need.skill: need.required for need in contact.needs},
            "idle_s": round(self._now() - pair.idle_since, 3),
            "asked_again": pair.asked_again,
            "free_agents": len(self.floor.free),
            "waiting": len(self.floor.queue),
            "refused_by": sorted(contact.refusals),
            "phones": [phone.device_id for phone in self._staffing.phones(pair.agent_id, contact.channel)],
        }

    def _end_overlong(self, now: float) -> None:
        over = list(takewhile(lambda contact_id: self._limits[contact_id] <= now, self._limits))
        for contact_id in over:
            contact = self._contacts.get(contact_id)
            # Somebody may be rung for it just now; if in vain, this is its end when it is back.
            if contact is not None and contact_id in self.floor.queue:
                waited_s = round(now - contact.facts.asked_at, 3)
                self._contacts.end(contact, Disposition.NO_AGENT, waited_s=waited_s)

    def _look_at(self, at: float | None) -> None:
        """Run again when a pause or somebody's longest wait is over, whichever comes first."""
        if self._look_again is not None and self._look_again.active():
            self._look_again.cancel()
        self._look_again = None
        now = self._now()
        limit = next((limit for limit in self._limits.values() if limit > now), None)
        moments = [moment for moment in (at, limit) if moment is not None]
        if moments:
            self._look_again = self._clock.callLater(max(min(moments) - now, 0.001), self._run)

    # Reserve, prompt, outcome

    async def _offer(self, offer: _Offer, facts: Mapping[str, Any]) -> None:
        contact, agent_id = offer.contact, offer.agent_id
        outcome: Outcome = Unreachable({})
        joined = False
        try:
            outcome = await self._ask(offer, facts)
            if isinstance(outcome, Taken):
                joined = await self._taken(offer, outcome)
        except WarmlineError as error:
            log.warn("Offering {contact} failed: {error}", contact=contact.id, error=error.reason)
            outcome = Unreachable({"": error.reason})
        finally:
            del self._asked[agent_id]
            del self._offers[contact.id]
            if joined and contact.open:
                assert offer.reservation is not None
                self._held[contact.id] = offer.reservation
                self._limits.pop(contact.id, None)
            else:
                released = self._release(offer.reservation, talked=contact.connected_at is not None)
                if released is not None:
                    await released
                self._back(contact, agent_id, outcome)
            if offer.reservation is None:
                # Another server holds the agent, and does not tell: ask again shortly, not at once and for ever.
                self._clock.callLater(HELD_ELSEWHERE_S, self.agent_changed, agent_id)
            else:
                self.agent_changed(agent_id)

    async def _ask(self, offer: _Offer, facts: Mapping[str, Any]) -> Outcome:
        contact, agent_id = offer.contact, offer.agent_id
        reservation = await Reservation.hold(
            self._states, contact.id, agent_id, contact.channel, lease_s=self._lease_s
        )
        if reservation is None:
            return Withdrawn("somebody else was quicker")
        offer.reservation = reservation
        if not is_waiting(contact) or self._stopped:
            return Withdrawn("the customer left")
        self._contacts.ring(contact, agent_id)
        self._events.write("contact.reserved", contact=contact.id, agent=agent_id, **facts)
        offer.prompt = self._ring(contact, agent_id)
        outcome = await offer.prompt.ring()
        self._tell(offer, outcome)
        return outcome

    async def _taken(self, offer: _Offer, taken: Taken) -> bool:
        contact, reservation = offer.contact, offer.reservation
        assert reservation is not None
        if not (contact.open and await reservation.accepted() and contact.open):
            taken.leg.end("too late")
            return False
        try:
            return await self._connect[contact.channel](contact, taken)
        except BaseException:
            taken.leg.end("server error")
            raise

    def _tell(self, offer: _Offer, outcome: Outcome) -> None:
        kind, facts = as_event(outcome)
        if kind:
            self._events.write(kind, contact=offer.contact.id, agent=offer.agent_id, **facts)

    def _back(self, contact: Contact, agent_id: str, outcome: Outcome) -> None:
        """Not joined: the contact, if it is still there, goes back to its place in the queue."""
        match contact.state:
            case State.RINGING if isinstance(outcome, Withdrawn) or (
                isinstance(outcome, Taken) and not contact.routable
            ):
                # Not the agent's doing: the server stops, or it is the customer who was not there.
                self._contacts.back(contact)
            case State.RINGING:
                self._contacts.refused(contact, agent_id)
            case State.WAITING:
                # Nobody was rung: the choice was out of date. With the agent looked at anew, the next one is not.
                self._waiting_changed(contact)
            case State.CONNECTED:
                # Joining broke off half-way, by a fault of ours: nobody must be left talking to nobody.
                self._contacts.end(contact, Disposition.MEDIA_FAILED, reason="joining broke off")
            case State.ENDED:
                pass

    def _release(self, reservation: Reservation | None, *, talked: bool = False) -> Awaitable[bool] | None:
        if reservation is None:
            return None
        return reservation.release(wrap_up_s=self._wrap_up_s if talked else 0.0)

    # Positions, for the pages that show them

    def _positions_changed(self) -> None:
        if self._tell_soon is None and not self._stopped and self._contacts.watched():
            self._tell_soon = self._clock.callLater(POSITIONS_EVERY_S, self._tell_positions)

    def _tell_positions(self) -> None:
        self._tell_soon = None
        before, self._told = self._told, {}
        for contact in self._contacts.watched():
            position = self.position(contact.id)
            self._told[contact.id] = position
            if position is not None and before.get(contact.id) != position:
                self._contacts.tell(contact.id, "state", contact)


def group_of(contact: Contact) -> Group:
    required = frozenset(need.skill for need in contact.needs if need.required)
    return Group(contact.facts.provider_id, contact.channel.value, required)


def as_event(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """The event that tells of an outcome, and its facts; "" where there is nothing to tell."""
    match outcome:
        case Taken(leg, phone):
            return "contact.accepted", {"device": phone.device_id, "call_id": leg.call.id}
        case Declined(status, phone):
            return "contact.declined", {"device": phone.device_id, "status": status}
        case NoAnswer():
            return "contact.no_answer", {}
        case Unreachable(why, _):
            return "contact.unreachable", {"phones": dict(why)}
        case Withdrawn():
            return "", {}
