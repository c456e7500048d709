"""The command `warmline`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from config.settings import FILE_VARIABLE, Settings, SettingsError
from pbx.operations import (
    onlooker_commands,
    recordings_command,
    replay_command,
    rules_command,
    supervisor_command,
    why_command,
)
from pbx.operations.events_command import read_events
from pbx.operations.moments import EXAMPLES, typed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="warmline", description="A contact-centre server.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("serve", help="migrate the database, start everything, and serve until Ctrl-C")
    robot = commands.add_parser("robot-agent", help="a phone that answers by itself, in a process of its own")
    robot.add_argument("--until-eof", action="store_true", help="end when standard input is closed")
    events = commands.add_parser("events", help="read the event log")
    whose = events.add_mutually_exclusive_group()
    whose.add_argument("--contact", metavar="ID", help="only what concerns this contact")
    whose.add_argument("--session", metavar="ID", help="only what concerns the call with this Session-ID")
    events.add_argument("--since", metavar="WHEN", type=typed, help=f"only what happened since: {EXAMPLES}")
    events.add_argument("--json", action="store_true", help="one JSON object a line")
    events.add_argument("--follow", action="store_true", help="go on with what happens from now on")
    onlooker_commands.add_commands(commands)
    recordings_command.add_commands(commands)
    rules_command.add_commands(commands)
    why_command.add_command(commands)
    replay_command.add_command(commands)
    supervisor_command.add_command(commands)
    commands.add_parser("migrate", help="bring the database to the newest revision")
    commands.add_parser("settings", help="say what can be set, and what is")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.load(os.environ, Path(os.environ.get(FILE_VARIABLE, "warmline.toml")))
    except SettingsError as error:
        print(
            "warmline: the settings are wrong:",
            *(f"  {fault}" for fault in error.faults),
            sep="\n",
            file=sys.stderr,
        )
        return 2
    try:
        return _run(options, settings)
    except BrokenPipeError:
        # Whoever read us has gone (`| head`); Python would complain once more when it flushes at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except onlooker_commands.NotRunning as error:
        print(f"warmline: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # a data folder that is a file, a database that does not answer
        _complain(error)
        return 1


def _run(options: argparse.Namespace, settings: Settings) -> int:
    match options.command:
        case "serve":
            return serve(settings)
        case "robot-agent":
            return robot_agent(settings, until_eof=options.until_eof)
        case "events":
            return read_events(
                settings,
                contact=options.contact,
                session=options.session,
                as_json=options.json,
                follow=options.follow,
                since=options.since,
            )
        case "sip":
            return onlooker_commands.trace(settings, options)
        case "guard":
            return onlooker_commands.guard(settings, options)
        case "recordings":
            return recordings_command.run(settings, options)
        case "rules":
            return rules_command.run(settings, options)
        case "why":
            return why_command.run(settings, options)
        case "replay":
            return replay_command.run(settings, options)
        case "supervisor":
            os.umask(0o077)  # it may be what makes the database
            migrate(settings)
            return supervisor_command.run(settings, options)
        case "migrate":
            return migrate(settings)
    return show_settings(settings)


def migrate(settings: Settings) -> int:
    """Create or upgrade the database. Says so only when there was something to do."""
    from config import migrations

    if not migrations.is_current(settings.database_url):
        from config.database import metadata
        from pbx import tables  # noqa: F401  (declares every package's tables on `metadata`)

        print("Bringing the database to the newest revision", flush=True)
        migrations.upgrade(settings.database_url, metadata)
    return 0


def serve(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM, then drain. A second signal ends at once."""
    started = time.monotonic()
    _raise_file_limit()
    os.umask(0o077)  # customers, messages, recordings: no other user of the machine reads them
    settings.data.mkdir(parents=True, exist_ok=True)
    migrate(settings)
    loop = _install_reactor()
    from twisted.internet import reactor as installed

    from config.bridge import spawn
    from pbx.log import start_logging

    reactor: Any = installed
    start_logging(sys.stderr)
    status = 1

    async def run() -> None:
        nonlocal status
        try:
            await _serve_until_told(settings, reactor, loop, started)
            status = 0
        except Exception as error:
            _complain(error)
        finally:
            reactor.stop()

    reactor.callLater(0, lambda: spawn(run(), "the server"))
    reactor.run(installSignalHandlers=False)
    return status


