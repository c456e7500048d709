"""What is known of somebody who asks for help, put together once: who, about what, and which skills that needs.

The tenant wall stands here for agents: of a customer's reading only what is about the provider asked for is used or
shown, whatever else they read and own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from agent_presence.roster import Roster
from config.errors import TheirError
from kb_portal.article import Article
from kb_portal.customer import Customer
from kb_portal.product import OwnedProduct, Product
from kb_portal.provider import Provider
from kb_portal.store import PortalStore
from kb_portal.visit import GAP_S, PageView, Search, Trail
from pbx.contact import Contact
from pbx.feedback import LEAST_READ_S, Read
from pbx.rules import Rules
from pbx.skills import Inference, ProductFacts, Rule, infer

# What providers sell changes seldom, and a busy minute asks for it hundreds of times.
_GOOD_FOR_S = 30.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Dossier:
    provider: Provider
    product: Product | None
    article: Article | None
    customer: Customer | None
    visit_id: str | None
    inference: Inference
    language: str | None = None  # what the customer wants to be spoken to in, where somebody speaks it


class Dossiers:
    """`now` is wall time in epoch seconds."""

    def __init__(self, portal: PortalStore, rules: Rules, roster: Roster, now: Callable[[], float]) -> None:
        self._portal = portal
        self._rules = rules
        self._roster = roster
        self._now = now
        self._remembered: dict[tuple[str, str], tuple[float, object]] = {}

    async def for_app(
        self, customer_id: str, product_id: str | None, article_id: str | None, visit_id: str | None
    ) -> Dossier:
        """Of a customer who presses Help. TheirError 404 for a product or article that is not theirs to see."""
        customer, owned = await asyncio.gather(
            self._portal.customer(customer_id), self._portal.owned(customer_id)
        )
        if customer is None:
            raise TheirError("There is no such customer.", 404)
        article = await self._portal.article_by_id(customer_id, article_id) if article_id else None
        if article_id and article is None:
            raise TheirError("There is no such article.", 404)
        product = _asked_about(owned, product_id, article)
        if product is not None:
            provider_id = product.provider_id
        elif article is not None:
            provider_id = article.provider_id
        else:
            raise TheirError("Please say which of your products it is about.", 400)
        provider = await self._provider(provider_id)
        trail = await self._trail(customer_id, visit_id, provider_id)
        return self._dossier(provider, product, article, customer, trail, owned)

    async def for_phone(self, dialled: str, caller: str, product_id: str = "") -> Dossier | None:
        """Of somebody who dialled one of our numbers; None when it is not ours. Both numbers are E.164 if known.

        `product_id`: what they have said it is about; one of another provider's counts for nothing.
        """
        number = await self._remember(("number", dialled), lambda: self._portal.number(dialled))
        if number is None:
            return None
        provider = await self._provider(number.provider_id)
        product = await self._product(product_id) if product_id else None
        if product is None or product.provider_id != provider.id:
            product = await self._product(number.product_id) if number.product_id else None
        customer = await self._portal.customer_by_phone(caller) if caller else None
        trail: Trail | None = None
        owned: Sequence[OwnedProduct] = ()
        if customer is not None:
            owned = await self._portal.owned(customer.id)
            if not any(each.product.provider_id == provider.id for each in owned):
                customer = None  # known to us, but not as this provider's customer
            else:
                trail = await self._trail(customer.id, None, provider.id)
        if product is None and trail is not None:
            product = _read_last(trail, provider.id)
        return self._dossier(provider, product, None, customer, trail, owned)

    async def customer(self, customer_id: str | None) -> Customer | None:
        return await self._portal.customer(customer_id) if customer_id is not None else None

    def rules_version(self, provider_id: str) -> int:
        """By which version of the provider's rules needs are inferred now."""
        return self._rules.current(provider_id).version

    async def trail_for(
        self, customer_id: str | None, visit_id: str | None, provider_id: str
    ) -> Trail | None:
        """A visit as one provider's agents may see it."""
        if customer_id is None or visit_id is None:
            return None
        return await self._behind_wall(
            await self._portal.trail(visit_id, customer_id=customer_id), provider_id
        )

    async def read_by(self, contact: Contact) -> list[Read]:
        """The articles about its provider that a contact's customer asked from or read, the most telling first."""
        facts = contact.facts
        found: dict[str, Read] = {}
        if facts.article_id is not None and facts.customer_id is not None:
            article = await self._portal.article_by_id(facts.customer_id, facts.article_id)
            if article is not None and article.provider_id == facts.provider_id:
                found[article.id] = Read(article.id, article.title, article.tags, article.skills)
        trail = await self.trail_for(facts.customer_id, facts.visit_id, facts.provider_id)
        seconds: dict[str, float] = {}
        views: dict[str, PageView] = {}
        for view in trail.views if trail is not None else ():
            # What was read after they had asked led nobody anywhere.
            if view.article_id is not None and view.opened_at <= facts.asked_at:
                seconds[view.article_id] = seconds.get(view.article_id, 0.0) + view.seconds
                views[view.article_id] = view
        for article_id in sorted(seconds, key=lambda article_id: (-seconds[article_id], article_id)):
            view = views[article_id]
            about = view.product_id in (None, facts.product_id) or facts.product_id is None
            if about and seconds[article_id] >= LEAST_READ_S:
                found.setdefault(article_id, Read(article_id, view.title, view.tags, view.skills))
        return list(found.values())

    async def infer_again(self, contact: Contact, rules: Sequence[Rule]) -> Inference:
        """What the contact would need by other rules, from what had been read and searched when it was asked for."""
        facts = contact.facts
        product = await self._product(facts.product_id) if facts.product_id else None
        owned: Sequence[OwnedProduct] = ()
        article: Article | None = None
        if facts.customer_id is not None:
            owned = await self._portal.owned(facts.customer_id)
            if facts.article_id is not None:
                article = await self._portal.article_by_id(facts.customer_id, facts.article_id)
        trail = await self.trail_for(facts.customer_id, facts.visit_id, facts.provider_id)
        if trail is not None:
            trail = _as_of(trail, facts.asked_at)
        return self._infer(facts.provider_id, rules, product, trail, owned, article)

    def _dossier(
        self,
        provider: Provider,
        product: Product | None,
        article: Article | None,
        customer: Customer | None,
        trail: Trail | None,
        owned: Sequence[OwnedProduct],
    ) -> Dossier:
        rules = self._rules.current(provider.id).rules
        return Dossier(
            provider=provider,
            product=product,
            article=article,
            customer=customer,
            visit_id=trail.visit_id if trail is not None else None,
            inference=self._infer(provider.id, rules, product, trail, owned, article),
            language=self._language(customer, provider.id),
        )

    def _infer(
        self,
        provider_id: str,
        rules: Sequence[Rule],
        product: Product | None,
        trail: Trail | None,
        owned: Sequence[OwnedProduct],
        article: Article | None,
    ) -> Inference:
        about = None
        if product is not None:
            theirs = any(each.product.id == product.id for each in owned)
            about = ProductFacts(product.id, product.name, product.skills, theirs)

        def somebody_has(levels: Mapping[str, int]) -> bool:
            return any(
                agent.serves(provider_id)
                and all(agent.skills.get(skill, 0) >= level for skill, level in levels.items())
                for agent in self._roster.agents()
            )

        return infer(trail, about, rules, article=article, somebody_has=somebody_has)

    def _language(self, customer: Customer | None, provider_id: str) -> str | None:
        """Nobody has to speak what nobody speaks: they would wait for ever."""
        language = customer.language if customer is not None else None
        if language is None:
            return None
        spoken = any(
            agent.serves(provider_id) and (not agent.languages or language in agent.languages)
            for agent in self._roster.agents()
        )
        return language if spoken else None

    async def _trail(self, customer_id: str, visit_id: str | None, provider_id: str) -> Trail | None:
        """The visit named, if it is theirs; else the one they are in."""
        trail = await self._portal.trail(visit_id, customer_id=customer_id) if visit_id else None
        if trail is None:
            latest = await self._portal.latest_visit(customer_id, self._now() - GAP_S)
            trail = await self._portal.trail(latest, customer_id=customer_id) if latest else None
        return await self._behind_wall(trail, provider_id)

    async def _behind_wall(self, trail: Trail | None, provider_id: str) -> Trail | None:
        if trail is None:
            return None
        about = [await self._is_about(view, trail.customer_id, provider_id) for view in trail.views]
        owned = tuple(each for each in trail.products_owned if each.product.provider_id == provider_id)
        return replace(
            trail,
            views=tuple(view for view, theirs in zip(trail.views, about, strict=True) if theirs),
            # Who owns nothing of others can have searched for nothing of theirs.
            searches=trail.searches if len(owned) == len(trail.products_owned) else _between(trail, about),
            products_owned=owned,
        )

    async def _is_about(self, view: PageView, customer_id: str, provider_id: str) -> bool:
        if view.product_id is not None:
            product = await self._product(view.product_id)
            return product is not None and product.provider_id == provider_id
        if view.article_id is not None:
            article_id = view.article_id
            article = await self._remember(
                (f"article of {customer_id}", article_id),
                lambda: self._portal.article_by_id(customer_id, article_id),
            )
            return article is not None and article.provider_id == provider_id
        return False

    # What does not change from one contact to the next

    async def _provider(self, provider_id: str) -> Provider:
        provider = await self._remember(("provider", provider_id), lambda: self._portal.provider(provider_id))
        if provider is None:
            raise TheirError("There is no such provider.", 404)
        return provider

    async def _product(self, product_id: str) -> Product | None:
        return await self._remember(("product", product_id), lambda: self._portal.product(product_id))

    async def _remember(self, key: tuple[str, str], read: Callable[[], Awaitable[T]]) -> T:
        known = self._remembered.get(key)
        now = self._now()
        if known is not None and known[0] > now:
            return known[1]  # type: ignore[return-value]  # the key says what kind of thing it is
        if len(self._remembered) > 10_000:
            self._remembered.clear()
        value = await read()
        self._remembered[key] = (now + _GOOD_FOR_S, value)
        return value


