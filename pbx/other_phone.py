"""A phone takes the place of another of the same agent, in the middle of a call: INVITE with Replaces (RFC 3891).

Such a call is claimed meanwhile: what is being moved, passed on or talked over with a colleague is so once at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from config.errors import TheirError, WarmlineError
from config.events import EventLog
from media.server import ALL_KINDS, MediaServer, Profile
from pbx.calls import Calls, kinds_of
from pbx.contact import Contact, State
from pbx.direct_call import DirectCall, Party
from pbx.direct_calls import DirectCalls
from pbx.leg import Leg
from sip_trunk import user_agent as sip


class Claims:
    """Contacts and direct calls that are being moved about, so that nobody else does it at the same time."""

    def __init__(self) -> None:
        self._claimed: set[str] = set()

    def busy(self, call_id: str) -> bool:
        return call_id in self._claimed

    def take(self, call_id: str) -> None:
        """TheirError 491 for one that is claimed."""
        if call_id in self._claimed:
            raise TheirError("A Transfer Is Under Way", 491)
        self._claimed.add(call_id)

    def drop(self, call_id: str) -> None:
        self._claimed.discard(call_id)

    @contextmanager
    def held(self, call_id: str) -> Iterator[None]:
        """Claimed while it lasts. TheirError as `take`."""
        self.take(call_id)
        try:
            yield
        finally:
            self.drop(call_id)


class OtherPhones:
    """Gives the user agent's INVITEs with Replaces what they ask for."""

    def __init__(
        self, calls: Calls, direct_calls: DirectCalls, media: MediaServer, events: EventLog, claims: Claims
    ) -> None:
        self._calls = calls
        self._direct_calls = direct_calls
        self._media = media
        self._events = events
        self._claims = claims

    async def replace(self, call: sip.IncomingCall, agent_id: str, replaced: sip.Call) -> None:
        """An agent goes on at another of their phones. TheirError 403 for a call that is not theirs, 481, 488, 491."""
        contact = self._calls.contact_of(replaced)
        found = self._direct_calls.find(replaced)
        if contact is not None:
            self._may_replace(contact.id, contact.agent_id == agent_id and contact.state is State.CONNECTED)
            work, call_id = self._move_contact(call, agent_id, contact), contact.id
        elif found is not None:
            direct, party = found
            self._may_replace(direct.id, party.agent_id == agent_id and direct.connected_at is not None)
            work, call_id = self._move_direct(call, direct, party), direct.id
        else:
            raise TheirError("That Call Is Not Here", 481)
        with self._claims.held(call_id):
            await work

    async def _move_contact(self, call: sip.IncomingCall, agent_id: str, contact: Contact) -> None:
        like = self._calls.branch_of(contact.id)
        leg = await self._answered(call, contact.id, like, kinds_of(contact.channel))
        if await self._calls.take_over(contact, leg, lambda: contact.state is State.CONNECTED):
            self._events.write(
                "contact.moved", contact=contact.id, agent=agent_id, call_id=call.id, session=contact.session
            )
        else:
            leg.end("the call is over")
            await self._calls.join_again(contact)

    async def _move_direct(self, call: sip.IncomingCall, direct: DirectCall, party: Party) -> None:
        other = direct.other(party).leg
        like = other.branch if other is not None else None
        leg = await self._answered(call, direct.media_call, like, ALL_KINDS)
        same = Party(party.shown, party.from_, party.agent_id)
        if not await self._direct_calls.take_over(direct, party, same, leg):
            leg.end("the call is over")
            await self._direct_calls.join_again(direct)

    def _may_replace(self, call_id: str, theirs: bool) -> None:
        if not theirs:
            raise TheirError("Not Your Call", 403)
        if self._claims.busy(call_id):
            raise TheirError("A Transfer Is Under Way", 491)

    async def _answered(
        self, call: sip.IncomingCall, media_call: str, like: str | None, kinds: frozenset[str]
    ) -> Leg:
        """A leg for the phone that calls, answered in the codecs of those who go on talking."""
        browser = call.flow is not None and call.flow.transport in ("WS", "WSS")
        profile = Profile.WEBRTC if browser else Profile.RTP
        leg = Leg(call, self._media, media_call, f"instead-{call.id}", profile=profile, kinds=kinds)
        try:
            if call.offer:
                session = await self._media.answer(media_call, leg.branch, call.offer, kinds=kinds, like=like)
                leg.seen(call.offer)
            else:
                session = await self._media.offer(media_call, leg.branch, profile=profile, like=like)
        except WarmlineError:
            leg.drop()
            raise
        if leg.alive:
            leg.answer(session, offered=bool(call.offer))
        return leg
