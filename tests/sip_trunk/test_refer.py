"""Transfers asked for inside a call: RFC 3515, 3891, 3892, 4488, 5057."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from sip_trunk.call import Call
from sip_trunk.call_events import CallEvent
from sip_trunk.refer import Refer
from sip_trunk.sip.message import Message, Request
from sip_trunk.sip.uri import TelUri
from sip_trunk.user_agent import Ended, Target, TransferRequested
from tests.sip_trunk.network import Address, Pair, ask, pass_time

TO = ("Refer-To", "<sip:carol@10.0.0.9>")


class Story:
    """Ana's phone talks to Bob, whose side is ours, and takes the notes of how a transfer goes."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.call, self.theirs = pair.talk()
        self.notes: list[Request] = []
        self.answers_notes = 200
        heard = self.call.receive

        def receive(transaction: Any, request: Request, dialog: Any) -> None:
            if request.method == "NOTIFY":
                self.notes.append(request)
                transaction.respond(request.response(self.answers_notes))
            else:
                heard(transaction, request, dialog)

        self.call.receive = receive  # type: ignore[method-assign]

    def refer(self, *headers: tuple[str, str]) -> list[Any]:
        came = ask(self.call, "REFER", [*(headers or (TO,))])
        self.pair.wait()
        return came

    @property
    def refers(self) -> list[Refer]:
        return [e.refer for e in self.pair.bob.events[self.theirs] if isinstance(e, TransferRequested)]

    def told(self) -> list[tuple[bytes, str]]:
        return [(note.body, note.headers.get("Subscription-State") or "") for note in self.notes]

    def part(self) -> None:
        self.theirs.hangup()
        # Ana's side has no use for the subscription of a transfer and forgets the dialog; this phone keeps it.
        self.pair.rest()


@pytest.fixture
def story(pair: Pair) -> Story:
    return Story(pair)


def test_a_transfer_is_accepted_and_its_course_told(story: Story) -> None:
    came = story.refer(TO, ("Referred-By", "<sip:ana@10.0.0.1>"))
    (refer,) = story.refers
    assert str(refer.target) == "sip:carol@10.0.0.9"
    assert (refer.replaces, refer.replaces_call) == (None, None)
    assert refer.referred_by == "<sip:ana@10.0.0.1>"
    assert came == []
    refer.accept()
    story.pair.wait()
    assert [r.status for r in came] == [202]
    assert "Contact" in came[0].headers
    refer.progress(180)
    story.pair.wait()
    refer.finish(200)
    story.pair.wait()
    assert [body for body, _ in story.told()] == [
        b"SIP/2.0 100 Trying\r\n",
        b"SIP/2.0 180 Ringing\r\n",
        b"SIP/2.0 200 OK\r\n",
    ]
    assert story.told()[0][1] in ("active;expires=180", "active;expires=179")
    assert story.told()[2][1] == "terminated;reason=noresource"
    assert {note.headers.get("Event") for note in story.notes} == {"refer"}
    assert {note.content_type for note in story.notes} == {"message/sipfrag"}
    assert all("Contact" in note.headers for note in story.notes)
    refer.finish(503)
    refer.progress(180)
    story.pair.wait()
    assert len(story.notes) == 3
    story.part()


def test_a_transfer_may_be_refused(story: Story) -> None:
    came = story.refer()
    story.refers[0].refuse(603)
    story.refers[0].accept()
    story.pair.wait()
    assert [(r.status, r.reason) for r in came] == [(603, "Decline")]
    assert not story.notes
    assert not story.pair.bob.endings(story.theirs)
    story.part()


def test_nothing_is_called_by_itself(story: Story) -> None:
    story.refer()
    story.refers[0].accept()
    story.pair.wait(10)
    assert len(story.pair.network.requests("INVITE")) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("Subject", "none")], 400),
        ([("Refer-To", "<sip:a@b>, <sip:c@d>")], 400),
        ([("Refer-To", "<")], 400),
        ([("Refer-To", "<http://example.org/>")], 416),
        ([("Refer-To", "<sip:a@b;method=BYE>")], 403),
        ([("Refer-To", "<sip:a@b?Replaces=nonsense>")], 400),
        ([("Refer-To", "<sip:a@b?Replaces=a%0d%0aX:%20y>")], 400),
        (
            [
                (
                    "Refer-To",
                    "<sip:a@b?Replaces=c%3Bto-tag%3D1%3Bfrom-tag%3D2&Replaces=d%3Bto-tag%3D1%3Bfrom-tag%3D2>",
                )
            ],
            400,
        ),
        ([TO, ("Require", "magic")], 420),
        ([TO, ("Replaces", "a;to-tag=1;from-tag=2")], 400),
    ],
)
def test_a_refer_that_makes_no_sense_is_refused(
    story: Story, headers: list[tuple[str, str]], status: int
) -> None:
    assert [r.status for r in story.refer(*headers)] == [status]
    assert not story.refers
    story.part()


