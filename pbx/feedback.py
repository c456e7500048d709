"""What an agent says was the wrong skill changes the rules, a little: the same trail leads to the right one in the end.

The articles that led to the wrong skill (the one help was asked from, and those read most) count `STEP` less for it
and `STEP` more for the one that was needed, up to `MOST_LEARNT`. Each such change is a version of the rules like any
other: with an author and a note, and it can be put back. One contact changes the rules at most once, and a provider's
rules change so at most `MOST_A_DAY` times a day, by one agent's word `MOST_OF_ONE_A_DAY`: nobody bends them alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from config.errors import TheirError
from pbx.contact import Contact
from pbx.rule_text import MOST_RULES
from pbx.rules import LONGEST_NOTE, Rules
from pbx.skills import Rule, leads_of
from pbx.store import PbxStore, RuleVersion

AUTHOR = "wrong-skill feedback"
STEP = 0.25
MOST_LEARNT = 2.0
MOST_A_DAY = 20
MOST_OF_ONE_A_DAY = 5
MOST_ARTICLES = 3
LEAST_READ_S = 10.0
DAY_S = 86400.0
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Read:
    """An article that a contact's customer read, or asked from, with what it says of itself."""

    article_id: str
    title: str
    tags: tuple[str, ...]
    skills: tuple[str, ...]
    product_id: str | None = None
    opened_at: float = 0.0
    seconds: float = 0.0


class Feedback:
    """`trail_of` gives what a contact's customer read about its provider, the most telling first; `skills` what those
    who serve a provider know.

    `now` is wall time in epoch seconds.
    """

    def __init__(
        self,
        rules: Rules,
        store: PbxStore,
        trail_of: Callable[[Contact], Awaitable[Sequence[Read]]],
        now: Callable[[], float],
        *,
        skills: Callable[[str], Collection[str]],
    ) -> None:
        self._rules = rules
        self._store = store
        self._trail_of = trail_of
        self._now = now
        self._skills = skills
        self._one_at_a_time = asyncio.Lock()

    async def wrong_skill(self, contact: Contact, needed: str, agent_id: str) -> RuleVersion | None:
        """The agent says that `needed` was needed. The new rules; None where there was nothing to learn."""
        async with self._one_at_a_time:
            if needed not in self._skills(contact.facts.provider_id) or await self._enough(contact, agent_id):
                return None
            read = await self._trail_of(contact)
            wrong = {need.skill for need in contact.needs if need.required} - {needed}
            for _ in range(_TRIES):
                current = self._rules.current(contact.facts.provider_id)
                learnt = learn(current.rules, read[:MOST_ARTICLES], wrong, needed)
                if learnt is None:
                    return None
                rules, what = learnt
                by = _by(agent_id)
                note = f"{_about(contact)}{what}"[: LONGEST_NOTE - len(by)] + by
                try:
                    return await self._rules.put(
                        current.provider_id, rules, author=AUTHOR, note=note, base=current.version
                    )
                except TheirError as error:
                    if error.status != 409:
                        raise
        return None

    async def _enough(self, contact: Contact, agent_id: str) -> bool:
        since = min(self._now() - DAY_S, contact.facts.asked_at)
        lately = await self._store.rule_history(
            contact.facts.provider_id, author=AUTHOR, since=since, limit=1000
        )
        today = [version.note for version in lately if version.at > self._now() - DAY_S]
        return (
            len(today) >= MOST_A_DAY
            or sum(note.endswith(_by(agent_id)) for note in today) >= MOST_OF_ONE_A_DAY
            or any(version.note.startswith(_about(contact)) for version in lately)
        )


def learn(
    rules: Sequence[Rule], read: Iterable[Read], wrong: Iterable[str], needed: str
) -> tuple[tuple[Rule, ...], str] | None:
    """The rules after one such word, and what was changed; None: nothing. Pure."""
    wrong = set(wrong)
    known = [(each, leads_of(each.article_id, each, rules)) for each in read]
    # Those that led astray; where nothing that was read did (it was the product's own skill, say), all of them.
    guilty = [(each, leads) for each, leads in known if any(leads.get(skill, 0.0) > 0.0 for skill in wrong)]
    changed = list(rules)
    titles: list[str] = []
    lowered: set[str] = set()
    for each, leads in guilty or known:
        before = leads.get(needed, 0.0)
        weights = {needed: min(before + STEP, MOST_LEARNT)} if before < MOST_LEARNT else {}
        for skill in wrong:
            if leads.get(skill, 0.0) > 0.0:
                weights[skill] = max(leads[skill] - STEP, 0.0)
                lowered.add(skill)
        if weights:
            titles.append(f"'{each.title}'")
        for skill, weight in sorted(weights.items()):
            _weigh(changed, each.article_id, skill, weight)
    if not titles or len(changed) > MOST_RULES:
        return None
    instead = f", not {' or '.join(sorted(lowered))}" if lowered else ""
    return tuple(changed), f"{needed} was needed{instead}: {', '.join(titles)}"


def _weigh(rules: list[Rule], article_id: str, skill: str, weight: float) -> None:
    for place, rule in enumerate(rules):
        same = rule.when == "article" and rule.value.casefold() == article_id.casefold()
        if same and rule.skill == skill:
            rules[place] = replace(rule, weight=weight)
            return
    rules.append(Rule("article", article_id, skill, weight))


def _about(contact: Contact) -> str:
    return f"Contact {contact.id}: "


def _by(agent_id: str) -> str:
    return f" ({agent_id})"
