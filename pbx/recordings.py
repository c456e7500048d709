"""Recording calls: of each agent's part of a call one file, for as long as the two hear each other and both may be.

    connected --> row stored --> file grows --> agent's part over, or consent taken back --> file complete, row says so
                                  |    ^
                  paused, on hold v    |
                                silence

Pictures join the sound in its file when they join the call (but see `PICTURES`). A conversation between agents is
silence, a conference records the customer and the agent whose contact it is, and what is said to somebody outside to
whom the customer was passed on is not recorded.

What happens to a call is heard from the event log. Each time it is asked anew what should be recorded now, and one
story at a time brings about what is not so yet: nothing that happens meanwhile is lost, and nothing is done twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from config.bridge import spawn
from config.errors import OurError, TheirError, WarmlineError
from config.events import Event, EventLog
from config.ids import new_id
from config.recording_settings import Keys, Retention, key_name
from config.recording_settings import Recording as Mode
from media.recorded import is_written, kinds_of, seconds_of
from media.server import MediaServer
from pbx.calls import Calls
from pbx.contact import Channel, Contact, State
from pbx.on_hold import HEAR_EACH_OTHER
from pbx.open_contacts import OpenContacts
from pbx.recording_consent import Consents
from pbx.recording_store import Recording, RecordingStore, TapeState

log = Logger()

LIMIT_S = 4 * 3600.0
"""Of one file; a longer call goes on in another."""
SHORTEST_S = 0.5
FAILED = "failed"
"""Of why a recording has ended: it broke off. What made it do so may stand behind a colon."""
PICTURES = "pictures"
"""Of why one has ended: a WAV has no place for the pictures that have joined the call. It goes on in another file."""
WRITTEN_S = 5.0
"""So long a recording process that is behind may still write what we are about to look at."""

Sides = tuple[str, str, str]
"""Agent, and the media branches of customer and agent."""


@dataclass(slots=True)
class _Tape:
    """A recording that runs. `over`: it has ended by itself, why and after how many seconds."""

    row: Recording
    sides: Sides
    quiet: bool = False
    over: tuple[str, float] | None = None


@dataclass(slots=True)
class _Watch:
    """A contact that has been connected, and may be recorded. `failed`: sides of which it could not be; `kept`: of
    what was recorded before, something is there; `pictures`: they have just joined."""

    contact: Contact
    apart: bool = False
    paused_by: str = ""  # the agent who has paused it
    tape: _Tape | None = None
    kept: bool = False
    pictures: bool = False
    failed: set[Sides] = field(default_factory=set)
    legs: set[str] = field(default_factory=set)  # calls of agents whose consent is written down
    timer: IDelayedCall | None = None
    work: asyncio.Task[None] | None = None


class _Found(NamedTuple):
    """What there is of a recording. `seconds` None: there is a file, and nobody can say how long it is. It is kept:
    somebody may mend it. `grows`: it is still being written."""

    seconds: float | None
    kinds: str
    grows: bool = False


class Recordings:
    """`folder` is where the files are. `pause_s`: after so many seconds a pause is over by itself; 0: never. `now` is
    wall time in epoch seconds, `in_thread` does what blocks. `ended_by_itself` is the `MediaServer`'s `on_tapped`."""

    def __init__(
        self,
        contacts: OpenContacts,
        calls: Calls,
        consents: Consents,
        media: MediaServer,
        store: RecordingStore,
        events: EventLog,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        folder: Path,
        keys: Keys,
        retention: Retention,
        wav: bool = False,
        pause_s: float = 0.0,
        in_thread: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self._contacts = contacts
        self._calls = calls
        self._consents = consents
        self._media = media
        self._store = store
        self._events = events
        self._clock = clock
        self._now = now
        self._folder = folder
        self._keys = keys
        self._retention = retention
        self._wav = wav
        self._pause_s = pause_s
        self._in_thread = in_thread
        self._watches: dict[str, _Watch] = {}
        events.subscribe(self._happened)
        consents.on_change = self._consent_changed

    def __len__(self) -> int:
        """How many calls are being recorded."""
        return sum(watch.tape is not None for watch in self._watches.values())

    # What pages show and do

    def state(self, contact: Contact) -> str:
        """For pages: "" (calls like this are not recorded), "asked" (the customer has not said), "refused", "on" (it
        will be), "recording", "paused" (by the agent), "silent" (on hold, or a colleague is asked) or "failed"."""
        if self._consents.mode(contact) is Mode.OFF:
            return ""
        watch = self._watches.get(contact.id)
        if watch is not None and watch.tape is not None:
            if not watch.tape.quiet:
                return "recording"
            return "paused" if _paused(watch) else "silent"
        if not self._consents.allows(contact):
            return "asked" if self._consents.given(contact) is None else "refused"
        if watch is not None and self._sides(contact) in watch.failed:
            return "failed"
        return "paused" if watch is not None and _paused(watch) else "on"

    def view(self, contact: Contact) -> dict[str, Any] | None:
        """As the customer is shown it; None where calls like this are not recorded. `kept`: something was recorded
        before, and is kept, whatever they say now."""
        state = self.state(contact)
        if not state:
            return None
        mode = self._consents.mode(contact)
        watch = self._watches.get(contact.id)
        return {
            "mode": mode.value,
            "state": state,
            "may_choose": self.may_choose(contact) and contact.open,
            "kept": watch is not None and watch.kept,
        }

    def may_choose(self, contact: Contact) -> bool:
        """Whether it is for the customer to say."""
        return self._consents.mode(contact) in (Mode.ASK, Mode.ANNOUNCE)

    async def allow(self, contact: Contact, given: bool) -> None:
        """The customer says so in their page. Returns when it is stored, and what must not run on has ended."""
        await self._consents.from_page(contact, given)
        await self._settled(contact.id)

    async def told(self, agent_id: str, contact_id: str, given: bool) -> None:
        """The customer has told the agent who has them. TheirError 404, 409."""
        contact = self._own(agent_id, contact_id)
        await self._consents.told_agent(contact, given, agent_id)
        await self._settled(contact_id)

    async def pause(self, agent_id: str, contact_id: str) -> None:
        """Silence from now on: whatever is said after this has returned is in no file. TheirError 404, 409; OurError
        where it could not be made sure, and the recording was ended."""
        watch = self._watches.get(self._own(agent_id, contact_id).id)
        if watch is None or watch.tape is None:
            raise TheirError("This call is not being recorded.", 409)
        if not _paused(watch):
            _unpaused(watch)
            watch.paused_by = agent_id
            self._events.write("contact.recording_paused", contact=contact_id, agent=agent_id)
            if self._pause_s:
                watch.timer = self._clock.callLater(self._pause_s, self._resume, watch, "timer")
        await self._settled(contact_id)
        if self.state(watch.contact) != "paused":
            raise OurError("The recording could not be paused, and was ended instead.", 503)

    async def unpause(self, agent_id: str, contact_id: str) -> None:
        """It goes on. TheirError 404, 409."""
        watch = self._watches.get(self._own(agent_id, contact_id).id)
        if watch is None or not _paused(watch):
            raise TheirError("The recording is not paused.", 409)
        self._resume(watch, "agent")
        await self._settled(contact_id)

    def _resume(self, watch: _Watch, why: str) -> None:
        if watch.paused_by:
            agent_id = watch.paused_by
            _unpaused(watch)
            self._events.write("contact.recording_resumed", contact=watch.contact.id, agent=agent_id, why=why)
            self._look(watch)

    def _own(self, agent_id: str, contact_id: str) -> Contact:
        contact = self._contacts.get(contact_id)
        if contact is None or contact.agent_id != agent_id:
            raise TheirError("You have no such contact.", 404)
        if contact.state is not State.CONNECTED:
            raise TheirError("You are not with them yet.", 409)
        return contact

    # What happens

    def _happened(self, event: Event) -> None:
        if event.contact is None or not event.kind.startswith("contact."):
            return
        watch = self._watches.get(event.contact)
        if watch is None:
            contact = self._contacts.get(event.contact) if event.kind == "contact.connected" else None
            if contact is None or self._consents.mode(contact) is Mode.OFF:
                return
            watch = self._watches[event.contact] = _Watch(contact)
            self._consents.connected(contact)
        watch.apart = not HEAR_EACH_OTHER.get(event.kind, not watch.apart)
        if not event.kind.startswith("contact.recording_"):
            self._look(watch)

    def _consent_changed(self, contact: Contact) -> None:
        watch = self._watches.get(contact.id)
        if watch is not None:
            self._look(watch)

    def ended_by_itself(self, call: str, why: str, seconds: float) -> None:
        watch = self._watches.get(call)
        if watch is not None and watch.tape is not None and watch.tape.over is None:
            watch.tape.over = why, seconds
            if why not in ("limit", PICTURES):
                watch.failed.add(watch.tape.sides)
            self._look(watch)

    # What should be

    def _sides(self, contact: Contact) -> Sides | None:
        """Who would be recorded now; None: there is no agent of ours with the customer."""
        if contact.state is not State.CONNECTED or contact.agent_id is None:
            return None
        customer, agent = self._calls.customer_leg(contact), self._calls.agent_leg(contact)
        if customer is None or agent is None:
            return None
        return contact.agent_id, customer.branch, agent.branch

    def _wish(self, watch: _Watch) -> Sides | None:
        sides = self._sides(watch.contact)
        allowed = sides is not None and sides not in watch.failed and self._consents.allows(watch.contact)
        return sides if allowed else None

    def _look(self, watch: _Watch) -> None:
        if watch.work is None:
            watch.work = spawn(self._settle(watch), f"the recording of {watch.contact.id}")

    async def _settled(self, contact_id: str) -> None:
        watch = self._watches.get(contact_id)
        if watch is not None:
            self._look(watch)
            if watch.work is not None:
                await asyncio.shield(watch.work)

    async def _settle(self, watch: _Watch) -> None:
        contact = watch.contact
        try:
            while True:
                wish, tape = self._wish(watch), watch.tape
                if tape is not None and (tape.over is not None or tape.sides != wish):
                    await self._end(watch, tape)
                elif tape is not None and tape.quiet != self._silent(watch):
                    await self._hush(watch, tape, not tape.quiet)
                elif tape is None and wish is not None and not self._silent(watch):
                    await self._begin(watch, wish)
                else:
                    break
                self._contacts.tell(contact.id, "state", contact)
        finally:
            watch.work = None
            if not contact.open:
                _unpaused(watch)
                self._watches.pop(contact.id, None)

    def _silent(self, watch: _Watch) -> bool:
        agent = self._calls.agent_leg(watch.contact)
        # Whom a phone's own key has put on hold speaks to nobody either.
        return watch.apart or _paused(watch) or (agent is not None and agent.holds)

    async def _begin(self, watch: _Watch, sides: Sides) -> None:
        contact, (agent_id, customer, agent) = watch.contact, sides
        with_video = self._consents.with_video(contact)
        row = self._row(contact, agent_id, with_video, contact.channel is Channel.VIDEO or watch.pictures)
        try:
            await asyncio.gather(
                self._agreed(watch, agent_id), self._consents.durable(contact), self._store.add(row)
            )
            # Whoever has thought better of it while this was stored is not recorded for a moment.
            if self._wish(watch) == sides and not self._silent(watch):
                await self._media.tap(
                    contact.id, customer, agent, str(self._folder / row.file),
                    video=with_video, key=self._keys.first, limit_s=LIMIT_S,
                )  # fmt: skip
                watch.tape = _Tape(row, sides)
        except Exception as error:
            self._failed(watch, sides, error)
        if watch.tape is None:
            await self._forget(contact, row)
            return
        self._events.write(
            "contact.recording_started", contact=contact.id, agent=agent_id, recording=row.id, kinds=row.kinds,
            sealed=bool(row.sealed), delete_after=row.delete_after,
        )  # fmt: skip

    async def _agreed(self, watch: _Watch, agent_id: str) -> None:
        leg = self._calls.agent_leg(watch.contact)
        if leg is not None and leg.call.id not in watch.legs:
            await self._consents.joined(watch.contact, agent_id, leg.call.id)
            watch.legs.add(leg.call.id)

    async def _forget(self, contact: Contact, row: Recording) -> None:
        """Nothing is recorded there, or is to be: also where the media process did not get to answer."""
        with contextlib.suppress(WarmlineError):
            await self._media.end_tap(contact.id)
        await self._in_thread((self._folder / row.file).unlink, missing_ok=True)
        await self._store.remove(row.id)

    def _row(self, contact: Contact, agent_id: str, with_video: bool, pictures: bool) -> Recording:
        """`with_video`: pictures are kept whenever they come; `pictures`: they are there, or about to be."""
        recording_id, now = new_id("r"), self._now()
        key = self._keys.first
        wave = self._wav and not (with_video and pictures)
        return Recording(
            id=recording_id,
            contact_id=contact.id,
            provider_id=contact.facts.provider_id,
            agent_id=agent_id,
            started_at=now,
            file=f"{recording_id}.{'wav' if wave else 'mkv' if with_video else 'mka'}",
            sealed=key_name(key) if key is not None else "",
            kinds="audio,video" if with_video and pictures else "audio",
            delete_after=self._retention.until(contact.facts.provider_id, now),
        )

    def _failed(self, watch: _Watch, sides: Sides, error: Exception) -> None:
        watch.failed.add(sides)
        reason = error.reason if isinstance(error, WarmlineError) else "our fault"
        if isinstance(error, WarmlineError):
            # On call one must learn of a full disk or a missing folder: the calls go on as if nothing were amiss.
            log.error("{id} is not recorded: {reason}", id=watch.contact.id, reason=reason)
        else:
            log.failure("{id} is not recorded", id=watch.contact.id)
        self._events.write(
            "contact.recording_failed", contact=watch.contact.id, agent=sides[0], reason=reason
        )

    async def _hush(self, watch: _Watch, tape: _Tape, quiet: bool) -> None:
        try:
            if await self._media.pause_tap(watch.contact.id, quiet):
                tape.quiet = quiet
                return
            error = OurError("nothing was being recorded any more")
        except OurError as failed:
            error = failed
        # What must not be in the file, or must be, would not be so: there is no more of it then.
        self._failed(watch, tape.sides, error)

    async def _end(self, watch: _Watch, tape: _Tape) -> None:
        contact, row, why, seconds = watch.contact, tape.row, self._why(watch, tape), 0.0
        if tape.over is None:
            try:
                seconds = await self._media.end_tap(contact.id)
            except WarmlineError as error:
                log.warn("The recording {id} broke off: {error}", id=row.id, error=error.reason)
                why = f"{FAILED}: {error.reason}"
        if tape.over is not None:  # or it has told so while we asked
            seconds = seconds or tape.over[1]
            if why.startswith(FAILED):
                log.error("The recording {id} broke off: {why}", id=row.id, why=why)
        watch.tape = None
        watch.pictures = why == PICTURES
        # Whoever has the customer next decides for themselves; so it is when the customer agrees anew.
        if not contact.open or contact.agent_id != row.agent_id or not self._consents.allows(contact):
            _unpaused(watch)
        try:
            state = TapeState.CUT if why.startswith(FAILED) else TapeState.KEPT
            watch.kept |= await self._file(row, seconds or None, state, why)
        except Exception:
            # The file is there, and its row says "running", which the next start looks after.
            watch.kept = True
            log.failure("That the recording {id} has ended is not stored", id=row.id)

    def _why(self, watch: _Watch, tape: _Tape) -> str:
        if tape.over is not None and tape.over[0] != "gone":
            return tape.over[0]
        if not watch.contact.open:
            return "ended"
        return "consent withdrawn" if not self._consents.allows(watch.contact) else "passed on"

    async def _file(self, row: Recording, seconds: float | None, state: TapeState, why: str) -> bool:
        """Say of a recording how long it is and of what, and forget one in which there is nothing. Whether it is
        kept."""
        found = await self._in_thread(self._found, row)
        if seconds is None or (state is TapeState.CUT and found.seconds is not None and not found.grows):
            seconds = found.seconds  # what was heard last may not have got there
        kept = seconds is None or seconds >= SHORTEST_S or found.grows
        length_s = round(seconds or 0.0, 2)
        if kept:
            await self._store.ended(row.id, length_s, found.kinds, state)
        else:
            await self._in_thread((self._folder / row.file).unlink, missing_ok=True)
            await self._store.remove(row.id)
        self._events.write(
            "contact.recording_ended", contact=row.contact_id, agent=row.agent_id, recording=row.id,
            seconds=length_s, why=why, kept=kept,
        )  # fmt: skip
        return kept

    def _found(self, row: Recording) -> _Found:
        path, key = self._folder / row.file, self._keys.by_name(row.sealed)
        try:
            grows = not is_written(path, WRITTEN_S)
            return _Found(seconds_of(path, key), row.kinds if grows else kinds_of(path, key), grows)
        except FileNotFoundError:
            return _Found(0.0, row.kinds)
        except (OSError, WarmlineError) as error:
            log.error("The recording {id} cannot be read: {error}", id=row.id, error=error)
            return _Found(None, row.kinds)

    # Start and stop

    async def resume(self) -> None:
        """At start: recordings in the middle of which a process died are as long as their files."""
        for row in await self._store.running():
            if row.sealed and self._keys.by_name(row.sealed) is None:
                log.warn("The key of recording {id} is not set: nobody can say how long it is", id=row.id)
                continue
            try:
                await self._file(row, None, TapeState.CUT, "server died")
            except OSError as error:  # it is looked at again at the next start; calls need not wait for it
                log.error("The recording {id} is not put away: {error}", id=row.id, error=error)

    async def close(self, within_s: float) -> None:
        """Once all calls have ended: returns when their files are complete, or that time has passed."""
        works = [watch.work for watch in self._watches.values() if watch.work is not None]
        if works:
            await asyncio.wait(works, timeout=within_s)


def _paused(watch: _Watch) -> bool:
    """Whoever has it next has not paused it."""
    return bool(watch.paused_by) and watch.paused_by == watch.contact.agent_id


def _unpaused(watch: _Watch) -> None:
    watch.paused_by = ""
    if watch.timer is not None and watch.timer.active():
        watch.timer.cancel()
    watch.timer = None
