"""Two user agents on a network that loses, delays, repeats and reorders: every call ends, once, on both sides."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from sip_trunk.call import Call, CallState
from sip_trunk.call_events import CallEvent, InDialog, Reoffered, TransferRequested
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.sip import dialog as dialogs
from tests.sip_trunk.network import ANSWER, Network, Phone, ask, pass_time

ANY_ACTS = ["hangup", "reinvite", "update", "message", "refer", "unsubscribe", "nothing"]
CALLER_ACTS = st.sampled_from(ANY_ACTS)
CALLEE_ACTS = st.sampled_from([*ANY_ACTS, "ring", "early", "reliable", "accept", "refuse"])
WAITS = st.floats(min_value=0, max_value=12)
REFER_TO = ("Refer-To", "<sip:carol@10.0.0.9>")


def _act(phone: Phone, call: Call, what: str) -> None:
    if what == "hangup":
        call.hangup()
    elif what == "reinvite":
        call.reinvite(ANSWER)
    elif what == "update":
        call.update(ANSWER)
    elif what in ("message", "refer", "unsubscribe") and call.state is CallState.CONFIRMED:
        if what == "message":
            call.send("INFO", b"x", "text/plain")
        elif what == "refer":
            ask(call, "REFER", [REFER_TO])
        else:
            ask(call, "SUBSCRIBE", [("Event", "refer"), ("Expires", "0")])
    elif isinstance(call, IncomingCall):
        if what == "ring":
            call.ring()
        elif what == "early":
            call.ring(183, body=ANSWER)
        elif what == "reliable":
            call.ring(182, reliable=True)
        elif what == "accept":
            call.accept(ANSWER)
        elif what == "refuse":
            call.refuse(486)


def _each(phone: Phone, what: str) -> None:
    for call in list(phone.incoming):
        _act(phone, call, what)


def _drop(_: object) -> None:
    return


class _Reaction:
    """What the owner of both phones' calls does when something happens."""

    def __init__(self, clock: Clock, *, slow: bool, transfers: str) -> None:
        self.clock = clock
        self.slow = slow
        self.transfers = transfers

    def __call__(self, call: Call, event: CallEvent) -> None:
        if isinstance(event, InDialog):
            event.request.respond(200)
        elif isinstance(event, Reoffered):
            self.clock.callLater(2 if self.slow else 0, call.answer_reoffer, ANSWER)
        elif isinstance(event, TransferRequested):
            refer = event.refer
            if self.transfers == "refuse":
                refer.refuse(603)
            elif self.transfers == "accept":
                self.clock.callLater(1 if self.slow else 0, refer.accept)
                self.clock.callLater(2, refer.progress, 180)
                self.clock.callLater(3, refer.finish, 200)
            elif self.transfers == "accept and forget":
                refer.accept()


def _legal(phone: Phone) -> None:
    for call in phone.agent.calls:
        assert not call.ended
    for call, dialog in phone.agent.dialogs.values():
        if dialog.state is not dialogs.State.TERMINATED:
            assert not call.ended or getattr(call, "_bye_is_due", None) is not None
        if call.state is CallState.CONFIRMED and dialog is call.dialog:
            assert dialog.state is dialogs.State.CONFIRMED


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**32),
    lose=st.sampled_from([0.0, 0.1, 0.3, 0.6, 0.95]),
    repeat=st.sampled_from([0.0, 0.2, 0.6]),
    delay=st.sampled_from([0.0, 0.3, 1.5]),
    transport=st.sampled_from(["UDP", "UDP", "TCP"]),
    caller=st.lists(st.tuples(WAITS, CALLER_ACTS), max_size=5),
    callee=st.lists(st.tuples(WAITS, CALLEE_ACTS), max_size=6),
    picks_up=st.sampled_from([None, 0.0, 0.4, 3.0]),
    slow_answer=st.booleans(),
    transfers=st.sampled_from(["refuse", "accept", "accept and forget", "neither"]),
    early=st.sampled_from([None, "early", "reliable"]),
    session=st.sampled_from([0, 12, 1800]),
    updates=st.booleans(),
)
def test_every_call_ends_once_on_both_sides_and_nothing_is_left(
    seed: int,
    lose: float,
    repeat: float,
    delay: float,
    transport: str,
    caller: list[tuple[float, str]],
    callee: list[tuple[float, str]],
    picks_up: float | None,
    slow_answer: bool,
    transfers: str,
    early: str | None,
    session: int,
    updates: bool,
) -> None:
    clock = Clock()
    if transport == "TCP":
        lose = repeat = delay = 0
    network = Network(clock, seed=seed, lose=lose, repeat=repeat, delay=delay)
    ana, bob = (
        Phone(network, host, transport=transport, session_expires_s=session, min_se_s=min(session, 90))
        for host in ("10.0.0.1", "10.0.0.2")
    )
    ana.on_call_event = bob.on_call_event = _Reaction(clock, slow=slow_answer, transfers=transfers)

    def invited(theirs: IncomingCall) -> None:
        if not updates:
            theirs.peer_allows = frozenset({"invite"})
        if early is not None:
            _act(bob, theirs, early)
        if picks_up is not None:
            clock.callLater(picks_up, theirs.accept, ANSWER)

    bob.on_invite = invited
    call = ana.call(bob)
    if not updates:
        call.peer_allows = frozenset({"invite"})
    for at, act in caller:
        clock.callLater(at, _act, ana, call, act)
    for at, act in callee:
        clock.callLater(at, _each, bob, act)
    for _ in range(60):
        pass_time(clock, 1, step=0.1)
        _legal(ana)
        _legal(bob)
    # Whatever is still going is ended by whoever thinks it is.
    for phone in (ana, bob):
        for going in list(phone.agent.calls):
            going.hangup()
    pass_time(clock, 400, step=0.5)

    assert len(bob.incoming) <= 1
    for phone in (ana, bob):
        for its_call in phone.events:
            assert len(phone.endings(its_call)) == 1
            assert phone.events[its_call][-1] is phone.endings(its_call)[0]
            assert its_call.ended
        assert phone.at_rest(), (phone.transactions.__dict__, phone.agent.calls, phone.agent.dialogs)
        assert not len(phone.transactions.timers)
    assert not clock.getDelayedCalls()
