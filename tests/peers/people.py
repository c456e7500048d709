"""The people of the sample data, with their phones and browsers at the ready."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import av

from tests.peers.agent_page import AgentPage
from tests.peers.baresip import Baresip, loudest_tone
from tests.peers.browser import Customer
from tests.peers.warmline import Warmline

# What each article leads to, and who can help: see the sample data.
BOILER_ARTICLE = "boiler-200-pressure-drops"  # heating, boiler-hydraulics: Ana alone
CAMERA_ARTICLE = "camera-s2-pairing-fails"  # wifi-pairing: Bo (no video), Carla, Deniz


def phone(folder: Path, server: Warmline, user: str, **options: Any) -> Baresip:
    """The softphone of a sample agent, e.g. "ana"."""
    return Baresip(
        folder,
        user=user,
        password=options.pop("password", f"{user}-phone"),
        domain="127.0.0.1",
        registrar_port=server.sip_port,
        **options,
    )


async def make_ready_by_page(server: Warmline, agent: str) -> None:
    """The agent presses Ready in their page."""
    page = AgentPage(server.portal)
    await page.log_in(agent, f"{agent}-agent")
    await page.set_state("ready")
    await server.agent_is(f"agent-{agent}", "Ready")


async def make_ready(server: Warmline, device: Baresip) -> None:
    """The agent says that they are ready, by dialling the feature code from their own phone."""
    established = len(device.seen("CALL_ESTABLISHED"))
    await device.dial("*71")
    # It is answered once they are; by the time their phone is free again a contact that waited may have reserved them.
    await device.event("CALL_ESTABLISHED", count=established + 1)
    await device.event("CALL_CLOSED", count=established + 1)


class Reader(Customer):
    """A sample customer, logged in and reading an article by the time the block is entered."""

    def __init__(
        self, folder: Path, server: Warmline, article: str, *, person: str = "maria", **options: Any
    ) -> None:
        super().__init__(folder, server.portal, **options)
        self._article = article
        self._person = person

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await self.log_in(f"{self._person}@example.org", f"{self._person}-demo")
            await self.read(self._article)
        except BaseException:
            await super().__aexit__()
            raise
        return self


def phone_hears(device: Baresip, frequency: int) -> bool:
    """True when that tone (Hz) is most of what the phone has heard in the last second."""
    path = device.heard()
    if path is None:
        return False
    heard, share = loudest_tone(path)
    return share > 0.5 and abs(heard - frequency) <= 0.05 * frequency


def has_colours(picture: Path) -> bool:
    """True for a picture that is not one flat colour, black above all."""
    with av.open(str(picture)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return int(frame.max()) - int(frame.min()) > 30
