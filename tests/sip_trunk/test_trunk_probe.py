from __future__ import annotations

import asyncio

import pytest
from twisted.internet.task import Clock

from config.trunk_settings import TrunkSettings
from sip_trunk.qualify import ANSWER_S, TrunkProbe
from sip_trunk.sip.message import Request
from sip_trunk.trunk import TrunkTable
from sip_trunk.user_agent import IncomingRequest
from tests.sip_trunk.network import Network, Phone


class Fixture:
    def __init__(self, **more: object) -> None:
        self.clock = Clock()
        self.network = Network(self.clock)
        self.us = Phone(self.network, "10.0.0.1")
        self.carrier = Phone(self.network, "10.0.0.2")
        settings = TrunkSettings("carrier", ("10.0.0.2",), ("+49",), **more)  # type: ignore[arg-type]
        self.table = TrunkTable([settings])
        self.trunk = self.table.trunks["carrier"]
        self.changes: list[bool] = []
        self.probe = TrunkProbe(
            self.table, self.us.agent, self.clock, domain="example.com",
            on_change=lambda trunk: self.changes.append(trunk.up),
        )  # fmt: skip

    async def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)
            await asyncio.sleep(0)

    @property
    def asked(self) -> int:
        return len({request.call_id for request in self.network.requests("OPTIONS")})


async def test_a_trunk_that_answers_is_asked_again_in_its_time_and_stays_up() -> None:
    it = Fixture()
    it.probe.start()
    await it.pass_time(130)
    assert (it.asked, it.trunk.up, it.changes) == (3, True, [])
    it.probe.stop()


@pytest.mark.parametrize("status", [404, 405, 401, 503])
async def test_any_answer_shows_that_it_is_there(status: int) -> None:
    it = Fixture()

    def refuse(request: IncomingRequest) -> None:
        request.respond(status)

    it.carrier.agent.methods["OPTIONS"] = refuse
    it.probe.start()
    await it.pass_time(130)
    assert (it.trunk.up, it.changes) == (True, [])
    it.probe.stop()


async def test_two_missed_are_down_and_one_answered_is_up_again() -> None:
    it = Fixture()
    it.network.drops = lambda message, to: isinstance(message, Request)
    it.probe.start()
    await it.pass_time(ANSWER_S + 2)
    assert it.table.for_number("+49301234567") is it.trunk
    await it.pass_time(20)
    assert (it.changes, it.table.for_number("+49301234567")) == ([False], None)
    it.network.drops = lambda message, to: False
    await it.pass_time(20)
    assert (it.changes, it.trunk.up) == ([False, True], True)
    it.probe.stop()
    await it.pass_time(40)
    assert it.clock.getDelayedCalls() == []


@pytest.mark.parametrize("more", [{"dial": ()}, {"options_s": 0.0}])
async def test_who_needs_no_asking_is_left_in_peace(more: dict[str, object]) -> None:
    it = Fixture()
    settings = TrunkSettings("carrier", ("10.0.0.2",), **{"dial": ("+49",), **more})  # type: ignore[arg-type]
    probe = TrunkProbe(TrunkTable([settings]), it.us.agent, it.clock, domain="example.com")
    probe.start()
    await it.pass_time(130)
    assert it.asked == 0


async def test_nobody_is_said_to_be_there_who_has_not_shown_it() -> None:
    it = Fixture()
    it.network.drops = lambda message, to: isinstance(message, Request)
    assert (it.trunk.shown, it.trunk.up) == (False, True), "tried, until it is known better"
    it.probe.start()
    await it.pass_time(2)
    assert it.trunk.shown is False
    it.network.drops = lambda message, to: False
    await it.pass_time(20)
    assert it.trunk.shown is True
    it.network.drops = lambda message, to: isinstance(message, Request)
    await it.pass_time(150)
    assert it.trunk.shown is False
    it.probe.stop()


@pytest.mark.parametrize("more", [{"dial": ()}, {"options_s": 0.0}])
async def test_of_who_is_never_asked_nothing_is_said(more: dict[str, object]) -> None:
    settings = TrunkSettings("carrier", ("10.0.0.2",), **{"dial": ("+49",), **more})  # type: ignore[arg-type]
    assert TrunkTable([settings]).trunks["carrier"].shown is None
