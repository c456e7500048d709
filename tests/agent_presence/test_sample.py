from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_presence import sample
from agent_presence.capability import device_can
from sip_trunk.sip.digest import Credentials
from tests.agent_presence.house import House, binding_of
from tests.conftest import run


class Logins:
    async def hash_password(self, password: str) -> str:
        return f"hash of {password}"


LOGINS: Any = Logins()


@pytest.fixture
def house() -> House:
    async def opened() -> House:
        return await House().open()

    return run(opened())


async def test_four_people_and_a_robot_with_different_skills(house: House, tmp_path: Path) -> None:
    await sample.seed(house.roster, LOGINS, data=tmp_path)
    skills = {agent.name: set(agent.skills) for agent in house.roster.agents()}
    assert skills == {
        "Ana Ferreira": {"heating", "boiler-hydraulics"},
        "Bo Lindqvist": {"wifi-pairing", "smart-home"},
        "Carla Rossi": {"wifi-pairing", "smart-home", "video-diagnosis"},
        "Deniz Aydin": {"heating", "wifi-pairing", "billing"},
        "Robin (test agent)": set(sample.SKILLS),
    }
    assert len(house.roster.devices_of("agent-carla")) == 2
    (bo,) = house.roster.devices_of("agent-bo")
    phone = binding_of(features={"audio": "TRUE", "video": "TRUE"})
    assert (device_can(bo, [phone], "voice"), device_can(bo, [phone], "video")) == (True, False)


async def test_the_printed_passwords_open(house: House, tmp_path: Path) -> None:
    await sample.seed(house.roster, LOGINS, data=tmp_path)
    for agent in sample.AGENTS:
        known = house.roster.by_login(agent.login)
        assert known is not None
        assert known.password_hash == f"hash of {agent.password}"
        for device in agent.devices:
            expected = Credentials.of(device.username, "warmline", device.password)
            assert house.roster.credentials_of(device.username) == expected


async def test_the_robots_password_is_in_a_file_of_its_owner_alone(house: House, tmp_path: Path) -> None:
    data = tmp_path / "var"
    await sample.seed(house.roster, LOGINS, data=data)
    file = data / sample.ROBOT_PASSWORD_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    expected = Credentials.of("robin", "warmline", sample.robot_password(data))
    assert house.roster.credentials_of("robin") == expected


async def test_seeding_again_changes_nothing(house: House, tmp_path: Path) -> None:
    await sample.seed(house.roster, LOGINS, data=tmp_path)
    await house.roster.set_password("device-ana", "changed by ana")
    agents, password = house.roster.agents(), sample.robot_password(tmp_path)
    await sample.seed(house.roster, LOGINS, data=tmp_path)
    assert house.roster.agents() == agents
    assert sample.robot_password(tmp_path) == password
    assert house.roster.credentials_of("ana") == Credentials.of("ana", "warmline", "changed by ana")


async def test_a_robot_whose_password_was_lost_gets_a_new_one(house: House, tmp_path: Path) -> None:
    await sample.seed(house.roster, LOGINS, data=tmp_path)
    (tmp_path / sample.ROBOT_PASSWORD_FILE).unlink()
    await sample.seed(house.roster, LOGINS, data=tmp_path)
    expected = Credentials.of("robin", "warmline", sample.robot_password(tmp_path))
    assert house.roster.credentials_of("robin") == expected
    assert len(house.roster.agents()) == 5


async def test_who_has_left_stays_away_and_so_does_a_phone_taken_back(house: House, tmp_path: Path) -> None:
    await sample.seed(house.roster, LOGINS, data=tmp_path)
    for agent_id in ("agent-bo", sample.ROBOT_ID):
        agent = house.roster.agent(agent_id)
        assert agent is not None
        await house.roster.change_agent(replace(agent, left_at=5.0))
    await house.roster.remove_device("device-ana")
    await sample.seed(house.roster, LOGINS, data=tmp_path)
    assert {agent.name for agent in house.roster.agents()} == {"Ana Ferreira", "Carla Rossi", "Deniz Aydin"}
    assert [house.roster.credentials_of(name) for name in ("ana", "bo", "robin")] == [None] * 3


@pytest.mark.parametrize("left_at", [None, 5.0])
async def test_somebody_elses_logins_and_phones_are_theirs(
    house: House, tmp_path: Path, left_at: float | None
) -> None:
    for login in ("ana", "robin"):
        agent = await house.roster.add_agent("Own", login, "own", skills={}, agent_id=f"own-{login}")
        await house.roster.change_agent(replace(agent, left_at=left_at))
    await sample.seed(house.roster, LOGINS, data=tmp_path)
    assert house.roster.agent("agent-ana") is None
    assert house.roster.agent(sample.ROBOT_ID) is None
    assert len(house.roster.agents()) == (3 if left_at else 5)
