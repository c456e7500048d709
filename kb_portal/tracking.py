"""Following a reader while they read: which page, from where, for how long, and what they looked for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from config.events import EventLog
from config.ids import new_id
from kb_portal.article import Article
from kb_portal.product import Product
from kb_portal.store import PortalStore
from kb_portal.visit import GAP_S

_REFERRER_CHARACTERS = 300
_SEARCH_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class OpenView:
    visit_id: str
    view_id: str


class Tracker:
    """Writes page views and searches as they happen and tells the event log. `now` is wall time."""

    def __init__(self, store: PortalStore, events: EventLog, now: Callable[[], float]) -> None:
        self._store = store
        self._events = events
        self._now = now
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def visit(self, customer_id: str) -> str:
        """The id of the customer's present visit; a new one begins after a gap of half an hour."""
        # Two tabs opened at once belong to one visit, so the second waits for the first to have begun it.
        lock = self._opening.setdefault(customer_id, asyncio.Lock())
        async with lock:
            now = self._now()
            visit_id = await self._store.latest_visit(customer_id, now - GAP_S)
            if visit_id is None:
                visit_id = new_id("v")
                await self._store.start_visit(visit_id, customer_id, now)
            return visit_id

    async def open_view(
        self,
        customer_id: str,
        *,
        article: Article | None = None,
        product: Product | None = None,
        referrer: str = "",
        search: str = "",
    ) -> OpenView:
        """The customer opened an article, or a product's page. When this returns, the view is stored."""
        visit_id = await self.visit(customer_id)
        view_id = new_id("w")
        product_id = product.id if product else article.product_id if article else None
        title = article.title if article else product.name if product else ""
        referrer = referrer[:_REFERRER_CHARACTERS]
        search = search[:_SEARCH_CHARACTERS]
        await self._store.add_view(
            view_id,
            visit_id,
            customer_id,
            article_id=article.id if article else None,
            product_id=product_id,
            at=self._now(),
            referrer=referrer,
            search=search,
        )
        await self._events.write(
            "visit.page_viewed",
            visit=visit_id,
            customer=customer_id,
            view=view_id,
            article=article.id if article else None,
            product=product_id,
            title=title,
            referrer=referrer,
            search=search,
        )
        return OpenView(visit_id, view_id)

    async def beat(self, customer_id: str, view_id: str, seconds: float) -> None:
        """The page says it has been in sight for `seconds` in all. Nonsense is passed over, too much is cut."""
        if math.isfinite(seconds) and seconds > 0:
            await self._store.read_for(customer_id, view_id, seconds, self._now())

    async def searched(self, customer_id: str, text: str, hits: int) -> str:
        """The customer searched; answers the id of the visit."""
        text = text[:_SEARCH_CHARACTERS]
        visit_id = await self.visit(customer_id)
        await self._store.add_search(new_id("q"), visit_id, customer_id, text, hits, self._now())
        await self._events.write("visit.searched", visit=visit_id, customer=customer_id, text=text, hits=hits)
        return visit_id
