"""Two user agents on a network that loses, delays, repeats and reorders: every call ends, once, on both sides."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from sip_trunk.call import Call, CallEvent, CallState, InDialog, Reoffered
from sip_trunk.incoming_call import IncomingCall
from tests.sip_trunk.network import ANSWER, Network, Phone, pass_time

CALLER_ACTS = st.sampled_from(["hangup", "reinvite", "message", "nothing"])
CALLEE_ACTS = st.sampled_from(["ring", "accept", "refuse", "hangup", "reinvite", "message", "nothing"])
WAITS = st.floats(min_value=0, max_value=12)


def _act(phone: Phone, call: Call, what: str) -> None:
    if what == "hangup":
        call.hangup()
    elif what == "reinvite":
        call.reinvite(ANSWER)
    elif what == "message" and call.state is CallState.CONFIRMED:
        call.send("INFO", b"x", "text/plain")
    elif what in ("ring", "accept", "refuse"):
        assert isinstance(call, IncomingCall)
        if what == "ring":
            call.ring()
        elif what == "accept":
            call.accept(ANSWER)
        else:
            call.refuse(486)


def _each(phone: Phone, what: str) -> None:
    for call in list(phone.incoming):
        _act(phone, call, what)


def _drop(_: object) -> None:
    return


def _answer(_: Call, event: CallEvent) -> None:
    if isinstance(event, InDialog):
        event.request.respond(200)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    lose=st.sampled_from([0.0, 0.1, 0.3, 0.6, 0.95]),
    repeat=st.sampled_from([0.0, 0.2, 0.6]),
    delay=st.sampled_from([0.0, 0.3, 1.5]),
    transport=st.sampled_from(["UDP", "UDP", "TCP"]),
    caller=st.lists(st.tuples(WAITS, CALLER_ACTS), max_size=4),
    callee=st.lists(st.tuples(WAITS, CALLEE_ACTS), max_size=5),
    picks_up=st.sampled_from([None, 0.0, 0.4, 3.0]),
    slow_answer=st.booleans(),
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
) -> None:
    clock = Clock()
    if transport == "TCP":
        lose = repeat = delay = 0
    network = Network(clock, seed=seed, lose=lose, repeat=repeat, delay=delay)
    ana = Phone(network, "10.0.0.1", transport=transport)
    bob = Phone(network, "10.0.0.2", transport=transport)

    def react(call: Call, event: CallEvent) -> None:
        _answer(call, event)
        if isinstance(event, Reoffered):
            clock.callLater(2 if slow_answer else 0, call.answer_reoffer, ANSWER)

    ana.on_call_event = bob.on_call_event = react
    if picks_up is not None:
        bob.on_invite = lambda theirs: _drop(clock.callLater(picks_up, theirs.accept, ANSWER))
    call = ana.call(bob)
    for at, act in caller:
        clock.callLater(at, _act, ana, call, act)
    for at, act in callee:
        clock.callLater(at, _each, bob, act)
    pass_time(clock, 60, step=0.1)
    # Whatever is still going is ended by whoever thinks it is.
    for phone in (ana, bob):
        for going in list(phone.agent.calls):
            going.hangup()
    pass_time(clock, 300, step=0.5)

    assert len(bob.incoming) <= 1
    for phone in (ana, bob):
        for its_call in phone.events:
            assert len(phone.endings(its_call)) == 1
            assert phone.events[its_call][-1] is phone.endings(its_call)[0]
        assert phone.at_rest(), (phone.transactions.__dict__, phone.agent.calls, phone.agent.dialogs)
    assert not clock.getDelayedCalls()
