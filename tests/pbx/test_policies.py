"""What the settings of queues mean for a contact."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from config.queue_settings import Consequence, QueueSettings, Step
from pbx.choice_facts import pause_fact, queue_facts
from pbx.contact import Channel, Contact, Facts, Refusal
from pbx.limits import Limits
from pbx.policies import Policies, group_of, steps_of
from pbx.queue import Group
from pbx.skills import Need


def contact(*needs: Need, queue: str = "default", language: str | None = None) -> Contact:
    facts = Facts(
        id="c",
        channel=Channel.VOICE,
        asked_at=1000.0,
        provider_id="thermea",
        provider_name="Thermea",
        product_id="boiler",
        language=language,
    )
    return Contact(facts, needs=needs, queue=queue)


def need(skill: str, level: int = 1, weight: float = 0.0, *, required: bool = True) -> Need:
    return Need(skill, weight, required, (), level)


def test_the_first_queue_that_names_what_it_is_takes_it() -> None:
    policies = Policies(
        [
            QueueSettings("cameras", product="camera"),
            QueueSettings("hotline", provider="thermea", number="+15550200"),
            QueueSettings("voice", channel="voice"),
            QueueSettings("thermea", provider="thermea"),
            QueueSettings("patience"),
        ]
    )
    facts = contact().facts
    assert policies.queue_for(facts, "+15550200") == "hotline"
    assert policies.queue_for(facts) == "voice"
    assert Policies([QueueSettings("patience")]).queue_for(facts) == "default"


def test_a_contact_left_in_a_queue_that_is_no_longer_set_is_served_as_in_the_default_one() -> None:
    assert Policies([QueueSettings("default", max_wait_s=7.0)]).of("gone").max_wait_s == 7.0


def test_each_step_asks_for_less_and_says_from_when_on() -> None:
    it = contact(need("boiler", 4, 90.0), need("gas", 2, 10.0), need("wifi", 5, 50.0, required=False))
    steps = steps_of(it, (Step(60.0, lower=1), Step(120.0, drop=1), Step(180.0, lower=5, drop=9)))
    assert group_of(it).required == {("boiler", 4), ("gas", 2)}
    assert [(at, set(group.required)) for at, group in steps] == [
        (1060.0, {("boiler", 3), ("gas", 1)}),
        (1120.0, {("boiler", 3)}),  # the weakest goes, and what was lowered stays lowered
        (1180.0, set()),
    ]


def test_a_step_that_changes_nothing_is_none() -> None:
    assert steps_of(contact(need("boiler", 1)), (Step(60.0, lower=2), Step(90.0, any_language=True))) == ()


settings = st.lists(
    st.builds(
        Step,
        after_s=st.floats(0, 1000),
        lower=st.integers(0, 5),
        drop=st.integers(0, 4),
        any_language=st.booleans(),
    ),
    max_size=5,
)
needs = st.lists(
    st.builds(
        need,
        st.sampled_from(["a", "b", "c", "d"]),
        st.integers(1, 5),
        st.floats(0, 100),
        required=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda each: each.skill,
)


@given(needs, settings, st.sampled_from([None, "de"]))
def test_no_wall_falls_and_nothing_is_ever_asked_for_more(
    wanted: list[Need], relax: list[Step], language: str | None
) -> None:
    it = contact(*wanted, language=language)
    before: Group = group_of(it)
    for _, group in steps_of(it, sorted(relax, key=lambda step: step.after_s)):
        assert (group.provider_id, group.channel, group.queue) == ("thermea", "voice", "default")
        assert group.language in (None, before.language)
        levels = dict(before.required)
        assert all(1 <= level <= levels[skill] for skill, level in group.required)
        before = group


def test_its_place_is_when_it_was_asked_for_less_the_head_start_of_its_queue() -> None:
    it = contact(queue="gold")
    waiting = Policies([QueueSettings("gold", channel="voice", priority_s=60.0)]).waiting(it, kept=False)
    assert (waiting.place, waiting.asked_at) == (940.0, 1000.0)
    it.place_at = 900.0
    assert Policies().waiting(it, kept=False).place == 900.0


def test_it_is_kept_for_who_helped_last_while_they_are_there_and_have_not_refused_it() -> None:
    policies = Policies([QueueSettings("default", prefer_last_s=20.0)])
    it = contact()
    it.preferred_agent_id = "ana"
    assert policies.waiting(it, kept=True).preferred_until == 1020.0
    there_no_more = policies.waiting(it, kept=False)
    assert (there_no_more.preferred, there_no_more.preferred_until) == ("ana", 0.0)
    it.refusals["ana"] = Refusal(1001.0, "declined", 1031.0)
    assert policies.preferred_until(it) == 0.0
    assert Policies().waiting(it, kept=True).preferred is None


def test_who_refused_it_and_until_when_they_are_left_alone() -> None:
    it = contact()
    it.refusals = {"ana": Refusal(1001.0, "declined", math.inf), "bo": Refusal(1009.0, "busy", 1024.0)}
    waiting = Policies().waiting(it, kept=False)
    assert dict(waiting.refusals) == {"ana": math.inf, "bo": 1024.0}
    assert waiting.last_refused == "bo"


def test_every_outcome_has_its_consequence() -> None:
    policies = Policies([QueueSettings("default", no_answer=Consequence(5.0, 3))])
    assert policies.consequence(contact(), "no_answer") == Consequence(5.0, 3)
    assert policies.consequence(contact(), "asleep") == Consequence(15.0, 0)


def test_settings_are_told_in_json() -> None:
    facts = queue_facts(QueueSettings("a", declined=Consequence(math.inf), relax=(Step(60.0, lower=1),)))
    assert facts["declined"] == {"pause_s": "never", "not_ready_after": 0}
    assert facts["relax"] == [{"after_s": 60.0, "lower": 1, "drop": 0, "any_language": False}]
    assert pause_fact(3.0) == 3.0


def test_limits_come_up_in_their_order_and_each_once() -> None:
    limits = Limits()
    limits.begin("late", 30.0)
    limits.begin("early", 10.0)
    limits.begin("dropped", 5.0)
    limits.drop("dropped")
    assert limits.next() == 10.0
    assert limits.due(10.0) == ["early"]
    assert limits.due(10.0) == []
    assert limits.due(99.0) == ["late"]


def test_one_that_was_being_offered_when_its_limit_came_is_due_when_it_is_back() -> None:
    limits = Limits()
    limits.begin("c", 10.0)
    assert limits.due(12.0) == ["c"]
    limits.begin("c", 999.0)
    assert limits.due(12.0) == ["c"]


def test_limits_of_contacts_long_over_are_forgotten() -> None:
    limits = Limits()
    for number in range(10_000):
        limits.begin(f"c{number}", 1800.0)
        limits.drop(f"c{number}")
    assert len(limits._heap) < 200
