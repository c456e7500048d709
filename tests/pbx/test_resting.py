"""An agent whose phones refuse one contact after the other at once is not offered every contact that waits."""

from __future__ import annotations

from twisted.internet.task import Clock

from config.queue_settings import Consequence, QueueSettings
from kb_portal.customer import Customer
from pbx.resting import FIRST_S, IN_A_ROW, LONGEST_S, Resting
from sip_trunk.deadlines import Deadlines
from tests.pbx.centre import Centre


def resting() -> tuple[Resting, Clock, list[str]]:
    clock, over = Clock(), list[str]()
    return Resting(Deadlines(clock), over.append), clock, over


def test_a_phone_may_be_busy_now_and_then() -> None:
    rests, _, _ = resting()
    for _ in range(5):
        for _ in range(IN_A_ROW - 1):
            assert rests.failed("ana", 1) == 0.0
        rests.reached("ana")
    assert not rests.lets_be("ana", 1)


def test_the_longer_it_fails_the_longer_it_is_let_be() -> None:
    rests, clock, over = resting()
    for _ in range(IN_A_ROW - 1):
        rests.failed("ana", 1)
    told = []
    for _ in range(8):
        told.append(seconds := rests.failed("ana", 1))
        assert rests.lets_be("ana", 1)
        clock.advance(seconds - 0.1)
        assert rests.lets_be("ana", 1)
        clock.advance(0.1)
        assert not rests.lets_be("ana", 1)
    assert told[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert told[-1] == LONGEST_S
    assert over == ["ana"] * 8


def test_phones_that_have_changed_are_tried_at_once() -> None:
    rests, _, _ = resting()
    for _ in range(IN_A_ROW):
        rests.failed("ana", 1)
    assert not rests.lets_be("ana", 2)


def test_the_end_of_an_earlier_rest_is_not_the_end_of_a_later_one() -> None:
    rests, clock, over = resting()
    for _ in range(IN_A_ROW):
        rests.failed("ana", 1)
    clock.advance(0.5 * FIRST_S)
    assert rests.failed("ana", 2) == 2 * FIRST_S
    clock.advance(FIRST_S)
    assert rests.lets_be("ana", 2)
    assert over == []
    clock.advance(FIRST_S)
    assert over == ["ana"]


async def test_a_full_queue_is_not_offered_to_a_phone_that_refuses_at_once() -> None:
    centre = await Centre.open(queues=[QueueSettings("default", busy=Consequence(3600.0, 0))])
    await centre.agent("ana")
    for number in range(8):
        name = f"customer-{number}"
        customer = Customer(name, name, f"{name}@example.org", f"+1555020{number:04}", True)
        await centre.portal.add_customer(customer, "hash")
        await centre.portal.add_ownership(f"o-{name}", name, "boiler", "", None)
        await centre.calls_in(await centre.asks(name))
    refused = 0

    async def refuses() -> None:
        nonlocal refused
        while len(centre.phone.rung) > refused:
            centre.phone.rung[refused].refuse(486)
            refused += 1
            await centre.settle()

    await refuses()
    assert refused == IN_A_ROW, "then it is let be"
    assert [event.facts["seconds"] for event in centre.events("agent.resting")] == [FIRST_S]
    await centre.passes(FIRST_S + 0.5)
    await refuses()
    assert refused == IN_A_ROW + 1, "one more is tried, and longer waited"
    await centre.passes(2 * FIRST_S + 0.5)
    centre.phone.rung[refused].ring()
    centre.phone.rung[refused].pick_up()
    await centre.settle()
    assert centre.state("ana") == "Talking"
