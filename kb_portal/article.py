"""Articles of the knowledge base: what one says, in a form that a template can draw and an index can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do; `tip` and `caution` stand out beside it."""

    title: str
    text: str
    tip: str = ""
    caution: str = ""


@dataclass(frozen=True, slots=True)
class Article:
    """`product_id` is None for an article about everything its provider sells (a bill, say).

    `skills` are those an agent needs to help with what the article is about; `tags` are the words of the trouble.
    `picture` names a file in static/img, and `picture_text` says what it shows.
    """

    id: str
    provider_id: str
    product_id: str | None
    slug: str
    title: str
    summary: str
    minutes: int
    picture: str
    picture_text: str
    needs: tuple[str, ...]
    steps: tuple[Step, ...]
    outcome: str
    tags: tuple[str, ...]
    skills: tuple[str, ...]
    updated_at: float

    def words(self) -> Iterator[str]:
        """Every piece of text a reader sees below the title and the summary."""
        yield from self.needs
        for step in self.steps:
            yield from (step.title, step.text, step.tip, step.caution)
        yield self.outcome


def body_to_json(article: Article) -> dict[str, Any]:
    """The parts of an article that are only ever read whole, as its table keeps them."""
    return {
        "minutes": article.minutes,
        "picture": article.picture,
        "picture_text": article.picture_text,
        "needs": list(article.needs),
        "steps": [
            {"title": s.title, "text": s.text, "tip": s.tip, "caution": s.caution} for s in article.steps
        ],
        "outcome": article.outcome,
    }


def article_from(facts: Mapping[str, Any], body: Mapping[str, Any]) -> Article:
    """An Article from the columns of its row, or from the head of a sample file, and its body.

    Raises KeyError or TypeError when something it cannot do without is missing.
    """
    return Article(
        id=facts["id"],
        provider_id=facts["provider_id"],
        product_id=facts["product_id"],
        slug=facts["slug"],
        title=facts["title"],
        summary=facts["summary"],
        minutes=int(body.get("minutes", 5)),
        picture=body.get("picture", ""),
        picture_text=body.get("picture_text", ""),
        needs=tuple(body.get("needs", ())),
        steps=tuple(Step(**step) for step in body["steps"]),
        outcome=body.get("outcome", ""),
        tags=tuple(facts["tags"]),
        skills=tuple(facts["skills"]),
        updated_at=facts["updated_at"],
    )
