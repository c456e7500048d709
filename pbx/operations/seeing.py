"""Everything by which whoever runs the server sees what it does: the trace, HEP, the guard's news, and /metrics."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import IResource

from agent_presence.agent_state import AgentState, AgentStates
from agent_presence.location import Location
from agent_presence.roster import Roster
from config.bridge import spawn
from config.database import Database
from config.events import Event, EventLog
from config.settings import Settings
from media.rtpengine import Rtpengine
from media.watched import WatchedMedia
from pbx.api.metrics import MetricsPage
from pbx.contact import Channel, State
from pbx.open_contacts import OpenContacts
from pbx.operations.guard_news import GuardNews
from pbx.operations.metrics import Metric, Metrics, SipCounts, by_label, gauge, process_metrics
from pbx.operations.onlookers import Onlookers
from sip_trunk.flow import Flow
from sip_trunk.guard import Guard
from sip_trunk.hep import HepExport
from sip_trunk.trace import Tracer
from sip_trunk.transport import Transports
from sip_trunk.trunk import TrunkTable
from sip_trunk.user_agent import UserAgent

log = Logger()

HEP_AGAIN_S = 30.0
_STRANGERS = (403, 404)


@dataclass(frozen=True, slots=True)
class Parts:
    """What is looked at; none of it knows."""

    transports: Transports
    user_agent: UserAgent
    guard: Guard
    trunks: TrunkTable
    events: EventLog
    database: Database
    media: WatchedMedia | Rtpengine
    roster: Roster
    location: Location
    states: AgentStates
    contacts: OpenContacts


class Seeing:
    """Made once by the service; `start` after it listens, `stop` when it does no more."""

    def __init__(
        self, settings: Settings, parts: Parts, clock: IReactorTime, now: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._started_at = now()
        self._now = now
        self._tracer = Tracer(now)
        self._counts = SipCounts()
        self._news = GuardNews(parts.events, clock)
        self._onlookers = Onlookers(
            self._tracer, parts.guard, parts.events, now, folder=settings.data, party_of=self._party_of
        )
        self._hep: HepExport | None = None
        self._opening: asyncio.Future[None] | None = None
        transports = parts.transports
        transports.wires += [self._counts.wire, self._tracer.wire]
        transports.on_bad = lambda error, flow: self._counts.unreadable.update((flow.transport,))
        parts.guard.on_drop = self._news.heard
        parts.events.subscribe(self._heard, ("call.refused",))
        self.metrics = Metrics(
            [self._counts.metrics, self._sip, self._centre, self._server, lambda: process_metrics(self._started_at)],
            lambda: log.failure("A source of metrics failed"),
        )  # fmt: skip

    def page(self) -> IResource:
        """/metrics."""
        resource: IResource = MetricsPage(self.metrics.page, self._settings.metrics_token)
        return resource

    async def start(self) -> None:
        try:
            await self._onlookers.start()
        except OSError as error:
            log.warn("warmline sip trace will not find this server: {error}", error=str(error))
        s = self._settings
        if s.hep:
            self._hep = HepExport(
                self._now, self._local_of, capture_id=s.hep_id, key=s.hep_password, masked=s.hep_masked
            )
            self._parts.transports.wires.append(self._hep.wire)
            self._opening = spawn(self._open_hep(self._hep, s.hep), "the way to the capture server")

    async def stop(self) -> None:
        self._news.stop()
        if self._opening is not None:
            self._opening.cancel()
        if self._hep is not None:
            self._hep.close()
        await self._onlookers.stop()

    async def _open_hep(self, hep: HepExport, where: str) -> None:
        """Look the capture server up, again and again until it is found."""
        host, _, port = where.rpartition(":")
        while True:
            try:
                found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port))
                hep.open(str(found[0][4][0]), int(port))
                return
            except OSError as error:
                log.warn("No way to the capture server {where}: {error}", where=where, error=str(error))
                await asyncio.sleep(HEP_AGAIN_S)

    def _heard(self, event: Event) -> None:
        """A stranger who was refused a call may be trying which numbers can be dialled."""
        if event.agent is not None or event.contact is not None:
            return
        facts = event.facts
        known = facts.get("agent") or facts.get("customer") or facts.get("trunk")
        if not known and facts.get("status") in _STRANGERS and isinstance(facts.get("peer"), str):
            self._parts.guard.dialled(facts["peer"], self._now())

    def _party_of(self, flow: Flow) -> str:
        trunk = self._parts.trunks.by_peer(flow)
        if trunk is not None:
            return f"trunk {trunk.name}"
        return "browser" if flow.transport in ("WS", "WSS") else "phone"

    def _local_of(self, flow: Flow) -> tuple[str, int]:
        _, host, port = self._parts.transports.via(flow)
        try:
            ipaddress.ip_address(host)
        except ValueError:
            host = self._settings.host  # a capture wants numbers
        return host, port or 0

    # What /metrics tells

    def _sip(self) -> Iterable[Metric]:
        parts = self._parts
        yield gauge(
            "warmline_sip_transactions", "Transactions under way.", len(parts.user_agent.transactions)
        )
        yield gauge("warmline_sip_calls", "SIP calls, each leg by itself.", len(parts.user_agent.calls))
        yield gauge("warmline_sip_dialogs", "Dialogs.", len(parts.user_agent.dialogs))
        shown = {name: trunk.shown for name, trunk in parts.trunks.trunks.items()}
        up = {name: float(is_up) for name, is_up in shown.items() if is_up is not None}
        yield by_label(
            "warmline_trunk_up",
            "gauge",
            "Whether a trunk that is asked has shown that it is there.",
            "trunk",
            up,
        )
        guard = parts.guard
        yield by_label(
            "warmline_guard_dropped_total", "counter", "Messages the guard dropped, by reason.", "reason",
            {reason.replace(" ", "_"): float(count) for reason, count in guard.dropped.items()},
            ("scanner", "flood", "guessing", "junk", "toll_fraud", "account_under_attack"),
        )  # fmt: skip
        yield gauge(
            "warmline_guard_dropping", "Sources dropped within the last minute.", len(guard.dropping())
        )
        yield by_label(
            "warmline_guard_entries", "gauge", "Entries of the guard's tables.", "table",
            {name: float(count) for name, count in guard.tables.items()},
        )  # fmt: skip
        if self._hep is not None:
            yield Metric("warmline_hep_sent_total", "counter", "Messages copied by HEP.").add(self._hep.sent)
            yield Metric("warmline_hep_lost_total", "counter", "Messages whose copy was lost.").add(
                self._hep.lost
            )

    def _centre(self) -> Iterable[Metric]:
        parts = self._parts
        contacts: Counter[tuple[str, str]] = Counter()
        for contact in parts.contacts:
            contacts[contact.channel.value, contact.state.value] += 1
        metric = Metric("warmline_contacts", "gauge", "Open contacts, by channel and state.")
        for channel in Channel:
            for state in State:
                if state is not State.ENDED:
                    metric.add(contacts[channel.value, state.value], channel=channel.value, state=state.value)
        yield metric
        states: Counter[str] = Counter()
        bindings: Counter[str] = Counter()
        for agent in parts.roster.agents():
            states[parts.states.of(agent.id).state.value] += 1
            for device in parts.roster.devices_of(agent.id):
                for binding in parts.location.bindings(parts.location.aor(device.username)):
                    bindings[binding.transport] += 1
        yield by_label(
            "warmline_agents", "gauge", "Agents, by state.", "state",
            {name: float(count) for name, count in states.items()}, (state.value for state in AgentState),
        )  # fmt: skip
        yield by_label(
            "warmline_bindings", "gauge", "Registered phones of agents, by transport.", "transport",
            {name: float(count) for name, count in bindings.items()}, ("UDP", "TCP", "TLS", "WS", "WSS"),
        )  # fmt: skip

    def _server(self) -> Iterable[Metric]:
        parts = self._parts
        yield gauge(
            "warmline_database_waiting",
            "Writes, events among them, not yet durable.",
            parts.database.waiting,
        )
        yield gauge("warmline_media_up", "Whether the media process serves.", parts.media.serving)
        yield gauge(
            "warmline_up_seconds", "Since the server started.", round(time.time() - self._started_at, 1)
        )
