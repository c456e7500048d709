"""Voicemail: a telephone caller who leaves a message in place of waiting on.

    asked to speak -> recorded -> thanked -> the contact ends as VOICEMAIL
                         |
                         +-> hung up: what was said is kept

The row is durable before the caller is asked for anything, and the file grows second by second: what had been said
when a process died is kept as well. A message without a second of sound is none.
"""

from __future__ import annotations

import asyncio
import wave
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from agent_presence.roster import Agent
from config.bridge import spawn
from config.errors import TheirError, WarmlineError
from config.events import EventLog
from config.ids import new_id
from media.server import MediaServer
from pbx.calls import Calls
from pbx.contact import Contact, Disposition
from pbx.leg import Leg
from pbx.open_contacts import OpenContacts
from pbx.store import PbxStore, Voicemail

log = Logger()

LIMIT_S = 120.0
SILENCE_S = 6.0
SHORTEST_S = 1.0
MOST_SHOWN = 200
MOST_TO_DO = 500
"""Of one provider: after that many which nobody has dealt with, a further one would not be heard either."""
# By then the media process has told how a recording ended.
_NEWS_S = 5.0


@dataclass(slots=True)
class _Leaving:
    """A message being left. `over` is how its recording ended, and the seconds of it (None: the file knows): "limit",
    "silence", "key", "gone" (hung up, or lost), "failed" (no media), "ended" (the contact, by somebody else)."""

    contact: Contact
    leg: Leg
    row: Voicemail
    over: asyncio.Future[tuple[str, float | None]]
    gone: asyncio.Future[None]  # the caller is, or the contact has ended
    recording: bool = False
    deadline: IDelayedCall | None = None

    def ends(self, why: str, seconds: float | None) -> None:
        if not self.over.done():
            self.over.set_result((why, seconds))

    def leaves(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)


