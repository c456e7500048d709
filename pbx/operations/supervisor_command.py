"""`warmline supervisor`: the first one, who takes on all others; or a new password for one who lost theirs.

It writes the database itself, and a server that runs would not know: it has to be stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from config.errors import TheirError
from config.settings import Settings
from pbx.operations.onlooker_commands import NotRunning, answers
from pbx.operations.terminal import complain, say

if TYPE_CHECKING:
    from agent_presence.roster import Agent, Roster


def add_command(commands: Any) -> None:
    """Say to argparse what there is."""
    command = commands.add_parser(
        "supervisor", help="make a supervisor of every provider, who takes on all others; with a new password"
    )
    command.add_argument("login", metavar="LOGIN", help="for the page; who has it already is made one")
    command.add_argument("--name", metavar="NAME", help="of somebody new")


def run(settings: Settings, options: argparse.Namespace) -> int:
    """1 when it could not be done; why stands on standard error."""
    if _is_running(settings):
        complain("the server runs: stop it first, for it would not notice.")
        return 1
    try:
        agent, password = asyncio.run(_make(settings, options.login.strip().lower(), options.name))
    except TheirError as error:
        complain(error.reason)
        return 1
    say(
        f"{agent.name} is a supervisor of every provider.",
        f"  login     {agent.login}",
        f"  password  {password}",
    )
    say("It is shown only this once. People are added at /agent/people.")
    return 0


async def _make(settings: Settings, login: str, name: str | None) -> tuple[Agent, str]:
    from agent_presence.roster import Roster
    from agent_presence.store import PresenceStore
    from config.database import Database
    from config.events import EventLog
    from config.login import Logins
    from pbx.pages.forms import easy_to_type

    database = Database.open(settings.database_url)
    logins = Logins(database, time.time)
    try:
        events = EventLog(database, time.time)
        roster = Roster(PresenceStore(database), realm=settings.realm)
        await roster.load()
        password = easy_to_type()
        hashed = await logins.hash_password(password)
        known = roster.ever_by_login(login)
        if known is None:
            agent = await _new(roster, login, name, hashed)
        else:
            changed = replace(known, password_hash=hashed, supervisor=True, provider_ids=(), left_at=None)
            agent = await roster.change_agent(changed)
            await logins.end_all("agent", agent.id)
        kind = "agent.added" if known is None else "agent.made_supervisor"
        await events.write(kind, agent=agent.id, by=_whoever())
        return agent, password
    finally:
        logins.close()
        await database.close()


async def _new(roster: Roster, login: str, name: str | None, hashed: str) -> Agent:
    from pbx.pages.people_form import is_login

    if not (name or "").strip():
        raise TheirError(f"nobody has the login {login}: for somebody new, say --name too")
    if not is_login(login):
        raise TheirError(f"{login} is no login: small letters, digits, dots and hyphens, a letter first")
    return await roster.add_agent(str(name).strip(), login, hashed, skills={}, supervisor=True)


def _is_running(settings: Settings) -> bool:
    try:
        with answers(settings, {"command": "guard"}):
            return True
    except NotRunning:
        return False


def _whoever() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        return "somebody"
