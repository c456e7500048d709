"""Phones that send nothing any more: muted ones listen on, and those that are gone are found by asking them."""

from __future__ import annotations

from typing import Any

import pytest

from pbx.contact import Disposition, State
from pbx.media_news import MediaNews
from pbx.quality import Qualities
from pbx.quality_store import QualityStore
from tests.pbx.centre import Centre
from tests.pbx.test_direct_calls import talking as talking_directly
from tests.pbx.test_direct_calls import two
from tests.pbx.test_waiting import talking


def listening(centre: Centre) -> Any:
    """Media as the server listens to it."""
    qualities = Qualities(
        centre.contacts, QualityStore(centre.house.database), centre.media, centre.house.events
    )
    media: Any = centre.media
    MediaNews(
        *(media, centre.menus, centre.calls, centre.calling_back, centre.direct_calls, centre.consultations),
        *(centre.supervisions, centre.voicemails, centre.recordings, qualities),
    )
    return media


async def test_a_customer_who_is_muted_is_not_hung_up_on() -> None:
    centre = await Centre.open()
    contact, caller, _ = await talking(centre)
    media = listening(centre)
    assert caller.asked == 0, "carriers are not asked without need"
    media.on_quality(contact.id, "customer-1", "silent", {})
    await centre.passes(60.0)
    assert contact.state is State.CONNECTED
    assert 4 <= caller.asked <= 7
    (event,) = centre.events("media.silent")
    assert (event.contact, event.facts["party"], event.facts["mos"]) == (contact.id, "customer", None)


@pytest.mark.parametrize("status", [481, 408, None])
async def test_a_customer_who_is_gone_is_found_by_asking(status: int | None) -> None:
    centre = await Centre.open()
    contact, caller, _ = await talking(centre)
    caller.options = status
    listening(centre).on_quality(contact.id, "customer-1", "silent", {})
    await centre.passes(60.0)
    assert contact.disposition is Disposition.CUSTOMER_LOST


async def test_news_of_a_leg_before_change_nothing() -> None:
    centre = await Centre.open()
    contact, caller, _ = await talking(centre)
    media = listening(centre)
    for call, branch in ((contact.id, "customer-7"), ("another", "customer-1")):
        media.on_quality(call, branch, "silent", {})
    await centre.passes(30.0)
    assert caller.asked == 0


async def test_who_called_a_colleague_is_asked_too() -> None:
    centre = await two()
    caller, _ = await talking_directly(centre)
    media = listening(centre)
    (direct,) = centre.direct_calls
    assert direct.caller.leg is not None
    media.on_quality(direct.media_call, direct.caller.leg.branch, "silent", {})
    await centre.passes(30.0)
    assert (caller.over, caller.asked > 1) == (None, True)
    caller.options = 481
    await centre.passes(30.0)
    assert len(centre.direct_calls) == 0
