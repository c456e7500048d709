"""Rules are versions: checked in words, never changed under anybody's hands, taught by what agents say was wrong."""

from __future__ import annotations

import asyncio
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import TheirError
from kb_portal.article import Article
from kb_portal.tracking import Tracker
from pbx import sample
from pbx.contact import Contact
from pbx.dossier import highest_levels
from pbx.feedback import AUTHOR, MOST_A_DAY, MOST_LEARNT, MOST_OF_ONE_A_DAY, Feedback, Read, learn
from pbx.rule_text import WrongRules, as_toml, read_file, rules_from, rules_of
from pbx.rules import LOOK_EVERY_S, Rules
from pbx.skills import Rule
from pbx.store import RuleVersion
from tests.pbx.centre import Centre

INVOICE = Rule("search", "invoice", "billing")
PUMP = Rule("search", "pump", "heating", 0.5, 3)


async def centre_with_agents() -> Centre:
    centre = await Centre.open()
    await centre.agent("ana", heating=4)
    await centre.agent("bo", billing=2)
    return centre


def another_process(centre: Centre) -> Rules:
    return Rules(
        centre.store,
        centre.house.events,
        centre.house.now,
        highest=lambda provider_id: highest_levels(centre.house.roster, provider_id),
    )


def feedback_in(centre: Centre) -> Feedback:
    return Feedback(
        centre.rules,
        centre.store,
        centre.dossiers.read_by,
        centre.house.now,
        skills=lambda provider_id: highest_levels(centre.house.roster, provider_id),
    )


# Versions


async def test_a_version_is_in_force_at_once_and_the_old_ones_stay() -> None:
    centre = await centre_with_agents()
    rules = centre.rules
    assert rules.current("thermea") == RuleVersion("thermea", 0)
    await rules.put("thermea", [INVOICE], author="ana", note=" the first ", base=0)
    await rules.put("thermea", [INVOICE, PUMP], author="bo", note="pumps", base=1)
    assert rules.current("thermea").rules == (INVOICE, PUMP)
    assert rules.current("lumio").rules == ()
    told = [(each.version, each.author, each.note) for each in await rules.history("thermea")]
    assert told == [(2, "bo", "pumps"), (1, "ana", "the first")]
    assert (await rules.version("thermea", 1)).rules == (INVOICE,)
    changed = [event.facts["version"] for event in centre.events("rules.changed")]
    assert changed == [1, 2]
    with pytest.raises(TheirError) as refused:
        await rules.version("thermea", 9)
    assert refused.value.status == 404


