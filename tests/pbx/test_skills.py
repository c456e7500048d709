from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb_portal.visit import PageView, Search, Trail
from pbx.skills import Inference, ProductFacts, Rule, infer

CAMERA = ProductFacts("camera-s2", "Camera S2", ("video-diagnosis", "wifi-pairing"), owned=True)
RULES = (
    Rule("search", "wifi", "wifi-pairing"),
    Rule("search", "invoice", "billing"),
    Rule("tag", "night vision", "video-diagnosis"),
)


def view(
    title: str,
    seconds: float,
    *skills: str,
    at: float = 0.0,
    product: str | None = "camera-s2",
    tags: tuple[str, ...] = (),
) -> PageView:
    return PageView(title.lower().replace(" ", "-"), title, product, tags, at, seconds, "", skills)


def trail(*views: PageView, searches: tuple[Search, ...] = ()) -> Trail:
    return Trail("v_1", "maria", views, searches, ())


def reasons(found: Inference) -> dict[str, tuple[str, ...]]:
    return {need.skill: need.reasons for need in found.skills}


def test_reading_is_a_reason_in_words() -> None:
    found = infer(trail(view("Pairing fails", 74, "wifi-pairing")), CAMERA, RULES)
    assert reasons(found)["wifi-pairing"] == ("read 'Pairing fails' for 74 s", "owns Camera S2")


def test_the_same_product_read_about_differently_needs_different_skills() -> None:
    pairing = infer(trail(view("Pairing fails", 74, "wifi-pairing")), CAMERA, RULES)
    picture = infer(trail(view("Dark picture", 74, "video-diagnosis")), CAMERA, RULES)
    assert pairing.required == {"wifi-pairing"}
    assert picture.required == {"video-diagnosis"}


def test_longer_reading_wins_over_a_glance() -> None:
    found = infer(
        trail(
            view("Dark picture", 30, "video-diagnosis"), view("Pairing fails", 100, "wifi-pairing", at=40.0)
        ),
        CAMERA,
        (),
    )
    assert found.required == {"wifi-pairing"}


def test_views_of_one_article_add_up() -> None:
    found = infer(
        trail(view("Pairing fails", 14, "wifi-pairing"), view("Pairing fails", 14, "wifi-pairing", at=20.0)),
        CAMERA,
        (),
    )
    assert reasons(found)["wifi-pairing"][0] == "read 'Pairing fails' for 28 s"
    assert found.required == {"wifi-pairing"}


def test_a_page_left_open_over_lunch_does_not_outweigh_everything() -> None:
    found = infer(
        trail(
            view("Dark picture", 7200, "video-diagnosis"),
            view("Pairing fails", 150, "wifi-pairing", at=7200.0),
        ),
        CAMERA,
        (),
    )
    assert "wifi-pairing" in found.required


def test_what_was_read_lately_counts_more() -> None:
    found = infer(
        trail(
            view("Dark picture", 60, "video-diagnosis"), view("Pairing fails", 60, "wifi-pairing", at=5400.0)
        ),
        CAMERA,
        (),
    )
    assert found.required == {"wifi-pairing"}


def test_a_search_that_found_nothing_counts_and_says_so() -> None:
    found = infer(trail(searches=(Search("reset Wifi!", 5.0, 0),)), CAMERA, RULES)
    assert reasons(found)["wifi-pairing"][0] == "searched 'reset Wifi!' and found nothing"
    assert found.required == {"wifi-pairing"}


def test_reading_about_another_product_says_nothing_about_this_one() -> None:
    found = infer(trail(view("No hot water", 90, "heating", product="boiler-200")), CAMERA, RULES)
    assert "heating" not in reasons(found)


def test_a_caller_who_read_nothing_needs_what_the_product_needs() -> None:
    found = infer(None, ProductFacts("camera-s2", "Camera S2", ("wifi-pairing",)), RULES)
    assert found.required == {"wifi-pairing"}
    assert reasons(found) == {"wifi-pairing": ("asked about Camera S2",)}


def test_nobody_is_asked_for_what_nobody_has_together() -> None:
    both = trail(view("Schedule", 90, "heating", "smart-home"))
    found = infer(both, None, (), somebody_has=lambda levels: len(levels) < 2)
    assert found.required == {"heating"}
    assert set(reasons(found)) == {"heating", "smart-home"}


