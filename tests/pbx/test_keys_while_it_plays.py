"""Keys that come by INFO while something is still being played count as those of RFC 4733 do."""

from __future__ import annotations

from pathlib import Path

from tests.pbx.test_inbound_menu import asked, chosen, opened
from tests.pbx.test_keys import info


async def test_a_menu_is_cut_short_by_a_key_in_an_info(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    await centre.agent()
    caller = await asked(centre)
    assert centre.media.playing
    info(caller, "1")
    await centre.settle()
    assert chosen(centre) == [("1", "key", 1)]
    (contact,) = centre.contacts
    assert contact.facts.product_name == "Boiler 200"


async def test_a_wrong_key_in_an_info_is_told_so_while_it_plays(tmp_path: Path) -> None:
    centre = await opened(tmp_path)
    await centre.agent()
    caller = await asked(centre)
    info(caller, "7")
    await centre.settle()
    assert [len(heard) for _, heard in centre.media.played] == [1, 2]
    info(caller, "2")
    await centre.settle()
    assert chosen(centre) == [("2", "key", 2)]
