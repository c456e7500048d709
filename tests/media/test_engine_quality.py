from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.engine_quality import SETTLE_S, Told, reports_in
from media.quality import mos

NOTHING = dict.fromkeys(("loss_in", "loss_out", "jitter_ms", "round_trip_ms", "mos"))


def media(ssrc: int, packets: int, kind: bytes = b"audio") -> dict[str, Any]:
    streams = [
        {"SSRC": ssrc, "flags": [b"RTP"], "last packet": 1100, "stats": {"packets": packets, "bytes": 172 * packets}},
        {"SSRC": ssrc, "flags": [b"RTCP"], "last packet": 1100, "stats": {"packets": 9, "bytes": 500}},
    ]  # fmt: skip
    return {"type": kind, "codec": b"PCMU/8000", "streams": streams}


def reply(*, a: int, b: int, lost: int, samples: int) -> dict[str, Any]:
    """a and b have sent so many packets, and b has missed some of a's; as rtpengine 10.5 says it."""
    average = {"MOS": 40, "jitter": 12, "packet loss": 4, "round-trip time": 90_000}
    average |= {"round-trip time leg": 40_000, "samples": samples}
    said = {
        "cumulative loss": lost,
        "average MOS": average,
        "MOS progression": {"interval": 0, "entries": [{"reported at": 1000 + samples}]},
    }
    return {
        "SSRC": {"22": said} if samples else {},
        "tags": {"a.0": {"medias": [media(11, a)]}, "b.1": {"medias": [media(22, b)]}},
    }


def heard(*looks: dict[str, Any], again: bool = False, every: float = 10.0) -> Told:
    told = Told()
    told.begins(0.0, 1000.0, again=again)
    for number, look in enumerate(looks):
        told.looked(look, "b.1", "a.0", number * every)
    return told


def test_what_is_missed_of_what_was_sent_is_loss_out_and_the_rest_is_as_was_reported() -> None:
    told = heard(reply(a=10, b=10, lost=0, samples=0), reply(a=485, b=500, lost=25, samples=2))
    assert told.facts("audio", NOTHING, 0) == {
        "loss_in": None,
        "loss_out": 0.05,
        "jitter_ms": 12.0,
        "round_trip_ms": 40.0,
        "mos": round(mos("pcmu", loss=0.05, jitter_ms=12, round_trip_ms=40), 2),
    }


def test_of_whom_nothing_is_reported_nothing_is_known() -> None:
    told = heard(reply(a=10, b=10, lost=0, samples=0), reply(a=510, b=500, lost=0, samples=0))
    assert told.facts("audio", NOTHING, 0) == NOTHING
    assert told.news(20.0) == ""
    assert told.facts("video", NOTHING, 0) == NOTHING


def test_what_was_sent_since_the_last_report_is_not_taken_to_have_come() -> None:
    told = heard(
        reply(a=0, b=10, lost=0, samples=0),
        reply(a=450, b=500, lost=50, samples=2),
        reply(a=950, b=1000, lost=50, samples=2),
    )
    assert told.facts("audio", NOTHING, 0)["loss_out"] == 0.1


def test_what_it_missed_while_the_other_was_heard_by_the_studio_is_not_lost() -> None:
    told = heard(
        reply(a=500, b=10, lost=3, samples=1),
        reply(a=1000, b=10, lost=1503, samples=2),
        reply(a=1490, b=10, lost=1513, samples=3),
        again=True,
        every=SETTLE_S,
    )
    assert told.facts("audio", NOTHING, 0)["loss_out"] == 0.02
    told.begins(100.0, 2000.0, again=True)
    told.looked(reply(a=9000, b=10, lost=9000, samples=90), "b.1", "a.0", 100.0 + SETTLE_S)
    assert told.facts("audio", NOTHING, 0)["loss_out"] == 0.02


@pytest.mark.parametrize("lost", [-600, 2600, 1 << 23])
def test_who_has_begun_to_count_anew_has_not_lost_all_that(lost: int) -> None:
    told = heard(reply(a=10, b=10, lost=0, samples=1), reply(a=510, b=500, lost=lost, samples=2))
    assert told.facts("audio", NOTHING, 0)["loss_out"] is None


def test_a_voice_that_stays_poor_is_told_once_and_when_it_is_fair_again() -> None:
    told = heard(reply(a=0, b=0, lost=0, samples=0))
    news = []
    for number, lost in enumerate((100, 200, 300, 300, 300, 300), 1):
        now = number * 10.0
        told.looked(reply(a=500 * number, b=500, lost=lost, samples=2 * number), "b.1", "a.0", now)
        news.append(told.news(now))
    assert news == ["", "poor", "", "", "fair", ""]


def test_what_the_studio_heard_and_what_passed_it_by_make_one() -> None:
    told = heard(reply(a=0, b=10, lost=0, samples=0), reply(a=270, b=400, lost=30, samples=2))
    studios = {
        "loss_in": 0.01,
        "loss_out": 0.02,
        "jitter_ms": 4.0,
        "round_trip_ms": None,
        "mos": 4.3,
        "started_at": 900.0,
        "seconds": 2.0,
        "lost": 1,
        "received": 100,
        "mos_lately": 4.2,
    }
    kept = told.kept({"audio": studios, "video": {"received": 7}})
    assert kept["video"] == {"received": 7}
    voice = kept["audio"]
    assert (voice["loss_in"], voice["loss_out"]) == (0.01, 0.08)
    assert (voice["jitter_ms"], voice["round_trip_ms"]) == (10.0, 40.0)
    assert (voice["started_at"], voice["seconds"]) == (900.0, 200.0)
    assert (voice["lost"], voice["received"]) == (1, 400)


def test_of_whom_nothing_came_nothing_is_told_at_the_end() -> None:
    assert heard(reply(a=10, b=0, lost=0, samples=0)).kept({}) == {}
    assert Told().kept({"audio": {"loss_in": 0.5}}) == {"audio": {"loss_in": 0.5}}


_ANY = st.recursive(
    st.none() | st.integers() | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["average MOS", "MOS progression", "entries", "samples", "cumulative loss", "jitter"]
            ),
            inner,
        )
    ),
    max_leaves=8,
)


@given(_ANY)
def test_other_words_than_those_of_this_version_are_no_error(said: Any) -> None:
    strange = {**reply(a=10, b=10, lost=0, samples=0), "SSRC": {"22": said}}
    assert set(reports_in(strange, "b.1")) == {"audio"}
    assert reports_in({**strange, "SSRC": said}, "nobody") == {}
