"""Keys that one party presses in an INFO, and how the other one hears of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from media.server import Profile
from pbx.leg import Leg
from sip_trunk.call_events import InDialog
from tests.pbx.centre import Centre, FakeMedia
from tests.pbx.test_direct_calls import talking, two
from tests.pbx.test_leg import Pressed
from tests.sip_trunk.network import Pair


def info(call: Any, key: str) -> None:
    call.tell(InDialog(Pressed(f"Signal={key}".encode(), "application/dtmf-relay")))  # type: ignore[arg-type]


async def test_in_a_direct_call_each_hears_of_the_others_keys() -> None:
    centre = await two()
    caller, phone = await talking(centre)
    (direct,) = centre.direct_calls
    assert direct.caller.leg is not None
    assert direct.callee.leg is not None
    info(caller, "5")
    info(caller, "#")
    info(phone, "1")
    await centre.settle()
    theirs, ours = direct.callee.leg.branch, direct.caller.leg.branch
    assert centre.media.pressed == [(theirs, "5"), (theirs, "#"), (ours, "1")]


async def test_keys_before_anybody_answers_and_while_a_party_is_passed_on_go_nowhere() -> None:
    centre = await two()
    caller = await centre.dials("ana", "bo")
    info(caller, "5")
    await centre.settle()
    phone = centre.phone.rung[-1]
    phone.pick_up()
    await centre.settle()
    (direct,) = centre.direct_calls
    centre.direct_calls.set_aside(direct, direct.caller)
    info(phone, "1")
    await centre.settle()
    assert centre.media.pressed == []


async def test_in_a_contact_the_agents_keys_reach_the_customer_once_they_are_joined_and_the_other_way_round() -> (
    None
):
    centre = await Centre.open()
    await centre.agent("ana")
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    await centre.settle()
    info(caller, "9")
    phone = centre.phone.rung[-1]
    phone.pick_up()
    await centre.settle()
    info(phone, "4")
    info(caller, "2")
    await centre.settle()
    _, customer, agent = centre.media.joined[-1]
    assert centre.media.pressed == [(customer, "4"), (agent, "2")]


class Known:
    """A leg's real call inside a network in memory, and a media server that is none."""

    def __init__(self) -> None:
        self.pair = Pair()
        _, incoming = self.pair.talk()
        self.media = FakeMedia()
        self.media.branches["c", "b"] = "answered"
        self.call = incoming
        self.leg = Leg(incoming, self.media, "c", "b", profile=Profile.RTP)

    async def press(self, keys: str) -> list[bytes]:
        """The bodies of the INFO that follow."""
        self.leg.press(keys)
        for _ in range(5):
            await asyncio.sleep(0)
        self.pair.wait(0.2)
        return [request.body for request in self.pair.network.requests("INFO")]


@pytest.fixture
def known() -> Known:
    return Known()


async def test_who_has_agreed_on_telephone_events_gets_no_info(known: Known) -> None:
    assert await known.press("5") == []
    assert known.media.pressed == [("b", "5")]


async def test_who_has_not_gets_an_info_for_each_key(known: Known) -> None:
    known.media.keyless.add("b")
    assert await known.press("5#") == [b"Signal=5\r\nDuration=160\r\n", b"Signal=#\r\nDuration=160\r\n"]
    (first, _) = known.pair.network.requests("INFO")
    assert first.content_type == "application/dtmf-relay"


async def test_who_takes_no_info_either_is_told_nothing_and_the_call_goes_on(known: Known) -> None:
    known.media.keyless.add("b")
    known.call.peer_allows = frozenset({"invite", "bye"})
    assert await known.press("5") == []
    assert known.leg.alive


async def test_keys_for_a_branch_that_is_gone_are_lost_without_a_fuss(known: Known) -> None:
    known.media.branches.clear()
    assert await known.press("5") == []
    assert known.leg.alive
