"""Rules as people write them: in a file or a form, read with every fault told, and written so that they read back.

A file is TOML or JSON: `[[rules.thermea]]` for the rules of one provider, or plain `[[rules]]` where it is known which.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from config.errors import TheirError
from pbx.skills import KINDS, Rule

MOST_RULES = 2000
LONGEST_VALUE = 200
MOST_WEIGHT = 10.0
LEVELS = range(1, 6)
MOST_FAULTS_TOLD = 20

_KEYS = ("when", "value", "skill", "weight", "level")


class WrongRules(TheirError):
    """Rules that cannot be put in force; `faults` are sentences for whoever wrote them."""

    def __init__(self, faults: Sequence[str]) -> None:
        told = list(faults[:MOST_FAULTS_TOLD])
        if len(faults) > len(told):
            told.append(f"And {len(faults) - len(told)} more.")
        super().__init__(" ".join(told), 422)
        self.faults = tuple(told)


def checked(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules, if all of them may be put in force. Raises WrongRules."""
    return rules_from([{key: getattr(rule, key) for key in _KEYS} for rule in rules])


def rules_from(raw: object) -> tuple[Rule, ...]:
    """The rules of a list of tables with the keys when, value, skill and, if need be, weight and level.

    Raises WrongRules with every fault at once.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        raise WrongRules(["The rules should be a list."])
    if len(raw) > MOST_RULES:
        raise WrongRules([f"These are {len(raw)} rules; a provider may have {MOST_RULES}."])
    faults: list[str] = []
    rules: list[Rule] = []
    places: dict[tuple[str, str, str], int] = {}
    for place, each in enumerate(raw, 1):
        wrong, rule = _rule(each)
        faults += [f"Rule {place}: {fault}" for fault in wrong]
        if rule is None:
            continue
        same = (rule.when, rule.value.casefold(), rule.skill)
        if same in places:
            faults.append(f"Rule {place} is the same as rule {places[same]}: one of them should go.")
        places.setdefault(same, place)
        rules.append(rule)
    if faults:
        raise WrongRules(faults)
    return tuple(rules)


def _rule(raw: object) -> tuple[list[str], Rule | None]:
    if not isinstance(raw, Mapping):
        return ["it should have the keys when, value and skill."], None
    faults = [
        f"{str(key)[:40]!r} is no key of a rule; those are {_or(_KEYS)}." for key in raw if key not in _KEYS
    ]
    texts: dict[str, str] = {}
    for key in ("when", "value", "skill"):
        text = raw.get(key)
        texts[key] = text.strip() if isinstance(text, str) else ""
        if not texts[key]:
            faults.append(f"{key} is missing.")
        elif len(texts[key]) > LONGEST_VALUE or not texts[key].isprintable():
            faults.append(f"{key} should be a short text, of {LONGEST_VALUE} characters at most.")
    if texts["when"] and texts["when"] not in KINDS:
        faults.append(f"there is no kind {texts['when'][:40]!r}; a rule looks at {_or(KINDS)}.")
    weight = _number(raw.get("weight", 1.0))
    if weight is None or not 0.0 <= weight <= MOST_WEIGHT:
        faults.append(f"the weight should be a number from 0 to {MOST_WEIGHT:g}.")
    level = _number(raw.get("level", 1))
    if level is None or level not in LEVELS:
        faults.append(f"the level should be a whole number from {LEVELS[0]} to {LEVELS[-1]}.")
    if faults or weight is None or level is None:
        return faults, None
    return [], Rule(texts["when"], texts["value"], texts["skill"], weight, int(level))


def warnings_about(rules: Iterable[Rule], highest: Mapping[str, int]) -> list[str]:
    """What is odd about rules that may be put in force; `highest`: the highest level somebody has of each skill."""
    lacking: dict[str, str] = {}
    for rule in rules:
        has = highest.get(rule.skill, 0)
        if not has:
            lacking[rule.skill] = f"Nobody has {rule.skill}: what leads to it alone requires nothing."
        elif has < rule.level:
            lacking[rule.skill] = (
                f"Nobody has {rule.skill} at {rule.level}: it will be required at {has}, the highest there is."
            )
    return sorted(lacking.values())


def read_file(text: str, *, name: str) -> dict[str, Any]:
    """The tables of a file, JSON if its name says so or else TOML. Raises WrongRules."""
    try:
        raw = json.loads(text) if name.endswith(".json") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # both decoders' errors are ValueErrors
        raise WrongRules([f"{name} cannot be read: {error}."]) from None
    if isinstance(raw, list):
        return {"rules": raw}
    if not isinstance(raw, dict):
        raise WrongRules([f"{name} should hold rules."])
    return raw


def rules_of(tables: Mapping[str, Any], provider_id: str) -> tuple[Rule, ...] | None:
    """What a file says of this provider's rules; None: nothing. Raises WrongRules."""
    rules = tables.get("rules")
    if isinstance(rules, Mapping):
        rules = rules.get(provider_id)
    return rules_from(rules) if rules is not None else None


def as_toml(provider_id: str, rules: Iterable[Rule]) -> str:
    """A file that `read_file` and `rules_of` read back as these rules."""
    bare = re.fullmatch(r"[A-Za-z0-9_-]+", provider_id)
    head = f"[[rules.{provider_id if bare else json.dumps(provider_id)}]]"
    return "\n".join(
        f"{head}\nwhen = {_quoted(rule.when)}\nvalue = {_quoted(rule.value)}\nskill = {_quoted(rule.skill)}\n"
        f"weight = {float(rule.weight)!r}\nlevel = {rule.level}\n"
        for rule in rules
    )


def _quoted(text: str) -> str:
    # A TOML basic string takes JSON's escapes; what is printable stands as it is.
    return json.dumps(text, ensure_ascii=False)


def _number(raw: object) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        return None
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        return None
    return number if number == number else None  # not NaN, of which no comparison is true


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
