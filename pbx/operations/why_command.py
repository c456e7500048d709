"""`warmline why CONTACT`: who was considered for each offer of a contact, why not the others, what would change it."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from config.errors import TheirError
from config.settings import Settings
from pbx.operations.terminal import complain, say

if TYPE_CHECKING:
    from pbx.contact import Contact
    from pbx.why import Choice

_CALLED = {"chat": "chat", "voice": "voice call", "video": "video call"}


def add_command(commands: Any) -> None:
    """Say to argparse what there is."""
    why = commands.add_parser("why", help="why a contact went to whom it went, from the event log")
    why.add_argument("contact", metavar="CONTACT")
    why.add_argument("--json", action="store_true", help="all of it, everybody who was considered included")


def run(settings: Settings, options: argparse.Namespace) -> int:
    """1 when there is no such contact."""
    try:
        contact, choices = asyncio.run(_ask(settings, options.contact))
    except TheirError as error:
        complain(error.reason)
        return 1
    if options.json:
        say(json.dumps(as_json(contact, choices), ensure_ascii=False, indent=1))
    else:
        say(*_lines(contact, choices))
    return 0


async def _ask(settings: Settings, contact_id: str) -> tuple[Contact, list[Choice]]:
    from agent_presence.roster import Roster
    from agent_presence.store import PresenceStore
    from config.database import Database
    from pbx.past import Past
    from pbx.policies import Policies
    from pbx.store import PbxStore

    database = Database.open(settings.database_url)
    try:
        roster = Roster(PresenceStore(database), realm=settings.realm)
        await roster.load()
        past = Past(database, PbxStore(database), roster, Policies(settings.queues).strategies)
        contact = await past.contact(contact_id)
        return contact, await past.why(contact, time.time())
    finally:
        await database.close()


def as_json(contact: Contact, choices: list[Choice]) -> dict[str, Any]:
    """The answer for programs; times in epoch seconds."""
    return {
        "contact": contact.id,
        "channel": contact.channel.value,
        "provider": contact.facts.provider_id,
        "product": contact.facts.product_id,
        "asked_at": contact.facts.asked_at,
        "state": contact.state.value,
        "disposition": contact.disposition.value if contact.disposition is not None else None,
        "needs": [
            {
                "skill": need.skill,
                "level": need.level,
                "required": need.required,
                "reasons": list(need.reasons),
            }
            for need in contact.needs
        ],
        "choices": [asdict(choice) for choice in choices],
    }


def _lines(contact: Contact, choices: list[Choice]) -> list[str]:
    from pbx.why_words import choice_lines

    facts = contact.facts
    about = facts.product_name or facts.provider_name
    day = time.strftime("%A, %d %B %Y", time.localtime(facts.asked_at))
    asked = f"asked for on {day} at {_clock(facts.asked_at)}"
    lines = [f"{contact.id}: a {_CALLED[contact.channel.value]} about {about}, {asked}"]
    for need in contact.needs:
        level = f" at {need.level}" if need.level > 1 else ""
        what = "needed" if need.required else "good to know"
        lines.append(f"  {need.skill}{level} ({what}): {', '.join(need.reasons)}")
    if not choices:
        how = f": {contact.disposition.value}" if contact.disposition is not None else ""
        lines.append(f"Nobody was asked{how}.")
    for choice in choices:
        lines += ["", *choice_lines(choice, _clock(choice.at))]
    return lines


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
