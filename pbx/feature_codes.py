"""Feature codes: what an agent dials on the softphone to say ready or not ready, without any page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from agent_presence.agent_state import AgentState, AgentStates
from config.errors import WarmlineError
from config.ids import new_id
from media.server import AUDIO_ONLY, MediaServer
from pbx.leg import Gone, Leg, LegEvent, tidy
from pbx.profile import profile_of_call
from sip_trunk import user_agent as sip

log = Logger()


@dataclass(frozen=True, slots=True)
class FeatureCode:
    prompt: str
    ready: bool


CODES: Mapping[str, FeatureCode] = {
    "*71": FeatureCode("ready", ready=True),
    "*72": FeatureCode("not-ready", ready=False),
}


class FeatureCodes:
    """`unasked(agent_id)` is a block in which that agent is asked for no contact."""

    def __init__(
        self,
        states: AgentStates,
        media: MediaServer,
        clock: IReactorTime,
        *,
        unasked: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._states = states
        self._media = media
        self._clock = clock
        self._unasked = unasked

    def knows(self, dialled: str) -> bool:
        return dialled in CODES

    async def dialled(self, agent_id: str, dialled: str, call: sip.IncomingCall) -> None:
        """Do what the code says, say so, hang up. What cannot be done is refused with its reason."""
        code = CODES[dialled]
        media_call = new_id("f")
        profile = profile_of_call(call)
        leg = Leg(call, self._media, media_call, "phone", profile=profile, kinds=AUDIO_ONLY)
        with ExitStack() as unasked:
            try:
                offer = call.offer
                session = (
                    await self._media.answer(media_call, "phone", offer, kinds=AUDIO_ONLY)
                    if offer
                    else await self._media.offer(media_call, "phone", profile=profile, kinds=AUDIO_ONLY)
                )
                if code.ready:
                    # A contact that waits would ring a phone that is still in this call: many answer that with 486.
                    if self._states.of(agent_id).state in (AgentState.NOT_READY, AgentState.WRAP_UP):
                        unasked.enter_context(self._unasked(agent_id))
                    await self._states.ready(agent_id, f"dialled {dialled}")
                else:
                    await self._states.not_ready(agent_id, f"dialled {dialled}")
            except WarmlineError as error:
                call.refuse(error.status, error.reason)
                tidy(self._media.delete(media_call), f"deleting {media_call}")
                return
            if not leg.alive:
                tidy(self._media.delete(media_call), f"deleting {media_call}")
                return
            over = unasked.pop_all()

        def heard(event: LegEvent) -> None:
            if isinstance(event, Gone):
                over.close()

        def end() -> None:
            leg.end()
            over.close()

        leg.on_event = heard
        leg.answer(session, offered=bool(offer))
        try:
            length_s = await self._media.play(media_call, "phone", code.prompt)
        except WarmlineError as error:
            log.warn("Feature code {code} is not announced: {error}", code=dialled, error=error.reason)
            length_s = 0.0
        self._clock.callLater(length_s, end)
