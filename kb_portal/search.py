"""Full-text search over the articles: a small inverted index in memory, the same on every database.

Words are compared without case and accents, a word in a query also finds the words that begin with it, a misspelt one
is forgiven, and a title counts for more than a body. The index knows no customer: each search is told the walls.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from kb_portal.article import Article

_WORD = re.compile(r"\w+")
_TITLE, _TAG, _SUMMARY, _BODY = 8.0, 5.0, 3.0, 1.0
_WHOLE_WORD, _BEGINNING, _MISSPELT = 1.0, 0.5, 0.4
_CLOSE_ENOUGH = 0.8
MAX_WORDS = 12
_MOST_HITS = 20

# Words that say nothing about a trouble; a query of nothing else is searched as it stands.
_COMMON = frozenset([
    "a", "an", "and", "are", "at", "be", "do", "does", "for", "from", "i", "in", "is",
    "it", "its", "my", "not", "of", "on", "or", "that", "the", "this", "to", "with",
])  # fmt: skip


def fold(text: str) -> str:
    """Lower case without accents: what is compared when people type 'Leckt', 'leckt' or 'LÉCKT'."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def words(text: str) -> list[str]:
    return _WORD.findall(fold(text))


def query_words(text: str) -> list[str]:
    """The words of a query that are looked for, each once, in the order typed."""
    typed = list(dict.fromkeys(words(text)))[:MAX_WORDS]
    telling = [word for word in typed if word not in _COMMON]
    return telling or typed


@dataclass(frozen=True, slots=True)
class Hit:
    article: Article
    score: float


class ArticleIndex:
    """Immutable: build a new one when an article changes."""

    def __init__(self, articles: Iterable[Article]) -> None:
        self._articles = {article.id: article for article in articles}
        postings: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        for article in self._articles.values():
            for text, weight in _fields(article):
                for word in words(text):
                    # The tenth mention of a word says little more than the second.
                    held = postings[word][article.id]
                    postings[word][article.id] = max(held, weight) + min(held, weight) * 0.1
        self._postings = {word: dict(where) for word, where in postings.items()}
        self._vocabulary = sorted(self._postings)

    def find(self, text: str, *, providers: Collection[str], owned: Collection[str]) -> list[Hit]:
        """The articles of `providers` that have all words of the query; if none has, those with the most of them.

        Those about an `owned` product (ids) and about all a provider sells come first; among them the best.
        """
        asked = query_words(text)
        if not asked or not providers:
            return []
        found: defaultdict[str, list[float]] = defaultdict(list)
        for word in asked:
            for article_id, score in self._score(word, providers).items():
                found[article_id].append(score)
        most = max((len(scores) for scores in found.values()), default=0)
        hits = [
            Hit(article, sum(scores))
            for article, scores in ((self._articles[article_id], s) for article_id, s in found.items())
            if len(scores) == most
        ]

        def place(hit: Hit) -> tuple[bool, float, str]:
            about = hit.article.product_id
            return about is not None and about not in owned, -hit.score, hit.article.id

        hits.sort(key=place)
        return hits[:_MOST_HITS]

    def _score(self, word: str, providers: Collection[str]) -> dict[str, float]:
        """How well each article within the walls answers one word; one that none has is taken for a slip."""
        return self._weigh(self._beginning_with(word), providers) or self._weigh(self._like(word), providers)

    def _beginning_with(self, word: str) -> Iterable[tuple[str, float]]:
        for i in range(bisect_left(self._vocabulary, word), len(self._vocabulary)):
            candidate = self._vocabulary[i]
            if not candidate.startswith(word):
                return
            yield candidate, _WHOLE_WORD if candidate == word else _BEGINNING

    def _like(self, word: str) -> Iterable[tuple[str, float]]:
        if len(word) < 3 or word.isdecimal():  # of a number or a syllable, what is close is something else
            return
        for candidate in get_close_matches(word[:40], self._vocabulary, n=5, cutoff=_CLOSE_ENOUGH):
            yield candidate, _MISSPELT

    def _weigh(self, candidates: Iterable[tuple[str, float]], providers: Collection[str]) -> dict[str, float]:
        scores: dict[str, float] = {}
        for candidate, closeness in candidates:
            where = self._postings[candidate]
            # Rarity is counted within the walls too: what others write must not be felt from here.
            inside = [
                (a, weight) for a, weight in where.items() if self._articles[a].provider_id in providers
            ]
            rarity = 1.0 + math.log((1 + len(self._articles)) / (1 + len(inside)))
            for article_id, weight in inside:
                scores[article_id] = max(scores.get(article_id, 0.0), closeness * weight * rarity)
        return scores


def marked(text: str, query: str) -> list[tuple[str, bool]]:
    """The text cut into pieces, each with whether the query found it, for a page to highlight."""
    asked = query_words(query)
    pieces: list[tuple[str, bool]] = []
    end = 0
    for match in _WORD.finditer(text):
        if any(fold(match.group()).startswith(word) for word in asked):
            if match.start() > end:
                pieces.append((text[end : match.start()], False))
            pieces.append((match.group(), True))
            end = match.end()
    if end < len(text):
        pieces.append((text[end:], False))
    return pieces


def _fields(article: Article) -> Iterable[tuple[str, float]]:
    yield article.title, _TITLE
    for tag in article.tags:
        yield tag, _TAG
    yield article.summary, _SUMMARY
    for text in article.words():
        yield text, _BODY
