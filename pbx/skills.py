"""Which skills a contact needs, from what was read, searched and owned. Pure, and it gives its reasons in words.

The rule, in plain words:

1. A skill that a rule names for the product itself is always required.
2. Reading an article about this product (or about no product) earns a point a second, at most `VIEW_LIMIT_S` for
   one view, for each skill that the article names or that a rule finds by its tag or its id, times the rule's
   weight. Reading fades: it counts half for each `HALF_LIFE_S` between it and the visit's last sign of life.
   The article from which help was asked earns `ASKED_POINTS` on top, however short the look at it was.
3. A search that a rule's word appears in earns `SEARCH_POINTS`, or `FAILED_SEARCH_POINTS` if it found nothing.
4. The skill with the most points is required if it has `REQUIRED_POINTS`, and with it each that has as many and at
   least `CLOSE` of the strongest's points.
5. Where nothing has earned so many, the product's own skills are required: those for a trouble nobody knows yet.
6. Nobody has to have what nobody has: a skill that no agent on the roster has together with the required ones
   before it is not required. All skills found are told to the agent, required or not.

Ties fall to the skill whose name sorts first, so the same trail always gives the same needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

VIEW_LIMIT_S = 180.0
HALF_LIFE_S = 1800.0
ASKED_POINTS = 30.0
SEARCH_POINTS = 20.0
FAILED_SEARCH_POINTS = 60.0
REQUIRED_POINTS = 20.0
CLOSE = 0.5


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
    """`when`: product, article, tag or search; `value`: the id, tag or word that must be met. Weight 1.0 is plain."""

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


def infer(
    trail: TrailLike | None,
    product: ProductFacts | None,
    rules: Iterable[Rule],
    *,
    article: ArticleLike | None = None,
    somebody_has: Callable[[frozenset[str]], bool] = lambda skills: True,
) -> Inference:
    """The skills a contact needs; `trail` None is a caller who read nothing, `product` None one who named none.

    `article` is the one help was asked from. `somebody_has` tells whether any agent, free or not, has all of them.
    """
    always: set[str] = set()
    # One reason per skill and thing done, however many rules led from one to the other: the strongest rule counts.
    by_tag: dict[str, dict[str, float]] = {}
    by_article: dict[str, dict[str, float]] = {}
    by_word: dict[str, dict[str, float]] = {}
    for rule in rules:
        if rule.when == "product":
            if product is not None and rule.value == product.id:
                always.add(rule.skill)
            continue
        index = {"tag": by_tag, "article": by_article, "search": by_word}.get(rule.when)
        if index is not None:
            skills = index.setdefault(rule.value.casefold(), {})
            skills[rule.skill] = max(rule.weight, skills.get(rule.skill, 0.0))

    points: dict[str, float] = {}
    reasons: dict[str, list[str]] = {}
    evidence = _evidence(trail, product, by_tag, by_article, by_word)
    if article is not None and _is_about(article.product_id, product):
        for skill, weight in _skills_of(article.id, article, by_tag, by_article).items():
            evidence.append((ASKED_POINTS * weight, skill, f"asked for help from '{article.title}'"))
    for amount, skill, reason in evidence:
        points[skill] = points.get(skill, 0.0) + amount
        if reason not in reasons.setdefault(skill, []):
            reasons[skill].append(reason)
    if product is not None:
        for skill in (*always, *product.skills):
            owned = f"{'owns' if product.owned else 'asked about'} {product.name}"
            if owned not in reasons.setdefault(skill, []):
                reasons[skill].append(owned)

    required = _required(always, points, product.skills if product is not None else (), somebody_has)
    needs = [
        Need(skill, round(points.get(skill, 0.0), 1), skill in required, tuple(its_reasons))
        for skill, its_reasons in reasons.items()
    ]
    needs.sort(key=lambda need: (not need.required, -need.weight, need.skill))
    return Inference(tuple(needs))


def _required(
    always: set[str],
    points: Mapping[str, float],
    otherwise: Iterable[str],
    somebody_has: Callable[[frozenset[str]], bool],
) -> frozenset[str]:
    """Rules 1 and 4 to 6."""
    # Sums of fractions differ in their last digits by the order they are added in; ties must not.
    ranked = sorted(points, key=lambda skill: (-round(points[skill], 6), skill))
    enough = max(REQUIRED_POINTS, CLOSE * points[ranked[0]]) if ranked else 0.0
    earned = [skill for skill in ranked if points[skill] >= enough]
    required: frozenset[str] = frozenset()
    for skill in (*sorted(always), *(earned or sorted(otherwise))):
        if somebody_has(required | {skill}):
            required |= {skill}
    return required


def _evidence(
    trail: TrailLike | None,
    product: ProductFacts | None,
    by_tag: dict[str, dict[str, float]],
    by_article: dict[str, dict[str, float]],
    by_word: dict[str, dict[str, float]],
) -> list[tuple[float, str, str]]:
    """(points, skill, reason) for everything read and searched, strongest reading first so that reasons read well."""
    if trail is None:
        return []
    moments = [view.opened_at + view.seconds for view in trail.views] + [
        search.at for search in trail.searches
    ]
    latest = max(moments, default=0.0)

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

    found: list[tuple[float, str, str]] = []
    for view, total, earned in read.values():
        if total < 1.0:
            continue
        for skill, weight in _skills_of(view.article_id or "", view, by_tag, by_article).items():
            found.append((earned * weight, skill, f"read '{view.title}' for {total:.0f} s"))
    found.sort(key=lambda item: (-item[0], item[1], item[2]))

    for search in trail.searches:
        words = _words(search.text)
        skills: dict[str, float] = {}
        for word, earns in by_word.items():
            if words.issuperset(_words(word)) and word:
                for skill, weight in earns.items():
                    skills[skill] = max(weight, skills.get(skill, 0.0))
        nothing = search.hits == 0
        base = FAILED_SEARCH_POINTS if nothing else SEARCH_POINTS
        reason = f"searched '{search.text}'" + (" and found nothing" if nothing else "")
        for skill, weight in sorted(skills.items()):
            found.append((base * weight * _fade(latest - search.at), skill, reason))
    return found


def _is_about(product_id: str | None, product: ProductFacts | None) -> bool:
    return product is None or product_id in (None, "", product.id)


def _skills_of(
    article_id: str,
    article: ArticleLike | ViewLike,
    by_tag: Mapping[str, Mapping[str, float]],
    by_article: Mapping[str, Mapping[str, float]],
) -> dict[str, float]:
    """The skills an article leads to, by its own word and by rules, each with the greatest weight of those."""
    skills: dict[str, float] = dict.fromkeys(article.skills, 1.0)
    for key, index in [(article_id, by_article), *((tag, by_tag) for tag in article.tags)]:
        for skill, weight in index.get(key.casefold(), {}).items():
            skills[skill] = max(weight, skills.get(skill, 0.0))
    return skills


def _fade(age_s: float) -> float:
    return float(0.5 ** (max(age_s, 0.0) / HALF_LIFE_S))


def _words(text: str) -> set[str]:
    kept = "".join(char if char.isalnum() else " " for char in text.casefold())
    return set(kept.split())
