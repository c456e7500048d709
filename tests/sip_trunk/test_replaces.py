"""An INVITE that takes the place of a call: RFC 3891 §3."""

from __future__ import annotations

import pytest

from sip_trunk.call import Call
from sip_trunk.sip.dialog import Dialog
from sip_trunk.sip.message import Request
from sip_trunk.user_agent import Accepted, Refused, Target
from tests.sip_trunk.network import ANSWER, Pair, Phone, ask


def named(dialog: Dialog | None, more: str = "") -> tuple[str, str]:
    """Ana's view of a dialog with Bob, in a Replaces for Bob."""
    assert dialog is not None
    return ("Replaces", f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}{more}")


def result(pair: Pair, phone: Phone, headers: list[tuple[str, str]]) -> int:
    call = phone.call(pair.bob, headers=headers)
    pair.wait()
    if pair.bob.incoming[-1].id == call.id:
        pair.bob.incoming[-1].accept(ANSWER)
    pair.wait()
    event = phone.events[call][-1]
    if isinstance(event, Accepted):
        return 200
    assert isinstance(event, Refused)
    return event.status


def test_the_call_that_is_replaced_is_handed_to_the_owner(pair: Pair) -> None:
    carol = Phone(pair.network, "10.0.0.3")
    call, theirs = pair.talk()
    assert theirs.replaces is None
    assert result(pair, carol, [named(call.dialog), ("Require", "replaces")]) == 200
    assert pair.bob.incoming[-1].replaces is theirs
    assert not pair.bob.endings(theirs)  # that is the owner's to do
    theirs.hangup()
    pair.bob.incoming[-1].hangup()
    pair.rest()


@pytest.mark.parametrize(
    "value",
    [
        "unknown;to-tag=1;from-tag=2",
        "{call};to-tag={mine};from-tag={theirs}",
        "{call};to-tag={theirs};from-tag=0",
    ],
)
def test_what_is_not_there_cannot_be_replaced(pair: Pair, value: str) -> None:
    call, _ = pair.talk()
    assert call.dialog is not None
    value = value.format(call=call.id, mine=call.dialog.local_tag, theirs=call.dialog.remote_tag)
    assert result(pair, pair.ana, [("Replaces", value)]) == 481
    assert len(pair.bob.incoming) == 1


def test_an_answered_call_is_not_replaced_by_who_wants_a_ringing_one(pair: Pair) -> None:
    call, _ = pair.talk()
    assert result(pair, pair.ana, [named(call.dialog, ";early-only")]) == 486


def test_a_call_that_rings_here_cannot_be_taken_by_another_caller(pair: Pair) -> None:
    _, theirs = pair.called()
    theirs.ring()
    pair.wait()
    (dialog,) = [dialog for _, dialog in pair.ana.agent.dialogs.values()]
    assert result(pair, pair.ana, [named(dialog)]) == 481


@pytest.mark.parametrize("more", ["", ";early-only"])
def test_a_call_of_ours_that_rings_there_can_be_taken(pair: Pair, more: str) -> None:
    """Call pickup: Bob calls Ana, whose phone rings, and Carol takes the call."""
    carol = Phone(pair.network, "10.0.0.3")
    ours = pair.bob.call(pair.ana)
    pair.wait()
    pair.ana.incoming[0].ring()
    pair.wait()
    pair.bob.incoming.append(pair.ana.incoming[0])
    assert result(pair, carol, [named(pair.ana.incoming[0].dialog, more)]) == 200
    assert pair.bob.incoming[-1].replaces is ours


def test_a_call_that_is_over_is_declined(pair: Pair) -> None:
    call, theirs = pair.talk()
    pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "BYE"
    theirs.hangup()
    assert result(pair, pair.ana, [named(call.dialog)]) == 603


@pytest.mark.parametrize(
    "headers",
    [
        [("Replaces", "nonsense")],
        [("Replaces", "a;to-tag=1;from-tag=2"), ("Join", "b;to-tag=1;from-tag=2")],
        [("Replaces", "a;to-tag=1")],
    ],
)
def test_a_replaces_that_makes_no_sense_is_refused(pair: Pair, headers: list[tuple[str, str]]) -> None:
    call = pair.ana.call(pair.bob, headers=headers)
    pair.wait()
    (ending,) = pair.ana.endings(call)
    assert isinstance(ending, Refused)
    assert ending.status == 400
    assert not pair.bob.incoming
    pair.rest()


def test_only_a_new_invite_replaces(pair: Pair) -> None:
    call, _ = pair.talk()
    header = named(call.dialog)
    inside = ask(call, "INVITE", [header], body=ANSWER)
    info = ask(call, "INFO", [header])
    outside = pair.ana.agent.request(
        "OPTIONS", Target("sip:x@10.0.0.2"), from_="sip:a@b", to="sip:x@10.0.0.2", headers=[header]
    )
    pair.wait()
    assert [r.status for r in (*inside, *info, outside.result())] == [400, 400, 400]


def test_a_peer_of_before_rfc_3261_has_no_tag(pair: Pair) -> None:
    invite = Request(
        "INVITE",
        "sip:x@10.0.0.2",
        [
            ("Via", "SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKold"),
            ("From", "<sip:n@x>"),
            ("To", "<sip:x@10.0.0.2>"),
            ("Call-ID", "old"),
            ("CSeq", "1 INVITE"),
            ("Contact", "<sip:n@10.0.0.9>"),
        ],
    )
    pair.bob.transports.arrived(("10.0.0.9", 5060), invite.to_bytes())
    old: Call = pair.bob.incoming[0]
    pair.bob.incoming[0].accept(ANSWER)
    assert old.dialog is not None
    value = f"old;to-tag={old.dialog.local_tag};from-tag=0"
    assert result(pair, pair.ana, [("Replaces", value)]) == 200
    assert pair.bob.incoming[-1].replaces is old