async def test_of_two_who_edit_at_once_the_second_is_told() -> None:
    centre = await centre_with_agents()
    await centre.rules.put("thermea", [INVOICE], author="ana", note="", base=0)
    with pytest.raises(TheirError, match="Version 1 by ana came in between") as refused:
        await centre.rules.put("thermea", [PUMP], author="bo", note="", base=0)
    assert refused.value.status == 409
    # The same from another process, which learns of it only by the database.
    with pytest.raises(TheirError) as refused:
        await another_process(centre).put("thermea", [PUMP], author="bo", note="", base=0)
    assert refused.value.status == 409
    at_once = [
        centre.rules.put("thermea", [PUMP], author="bo", note="", base=1),
        another_process(centre).put("thermea", [INVOICE, PUMP], author="carla", note="", base=1),
    ]
    outcomes = await asyncio.gather(*at_once, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["RuleVersion", "TheirError"]
    assert len(await centre.rules.history("thermea")) == 2


async def test_an_earlier_version_is_put_back_as_a_new_one() -> None:
    centre = await centre_with_agents()
    await centre.rules.put("thermea", [INVOICE], author="ana", note="", base=0)
    await centre.rules.put("thermea", [], author="ana", note="", base=1)
    await centre.rules.put_back("thermea", 1, author="bo", base=2)
    assert centre.rules.current("thermea").rules == (INVOICE,)
    assert (await centre.rules.history("thermea"))[0].note == "version 1 again"


async def test_what_another_process_puts_is_noticed_within_seconds() -> None:
    centre = await centre_with_agents()
    centre.rules.start(centre.clock)
    await another_process(centre).put("thermea", [INVOICE], author="the command line", note="")
    assert centre.rules.current("thermea").version == 0
    await centre.passes(LOOK_EVERY_S)
    assert centre.rules.current("thermea").rules == (INVOICE,)
    await another_process(centre).put("thermea", [PUMP], author="the command line", note="")
    await centre.passes(LOOK_EVERY_S)
    assert centre.rules.current("thermea").version == 2
    centre.rules.stop()


async def test_the_rules_outlive_the_process() -> None:
    centre = await centre_with_agents()
    await centre.rules.put("thermea", [INVOICE], author="ana", note="")
    centre = await centre.again()
    assert centre.rules.current("thermea").rules == (INVOICE,)


async def test_the_next_contact_is_inferred_by_the_new_rules() -> None:
    centre = await centre_with_agents()
    tracker = Tracker(centre.portal, centre.house.events, centre.house.now)
    await tracker.searched("maria", "my invoice", 0)
    await centre.rules.put("thermea", [INVOICE], author="ana", note="")
    contact = await centre.asks("maria", "chat", "hello")
    assert contact.needs[0].skill == "billing"
    inferred = centre.events("contact.skills_inferred")[0].facts
    assert inferred["rules_version"] == 1
    assert inferred["skills"][0]["level"] == 1


async def test_the_sample_puts_its_rules_once() -> None:
    centre = await Centre.open()
    await sample.seed(centre.store)
    await sample.seed(centre.store)
    await centre.rules.load()
    assert centre.rules.current("thermea").rules == sample.RULES["thermea"]
    assert rules_from([vars_of(rule) for rule in sample.RULES["lumio"]]) == sample.RULES["lumio"]


# Checked, in words


def vars_of(rule: Rule) -> dict[str, object]:
    return {
        "when": rule.when,
        "value": rule.value,
        "skill": rule.skill,
        "weight": rule.weight,
        "level": rule.level,
    }


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ({"when": "artcle", "value": "x", "skill": "a"}, "there is no kind 'artcle'"),
        ({"when": "tag", "value": "", "skill": "a"}, "value is missing"),
        ({"when": "tag", "skill": "a"}, "value is missing"),
        (
            {"when": "tag", "value": "x", "skill": "a", "weight": 11},
            "the weight should be a number from 0 to 10",
        ),
        ({"when": "tag", "value": "x", "skill": "a", "weight": "nan"}, "the weight should be"),
        ({"when": "tag", "value": "x", "skill": "a", "weight": True}, "the weight should be"),
        ({"when": "tag", "value": "x", "skill": "a", "weight": 10**400}, "the weight should be"),
        (
            {"when": "tag", "value": "x", "skill": "a", "level": 0},
            "the level should be a whole number from 1 to 5",
        ),
        ({"when": "tag", "value": "x", "skill": "a", "level": 2.5}, "the level should be"),
        ({"when": "tag", "value": "x", "skill": "a", "wieght": 1}, "'wieght' is no key of a rule"),
        ({"when": "tag", "value": "x" * 201, "skill": "a"}, "value should be a short text"),
        ({"when": "tag", "value": "x\ny", "skill": "a"}, "value should be a short text"),
        ("tag x a", "it should have the keys"),
        (None, "it should have the keys"),
    ],
)
def test_what_is_wrong_with_a_rule_is_told_with_its_number(raw: object, fault: str) -> None:
    with pytest.raises(WrongRules, match="Rule 2: ") as refused:
        rules_from([vars_of(INVOICE), raw])
    assert fault in refused.value.reason
    assert refused.value.status == 422


