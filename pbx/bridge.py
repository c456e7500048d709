"""The Bridge joins a customer's leg and an agent's. It knows no SIP: its legs speak of being there and being gone."""

from __future__ import annotations

from functools import partial

from twisted.logger import Logger

from config.bridge import spawn
from config.errors import WarmlineError
from media.server import MediaServer
from pbx.leg import Leg
from pbx.phone_media import REFUSALS

log = Logger()


def share_pictures(a: Leg, b: Leg) -> None:
    """From now on, pictures that one of two adds to their call are offered to the other, and taken when they go.

    Where the other will have none, neither has the one that offered them: nobody films without knowing that it is for
    nobody.
    """
    for leg, other in ((a, b), (b, a)):
        leg.allow_pictures()
        leg.on_pictures = partial(_follow, other, leg)


def _follow(leg: Leg, other: Leg) -> None:
    async def follow() -> None:
        if leg.alive and other.alive:
            await _offer(leg, other)
        if leg.alive and other.alive and other.has_pictures and not leg.has_pictures:
            await _offer(other, leg)

    spawn(follow(), f"pictures for {leg.call.id}")


async def _offer(leg: Leg, other: Leg) -> None:
    try:
        await leg.agree(like=other.branch, adding=True)
    except WarmlineError as error:
        log.info("{call} has other media than its peer: {why}", call=leg.call.id, why=error.reason)


class Bridge:
    """One contact's two legs. `join` may be called again when the customer's leg was replaced by a new one."""

    def __init__(self, media: MediaServer, media_call: str, customer: Leg, agent: Leg) -> None:
        self._media = media
        self._media_call = media_call
        self.customer = customer
        self.agent = agent

    async def join(self) -> bool:
        """The caller's stream switches to the agent. False: a leg went before that. Raises WarmlineError.

        The caller is re-offered only where the codecs differ: everybody else hears no gap, not even a re-INVITE's.
        Where that does not bring them together either, media transcodes.
        """
        customer, agent = self.customer.branch, self.agent.branch
        try:
            if not await self._media.join_alike(self._media_call, customer, agent):
                if not self._whole:
                    return False
                await self._agree(like=agent)
                if not self._whole:
                    return False
                await self._media.join(self._media_call, customer, agent)
            share_pictures(self.customer, self.agent)
            self._even_out()
        except WarmlineError:
            if self._whole:
                raise
        return self._whole

    def _even_out(self) -> None:
        """Pictures that came into a call of sound, and a leg that is new to it: it is offered them, or they go."""
        customer, agent = self.customer, self.agent
        if customer.of_sound and customer.has_pictures is not agent.has_pictures:
            without, other = (agent, customer) if customer.has_pictures else (customer, agent)
            _follow(without, other)

    async def _agree(self, like: str) -> None:
        try:
            await self.customer.agree(like=like)
        except WarmlineError as error:
            if error.status not in REFUSALS:
                raise
            log.info("They share no codec: {why}", why=error.reason)

    @property
    def _whole(self) -> bool:
        return self.customer.alive and self.agent.alive
