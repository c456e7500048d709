"""Chat: lines between a customer's page and an agent's own softphone, which gets and sends them as SIP MESSAGE.

A line is stored before whoever said it is told that it was taken, and it is said once however often its key comes.
To the agent, lines go one at a time per contact, in order, the next after the phone has taken the last; what a phone
does not take is tried again, on all of the agent's phones, until the chat ends. An agent all of whose phones are gone
has left it: the customer goes back to their place in the queue. That a side is writing is told and forgotten: it is no
line, no event, and only the customer's keeps the chat from being idle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from unicodedata import category

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from config.bridge import spawn
from config.errors import TheirError, WarmlineError
from config.events import EventLog
from config.ids import new_id
from media.server import MediaServer
from pbx.chat_phones import ChatPhones
from pbx.composing import Told, Writing
from pbx.contact import Channel, Contact, Disposition, State
from pbx.leg import Leg
from pbx.open_contacts import OpenContacts
from pbx.prompt import Taken
from pbx.staffing import Staffing
from pbx.store import Message, PbxStore
from sip_trunk.flow import Flow
from sip_trunk.sip.imdn import AskedFor, Receipt
from sip_trunk.user_agent import UserAgent

log = Logger()

LONGEST_LINE = 4000
RETRY_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# An agent without any phone registered, and silent, for this long while a line waits for them has left the chat.
AGENT_GONE_S = 60.0
SIDES = ("customer", "agent")


@dataclass(slots=True)
class _Talk:
    """One chat that is open: every line of it, and who gets the customer's."""

    contact: Contact
    phones: ChatPhones
    writing: dict[str, Writing]  # by side
    lines: list[Message] = field(default_factory=list)
    stored: dict[tuple[str, str], asyncio.Future[Message]] = field(default_factory=dict)
    sending: asyncio.Task[None] | None = None
    retry: IDelayedCall | None = None
    failures: int = 0
    gone_since: float | None = None  # when a line was first kept back because no phone of the agent is there
    idle: IDelayedCall | None = None


