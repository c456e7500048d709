"""How well the parties of a contact are heard: as it is now, as it was, and told when a voice becomes poor."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.logger import Logger

from config.errors import WarmlineError
from config.events import EventLog
from media.server import MediaServer
from pbx.open_contacts import OpenContacts
from pbx.operations.metrics import Histogram, Metric, by_label
from pbx.quality_store import LegQuality, QualityStore

log = Logger()

MOS_BOUNDS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.2, 4.3)
# What the branches of a contact's media are called, by whom they lead to: see Calls, CallingBack, Ringer, Supervision.
_PARTIES = {"customer": "customer", "called": "customer", "agent": "agent", "supervisor": "supervisor"}
_MEASURES = ("loss_in", "loss_out", "jitter_ms", "round_trip_ms", "mos")


def party_of(branch: str) -> str:
    """ "customer", "agent" (or a number outside that was asked in their place), "supervisor" or "other"."""
    return _PARTIES.get(branch.partition("-")[0], "other")


class Qualities:
    """`told` is for `MediaServer.on_quality`."""

    def __init__(
        self, contacts: OpenContacts, store: QualityStore, media: MediaServer, events: EventLog
    ) -> None:
        self._contacts = contacts
        self._store = store
        self._media = media
        self._events = events
        self._worth = Histogram(
            "warmline_media_mos", "Voice of each leg that ended (ITU-T G.107).", MOS_BOUNDS
        )
        self._received: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._poor = 0

    def told(self, call: str, branch: str, what: str, qualities: Mapping[str, Mapping[str, Any]]) -> None:
        if what == "ended":
            self._ended(call, branch, qualities)
        elif (audio := qualities.get("audio")) is not None or what == "silent":
            audio = audio or {}  # nothing is known of who was never heard
            self._poor += what == "poor"
            contact = self._contacts.known(call)
            self._events.write(
                f"media.{what}",
                contact=contact.id if contact is not None else None,
                agent=contact.agent_id if contact is not None else None,
                call=call,
                branch=branch,
                party=party_of(branch),
                **{name: audio.get(name) for name in _MEASURES},
                mos_lately=audio.get("mos_lately"),
            )

    def transcoded(self, call: str, branch: str, other: str) -> None:
        """For `MediaServer.on_transcoding`."""
        contact = self._contacts.known(call)
        self._events.write(
            "media.transcoding",
            contact=contact.id if contact is not None else None,
            agent=contact.agent_id if contact is not None else None,
            call=call,
            branches=[branch, other],
        )

    def _ended(self, call: str, branch: str, qualities: Mapping[str, Mapping[str, Any]]) -> None:
        party = party_of(branch)
        for kind, facts in qualities.items():
            self._received[kind] += facts["received"]
            self._lost[kind] += facts["lost"]
            if facts["mos"] is not None:
                self._worth.observe(facts["mos"], party=party)
        # A direct call is no contact, and has no row to be kept with.
        if self._contacts.known(call) is not None:
            rows = [
                LegQuality(
                    call,
                    branch,
                    kind,
                    party,
                    facts["started_at"],
                    facts["seconds"],
                    *(facts[name] for name in _MEASURES),
                )
                for kind, facts in qualities.items()
            ]
            self._store.add(rows).add_done_callback(_look)

    async def of(self, contact_id: str) -> list[dict[str, Any]]:
        """Of every leg that is or was, the earliest first; `live`: it is there now, and has no end yet."""
        kept = [
            {**{name: getattr(leg, name) for name in ("branch", "kind", "party", *_MEASURES)},
             "seconds": leg.seconds, "live": False}
            for leg in await self._store.of(contact_id)
        ]  # fmt: skip
        return kept + await self.live(contact_id)

    async def live(self, contact_id: str) -> list[dict[str, Any]]:
        """Of the legs that are there now; of a contact that has ended, or of a chat, none."""
        if self._contacts.get(contact_id) is None:
            return []
        try:
            stats = await self._media.stats(contact_id)
        except WarmlineError:
            return []  # nobody has called yet, or the last has gone
        return [
            {"branch": branch, "kind": kind, "party": party_of(branch), **facts["quality"],
             "seconds": None, "live": True}
            for branch, leg in sorted(stats.items())
            for kind, facts in leg["kinds"].items()
            if facts.get("quality") is not None
        ]  # fmt: skip

    def metrics(self) -> Iterable[Metric]:
        yield self._worth.metric()
        yield by_label(
            "warmline_media_received_total", "counter", "Packets from peers, of legs that ended.", "kind",
            {kind: float(count) for kind, count in self._received.items()}, ("audio", "video"),
        )  # fmt: skip
        yield by_label(
            "warmline_media_lost_total", "counter", "Packets that peers sent and that never came.", "kind",
            {kind: float(count) for kind, count in self._lost.items()}, ("audio", "video"),
        )  # fmt: skip
        yield Metric("warmline_media_poor_total", "counter", "How often a voice has become poor.").add(
            self._poor
        )


def _look(written: asyncio.Future[None]) -> None:
    if not written.cancelled() and (error := written.exception()) is not None:
        log.error("The quality of a leg was not stored: {error}", error=error)
