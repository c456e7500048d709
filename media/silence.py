"""When a leg that has no connection is silent, and when it is gone: nothing else says so here. Browsers say it by ICE.

A phone that is muted may send nothing at all, and whoever holds it still listens: that is told, and ends nothing.
Whether there is anybody is for signalling to find out, which can ask. Where nothing passes either way it is the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from media.leg import Leg


class Silence(Enum):
    """`TOLD`: it was told of already, or there is nothing to tell."""

    BEGINS = "silent"
    GONE = "gone"
    TOLD = ""


def swept(leg: Leg, now: float, limit_s: float) -> Silence:
    """A second has passed: whether nothing, neither RTP nor RTCP, has come from this peer for `limit_s` seconds (0 is
    without end), and whether it hears nothing either.

    One that was never heard may only be behind a NAT that keeps it from us: alone it is waited for.
    """
    heard = last_heard(leg)
    if not _sends(leg):
        leg.heard_at = now if heard else 0.0  # on hold: silence is what was asked for
        return Silence.TOLD
    others = tuple(_others(leg))
    # What was played counts on for as long: who waited in silence is not gone the moment an agent answers.
    leg.hears_at = max(leg.hears_at, now if leg.playing is not None else 0.0, *map(_signs_of_life, others))
    since = heard or leg.agreed_at
    if not limit_s or now - since <= limit_s:
        leg.told_silent = False
        return Silence.TOLD
    if now - max(since, leg.hears_at) > limit_s:
        return Silence.GONE if heard or others else Silence.TOLD
    if leg.told_silent:
        return Silence.TOLD
    leg.told_silent = True
    return Silence.BEGINS


def _others(leg: Leg) -> Iterator[Leg]:
    """Those that it may hear."""
    there = leg.conference.legs if leg.conference is not None else (leg.peer,)
    return (each for each in there if each is not None and each is not leg and _sends(each))


def _sends(leg: Leg) -> bool:
    return any(line.accepted and line.they_send for line in leg.lines)


def _signs_of_life(leg: Leg) -> float:
    return max(leg.agreed_at, last_heard(leg))


def last_heard(leg: Leg) -> float:
    """By the relay's clock; 0.0 for never."""
    return max((leg.heard_at, *(max(each.last_in, each.passed_over_at) for each in leg.carried)))
