"""`warmline rules`: which skills what people read and search leads to, per provider and version.

It reads and writes the database itself, whether or not the server runs; a server that does notices within seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.errors import TheirError
from config.settings import Settings
from pbx.operations.terminal import complain, say

if TYPE_CHECKING:
    from kb_portal.store import PortalStore
    from pbx.rules import Rules

LARGEST_FILE = 2 << 20


def add_commands(commands: Any) -> None:
    """Say to argparse what there is."""
    rules = commands.add_parser("rules", help="the rules that lead from tracking to skills").add_subparsers(
        dest="rules_command", required=True, metavar="command"
    )
    rules.add_parser("list", help="every provider, and which version of its rules is in force")
    show = rules.add_parser("show", help="a provider's rules, as a file that can be edited and put")
    put = rules.add_parser("put", help="put a file's rules in force")
    history = rules.add_parser("history", help="who changed a provider's rules, when and why")
    back = rules.add_parser("back", help="put an earlier version in force again")
    for each in (show, put, history, back):
        each.add_argument("provider", metavar="PROVIDER")
    show.add_argument("--version", metavar="N", type=int, help="as they were; without it, those in force")
    put.add_argument("file", metavar="FILE", type=Path, help="TOML, or JSON if its name ends in .json")
    put.add_argument("--note", required=True, help="what for; it is kept with the version")
    put.add_argument(
        "--base", metavar="N", type=int, help="the version they were made from: refused if it is not in force"
    )
    back.add_argument("version", metavar="N", type=int)


def run(settings: Settings, options: argparse.Namespace) -> int:
    """1 when it could not be done; why stands on standard error."""
    from pbx.rule_text import WrongRules

    try:
        asyncio.run(_run(settings, options))
    except WrongRules as error:
        complain("these rules cannot be put in force:", *error.faults)
        return 1
    except TheirError as error:
        complain(error.reason)
        return 1
    return 0


@dataclass(frozen=True, slots=True)
class _Parts:
    rules: Rules
    portal: PortalStore


async def _run(settings: Settings, options: argparse.Namespace) -> None:
    from agent_presence.roster import Roster
    from agent_presence.store import PresenceStore
    from config.database import Database
    from config.events import EventLog
    from kb_portal.store import PortalStore
    from pbx.dossier import highest_levels
    from pbx.rules import Rules
    from pbx.store import PbxStore

    database = Database.open(settings.database_url)
    try:
        roster = Roster(PresenceStore(database), realm=settings.realm)
        await roster.load()
        rules = Rules(
            PbxStore(database), EventLog(database, time.time), time.time,
            highest=lambda provider_id: highest_levels(roster, provider_id),
        )  # fmt: skip
        await rules.load()
        parts = _Parts(rules, PortalStore(database))
        if options.rules_command == "list":
            await _list(parts)
            return
        if await parts.portal.provider(options.provider) is None:
            known = ", ".join(sorted(await parts.portal.ids("provider")))
            raise TheirError(f"there is no provider {options.provider}; there are {known or 'none yet'}", 404)
        match options.rules_command:
            case "show":
                await _show(parts, options.provider, options.version)
            case "put":
                await _put(parts, options)
            case "history":
                await _history(parts, options.provider)
            case "back":
                base = rules.current(options.provider).version
                put = await rules.put_back(options.provider, options.version, author=_author(), base=base)
                say(
                    f"{options.provider}: version {put.version} is in force, as version {options.version} was."
                )
    finally:
        await database.close()


async def _list(parts: _Parts) -> None:
    for provider_id in sorted(await parts.portal.ids("provider")):
        current = parts.rules.current(provider_id)
        since = f"since {moment(current.at)}" if current.at else ""
        count = f"{len(current.rules)} rule{'' if len(current.rules) == 1 else 's'}"
        say(f"{provider_id:20} version {current.version:<4} {count:>12}  {since}".rstrip())


async def _show(parts: _Parts, provider_id: str, version: int | None) -> None:
    from pbx.rule_text import as_toml

    current = parts.rules.current(provider_id)
    shown = (
        current
        if version in (None, current.version)
        else await parts.rules.version(provider_id, version or 0)
    )
    of = ", in force" if shown.version == current.version else f"; version {current.version} is in force"
    say(f"# Rules of {provider_id}, version {shown.version}{of}.")
    if shown.note:
        say(f"# {shown.note}")
    say("", *as_toml(provider_id, shown.rules).splitlines())


async def _put(parts: _Parts, options: argparse.Namespace) -> None:
    from pbx.rule_text import read_file, rules_of

    rules = rules_of(read_file(text_of(options.file), name=options.file.name), options.provider)
    if rules is None:
        raise TheirError(
            f"{options.file} says nothing of {options.provider}: [[rules.{options.provider}]] is missing"
        )
    base = options.base if options.base is not None else parts.rules.current(options.provider).version
    put = await parts.rules.put(options.provider, rules, author=_author(), note=options.note, base=base)
    for warning in parts.rules.warnings(options.provider, rules):
        complain(warning)
    say(f"{options.provider}: version {put.version} is in force, with {len(rules)} rules.")


async def _history(parts: _Parts, provider_id: str) -> None:
    versions = await parts.rules.history(provider_id)
    for each in versions:
        say(f"version {each.version:<4} {moment(each.at):16}  {each.author:22} {each.note}".rstrip())
    if not versions:
        say(f"{provider_id} has never had rules.")


def text_of(path: Path) -> str:
    """A file somebody wrote rules into. TheirError for one that cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
        if len(raw) > LARGEST_FILE:
            raise TheirError(f"{path} is larger than {LARGEST_FILE >> 20} MiB: that is no file of rules")
        return raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TheirError(f"{path} cannot be read: {error}") from None


def _author() -> str:
    try:
        return f"{getpass.getuser()} at the command line"
    except (KeyError, OSError):  # a container's user need have no name
        return "the command line"


def moment(at: float) -> str:
    """Day and minute, here; nothing for no time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at else ""