def test_all_faults_are_told_at_once_and_doubles_are_found() -> None:
    twice = {**vars_of(INVOICE), "value": "Invoice", "weight": 2}
    with pytest.raises(WrongRules) as refused:
        rules_from([vars_of(INVOICE), {"when": "x"}, twice])
    assert len(refused.value.faults) == 4
    assert refused.value.faults[-1] == "Rule 3 is the same as rule 1: one of them should go."


def test_more_rules_than_a_provider_may_have_are_refused() -> None:
    with pytest.raises(WrongRules, match="a provider may have 2000"):
        rules_from([vars_of(Rule("search", f"word {number}", "billing")) for number in range(2001)])


@pytest.mark.parametrize("raw", ["rules", 7, None, {"when": "tag"}])
def test_what_is_no_list_is_no_rules(raw: object) -> None:
    with pytest.raises(WrongRules):
        rules_from(raw)


@pytest.mark.parametrize(
    ("text", "name"),
    [("[[rules", "a.toml"), ("{", "a.json"), ("7", "a.json"), ("[" * 100_000, "a.json"), ("\x00", "a.toml")],
)
def test_a_file_that_cannot_be_read_is_told(text: str, name: str) -> None:
    with pytest.raises(WrongRules, match=name):
        read_file(text, name=name)


async def test_a_skill_that_nobody_has_is_a_warning_only() -> None:
    centre = await centre_with_agents()
    odd = [
        Rule("tag", "x", "magic"),
        Rule("tag", "y", "heating", level=5),
        Rule("tag", "z", "heating", level=4),
    ]
    assert centre.rules.warnings("thermea", odd) == [
        "Nobody has heating at 5: it will be required at 4, the highest there is.",
        "Nobody has magic: what leads to it alone requires nothing.",
    ]
    await centre.rules.put("thermea", odd, author="ana", note="")


texts = st.text(st.sampled_from(string.ascii_letters + string.digits + ' .-_"\\äß…'), min_size=1).map(
    str.strip
)
some_rules = st.lists(
    st.builds(
        Rule,
        st.sampled_from(["product", "article", "tag", "search", "error"]),
        texts.filter(bool),
        texts.filter(bool),
        st.floats(0, 10),
        st.integers(1, 5),
    ),
    unique_by=lambda rule: (rule.when, rule.value.casefold(), rule.skill),
    max_size=10,
)


@given(some_rules)
def test_rules_written_to_a_file_read_back_the_same(rules: list[Rule]) -> None:
    tables = read_file(as_toml('ther"mea', rules), name="x.toml")
    assert rules_of(tables, 'ther"mea') == (tuple(rules) if rules else None)


# Taught by what agents say


ARTICLE = Read("no-hot-water", "No hot water", ("water",), ("heating",))


def test_after_a_few_such_words_the_right_skill_leads() -> None:
    rules: tuple[Rule, ...] = ()
    what = ""
    for _ in range(3):
        learnt = learn(rules, [ARTICLE], {"heating"}, "billing")
        assert learnt is not None
        rules, what = learnt
    assert rules == (
        Rule("article", "no-hot-water", "billing", 0.75),
        Rule("article", "no-hot-water", "heating", 0.25),
    )
    assert what == "billing was needed, not heating: 'No hot water'"


@given(some_rules, st.integers(1, 30))
def test_what_is_learnt_stays_within_its_bounds(rules: list[Rule], times: int) -> None:
    changed = tuple(rules)
    before = dict(_weights(changed))
    for _ in range(times):
        learnt = learn(changed, [ARTICLE], {"heating"}, "billing")
        if learnt is None:
            break
        changed = learnt[0]
    assert rules_from([vars_of(rule) for rule in changed]) == changed
    for (when, value, skill), weight in _weights(changed):
        assert weight >= 0.0
        if skill == "billing":
            assert weight <= max(MOST_LEARNT, before.get((when, value, skill), 0.0))