class Voicemails:
    """`folder` is where the recordings are; `now` is wall time in epoch seconds; `in_thread` does what blocks.

    `recorded` is the `MediaServer`'s `on_recorded`. A contact is in here while its caller leaves a message.
    """

    def __init__(
        self,
        contacts: OpenContacts,
        calls: Calls,
        media: MediaServer,
        store: PbxStore,
        events: EventLog,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        folder: Path,
        in_thread: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self._contacts = contacts
        self._calls = calls
        self._media = media
        self._store = store
        self._events = events
        self._clock = clock
        self._now = now
        self._folder = folder
        self._in_thread = in_thread
        self._leaving: dict[str, _Leaving] = {}  # by contact
        self._to_do: Counter[str] = Counter()  # by provider, those that are being left included
        contacts.on_ended.append(self._contact_ended)

    def __contains__(self, contact_id: str) -> bool:
        return contact_id in self._leaving

    # Leaving one

    def may_take(self, contact: Contact) -> bool:
        """Whether this caller may leave a message: no customer of the app, and not while too many are there."""
        return not contact.facts.from_app and self._to_do[contact.facts.provider_id] < MOST_TO_DO

    def take(self, contact: Contact) -> bool:
        """The caller leaves a message from now on. False: they may not, or are not waiting."""
        if not self.may_take(contact):
            return False
        leg = self._calls.set_apart(contact, lambda: self._gone(contact.id))
        if leg is None:
            return False
        voicemail_id = new_id("v")
        path = str(self._folder / f"{voicemail_id}.wav")
        row = Voicemail(voicemail_id, contact.id, contact.facts.provider_id, path, self._now())
        loop = asyncio.get_running_loop()
        leaving = _Leaving(contact, leg, row, loop.create_future(), loop.create_future())
        self._leaving[contact.id] = leaving
        self._to_do[row.provider_id] += 1
        spawn(self._leave(leaving), f"the message of {contact.id}")
        return True

    def pressed(self, contact: Contact, key: str) -> None:
        """A key by INFO; one in the media is heard by the recording itself."""
        leaving = self._leaving.get(contact.id)
        if leaving is not None and leaving.recording and key == "#":
            spawn(self._stop(leaving, "key"), f"the end of the message of {contact.id}")

    def recorded(self, contact_id: str, branch: str, why: str, seconds: float) -> None:
        leaving = self._leaving.get(contact_id)
        if leaving is not None and leaving.leg.branch == branch:
            leaving.ends(why, seconds)

    async def _leave(self, leaving: _Leaving) -> None:
        contact, row = leaving.contact, leaving.row
        try:
            await self._add(row)
            why, seconds = await self._record(leaving)
            if why == "silence":
                seconds = (seconds or SILENCE_S) - SILENCE_S
            if seconds is None:
                seconds = await self._in_thread(seconds_of, row.path)
            if seconds < SHORTEST_S:
                await self._forget(row)
                lost = Disposition.MEDIA_FAILED if why == "failed" else Disposition.CUSTOMER_GAVE_UP
                self._contacts.end(contact, lost, reason="no message was left")
                return
            await self._left(contact, row, seconds)
            await self._play(leaving, "voicemail-thanks")
            self._contacts.end(contact, Disposition.VOICEMAIL)
        finally:
            del self._leaving[contact.id]
            # Whatever of ours failed: nobody is left in a call that goes nowhere.
            self._contacts.end(contact, Disposition.MEDIA_FAILED, reason="the message could not be kept")

    async def _add(self, row: Voicemail) -> None:
        try:
            await self._store.add_voicemail(row)
        except BaseException:
            self._to_do[row.provider_id] -= 1
            raise

    async def _record(self, leaving: _Leaving) -> tuple[str, float | None]:
        contact, row = leaving.contact, leaving.row
        await self._play(leaving, ("voicemail-leave", "beep"))
        if leaving.gone.done():
            return "gone", 0.0
        leaving.recording = True
        try:
            await self._media.record(
                contact.id, leaving.leg.branch, row.path, limit_s=LIMIT_S, silence_s=SILENCE_S
            )
        except WarmlineError as error:
            log.warn("The message of {id} is not recorded: {error}", id=contact.id, error=error.reason)
            return ("failed" if leaving.leg.alive else "gone"), 0.0
        # The recording ends by itself, and tells; should it not, this is the end.
        if not leaving.gone.done():
            self._await_news(leaving, LIMIT_S + _NEWS_S, "limit")
        try:
            return await leaving.over
        finally:
            if leaving.deadline is not None and leaving.deadline.active():
                leaving.deadline.cancel()

    def _await_news(self, leaving: _Leaving, seconds: float, why: str) -> None:
        if leaving.deadline is not None and leaving.deadline.active():
            leaving.deadline.cancel()
        leaving.deadline = self._clock.callLater(seconds, leaving.ends, why, None)

    async def _play(self, leaving: _Leaving, prompt: str | tuple[str, ...]) -> None:
        """Returns when it has been heard, or the caller has gone."""
        if leaving.gone.done():
            return
        try:
            length_s = await self._media.play(leaving.contact.id, leaving.leg.branch, prompt)
        except WarmlineError as error:
            log.info("{id} hears nothing: {error}", id=leaving.contact.id, error=error.reason)
            return
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._clock.callLater(length_s, heard.set_result, None)
        await asyncio.wait({heard, leaving.gone}, return_when=asyncio.FIRST_COMPLETED)
        if timer.active():
            timer.cancel()

    async def _stop(self, leaving: _Leaving, why: str) -> None:
        try:
            leaving.ends(why, await self._media.stop_recording(leaving.contact.id, leaving.leg.branch))
        except WarmlineError:
            leaving.ends(why, None)

    def _gone(self, contact_id: str, why: str = "gone") -> None:
        """The caller has hung up, and their branch is put away: the recording tells of its end by itself."""
        leaving = self._leaving.get(contact_id)
        if leaving is None:
            return
        leaving.leaves()
        if leaving.recording:
            self._await_news(leaving, _NEWS_S, why)

    def _contact_ended(self, contact: Contact) -> None:
        self._gone(contact.id, "ended")

    async def _left(self, contact: Contact, row: Voicemail, seconds: float) -> None:
        seconds = round(seconds, 1)
        await self._store.voicemail_left(row.id, seconds)
        self._tell_left(contact, row, seconds)

    def _tell_left(self, contact: Contact, row: Voicemail, seconds: float) -> None:
        self._events.write("contact.voicemail_left", contact=contact.id, voicemail=row.id, seconds=seconds)

    async def _was_told(self, contact: Contact) -> bool:
        told = await self._events.read(contact=contact.id)
        return any(event.kind == "contact.voicemail_left" for event in told)

    async def _forget(self, row: Voicemail) -> None:
        await self._store.remove_voicemail(row.id)
        self._to_do[row.provider_id] -= 1
        await self._in_thread(Path(row.path).unlink, missing_ok=True)

    # After a crash

    async def resume(self) -> None:
        """At start, before open contacts are taken up: messages in the middle of which a process died."""
        self._to_do.update(await self._store.voicemails_to_do_by_provider())
        for row in await self._store.voicemails_unfinished():
            seconds = row.seconds
            if seconds is None:
                seconds = await self._in_thread(seconds_of, row.path)
            contact = await self._store.contact(row.contact_id)
            if seconds < SHORTEST_S or contact is None:
                await self._forget(row)
                continue
            if row.seconds is None:
                await self._left(contact, row, seconds)
            elif not await self._was_told(contact):  # the process died between the two
                self._tell_left(contact, row, seconds)
            if contact.open:
                self._contacts.take_back(contact)
                await self._contacts.end(contact, Disposition.VOICEMAIL, reason="the server died")

    # For agents: each sees what was left for their providers, and nothing else is there for them.

    async def to_do(self, agent: Agent) -> list[Voicemail]:
        """Messages that nobody has dealt with, the oldest first."""
        return await self._store.voicemails_to_do(agent.provider_ids or None, limit=MOST_SHOWN)

    async def audio(self, agent: Agent, voicemail_id: str) -> Path:
        """The recording, a WAV file, which counts as heard from now on. TheirError 404."""
        found = await self._of(agent, voicemail_id)
        if not await self._in_thread(Path(found.path).is_file):
            raise TheirError("The recording is not there any more.", 404)
        if found.heard_at is None:
            await self._store.voicemail_heard(found.id, self._now())
        return Path(found.path)

    async def done(self, agent: Agent, voicemail_id: str) -> None:
        """It has been dealt with; durable when this returns. Saying so twice is nothing. TheirError 404."""
        found = await self._of(agent, voicemail_id)
        if found.done_at is None:
            await self._store.voicemail_done(found.id, agent.id, self._now())
            self._to_do[found.provider_id] -= 1
            self._events.write(
                "contact.voicemail_done", contact=found.contact_id, agent=agent.id, voicemail=found.id
            )

    async def _of(self, agent: Agent, voicemail_id: str) -> Voicemail:
        found = await self._store.voicemail(voicemail_id)
        if found is None or found.seconds is None or not agent.serves(found.provider_id):
            raise TheirError("There is no such message.", 404)
        return found


def seconds_of(path: str) -> float:
    """How long a recording is, whole or cut off; 0 where there is none."""
    try:
        with wave.open(path, "rb") as recording:
            frame = recording.getnchannels() * recording.getsampwidth()
            frames = (Path(path).stat().st_size - 44) // frame
            return max(0, min(recording.getnframes(), frames)) / recording.getframerate()
    except (OSError, EOFError, wave.Error, ZeroDivisionError):
        return 0.0
