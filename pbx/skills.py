"""Which skills a contact needs, from what was read, searched and owned. Pure, and it gives its reasons in words.

The rule, in plain words:

1. A skill that a rule names for the product itself is always required.
2. Reading an article about this product (or about no product) earns a point a second, at most `VIEW_LIMIT_S` for
   one view, for each skill that the article names or that a rule finds by its tag or its id, times the rule's
   weight; a rule for the very article has the last word. Reading fades: it counts half for each `HALF_LIFE_S`
   between it and the visit's last sign of life. The article from which help was asked earns `ASKED_POINTS` on top,
   however short the look at it was.
3. A search that a rule's word appears in earns `SEARCH_POINTS`, or `FAILED_SEARCH_POINTS` if it found nothing. One
   for an error code that a rule knows earns as much as that whatever it found: nothing tells a trouble more surely.
4. The skill with the most points is required if it has `REQUIRED_POINTS`, and with it each that has as many and at
   least `CLOSE` of the strongest's points.
5. Where nothing has earned so many, the product's own skills are required: those for a trouble nobody knows yet.
6. A skill is required at the highest level that a rule which led to it names; what no rule led to, at 1.
7. Nobody has to have what nobody has: a skill that no agent who serves the provider has together with the required
   ones before it is not required, and one that nobody has at its level is required at the highest somebody has.
   All skills found are told to the agent, required or not.

Ties fall to the skill whose name sorts first, so the same trail always gives the same needs.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

VIEW_LIMIT_S = 180.0
HALF_LIFE_S = 1800.0
ASKED_POINTS = 30.0
SEARCH_POINTS = 20.0
FAILED_SEARCH_POINTS = 60.0
REQUIRED_POINTS = 20.0
CLOSE = 0.5

KINDS = ("product", "article", "tag", "search", "error")
"""What a rule may look at."""


class ViewLike(Protocol):
    """One article read (`kb_portal.visit.PageView`)."""

    @property
    def article_id(self) -> str | None: ...
    @property
    def title(self) -> str: ...
    @property
    def product_id(self) -> str | None: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def skills(self) -> Sequence[str]: ...
    @property
    def opened_at(self) -> float: ...
    @property
    def seconds(self) -> float: ...


class ArticleLike(Protocol):
    """The article help was asked from (`kb_portal.article.Article`)."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def product_id(self) -> str | None: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def skills(self) -> Sequence[str]: ...


class SearchLike(Protocol):
    """One search made (`kb_portal.visit.Search`)."""

    @property
    def text(self) -> str: ...
    @property
    def at(self) -> float: ...
    @property
    def hits(self) -> int: ...


class TrailLike(Protocol):
    @property
    def views(self) -> Sequence[ViewLike]: ...
    @property
    def searches(self) -> Sequence[SearchLike]: ...


@dataclass(frozen=True, slots=True)
class ProductFacts:
    """The product asked about, and whether the one who asks has registered it as theirs."""

    id: str
    name: str
    skills: tuple[str, ...] = ()
    owned: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """`when`: one of KINDS; `value`: the id, tag, words or error code that must be met. Weight 1.0 is plain.

    `level` is the least an agent must have of the skill, 1 to 5, where this rule is why they need it.
    """

    when: str
    value: str
    skill: str
    weight: float = 1.0
    level: int = 1


@dataclass(frozen=True, slots=True)
class Need:
    """`level` is the least an agent must have of it, 1 to 5."""

    skill: str
    weight: float
    required: bool
    reasons: tuple[str, ...]
    level: int = 1


@dataclass(frozen=True, slots=True)
class Inference:
    skills: tuple[Need, ...]

    @property
    def required(self) -> frozenset[str]:
        return frozenset(need.skill for need in self.skills if need.required)

    @property
    def levels(self) -> frozenset[tuple[str, int]]:
        """The skills required, each with its least level."""
        return frozenset((need.skill, need.level) for need in self.skills if need.required)


@dataclass(frozen=True, slots=True)
class _Lead:
    """How strongly one thing leads to a skill, and which level rules then ask for."""

    weight: float
    level: int = 1

    def or_stronger(self, other: _Lead | None) -> _Lead:
        if other is None:
            return self
        return _Lead(max(self.weight, other.weight), max(self.level, other.level))


_Leads = dict[str, _Lead]  # by skill


