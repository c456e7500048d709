"""`warmline replay`: a past stretch of traffic through changed rules, and the difference that makes.

The file is that of `warmline rules put` ([[rules.PROVIDER]]), of warmline.toml's queues ([[queues]]), or both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.errors import TheirError
from config.settings import Settings
from pbx.operations.moments import EXAMPLES, typed
from pbx.operations.rules_command import text_of
from pbx.operations.terminal import complain, say

if TYPE_CHECKING:
    from pbx.policies import Policies
    from pbx.replay import Comparison, Figures
    from pbx.skills import Rule


def add_command(commands: Any) -> None:
    """Say to argparse what there is."""
    replay = commands.add_parser("replay", help="what other rules would have done with past traffic")
    replay.add_argument(
        "--rules",
        metavar="FILE",
        type=Path,
        required=True,
        help="[[rules.PROVIDER]] and [[queues]], as TOML or JSON",
    )
    replay.add_argument(
        "--since", metavar="WHEN", type=typed, required=True, help=f"where it begins: {EXAMPLES}"
    )
    replay.add_argument("--until", metavar="WHEN", type=typed, help="without it, now")
    replay.add_argument("--json", action="store_true", help="the figures for programs")


def run(settings: Settings, options: argparse.Namespace) -> int:
    """1 when the file or a time makes no sense."""
    from pbx.rule_text import WrongRules

    try:
        since, until = options.since, options.until if options.until is not None else time.time()
        if since >= until:
            raise TheirError("the stretch ends before it begins")
        found = asyncio.run(_replay(settings, options.rules, since, until))
    except WrongRules as error:
        complain(f"{options.rules}:", *error.faults)
        return 1
    except TheirError as error:
        complain(error.reason)
        return 1
    if options.json:
        say(json.dumps(_as_json(found), ensure_ascii=False, indent=1))
    else:
        say(*_lines(found, since, until))
    return 0


@dataclass(frozen=True, slots=True)
class _Found:
    comparisons: list[Comparison]
    contacts: int
    inferred_anew: int  # contacts that need something else by the changed rules
    queues_as_told: bool  # the queues' settings of the time are known, not only today's
    names: dict[str, str]


async def _replay(settings: Settings, file: Path, since: float, until: float) -> _Found:
    from agent_presence.roster import Roster
    from agent_presence.store import PresenceStore
    from config.database import Database
    from config.events import EventLog
    from kb_portal.store import PortalStore
    from pbx import stretch
    from pbx.dossier import Dossiers
    from pbx.past import Past
    from pbx.policies import Policies
    from pbx.replay import compare, simulate
    from pbx.rules import Rules
    from pbx.store import PbxStore

    tables = _tables(file)
    database = Database.open(settings.database_url)
    try:
        portal, store = PortalStore(database), PbxStore(database)
        roster = Roster(PresenceStore(database), realm=settings.realm)
        await roster.load()
        everybody = (*roster.agents(), *roster.left())
        changed = _rules(tables, await portal.ids("provider"))
        past = Past(database, store, roster, {})
        then = await stretch.queues_then(past, until)
        before = Policies(settings.queues if then is None else then)
        after = _policies(tables) or before
        traffic = await stretch.load(
            database, store, past, since, until, chats=settings.chats_per_agent,
            own_chats={each.id: each.chats for each in everybody if each.chats is not None},
        )  # fmt: skip
        # Only what infers is asked of it; nobody puts rules here.
        rules = Rules(store, EventLog(database, time.time), time.time, highest=lambda provider_id: {})
        dossiers = Dossiers(portal, rules, roster, time.time)
        needs = {
            request.contact.id: (
                await dossiers.infer_again(request.contact, changed[request.contact.facts.provider_id])
            ).skills
            for request in traffic.requests
            if request.contact.facts.provider_id in changed
        }
        was = simulate(traffic, before)
        would = simulate(traffic, after, needs)
    finally:
        await database.close()
    required = {request.contact.id: _required(request.contact.needs) for request in traffic.requests}
    return _Found(
        compare(traffic, was, would),
        len(traffic.requests),
        sum(_required(needed) != required[contact_id] for contact_id, needed in needs.items()),
        then is not None,
        {agent.id: agent.name for agent in everybody},
    )


def _tables(file: Path) -> dict[str, Any]:
    from pbx.rule_text import WrongRules, read_file

    tables = read_file(text_of(file), name=file.name)
    strange = sorted(tables.keys() - {"rules", "queues"})
    if strange or not tables:
        raise WrongRules([f"{file.name} should hold [[rules.PROVIDER]] or [[queues]], and nothing else."])
    return tables


def _rules(tables: dict[str, Any], providers: frozenset[str]) -> dict[str, tuple[Rule, ...]]:
    from pbx.rule_text import WrongRules, rules_from

    told = tables.get("rules", {})
    if not isinstance(told, dict):
        raise WrongRules(["Say whose rules they are: [[rules.PROVIDER]]."])
    unknown = sorted(told.keys() - providers)
    if unknown:
        raise WrongRules(
            [f"There is no provider {', '.join(unknown)}; there are {', '.join(sorted(providers))}."]
        )
    return {provider_id: rules_from(rules) for provider_id, rules in told.items()}


def _policies(tables: dict[str, Any]) -> Policies | None:
    from config.queue_settings import queues
    from pbx.policies import Policies
    from pbx.rule_text import WrongRules

    if "queues" not in tables:
        return None
    try:
        return Policies(queues(tables["queues"]))
    except ValueError as error:
        raise WrongRules([f"queues: {error}."]) from None


def _required(needs: Any) -> frozenset[tuple[str, int]]:
    return frozenset((need.skill, need.level) for need in needs if need.required)


def _as_json(found: _Found) -> dict[str, Any]:
    return {
        "contacts": found.contacts,
        "inferred_anew": found.inferred_anew,
        "queues_as_told": found.queues_as_told,
        "queues": [
            {
                "provider": each.provider,
                "queue": each.queue,
                "was": asdict(each.was),
                "before": asdict(each.before),
                "after": asdict(each.after),
                "moved": [
                    {"from": source, "to": target, "contacts": count}
                    for (source, target), count in sorted(each.moved.items(), key=_most_first)
                ],
            }
            for each in found.comparisons
        ],
    }


_ROWS = (
    ("joined", "joined"),
    ("mean wait", "mean_wait_s"),
    ("9 of 10 within", "p90_wait_s"),
    ("right skills", "matched"),
    ("given up", "given_up"),
    ("nobody in time", "others"),
    ("offers refused", "refused"),
)


def _lines(found: _Found, since: float, until: float) -> list[str]:
    if not found.contacts:
        return [f"Nobody asked for help from {_day(since)} to {_day(until)}."]
    head = f"{found.contacts} contacts from {_day(since)} to {_day(until)}"
    lines = [
        f"{head}; {found.inferred_anew} of them need something else by the changed rules.",
        "Happened: what the log tells. Simulated: the same, routed again. Changed: routed by the changed rules.",
    ]
    if not found.queues_as_told:
        lines.append(
            "The log does not tell how the queues were set then: they are taken as they are set now."
        )
    for each in found.comparisons:
        lines += ["", f"{each.provider}, queue {each.queue}: {each.was.contacts} contacts"]
        lines.append(f"  {'':16}{'happened':>10}{'simulated':>11}{'changed':>10}")
        for words, name in _ROWS:
            shown = (_shown(figures, name) for figures in (each.was, each.before, each.after))
            lines.append("  {:16}{:>10}{:>11}{:>10}".format(words, *shown).rstrip())
        for (source, target), count in sorted(each.moved.items(), key=_most_first)[:10]:
            lines.append(f"  {count} x {_who(source, found)} -> {_who(target, found)}")
    return lines


def _shown(figures: Figures, name: str) -> str:
    value = getattr(figures, name)
    if name.endswith("_s"):
        return "-" if value is None else f"{value:.1f} s"
    return str(value)


def _who(agent_id: str | None, found: _Found) -> str:
    return found.names.get(agent_id, agent_id) if agent_id is not None else "nobody"


def _most_first(moved: tuple[tuple[str | None, str | None], int]) -> tuple[int, str]:
    return -moved[1], str(moved[0])


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
