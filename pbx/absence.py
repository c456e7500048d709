"""Customers who are not there: how long each is waited for, and who is not lost after all.

Each wait for one to come (back) has one timer and one ending: they are `found`, or given up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from config.bridge import spawn
from config.errors import WarmlineError
from media.server import MediaServer
from pbx.contact import Contact
from pbx.leg import Leg
from sip_trunk.deadlines import Deadline, Deadlines

# A peer from whom a packet came so lately is there, whatever became of its signalling.
_HEARD_S = 2.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a customer who is not there is waited for, in seconds."""

    invite_s: float = 30.0  # till the browser calls its contact's address
    waiting_s: float = 15.0  # till it is back, while in the queue
    talking_s: float = 5.0  # till it is back, while an agent listens to nothing
    after_restart_s: float = 60.0  # till the page has found the server again


class Absences:
    """`leg_of` is the leg a customer had last; `heard` is told of one whose media goes on without their signalling,
    `lost` of one who did not come."""

    def __init__(
        self,
        media: MediaServer,
        deadlines: Deadlines,
        now: Callable[[], float],
        *,
        leg_of: Callable[[Contact], Leg | None],
        heard: Callable[[Contact], None],
        lost: Callable[[Contact], None],
    ) -> None:
        self._media = media
        self._deadlines = deadlines
        self._now = now
        self._leg_of = leg_of
        self._heard = heard
        self._lost = lost
        self._timers: dict[str, Deadline] = {}

    def expect(self, contact: Contact, patience_s: float) -> None:
        """Unless they are waited for already."""
        if contact.id not in self._timers:
            self._timers[contact.id] = self._deadlines.after(patience_s, lambda: self._over(contact))

    def found(self, contact_id: str) -> None:
        """They are back, or nobody waits for them any more."""
        timer = self._timers.pop(contact_id, None)
        if timer is not None:
            timer.cancel()

    def _over(self, contact: Contact) -> None:
        del self._timers[contact.id]
        leg = self._leg_of(contact)
        if leg is not None and leg.alive:
            spawn(self._look_for(contact, leg), f"looking for the customer of {contact.id}")
        else:
            self._lost(contact)

    async def _look_for(self, contact: Contact, leg: Leg) -> None:
        """A web socket may break, in a tunnel say, while sound and pictures go on: then nobody is lost."""
        heard = await self._heard_lately(contact.id, leg.branch)
        if contact.id in self._timers or self._leg_of(contact) is not leg:
            return  # they came back meanwhile
        if heard:
            self._heard(contact)
        else:
            self._lost(contact)

    async def _heard_lately(self, contact_id: str, branch: str) -> bool:
        try:
            found = (await self._media.stats(contact_id)).get(branch, {})
        except WarmlineError:
            return False
        packets_at = (kind["last_packet_at"] for kind in found.get("kinds", {}).values())
        return any(at is not None and self._now() - at < _HEARD_S for at in packets_at)