@dataclass(slots=True)
class _Index:
    """The rules by what they look at, each value in the form in which it is compared."""

    product: dict[str, _Leads] = field(default_factory=dict)
    tag: dict[str, _Leads] = field(default_factory=dict)
    article: dict[str, _Leads] = field(default_factory=dict)
    search: dict[str, _Leads] = field(default_factory=dict)
    error: dict[str, _Leads] = field(default_factory=dict)

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> _Index:
        index = cls()
        for rule in rules:
            lead = _Lead(rule.weight, rule.level)
            # One reason per skill and thing done, however many rules led from one to the other: the strongest counts.
            match rule.when:
                case "product":
                    leads = index.product.setdefault(rule.value, {})
                case "tag":
                    leads = index.tag.setdefault(rule.value.casefold(), {})
                case "article":
                    leads = index.article.setdefault(rule.value.casefold(), {})
                case "search":
                    leads = index.search.setdefault(rule.value, {})
                case "error":
                    leads = index.error.setdefault(_code(rule.value), {})
                case _:
                    continue
            leads[rule.skill] = lead.or_stronger(leads.get(rule.skill))
        return index

    def of_article(self, article_id: str, article: ArticleLike | ViewLike) -> _Leads:
        """What an article leads to, by its own word and by rules."""
        leads = {skill: _Lead(1.0) for skill in article.skills}
        for tag in article.tags:
            for skill, lead in self.tag.get(tag.casefold(), {}).items():
                leads[skill] = lead.or_stronger(leads.get(skill))
        for skill, lead in self.article.get(article_id.casefold(), {}).items():
            known = leads.get(skill)
            leads[skill] = _Lead(lead.weight, max(lead.level, known.level if known else 1))
        return leads


@lru_cache(64)  # versions of rules: every contact of a provider is measured by the same
def _indexed(rules: tuple[Rule, ...]) -> _Index:
    return _Index.of(rules)


@dataclass(frozen=True, slots=True)
class _Evidence:
    points: float
    skill: str
    reason: str
    level: int


def infer(
    trail: TrailLike | None,
    product: ProductFacts | None,
    rules: Iterable[Rule],
    *,
    article: ArticleLike | None = None,
    somebody_has: Callable[[Mapping[str, int]], bool] = lambda levels: True,
) -> Inference:
    """The skills a contact needs; `trail` None is a caller who read nothing, `product` None one who named none.

    `article` is the one help was asked from. `somebody_has` tells whether any agent, free or not, has all of these
    skills at these levels.
    """
    index = _indexed(tuple(rules))
    always = index.product.get(product.id, {}) if product is not None else {}
    evidence = [*_read(trail, product, index), *_searched(trail, index)]
    if article is not None and _is_about(article.product_id, product):
        for skill, lead in index.of_article(article.id, article).items():
            reason = f"asked for help from '{article.title}'"
            evidence.append(_Evidence(ASKED_POINTS * lead.weight, skill, reason, lead.level))

    points: dict[str, float] = {}
    levels: dict[str, int] = {skill: lead.level for skill, lead in always.items()}
    reasons: dict[str, list[str]] = {}
    for each in evidence:
        if each.points <= 0.0:  # a rule says that this leads nowhere
            continue
        points[each.skill] = points.get(each.skill, 0.0) + each.points
        levels[each.skill] = max(each.level, levels.get(each.skill, 1))
        if each.reason not in reasons.setdefault(each.skill, []):
            reasons[each.skill].append(each.reason)
    if product is not None:
        for skill in (*always, *product.skills):
            owned = f"{'owns' if product.owned else 'asked about'} {product.name}"
            if owned not in reasons.setdefault(skill, []):
                reasons[skill].append(owned)

    own = product.skills if product is not None else ()
    required = _required(always, points, own, levels, somebody_has)
    needs = [
        Need(
            skill,
            round(points.get(skill, 0.0), 1),
            skill in required,
            tuple(its_reasons),
            required.get(skill, levels.get(skill, 1)),
        )
        for skill, its_reasons in reasons.items()
    ]
    needs.sort(key=lambda need: (not need.required, -need.weight, need.skill))
    return Inference(tuple(needs))


def leads_of(article_id: str, article: ArticleLike | ViewLike, rules: Iterable[Rule]) -> dict[str, float]:
    """The skills that reading this article earns points for, each with its weight."""
    leads = _indexed(tuple(rules)).of_article(article_id, article)
    return {skill: lead.weight for skill, lead in leads.items()}