def test_a_number_and_an_invite_may_be_referred_to(story: Story) -> None:
    story.refer(("Refer-To", "<tel:+15550100>"))
    story.refer(("Refer-To", "<sip:a@b;method=INVITE;user=phone>"))
    first, second = story.refers
    assert isinstance(first.target, TelUri)
    assert str(second.target) == "sip:a@b;user=phone"


def test_a_peer_that_wants_no_notes_gets_none(story: Story) -> None:
    came = story.refer(TO, ("Refer-Sub", "false"), ("Supported", "norefersub"))
    (refer,) = story.refers
    refer.accept()
    refer.progress(180)
    refer.finish(200)
    story.pair.wait(1)
    assert came[0].headers.get("Refer-Sub") == "false"
    assert not story.notes
    story.part()


def test_a_second_transfer_is_told_apart(story: Story) -> None:
    story.refer()
    story.refer()
    first, second = story.refers
    first.accept()
    second.accept()
    story.pair.wait()
    number = story.pair.network.requests("REFER")[1].cseq.number
    assert [note.headers.get("Event") for note in story.notes] == ["refer", f"refer;id={number}"]
    second.finish(486)
    first.finish(200)
    story.pair.wait()
    assert story.told()[2:] == [
        (b"SIP/2.0 486 Busy Here\r\n", "terminated;reason=noresource"),
        (b"SIP/2.0 200 OK\r\n", "terminated;reason=noresource"),
    ]
    story.part()


def test_only_so_many_transfers_are_under_way_at_once(story: Story) -> None:
    answers = [story.refer() for _ in range(5)]
    assert [r.status for r in answers[4]] == [486]
    assert len(story.refers) == 4
    story.part()


def test_an_attended_transfer_names_a_call_of_ours(pair: Pair) -> None:
    call, theirs = pair.talk()
    other, other_theirs = pair.talk()
    assert other.dialog is not None
    replaces = f"{other.id};to-tag={other.dialog.remote_tag};from-tag={other.dialog.local_tag}"
    ask(call, "REFER", [("Refer-To", f"<sip:x@10.0.0.2?Replaces={quote(replaces)}>")])
    ask(call, "REFER", [("Refer-To", "<sip:x@y?Replaces=unknown%3Bto-tag%3D1%3Bfrom-tag%3D2>")])
    pair.wait()
    known, unknown = [e.refer for e in pair.bob.events[theirs] if isinstance(e, TransferRequested)]
    assert known.replaces_call is other_theirs
    assert str(known.target) == "sip:x@10.0.0.2"
    assert known.replaces is not None
    assert known.replaces.call_id == other.id
    assert unknown.replaces is not None
    assert unknown.replaces_call is None


def test_the_notes_go_on_after_the_call(story: Story) -> None:
    story.refer()
    (refer,) = story.refers
    refer.accept()
    story.pair.wait()
    dialog = story.call.dialog
    assert dialog is not None
    story.call.hangup()
    story.pair.wait()
    assert story.pair.bob.endings(story.theirs) == [Ended("peer", "")]
    story.pair.ana.agent.dialogs[dialog.id] = (story.call, dialog)
    refer.progress(180)
    story.pair.wait()
    refer.finish(200)
    story.pair.wait()
    assert story.told()[-1] == (b"SIP/2.0 200 OK\r\n", "terminated;reason=noresource")
    del story.pair.ana.agent.dialogs[dialog.id]
    story.pair.rest()


def test_a_peer_that_is_gone_is_told_in_vain_and_harms_nothing(story: Story) -> None:
    story.refer()
    (refer,) = story.refers
    refer.accept()
    story.call.hangup()
    story.pair.wait()
    refer.finish(200)
    story.pair.wait()
    assert story.pair.network.responses(481, "NOTIFY")
    assert story.pair.bob.endings(story.theirs) == [Ended("peer", "")]
    story.pair.rest()


def test_a_note_nobody_answers_ends_the_subscription_and_not_the_call(story: Story) -> None:
    story.refer()
    story.pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "NOTIFY"
    story.refers[0].accept()
    story.pair.wait(40)
    story.refers[0].finish(200)
    story.pair.wait()
    assert not story.pair.bob.endings(story.theirs)
    assert {request.body for request in story.pair.network.requests("NOTIFY")} == {b"SIP/2.0 100 Trying\r\n"}
    story.part()


def test_a_lost_note_never_comes_after_the_last_word(story: Story) -> None:
    lost: list[Message] = []

    def drop(message: Message, to: Address) -> bool:
        if isinstance(message, Request) and message.method == "NOTIFY" and len(lost) < 2:
            lost.append(message)
            return True
        return False

    story.refer()
    story.pair.network.drops = drop
    story.refers[0].accept()
    story.refers[0].progress(180)
    story.refers[0].finish(200)
    story.pair.wait(5)
    assert [body for body, _ in story.told()] == [b"SIP/2.0 100 Trying\r\n", b"SIP/2.0 200 OK\r\n"]
    story.part()


