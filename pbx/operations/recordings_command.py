"""`warmline recordings`: what has been recorded; a recording as a file; kept, or deleted, by whoever runs the server.

It reads and writes the database and the files itself, whether or not the server runs. What it does to a recording is an
event that names who did it.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.errors import WarmlineError
from config.settings import Settings
from pbx.operations.terminal import complain, say

if TYPE_CHECKING:
    from pbx.recording_archive import RecordingArchive
    from pbx.recording_store import Recording, RecordingStore

MOST_LISTED = 1000


def add_commands(commands: Any) -> None:
    """Say to argparse what there is."""
    recordings = commands.add_parser("recordings", help="the recordings of calls").add_subparsers(
        dest="recordings_command", required=True, metavar="command"
    )
    shown = recordings.add_parser("list", help=f"the latest {MOST_LISTED}")
    shown.add_argument("--contact", metavar="ID", help="of this contact alone")
    shown.add_argument("--provider", metavar="ID", help="of this provider alone")
    export = recordings.add_parser("export", help="write one, unsealed, to a new file")
    hold = recordings.add_parser("hold", help="keep one whatever its day")
    release = recordings.add_parser("release", help="hold one no longer")
    delete = recordings.add_parser("delete", help="delete one now")
    for each in (export, hold, release, delete):
        each.add_argument("recording", metavar="RECORDING")
    export.add_argument("file", metavar="FILE", type=Path)


def run(settings: Settings, options: argparse.Namespace) -> int:
    """1 when it could not be done; why stands on standard error."""
    try:
        asyncio.run(_run(settings, options))
    except WarmlineError as error:
        complain(error.reason)
        return 1
    except OSError as error:
        complain(f"{error.filename or options.recording}: {error.strerror}")
        return 1
    return 0


async def _run(settings: Settings, options: argparse.Namespace) -> None:
    from config.database import Database
    from config.events import EventLog
    from pbx.recording_archive import RecordingArchive
    from pbx.recording_store import RecordingStore

    database = Database.open(settings.database_url)
    try:
        store = RecordingStore(database)
        archive = RecordingArchive(
            store, EventLog(database, time.time), time.time,
            folder=settings.data / "recordings", keys=settings.recording_key, retention=settings.recording_days,
        )  # fmt: skip
        if options.recordings_command == "list":
            await _list(store, options)
        else:
            await _act(archive, options)
    finally:
        await database.close()


async def _list(store: RecordingStore, options: argparse.Namespace) -> None:
    providers = [options.provider] if options.provider else None
    for each in await store.latest(providers, contact_id=options.contact, limit=MOST_LISTED):
        say(_line(each))


def _line(recording: Recording) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(recording.started_at))
    length = f"{recording.seconds:.1f} s" if recording.seconds is not None else ""
    words = [recording.state.value]
    words += ["held"] if recording.held else []
    words += ["sealed"] if recording.sealed else []
    of = f"{recording.provider_id:12}  {recording.contact_id}  {recording.agent_id}"
    return f"{recording.id}  {at}  {length:>10}  {recording.kinds:11}  {of}  {', '.join(words)}"


async def _act(archive: RecordingArchive, options: argparse.Namespace) -> None:
    recording, by = options.recording, _whoever()
    match options.recordings_command:
        case "export":
            size = await archive.export(recording, options.file, by)
            say(f"{options.file}: {size} bytes")
        case "hold":
            await archive.keep(recording, True, by)
            say(f"{recording} is kept whatever its day.")
        case "release":
            await archive.keep(recording, False, by)
            say(f"{recording} is deleted when its day comes.")
        case "delete":
            await archive.delete(recording, by)
            say(f"{recording} is deleted.")


def _whoever() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        return "somebody"
