"""Supervision: a supervisor's own phone is rung, and hears a call that is going on.

    listen    the supervisor hears both, and nobody hears them
    whisper   the agent hears the supervisor as well, the customer does not
    barge     all three hear each other

    ringing -> listening, whispering, barged in (and from each to any other) -> over

and it is over when the supervisor hangs up or says so, when their phone is lost, when they are no supervisor of that
provider any more, when the contact ends or waits for another agent, and when nobody answers. The two who talk stay
together through all of it. Whatever else becomes of them meanwhile (hold, a transfer, a consultation) goes on as ever:
the supervisor hears silence until two are together again, and then those two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from agent_presence.roster import Agent
from config.bridge import spawn
from config.errors import TheirError, WarmlineError
from config.events import EventLog
from media.server import AUDIO_ONLY, MediaServer
from pbx.calls import Calls
from pbx.contact import Channel, Contact, State
from pbx.destination import Destinations
from pbx.invitation import contact_from, plain
from pbx.leg import Gone, Leg, LegEvent
from pbx.open_contacts import OpenContacts
from pbx.prompt import Invitation, Prompt, Taken, status_of
from pbx.staffing import Phone, Staffing
from sip_trunk.deadlines import Deadline, Deadlines
from sip_trunk.user_agent import UserAgent

log = Logger()


class Mode(StrEnum):
    LISTEN = "listen"
    WHISPER = "whisper"
    BARGE = "barge"


LOOK_S = 2.0
"""How often it is looked whether who listens still may."""

_DOES = {Mode.LISTEN: "Listening", Mode.WHISPER: "Whispering", Mode.BARGE: "Joining"}
_WHY_NOT = {
    480: "No phone of yours is registered: it is what you would listen with.",
    486: "You are in a call, or being asked for one. Please end that first.",
}


def hears(
    mode: Mode, customer: str, agent: str, supervisor: str, third: str | None = None
) -> Mapping[str, list[str]] | None:
    """Who hears whom, by branches; `third` is whom the agent has asked, and all of them talk with. None: each all."""
    if mode is Mode.BARGE:
        return None
    two = [customer, agent, *((third,) if third is not None else ())]
    heard = {each: [other for other in two if other != each] for each in two}
    if mode is Mode.WHISPER:
        heard[agent].append(supervisor)
    return {supervisor: two, **heard}


@dataclass(slots=True, eq=False)
class Supervision:
    """`third` is the branch of whom the agent has asked, while all of them talk together."""

    contact: Contact
    supervisor: Agent
    mode: Mode
    prompt: Prompt | None = None
    leg: Leg | None = None
    third: str | None = None
    look: Deadline | None = None
    over: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def there(self) -> bool:
        """The supervisor has answered, and hears."""
        return self.leg is not None and not self.over.done()

    def end(self, why: str) -> None:
        """The first reason counts; what rings then, rings no longer."""
        if not self.over.done():
            self.over.set_result(why)
            if self.prompt is not None:
                self.prompt.withdraw(why)


class Supervisions:
    """One of each contact, and of each supervisor, at a time. `announced`: agents are told of who only listens, too.

    `agent_changed` is told of a supervisor who is on the phone for this from now on, or no longer.
    """

    def __init__(
        self,
        contacts: OpenContacts,
        calls: Calls,
        destinations: Destinations,
        staffing: Staffing,
        user_agent: UserAgent,
        media: MediaServer,
        events: EventLog,
        clock: IReactorTime,
        *,
        domain: str,
        ring_s: float,
        unreachable_s: float,
        announced: bool,
        agent_changed: Callable[[str], None],
    ) -> None:
        self._contacts = contacts
        self._calls = calls
        self._destinations = destinations
        self._staffing = staffing
        self._user_agent = user_agent
        self._media = media
        self._events = events
        self._deadlines = Deadlines(clock)
        self._domain = domain
        self._ring_s = ring_s
        self._unreachable_s = unreachable_s
        self._announced = announced
        self._agent_changed = agent_changed
        self._open: dict[str, Supervision] = {}
        self._count = 0
        calls.on_together = self._together
        contacts.on_ended.append(self._contact_ended)

    def of(self, contact_id: str) -> Supervision | None:
        return self._open.get(contact_id)

    def by(self, agent_id: str) -> Supervision | None:
        """What this supervisor listens to now, or is being rung for."""
        return next((each for each in self._open.values() if each.supervisor.id == agent_id), None)

    def told_to_agent(self, contact_id: str) -> str:
        """What the agent of a contact is told of it; empty: nothing."""
        supervision = self._open.get(contact_id)
        if supervision is None or not supervision.there:
            return ""
        who = supervision.supervisor.name
        match supervision.mode:
            case Mode.WHISPER:
                return f"{who} speaks to you; the customer does not hear it."
            case Mode.BARGE:
                return f"{who} is in the call: you all hear each other."
            case Mode.LISTEN:
                return f"{who} is listening." if self._announced else ""

    def told_to_customer(self, contact_id: str) -> str:
        """The name of who has joined their call: who is not heard by them is not told of. Empty: nobody."""
        supervision = self._open.get(contact_id)
        barged = supervision is not None and supervision.there and supervision.mode is Mode.BARGE
        return supervision.supervisor.name if supervision is not None and barged else ""

    # What a supervisor asks for

    def begin(self, supervisor: Agent, contact: Contact, mode: Mode) -> Supervision:
        """Ring them, and let them hear the call; or go on in another way with what they hear already.

        TheirError 404 for a contact that is not theirs to see, 409 with the reason where it cannot be.
        """
        if not (supervisor.supervisor and supervisor.serves(contact.facts.provider_id)):
            raise TheirError("There is no such contact, or it is of a provider you do not serve.", 404)
        present = self._open.get(contact.id)
        if present is not None and present.supervisor.id == supervisor.id:
            self._change(present, mode)
            return present
        phones = self._may_begin(supervisor, contact, present)
        self._count += 1
        supervision = self._open[contact.id] = Supervision(contact, supervisor, mode)
        self._staffing.occupy(supervisor.id)
        self._agent_changed(supervisor.id)
        spawn(self._story(supervision, phones), f"supervising {contact.id}")
        return supervision

    def leave(self, supervisor_id: str, contact_id: str) -> None:
        """They listen no longer; where they did not, nothing."""
        supervision = self._open.get(contact_id)
        if supervision is not None and supervision.supervisor.id == supervisor_id:
            supervision.end("left")

    def agent_changed(self, agent_id: str) -> None:
        """Whose right to it has been taken away hears no more."""
        supervision = self.by(agent_id)
        if supervision is not None and not self._staffing.supervises(
            agent_id, supervision.contact.facts.provider_id
        ):
            supervision.end("no supervisor of this any more")

    def _may_begin(self, supervisor: Agent, contact: Contact, present: Supervision | None) -> list[Phone]:
        if contact.channel is Channel.CHAT:
            raise TheirError("This is a chat: there is nothing to hear.", 409)
        if contact.state is not State.CONNECTED:
            raise TheirError("They are not talking to anybody now.", 409)
        if contact.agent_id == supervisor.id:
            raise TheirError("That is your own call.", 409)
        if present is not None:
            raise TheirError(f"{present.supervisor.name} supervises this call already.", 409)
        if self.by(supervisor.id) is not None:
            raise TheirError("You supervise another call. Please leave that first.", 409)
        try:
            return self._destinations.phones(self._destinations.colleague(supervisor), None)
        except TheirError as error:
            raise TheirError(_WHY_NOT.get(error.status, error.reason), 409) from None

    def _change(self, supervision: Supervision, mode: Mode) -> None:
        if supervision.mode is mode or supervision.over.done():
            return
        supervision.mode = mode
        if supervision.leg is not None:
            self._tell("contact.supervised", supervision, mode=mode.value)
            spawn(self._again(supervision), f"{mode} in {supervision.contact.id}")

    # The story of one

    async def _story(self, supervision: Supervision, phones: list[Phone]) -> None:
        contact, supervisor = supervision.contact, supervision.supervisor
        status: int | None = None
        unwatch = self._contacts.listen(contact.id, lambda kind, what: self._contact_moved(supervision, kind))
        self._look_after(supervision)
        try:
            supervision.prompt = self._prompt(supervision, phones)
            outcome = await supervision.prompt.ring()
            if isinstance(outcome, Taken):
                await self._answered(supervision, outcome.leg)
            else:
                status = status_of(outcome)
                supervision.end("not taken")
        except WarmlineError as error:
            status = error.status
            supervision.end("media failed")
        finally:
            unwatch()
            supervision.end("failed")
            if supervision.look is not None:
                supervision.look.cancel()
            self._open.pop(contact.id, None)
            leg = supervision.leg
            if leg is not None:
                leg.on_event = None
                leg.end("supervision is over")
            self._staffing.vacate(supervisor.id)
            self._agent_changed(supervisor.id)
            self._tell("contact.supervision_ended", supervision, why=supervision.over.result(), status=status)
            if leg is not None:
                await self._leave_the_two(supervision)

    def _prompt(self, supervision: Supervision, phones: list[Phone]) -> Prompt:
        contact = supervision.contact
        agent = self._staffing.agent_name(contact.agent_id) or "somebody outside"
        about = contact.facts.product_name or contact.facts.provider_name
        subject = plain(f"{_DOES[supervision.mode]}: {agent} with {contact.facts.caller} - {about}")

        def note(kind: str, phone: Phone, call_id: str | None, facts: dict[str, Any]) -> None:
            self._tell(
                f"contact.supervisor_{kind}", supervision, device=phone.device_id, call_id=call_id, **facts
            )

        return Prompt(
            Invitation(
                contact.id,
                contact_from(contact, self._domain, product=True, what=_DOES[supervision.mode]),
                (("Subject", subject), ("X-Warmline-Contact", contact.id)),
                None,  # it is mixed for them: whatever their phone speaks
                AUDIO_ONLY,
                contact.session,
            ),
            phones,
            user_agent=self._user_agent,
            media=self._media,
            deadlines=self._deadlines,
            ring_s=self._ring_s,
            unreachable_s=self._unreachable_s,
            prefix=f"supervisor-{self._count}",
            note=note,
        )

    async def _answered(self, supervision: Supervision, leg: Leg) -> None:
        """Returns when it is over. Raises WarmlineError where they cannot be let in."""
        supervision.leg = leg
        leg.on_event = lambda event: self._heard(supervision, event)
        leg.keep_asking(self._deadlines)
        if supervision.over.done():
            return
        self._tell(
            "contact.supervised", supervision, mode=supervision.mode.value, call_id=leg.call.id, began=True
        )
        await self._mix(supervision)
        await asyncio.wait([supervision.over])

    async def _mix(self, supervision: Supervision) -> None:
        """As it should be now; while the two are apart, nothing."""
        contact, leg = supervision.contact, supervision.leg
        two = self._calls.together(contact)
        third = supervision.third
        if leg is None or supervision.over.done():
            return
        if two is None and third is not None:
            two = self._branches(contact)  # the agent has put them all together
        if two is None:
            return
        branches = [*two, *((third,) if third is not None else ()), leg.branch]
        await self._media.confer(contact.id, branches, hears=hears(supervision.mode, *two, leg.branch, third))
        self._contacts.tell(contact.id, "state", contact)  # the agent's page says so

    def _branches(self, contact: Contact) -> tuple[str, str] | None:
        customer, agent = self._calls.branch_of(contact.id), self._calls.agent_leg(contact)
        return (customer, agent.branch) if customer is not None and agent is not None else None

    async def _leave_the_two(self, supervision: Supervision) -> None:
        """Their packets pass as before: no mixing is left behind."""
        contact = supervision.contact
        if contact.open and self._calls.together(contact) is not None:
            await self._calls.join_again(contact)
        self._contacts.tell(contact.id, "state", contact)

    # What happens meanwhile

    def _together(self, contact: Contact) -> None:
        """`Calls`: the customer and an agent have been joined, for whatever reason."""
        supervision = self._open.get(contact.id)
        if supervision is not None and supervision.there:
            supervision.third = None
            spawn(self._again(supervision), f"supervising {contact.id} on")

    def conferred(self, contact: Contact, third: str) -> None:
        """`Consultations`: all three hear each other now."""
        supervision = self._open.get(contact.id)
        if supervision is not None and supervision.there:
            supervision.third = third
            spawn(self._again(supervision), f"supervising {contact.id} with a third")

    async def _again(self, supervision: Supervision) -> None:
        try:
            await self._mix(supervision)
        except WarmlineError as error:
            # Somebody has gone in this moment, or mixing is too much now: the two talk on, without the supervisor.
            log.info("{id} is not supervised on: {error}", id=supervision.contact.id, error=error.reason)
            supervision.end("media failed")

    @staticmethod
    def _heard(supervision: Supervision, event: LegEvent) -> None:
        if isinstance(event, Gone):
            supervision.end("lost" if event.by == "lost" else "hung up")

    def _look_after(self, supervision: Supervision) -> None:
        if supervision.over.done():
            return
        if not self._staffing.supervises(supervision.supervisor.id, supervision.contact.facts.provider_id):
            supervision.end("no supervisor any more")
            return
        supervision.look = self._deadlines.after(LOOK_S, lambda: self._look_after(supervision))

    def _contact_moved(self, supervision: Supervision, kind: str) -> None:
        if kind == "state" and supervision.contact.state in (State.WAITING, State.RINGING):
            supervision.end("waits for another agent")

    def _contact_ended(self, contact: Contact) -> None:
        supervision = self._open.get(contact.id)
        if supervision is not None:
            supervision.end("the call ended")
            if supervision.leg is not None:
                # At once: the contact's media goes now, and nobody is to listen to nothing.
                supervision.leg.on_event = None
                supervision.leg.end("the call ended")

    def media_gone(self, call: str, branch: str, why: str) -> None:
        """MediaServer: nothing comes from this branch any more."""
        supervision = self._open.get(call)
        if supervision is not None and supervision.leg is not None and supervision.leg.branch == branch:
            supervision.end("lost")

    def __iter__(self) -> Iterator[Supervision]:
        return iter(tuple(self._open.values()))

    def _tell(self, kind: str, supervision: Supervision, **facts: Any) -> None:
        contact = supervision.contact
        self._events.write(
            kind,
            contact=contact.id,
            agent=supervision.supervisor.id,
            of=contact.agent_id,
            session=contact.session,
            **facts,
        )