def _asked_about(
    owned: Sequence[OwnedProduct], product_id: str | None, article: Article | None
) -> Product | None:
    wanted = product_id or (article.product_id if article is not None else None)
    if wanted is None:
        return None
    for each in owned:
        if each.product.id == wanted:
            return each.product
    raise TheirError("That product is not among yours.", 404)


def _between(trail: Trail, about: Sequence[bool]) -> tuple[Search, ...]:
    """The searches made between two views that are about the provider: a search itself names none.

    Where only one of the two is there, it alone decides; where it is doubtful, the wall holds.
    """

    def is_about(search: Search) -> bool:
        after = sum(view.opened_at <= search.at for view in trail.views)
        around = about[max(after - 1, 0) : after + 1]
        return bool(around) and all(around)

    return tuple(search for search in trail.searches if is_about(search))


def _as_of(trail: Trail, moment: float) -> Trail:
    """The trail as it was then: what was opened later is not in it, and what was open is read up to then."""
    return replace(
        trail,
        views=tuple(
            replace(view, seconds=min(view.seconds, moment - view.opened_at))
            for view in trail.views
            if view.opened_at <= moment
        ),
        searches=tuple(search for search in trail.searches if search.at <= moment),
    )


def highest_levels(roster: Roster, provider_id: str) -> dict[str, int]:
    """The highest level that somebody who serves the provider has of each skill."""
    highest: dict[str, int] = {}
    for agent in roster.agents():
        if agent.serves(provider_id):
            for skill, level in agent.skills.items():
                highest[skill] = max(level, highest.get(skill, 0))
    return highest


def _read_last(trail: Trail, provider_id: str) -> Product | None:
    products = {
        each.product.id: each.product
        for each in trail.products_owned
        if each.product.provider_id == provider_id
    }
    for view in reversed(trail.views):
        if view.product_id in products:
            return products[view.product_id]
    return None
