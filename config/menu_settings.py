"""The settings of menus: ``[[menus]]`` in warmline.toml, or ``WARMLINE_MENUS`` as JSON.

Who dials a number that has one is asked what it is about, and presses a key, before anybody is looked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from config.setting_values import seconds, text

MAX_MENUS = 200
MAX_ROUNDS = 5
KEYS = "0123456789"
LONGEST_TEXT = 300
MAX_SKILLS = 10


@dataclass(frozen=True, slots=True)
class Choice:
    """What pressing `key` says: that it is about `product` (its id), or needs `skills`.

    `say`: as in "For …, press 1".
    """

    key: str
    say: str
    product: str = ""
    skills: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MenuSettings:
    """The menu of one number. `file` is a sound file in place of what would be spoken; `timeout_s` how long a key is
    waited for after it was heard, `rounds` how often it is; `default` the key of what it is then taken to be about,
    empty: what the number says by itself."""

    number: str
    choices: tuple[Choice, ...]
    greeting: str = ""
    file: str = ""
    timeout_s: float = 5.0
    rounds: int = 2
    default: str = ""

    @property
    def spoken(self) -> str:
        """The whole of it as one text."""
        choices = (f"For {each.say}, press {each.key}." for each in self.choices)
        return " ".join(filter(None, (self.greeting, *choices)))

    def choice(self, key: str) -> Choice | None:
        return next((each for each in self.choices if each.key == key), None)


def menus(raw: Any) -> tuple[MenuSettings, ...]:
    """Raises ValueError."""
    if isinstance(raw, str):
        try:
            raw = json.loads(raw) if raw.strip() else []
        except json.JSONDecodeError as error:
            raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(raw, list) or len(raw) > MAX_MENUS:
        raise ValueError(f"should be a list of at most {MAX_MENUS} menus")
    read = tuple(_menu(each) for each in raw)
    numbers = [menu.number for menu in read]
    for number in numbers:
        if numbers.count(number) > 1:
            raise ValueError(f"two menus have the number {number}")
    return read


def _menu(raw: Any) -> MenuSettings:
    _only(raw, MenuSettings, "a menu")
    number = text(raw.get("number", ""))
    if not number:
        raise ValueError("a menu has no number")
    where = f"the menu of {number}"
    choices = raw.get("choices")
    if not isinstance(choices, list) or not 1 <= len(choices) <= len(KEYS):
        raise ValueError(f"{where}: choices should be 1 to {len(KEYS)}")
    read = tuple(_choice(each, where) for each in choices)
    keys = [each.key for each in read]
    if len(set(keys)) < len(keys):
        raise ValueError(f"{where}: two choices have the same key")
    file = text(raw.get("file", ""))
    if file and not Path(file).is_file():
        raise ValueError(f"{where}: there is no file {file}")
    rounds = raw.get("rounds", 2)
    if isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= MAX_ROUNDS:
        raise ValueError(f"{where}: rounds should be a whole number from 1 to {MAX_ROUNDS}")
    default = str(raw.get("default", ""))
    if default and default not in keys:
        raise ValueError(f"{where}: default is {default!r}, which is none of its keys")
    return MenuSettings(
        number,
        read,
        _said(raw.get("greeting", ""), f"{where}: greeting"),
        file,
        seconds(raw.get("timeout_s", 5.0)),
        rounds,
        default,
    )


def _choice(raw: Any, where: str) -> Choice:
    _only(raw, Choice, f"{where}: a choice")
    key = str(raw.get("key", ""))
    if len(key) != 1 or key not in KEYS:
        raise ValueError(f"{where}: a choice has the key {key!r}, which should be one of 0 to 9")
    where = f"{where}: key {key}"
    say = _said(raw.get("say", ""), where)
    if not say:
        raise ValueError(f"{where} does not say what it is for")
    skills = raw.get("skills", [])
    if not isinstance(skills, list) or len(skills) > MAX_SKILLS:
        raise ValueError(f"{where}: skills should be a list of at most {MAX_SKILLS}")
    return Choice(key, say, text(raw.get("product", "")), tuple(text(skill) for skill in skills))


def _said(raw: Any, where: str) -> str:
    said = text(raw)
    if len(said) > LONGEST_TEXT or not said.isprintable():
        raise ValueError(f"{where} should be at most {LONGEST_TEXT} printable characters")
    return said


def _only(raw: Any, kind: type, where: str) -> None:
    if not isinstance(raw, Mapping):
        raise ValueError(f"{where} should be a table")
    strange = raw.keys() - {each.name for each in fields(kind)}
    if strange:
        raise ValueError(f"{where} has the unknown keys {', '.join(sorted(map(str, strange)))}")
