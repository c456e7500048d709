from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pbx.queue import Group, Queue, Waiting
from pbx.router import Floor, FreeAgent, FreeAgents, Nobody, Pair, choose

SKILLS = ("heat", "wifi", "bill")
NOW = 1000.0


def agent(
    name: str,
    *skills: str,
    since: float = 0.0,
    providers: str = "",
    channels: str = "voice",
    standby: bool = False,
) -> FreeAgent:
    return FreeAgent(
        name, frozenset(skills), frozenset(providers.split()), frozenset(channels.split()), since, standby
    )


def waiting(name: str, *skills: str, at: float = 0.0, channel: str = "voice", **refusals: float) -> Waiting:
    return Waiting(name, Group("thermea", channel, frozenset(skills)), at, refusals)


def floor(*entries: FreeAgent | Waiting) -> Floor:
    made = Floor(Queue(), FreeAgents())
    for entry in entries:
        if isinstance(entry, FreeAgent):
            made.free.put(entry)
        else:
            made.queue.add(entry)
    return made


def chosen(*entries: FreeAgent | Waiting, now: float = NOW) -> tuple[str, str] | None:
    found = choose(floor(*entries), now)
    return (found.contact_id, found.agent_id) if isinstance(found, Pair) else None


def test_the_longest_idle_agent_with_the_skills_gets_the_longest_waiting_contact() -> None:
    assert chosen(
        agent("ana", "heat", since=5),
        agent("bo", "heat", since=2),
        waiting("late", "heat", at=9),
        waiting("early", "heat", at=1),
    ) == ("early", "bo")


def test_an_agent_without_the_skill_is_never_chosen() -> None:
    assert chosen(agent("bo", "wifi"), waiting("c", "heat")) is None


def test_an_agent_whose_phones_cannot_carry_the_channel_is_never_chosen() -> None:
    assert chosen(agent("bo", "wifi", channels="chat voice"), waiting("c", "wifi", channel="video")) is None


def test_an_agent_behind_another_providers_wall_is_never_chosen() -> None:
    assert chosen(agent("bo", "wifi", providers="lumio"), waiting("c", "wifi")) is None


def test_a_contact_nobody_can_serve_does_not_hold_up_those_behind_it() -> None:
    assert chosen(agent("bo", "wifi"), waiting("stuck", "heat", at=1), waiting("next", "wifi", at=2)) == (
        "next",
        "bo",
    )


def test_one_who_declined_is_passed_over_while_another_is_free() -> None:
    assert chosen(
        agent("ana", "heat", since=1), agent("bo", "heat", since=900), waiting("c", "heat", ana=10.0)
    ) == ("c", "bo")


def test_one_who_declined_is_asked_again_only_after_a_pause() -> None:
    entries = (agent("ana", "heat"), waiting("c", "heat", ana=990.0))
    assert choose(floor(*entries), 1000.0) == Nobody(look_at=1020.0)
    found = choose(floor(*entries), 1020.0)
    assert isinstance(found, Pair)
    assert found.asked_again


def test_a_refused_contact_keeps_its_place_before_younger_ones() -> None:
    assert chosen(
        agent("bo", "heat"), waiting("old", "heat", at=1, ana=999.0), waiting("young", "heat", at=2)
    ) == ("old", "bo")


def test_one_on_standby_is_chosen_only_when_nobody_else_is_free_for_the_contact() -> None:
    robin = agent("robin", "heat", "wifi", since=0, standby=True)
    bo = agent("bo", "heat", since=900)
    assert chosen(robin, bo, waiting("c", "heat")) == ("c", "bo")
    assert chosen(robin, bo, waiting("c", "wifi")) == ("c", "robin")
    assert chosen(robin, bo, waiting("c", "heat", bo=NOW - 1)) == ("c", "robin"), "Bo has just declined"
    assert chosen(robin, bo, waiting("c", "heat", robin=1.0, bo=2.0)) == ("c", "bo"), "both pauses are over"


def test_position_counts_those_who_need_the_same() -> None:
    queue = Queue()
    for each in (
        waiting("a", "heat", at=1),
        waiting("b", "heat", at=2, ana=1.0),
        waiting("c", "heat", at=3),
        waiting("x", "wifi", at=0),
    ):
        queue.add(each)
    assert [queue.position(name) for name in ("a", "b", "c", "x", "nobody")] == [1, 2, 3, 1, None]
    queue.remove("a")
    assert queue.position("c") == 2


