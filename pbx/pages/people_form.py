"""The entry of one agent as a form, and back: fields as they were typed, and every fault of them told at once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent_presence.roster import Agent, Skill
from config.errors import TheirError
from pbx.pages import languages, words

EMPTY_ROWS = 3
MOST_SKILLS = 60
MOST_CHATS = 20
LONGEST_NAME = 100
LONGEST_SKILL = 60
LEVELS = ("1", "2", "3", "4", "5")
NO_LONGER = "0"
"""The level that takes a skill away."""

_ROW = re.compile(r"skill-([0-9]{1,3})")
_LOGIN = re.compile(r"[a-z][a-z0-9.-]{0,47}[a-z0-9]")
# As pages of the app are called when they register.
_NOT_A_LOGIN = "cust-"

Posted = Mapping[bytes, Sequence[bytes]]


class WrongEntry(TheirError):
    """`faults` are sentences for whoever typed it."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(" ".join(faults), 422)
        self.faults = tuple(faults)


def is_login(text: str) -> bool:
    """Whether somebody new may be called so: their first phone is, too."""
    return _LOGIN.fullmatch(text) is not None and not text.startswith(_NOT_A_LOGIN)


def base_of(agent: Agent) -> str:
    """Another word after each change of the entry: what a form was made from."""
    told = repr((replace(agent, skills={}), sorted(agent.skills.items())))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def fields_of(agent: Agent | None) -> dict[str, Any]:
    """What the form shows of an entry; None: of one that is new."""
    skills = sorted(agent.skills.items()) if agent is not None else []
    rows = [{"skill": str(skill), "level": str(level)} for skill, level in skills]
    return {
        "name": agent.name if agent is not None else "",
        "login": agent.login if agent is not None else "",
        "rows": rows + _empty_rows(),
        "languages": ", ".join(agent.languages) if agent is not None else "",
        "serves": "all" if agent is not None and not agent.provider_ids else "some",
        "providers": list(agent.provider_ids) if agent is not None else [],
        "chats": str(agent.chats or "") if agent is not None else "",
        "standby": agent is not None and agent.standby,
        "supervisor": agent is not None and agent.supervisor,
    }


def typed(posted: Posted) -> dict[str, Any]:
    """The same of what was posted."""
    rows: list[dict[str, str]] = []
    for name in posted:
        row = _ROW.fullmatch(name.decode("ascii", "replace"))
        if row is not None and len(rows) < 2 * MOST_SKILLS:
            rows.append(
                {"skill": _first(posted, f"skill-{row[1]}"), "level": _first(posted, f"level-{row[1]}")}
            )
    return {
        "name": _first(posted, "name"),
        "login": _first(posted, "login").lower(),
        "rows": [row for row in rows if row["skill"]] + _empty_rows(),
        "languages": _first(posted, "languages"),
        "serves": _first(posted, "serves"),
        "providers": [each.decode("utf-8", "replace") for each in posted.get(b"provider", ()) if each],
        "chats": _first(posted, "chats"),
        "standby": bool(_first(posted, "standby")),
        "supervisor": bool(_first(posted, "supervisor")),
    }


def entry(
    fields: Mapping[str, Any],
    before: Agent | None,
    *,
    known_skills: Collection[str],
    providers: Collection[str],
    may_serve_all: bool,
) -> Agent:
    """The agent that was typed. `providers`: those that may be chosen. Raises WrongEntry with every fault at once."""
    faults: list[str] = []
    name, login = str(fields["name"]), str(fields["login"])
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        faults.append(f"Please give a name, of {LONGEST_NAME} characters at most.")
    is_old = before is not None and login == before.login
    if not is_old and not is_login(login):
        faults.append(
            "A login has small letters, digits, dots and hyphens, from 2 to 49 of them, and begins with a letter: "
            "“ana.ferreira”."
        )
    skills = _skills(fields["rows"], known_skills, faults)
    spoken: tuple[str, ...] = ()
    try:
        spoken = languages.codes(str(fields["languages"]))
    except TheirError as error:
        faults.append(error.reason)
    chats = str(fields["chats"])
    if chats and not (
        chats.isascii() and chats.isdigit() and len(chats) <= 4 and 1 <= int(chats) <= MOST_CHATS
    ):
        faults.append(f"How many chats at once is a number from 1 to {MOST_CHATS}, or empty.")
        chats = ""
    chosen: tuple[str, ...] = ()
    if fields["serves"] == "all":
        if not may_serve_all:
            faults.append("You can let them serve your own providers alone.")
    else:
        chosen = tuple(dict.fromkeys(fields["providers"]))
        if not chosen:
            faults.append("Please choose a provider whose customers they may see.")
        elif not set(chosen) <= set(providers):
            faults.append("There is no such provider, or you do not serve it.")
    if faults:
        raise WrongEntry(faults)
    return Agent(
        id=before.id if before is not None else "",
        name=name,
        login=login,
        password_hash="",
        skills={Skill(skill): level for skill, level in skills.items()},
        languages=spoken,
        provider_ids=chosen,
        standby=bool(fields["standby"]),
        supervisor=bool(fields["supervisor"]),
        chats=int(chats) if chats else None,
    )


def _skills(rows: Sequence[Mapping[str, str]], known: Collection[str], faults: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        skill, level = skill_name(row["skill"], known), row["level"]
        if not skill or level == NO_LONGER:
            continue
        if len(skill) > LONGEST_SKILL or not skill.isprintable():
            faults.append(f"A skill is a word or a few, of {LONGEST_SKILL} characters at most.")
        elif level not in LEVELS:
            faults.append(f"The level of {words.skill(skill)} is a number from 1 to 5.")
        elif skill in found:
            faults.append(f"{words.skill(skill)} is there twice: one of them should go.")
        else:
            found[skill] = int(level)
    if len(found) > MOST_SKILLS:
        faults.append(f"Somebody may have {MOST_SKILLS} skills at most.")
    return found


def skill_name(text: str, known: Collection[str]) -> str:
    """A skill as it is called already, however it is typed (`Wifi pairing`, `wifi_pairing`); a new one as
    `wifi-pairing`."""
    text = " ".join(text.split())
    if text in known:
        return text
    plain = words.skill(text).casefold()
    same = sorted(skill for skill in known if words.skill(skill).casefold() == plain)
    return same[0] if same else text.lower().replace(" ", "-")


def _empty_rows() -> list[dict[str, str]]:
    return [{"skill": "", "level": "3"} for _ in range(EMPTY_ROWS)]


def _first(posted: Posted, name: str) -> str:
    values = posted.get(name.encode("ascii")) or [b""]
    return values[0].decode("utf-8", "replace").strip()