def test_a_rule_for_the_product_holds_whatever_was_read() -> None:
    rules = (Rule("product", "camera-s2", "lumio-certified"),)
    found = infer(trail(view("Pairing fails", 74, "wifi-pairing")), CAMERA, rules)
    assert found.required == {"lumio-certified", "wifi-pairing"}


def test_tags_lead_to_skills_by_rule() -> None:
    found = infer(trail(view("At night", 60, tags=("Night Vision",))), CAMERA, RULES)
    assert found.required == {"video-diagnosis"}


@pytest.mark.parametrize(
    "searched", ["E119", "e-119", "boiler shows E\u2011119!", "what is (E119)?", "E 119", "fault e.119."]
)
def test_an_error_code_is_met_however_it_is_written(searched: str) -> None:
    rules = (Rule("error", "E-119", "boiler-hydraulics", level=3),)
    found = infer(trail(searches=(Search(searched, 5.0, 4),)), CAMERA, rules)
    assert found.levels == {("boiler-hydraulics", 3)}
    assert reasons(found)["boiler-hydraulics"] == (f"searched '{searched}', an error code",)


@pytest.mark.parametrize("searched", ["E1190", "XE119", "119", "E 1 19", "E", ""])
def test_an_error_code_is_met_as_a_whole_word_only(searched: str) -> None:
    rules = (Rule("error", "E119", "boiler-hydraulics"),)
    assert "boiler-hydraulics" not in reasons(
        infer(trail(searches=(Search(searched, 5.0, 4),)), CAMERA, rules)
    )


def test_a_code_that_was_found_outweighs_a_word_that_was_found() -> None:
    rules = (Rule("error", "E119", "boiler-hydraulics"), Rule("search", "invoice", "billing"))
    found = infer(trail(searches=(Search("invoice", 1.0, 3), Search("E119", 1.0, 3))), CAMERA, rules)
    assert found.required == {"boiler-hydraulics"}


def test_the_highest_level_of_the_rules_that_led_there_is_required() -> None:
    rules = (
        Rule("tag", "night vision", "video-diagnosis", level=2),
        Rule("article", "at-night", "video-diagnosis", level=4),
        Rule("article", "another", "video-diagnosis", level=5),
        Rule("product", "camera-s2", "lumio-certified", level=3),
    )
    found = infer(trail(view("At night", 60, tags=("night vision",))), CAMERA, rules)
    assert found.levels == {("video-diagnosis", 4), ("lumio-certified", 3)}


def test_what_no_rule_led_to_needs_level_one() -> None:
    assert infer(trail(view("Pairing fails", 74, "wifi-pairing")), CAMERA, ()).levels == {("wifi-pairing", 1)}


def test_a_level_that_nobody_has_falls_to_the_highest_somebody_has() -> None:
    team = ({"heating": 3, "billing": 1}, {"heating": 5})
    rules = (
        Rule("search", "pump", "heating", level=5),
        Rule("product", "camera-s2", "billing", level=2),
    )
    found = infer(
        trail(searches=(Search("pump", 1.0, 0),)),
        CAMERA,
        rules,
        somebody_has=lambda levels: any(
            all(knows.get(skill, 0) >= level for skill, level in levels.items()) for knows in team
        ),
    )
    # Who knows billing at all knows heating at 3: nobody is asked for more than that together.
    assert found.levels == {("billing", 1), ("heating", 3)}


def test_a_rule_for_the_article_has_the_last_word() -> None:
    rules = (
        Rule("tag", "pairing", "wifi-pairing", 2.0),
        Rule("article", "pairing-fails", "wifi-pairing", 0.25),
        Rule("article", "pairing-fails", "billing", 0.75),
    )
    found = infer(trail(view("Pairing fails", 60, "wifi-pairing", tags=("pairing",))), CAMERA, rules)
    assert found.required == {"billing"}
    assert {need.skill: need.weight for need in found.skills}["wifi-pairing"] == 15.0


