"""What a customer's page is told of whom they talk to."""

from __future__ import annotations

import pytest

from agent_presence.roster import Device
from pbx.leg import Leg
from sip_trunk.call_events import Reoffered
from tests.pbx.test_transfer import Story

PICTURES = b"v=0\r\nm=audio 4000 RTP/AVP 0\r\nm=video 4002 RTP/AVP 96\r\n"


def told(story: Story) -> bool | None:
    said: bool | None = story.centre.desk.view(story.contact)["agent_video"]
    return said


@pytest.mark.parametrize("said", [True, False, None])
async def test_whether_the_agents_phone_can_carry_video_where_that_is_known(said: bool | None) -> None:
    story = await Story.begin()
    await story.centre.house.roster.set_capability("device-ana", "video", said)
    assert told(story) is said


async def test_it_is_the_phone_that_answered_that_counts() -> None:
    story = await Story.begin()
    roster = story.centre.house.roster
    await roster.set_capability("device-ana", "video", False)
    other: Device = await roster.add_device(
        "agent-ana", "Tablet", "ana-2", "secret", override={"video": True}, device_id="device-ana-2"
    )
    assert told(story) is False
    leg = story.centre.calls.agent_leg(story.contact)
    assert isinstance(leg, Leg)
    leg.device_id = other.id
    assert told(story) is True
    leg.device_id = None
    assert told(story) is True, "which phone it is nobody knows: it may be the one that can"


async def test_a_phone_that_shows_pictures_can() -> None:
    story = await Story.begin()
    await story.centre.house.roster.set_capability("device-ana", "video", False)
    story.ana.tell(Reoffered(PICTURES))
    await story.centre.settle()
    assert told(story) is True


async def test_of_who_is_not_there_nothing_is_known() -> None:
    story = await Story.begin()
    await story.centre.house.roster.set_capability("device-ana", "video", False)
    story.ana.hang_up()
    await story.centre.settle()
    assert told(story) is None
