"""Choose, reserve, prompt, outcome: how a waiting contact comes to an agent.

    wake -> choose a pair -> hold the agent -> ring their phones -> Taken? joined
                 ^                                                  anything else: back to its place, next agent
                 +--------------------------------------------------+

Every change of queue or roster wakes it; wake-ups of one moment are one run. One contact has at most one offer, one
agent at most one, and a reservation lives exactly as long as its offer and the conversation that came of it. An offer
has a deadline whatever it waits for, and every few seconds it is looked whether somebody is held by nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from agent_presence.agent_state import AgentStates
from config.bridge import spawn
from config.errors import WarmlineError
from config.events import EventLog
from config.queue_settings import Overflow
from pbx.choice_facts import agent_facts, group_facts, pause_fact, queue_facts, waiting_facts
from pbx.contact import Channel, Contact, Disposition, State
from pbx.limits import Limits
from pbx.open_contacts import OpenContacts, is_waiting
from pbx.policies import Policies, group_of
from pbx.prompt import (
    Asleep,
    Busy,
    Declined,
    NoAnswer,
    Outcome,
    Prompt,
    Taken,
    Unreachable,
    Withdrawn,
)
from pbx.queue import Waiting
from pbx.reconciliation import Reconciliation
from pbx.reservation import Reservation
from pbx.resting import Resting
from pbx.router import Floor, Pair, choose
from pbx.staffing import Staffing
from sip_trunk.deadlines import Deadline, Deadlines

log = Logger()

POSITIONS_EVERY_S = 1.0
HELD_ELSEWHERE_S = 1.0
# Nobody's doing but ours: somebody else is asked meanwhile, if there is anybody.
FAULT_PAUSE_S = 30.0
# A phone that changes its network takes its registration back and registers anew, with a ringing call on it.
REGISTER_AGAIN_S = 3.0
# Joining takes a moment; but where the customer has to be called back first, they may take as long as anybody.
CONNECT_S = 120.0
# A call back that has not come within a day comes as a surprise.
CALL_BACK_WITHIN_S = 86400.0

Ring = Callable[[Contact, str], Prompt]
"""Make the Prompt of one contact for one agent."""

Connect = Callable[[Contact, Taken], Awaitable[bool]]
"""Join a contact with the agent who took it; False: one of the two was gone before that."""

Overflows = Callable[[Contact], bool]
"""Take a contact that has waited as long as it may; False: it cannot be done, and the contact ends."""


@dataclass(slots=True, eq=False)
class _Offer:
    contact: Contact
    agent_id: str
    phones: int  # which state of the agent's phones are rung
    reservation: Reservation | None = None
    prompt: Prompt | None = None
    task: asyncio.Task[None] | None = None
    limit: Deadline | None = None
    lost: Deadline | None = None  # the agent has no phone registered, until then
    overdue: bool = False
    pause_s: float = 0.0
    outcome: str = ""


class Dispatch:
    """Times in seconds. `connect` has one way for each channel; `wrap_up_s` follows every conversation.

    `overflow` has a way for each `Overflow` that somebody else sees to. `has_agent` says of a contact that is joined
    whether its agent's leg is really there.
    """

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
        policies: Policies | None = None,
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
        self.policies = policies or Policies()
        self.overflow: dict[Overflow, Overflows] = {}
        self.has_agent: Callable[[Contact], bool] = lambda contact: True
        self.floor = Floor(self.policies.strategies)
        self._offers: dict[str, _Offer] = {}  # by contact, from the choice on
        self._asked: dict[str, _Offer] = {}  # by agent, while they are being asked
        self._held: dict[str, Reservation] = {}  # by contact, after they took it
        self._named: set[Reservation] = set()  # whom colleagues have asked for by name
        self._kept_for: dict[str, set[str]] = {}  # by agent, who waits for them and nobody else, for a while
        # It counts from when a contact came into its queue: neither a conversation it had before nor the time the
        # server was away is waiting.
        self._limits = Limits()
        self._deadlines = Deadlines(clock)
        self._reconciliation = Reconciliation(states, contacts, events, self._deadlines, self._accounts_for)
        self._resting = Resting(self._deadlines, self.agent_changed)
        self._run_soon: IDelayedCall | None = None
        self._look_again: Deadline | None = None
        self._tell_soon: IDelayedCall | None = None
        self._told: dict[str, int | None] = {}
        self._stopped = False
        contacts.on_waiting.append(self._waiting_changed)
        contacts.on_ended.append(self._contact_ended)
        states.on_change.append(lambda agent_id, old, new: self.agent_changed(agent_id))

    def start(self) -> None:
        """Look at everybody, once roster, location and states are loaded."""
        for queue in self.policies:
            self._events.write("queue.settings", queue=queue.name, **queue_facts(queue))
        for agent_id in self._staffing.agents():
            self.agent_changed(agent_id)
        self._reconciliation.start()

    def stop(self) -> None:
        """No new offers, and no timers of ours."""
        self._stopped = True
        for timer in (self._run_soon, self._tell_soon):
            if timer is not None and timer.active():
                timer.cancel()
        _cancel(self._look_again)
        self._reconciliation.stop()

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
        """1: the next one of all whom the same agents might take. None: not waiting in the queue."""
        return self.floor.position(contact_id)

    # Contacts that one agent passes on to another

    async def hold(self, contact: Contact, agent_id: str) -> Reservation | None:
        """Hold an agent whom a colleague has named; None: they are not to be had."""
        reservation = await Reservation.hold(
            self._states, contact.id, agent_id, contact.channel, lease_s=self._lease_s, named=True
        )
        if reservation is not None:
            self._named = {each for each in self._named if not each.released} | {reservation}
        return reservation

    def hand_over(self, contact: Contact, taker: Reservation | None) -> bool:
        """The contact is the taker's (None: somebody's outside), and who had it writes up. False: nothing changed."""
        giver = self._held.get(contact.id)
        if taker is not None:
            if not taker.take_over(giver, wrap_up_s=self._wrap_up_s):
                return False
            self._named.discard(taker)
            self._held[contact.id] = taker
        else:
            self.let_go(contact)
        self._limits.drop(contact.id)
        return True

    def let_go(self, contact: Contact) -> None:
        """Who talked to this contact has left it, and writes up."""
        self._release(self._held.pop(contact.id, None), talked=True)

    # News of agents

    def agent_changed(self, agent_id: str) -> None:
        """The agent's state, phones or entry on the roster changed."""
        for contact_id in tuple(self._kept_for.get(agent_id, ())):
            contact = self._contacts.get(contact_id)
            if contact is not None and contact_id in self.floor:
                self._enqueue(contact)
        offer = self._asked.get(agent_id)
        if offer is not None:
            if offer.prompt is not None and self._staffing.direct_calls(agent_id):
                offer.prompt.find_busy()  # on one of their phones: the others are to be silent
            self._phones_changed(offer)  # all else is looked at when the offer is over
            return
        rests = self._resting.lets_be(agent_id, self._staffing.phones_version(agent_id))
        free = self._staffing.free_agent(agent_id) if not rests else None
        if free is None:
            if self.floor.take(agent_id) is not None:
                self._events.write("agent.taken_off", agent=agent_id)
        elif free != self.floor.agent(agent_id):
            self.floor.put(free)
            self._events.write("agent.free", agent=agent_id, **agent_facts(free))
            if len(self.floor.queue):  # whoever comes wakes it
                self.wake()

    def _phones_changed(self, offer: _Offer) -> None:
        """To register again while it rings is no refusal; a phone that comes meanwhile is rung too."""
        agent_id, prompt = offer.agent_id, offer.prompt
        phones = self._staffing.phones_version(agent_id)
        if prompt is None or phones == offer.phones:
            return
        offer.phones = phones
        if self._states.of(agent_id).present:
            _cancel(offer.lost)
            prompt.also(self._staffing.phones(agent_id, offer.contact.channel))
        else:
            _cancel(offer.lost)
            offer.lost = self._deadlines.after(
                REGISTER_AGAIN_S, lambda: prompt.lose_agent("the registration of the last phone is gone")
            )

    def wake(self) -> None:
        if self._run_soon is None and not self._stopped:
            self._run_soon = self._clock.callLater(0, self._run)

    # News of contacts

    def _waiting_changed(self, contact: Contact) -> None:
        if contact.state is State.WAITING:
            self._release(self._held.pop(contact.id, None), talked=True)  # the one who had it is gone
        if is_waiting(contact) and contact.id not in self._offers:
            self._enqueue(contact)
        elif self._dequeue(contact) is not None and contact.state is State.WAITING:
            self._events.write("contact.unqueued", contact=contact.id)
        self._positions_changed()

    def _enqueue(self, contact: Contact) -> None:
        """Into its queue, or in it by what is so now."""
        now = self._now()
        if contact.call_back is None:
            self._limits.begin(contact.id, now + self.policies.of(contact.queue).max_wait_s)
        else:
            self._limits.drop(
                contact.id
            )  # nobody stands in the line: it may take as long as it is still of use
            self._limits.begin(contact.id, contact.call_back.asked_at + CALL_BACK_WITHIN_S)
        waiting = self.policies.waiting(contact, kept=self._is_kept(contact, now))
        if waiting == self.floor.waiting(contact.id):
            return
        self.floor.add(waiting)
        self._events.write("contact.queued", contact=contact.id, **waiting_facts(waiting))
        self.wake()

    def _is_kept(self, contact: Contact, now: float) -> bool:
        """Whether it waits for the agent who helped this customer last: only while they work, and could serve it."""
        agent_id = contact.preferred_agent_id
        if agent_id is None or self.policies.preferred_until(contact) <= now:
            return False
        self._kept_for.setdefault(agent_id, set()).add(contact.id)
        return self._staffing.is_there(agent_id) and self._staffing.could_serve(agent_id, group_of(contact))

    def _dequeue(self, contact: Contact) -> Waiting | None:
        agent_id = contact.preferred_agent_id
        if agent_id is not None and (kept := self._kept_for.get(agent_id)) is not None:
            kept.discard(contact.id)
            if not kept:
                del self._kept_for[agent_id]
        return self.floor.remove(contact.id)

    def _contact_ended(self, contact: Contact) -> None:
        self._dequeue(contact)
        self._limits.drop(contact.id)
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
        while isinstance(found := choose(self.floor, now), Pair):
            contact = self._contacts.get(found.contact_id)
            waiting = self.floor.waiting(found.contact_id)
            if contact is None or waiting is None or not is_waiting(contact):
                self.floor.remove(found.contact_id)
                continue
            facts = self._why(waiting, found, now)
            self._dequeue(contact)
            self.floor.take(found.agent_id)
            # At once: what is told of the floor from here on is told without the two of them.
            self._events.write("agent.taken_off", agent=found.agent_id, chosen_for=contact.id)
            offer = _Offer(contact, found.agent_id, self._staffing.phones_version(found.agent_id))
            self._offers[contact.id] = self._asked[found.agent_id] = offer
            offer.task = spawn(self._offer(offer, facts), f"offering {contact.id} to {found.agent_id}")
        for contact_id in self._limits.due(now):
            contact = self._contacts.get(contact_id)
            # Somebody may be rung for it just now; if in vain, it is due again when it is back.
            if contact is not None and contact_id in self.floor:
                self._overflow(contact, now)
        self._look_at(found.look_at)

    def _why(self, waiting: Waiting, pair: Pair, now: float) -> dict[str, Any]:
        """The facts behind the choice, as they are at this moment."""
        queue = waiting.group.queue
        if pair.step:
            group = group_facts(waiting.needs(now))
            self._events.write("contact.relaxed", contact=pair.contact_id, step=pair.step, group=group)
        return {
            "queue": queue,
            "strategy": self.policies.of(queue).strategy.value,
            "step": pair.step,
            "preferred": pair.preferred,
            "asked_again": pair.asked_again,
            "idle_s": round(now - pair.idle_since, 3),
            "waited_s": round(now - waiting.asked_at, 3),
            "free_agents": len(self.floor.free),
            "waiting": len(self.floor.queue),
        }

    def _overflow(self, contact: Contact, now: float) -> None:
        """It has waited as long as it may."""
        self._limits.drop(contact.id)
        queue = self.policies.of(contact.queue)
        waited_s = round(now - contact.facts.asked_at, 3)
        to = queue.overflow_queue if queue.overflow is Overflow.QUEUE else None
        goes_on = contact.call_back is None and (to is not None or self._taken_over(contact, queue.overflow))
        if goes_on:
            self._events.write(
                "contact.overflowed",
                contact=contact.id,
                how=queue.overflow.value,
                to=to,
                before=contact.queue,
                waited_s=waited_s,
            )
            if to is not None:
                self._contacts.requeue(contact, to)
        else:
            self._contacts.end(contact, Disposition.NO_AGENT, waited_s=waited_s)

    def _taken_over(self, contact: Contact, how: Overflow) -> bool:
        try:
            return how in self.overflow and self.overflow[how](contact)
        except Exception:
            log.failure("{id} could not go on by {how}", id=contact.id, how=how)
            return False

    def _look_at(self, at: float | None) -> None:
        """Run again when time alone may change the choice or somebody's longest wait is over, whichever is first."""
        moments = [moment for moment in (at, self._limits.next()) if moment is not None]
        _cancel(self._look_again)
        self._look_again = None
        if moments:
            self._look_again = self._deadlines.after(max(min(moments) - self._now(), 0.001), self.wake)

    # Reserve, prompt, outcome

    async def _offer(self, offer: _Offer, facts: Mapping[str, Any]) -> None:
        contact, agent_id = offer.contact, offer.agent_id
        outcome: Outcome = Withdrawn("a fault of ours")
        joined = False
        self._bound(offer, self._lease_s)
        try:
            outcome = await self._ask(offer, facts)
            if isinstance(outcome, Taken):
                self._bound(offer, CONNECT_S)
                joined = await self._taken(offer, outcome)
        except WarmlineError as error:
            log.warn("Offering {contact} failed: {error}", contact=contact.id, error=error.reason)
            offer.outcome, offer.pause_s = "fault", FAULT_PAUSE_S
        except asyncio.CancelledError:
            if not offer.overdue:
                raise
            self._reconciliation.say_stuck(agent_id, contact.id, "the offer did not end")
            offer.outcome, offer.pause_s = "fault", FAULT_PAUSE_S
        except Exception:
            # What fails once fails again: without a pause nobody behind this contact would be served any more.
            offer.outcome, offer.pause_s = "fault", FAULT_PAUSE_S
            raise
        finally:
            self._offer_over(offer, outcome, joined)

    def _bound(self, offer: _Offer, seconds: float) -> None:
        """Whatever the offer waits for, it ends: a fault of ours must cost nobody more than its time."""

        def end() -> None:
            offer.overdue = True
            assert offer.task is not None
            offer.task.cancel()

        _cancel(offer.limit)
        offer.limit = self._deadlines.after(seconds, end)

    def _offer_over(self, offer: _Offer, outcome: Outcome, joined: bool) -> None:
        contact, agent_id = offer.contact, offer.agent_id
        _cancel(offer.limit)
        _cancel(offer.lost)
        del self._asked[agent_id]
        del self._offers[contact.id]
        if joined and contact.open:
            assert offer.reservation is not None
            self._held[contact.id] = offer.reservation
            self._limits.drop(contact.id)
        else:
            self._release(offer.reservation, talked=contact.connected_at is not None)
            self._back(offer, outcome)
        if offer.reservation is None:
            # Another server holds the agent, and does not tell: ask again shortly, not at once and for ever.
            self._clock.callLater(HELD_ELSEWHERE_S, self.agent_changed, agent_id)
        else:
            self.agent_changed(agent_id)

    async def _ask(self, offer: _Offer, facts: Mapping[str, Any]) -> Outcome:
        contact, agent_id, channel = offer.contact, offer.agent_id, offer.contact.channel
        reservation = await Reservation.hold(
            self._states, contact.id, agent_id, channel, lease_s=self._lease_s
        )
        if reservation is None:
            return Withdrawn("somebody else was quicker")
        offer.reservation = reservation
        if not is_waiting(contact) or contact.channel is not channel or self._stopped:
            return Withdrawn("the customer left")
        if self._staffing.direct_calls(agent_id):
            return Withdrawn("the agent has begun a call of their own")
        self._contacts.ring(contact, agent_id)
        self._events.write("contact.reserved", contact=contact.id, agent=agent_id, **facts)
        offer.prompt = self._ring(contact, agent_id)
        outcome = await offer.prompt.ring()
        self._tell(offer, outcome)
        return outcome

    async def _taken(self, offer: _Offer, taken: Taken) -> bool:
        contact, reservation = offer.contact, offer.reservation
        assert reservation is not None
        if not (contact.open and reservation.accepted()):
            taken.leg.end("too late")
            return False
        try:
            return await self._connect[contact.channel](contact, taken)
        except BaseException:
            taken.leg.end("server error")
            raise

    def _tell(self, offer: _Offer, outcome: Outcome) -> None:
        """Write what came of it, and let it have its consequence."""
        contact, agent_id = offer.contact, offer.agent_id
        kind, facts = as_event(outcome)
        if not kind:
            return
        if isinstance(outcome, Taken):
            self._resting.reached(agent_id)
            self._events.write(kind, contact=contact.id, agent=agent_id, **facts)
            return
        offer.outcome = kind.removeprefix("contact.")
        consequence = self.policies.consequence(contact, offer.outcome)
        offer.pause_s = consequence.pause_s
        pause = pause_fact(consequence.pause_s)
        again_at = self._now() + pause if isinstance(pause, float) else None
        self._events.write(
            kind, contact=contact.id, agent=agent_id, **facts, pause_s=pause, again_at=again_at
        )
        # Before they are let go of, so that nobody else is offered to them first.
        if isinstance(outcome, Busy | Unreachable | Asleep):
            rest_s = self._resting.failed(agent_id, self._staffing.phones_version(agent_id))
            if rest_s:
                self._events.write("agent.resting", agent=agent_id, seconds=rest_s, outcome=offer.outcome)
        else:
            self._resting.reached(agent_id)
        if self._states.missed(agent_id, contact.id, offer.outcome, consequence.not_ready_after):
            self._events.write(
                "agent.made_not_ready",
                contact=contact.id,
                agent=agent_id,
                after=consequence.not_ready_after,
                outcome=offer.outcome,
            )

    def _back(self, offer: _Offer, outcome: Outcome) -> None:
        """Not joined: the contact, if it is still there, goes back to its place in the queue."""
        contact, agent_id = offer.contact, offer.agent_id
        match contact.state:
            case State.RINGING if offer.outcome:
                self._contacts.refused(contact, agent_id, offer.outcome, offer.pause_s)
            case State.RINGING if isinstance(outcome, Taken) and contact.routable:
                self._contacts.refused(contact, agent_id)  # they hung up before they heard anybody
            case State.RINGING:
                # Not the agent's doing: the server stops, or it is the customer who was not there.
                self._contacts.back(contact)
            case State.WAITING:
                # Nobody was rung: the choice was out of date. With the agent looked at anew, the next one is not.
                self._waiting_changed(contact)
            case State.CONNECTED:
                # Joining broke off half-way, by a fault of ours: nobody must be left talking to nobody.
                self._contacts.end(contact, Disposition.MEDIA_FAILED, reason="joining broke off")
            case State.ENDED:
                pass

    def _release(self, reservation: Reservation | None, *, talked: bool = False) -> None:
        if reservation is not None:
            reservation.release(wrap_up_s=self._wrap_up_s if talked else 0.0)

    def _accounts_for(self, agent_id: str, contact: Contact) -> bool:
        """Whether an offer, a conversation or a colleague's wish holds this agent for this contact."""
        offer, held = self._offers.get(contact.id), self._held.get(contact.id)
        if offer is not None and offer.agent_id == agent_id:
            return True
        if any(
            (each.agent_id, each.contact_id) == (agent_id, contact.id) and not each.released
            for each in self._named
        ):
            return True
        if held is None or held.agent_id != agent_id or held.released:
            return False
        talks = contact.state is State.CONNECTED and contact.agent_id == agent_id
        return not talks or contact.channel is Channel.CHAT or self.has_agent(contact)

    # Positions, for the pages that show them

    def _positions_changed(self) -> None:
        if self._tell_soon is None and not self._stopped and self._contacts.any_watched:
            self._tell_soon = self._clock.callLater(POSITIONS_EVERY_S, self._tell_positions)

    def _tell_positions(self) -> None:
        self._tell_soon = None
        before, self._told = self._told, {}
        for contact in self._contacts.watched():
            position = self.position(contact.id)
            self._told[contact.id] = position
            if position is not None and before.get(contact.id) != position:
                self._contacts.tell(contact.id, "state", contact)


def _cancel(deadline: Deadline | None) -> None:
    if deadline is not None:
        deadline.cancel()


def as_event(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """The event that tells of an outcome, and its facts; "" where there is nothing to tell."""
    match outcome:
        case Taken(leg, phone):
            return "contact.accepted", {"device": phone.device_id, "call_id": leg.call.id}
        case Declined(status, phone):
            return "contact.declined", {"device": phone.device_id, "status": status}
        case Busy(status, phone):
            return "contact.busy", {"device": phone.device_id, "status": status}
        case NoAnswer():
            return "contact.no_answer", {}
        case Unreachable(why, _):
            return "contact.unreachable", {"phones": dict(why)}
        case Asleep(why):
            return "contact.asleep", {"phones": dict(why)}
        case Withdrawn():
            return "", {}
