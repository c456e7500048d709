"""What a refusal of a phone means.

It is told by its status, and by whether a person can have been behind it:

    603, 600, 607             declined: only a person says so
    486 once it has rung      declined: what most phones send for their reject key (baresip, Yealink)
    486 at once               busy: in another call, or on do-not-disturb
    480, 408 once it has rung no answer: the phone's own limit was shorter than ours
    480 at once               unreachable: do-not-disturb of some phones (Yealink), or nobody behind a proxy
    a Q.850 cause             what it says of itself, from a gateway (RFC 6432)
    488, 606                  it is offered something else, if there is anything: see `phone_media`
    anything else             unreachable
"""

from __future__ import annotations

import re

from sip_trunk import user_agent as sip

# RFC 3261 s21.6, RFC 8197 s4
_DECLINES = (600, 603, 607)
# A phone that says 486 sooner than this after its first ring was faster than any finger.
_HUMAN_S = 0.25
# RFC 6432: Q.850's user busy, no user responding, no answer, call rejected.
_Q850 = re.compile(r"Q\.850\s*;\s*cause=([0-9]{1,3})\b", re.IGNORECASE)
_CAUSES = {17: "busy", 18: "no_answer", 19: "no_answer", 21: "declined"}


def meaning(refused: sip.Refused, rang_s: float | None) -> str:
    """What the agent is said to be: "declined", "busy", "no_answer" or "unreachable". See the head of this file."""
    if refused.local:
        return "unreachable"
    if refused.status in _DECLINES:
        return "declined"
    reasons = ",".join(refused.message.headers.all("Reason")) if refused.message is not None else ""
    cause = _Q850.search(reasons)
    if cause is not None and int(cause[1]) in _CAUSES:
        return _CAUSES[int(cause[1])]
    if refused.status == 486:
        return "declined" if rang_s is not None and rang_s >= _HUMAN_S else "busy"
    if refused.status in (408, 480) and rang_s is not None and rang_s >= _HUMAN_S:
        return "no_answer"
    return "unreachable"
