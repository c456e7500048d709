from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb_portal.article import Article, Step
from kb_portal.sample import articles
from kb_portal.search import ArticleIndex, fold, marked, words

SAMPLE = ArticleIndex(articles())
ALL = {"thermea", "lumio"}


def article(id: str, title: str, text: str = "") -> Article:
    return Article(id, "p", None, id, title, "", 5, "", "", (), (Step("Do", text),), "", (), (), 0.0)


def found(query: str, providers: set[str] = ALL, owned: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    return [hit.article.id for hit in SAMPLE.find(query, providers=providers, owned=owned)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("pressure keeps dropping", "boiler-200-pressure-drops"),
        ("PAIRING FAILS", "camera-s2-pairing-fails"),
        ("radiat cold", "boiler-200-cold-radiator"),
        ("how do I cancel my plan?", "lumio-plan"),
        ("presure gage", "boiler-200-pressure-drops"),
        ("kettle", "boiler-200-noise"),
    ],
)
def test_the_article_meant_comes_first(query: str, expected: str) -> None:
    assert found(query)[0] == expected


def test_nothing_beyond_the_walls_is_found() -> None:
    assert found("pairing", {"thermea"}) == ["thermostat-t1-pairing"]
    assert found("pairing", set()) == []


def test_what_is_owned_is_preferred_to_its_like() -> None:
    assert found("pairing", ALL, {"thermostat-t1"})[0] == "thermostat-t1-pairing"
    assert found("pairing", ALL, {"camera-s2"})[0] == "camera-s2-pairing-fails"


def test_a_title_counts_for_more_than_a_body() -> None:
    index = ArticleIndex([article("body", "Other", "valve " * 50), article("title", "The valve")])
    hits = index.find("valve", providers={"p"}, owned=())
    assert [hit.article.id for hit in hits] == ["title", "body"]


def test_all_words_are_wanted_but_most_will_do() -> None:
    index = ArticleIndex([article("both", "red lamp"), article("one", "red door")])
    assert [hit.article.id for hit in index.find("red lamp", providers={"p"}, owned=())] == ["both"]
    assert [hit.article.id for hit in index.find("lamp zzzzzz", providers={"p"}, owned=())] == ["both"]


def test_accents_and_case_do_not_matter() -> None:
    index = ArticleIndex([article("a", "Störung der Café-Maschine"), article("b", "Straße")])
    for query in ("storung", "STÖRUNG", "cafe", "café"):
        assert [hit.article.id for hit in index.find(query, providers={"p"}, owned=())] == ["a"]
    assert [hit.article.id for hit in index.find("strasse", providers={"p"}, owned=())] == ["b"]


@pytest.mark.parametrize("query", ["", "   ", "?!…", "\x00"])
def test_a_query_without_words_finds_nothing(query: str) -> None:
    assert found(query) == []


def test_a_query_of_small_words_alone_is_searched_as_it_stands() -> None:
    assert found("is it on") != []


def test_found_words_are_marked_where_they_stand() -> None:
    assert marked("The Pressure, pressing", "press") == [
        ("The ", False),
        ("Pressure", True),
        (", ", False),
        ("pressing", True),
    ]


@given(st.text(max_size=200), st.text(max_size=80))
def test_marking_changes_no_text(text: str, query: str) -> None:
    assert "".join(piece for piece, _ in marked(text, query)) == text


@given(st.text(max_size=300))
def test_any_text_may_be_searched(query: str) -> None:
    assert set(found(query, {"lumio"})) <= {a.id for a in articles() if a.provider_id == "lumio"}


@given(st.text(max_size=50))
def test_folding_twice_is_folding_once_for_the_words_found(text: str) -> None:
    for word in words(text):
        assert fold(word).casefold() == fold(word)
