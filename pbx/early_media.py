"""What a direct call's caller is answered with, and hears before anybody has taken the call.

183 with SDP from the callee's side -> the two are joined, the caller gets a 183 with our answer
the 200 that repeats it             -> the same answer, nothing is done twice
"""

from __future__ import annotations

import asyncio

from twisted.logger import Logger

from config.bridge import spawn
from config.errors import WarmlineError
from media.server import MediaServer
from pbx.direct_call import DirectCall
from pbx.leg import Leg
from sip_trunk import user_agent as sip

log = Logger()


class EarlyMedia:
    def __init__(self, media: MediaServer) -> None:
        self._media = media

    def joined(self, direct: DirectCall, leg: Leg, branch: str, body: bytes) -> asyncio.Future[bytes]:
        """Our answer to the caller, made once of each answer of the callee's: a 200 repeats that of the 183."""
        if direct.answering is None or body != direct.their_answer:
            direct.their_answer = body
            direct.answering = asyncio.ensure_future(
                self._media.answer_joined(
                    direct.media_call, leg.branch, direct.offer, peer=branch, answer=body
                )
            )
        return direct.answering

    def heard(self, direct: DirectCall, branch: str, body: bytes) -> None:
        """The callee's side plays something before anybody takes the call: why it cannot be put through, say."""
        leg = direct.caller.leg
        if leg is None or direct.over or body == direct.their_answer:
            return
        first, direct.heard_early = not direct.heard_early, True
        joined = self.joined(direct, leg, branch, body)
        spawn(self._play(direct, leg, joined, first), f"what is heard early in {direct.id}")

    async def _play(self, direct: DirectCall, leg: Leg, joined: asyncio.Future[bytes], first: bool) -> None:
        try:
            answer = await joined
        except WarmlineError as error:
            log.info("Nothing is heard early in {call}: {error}", call=direct.id, error=error.reason)
            return
        # RFC 3261 s13.2.1: an answer is given once; later ones change what is heard, and not what was said.
        if first and not direct.over and isinstance(leg.call, sip.IncomingCall):
            leg.call.ring(183, body=answer)
