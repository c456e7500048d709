from __future__ import annotations

import asyncio
import math

import pytest
from twisted.internet.task import Clock

from config.events import EventLog
from kb_portal.store import PortalStore
from kb_portal.tracking import Tracker
from kb_portal.visit import Trail


async def trail_of(store: PortalStore, visit_id: str) -> Trail:
    trail = await store.trail(visit_id)
    assert trail is not None
    return trail


async def test_views_with_less_than_half_an_hour_between_are_one_visit(
    store: PortalStore, tracker: Tracker, clock: Clock
) -> None:
    boiler = await store.product("boiler-200")
    first = await tracker.open_view("maria", product=boiler)
    clock.advance(29 * 60)
    second = await tracker.open_view("maria", product=boiler)
    clock.advance(30 * 60 + 1)
    third = await tracker.open_view("maria", product=boiler)
    assert second.visit_id == first.visit_id
    assert third.visit_id != first.visit_id


async def test_who_reads_one_long_article_stays_in_their_visit(
    store: PortalStore, tracker: Tracker, clock: Clock
) -> None:
    opened = await tracker.open_view("maria", product=await store.product("boiler-200"))
    for minute in range(1, 41):
        clock.advance(60)
        await tracker.beat("maria", opened.view_id, minute * 60.0)
    assert await tracker.visit("maria") == opened.visit_id
    assert (await trail_of(store, opened.visit_id)).views[0].seconds == 2400


async def test_two_tabs_opened_at_once_begin_one_visit(tracker: Tracker) -> None:
    visits = await asyncio.gather(*(tracker.visit("maria") for _ in range(5)))
    assert len(set(visits)) == 1


async def test_two_customers_never_share_a_visit(tracker: Tracker) -> None:
    assert await tracker.visit("maria") != await tracker.visit("jonas")


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf, -5.0, 0.0])
async def test_a_beat_of_nonsense_changes_nothing(
    store: PortalStore, tracker: Tracker, clock: Clock, nonsense: float
) -> None:
    opened = await tracker.open_view("maria", product=await store.product("boiler-200"))
    clock.advance(10)
    await tracker.beat("maria", opened.view_id, nonsense)
    assert (await trail_of(store, opened.visit_id)).views[0].seconds == 0


async def test_a_page_cannot_claim_more_time_than_passed(
    store: PortalStore, tracker: Tracker, clock: Clock
) -> None:
    opened = await tracker.open_view("maria", product=await store.product("boiler-200"))
    clock.advance(3)
    await tracker.beat("maria", opened.view_id, 1e300)
    assert (await trail_of(store, opened.visit_id)).views[0].seconds == pytest.approx(3)


async def test_views_and_searches_reach_the_event_log_as_they_happen(
    store: PortalStore, tracker: Tracker, events: EventLog
) -> None:
    article = await store.article("maria", "camera-s2-pairing-fails")
    opened = await tracker.open_view("maria", article=article, referrer="/", search="")
    await tracker.searched("maria", "amber", 2)
    viewed, searched = await events.read()
    assert (viewed.kind, viewed.visit) == ("visit.page_viewed", opened.visit_id)
    assert viewed.facts["article"] == "camera-s2-pairing-fails"
    assert viewed.facts["product"] == "camera-s2"
    assert viewed.facts["title"] == "Pairing fails"
    assert viewed.facts["customer"] == "maria"
    assert (searched.kind, searched.visit) == ("visit.searched", opened.visit_id)
    assert (searched.facts["text"], searched.facts["hits"]) == ("amber", 2)
