"""All that recording takes, built from the settings and put together: who agrees, what runs, and what was kept."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from config.database import Database
from config.events import EventLog
from config.queue_settings import QueueSettings
from config.settings import Settings
from media.server import MediaServer
from pbx.calls import Calls
from pbx.open_contacts import OpenContacts
from pbx.reception import Reception
from pbx.recording_archive import RecordingArchive
from pbx.recording_consent import Consents
from pbx.recording_store import RecordingStore
from pbx.recordings import Recordings


class RecordingParts:
    """`queue_settings` gives a queue's by its name; `now` is wall time in epoch seconds."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        contacts: OpenContacts,
        calls: Calls,
        media: MediaServer,
        events: EventLog,
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        queue_settings: Callable[[str], QueueSettings],
    ) -> None:
        self._clock = clock
        store, folder = RecordingStore(database), settings.data / "recordings"
        keys, retention = settings.recording_key, settings.recording_days
        self.reception = Reception(contacts, calls, media, clock)
        self.consents = Consents(contacts, calls, events, settings=queue_settings)
        self.reception.steps.append(self.consents)
        self.recordings = Recordings(
            contacts, calls, self.consents, media, store, events, clock, now,
            folder=folder, keys=keys, retention=retention,
            wav=settings.recording_format == "wav", pause_s=settings.recording_pause_s,
        )  # fmt: skip
        self.archive = RecordingArchive(
            store, events, now,
            folder=folder, keys=keys, retention=retention, for_agents=settings.recording_for_agents,
        )  # fmt: skip

    async def start(self) -> None:
        """Once open contacts were taken up, and before anybody is let in."""
        await self.recordings.resume()
        await self.consents.resume()
        self.archive.start(self._clock)

    async def stop(self, within_s: float) -> None:
        """Once all calls have ended, and before the media process does: files are completed."""
        self.archive.stop()
        await self.recordings.close(within_s)
