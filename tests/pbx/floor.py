"""Agents and contacts for tests of the router, in few words; and any number of them by chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from config.queue_settings import Strategy
from pbx.queue import Group, Waiting
from pbx.router import Floor, FreeAgent, Pair, choose, choose_plainly

NOW = 1000.0
SKILLS = ("heat", "wifi", "bill")
AGENTS = tuple(f"agent{number}" for number in range(7))
CONTACTS = tuple(f"contact{number}" for number in range(12))
STRATEGIES: Mapping[str, Strategy] = {strategy.value: strategy for strategy in Strategy}


def skills(text: str) -> dict[str, int]:
    """`heat:3 wifi` is heat at level 3 and wifi at level 1."""
    return {name: int(level or 1) for name, _, level in (word.partition(":") for word in text.split())}


def agent(name: str, can: str = "", *, since: float = 0.0, **facts: Any) -> FreeAgent:
    providers, languages = facts.pop("providers", ""), facts.pop("languages", "")
    channels = facts.pop("channels", "voice")
    return FreeAgent(
        name,
        skills(can),
        frozenset(providers.split()),
        frozenset(channels.split()),
        frozenset(languages.split()),
        since,
        **facts,
    )


def group(needs: str = "", *, channel: str = "voice", provider: str = "thermea", **facts: Any) -> Group:
    return Group(provider, channel, frozenset(skills(needs).items()), **facts)


def waiting(name: str, needs: str = "", *, at: float = 0.0, **facts: Any) -> Waiting:
    wait = {
        key: facts.pop(key)
        for key in ("refusals", "last_refused", "preferred", "preferred_until", "steps")
        if key in facts
    }
    return Waiting(name, group(needs, **facts), at, at, **wait)


def floor(*entries: FreeAgent | Waiting) -> Floor:
    made = Floor(STRATEGIES)
    for entry in entries:
        if isinstance(entry, FreeAgent):
            made.put(entry)
        else:
            made.add(entry)
    return made


def chosen(*entries: FreeAgent | Waiting) -> tuple[str, str] | None:
    """The contact and the agent, found both ways; None: nobody."""
    found = choose(floor(*entries), NOW)
    assert found == choose_plainly(
        [entry for entry in entries if isinstance(entry, Waiting)],
        [entry for entry in entries if isinstance(entry, FreeAgent)],
        STRATEGIES,
        NOW,
    )
    return (found.contact_id, found.agent_id) if isinstance(found, Pair) else None


# By chance. Moments lie around 0, and are moved to around the time by `at`.

_levels = st.dictionaries(st.sampled_from(SKILLS), st.integers(1, 4), max_size=3)
_moments = st.integers(-4, 9).map(float)
_agents = st.sampled_from(AGENTS)
groups = st.builds(
    Group,
    st.sampled_from(["thermea", "lumio"]),
    st.sampled_from(["chat", "voice"]),
    st.dictionaries(st.sampled_from(SKILLS), st.integers(0, 3), max_size=2).map(
        lambda needs: frozenset(needs.items())
    ),
    st.sampled_from([None, None, "de", "en"]),
    st.sampled_from([*STRATEGIES, "a queue of no strategy"]),
)
free_agents = st.builds(
    FreeAgent,
    _agents,
    _levels,
    st.sampled_from([frozenset[str](), frozenset({"thermea"}), frozenset({"thermea", "lumio"})]),
    st.sets(st.sampled_from(["chat", "voice"]), min_size=1).map(frozenset),
    st.sets(st.sampled_from(["de", "en"])).map(frozenset),
    st.integers(0, 5).map(float),
    st.integers(0, 5).map(float),
    st.integers(0, 3),
    st.sampled_from([False, False, False, True]),
)


def at(now: float, contact: Waiting) -> Waiting:
    """The same contact with its moments around `now`."""
    return replace(
        contact,
        refusals={agent_id: now + until for agent_id, until in contact.refusals.items()},
        preferred_until=now + contact.preferred_until,
        steps=tuple((now + moment, step) for moment, step in contact.steps),
    )


waitings = st.builds(
    Waiting,
    st.sampled_from(CONTACTS),
    groups,
    st.integers(0, 9).map(float),
    st.just(0.0),
    st.dictionaries(_agents, _moments | st.just(math.inf), max_size=4),
    st.none() | _agents,
    st.none() | _agents,
    _moments,
    st.lists(st.tuples(_moments, groups), max_size=2, unique_by=lambda step: step[0]).map(
        lambda steps: tuple(sorted(steps, key=lambda step: step[0]))
    ),
)
