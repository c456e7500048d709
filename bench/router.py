"""The router among many: CPU time of one decision, how it grows with the number of agents, memory of one who waits.

The floor is the worst a busy day has: 100,000 contacts wait for what none of the ready agents can do, so nothing ends a
search early. Then an agent comes (an expert, whom many of these wait for, or one more who cannot help them), or a
contact (which many can serve, or nobody), and the router decides.
"""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import process_time_ns

from bench.curve import Curve, draw
from bench.figure import Figure
from config.queue_settings import Strategy
from pbx.contact import Channel, Contact, Facts
from pbx.queue import Group, Waiting
from pbx.router import Floor, FreeAgent, Pair, choose
from pbx.skills import Need

AGENTS = (100, 300, 1000, 3000, 10_000)
WAITING = 100_000
PROVIDERS = 20
SKILLS = 10  # of each provider
PRODUCTS = 25  # of each provider
EXPERT = 5
ROUNDS = 1500
PICTURE = Path(__file__).parent.parent / "docs" / "router-growth.svg"

LANGUAGES = (None, "de", "en", "fr")
CHANNELS = tuple(channel.value for channel in Channel)
STRATEGIES = tuple(Strategy)


@dataclass(frozen=True, slots=True)
class Product:
    provider: int
    required: frozenset[tuple[str, int]]

    @property
    def for_experts(self) -> bool:
        return any(level == EXPERT for _, level in self.required)


class World:
    """Products, and agents and contacts drawn from them; the same each time."""

    def __init__(self) -> None:
        self.chance = random.Random(4)
        products = [self._product(number % PROVIDERS) for number in range(PROVIDERS * PRODUCTS)]
        self.hard = [product for product in products if product.for_experts]
        self.easy = [product for product in products if not product.for_experts]
        self.strategies = {
            f"queue{provider}": STRATEGIES[provider % len(STRATEGIES)] for provider in range(PROVIDERS)
        }
        self._number = 0

    def _product(self, provider: int) -> Product:
        skills = self.chance.sample(range(SKILLS), self.chance.randint(1, 3))
        levels = [self.chance.randint(1, 4) for _ in skills]
        if self.chance.random() < 0.5:
            levels[0] = EXPERT
        return Product(
            provider,
            frozenset((_skill(provider, skill), level) for skill, level in zip(skills, levels, strict=True)),
        )

    def agent(self, *, expert: bool) -> FreeAgent:
        chance, self._number = self.chance, self._number + 1
        providers = chance.sample(range(PROVIDERS), chance.choice((1, 1, 2, 3)))
        highest = EXPERT if expert else EXPERT - 1
        levels = {
            _skill(provider, skill): highest if expert else chance.randint(1, highest)
            for provider in providers
            for skill in chance.sample(range(SKILLS), chance.randint(3, 6))
        }
        anywhere = chance.random() < 0.1
        return FreeAgent(
            f"agent{self._number}",
            levels,
            frozenset() if anywhere else frozenset(f"provider{provider}" for provider in providers),
            frozenset(chance.sample(CHANNELS, chance.randint(1, 3))),
            frozenset(chance.sample(LANGUAGES[1:], chance.randint(0, 2))),
            idle_since=chance.uniform(0, 1000),
            offered_at=chance.uniform(0, 1000),
            taken=chance.randint(0, 40),
            standby=chance.random() < 0.02,
        )

    def waiting(self, product: Product) -> Waiting:
        chance, self._number = self.chance, self._number + 1
        group = Group(
            f"provider{product.provider}",
            chance.choice(CHANNELS),
            product.required,
            chance.choice(LANGUAGES),
            f"queue{product.provider}",
        )
        at = chance.uniform(0, 1000)
        plain = Waiting(f"contact{self._number}", group, at, at)
        match chance.randrange(10):
            case 0:
                refusals = {f"agent{chance.randrange(10_000)}": 1e6 for _ in range(chance.randint(1, 3))}
                return replace(plain, refusals=refusals, last_refused=next(iter(refusals)))
            case 1:
                return replace(plain, preferred=f"away{chance.randrange(5000)}", preferred_until=1e6)
            case 2 | 3:
                return replace(plain, steps=((1e6, replace(group, language=None)),))
            case _:
                return plain


def _skill(provider: int, skill: int) -> str:
    return f"skill{provider}-{skill}"


class Costs:
    """CPU time of each kind of operation, in nanoseconds."""

    def __init__(self) -> None:
        self.by_kind: dict[str, list[int]] = {}

    def of(self, kind: str, *operations: Callable[[], object]) -> object:
        """What the last of the operations gives."""
        result: object = None
        began = process_time_ns()
        for operation in operations:
            result = operation()
        self.by_kind.setdefault(kind, []).append(process_time_ns() - began)
        return result

    def quantile_ms(self, share: float) -> float:
        """Of the costliest kind."""
        return max(sorted(costs)[int(share * len(costs))] for costs in self.by_kind.values()) / 1e6

    def mean_ms(self) -> dict[str, float]:
        return {kind: sum(costs) / len(costs) / 1e6 for kind, costs in self.by_kind.items()}


