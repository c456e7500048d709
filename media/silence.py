"""When a leg that has no connection is gone: nothing says so but silence. Browsers say it by ICE."""

from __future__ import annotations

from media.leg import Leg


def is_gone(leg: Leg, now: float, limit_s: float) -> bool:
    """Whether nothing was received from this peer, neither RTP nor RTCP, for `limit_s`; 0 is without end.

    One that was never heard may only be behind a NAT that keeps it from us, and still hears the other party: that call
    is dead once the other is silent as well.
    """
    heard = last_heard(leg)
    if not any(line.accepted and line.they_send for line in leg.lines):
        leg.heard_at = now if heard else 0.0  # on hold: silence is what was asked for
        return False
    if not limit_s:
        return False
    if heard:
        return now - heard > limit_s
    peer = leg.peer
    if peer is None or not any(line.accepted and line.they_send for line in peer.lines):
        return False
    return now - max(leg.agreed_at, peer.agreed_at, last_heard(peer)) > limit_s


def last_heard(leg: Leg) -> float:
    """By the relay's clock; 0.0 for never."""
    return max((leg.heard_at, *(max(each.last_in, each.passed_over_at) for each in leg.carried)))
