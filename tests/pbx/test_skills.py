from __future__ import annotations

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
    found = infer(both, None, (), somebody_has=lambda skills: len(skills) < 2)
    assert found.required == {"heating"}
    assert set(reasons(found)) == {"heating", "smart-home"}


def test_a_rule_for_the_product_holds_whatever_was_read() -> None:
    rules = (Rule("product", "camera-s2", "lumio-certified"),)
    found = infer(trail(view("Pairing fails", 74, "wifi-pairing")), CAMERA, rules)
    assert found.required == {"lumio-certified", "wifi-pairing"}


def test_tags_lead_to_skills_by_rule() -> None:
    found = infer(trail(view("At night", 60, tags=("Night Vision",))), CAMERA, RULES)
    assert found.required == {"video-diagnosis"}


skills = st.sampled_from(["a", "b", "c", "d"])
views = st.builds(
    lambda title, seconds, its, at: view(title, seconds, *its, at=at),
    st.sampled_from(["One", "Two", "Three"]),
    st.floats(0, 4000),
    st.lists(skills, max_size=3, unique=True),
    st.floats(0, 10_000),
)


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
    found = infer(trail(*seen), CAMERA, RULES, somebody_has=lambda skills: skills <= has)
    assert all(need.reasons for need in found.skills)
    assert found.required <= has