def decide(world: World, ready: int, rounds: int = ROUNDS, waiting: int = WAITING) -> Costs:
    """Fill a floor with so many ready agents and waiting contacts, then let agents and contacts come and go."""
    floor, costs, now = Floor(world.strategies), Costs(), 2000.0
    for _ in range(ready):
        floor.put(world.agent(expert=False))
    for _ in range(waiting):
        floor.add(world.waiting(world.chance.choice(world.hard)))
    assert not isinstance(choose(floor, now), Pair)
    gc.collect()
    gc.freeze()  # as the server does when it has started
    for _ in range(rounds):
        now += 0.01
        ask = partial(choose, floor, now)
        for expert in (True, False):
            agent = replace(world.agent(expert=expert), idle_since=now)
            found = costs.of("an agent comes", partial(floor.put, agent), ask)
            if isinstance(found, Pair):
                costs.of("a contact leaves", partial(floor.remove, found.contact_id))
                floor.add(world.waiting(world.chance.choice(world.hard)))
                ask()
            costs.of("an agent leaves", partial(floor.take, agent.agent_id))
        for products in (world.hard, world.easy):
            contact = world.waiting(world.chance.choice(products))
            found = costs.of("a contact comes", partial(floor.add, contact), ask)
            if isinstance(found, Pair):
                taken = floor.agent(found.agent_id)
                assert taken is not None
                costs.of("an agent leaves", partial(floor.take, found.agent_id))
                floor.remove(contact.contact_id)
                floor.put(replace(taken, idle_since=now, offered_at=now, taken=taken.taken + 1))
                ask()
            else:
                costs.of("a contact leaves", partial(floor.remove, contact.contact_id))
    gc.unfreeze()
    return costs


def memory_kib(world: World, count: int = 20_000) -> float:
    """What one more waiting contact costs: the contact, what it needs and why, its place and the router's index."""
    floor = Floor(world.strategies)
    floor.add(world.waiting(world.hard[0]))
    contacts: list[Contact] = []
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(count):
        contacts.append(_contact(world, number))
        floor.add(_waiting_of(contacts[-1]))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / count / 1024


def _contact(world: World, number: int) -> Contact:
    """With texts of its own, as they come from the database and the network: nothing is shared by being a literal."""
    product = world.chance.choice(world.hard)
    facts = Facts(
        id=f"c_{number:026}",
        channel=world.chance.choice(tuple(Channel)),
        asked_at=1e9 + number,
        provider_id=f"provider{product.provider}",
        provider_name=f"Provider of things number {product.provider}",
        product_id=f"p_{product.provider:026}",
        product_name=f"Product with a name of some length {number}",
        article_id=f"a_{number:026}",
        article_title=f"What to do when it does not do what it should, part {number}",
        visit_id=f"v_{number:026}",
        customer_id=f"u_{number:026}",
        customer_name=f"Somebody Called {number}",
        language="de"[: number % 3] or None,
    )
    needs = tuple(
        Need(
            skill,
            float(number),
            True,
            (f"you read “Article {number}” for {number % 100} s", f"you searched for “error {number}”"),
            level,
        )
        for skill, level in product.required
    )
    return Contact(facts, needs, routable=True, queue=f"queue{product.provider}")


def _waiting_of(contact: Contact) -> Waiting:
    required = frozenset((f"{need.skill}", need.level) for need in contact.needs)
    facts = contact.facts
    group = Group(facts.provider_id, contact.channel.value, required, facts.language, contact.queue)
    softer = frozenset((skill, max(level - 1, 1)) for skill, level in required)
    steps = (
        (facts.asked_at + 60.0, replace(group, required=softer)),
        (facts.asked_at + 180.0, replace(group, required=softer, language=None)),
    )
    return Waiting(contact.id, group, contact.place_at, facts.asked_at, steps=steps)


def measure() -> list[Figure]:
    """Also draws docs/router-growth.svg."""
    costs = {ready: decide(World(), ready) for ready in AGENTS}
    curves = [
        Curve(name, colour, [(ready, costs[ready].quantile_ms(share)) for ready in AGENTS])
        for name, colour, share in (("p99", "#b5411b", 0.99), ("p50", "#1f6b62", 0.5))
    ]
    title = f"One decision of the router while {WAITING:,} contacts wait"
    PICTURE.write_text(
        draw(curves, title=title, across="ready agents", up="CPU time of the costliest kind, ms", goal=1.0)
    )
    fewest, most = costs[AGENTS[0]].mean_ms(), costs[AGENTS[-1]].mean_ms()
    return [
        Figure("router.p99_ms", costs[AGENTS[-1]].quantile_ms(0.99), "ms CPU/decision", 1.0),
        Figure("router.growth_100_to_10000", sum(most.values()) / sum(fewest.values()), "times", 2.0),
        Figure("contact.waiting_kib", memory_kib(World()), "KiB", 4.0),
    ]


def main() -> None:
    for figure in measure():
        print(f"{figure.name:30} {figure.value:8.3f} {figure.unit}, goal {figure.goal}")


if __name__ == "__main__":
    main()
