"""What is known of the calls that rtpengine carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from media import sdp
from media.engine_dialogue import Dialogue
from media.engine_keys import Presses
from media.engine_quality import Told
from media.server import Profile
from media.shortcut import Agreed

_OFTEN = 0.5
"""Packets a second. A silent voice takes more, even where it is left out (RFC 6716 section 2.1.9), and so do reports on
pictures; those on a voice alone come every 2.5 to 7.5 s (RFC 3550 section 6.2)."""


class Branch:
    """One peer and its dialogue; `direct` while its packets pass the studio by, to and from those of `peer`."""

    def __init__(self, name: str, dialogue: Dialogue) -> None:
        self.name = name
        self.dialogue = dialogue
        self.agreed: Agreed | None = None
        self.offered: tuple[Profile, sdp.SessionDescription] | None = None
        self.peer: Branch | None = None  # whom it is joined with
        self.direct = False
        self.heard_at = 0.0
        self.packets = 0
        self.counted_at = 0.0
        self.often = False
        self.told_gone = self.told_silent = False
        self.heard: set[str] = set()  # those heard by the shortcut so far
        self.heard_last = ""
        self.direct_since = 0.0
        self.told = Told()
        self.presses = Presses()

    @property
    def is_browser(self) -> bool:
        return self.agreed is not None and self.agreed.profile is Profile.WEBRTC

    def is_tired_of(self, other: Branch) -> bool:
        """Chromium never listens again to a stream that another has taken the place of."""
        return self.is_browser and other.name in self.heard

    def begins_to_be_heard(self, now: float) -> None:
        """Something else was agreed: silence counts from here on."""
        self.heard_at, self.told_gone, self.told_silent = now, False, False

    def has_sent(self, packets: int, now: float) -> None:
        """So many by now."""
        if packets != self.packets:
            self.often = packets - self.packets > _OFTEN * (now - self.counted_at)
            self.packets = packets
            self.begins_to_be_heard(now)
        self.counted_at = now

    def looked(self, reply: Mapping[str, Any] | None, now: float) -> bool:
        """What rtpengine tells by `query` of someone who takes the shortcut; False of others, of whom the studio knows
        more."""
        if not reply or not self.direct or self.peer is None:
            return False
        self.told.looked(reply, self.dialogue.peer, self.peer.dialogue.peer, now)
        return True


class Call:
    def __init__(self) -> None:
        self.branches: dict[str, Branch] = {}
        self.shortcuts = True
        self.listened_at = 0.0
