"""A Visit: a run of views by one customer with no gap of half an hour, and the Trail it leaves."""

from __future__ import annotations

from dataclasses import dataclass

from kb_portal.product import OwnedProduct

GAP_S = 30 * 60.0


@dataclass(frozen=True, slots=True)
class PageView:
    """One page as it was read. `article_id` is None for the page of a product, whose name is then the title.

    `opened_at` is in epoch seconds; `seconds` is how long the page was in sight. `referrer` is the path the reader
    came from, `search` what they had typed there if it was the search page.
    """

    article_id: str | None
    title: str
    product_id: str | None
    tags: tuple[str, ...]
    opened_at: float
    seconds: float
    referrer: str
    skills: tuple[str, ...] = ()
    search: str = ""


@dataclass(frozen=True, slots=True)
class Search:
    text: str
    at: float
    hits: int


@dataclass(frozen=True, slots=True)
class Trail:
    """What a customer did in one visit, oldest first, and everything they own."""

    visit_id: str
    customer_id: str
    views: tuple[PageView, ...]
    searches: tuple[Search, ...]
    products_owned: tuple[OwnedProduct, ...]
