"""What the media server tells by itself, and whom it may concern."""

from __future__ import annotations

from typing import Any

from media.rtpengine import Rtpengine
from media.watched import WatchedMedia
from pbx.calling_back import CallingBack
from pbx.calls import Calls
from pbx.consultation import Consultations
from pbx.direct_calls import DirectCalls
from pbx.inbound_menu import InboundMenus
from pbx.quality import Qualities
from pbx.recordings import Recordings
from pbx.supervision import Supervisions
from pbx.voicemail import Voicemails


class MediaNews:
    """It listens from its making on. Whoever knows neither the call nor the branch pays no heed."""

    def __init__(
        self,
        media: WatchedMedia | Rtpengine,
        menus: InboundMenus,
        calls: Calls,
        calling_back: CallingBack,
        direct_calls: DirectCalls,
        consultations: Consultations,
        supervisions: Supervisions,
        voicemails: Voicemails,
        recordings: Recordings,
        qualities: Qualities,
    ) -> None:
        self._menus = menus
        self._calls = calls
        self._direct_calls = direct_calls
        self._qualities = qualities
        self._losing = (menus, calls, calling_back, direct_calls, consultations, supervisions)
        self._dying = (menus, calls, calling_back, direct_calls)
        media.on_gone = self._gone
        media.on_died = self._died
        media.on_keys = self._keys_heard
        media.on_recorded = voicemails.recorded
        media.on_tapped = recordings.ended_by_itself
        media.on_quality = self._quality_told
        media.on_transcoding = qualities.transcoded

    def _gone(self, call: str, branch: str, why: str) -> None:
        for part in self._losing:
            part.media_gone(call, branch, why)

    def _died(self) -> None:
        for part in self._dying:
            part.media_died()

    def _quality_told(self, call: str, branch: str, what: str, qualities: dict[str, Any]) -> None:
        if what == "silent":
            self._calls.media_silent(call, branch)
            self._direct_calls.media_silent(call, branch)
        self._qualities.told(call, branch, what, qualities)

    def _keys_heard(self, call: str, branch: str, key: str) -> None:
        if not self._menus.keys_heard(call, branch, key):
            self._calls.keys_heard(call, branch, key)
