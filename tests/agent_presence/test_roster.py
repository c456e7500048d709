from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent_presence.roster import Agent, Device, Roster, Skill
from config.errors import TheirError
from sip_trunk.sip.digest import Credentials
from tests.agent_presence.house import House
from tests.conftest import run


@pytest.fixture
def house() -> House:
    async def opened() -> House:
        house = await House().open()
        await house.hire("ana", heating=5)
        return house

    return run(opened())


async def read_again(house: House) -> Roster:
    roster = Roster(house.store, realm="warmline")
    await roster.load()
    return roster


async def test_what_was_added_is_there_after_a_restart(house: House) -> None:
    await house.roster.add_agent(
        "Zoë Ünal",
        " ZOE ",
        "hash",
        skills={"billing": 2, "heating": 1},
        languages=["tr"],
        provider_ids=["lumio"],
    )
    again = await read_again(house)
    assert again.agents() == house.roster.agents()
    zoe = again.by_login("Zoe")
    assert zoe is not None
    assert (zoe.name, dict(zoe.skills), zoe.languages) == ("Zoë Ünal", {"billing": 2, "heating": 1}, ("tr",))
    assert zoe.serves("lumio")
    assert not zoe.serves("thermea")
    assert again.devices_of("agent-ana") == house.roster.devices_of("agent-ana")
    assert again.skills() == {"billing", "heating"}


async def test_a_password_is_checked_by_ha1_alone_and_not_kept(house: House) -> None:
    assert house.roster.credentials_of("ana") == Credentials.of("ana", "warmline", "ana-phone")
    assert house.roster.credentials_of("nobody") is None
    assert "ana-phone" not in repr(house.device("ana"))
    await house.roster.set_password("device-ana", "new secret")
    assert (await read_again(house)).credentials_of("ana") == Credentials.of("ana", "warmline", "new secret")


async def test_names_are_given_once(house: House) -> None:
    with pytest.raises(TheirError) as taken:
        await house.roster.add_agent("Another", "Ana", "hash", skills={})
    assert taken.value.status == 409
    with pytest.raises(TheirError) as taken:
        await house.roster.add_device("agent-ana", "Second", "ana", "secret")
    assert taken.value.status == 409


async def test_nonsense_is_refused(house: House) -> None:
    with pytest.raises(TheirError) as refused:
        await house.roster.add_agent("Bo", "bo", "hash", skills={"heating": 6})
    assert refused.value.status == 400
    with pytest.raises(TheirError) as refused:
        await house.roster.set_capability("device-ana", "smell", True)
    assert refused.value.status == 400
    with pytest.raises(TheirError) as refused:
        await house.roster.set_capability("device-nobody", "video", True)
    assert refused.value.status == 404
    with pytest.raises(TheirError) as refused:
        await house.roster.add_device("agent-nobody", "Phone", "x", "secret")
    assert refused.value.status == 404


async def test_a_capability_can_be_said_and_taken_back_and_listeners_hear_it(house: House) -> None:
    heard: list[str] = []
    house.roster.on_change.append(heard.append)
    await house.roster.set_capability("device-ana", "video", False)
    assert (await read_again(house)).devices_of("agent-ana")[0].override == {"video": False}
    await house.roster.set_capability("device-ana", "video", None)
    assert house.device("ana").override == {}
    await house.roster.learn("device-ana", {"video": True})
    await house.roster.learn("device-ana", {"video": True})
    assert heard == ["agent-ana"] * 3


async def test_what_is_learnt_later_leaves_the_rest_known(house: House) -> None:
    await house.roster.learn("device-ana", {"video": True, "voice": True})
    await house.roster.learn("device-ana", {"video": False})
    assert house.device("ana").learnt == {"video": False, "voice": True}


async def test_standby_is_kept_over_a_restart() -> None:
    house = await House().open()
    await house.roster.add_agent("Robin", "robin", "hash", skills={}, standby=True, agent_id="robin")
    await house.hire("ana")
    again = await house.again()
    assert {agent.id: agent.standby for agent in again.roster.agents()} == {"robin": True, "agent-ana": False}


async def test_what_was_changed_of_somebody_is_there_after_a_restart(house: House) -> None:
    ana = house.roster.by_login("ana")
    assert ana is not None
    heard: list[str] = []
    house.roster.on_change.append(heard.append)
    changed = replace(
        ana,
        name="Ana F.",
        login="ana.f",
        skills={Skill("billing"): 2},
        languages=("pt",),
        chats=4,
        supervisor=True,
    )
    await house.roster.change_agent(changed)
    assert heard == ["agent-ana"]
    assert house.roster.by_login("ana") is None
    assert house.roster.by_login("ana.f") == changed
    again = await read_again(house)
    assert again.agents() == (changed,)
    assert again.devices_of(ana.id) == house.roster.devices_of(ana.id)


async def test_who_has_left_is_found_by_no_question_but_their_name_and_login(house: House) -> None:
    ana = house.roster.by_login("ana")
    assert ana is not None
    left = await house.roster.change_agent(replace(ana, left_at=5.0))
    for roster in (house.roster, await read_again(house)):
        assert roster.agents() == ()
        assert roster.agent("agent-ana") is None
        assert roster.by_login("ana") is None
        assert roster.skills() == frozenset()
        assert roster.devices_of("agent-ana") == ()
        assert roster.credentials_of("ana") is None
        assert roster.agent_of_username("ana") is None
        assert roster.left() == (left,)
        assert roster.ever("agent-ana") == left
        with pytest.raises(TheirError) as taken:
            await roster.add_agent("Another Ana", "ana", "hash", skills={})
        assert taken.value.status == 409
    with pytest.raises(TheirError) as gone:
        await house.roster.add_device("agent-ana", "Phone", "ana", "secret")
    assert gone.value.status == 404
    back = await house.roster.change_agent(replace(left, left_at=None))
    assert (await read_again(house)).agents() == house.roster.agents() == (back,)


async def test_a_device_taken_back_opens_nothing_and_its_name_is_free(house: House) -> None:
    await house.roster.remove_device("device-ana")
    for roster in (house.roster, await read_again(house)):
        assert roster.credentials_of("ana") is None
        assert roster.devices_of("agent-ana") == ()
    with pytest.raises(TheirError) as gone:
        await house.roster.learn("device-ana", {"video": True})
    assert gone.value.status == 404
    await house.roster.add_device("agent-ana", "Phone", "ana", "another")


async def test_of_two_at_once_with_one_name_the_second_is_told(house: House) -> None:
    both = [house.roster.add_agent("Bo", "bo", "hash", skills={}, agent_id=f"bo-{each}") for each in (1, 2)]
    first, second = await asyncio.gather(*both, return_exceptions=True)
    assert isinstance(first, Agent)
    assert isinstance(second, TheirError)
    phones = [house.roster.add_device("bo-1", "Phone", "bo", "secret") for _ in range(2)]
    one, other = await asyncio.gather(*phones, return_exceptions=True)
    assert isinstance(one, Device)
    assert isinstance(other, TheirError)
