"""What every MediaServer promises of a conference of as many as there may be."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from config.errors import OurError
from media.server import MOST_IN_CONFERENCE
from tests.media.media_servers import Open, deafen
from tests.media.tone_phone import LEVEL, TonePhone
from tests.peers.process import until

TONES = (440, 620, 880, 1250, 1760)
CODECS = ("pcmu", "opus", "pcma", "g722", "pcmu")


async def test_five_hear_each_other_whatever_they_speak_and_no_sixth_comes_in(opened: Open) -> None:
    async with opened() as house, AsyncExitStack() as stack:
        phones = {}
        for name, codec, tone in zip("abxyz", CODECS, TONES, strict=True):
            phones[name] = await stack.enter_async_context(TonePhone(codec, tone))
            await house.called(name, phones[name])
        assert len(phones) == MOST_IN_CONFERENCE
        await house.media.confer("c", list(phones))

        def all_hear() -> bool:
            return all(
                me.hears(other.tone) > LEVEL * 0.5 if other is not me else me.hears(me.tone) < LEVEL * 0.1
                for me in phones.values()
                for other in phones.values()
            )

        deafen(*phones.values())
        await until(all_hear, "each to hear the four others and not themselves", seconds=15)
        sixth = await stack.enter_async_context(TonePhone("pcmu", 2200))
        await house.called("sixth", sixth)
        with pytest.raises(OurError):
            await house.media.confer("c", [*phones, "sixth"])
        deafen(*phones.values())
        await until(all_hear, "the five to go on", seconds=15)
        assert max(each.hears(sixth.tone) for each in phones.values()) < LEVEL * 0.05
