"""Recordings that were made: who may hear them, what is written down of that, and when they are deleted.

Supervisors hear those of their providers; agents, where it is set so, those of their own contacts. To everybody else a
recording is not there. Whatever is played, held, exported or deleted is an event, durable before it is done.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from agent_presence.roster import Agent
from config.bridge import spawn
from config.errors import OurError, TheirError
from config.events import EventLog
from config.recording_settings import Keys, Retention
from media.recorded import PlainFile, content_type, open_recorded
from media.sealed_file import SealedFile
from pbx.recording_store import OldMessage, Recording, RecordingStore, TapeState

log = Logger()

MOST_SHOWN = 200
SWEEP_S = 86400.0
FIRST_SWEEP_S = 60.0
_AT_ONCE = 200
# A player asks for its parts by many requests: it is one playback for as long as they are not further apart.
ONE_PLAYBACK_S = 600.0
_REMEMBERED = 2000

Sound = PlainFile | SealedFile
"""An open file: `.size`, `.read(start, length)` and `.close()`, all of which block."""


@dataclass(frozen=True, slots=True)
class Playback:
    """A recording opened for whoever may hear it; whoever takes it closes `sound`."""

    recording: Recording
    sound: Sound
    content_type: str


class RecordingArchive:
    """`folder` is where the files are. `for_agents`: whether agents may hear their own. `now`: epoch seconds."""

    def __init__(
        self,
        store: RecordingStore,
        events: EventLog,
        now: Callable[[], float],
        *,
        folder: Path,
        keys: Keys,
        retention: Retention,
        for_agents: bool = False,
        in_thread: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self._store = store
        self._events = events
        self._now = now
        self._folder = folder
        self._keys = keys
        self._retention = retention
        self._for_agents = for_agents
        self._in_thread = in_thread
        # One at a time is held, let go or deleted: what was held a moment ago must not be deleted by an older look.
        self._changing = asyncio.Lock()
        self._heard: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._timer: IDelayedCall | None = None

    # Who may hear what

    async def list(self, agent: Agent, contact_id: str | None = None) -> list[Recording]:
        """What this agent may hear, the latest first; of one contact, if it is named. TheirError 404."""
        if not self.may_list(agent):
            raise TheirError("There is nothing at this address.", 404)
        found = await self._store.latest(
            agent.provider_ids or None,
            contact_id=contact_id,
            agent_id=None if agent.supervisor else agent.id,
            limit=MOST_SHOWN,
        )
        return [each for each in found if self._may_hear(agent, each)]

    def may_list(self, agent: Agent) -> bool:
        return agent.supervisor or self._for_agents

    def _may_hear(self, agent: Agent, recording: Recording) -> bool:
        if not agent.serves(recording.provider_id):
            return False
        return agent.supervisor or (self._for_agents and recording.agent_id == agent.id)

    async def play(self, agent: Agent, recording_id: str, address: str) -> Playback:
        """Open one for them, which is written down first. `address` is where they ask from.

        TheirError 404 for what they may not hear or is not there, 409 while it is being made; OurError 500 where its
        key is not set, or the file is not as it was written.
        """
        recording = await self._of(agent, recording_id)
        if recording.state is TapeState.RUNNING:
            raise TheirError("It is still being recorded.", 409)
        if not recording.can_be_played:
            raise TheirError("This recording was deleted.", 404)
        await self._tell_played(agent, recording, address)
        try:
            sound, kind = await self._in_thread(self._open, recording)
        except OSError as error:
            log.error("The recording {id} cannot be read: {error}", id=recording.id, error=error.strerror)
            raise TheirError("This recording is not there any more.", 404) from None
        return Playback(recording, sound, kind)

    async def _tell_played(self, agent: Agent, recording: Recording, address: str) -> None:
        who, now = (agent.id, recording.id, address), self._now()
        before = self._heard.pop(who, 0.0)
        self._heard[who] = now
        if len(self._heard) > _REMEMBERED:
            self._heard.popitem(last=False)
        if now - before > ONE_PLAYBACK_S:
            try:
                await self._events.write(
                    "recording.played", contact=recording.contact_id, agent=agent.id, recording=recording.id,
                    address=address,
                )  # fmt: skip
            except BaseException:
                del self._heard[who]
                raise

    def _open(self, recording: Recording) -> tuple[Sound, str]:
        path, key = self._path(recording), self._key(recording)
        return open_recorded(path, key), content_type(path, key)

    def _path(self, recording: Recording) -> Path:
        return self._folder / recording.file

    def _key(self, recording: Recording) -> bytes | None:
        if not recording.sealed:
            return None
        key = self._keys.by_name(recording.sealed)
        if key is None:
            raise OurError(f"The key that sealed recording {recording.id} is not set.")
        return key

    async def hold(self, agent: Agent, recording_id: str, held: bool) -> None:
        """Keep it whatever its day, or no longer; for supervisors. TheirError 404."""
        await self._of(agent, recording_id)
        if not agent.supervisor:
            raise TheirError("There is no such recording.", 404)
        await self._hold(recording_id, held, agent=agent.id)

    async def _hold(self, recording_id: str, held: bool, **who: str) -> None:
        async with self._changing:
            recording = await self._store.one(recording_id)
            if recording is None or not recording.can_be_played:
                raise TheirError("There is no such recording.", 404)
            if recording.held is not held:
                kind = "recording.held" if held else "recording.released"
                await asyncio.gather(
                    self._store.hold(recording.id, held),
                    self._events.write(kind, contact=recording.contact_id, recording=recording.id, **who),
                )

    async def _of(self, agent: Agent, recording_id: str) -> Recording:
        recording = await self._store.one(recording_id)
        if recording is None or not self._may_hear(agent, recording):
            raise TheirError("There is no such recording.", 404)
        return recording

    # For whoever runs the server, who has the files in any case

    async def export(self, recording_id: str, to: Path, by: str) -> int:
        """Write it, unsealed, to a new file; its bytes. TheirError 404; OSError where that cannot be written."""
        recording = await self._store.one(recording_id)
        if recording is None or not recording.can_be_played:
            raise TheirError("There is no such recording.", 404)
        await self._events.write(
            "recording.exported", contact=recording.contact_id, recording=recording.id, by=by
        )
        written: int = await self._in_thread(self._copy, recording, to)
        return written

    def _copy(self, recording: Recording, to: Path) -> int:
        sound, _ = self._open(recording)
        # It is unsealed now: what others on this machine may read is for whoever asked for it to say.
        with sound, open(to, "xb", opener=partial(os.open, mode=0o600)) as file:
            for start in range(0, sound.size, 1 << 20):
                file.write(sound.read(start, 1 << 20))
            return file.tell()

    async def keep(self, recording_id: str, held: bool, by: str) -> None:
        """As `hold`. TheirError 404."""
        await self._hold(recording_id, held, by=by)

    async def delete(self, recording_id: str, by: str) -> None:
        """Delete the file, whatever its day. TheirError 404; 409 for one that is held, or still being made."""
        async with self._changing:
            recording = await self._store.one(recording_id)
            if recording is None or recording.state is TapeState.DELETED:
                raise TheirError("There is no such recording.", 404)
            if recording.held or recording.state is TapeState.RUNNING:
                raise TheirError("It is held, or still being made, and so not deleted.", 409)
            await self._delete(recording, by)

    async def _delete(self, recording: Recording, by: str) -> None:
        # The file first: a row that says "deleted" must never be wrong; the other way round the next sweep mends it.
        await self._in_thread(self._path(recording).unlink, missing_ok=True)
        await asyncio.gather(
            self._store.deleted(recording.id, self._now()),
            self._events.write(
                "recording.deleted", contact=recording.contact_id, recording=recording.id, by=by
            ),
        )

    # Their day has come

    async def sweep(self) -> int:
        """Delete what is older than it may be: recordings, and messages of callers since they were dealt with. How
        many there were; a file that cannot be deleted stays due, and is told of in the log."""
        return await self._sweep_recordings() + await self._sweep_messages()

    async def _sweep_recordings(self) -> int:
        count = stuck = 0  # those that cannot be deleted come first each time, and are passed over
        while due := await self._store.due(self._now(), limit=_AT_ONCE, skip=stuck):
            for recording in due:
                try:
                    async with self._changing:
                        now = await self._store.one(recording.id)
                        if now is None or now.held:
                            continue
                        await self._delete(recording, "retention")
                    count += 1
                except OSError as error:
                    stuck += 1
                    _complain("recording", recording.id, error)
        return count

    async def _sweep_messages(self) -> int:
        count, now = 0, self._now()
        for provider_id in await self._store.providers_with_messages():
            days, stuck = self._retention.of(provider_id), 0
            while days is not None and (
                old := await self._store.old_messages(
                    provider_id, now - 86400.0 * days, limit=_AT_ONCE, skip=stuck
                )
            ):
                for message in old:
                    try:
                        await self._delete_message(message)
                        count += 1
                    except OSError as error:
                        stuck += 1
                        _complain("message", message.id, error)
        return count

    async def _delete_message(self, message: OldMessage) -> None:
        await self._in_thread(Path(message.path).unlink, missing_ok=True)
        await asyncio.gather(
            self._store.message_deleted(message.id, self._now()),
            self._events.write(
                "contact.voicemail_deleted", contact=message.contact_id, voicemail=message.id, by="retention"
            ),
        )

    def start(self, clock: IReactorTime) -> None:
        """Sweep a while after the start, and then once a day."""

        def again(after_s: float) -> None:
            self._timer = clock.callLater(after_s, run)

        def run() -> None:
            spawn(self._swept(), "deleting old recordings")
            again(SWEEP_S)

        again(FIRST_SWEEP_S)

    async def _swept(self) -> None:
        count = await self.sweep()
        if count:
            log.info("{count} recordings and messages were deleted: their day had come", count=count)

    def stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def _complain(what: str, its_id: str, error: OSError) -> None:
    log.error("The {what} {id} is not deleted: {error}", what=what, id=its_id, error=error.strerror)