def _required(
    always: Iterable[str],
    points: Mapping[str, float],
    otherwise: Iterable[str],
    levels: Mapping[str, int],
    somebody_has: Callable[[Mapping[str, int]], bool],
) -> dict[str, int]:
    """Rules 1 and 4 to 7: the skills required, with their levels."""
    # Sums of fractions differ in their last digits by the order they are added in; ties must not.
    ranked = sorted(points, key=lambda skill: (-round(points[skill], 6), skill))
    enough = max(REQUIRED_POINTS, CLOSE * points[ranked[0]]) if ranked else 0.0
    earned = [skill for skill in ranked if points[skill] >= enough]
    required: dict[str, int] = {}
    for skill in (*sorted(always), *(earned or sorted(otherwise))):
        for level in range(levels.get(skill, 1), 0, -1):
            if skill not in required and somebody_has({**required, skill: level}):
                required[skill] = level
    return required


def _read(trail: TrailLike | None, product: ProductFacts | None, index: _Index) -> list[_Evidence]:
    """Everything read, the strongest first so that reasons read well."""
    if trail is None:
        return []
    latest = _latest(trail)
    # Coming back to an article is reading on, not reading anew: views of one article add up.
    read: dict[str, tuple[ViewLike, float, float]] = {}
    for view in trail.views:
        if not _is_about(view.product_id, product):
            continue
        seconds = min(max(view.seconds, 0.0), VIEW_LIMIT_S)
        faded = seconds * _fade(latest - (view.opened_at + view.seconds))
        key = view.article_id or view.title
        first, total, earned = read.get(key, (view, 0.0, 0.0))
        read[key] = (first, total + max(view.seconds, 0.0), earned + faded)

    found: list[_Evidence] = []
    for view, total, earned in read.values():
        if total < 1.0:
            continue
        for skill, lead in index.of_article(view.article_id or "", view).items():
            reason = f"read '{view.title}' for {total:.0f} s"
            found.append(_Evidence(earned * lead.weight, skill, reason, lead.level))
    found.sort(key=lambda each: (-each.points, each.skill, each.reason))
    return found


def _searched(trail: TrailLike | None, index: _Index) -> Iterator[_Evidence]:
    """Everything searched for, in the order it was; a code that is also a word counts as the code."""
    if trail is None:
        return
    latest = _latest(trail)
    for search in trail.searches:
        faded = _fade(latest - search.at)
        nothing = " and found nothing" if search.hits == 0 else ""
        by_code = _met(index.error, _codes(search.text), lambda value: {value})
        for skill, lead in sorted(by_code.items()):
            reason = f"searched '{search.text}', an error code" + (nothing and f",{nothing}")
            yield _Evidence(FAILED_SEARCH_POINTS * lead.weight * faded, skill, reason, lead.level)
        base = FAILED_SEARCH_POINTS if search.hits == 0 else SEARCH_POINTS
        for skill, lead in sorted(_met(index.search, _words(search.text), _words).items()):
            if skill not in by_code:
                reason = f"searched '{search.text}'{nothing}"
                yield _Evidence(base * lead.weight * faded, skill, reason, lead.level)


def _met(index: Mapping[str, _Leads], searched: Set[str], parts: Callable[[str], Set[str]]) -> _Leads:
    """What is led to by those values whose every part was searched for."""
    leads: _Leads = {}
    for value, its_leads in index.items():
        wanted = parts(value)
        if any(wanted) and wanted <= searched:
            for skill, lead in its_leads.items():
                leads[skill] = lead.or_stronger(leads.get(skill))
    return leads


def _latest(trail: TrailLike) -> float:
    """The visit's last sign of life."""
    moments = [view.opened_at + view.seconds for view in trail.views]
    return max((*moments, *(search.at for search in trail.searches)), default=0.0)


def _is_about(product_id: str | None, product: ProductFacts | None) -> bool:
    return product is None or product_id in (None, "", product.id)


def _fade(age_s: float) -> float:
    return float(0.5 ** (max(age_s, 0.0) / HALF_LIFE_S))


@lru_cache(4096)  # of the rules' own words, which every contact is measured by
def _words(text: str) -> frozenset[str]:
    kept = "".join(char if char.isalnum() else " " for char in text.casefold())
    return frozenset(kept.split())


def _code(text: str) -> str:
    """An error code as it is compared: `E-119`, `e119` and `E.119` are one."""
    return "".join(char for char in text.casefold() if char.isalnum())


def _codes(text: str) -> set[str]:
    """Every word of a search as an error code may be written; `E 119` is one too."""
    tokens = [code for word in re.split(r"[^\w.\-\u2010-\u2015]+", text) if (code := _code(word))]
    joined = {first + second for first, second in itertools.pairwise(tokens) if second.isdigit()}
    return {*tokens, *joined}