class Chats:
    """`idle_s` of silence end a chat that is joined. `now` is wall time in epoch seconds."""

    def __init__(
        self,
        contacts: OpenContacts,
        store: PbxStore,
        staffing: Staffing,
        user_agent: UserAgent,
        media: MediaServer,
        events: EventLog,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        domain: str,
        idle_s: float,
    ) -> None:
        self._contacts = contacts
        self._store = store
        self._staffing = staffing
        self._user_agent = user_agent
        self._media = media
        self._events = events
        self._clock = clock
        self._now = now
        self._domain = domain
        self._idle_s = idle_s
        self._talks: dict[str, _Talk] = {}
        contacts.on_ended.append(self._contact_ended)

    def open(self, contact: Contact, lines: list[Message]) -> None:
        """A chat was asked for (or taken up again): it can be routed now."""
        phones = ChatPhones(
            contact, self._staffing, self._user_agent, self._clock, self._now, domain=self._domain
        )
        writing = {
            side: Writing(self._clock, partial(self._tell_writing, contact, phones, side)) for side in SIDES
        }
        talk = self._talks[contact.id] = _Talk(contact, phones, writing, list(lines))
        for line in lines:
            taken: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            taken.set_result(line)
            talk.stored[line.sender, line.key] = taken
        self._contacts.set_routable(contact, True)

    def shelve(self, contact: Contact) -> None:
        """The customer goes on by a call: nothing is written any more. What was said is stored, for `open`."""
        talk = self._talks.pop(contact.id, None)
        if talk is not None:
            _cancel(talk.retry)
            _cancel(talk.idle)
            for writing in talk.writing.values():
                writing.stop()

    def lines(self, contact_id: str) -> list[Message] | None:
        """All lines of an open chat in order; None when it is not open."""
        talk = self._talks.get(contact_id)
        return list(talk.lines) if talk is not None else None

    async def say(self, contact: Contact, sender: str, key: str, text: str) -> Message:
        """One line; it is durable when this returns. The same key again is the same line.

        Raises TheirError 400 for an empty line, 413 for one that is too long, 409 when the chat is over.
        """
        talk = self._talks.get(contact.id)
        if talk is None:
            raise TheirError("This chat has ended.", 409)
        text = checked(text)
        known = talk.stored.get((sender, key))
        if known is not None:
            return await asyncio.shield(known)
        line = Message(new_id("m"), contact.id, key, sender, text, self._now())
        storing = talk.stored[sender, key] = asyncio.ensure_future(self._keep(talk, line))
        return await asyncio.shield(storing)

    async def _keep(self, talk: _Talk, line: Message) -> Message:
        try:
            await self._store.say(line)
        except BaseException:
            del talk.stored[line.sender, line.key]  # not taken: it may be said again
            raise
        talk.lines.append(line)
        self._contacts.tell(line.contact_id, "message", line)
        if line.sender in talk.writing:
            talk.writing[line.sender].said()
        self._still_busy(talk)
        if line.sender == "customer":
            self._send(talk)
        else:
            talk.gone_since = None
        return line

    # The agent takes the chat

    async def connect(self, contact: Contact, taken: Taken) -> bool:
        """The agent answered the short call that asked for it: from here on lines pass."""
        talk = self._talks.get(contact.id)
        if talk is None:
            taken.leg.end("the customer left")
            return False
        spawn(self._announce(contact.id, taken.leg), f"announcing chat {contact.id}")
        if not contact.open:
            return True
        talk.failures, talk.gone_since = 0, None
        self._contacts.join(contact, device=taken.phone.device_id, agent_call_id=taken.leg.call.id)
        talk.phones.begin(taken.phone)
        self._still_busy(talk)
        self._send(talk)
        return True

    def take_over(self, contact: Contact, taken: Taken, decide: Callable[[], bool]) -> bool:
        """Another agent answered, to whom the chat is passed on: from here on lines pass to them, those said before
        first. `decide` makes it so for everybody else; False: it is too late."""
        talk = self._talks.get(contact.id)
        giver = contact.agent_id
        if talk is None or giver is None or not decide():
            taken.leg.end("the customer left")
            return False
        spawn(self._announce(contact.id, taken.leg), f"announcing chat {contact.id}")
        self._take_leave(talk, giver)
        talk.phones.begin(taken.phone)
        self._still_busy(talk)
        self._send(talk)
        return True

    def passed_on(self, contact: Contact) -> None:
        """The agent has passed the chat on, to whoever takes it next: no more lines go to them."""
        talk = self._talks.get(contact.id)
        if talk is not None and contact.agent_id is not None:
            self._take_leave(talk, contact.agent_id)

    def _take_leave(self, talk: _Talk, giver: str) -> None:
        self._quiet(talk)
        # Their phone shows a chat as a row of lines: that it is theirs no longer has to be one of them.
        spawn(talk.phones.words(giver, "[You have passed this chat on.]"), f"leaving {talk.contact.id}")

    async def _announce(self, contact_id: str, leg: Leg) -> None:
        """Say that it is a chat, then hang up: the end of this call, whoever's doing it is, ends nothing."""
        try:
            length_s = await self._media.play(contact_id, leg.branch, "chat-request")
        except WarmlineError as error:
            log.warn("Chat {id} could not be announced: {error}", id=contact_id, error=error.reason)
            length_s = 0.0
        self._clock.callLater(length_s, leg.end, "a chat needs no call")

    # Lines to the agent

    def agent_changed(self, agent_id: str) -> None:
        """A phone of the agent came (back): what it has missed is tried at once."""
        for talk in tuple(self._talks.values()):
            if talk.contact.agent_id == agent_id and talk.retry is not None:
                self._send(talk)

    def _send(self, talk: _Talk) -> None:
        _cancel(talk.retry)
        talk.retry = None
        if talk.sending is None and talk.contact.state is State.CONNECTED and self._next(talk) is not None:
            talk.sending = spawn(self._send_all(talk), f"lines of chat {talk.contact.id}")

    def _next(self, talk: _Talk) -> int | None:
        agent_id = talk.contact.agent_id
        for number, line in enumerate(talk.lines):
            if line.sender == "customer" and line.delivered_to != agent_id:
                return number
        return None

    async def _send_all(self, talk: _Talk) -> None:
        try:
            while talk.contact.state is State.CONNECTED and (number := self._next(talk)) is not None:
                line, agent_id = talk.lines[number], talk.contact.agent_id
                assert agent_id is not None
                if not await talk.phones.line(agent_id, line):
                    self._try_again(talk, agent_id)
                    return
                talk.failures, talk.gone_since = 0, None
                # As it is now: that it was read may have been heard before that it was taken.
                line = replace(talk.lines[number], delivered_to=agent_id, delivered_at=self._now())
                talk.lines[number] = line
                self._store.delivered(line.id, agent_id, line.delivered_at or 0.0).add_done_callback(_look)
                self._contacts.tell(talk.contact.id, "delivered", line)
        finally:
            talk.sending = None

    def _try_again(self, talk: _Talk, agent_id: str) -> None:
        if talk.contact.state is not State.CONNECTED:
            return
        if talk.contact.agent_id != agent_id:  # passed on meanwhile
            talk.retry = self._clock.callLater(0, self._send, talk)
            return
        if any(not phone.asleep for phone in self._staffing.phones(agent_id, Channel.CHAT)):
            talk.gone_since = None
        elif talk.gone_since is None:
            talk.gone_since = self._now()
        elif self._now() - talk.gone_since >= AGENT_GONE_S:
            self._leave(talk, agent_id)
            return
        delay_s = RETRY_S[min(talk.failures, len(RETRY_S) - 1)]
        talk.failures += 1
        talk.retry = self._clock.callLater(delay_s, self._send, talk)

    def _leave(self, talk: _Talk, agent_id: str) -> None:
        """The agent is gone for good: the customer gets another, who gets all of their lines."""
        self._quiet(talk)
        self._events.write(
            "contact.unreachable", contact=talk.contact.id, agent=agent_id, phones={}, gone_s=AGENT_GONE_S
        )
        self._contacts.refused(talk.contact, agent_id)

    @staticmethod
    def _quiet(talk: _Talk) -> None:
        """Nobody of us has this chat just now."""
        _cancel(talk.idle)
        _cancel(talk.retry)
        talk.idle = talk.retry = None
        talk.failures, talk.gone_since = 0, None
        talk.phones.end()
        for writing in talk.writing.values():
            writing.heard(False)

    # That somebody writes (RFC 3994)

    def composing(self, contact: Contact, side: str, active: bool, lasts_s: float) -> None:
        """A side writes, for `lasts_s` from now unless it says so again, or does not. Nothing in a chat not joined."""
        talk = self._talks.get(contact.id)
        if talk is None or contact.state is not State.CONNECTED:
            return
        talk.writing[side].heard(active, lasts_s)
        # An agent's phone that was left with half a line in it must not keep a chat open; a customer is waited for.
        if active and side == "customer":
            self._still_busy(talk)

    def writing(self, contact_id: str) -> tuple[str, ...]:
        """The sides that are writing now."""
        talk = self._talks.get(contact_id)
        return tuple(side for side in SIDES if talk.writing[side].active) if talk is not None else ()

    def _tell_writing(self, contact: Contact, phones: ChatPhones, side: str, told: Told) -> None:
        if told is not Told.STILL:
            self._contacts.tell(contact.id, "composing", (side, told is Told.ACTIVE))
        if side == "customer" and told is not Told.SAID:
            phones.composing(told is not Told.IDLE)

    # Receipts (RFC 5438)

    def phone_reads(self, contact: Contact, device_id: str, flow: Flow, media_type: str) -> None:
        """A phone of the agent has sent a body of that type, and so can be sent one."""
        talk = self._talks.get(contact.id)
        if talk is not None:
            talk.phones.understood(device_id, flow, media_type)

    def receipt_wanted(
        self, contact: Contact, line: Message, asked: AskedFor, device_id: str, flow: Flow
    ) -> None:
        """The device that said this line, which is durable, wants to be told what becomes of it."""
        talk = self._talks.get(contact.id)
        if talk is not None:
            talk.phones.taken(line, asked, device_id, flow)

    def receipt(self, contact: Contact, device_id: str, receipt: Receipt) -> None:
        """What the agent's phone tells of a line; of one that did not go to it, or of none of ours, it is ignored."""
        talk = self._talks.get(contact.id)
        if (
            talk is not None
            and receipt.displayed
            and talk.phones.is_receipt_of(receipt.message_id, device_id)
        ):
            # That it was delivered the 200 to the line itself has told (RFC 3428 s7).
            self._read(
                talk, [number for number, line in enumerate(talk.lines) if line.id == receipt.message_id]
            )

    def seen(self, contact: Contact, reader: str, line_id: str) -> None:
        """A page shows its reader ("customer" or "agent") every line of the other side up to that one."""
        talk = self._talks.get(contact.id)
        if talk is None:
            return
        last = next((number for number, line in enumerate(talk.lines) if line.id == line_id), -1)
        writer = "agent" if reader == "customer" else "customer"
        self._read(talk, [number for number in range(last + 1) if talk.lines[number].sender == writer])

    def _read(self, talk: _Talk, numbers: list[int]) -> None:
        now = self._now()
        for number in numbers:
            if talk.lines[number].read_at is not None:
                continue
            line = talk.lines[number] = replace(talk.lines[number], read_at=now)
            self._store.read(line.id, now).add_done_callback(_look)
            self._contacts.tell(line.contact_id, "read", line)
            if line.sender == "agent":
                talk.phones.shown(line.id)

    # The end

    def _still_busy(self, talk: _Talk) -> None:
        if talk.contact.state is not State.CONNECTED:
            return
        if talk.idle is not None and talk.idle.active():
            talk.idle.reset(self._idle_s)
        else:
            talk.idle = self._clock.callLater(self._idle_s, self._idle, talk)

    def _idle(self, talk: _Talk) -> None:
        self._contacts.end(talk.contact, Disposition.IDLE, idle_s=self._idle_s)

    def _contact_ended(self, contact: Contact) -> None:
        talk = self._talks.pop(contact.id, None)
        if talk is None:
            return
        _cancel(talk.retry)
        _cancel(talk.idle)
        for writing in talk.writing.values():
            writing.stop()
        if contact.connected_at is not None and contact.agent_id is not None:
            farewell = _FAREWELLS.get(contact.disposition)
            if farewell is not None:
                spawn(self._farewell(talk, contact.agent_id, farewell), f"farewell of chat {contact.id}")

    async def _farewell(self, talk: _Talk, agent_id: str, text: str) -> None:
        """The agent's phone shows a chat as a row of lines: its end has to be one of them. Not tried again."""
        if talk.sending is not None:
            await asyncio.wait([talk.sending])
        await talk.phones.words(agent_id, text)

    def stop(self) -> None:
        """No more timers; what is stored stays and is taken up at the next start."""
        for talk in self._talks.values():
            _cancel(talk.retry)
            _cancel(talk.idle)
            for writing in talk.writing.values():
                writing.stop()
            if talk.sending is not None:
                talk.sending.cancel()
        self._talks.clear()


_FAREWELLS: dict[Disposition | None, str] = {
    Disposition.CUSTOMER_HUNG_UP: "[The customer has ended this chat.]",
    Disposition.IDLE: "[This chat has ended: nobody wrote any more.]",
    Disposition.AGENT_HUNG_UP: "[You have ended this chat.]",
}


def checked(text: str) -> str:
    """A line as it may be said: TheirError 400 for an empty one, 413 for one that is too long."""
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise TheirError("There is nothing in this message.", 400)
    if len(text) > LONGEST_LINE:
        raise TheirError(f"A message may have {LONGEST_LINE} characters at most.", 413)
    return "".join(char for char in text if char in "\n\t" or category(char) != "Cc")


def _cancel(delayed: IDelayedCall | None) -> None:
    if delayed is not None and delayed.active():
        delayed.cancel()


def _look(written: asyncio.Future[None]) -> None:
    if not written.cancelled() and (error := written.exception()) is not None:
        log.error("What became of a line was not stored: {error}", error=error)
