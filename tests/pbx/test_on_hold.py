"""A customer's page says when they are on hold, however that has come about, and when it is over."""

from __future__ import annotations

from sip_trunk import user_agent as sip
from tests.pbx.test_transfer import Story


class Page:
    """What the customer's page is told, for as long as it is open."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self.told: list[bool] = []
        story.centre.desk.listen(story.contact.id, self._hears)

    def _hears(self, kind: str, view: dict[str, bool]) -> None:
        if kind == "state" and self.told[-1:] != [view["on_hold"]]:
            self.told.append(view["on_hold"])

    @property
    def shown(self) -> bool:
        return bool(self._story.centre.desk.view(self._story.contact)["on_hold"])


async def test_by_the_agents_page() -> None:
    story = await Story.begin()
    page = Page(story)
    assert not page.shown
    await story.centre.actions.hold("agent-ana", story.contact.id)
    assert page.shown
    await story.centre.actions.unhold("agent-ana", story.contact.id)
    assert page.told == [True, False]


async def test_by_the_key_of_the_agents_phone() -> None:
    story = await Story.begin()
    page = Page(story)
    for direction in (b"sendonly", b"inactive", b"sendrecv"):
        story.ana.tell(sip.Reoffered(b"v=0\r\nm=audio 4000 RTP/AVP 0\r\na=%s\r\n" % direction))
        await story.centre.settle()
        assert page.shown is (direction != b"sendrecv")
    assert page.told == [True, False]


async def test_while_a_colleague_is_asked_and_not_in_the_conference_after_it() -> None:
    story = await Story.begin()
    page = Page(story)
    await story.centre.actions.consult("agent-ana", story.contact.id, "agent:agent-bo")
    await story.centre.settle()
    story.bo.pick_up()
    await story.centre.settle()
    assert page.shown
    await story.centre.actions.confer("agent-ana", story.contact.id)
    await story.centre.settle()
    assert not page.shown
    await story.centre.actions.call_off("agent-ana", story.contact.id)
    await story.centre.settle()
    assert page.told == [True, False]


async def test_until_somebody_takes_whom_the_agent_passes_on() -> None:
    story = await Story.begin()
    page = Page(story)
    await story.centre.actions.transfer("agent-ana", story.contact.id, "agent:agent-bo")
    await story.centre.settle()
    assert page.shown
    story.bo.pick_up()
    await story.centre.settle()
    assert story.contact.agent_id == "agent-bo"
    assert page.told == [True, False]


async def test_not_with_the_next_agent_when_a_held_customer_has_gone_back_to_the_queue() -> None:
    story = await Story.begin()
    await story.centre.actions.hold("agent-ana", story.contact.id)
    page = Page(story)
    await story.centre.actions.transfer("agent-ana", story.contact.id, "queue:patience")
    await story.centre.settle()
    assert not page.shown
    await story.centre.agent("cleo")
    story.centre.phone.rung[-1].pick_up()
    await story.centre.settle()
    assert story.contact.agent_id == "agent-cleo"
    assert not page.shown