def test_a_transfer_that_takes_too_long_is_told_no_more(story: Story) -> None:
    story.refer()
    story.refers[0].accept()
    story.pair.wait(181)
    assert story.told()[-1] == (b"SIP/2.0 100 Trying\r\n", "terminated;reason=timeout")
    story.refers[0].finish(200)
    story.pair.wait()
    assert len(story.notes) == 2
    story.part()


def test_the_peer_asks_for_more_time_and_for_no_more_notes(story: Story) -> None:
    story.refer()
    (refer,) = story.refers
    refer.accept()
    story.pair.wait(100)
    more = ask(story.call, "SUBSCRIBE", [("Event", "refer"), ("Expires", "9999")])
    story.pair.wait(100)
    assert [(r.status, r.headers.get("Expires")) for r in more] == [(200, "180")]
    assert len(story.notes) == 2
    enough = ask(story.call, "SUBSCRIBE", [("Event", f"refer;id={refer.number}"), ("Expires", "0")])
    story.pair.wait()
    assert [(r.status, r.headers.get("Expires")) for r in enough] == [(200, "0")]
    assert story.told()[-1][1] == "terminated;reason=timeout"
    refer.finish(200)
    story.pair.wait()
    assert len(story.notes) == 3
    gone = ask(story.call, "SUBSCRIBE", [("Event", "refer"), ("Expires", "60")])
    other = ask(story.call, "SUBSCRIBE", [("Event", "presence")])
    story.pair.wait()
    assert [r.status for r in (*gone, *other)] == [481, 489]
    story.part()


def test_an_owner_who_never_finishes_is_not_asked_for_ever(story: Story) -> None:
    story.refer()
    story.refers[0].accept()
    for _ in range(12):
        pass_time(story.pair.clock, 170, step=1)
        ask(story.call, "SUBSCRIBE", [("Event", "refer"), ("Expires", "180")])
    story.pair.wait(10)
    assert story.told()[-1][1] == "terminated;reason=timeout"


def test_an_owner_who_says_nothing_is_answered_for(story: Story) -> None:
    came = story.refer()
    story.pair.wait(29)
    assert came == []
    story.pair.wait(2)
    assert [r.status for r in came] == [500]
    story.refers[0].accept()
    story.refers[0].finish(200)
    story.pair.wait()
    assert not story.notes
    story.part()


def test_a_call_that_ends_first_takes_an_unanswered_transfer_with_it(story: Story) -> None:
    came = story.refer()
    story.theirs.hangup()
    story.pair.wait()
    assert [r.status for r in came] == [487]
    story.refers[0].accept()
    story.pair.rest()
    assert not story.notes


def test_a_refer_before_the_answer_or_outside_a_call_is_never_acted_upon(pair: Pair) -> None:
    call, theirs = pair.called()
    theirs.ring()
    pair.wait()
    (dialog,) = [dialog for _, dialog in pair.ana.agent.dialogs.values()]
    early = ask(call, "REFER", [TO], dialog=dialog)
    outside = pair.ana.agent.request(
        "REFER", Target("sip:x@10.0.0.2"), from_="sip:a@b", to="sip:x@10.0.0.2", headers=[TO]
    )
    pair.wait()
    assert [r.status for r in early] == [403]
    assert outside.result().status == 403
    assert pair.bob.events[theirs] == []


def test_an_owner_that_fails_leaves_nothing_hanging(story: Story) -> None:
    def fail(call: Call, event: CallEvent) -> None:
        if isinstance(event, TransferRequested):
            raise RuntimeError("no")

    story.pair.bob.on_call_event = fail
    came = story.refer()
    story.pair.wait(31)
    assert [r.status for r in came] == [500]
    story.part()


def test_the_bye_waits_until_the_phone_has_heard_how_its_transfer_went(story: Story) -> None:
    """As pjsua was seen to need it: it forgets a transfer with the call."""
    story.refer()
    (refer,) = story.refers
    refer.accept()
    refer.finish(200)
    story.theirs.hangup()
    assert story.theirs.ended
    story.pair.rest()
    sent = [m.method for _, _, m in story.pair.network.seen if isinstance(m, Request)]
    sent = [method for method in sent if method in ("NOTIFY", "BYE")]
    assert sent == ["NOTIFY", "NOTIFY", "BYE"]
    assert story.told()[-1][0] == b"SIP/2.0 200 OK\r\n"


def test_the_bye_does_not_wait_for_a_phone_that_hears_nothing(story: Story) -> None:
    story.refer()
    (refer,) = story.refers
    refer.accept()
    refer.finish(200)
    story.pair.network.drops = lambda message, to: isinstance(message, Request) and message.method == "NOTIFY"
    story.theirs.hangup()
    pass_time(story.pair.clock, 1.5)
    assert story.pair.network.requests("BYE") == []
    pass_time(story.pair.clock, 1.0)
    assert len(story.pair.network.requests("BYE")) >= 1
    story.pair.rest()
    assert story.theirs not in story.pair.bob.agent.calls
