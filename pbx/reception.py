"""What a caller goes through after they have called and before they wait: steps that tell or ask them something.

    called -> told, asked … -> in the queue, and hears how things stand

Nobody is rung for them meanwhile. Whatever fails in a step, they come into the queue; and a caller whose page was
loaded again goes through what is left of the steps anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from config.bridge import spawn
from config.errors import WarmlineError
from media.server import MediaServer
from pbx.calls import Calls
from pbx.contact import Contact, State
from pbx.leg import Leg
from pbx.open_contacts import OpenContacts

log = Logger()


class Guest:
    """A caller, to whom prompts are played and who may press keys. `here` is False once they are not to be reached."""

    def __init__(self, contact: Contact, leg: Leg, media: MediaServer, clock: IReactorTime) -> None:
        self.contact = contact
        self.leg = leg
        self._media = media
        self._clock = clock
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._key: asyncio.Future[str] | None = None
        self._keys = ""

    @property
    def here(self) -> bool:
        # An agent may have them by now: their line broke, they were thought to wait, and what was said was cut off.
        waits = self.contact.state in (State.WAITING, State.RINGING)
        return not self._gone.done() and self.leg.alive and waits

    async def hear(self, prompts: str | Sequence[str]) -> bool:
        """True: they have heard it to the end. False: they have gone, or it could not be played."""
        length_s = await self._play(prompts)
        if length_s is None:
            return False
        await self._wait(length_s)
        return self.here

    async def choose(self, prompts: str | Sequence[str], keys: str, wait_s: float) -> str:
        """The first of these `keys` they press, while the prompts are played or in the `wait_s` seconds after them; ""
        for none. A key ends what is played."""
        self._keys, self._key = keys, asyncio.get_running_loop().create_future()
        try:
            length_s = await self._play(prompts)
            if length_s is not None:
                await self._wait(length_s + wait_s, self._key)
            return self._key.result() if self._key.done() and self.here else ""
        finally:
            self._key = None

    async def _play(self, prompts: str | Sequence[str]) -> float | None:
        if not self.here:
            return None
        try:
            return await self._media.play(self.contact.id, self.leg.branch, prompts)
        except WarmlineError as error:
            log.info("{id} hears nothing: {error}", id=self.contact.id, error=error.reason)
            return None

    async def _wait(self, seconds: float, *sooner: asyncio.Future[Any]) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._clock.callLater(seconds, over.set_result, None)
        ends: set[asyncio.Future[Any]] = {over, self._gone, *sooner}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if timer.active():
                timer.cancel()

    def pressed(self, key: str) -> None:
        if self._key is not None and not self._key.done() and key in self._keys:
            self._key.set_result(key)

    def leave(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)


class Step(Protocol):
    def wants(self, contact: Contact) -> bool:
        """Whether this caller is to go through it, before anything is played to them."""

    async def meet(self, guest: Guest) -> None:
        """Go through it with them."""


class Reception:
    """Takes callers from `Calls` as they arrive, and passes on whom none of the `steps` wants."""

    def __init__(self, contacts: OpenContacts, calls: Calls, media: MediaServer, clock: IReactorTime) -> None:
        self._contacts = contacts
        self._calls = calls
        self._media = media
        self._clock = clock
        self.steps: list[Step] = []
        self._guests: dict[str, Guest] = {}  # by contact
        # Who is called back, and the menu of those who wait, come before and after.
        self._arrived_before, calls.on_arrived = calls.on_arrived, self._arrived
        self._keys_after, calls.on_keys = calls.on_keys, self._pressed
        contacts.on_ended.append(self._contact_ended)

    def __len__(self) -> int:
        return len(self._guests)

    def _arrived(self, contact: Contact) -> bool:
        before = self._guests.pop(contact.id, None)
        if before is not None:
            before.leave()  # the page was loaded again
        if self._arrived_before(contact):
            return True
        leg = self._calls.customer_leg(contact)
        if leg is None or contact.state is not State.WAITING or self._calls.agent_leg(contact) is not None:
            return False
        if not any(step.wants(contact) for step in self.steps):
            return False
        guest = self._guests[contact.id] = Guest(contact, leg, self._media, self._clock)
        spawn(self._receive(guest), f"the reception of {contact.id}")
        return True

    async def _receive(self, guest: Guest) -> None:
        contact = guest.contact
        for step in self.steps:
            try:
                if guest.here and step.wants(contact):
                    await step.meet(guest)
            except Exception:
                log.failure("A step of the reception failed for {id}", id=contact.id)
        here = guest.here
        if self._guests.get(contact.id) is guest:
            del self._guests[contact.id]
        if not here or contact.call_back is not None:
            return
        if contact.state is State.WAITING and not guest.leg.unplugged:
            self._contacts.set_routable(contact, True)
        if contact.state in (State.WAITING, State.RINGING):
            await self._calls.room.welcome(contact, guest.leg)

    def _pressed(self, contact: Contact, key: str) -> None:
        guest = self._guests.get(contact.id)
        if guest is not None:
            guest.pressed(key)
        else:
            self._keys_after(contact, key)

    def _contact_ended(self, contact: Contact) -> None:
        guest = self._guests.pop(contact.id, None)
        if guest is not None:
            guest.leave()