agents = st.lists(
    st.builds(
        lambda number, skills, providers, channels, since, standby: FreeAgent(
            f"agent{number}", frozenset(skills), frozenset(providers), frozenset(channels), since, standby
        ),
        st.integers(0, 8),
        st.lists(st.sampled_from(SKILLS)),
        st.lists(st.sampled_from(["thermea", "lumio"]), max_size=1),
        st.lists(st.sampled_from(["chat", "voice", "video"]), min_size=1),
        st.integers(0, 5).map(float),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda agent: agent.agent_id,
)
contacts = st.lists(
    st.builds(
        lambda number, provider, channel, skills, at, refusals: Waiting(
            f"contact{number}", Group(provider, channel, frozenset(skills)), at, refusals
        ),
        st.integers(0, 12),
        st.sampled_from(["thermea", "lumio"]),
        st.sampled_from(["chat", "voice", "video"]),
        st.lists(st.sampled_from(SKILLS), max_size=2),
        st.integers(0, 9).map(float),
        st.dictionaries(
            st.integers(0, 8).map("agent{}".format), st.integers(960, 1000).map(float), max_size=3
        ),
    ),
    max_size=8,
    unique_by=lambda contact: contact.contact_id,
)


def candidates(contact: Waiting, free: list[FreeAgent]) -> list[FreeAgent]:
    """Who may be asked for it now, best first: the rule as one would say it, slowly."""
    able = [each for each in free if each.may_serve(contact.group)]
    fresh = [each for each in able if each.agent_id not in contact.refusals]
    if fresh:
        return sorted(fresh, key=lambda each: (each.standby, each.idle_since, each.agent_id))
    again = [each for each in able if NOW >= contact.refusals[each.agent_id] + 30.0]
    return sorted(
        again,
        key=lambda each: (each.standby, contact.refusals[each.agent_id], each.idle_since, each.agent_id),
    )


@given(agents, contacts)
def test_the_choice_is_what_the_rule_says_of_everybody(free: list[FreeAgent], queue: list[Waiting]) -> None:
    expected = None
    for contact in sorted(queue, key=lambda each: each.place):
        able = candidates(contact, free)
        if able:
            expected = (contact.contact_id, able[0].agent_id)
            break
    assert chosen(*free, *queue) == expected


@given(agents, contacts)
def test_nobody_on_standby_is_asked_while_somebody_else_is_free(
    free: list[FreeAgent], queue: list[Waiting]
) -> None:
    found = choose(floor(*free, *queue), NOW)
    if isinstance(found, Pair) and next(a for a in free if a.agent_id == found.agent_id).standby:
        contact = next(each for each in queue if each.contact_id == found.contact_id)
        for other in free:
            if not other.standby and other.may_serve(contact.group):
                refused_at = contact.refusals[other.agent_id]
                assert not found.asked_again or NOW < refused_at + 30.0


@given(agents, contacts)
def test_looking_again_when_told_finds_somebody(free: list[FreeAgent], queue: list[Waiting]) -> None:
    found = choose(floor(*free, *queue), NOW)
    if isinstance(found, Nobody) and found.look_at is not None:
        assert found.look_at > NOW
        assert isinstance(choose(floor(*free, *queue), found.look_at), Pair)


@given(agents, contacts, st.randoms(use_true_random=False))
def test_the_order_in_which_news_came_does_not_matter(
    free: list[FreeAgent], queue: list[Waiting], random: object
) -> None:
    mixed: list[FreeAgent | Waiting] = [*free, *queue]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert chosen(*mixed) == chosen(*free, *queue)


@given(agents, contacts)
def test_everybody_taken_out_leaves_nothing_behind(free: list[FreeAgent], queue: list[Waiting]) -> None:
    made = floor(*free, *queue)
    for each in free:
        made.free.remove(each.agent_id)
    for contact in queue:
        made.queue.remove(contact.contact_id)
    assert (len(made.queue), len(made.free), made.queue.groups()) == (0, 0, {})
    assert choose(made, NOW) == Nobody(None)