async def _serve_until_told(
    settings: Settings, reactor: Any, loop: asyncio.AbstractEventLoop, started: float
) -> None:
    from pbx.service import Service
    from pbx.start_text import start_text

    stop = asyncio.Event()

    def told_to_stop() -> None:
        if stop.is_set():
            os._exit(130)
        print(
            "\nStopping: calls in progress are ended, everything is stored. Again to end at once.", flush=True
        )
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told_to_stop)
    service = Service(settings, reactor)
    try:
        await service.start()
        # What is there now stays: the collector need not look through it again and again under load.
        gc.collect()
        gc.freeze()
        # Counting references frees nearly all that a call makes, at once or half a minute later: cycles can wait. What
        # is new is looked at in small portions, of a few milliseconds, and all there is but rarely: with ten thousand
        # calls just over that is half a second, in which nobody is heard.
        gc.set_threshold(2_000, 5, 200)
        numbers = await service.portal_store.numbers()
        print(start_text(settings, numbers, time.monotonic() - started), flush=True)
        await stop.wait()
    finally:
        await service.stop()
    print(f"Stopped; everything is in {settings.data}.", flush=True)


def _complain(error: Exception) -> None:
    """One line for what whoever runs the server can mend; what is a fault of ours is shown whole."""
    from pbx.start_text import is_ours, why_not

    if is_ours(error):
        traceback.print_exception(error)
    print(f"warmline: {why_not(error)}", file=sys.stderr, flush=True)


def robot_agent(settings: Settings, *, until_eof: bool) -> int:
    """Be the sample's robot agent until SIGTERM, SIGINT or, if asked for, the end of standard input."""
    from agent_presence.sample import ROBOT_USERNAME, robot_password
    from pbx import robot

    try:
        password = robot_password(settings.data)
    except FileNotFoundError:
        print(
            "warmline: no robot agent here yet: start the server with its sample data first", file=sys.stderr
        )
        return 1
    if until_eof:
        import threading

        def wait_for_eof() -> None:
            sys.stdin.buffer.read()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=wait_for_eof, daemon=True).start()
    return robot.run(settings.here, settings.sip_port, ROBOT_USERNAME, password, settings.domain)


_SECRET = frozenset({"hep_password", "metrics_token", "push_gateway_token"})


def show_settings(settings: Settings) -> int:
    from config.settings import PREFIX, meanings

    for name, (default, meaning) in meanings().items():
        value = getattr(settings, name)
        if name in _SECRET and value:
            value = "***"
        mark = "" if value == default or not default else f"  [default {_as_typed(default)}]"
        print(f"{PREFIX + name.upper():28} {_as_typed(value):32} {meaning}{mark}")
    return 0


def _as_typed(value: object) -> str:
    """A setting's value as one would set it, but for passwords."""
    match value:
        case bool():
            return "on" if value else "off"
        case (int() as first, int() as last):
            return f"{first}-{last}"
        case tuple():
            if all(isinstance(each, str) for each in value):
                return ", ".join(value)
            return json.dumps([each.shown() for each in value])
        case str():
            return re.sub(r"(://[^/@:]*):[^@]*@", r"\1:***@", value)
    return str(value)


def _raise_file_limit() -> None:
    """Every phone and browser on a connection is an open file; the usual limit is meant for desktop programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _install_reactor() -> asyncio.AbstractEventLoop:
    """Twisted's asyncio reactor, on uvloop where it is installed."""
    from twisted.internet import asyncioreactor

    try:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)
    return loop


if __name__ == "__main__":
    sys.exit(main())
