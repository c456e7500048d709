"""What an agent says became of a contact: codes of the provider, a note, the skill that was really needed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.errors import TheirError
from pbx.contact import Contact
from pbx.wrap_up import DEFAULT_CODES, LONGEST_NOTE, SAMPLE_CODES, seed
from tests.pbx.test_transfer import Story


async def says(
    story: Story, code: str, note: str | None = None, needed: str | None = None, agent: str = "agent-ana"
) -> None:
    await story.centre.actions.wrap_up(agent, story.contact, code, note, needed)
    await story.centre.settle()


async def writing_up() -> Story:
    story = await Story.begin()
    story.customer.hang_up()
    await story.centre.settle()
    assert story.centre.state("ana") == "WrapUp"
    return story


async def test_a_code_is_kept_told_and_ends_writing_up() -> None:
    story = await writing_up()
    await says(story, "resolved", "  Bled the radiator.  ")
    assert story.centre.state("ana") == "Ready"
    stored = await story.centre.store.contact(story.contact.id)
    assert stored is not None
    assert (stored.wrap_up_code, stored.wrap_up_note) == ("resolved", "Bled the radiator.")
    (told,) = story.centre.events("contact.wrapped_up")
    assert (told.contact, told.agent, told.facts["code"]) == (story.contact.id, "agent-ana", "resolved")
    assert (told.facts["note"], told.facts["wrong_skill"], told.facts["needed"]) == (
        "Bled the radiator.",
        False,
        None,
    )


async def test_the_log_tells_of_a_code_in_the_commit_that_stores_it() -> None:
    """Told later, a crash in between would leave a code that nobody has said."""
    story = await writing_up()
    stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    store: Any = story.centre.store
    store.wrapped_up = lambda contact_id, code, note: stored
    saying = asyncio.ensure_future(says(story, "resolved"))
    await story.centre.settle()
    assert not saying.done()
    assert len(story.centre.events("contact.wrapped_up")) == 1
    stored.set_result(None)
    await saying


async def test_who_has_asked_for_a_break_has_it_then() -> None:
    story = await Story.begin()
    await story.centre.house.states.not_ready("agent-ana")
    story.customer.hang_up()
    await story.centre.settle()
    assert story.centre.state("ana") == "WrapUp"
    await says(story, "resolved")
    assert story.centre.state("ana") == "NotReady"


async def test_a_code_may_be_said_while_they_talk_and_writing_up_comes_all_the_same() -> None:
    story = await Story.begin()
    await says(story, "follow-up", "Call on Monday.")
    assert story.centre.state("ana") == "Talking"
    story.customer.hang_up()
    await story.centre.settle()
    assert story.centre.state("ana") == "WrapUp"
    stored = await story.centre.store.contact(story.contact.id)
    assert stored is not None
    assert (stored.wrap_up_code, stored.disposition) == ("follow-up", story.contact.disposition)
    await says(story, "resolved")
    assert story.centre.state("ana") == "Ready"


async def test_writing_up_ends_by_itself_and_then_nothing_more_is_said() -> None:
    story = await writing_up()
    await story.centre.passes(11)
    assert story.centre.state("ana") == "Ready"
    assert story.centre.actions.writing_up("agent-ana") is None
    with pytest.raises(TheirError) as caught:
        await says(story, "resolved")
    assert caught.value.status == 404


async def test_who_is_asked_by_name_in_the_middle_goes_on_writing_up_the_same() -> None:
    story = await writing_up()
    other = await story.centre.asks("jonas")
    await story.centre.calls_in(other)
    held = await story.centre.dispatch.hold(other, "agent-ana")
    assert held is not None
    await story.centre.settle()
    assert story.centre.state("ana") == "Reserved"
    held.release()
    await story.centre.settle()
    assert story.centre.state("ana") == "WrapUp"
    assert story.centre.actions.writing_up("agent-ana") == story.contact.id


@pytest.mark.parametrize(
    ("code", "note", "needed", "status"),
    [
        ("nonsense", None, None, 422), ("", None, None, 422), ("resolved", "x" * (LONGEST_NOTE + 1), None, 413),
        ("wrong-skill", None, None, 422), ("wrong-skill", None, "astrology", 422),
    ],
)  # fmt: skip
async def test_what_cannot_be_said(code: str, note: str | None, needed: str | None, status: int) -> None:
    story = await writing_up()
    with pytest.raises(TheirError) as caught:
        await says(story, code, note, needed)
    assert caught.value.status == status
    assert story.centre.state("ana") == "WrapUp"
    assert story.contact.wrap_up_code is None


async def test_nobody_else_says_what_became_of_it() -> None:
    story = await writing_up()
    with pytest.raises(TheirError) as caught:
        await says(story, "resolved", agent="agent-bo")
    assert caught.value.status == 404


async def test_the_wrong_skill_is_told_once_with_the_one_that_was_needed() -> None:
    story = await writing_up()
    await says(story, "wrong-skill", None, "wifi")
    assert story.centre.wrong_skills == [(story.contact.id, "wifi", "agent-ana")]
    assert story.centre.events("contact.wrapped_up")[0].facts["needed"] == "wifi"


async def test_who_passes_it_on_to_another_skill_says_so_of_how_it_came_to_them() -> None:
    story = await Story.begin()
    before = story.contact.needs
    came = []

    async def heard(contact: Contact, needed: str, agent_id: str) -> None:
        came.append(contact.needs)

    story.centre.wrap_ups._on_wrong_skill = heard
    await story.centre.actions.transfer("agent-ana", story.contact.id, "skill:wifi")
    await story.centre.settle()
    assert story.contact.needs != before
    await says(story, "wrong-skill", None, "wifi")
    assert came == [before]
    assert story.centre.state("ana") == "Ready"
    assert story.contact.open, "Bo has it, or will"


async def test_skills_to_choose_from_are_those_somebody_has_now() -> None:
    story = await Story.begin()
    assert story.centre.actions.needed_skills() == ["heating", "wifi"]
    await story.centre.house.hire("cy", billing=2)
    assert story.centre.actions.needed_skills() == ["billing", "heating", "wifi"]


async def test_each_provider_has_its_own_codes_and_others_the_usual_ones() -> None:
    story = await Story.begin()
    await seed(story.centre.store)
    await seed(story.centre.store)
    await story.centre.wrap_ups.load()
    assert tuple(story.centre.actions.codes(story.contact)) == SAMPLE_CODES["thermea"]
    assert tuple(story.centre.wrap_ups.codes("somebody")) == DEFAULT_CODES
    for codes in (DEFAULT_CODES, *SAMPLE_CODES.values()):
        assert len({code.code for code in codes}) == len(codes)
        assert any(code.wrong_skill for code in codes)
