from __future__ import annotations

import pytest

from sip_trunk.sip.timers import RETRANSMISSION, TIMING, Timer, Timing


@pytest.mark.parametrize(
    ("timer", "unreliable", "reliable"),
    [
        # RFC 3261 table 4, RFC 6026 §8
        (Timer.A, 0.5, None),
        (Timer.B, 32, 32),
        (Timer.D, 32, 0),
        (Timer.E, 0.5, None),
        (Timer.F, 32, 32),
        (Timer.G, 0.5, None),
        (Timer.H, 32, 32),
        (Timer.I, 5, 0),
        (Timer.J, 32, 0),
        (Timer.K, 5, 0),
        (Timer.L, 32, 32),
        (Timer.M, 32, 32),
        (Timer.LATE, 32, 32),
        (Timer.SILENCE, 32, 32),
        (Timer.TRYING, 3.5, 3.5),
    ],
)
def test_each_timer_runs_as_long_as_the_rfcs_say(
    timer: Timer, unreliable: float | None, reliable: float | None
) -> None:
    assert TIMING.seconds(timer, False) == unreliable
    assert TIMING.seconds(timer, True) == reliable


def test_lengths_follow_t1_t2_and_t4() -> None:
    timing = Timing(t1=0.1, t2=1.0, t4=2.0)
    assert timing.lifetime == pytest.approx(6.4)
    assert timing.seconds(Timer.B, False) == pytest.approx(6.4)
    assert timing.seconds(Timer.K, False) == 2.0
    assert timing.until_t2() == pytest.approx(0.1 + 0.2 + 0.4 + 0.8)


def test_retransmission_timers_never_run_on_reliable_transports() -> None:
    assert all(TIMING.seconds(timer, True) is None for timer in RETRANSMISSION)
