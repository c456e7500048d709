"""What a caller is asked before anybody is looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.errors import OurError
from config.menu_settings import MenuSettings, menus
from pbx.contact import Channel, Contact
from pbx.inbound_menu import InboundMenus
from tests.agent_presence.house import DOMAIN
from tests.pbx.centre import Caller, Centre, FakeFlow

CARRIER = ("192.0.2.50", 5070)
CHOICES = [
    {"key": "1", "say": "the Boiler 200", "product": "boiler"},
    {"key": "2", "say": "a bill", "skills": ["billing"]},
    {"key": "3", "say": "a camera", "product": "camera"},
]


async def _is_made(work: Any, *what: Any) -> None:
    """What `in_thread` does where nothing goes wrong."""


async def asked(centre: Centre, **changes: Any) -> Caller:
    """A caller of a number that has a menu."""
    settings = menus([{"number": "+15550200", "choices": CHOICES, **changes}])
    await with_menus(centre, settings)
    return await calls(centre)


async def with_menus(centre: Centre, settings: tuple[MenuSettings, ...], in_thread: Any = _is_made) -> None:
    centre.menus = InboundMenus(
        settings,
        centre.media,
        centre.house.events,
        centre.clock,
        folder=Path(centre.folder or ".") / "menus",
        in_thread=in_thread,
    )
    await centre.menus.prepare()


async def calls(centre: Centre) -> Caller:
    flow = FakeFlow("UDP", CARRIER, "udp")
    caller = Caller(f"sip:+15550200@{DOMAIN}", from_="sip:+15550100001@carrier.example", flow=flow)
    centre.inbound().on_invite(caller)
    await centre.settle()
    return caller


async def opened(tmp_path: Path) -> Centre:
    return await Centre.open(folder=tmp_path)


async def presses(centre: Centre, key: str) -> None:
    (call,) = {call for call, _ in centre.media.branches}
    centre.media.on_keys(call, "customer-1", key)
    await centre.settle()


def chosen(centre: Centre) -> list[tuple[Any, ...]]:
    return [
        (each.facts["key"], each.facts["by"], each.facts["rounds"]) for each in centre.events("menu.chosen")
    ]


async def test_nobody_is_looked_for_before_they_have_chosen(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    await centre.agent()
    caller = await asked(centre)
    assert caller.accepted is not None
    assert len(centre.contacts) == 0
    assert centre.phone.rung == []
    (heard,) = centre.media.playing.values()
    assert isinstance(heard, tuple)
    assert heard[0].startswith("menu-")


async def test_the_product_of_the_key_is_what_it_is_about(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    await centre.agent()
    await asked(centre)
    await presses(centre, "1")
    (contact,) = centre.contacts
    assert contact.facts.product_name == "Boiler 200"
    assert chosen(centre) == [("1", "key", 1)]
    assert centre.kinds(contact)[:4] == ["menu.asked", "menu.chosen", "requested", "skills_inferred"]
    assert len(centre.phone.rung) == 1


async def test_the_skills_of_the_key_are_needed_and_why_is_said(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    await centre.agent("ana", heating=3)
    await centre.agent("deniz", billing=3)
    await asked(centre)
    await presses(centre, "2")
    (contact,) = centre.contacts
    need = contact.needs[0]
    assert (need.skill, need.required, need.reasons) == ("billing", True, ("pressed 2 for a bill",))
    # What the number's own product takes is good to know; of a bill Ana knows nothing.
    assert {need.skill: need.required for need in contact.needs[1:]}["heating"] is False
    assert [ringing.to for ringing in centre.phone.rung] == [f"<sip:deniz@{DOMAIN}>"]


async def test_nobody_waits_for_a_skill_that_nobody_has(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    await centre.agent("ana", heating=3)
    await asked(centre)
    await presses(centre, "2")
    (contact,) = centre.contacts
    assert contact.needs[0].skill == "billing"
    assert len(centre.phone.rung) == 1


async def test_a_product_of_another_provider_counts_for_nothing(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    await asked(centre)
    await presses(centre, "3")
    (contact,) = centre.contacts
    assert (contact.facts.provider_id, contact.facts.product_name) == ("thermea", "Boiler 200")


async def test_a_wrong_key_is_told_so_and_asked_again(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    await asked(centre)
    await presses(centre, "7")
    assert len(centre.contacts) == 0
    assert [len(heard) for _, heard in centre.media.played] == [1, 2]
    await presses(centre, "1")
    assert chosen(centre) == [("1", "key", 2)]


async def test_the_star_only_says_it_again(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    await asked(centre)
    await presses(centre, "*")
    assert [len(heard) for _, heard in centre.media.played] == [1, 1]


async def test_who_presses_nothing_is_asked_so_often_and_then_helped_as_the_default_says(
    tmp_path: Path,
) -> None:
    centre = await opened(tmp_path)
    await asked(centre, timeout_s=5, rounds=2, default="2")
    await centre.passes(7.5)  # 3 s of prompt, 5 s of silence
    assert len(centre.media.played) == 1
    await centre.passes(1.0)
    assert len(centre.media.played) == 2
    await centre.passes(8.0)
    assert chosen(centre) == [("2", "default", 2)]
    (contact,) = centre.contacts
    assert contact.needs[0].skill == "billing"
    assert centre.media.played[2][1] == "please-wait"


async def test_without_a_default_it_is_as_if_they_had_not_been_asked(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    await asked(centre, rounds=1)
    await centre.passes(9.0)
    assert chosen(centre) == [(None, "default", 1)]
    (contact,) = centre.contacts
    assert contact.facts.product_name == "Boiler 200"


async def test_a_key_by_info_counts_too(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    await asked(centre)
    (asking,) = centre.menus._asking.values()
    assert asking.leg.on_keys is not None
    asking.leg.on_keys("1")
    await centre.settle()
    assert chosen(centre) == [("1", "key", 1)]


async def test_keys_are_the_queues_again_once_chosen(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    await asked(centre)
    await presses(centre, "1")
    (contact,) = centre.contacts
    assert not centre.menus.keys_heard(contact.id, "customer-1", "1")


async def test_who_hangs_up_has_asked_for_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    caller = await asked(centre)
    caller.hang_up()
    await centre.settle()
    assert len(centre.contacts) == 0
    assert centre.media.branches == {}
    assert centre.events("menu.left")
    assert not centre.events("contact.requested")
    assert centre.clock.getDelayedCalls() == [] or not centre.menus._asking


@pytest.mark.parametrize("how", ["media_gone", "media_died", "stop"])
async def test_it_ends_with_the_media_and_with_the_server(tmp_path: Path, how: str) -> None:
    centre = await opened(tmp_path)
    caller = await asked(centre)
    (call,) = centre.menus._asking
    if how == "media_gone":
        centre.media.on_gone(call, "customer-1", "silence")
    else:
        getattr(centre.menus, how)()
    await centre.settle()
    assert caller.log == ["BYE"]
    assert len(centre.contacts) == 0
    assert not centre.menus._asking


async def test_who_cannot_be_asked_is_helped_all_the_same(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    play = centre.media.play

    async def no_files(call: str, branch: str, prompt: Any, *, repeat: bool = False) -> float:
        if str(prompt[0]).startswith("menu-"):
            raise OurError("cannot be read")
        return await play(call, branch, prompt, repeat=repeat)

    centre.media.play = no_files  # type: ignore[method-assign]
    await asked(centre)
    assert chosen(centre) == [(None, "default", 1)]
    assert len(centre.contacts) == 1


async def test_a_menu_that_cannot_be_spoken_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    async def fails(work: Any, *what: Any) -> None:
        raise OurError("no voice")

    centre = await opened(tmp_path)
    settings = menus([{"number": "+15550200", "choices": CHOICES}])
    await with_menus(centre, settings, fails)
    assert centre.menus.of("+15550200") is None
    await calls(centre)
    (contact,) = centre.contacts
    assert contact.channel is Channel.VOICE
    assert not centre.events("menu.asked")


async def test_who_has_chosen_and_cannot_be_taken_leaves_no_contact_without_a_caller(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    caller = await asked(centre)

    def fails(contact: Contact) -> bool:
        raise RuntimeError("a fault of ours")

    centre.calls.on_arrived = fails
    await presses(centre, "1")
    assert caller.log == ["BYE"]
    assert len(centre.contacts) == 0
    assert [event.facts["disposition"] for event in centre.events("contact.ended")] == ["media_failed"]


async def test_the_server_that_stops_meanwhile_hangs_up(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    caller = await asked(centre)
    centre.desk.draining = True
    await presses(centre, "1")
    assert caller.log == ["BYE"]
    assert len(centre.contacts) == 0
