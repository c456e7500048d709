"""The editor of rules: a table whose rows are fields, so that it works without scripts too.

A page shows `ROWS` rules at most, each under its number in the version they were made from; only those that were shown
come back, and all others stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pbx.pages import words
from pbx.rule_text import rules_from
from pbx.skills import KINDS, Rule
from pbx.store import RuleVersion

ROWS = 50
EMPTY_ROWS = 1
MOST_ADDED = 50

_FIELDS = ("when", "value", "skill", "weight", "level")
_ROW = re.compile(r"when-(n?)([0-9]{1,4})")

KIND_WORDS = {
    "product": "asks about the product",
    "article": "reads the article",
    "tag": "reads of",
    "search": "searches for",
    "error": "searches the code",
}

Posted = Mapping[bytes, Sequence[bytes]]


def rules_page(
    current: RuleVersion, shown: RuleVersion, wanted: str, page: int, *, posted: Posted | None = None
) -> dict[str, Any]:
    """What the template draws. `posted`: what was typed and could not be put in force is shown as it was typed."""
    rows = [
        {"id": str(place), **_row(rule)}
        for place, rule in enumerate(shown.rules)
        if wanted.casefold() in f"{rule.value} {rule.skill}".casefold()
    ]
    pages = max(1, -(-len(rows) // ROWS))
    page = min(max(page, 1), pages)
    on_page = rows[(page - 1) * ROWS : page * ROWS]
    added = [{"id": f"n{number}", **_row(Rule("search", "", ""))} for number in range(EMPTY_ROWS)]
    if posted is not None:
        typed = _typed(posted)
        on_page = [{"id": row_id, **fields} for row_id, fields in typed if not row_id.startswith("n")]
        added = [{"id": row_id, **fields} for row_id, fields in typed if row_id.startswith("n")] or added
    return {
        "version": current,
        "shown": shown,
        "editable": shown.version == current.version,
        "wanted": wanted,
        "page": page,
        "pages": pages,
        "count": len(rows),
        "all": len(shown.rules),
        "rows": on_page,
        "added": added,
        "kinds": [(kind, KIND_WORDS[kind]) for kind in KINDS],
        "when_words": words.date,
    }


def edited(before: Sequence[Rule], posted: Posted) -> tuple[Rule, ...]:
    """The rules with what was typed in place of what was shown. Raises WrongRules."""
    kept: dict[int, Mapping[str, Any] | None] = {place: _row(rule) for place, rule in enumerate(before)}
    added: list[Mapping[str, Any]] = []
    for row_id, fields in _typed(posted):
        removed = fields.pop("remove", False)
        if row_id.startswith("n"):
            if not removed and (fields["value"] or fields["skill"]) and len(added) < MOST_ADDED:
                added.append(fields)
        elif int(row_id) in kept:
            kept[int(row_id)] = None if removed else fields
    return rules_from([fields for fields in (*kept.values(), *added) if fields is not None])


def _typed(posted: Posted) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name in posted:
        row = _ROW.fullmatch(name.decode("ascii", "replace"))
        if row is not None:
            row_id = row[1] + row[2]
            fields: dict[str, Any] = {field: _first(posted, f"{field}-{row_id}") for field in _FIELDS}
            fields["weight"] = fields["weight"].replace(",", ".")
            if _first(posted, f"remove-{row_id}"):
                fields["remove"] = True
            found.append((row_id, fields))
    return found


def _first(posted: Posted, name: str) -> str:
    values = posted.get(name.encode("ascii")) or [b""]
    return values[0].decode("utf-8", "replace").strip()


def _row(rule: Rule) -> dict[str, Any]:
    return {
        "when": rule.when,
        "value": rule.value,
        "skill": rule.skill,
        "weight": f"{rule.weight:g}" if float(f"{rule.weight:g}") == rule.weight else repr(rule.weight),
        "level": str(rule.level),
    }
