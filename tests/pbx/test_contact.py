from __future__ import annotations

import pytest

from config.errors import OurError
from pbx.contact import MOVES, Channel, Contact, Disposition, Facts, Move, Refusal, State


def contact() -> Contact:
    return Contact(Facts("c_1", Channel.VOICE, 100.0, "thermea", "Thermea"))


def test_every_open_state_can_end_and_nothing_leaves_the_end() -> None:
    for state in State:
        assert ((state, Move.END) in MOVES) is (state is not State.ENDED)
    assert not [move for (state, move) in MOVES if state is State.ENDED]


def test_the_whole_way_of_a_contact_that_went_well() -> None:
    it = contact()
    it.ring("ana")
    it.join(130.0)
    it.end(Disposition.AGENT_HUNG_UP, 190.0)
    assert (it.state, it.agent_id, it.connected_at, it.ended_at) == (State.ENDED, "ana", 130.0, 190.0)
    assert it.disposition is not None
    assert it.disposition.whose == "agent"


def test_an_agent_who_refused_is_remembered_and_is_theirs_no_more() -> None:
    it = contact()
    it.ring("ana")
    refusal = Refusal(120.0, "declined", 150.0)
    it.refused_by("ana", refusal)
    assert (it.state, it.agent_id, it.refusals, it.attempts) == (State.WAITING, None, {"ana": refusal}, 1)


def test_an_agent_who_was_only_rung_is_not_the_agent_of_a_contact_that_ended() -> None:
    it = contact()
    it.ring("ana")
    it.end(Disposition.CUSTOMER_GAVE_UP, 110.0)
    assert it.agent_id is None


@pytest.mark.parametrize("move", ["join", "back"])
def test_what_the_table_does_not_know_is_our_fault(move: str) -> None:
    with pytest.raises(OurError, match="waiting"):
        contact()._move(Move(move))


def test_every_disposition_says_whose_doing_it_was() -> None:
    assert {disposition.whose for disposition in Disposition} == {
        "customer", "agent", "other", "server", "nobody",
    }  # fmt: skip