def _weights(rules: tuple[Rule, ...]) -> list[tuple[tuple[str, str, str], float]]:
    return [((rule.when, rule.value, rule.skill), rule.weight) for rule in rules]


async def reading_centre() -> Centre:
    centre = await centre_with_agents()
    await centre.portal.add_article(
        Article(
            "no-hot-water", "thermea", "boiler", "no-hot-water", "No hot water", "", 5, "", "", (), (), "",
            ("water",), ("heating",), 0.0,
        )
    )  # fmt: skip
    return centre


async def asks_from_the_article(centre: Centre, customer: str) -> Contact:
    contact = await centre.desk.request(customer, "chat", "boiler", "no-hot-water", None, "hello")
    await centre.settle()
    return contact


async def test_the_same_trail_leads_to_the_needed_skill_after_a_few_words_of_agents() -> None:
    centre = await reading_centre()
    feedback = feedback_in(centre)
    for _ in range(3):
        contact = await asks_from_the_article(centre, "maria")
        assert "heating" in {need.skill for need in contact.needs if need.required}
        assert await feedback.wrong_skill(contact, "billing", "agent-ana") is not None
        assert await feedback.wrong_skill(contact, "billing", "agent-ana") is None, "once for each contact"
        await centre.desk.end(contact.id, "customer")
        await centre.settle()
    contact = await asks_from_the_article(centre, "maria")
    assert {need.skill for need in contact.needs if need.required} == {"billing"}
    latest = (await centre.rules.history("thermea"))[0]
    assert (latest.version, latest.author) == (3, AUTHOR)
    assert "billing was needed, not heating: 'No hot water' (agent-ana)" in latest.note
    await centre.rules.put_back("thermea", 1, author="bo", base=3)
    assert len(centre.rules.current("thermea").rules) == 2


async def test_a_day_has_room_for_so_many_such_words_only() -> None:
    centre = await reading_centre()
    feedback = feedback_in(centre)
    for number in range(MOST_A_DAY + 3):
        contact = await asks_from_the_article(centre, "maria")
        await feedback.wrong_skill(contact, "billing", f"agent-{number}")
        # A supervisor puts it right each time, so that there is something to learn again.
        current = centre.rules.current("thermea")
        await centre.rules.put("thermea", [], author="carla", note="", base=current.version)
        await centre.desk.end(contact.id, "customer")
        await centre.settle()
    made = [each for each in await centre.rules.history("thermea") if each.author == AUTHOR]
    assert len(made) == MOST_A_DAY


async def test_a_skill_that_nobody_has_teaches_nothing() -> None:
    centre = await reading_centre()
    feedback = feedback_in(centre)
    contact = await asks_from_the_article(centre, "maria")
    assert await feedback.wrong_skill(contact, "magic", "agent-ana") is None
    assert centre.rules.current("thermea").version == 0


async def test_nobody_bends_the_rules_alone() -> None:
    centre = await reading_centre()
    feedback = feedback_in(centre)
    for _ in range(MOST_OF_ONE_A_DAY + 2):
        contact = await asks_from_the_article(centre, "maria")
        await feedback.wrong_skill(contact, "billing", "agent-ana")
        current = centre.rules.current("thermea")
        await centre.rules.put("thermea", [], author="carla", note="", base=current.version)
        await centre.desk.end(contact.id, "customer")
        await centre.settle()
    made = [each for each in await centre.rules.history("thermea") if each.author == AUTHOR]
    assert len(made) == MOST_OF_ONE_A_DAY


async def test_a_skill_of_other_providers_agents_teaches_nothing() -> None:
    centre = await reading_centre()
    await centre.house.roster.add_agent("Lu", "lu", "hash", skills={"cameras": 5}, provider_ids=("lumio",))
    feedback = feedback_in(centre)
    contact = await asks_from_the_article(centre, "maria")
    assert await feedback.wrong_skill(contact, "cameras", "agent-ana") is None
    assert centre.rules.current("thermea").version == 0
