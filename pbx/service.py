"""The roof: builds every part, hands each what it needs, and takes it all down in order.

Nothing below knows this module. What a part has to hear from above, it hears through a callable given here.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from agent_presence import sample as agent_sample
from agent_presence.agent_state import AgentStates
from agent_presence.location import Binding, Location
from agent_presence.push import Push
from agent_presence.push_contact import PushServices
from agent_presence.push_gateway import PushGateway
from agent_presence.registrar import Registrar
from agent_presence.roster import Roster
from agent_presence.store import PresenceStore
from config.bridge import as_future, spawn
from config.certificates import ServerCertificate, server_certificate
from config.database import Database
from config.events import EventLog
from config.login import Logins
from config.queue_settings import Overflow
from config.settings import Settings
from config.shared_state import InProcessState, RedisState
from kb_portal import sample as portal_sample
from kb_portal.pages import Portal
from kb_portal.store import PortalStore
from kb_portal.tracking import Tracker
from media.rtpengine import Rtpengine
from media.watched import WatchedMedia
from pbx import sample as rules_sample
from pbx import wrap_up
from pbx.agent_desk import AgentActions
from pbx.agent_message import ACCEPTED, AgentMessages
from pbx.api.routes import Api
from pbx.api.site import WarmlineSite, build_root
from pbx.app_credentials import AppCredentials
from pbx.by_name import ByName
from pbx.call_back import CallBacks
from pbx.calling_back import CallingBack
from pbx.calls import Calls
from pbx.chat import Chats
from pbx.chat_transfer import ChatTransfers
from pbx.consultation import Consultations
from pbx.contact import Channel, Contact
from pbx.destination import Destinations
from pbx.direct_calls import DirectCalls
from pbx.dispatch import Dispatch
from pbx.dossier import Dossiers, highest_levels
from pbx.expected_wait import ExpectedWait
from pbx.feature_codes import CODES, FeatureCodes
from pbx.feedback import Feedback
from pbx.front_desk import FrontDesk
from pbx.inbound import Inbound
from pbx.inbound_menu import InboundMenus
from pbx.invitation import Ringer
from pbx.media_news import MediaNews
from pbx.menu import Menu
from pbx.on_hold import OnHold
from pbx.open_contacts import OpenContacts
from pbx.operations.seeing import Parts, Seeing
from pbx.pages.actions import PageActions
from pbx.pages.calls import CallPages
from pbx.pages.panels import SoftphoneSetup
from pbx.pages.people import PeoplePages
from pbx.pages.recordings import RecordingPages
from pbx.pages.routes import AgentPages
from pbx.pages.supervisor import Centre, SupervisorPages
from pbx.past import Past
from pbx.people import People
from pbx.policies import Policies
from pbx.prompt import Taken
from pbx.quality import Qualities
from pbx.quality_store import QualityStore
from pbx.recording_parts import RecordingParts
from pbx.robot_process import RobotProcess
from pbx.rules import Rules
from pbx.staffing import Staffing
from pbx.store import PbxStore
from pbx.supervision import Supervisions
from pbx.tls import client_context, context_factory, https_policy
from pbx.transfer import Transfers
from pbx.voicemail import Voicemails
from pbx.waiting import Standing
from pbx.wrap_up import WrapUps
from sip_trunk.authentication import Authenticator, Challenge
from sip_trunk.flow import Flow
from sip_trunk.guard import Guard
from sip_trunk.qualify import TrunkProbe
from sip_trunk.sip.digest import Credentials, Nonces
from sip_trunk.sip.message import Request
from sip_trunk.transactions import TransactionLayer
from sip_trunk.transport import Transports
from sip_trunk.trunk import Trunk, TrunkTable
from sip_trunk.trunk_registration import TrunkRegistrations
from sip_trunk.user_agent import Target, UserAgent
from sip_trunk.websocket import sip_resource

log = Logger()

NONCE_LIFETIME_S = 300.0


class Service:
    """The whole server in one process, but for media and the robot agent, which have their own.

    `start` raises what a port in use or a database out of reach raises; `stop` may be called however far it came.
    """

    def __init__(self, settings: Settings, reactor: Any) -> None:
        self.settings = settings
        self._reactor = reactor
        self._web: list[IListeningPort] = []
        self._robot: RobotProcess | None = None
        self._api: Api | None = None
        self._pages: AgentPages | None = None
        self._recording_pages: RecordingPages | None = None
        now: Callable[[], float] = time.time
        self._now = now
        s = settings

        self.database = Database.open(s.database_url)
        self.events = EventLog(self.database, now)
        self.logins = Logins(self.database, now)
        self._shared = RedisState(s.redis_url) if s.redis_url else InProcessState(reactor)

        # What customers read and own.
        self.portal_store = PortalStore(self.database)
        self._tracker = Tracker(self.portal_store, self.events, now)

        # SIP on the wire.
        self.transports = Transports(reactor, public_host=s.public_host, public_host6=s.public_host6)
        self._transactions = TransactionLayer(self.transports, reactor)
        trunks = TrunkTable(s.trunks)
        # A carrier's calls all come from one address; limits are for those who have to prove who they are.
        self._guard = Guard(
            now, exempt=s.guard_exempt.replace(",", " ").split(), realm=s.realm,
            trusted=lambda flow: trunks.by_peer(flow) is not None, known=self._registered_from,
        )  # fmt: skip
        self.transports.admits = self._guard.admits
        domains = {s.domain, s.public_host, s.host, "localhost", "127.0.0.1"}
        self._user_agent = UserAgent(self._transactions, self.transports, clock=reactor, domain_names=domains)
        self._app_credentials = AppCredentials(domain=s.domain, realm=s.realm, now=now)
        nonces = Nonces(secrets.token_bytes(32), NONCE_LIFETIME_S)
        self._authenticator = Authenticator(s.realm, nonces, self._credentials_of, now)

        # Who can help, and where they are.
        presence = PresenceStore(self.database)
        self.roster = Roster(presence, realm=s.realm)
        pushes = PushServices(s.push_providers if s.push_gateway_url else ())
        self._location = Location(
            presence, self.events, self.roster,
            domain=s.domain, clock=reactor, now=now, flow_alive=self._flow_alive, wakes=pushes.wake,
        )  # fmt: skip
        policy = https_policy(s.trusted_authorities) if s.push_gateway_url else None
        gateway = PushGateway(s.push_gateway_url, s.push_gateway_token, reactor, tls=policy)
        self._push = Push(
            gateway, pushes, self._location, self.roster, self.events, clock=reactor, now=now, wait_s=s.push_wait_s
        )  # fmt: skip
        self._states = AgentStates(
            presence, self.events, self._shared, self.roster, self._location,
            clock=reactor, now=now, chats=s.chats_per_agent,
        )  # fmt: skip
        self._registrar = Registrar(
            self._authenticate, self._location, self.roster, domains=domains, now=now, probe=self._probe, push=pushes
        )  # fmt: skip
        self._registrar.on_registered.append(self._push.registered)

        # Upstairs.
        embedded = WatchedMedia(silence_s=s.media_silence_s)
        engine = Rtpengine(
            s.rtpengine_address, keys=s.rtpengine_keys_address,
            silence_s=s.media_silence_s, interfaces=s.rtpengine_interface_names,
        )  # fmt: skip
        self.media = engine if s.media == "rtpengine" else embedded
        self._pbx_store = PbxStore(self.database)
        self._contacts = OpenContacts(self._pbx_store, self.events, now)
        self._staffing = Staffing(
            self.roster, self._location, self._states, flow_of=self.transports.flow_by_token, push=self._push
        )
        self._calls = Calls(self._contacts, self.media, self.events, reactor, now)
        self._chats = Chats(
            self._contacts, self._pbx_store, self._staffing, self._user_agent, self.media, self.events,
            reactor, now, domain=s.domain, idle_s=s.chat_idle_s,
        )  # fmt: skip
        ringer = Ringer(
            self._user_agent, self.media, self._staffing, self.events, reactor,
            domain=s.domain, customer_branch=self._calls.branch_of, context_url=self._context_url,
            ring_s=s.ring_s, unreachable_s=s.unreachable_s,
        )  # fmt: skip
        policies = Policies(s.queues)
        self._dispatch = Dispatch(
            self._contacts, self._staffing, self._states, self.events, reactor, now,
            ring=ringer,
            connect={
                Channel.CHAT: self._chats.connect,
                Channel.VOICE: self._join,
                Channel.VIDEO: self._join,
            },
            lease_s=s.lease_s, wrap_up_s=s.wrap_up_s, policies=policies,
        )  # fmt: skip
        self._dispatch.has_agent = self._calls.has_agent
        self._rules = Rules(
            self._pbx_store, self.events, now, highest=lambda provider_id: highest_levels(self.roster, provider_id)
        )  # fmt: skip
        dossiers = Dossiers(self.portal_store, self._rules, self.roster, now)
        self._feedback = Feedback(
            self._rules, self._pbx_store, dossiers.read_by, now,
            skills=lambda provider_id: highest_levels(self.roster, provider_id),
        )  # fmt: skip
        destinations = Destinations(
            self.roster, self._staffing, self._states, trunks,
            domain=s.domain, hosts=domains,
            special=lambda user: user in CODES or self._contacts.known(user) is not None,
        )  # fmt: skip
        self._calling_back = CallingBack(
            self._contacts, self._calls, destinations, ringer, self.media, reactor, domain=s.domain
        )
        self._call_backs = CallBacks(
            self._contacts, self._calls, self._calling_back, self.media, self._pbx_store, self.events, reactor, now,
            settings=policies.of, customer=dossiers.customer, again_s=s.call_back_again_s,
        )  # fmt: skip
        self._dispatch.overflow[Overflow.CALL_BACK] = self._call_backs.overflow
        self._voicemails = Voicemails(
            self._contacts, self._calls, self.media, self._pbx_store, self.events, reactor, now,
            folder=s.data / "voicemail",
        )  # fmt: skip
        self._dispatch.overflow[Overflow.VOICEMAIL] = self._voicemails.take
        Menu(
            self._contacts, self._calls, self._call_backs, self._voicemails, self.events,
            settings=policies.of,
        )  # fmt: skip
        self._recording = RecordingParts(
            s, self.database, self._contacts, self._calls, self.media, self.events, reactor, now,
            queue_settings=policies.of,
        )  # fmt: skip
        self._expected_wait = ExpectedWait(
            self._contacts, self._states, self._staffing, self.roster, self._dispatch.floor, now
        )
        self._calls.room.settings = policies.of
        self._calls.room.standing = self._standing
        self.desk = FrontDesk(
            self._contacts, dossiers, self._calls, self._chats, self._dispatch, self._staffing,
            self._pbx_store, self.events, now, domain=s.domain, call_backs=self._call_backs,
            expected_wait=self._expected_wait.of, recording=self._recording.recordings.view,
            on_hold=OnHold(self._contacts, self._calls, self.events),
            supervisor=lambda contact: self._supervisions.told_to_customer(contact.id),
        )  # fmt: skip
        self._calling_back.has_page = self.desk.has_page
        self._recording.consents.has_page = self.desk.has_page
        self.desk.on_page = self._recording.consents.page_came
        self._calling_back.tell = self._recording.consents.tell_called_back
        self._direct_calls = DirectCalls(
            destinations, self._staffing, self._states, self._user_agent, self.media, self.events, reactor, now,
            agent_changed=self._dispatch.agent_changed, ring_s=s.ring_s, unreachable_s=s.unreachable_s,
        )  # fmt: skip
        feature_codes = FeatureCodes(self._states, self.media, reactor, unasked=self._direct_calls.rung)
        by_name = ByName(self._dispatch, destinations, ringer, self.events)
        transfers = Transfers(
            self._contacts, self._calls, self._direct_calls, self._dispatch, destinations, by_name,
            self.media, self.events,
        )  # fmt: skip
        self._consultations = Consultations(
            self._contacts, self._calls, self._dispatch, destinations, by_name, self.media, self.events,
            transfers.claims,
        )  # fmt: skip
        self._supervisions = Supervisions(
            self._contacts, self._calls, destinations, self._staffing, self._user_agent, self.media, self.events,
            reactor, domain=s.domain, ring_s=s.ring_s, unreachable_s=s.unreachable_s,
            announced=s.supervision_announced, agent_changed=self._dispatch.agent_changed,
        )  # fmt: skip
        self._consultations.on_conferred = self._supervisions.conferred
        chat_transfers = ChatTransfers(
            self._contacts, self._chats, self._dispatch, self._staffing, by_name, self.events,
            transfers.claims,
        )  # fmt: skip
        self._wrap_ups = WrapUps(
            self._pbx_store, self._states, self.roster, self.events,
            on_wrong_skill=self._feedback.wrong_skill,
        )  # fmt: skip
        self._actions = AgentActions(
            self._contacts, self._calls, self._chats, self._dispatch, transfers, self._consultations,
            chat_transfers, destinations, self._staffing, self._states, self.roster, self._wrap_ups,
            self.events, queues=[queue.name for queue in s.queues],
        )  # fmt: skip
        self._menus = InboundMenus(s.menus, self.media, self.events, reactor, folder=s.data / "prompts")
        self._inbound = Inbound(
            self.desk, self._contacts, self._calls, feature_codes, self.roster, self._app_credentials,
            self._authenticate, trunks, self.events, domain=s.domain,
            destinations=destinations, direct_calls=self._direct_calls, transfers=transfers, menus=self._menus,
        )  # fmt: skip
        messages = AgentMessages(self._contacts, self._chats, self.roster, self._authenticate)

        # The registrar speaks for itself about these; the user agent only must not refuse them first.
        self._user_agent.extensions |= {"path", "outbound"}
        self._user_agent.on_invite = self._inbound.on_invite
        self._user_agent.vouches = self._inbound.vouch
        self._user_agent.methods["REGISTER"] = self._registrar.on_register
        self._transactions.challenges["REGISTER"] = self._registrar.challenge
        self._user_agent.methods["MESSAGE"] = messages.on_message
        self._user_agent.accept += tuple(kind for kind in ACCEPTED if kind not in self._user_agent.accept)
        self._trunk_probe = TrunkProbe(
            trunks, self._user_agent, reactor, domain=s.domain, on_change=self._trunk_changed
        )
        self._registrations = TrunkRegistrations(
            trunks.trunks.values(), self._user_agent, self._trunk_registration
        )
        self._location.on_change.append(self._phones_changed)
        self.roster.on_change.append(self._agent_changed)
        self._qualities = Qualities(self._contacts, QualityStore(self.database), self.media, self.events)
        MediaNews(
            self.media, self._menus, self._calls, self._calling_back, self._direct_calls, self._consultations,
            self._supervisions, self._voicemails, self._recording.recordings, self._qualities,
        )  # fmt: skip
        self._seeing = Seeing(
            s,
            Parts(
                self.transports, self._user_agent, self._guard, trunks, self.events, self.database, self.media,
                self.roster, self._location, self._states, self._contacts,
            ),
            reactor, now,
        )  # fmt: skip
        self._seeing.metrics.also(self._qualities.metrics)

    async def start(self) -> None:
        """Load what is stored, take up what was left open, and only then let anybody in."""
        s = self.settings
        media = self.media.start(
            host=s.media_host, public=s.media_public_host, ports=s.rtp_ports, prompts=s.data / "prompts"
        )
        # The slowest part of a first start; everything else is done meanwhile.
        media_up = asyncio.ensure_future(media)
        try:
            await self.roster.load()
            await self._seed()
            await self._location.load()
            self._push.start()
            await self._states.load()
        finally:
            await media_up
        await self._rules.load()
        await self._menus.prepare()
        await self._wrap_ups.load()
        self._rules.start(self._reactor)
        await self._voicemails.resume()
        await self.desk.resume()
        await self._recording.start()
        self._dispatch.start()
        self._expected_wait.start()
        self._listen_sip()
        self._listen_web()
        await self._seeing.start()
        if s.robot_agent:
            robin = agent_sample.ROBOT_USERNAME
            self._robot = RobotProcess(s, lambda: self.roster.device_by_username(robin) is not None)
            self._robot.start()

    async def stop(self) -> None:
        """Drain: no new contacts, calls get a BYE, chats stay stored; then everything closes, the database last."""
        # What carriers are told first, they send somewhere else meanwhile.
        leaving = asyncio.ensure_future(self._registrations.stop())
        try:
            self.desk.draining = True
            self._direct_calls.stop()
            self._menus.stop()
            await asyncio.wait_for(self.desk.drain(), self.settings.drain_s)
            await asyncio.wait_for(self._calls_over(), self.settings.drain_s)
        except TimeoutError:
            log.warn("Some calls did not end within {seconds} s", seconds=self.settings.drain_s)
        await self._recording.stop(self.settings.drain_s)
        if self._robot is not None:
            await self._robot.stop()
        for part in (self._api, self._pages, self._recording_pages):
            if part is not None:
                await part.close()
        for port in self._web:
            await as_future(_stopped(port))
        self._trunk_probe.stop()
        await leaving
        await self._seeing.stop()
        await self._push.stop()
        self._rules.stop()
        self._states.stop()
        await self._location.stop()
        self._transactions.stop()
        await self.transports.stop()
        await self.media.end()
        self.logins.close()
        await self._shared.close()
        await self.database.close()

    # What parts below are given

    def _credentials_of(self, username: str) -> Credentials | None:
        return self.roster.credentials_of(username) or self._app_credentials.credentials_of(username)

    def _authenticate(self, request: Request, flow: Flow) -> str | Challenge:
        who = self._authenticator.check(request)
        if isinstance(who, str):
            self._guard.proved(flow, self._now(), who)
        elif who.failed:
            self._guard.failed(flow, self._now(), request)
        return who

    def _registered_from(self, username: str, host: str) -> bool:
        bindings = self._location.all_bindings(self._location.aor(username))
        return any(binding.source_ip == host for binding in bindings.values())

    def _standing(self, contact: Contact) -> Standing:
        return Standing(self._dispatch.position(contact.id), self._expected_wait.of(contact.id))

    async def _join(self, contact: Contact, taken: Taken) -> bool:
        return await self._call_backs.connect(contact, taken)

    def _flow_alive(self, token: str) -> bool:
        flow = self.transports.flow_by_token(token)
        return flow is not None and flow.alive

    def _probe(self, binding: Binding) -> None:
        """Ask a phone whose REGISTER did not say what it can do (RFC 3261 s11)."""
        device_id = binding.device_id
        if device_id is None:
            return
        flow = self.transports.flow_by_token(binding.flow_token)
        target = Target(binding.contact_uri, binding.path, flow)
        answer = self._user_agent.request(
            "OPTIONS", target, from_=f"<sip:{self.settings.domain}>", to=f"<{binding.aor}>"
        )

        async def learn() -> None:
            await self._registrar.learn(device_id, await answer)

        spawn(learn(), f"asking {device_id} what it can do")

    def _trunk_changed(self, trunk: Trunk) -> None:
        self.events.write("trunk.up" if trunk.answers else "trunk.down", trunk=trunk.name)
        if not trunk.answers:
            self._registrations.lost(trunk)

    def _trunk_registration(self, kind: str, trunk: Trunk, facts: dict[str, Any]) -> None:
        self.events.write(f"trunk.{kind}", trunk=trunk.name, **facts)

    def _phones_changed(self, aor: str, *_: object) -> None:
        agent_id = self._staffing.agent_of_aor(aor)
        if agent_id is not None:
            self._agent_changed(agent_id)

    def _agent_changed(self, agent_id: str) -> None:
        self._dispatch.agent_changed(agent_id)
        self._expected_wait.agent_changed(agent_id)
        self._chats.agent_changed(agent_id)
        self._supervisions.agent_changed(agent_id)

    def _context_url(self, contact_id: str) -> str:
        return f"{self.portal_url}/context/{contact_id}"

    # The doors

    @property
    def portal_url(self) -> str:
        """Where a browser on another device reaches the portal; plain HTTP only where nobody else can listen."""
        s = self.settings
        if s.https_port and (s.anywhere or not s.http_port):
            return f"https://{s.url_host}:{s.https_port}"
        return f"http://{s.url_host}:{s.http_port}"

    def _listen_sip(self) -> None:
        s = self.settings
        for host in s.sip_hosts:
            self.transports.listen_udp(host, s.sip_port)
        self.transports.listen_tcp(s.host, s.sip_port)
        if s.sips_port:
            self.transports.listen_tls(s.host, s.sips_port, context_factory(self._certificate()))
        trusted = Path(s.trusted_authorities) if s.trusted_authorities else None
        self.transports.connector.tls = client_context(
            trusted, self._certificate() if s.certificate else None
        )
        self._trunk_probe.start()
        self._registrations.start()

    def _listen_web(self) -> None:
        s = self.settings
        certificate = self._certificate()
        secure_url = f"https://{s.url_host}:{s.https_port}" if s.https_port else ""
        portal = Portal(
            self.portal_store,
            self.logins,
            self._tracker,
            ca_pem=certificate.authority.read_bytes() if not s.certificate else None,
            secure_url=secure_url,
        )
        setup = SoftphoneSetup(s.domain, f"{s.url_host}:{s.sip_port}", ("UDP", "TCP"))
        self._api = Api(
            desk=self.desk, logins=self.logins, credentials=self._app_credentials, clock=self._reactor,
            allow_recording=self._recording.recordings.allow,
        )  # fmt: skip
        self._pages = AgentPages(
            desk=self.desk, logins=self.logins, roster=self.roster, states=self._states,
            location=self._location, events=self.events, clock=self._reactor, now=self._now, setup=setup,
            actions=PageActions(
                self._actions, self._voicemails, self.events, contact_of=self.desk.get,
                recorder=self._recording.recordings, supervised=self._supervisions.told_to_agent,
            ),
            hears_recordings=s.recording_for_agents,
        )  # fmt: skip
        past = Past(self.database, self._pbx_store, self.roster, self._dispatch.policies.strategies)
        supervisor = SupervisorPages(
            Centre(
                self.roster, self._states, self._contacts, lambda: self._dispatch.floor, past, self._rules,
                self.portal_store,
            ),
            self.logins, clock=self._reactor, now=self._now,
        )  # fmt: skip
        self._recording_pages = RecordingPages(
            self._recording.archive, self.roster, self.logins, clock=self._reactor, now=self._now
        )
        calls = CallPages(
            self._contacts, self.desk.get, self._qualities, self._supervisions, self.roster, self.logins,
            clock=self._reactor, now=self._now,
        )  # fmt: skip
        people = PeoplePages(
            People(
                self.roster, self._states, self._location, self._staffing, self._contacts, self.logins, self.events,
                self._now,
            ),
            self.roster, self._states, self._location, self.portal_store, self._rules, self.logins,
            setup=setup, chats=s.chats_per_agent, clock=self._reactor, now=self._now,
        )  # fmt: skip
        root = build_root(
            api=self._api.resource(),
            pages=self._pages.resource(),
            supervisor=supervisor.resource(),
            portal=portal.resource(),
            sip=sip_resource(self.transports),
            metrics=self._seeing.page(),
            more={
                "agent/recordings": self._recording_pages.resource(),
                "agent/calls": calls.resource(),
                "agent/people": people.resource(),
            },
            # A name that was once visited by https would never again be asked by http, port or no port.
            hsts=bool(s.certificate),
        )
        site = WarmlineSite(root, self._reactor)
        site.noisy = False
        if s.http_port:
            # Passwords in the clear are for this machine alone: phones in the network come by https.
            self._web.append(self._reactor.listenTCP(s.http_port, site, interface=s.here))
            self.transports.ports.setdefault("WS", s.http_port)
        if s.https_port:
            self._web.append(
                self._reactor.listenSSL(s.https_port, site, context_factory(certificate), interface=s.host)
            )
            self.transports.ports.setdefault("WSS", s.https_port)

    def _certificate(self) -> ServerCertificate:
        s = self.settings
        if s.certificate:
            return ServerCertificate(Path(s.certificate), Path(s.certificate), Path(s.private_key))
        return server_certificate(s.data / "tls", [s.public_host, s.domain], self._now())

    async def _seed(self) -> None:
        if self.settings.sample_data:
            await portal_sample.seed(self.portal_store, self.logins)
            await agent_sample.seed(self.roster, self.logins, data=self.settings.data)
            await rules_sample.seed(self._pbx_store)
            await wrap_up.seed(self._pbx_store)

    async def _calls_over(self) -> None:
        # Done once, at the very end: not worth a way for calls to tell that they were the last.
        while self._user_agent.calls:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def _stopped(port: IListeningPort) -> Any:
    from twisted.internet.defer import maybeDeferred

    return maybeDeferred(port.stopListening)
