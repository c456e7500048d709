"""How well a contact's parties are heard: stored when a leg ends, told when a voice is poor, counted for Prometheus."""

from __future__ import annotations

from typing import Any

import pytest

from pbx.operations.metrics import text
from pbx.quality import Qualities, party_of
from pbx.quality_store import QualityStore
from tests.pbx.centre import Centre


def audio(mos: float | None = 4.2, **more: Any) -> dict[str, Any]:
    return {
        "loss_in": 0.01,
        "loss_out": None,
        "jitter_ms": 2.5,
        "round_trip_ms": 40.0,
        "mos": mos,
        "started_at": 1000.0,
        "seconds": 60.0,
        "lost": 30,
        "received": 2970,
        **more,
    }


def qualities_of(centre: Centre) -> Qualities:
    return Qualities(centre.contacts, QualityStore(centre.house.database), centre.media, centre.house.events)


@pytest.mark.parametrize(
    ("branch", "party"),
    [
        ("customer-2", "customer"),
        ("called-back-1-1", "customer"),
        ("agent-3-1", "agent"),
        ("supervisor-1-1", "supervisor"),
        ("d_123-1", "other"),
    ],
)
def test_a_branch_tells_whose_it_is(branch: str, party: str) -> None:
    assert party_of(branch) == party


async def test_what_a_leg_was_is_kept_with_its_contact() -> None:
    centre = await Centre.open()
    qualities = qualities_of(centre)
    contact = await centre.asks()
    qualities.told(contact.id, "customer-1", "ended", {"audio": audio(), "video": audio(None)})
    await centre.settle()
    kept = await qualities.of(contact.id)
    assert [(leg["party"], leg["kind"], leg["mos"], leg["live"]) for leg in kept] == [
        ("customer", "audio", 4.2, False),
        ("customer", "video", None, False),
    ]
    assert kept[0]["loss_in"] == 0.01
    assert kept[0]["round_trip_ms"] == 40.0


async def test_a_leg_that_ends_after_its_contact_is_kept_too() -> None:
    centre = await Centre.open()
    qualities = qualities_of(centre)
    contact = await centre.asks()
    await centre.desk.end(contact.id, "customer")
    qualities.told(contact.id, "customer-1", "ended", {"audio": audio()})
    await centre.settle()
    assert len(await qualities.of(contact.id)) == 1


async def test_a_call_that_is_no_contact_is_counted_and_kept_nowhere() -> None:
    centre = await Centre.open()
    qualities = qualities_of(centre)
    qualities.told("d_direct", "d_direct-1", "ended", {"audio": audio()})
    await centre.settle()
    assert await qualities.of("d_direct") == []
    assert 'warmline_media_lost_total{kind="audio"} 30' in text(qualities.metrics())


async def test_a_leg_that_is_there_is_told_as_it_is_now() -> None:
    centre = await Centre.open()
    qualities = qualities_of(centre)
    contact = await centre.asks()
    measures = {"loss_in": 0.0, "loss_out": 0.0, "jitter_ms": 1.0, "round_trip_ms": None, "mos": 4.3}

    async def stats(call: str) -> dict[str, Any]:
        return {"customer-1": {"ready": True, "kinds": {"audio": {"quality": measures}}}}

    centre.media.stats = stats  # type: ignore[method-assign]
    (leg,) = await qualities.of(contact.id)
    assert leg["live"]
    assert leg["mos"] == 4.3


async def test_a_poor_voice_is_an_event_of_its_contact() -> None:
    centre = await Centre.open()
    qualities = qualities_of(centre)
    contact = await centre.asks()
    qualities.told(contact.id, "customer-1", "poor", {"audio": audio(3.4, mos_lately=2.1)})
    qualities.told(contact.id, "customer-1", "fair", {"audio": audio(3.4, mos_lately=3.9)})
    (poor,), (fair,) = centre.events("media.poor"), centre.events("media.fair")
    assert poor.contact == contact.id
    assert poor.facts["party"] == "customer"
    assert poor.facts["mos_lately"] == 2.1
    assert fair.facts["mos_lately"] == 3.9


async def test_prometheus_reads_how_many_legs_were_worth_what() -> None:
    centre = await Centre.open()
    qualities = qualities_of(centre)
    for worth in (2.2, 3.5, 4.35):
        qualities.told("d_direct", "agent-1-1", "ended", {"audio": audio(worth)})
    page = text(qualities.metrics())
    assert "# TYPE warmline_media_mos histogram" in page
    assert 'warmline_media_mos_bucket{party="agent",le="2.0"} 0' in page
    assert 'warmline_media_mos_bucket{party="agent",le="3.5"} 2' in page
    assert 'warmline_media_mos_bucket{party="agent",le="+Inf"} 3' in page
    assert 'warmline_media_mos_sum{party="agent"} 10.05' in page
    assert 'warmline_media_mos_count{party="agent"} 3' in page