def test_what_a_rule_weighs_nothing_is_no_reason() -> None:
    rules = (Rule("article", "pairing-fails", "smart-home", 0.0),)
    found = infer(trail(view("Pairing fails", 60, "smart-home", "wifi-pairing")), CAMERA, rules)
    assert "smart-home" not in reasons(found)


skills = st.sampled_from(["a", "b", "c", "d"])
kinds_of_rules = st.builds(
    Rule,
    st.sampled_from(["product", "article", "tag", "search", "error"]),
    st.sampled_from(["camera-s2", "one", "two", "x", "pump", "E119"]),
    skills,
    st.sampled_from([0.0, 0.25, 1.0, 2.0, 10.0]),
    st.integers(1, 5),
)
searches = st.builds(
    Search, st.sampled_from(["pump", "E-119 pump", "nothing"]), st.floats(0, 4000), st.integers(0, 2)
)
teams = st.lists(st.dictionaries(skills, st.integers(1, 5), min_size=1), min_size=1, max_size=3)
views = st.builds(
    lambda title, seconds, its, at: view(title, seconds, *its, at=at),
    st.sampled_from(["One", "Two", "Three"]),
    st.floats(0, 4000),
    st.lists(skills, max_size=3, unique=True),
    st.floats(0, 10_000),
)


def test_what_rules_say_of_one_product_is_not_said_of_another() -> None:
    rules = (Rule("product", "camera-s2", "a", level=3), Rule("product", "boiler-200", "b"))
    camera, boiler = ProductFacts("camera-s2", "Camera S2"), ProductFacts("boiler-200", "Boiler 200")
    assert infer(None, camera, rules).levels == {("a", 3)}
    assert infer(None, boiler, rules).levels == {("b", 1)}
    assert infer(None, None, rules).levels == frozenset()


@given(st.lists(views, max_size=6), st.randoms(use_true_random=False))
def test_the_same_trail_gives_the_same_needs_in_whatever_order_rules_stand(
    seen: list[PageView], random: object
) -> None:
    rules = [Rule("tag", "x", "a"), *RULES]
    shuffled = list(rules)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert infer(trail(*seen), CAMERA, rules) == infer(trail(*seen), CAMERA, shuffled)


@given(st.lists(views, max_size=6))
def test_every_need_has_a_reason_and_what_is_required_somebody_has(seen: list[PageView]) -> None:
    has = frozenset({"a", "b", "wifi-pairing"})
    found = infer(trail(*seen), CAMERA, RULES, somebody_has=lambda levels: levels.keys() <= has)
    assert all(need.reasons for need in found.skills)
    assert found.required <= has


@given(
    st.lists(views, max_size=5), st.lists(searches, max_size=3), st.lists(kinds_of_rules, max_size=8), teams
)
def test_what_is_required_one_agent_has_and_no_rule_asks_for_less(
    seen: list[PageView], made: list[Search], rules: list[Rule], team: list[dict[str, int]]
) -> None:
    def somebody_has(levels: Mapping[str, int]) -> bool:
        return any(all(knows.get(skill, 0) >= level for skill, level in levels.items()) for knows in team)

    found = infer(trail(*seen, searches=tuple(made)), CAMERA, rules, somebody_has=somebody_has)
    assert somebody_has(dict(found.levels))
    highest = {skill: max((r.level for r in rules if r.skill == skill), default=1) for skill in "abcd"}
    for need in found.skills:
        assert need.reasons
        assert 1 <= need.level <= 5
        if need.skill in highest:
            assert need.level <= highest[need.skill]


TROUBLES = {"Pairing fails": "wifi-pairing", "Dark picture": "video-diagnosis", "The bill": "billing"}


@given(
    st.sampled_from(sorted(TROUBLES)), st.sampled_from(sorted(TROUBLES)), st.floats(25, 600), st.floats(1, 5)
)
def test_whatever_is_read_most_of_one_product_says_who_is_needed(
    read: str, glanced_at: str, seconds: float, glance: float
) -> None:
    seen = trail(
        view(glanced_at, glance, TROUBLES[glanced_at]), view(read, seconds, TROUBLES[read], at=glance)
    )
    assert infer(seen, CAMERA, RULES).required == {TROUBLES[read]}
