"""The whole contact centre on a database in memory, with phones and packets that tests play."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_presence.roster import Agent
from config.database import Database
from config.errors import OurError, TheirError
from config.events import Event
from config.queue_settings import Overflow, QueueSettings
from config.recording_settings import Keys, Retention
from config.trunk_settings import TrunkSettings
from kb_portal.customer import Customer
from kb_portal.product import Product
from kb_portal.provider import Provider, ProviderNumber
from kb_portal.store import PortalStore
from media.server import MOST_IN_CONFERENCE, MediaServer, Profile
from pbx.absence import Patience
from pbx.agent_desk import AgentActions
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
from pbx.front_desk import FrontDesk
from pbx.inbound import Inbound
from pbx.inbound_menu import InboundMenus
from pbx.invitation import Ringer
from pbx.menu import Menu
from pbx.on_hold import OnHold
from pbx.open_contacts import OpenContacts
from pbx.policies import Policies
from pbx.prompt import Taken
from pbx.reception import Reception
from pbx.recording_archive import RecordingArchive
from pbx.recording_consent import Consents
from pbx.recording_store import RecordingStore
from pbx.recordings import Recordings
from pbx.rules import Rules
from pbx.staffing import Staffing
from pbx.store import PbxStore
from pbx.supervision import Supervisions
from pbx.transfer import Transfers
from pbx.voicemail import Voicemails
from pbx.waiting import Standing
from pbx.wrap_up import WrapUps
from sip_trunk import user_agent as sip
from sip_trunk.authentication import Challenge
from sip_trunk.flow import Flow
from sip_trunk.sip.message import Request, Response
from sip_trunk.trunk import TrunkTable
from tests.agent_presence.house import DOMAIN, House

NO_PROOF = Challenge(401, "Unauthorized")
OFFER = b"offer of the caller"


class FakeMedia:
    """Remembers what it was told; `poor` branches share no codec, `different` ones must be re-offered."""

    def __init__(self) -> None:
        self.on_gone: Callable[[str, str, str], None] = lambda call, branch, why: None
        self.on_keys: Callable[[str, str, str], None] = lambda call, branch, key: None
        self.on_recorded: Callable[[str, str, str, float], None] = lambda call, branch, why, seconds: None
        self.on_tapped: Callable[[str, str, float], None] = lambda call, why, seconds: None
        self.taps: dict[str, dict[str, Any]] = {}  # by call
        self.tapped: list[dict[str, Any]] = []  # all there ever were
        self.on_transcoding: Callable[[str, str, str], None] = lambda call, branch, other: None
        self.on_quality: Callable[[str, str, str, dict[str, Any]], None] = lambda *_: None
        self.branches: dict[tuple[str, str], str] = {}
        self.playing: dict[tuple[str, str], str | tuple[str, ...]] = {}
        self.played: list[tuple[str, str | tuple[str, ...]]] = []  # (branch, prompts), all there ever were
        self.heard: list[tuple[tuple[str, str], str | tuple[str, ...]]] = []  # the same, with the call
        self.conferences: dict[str, tuple[str, ...]] = {}
        self.hears: dict[str, dict[str, list[str]]] = {}  # of conferences, who does not hear all others
        self.recordings: dict[tuple[str, str], dict[str, Any]] = {}
        self.recorded_s = 4.0  # how long a recording has become when it is stopped
        self.joined: list[tuple[str, str, str]] = []
        self.offers: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.last_packet_at: dict[str, float] = {}
        self.pressed: list[tuple[str, str]] = []
        self.keyless: set[str] = set()
        self.seen: list[tuple[str, str]] = []
        self.different = False
        self.dead = False

    async def answer(
        self, call: str, branch: str, offer: bytes, *, like: str | None = None, **more: Any
    ) -> bytes:
        if like is not None:
            self._known(call, like)
        self.answers.append({"branch": branch, "like": like})
        if offer == b"nothing in common":
            raise TheirError("No common codec", 488)
        self.branches[call, branch] = "answered"
        return b"answer to " + offer

    async def offer(self, call: str, branch: str, *, profile: Profile, **more: Any) -> bytes:
        if self.dead:
            raise OurError("The media process is gone.", 503)
        if more.get("like") is not None:
            self._known(call, more["like"])
        self.offers.append({"branch": branch, "profile": profile, **more})
        self.branches[call, branch] = "offered"
        await asyncio.sleep(0)
        return b"offer of ours"

    async def accept(self, call: str, branch: str, answer: bytes) -> None:
        await asyncio.sleep(0)
        if answer == b"nothing in common":
            raise TheirError("No common codec", 488)
        if (call, branch) in self.branches:
            self.branches[call, branch] = "agreed"

    async def answer_joined(self, call: str, branch: str, offer: bytes, *, peer: str, answer: bytes) -> bytes:
        await self.accept(call, peer, answer)
        ours = await self.answer(call, branch, offer, like=peer)
        await self.join(call, branch, peer)
        return ours

    async def seen_at(self, call: str, branch: str, address: str) -> None:
        self.seen.append((branch, address))

    async def compatible(self, call: str, a: str, b: str) -> bool:
        self._known(call, a, b)
        return not self.different

    def _known(self, call: str, *branches: str) -> None:
        for branch in branches:
            if (call, branch) not in self.branches:
                raise OurError(f"There is no branch {branch} of call {call} in the media server")

    async def play(
        self, call: str, branch: str, prompt: str | Sequence[str], *, repeat: bool = False
    ) -> float:
        self._known(call, branch)
        heard = prompt if isinstance(prompt, str) else tuple(prompt)
        self.playing[call, branch] = heard
        self.played.append((branch, heard))
        self.heard.append(((call, branch), heard))
        return 3.0 if isinstance(heard, str) else 3.0 * len(heard)

    async def stop(self, call: str, branch: str) -> None:
        self.playing.pop((call, branch), None)

    async def join(self, call: str, a: str, b: str) -> None:
        self._known(call, a, b)
        self.joined.append((call, a, b))
        for branch in (a, b):
            self.playing.pop((call, branch), None)
            self._leaves(call, branch)

    async def join_alike(self, call: str, a: str, b: str) -> bool:
        alike = await self.compatible(call, a, b)
        if alike:
            await self.join(call, a, b)
        return alike

    async def confer(
        self, call: str, branches: Sequence[str], *, hears: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._known(call, *branches)
        if len(set(branches)) != len(branches) or len(branches) > MOST_IN_CONFERENCE:
            raise OurError("a conference has up to five branches, each once")
        self.conferences.pop(call, None)
        self.hears[call] = {branch: list(named) for branch, named in (hears or {}).items()}
        if len(branches) > 1:
            self.conferences[call] = tuple(branches)
            for branch in branches:
                self.playing.pop((call, branch), None)

    def _leaves(self, call: str, branch: str) -> None:
        left = tuple(each for each in self.conferences.pop(call, ()) if each != branch)
        if left:
            self.conferences[call] = left

    async def record(self, call: str, branch: str, path: str, *, limit_s: float, silence_s: float) -> None:
        self._known(call, branch)
        if (call, branch) in self.recordings:
            raise OurError(f"{branch} of {call} is being recorded already")
        self.recordings[call, branch] = {"path": path, "limit_s": limit_s, "silence_s": silence_s}

    async def stop_recording(self, call: str, branch: str) -> float:
        return self.recorded_s if self.recordings.pop((call, branch), None) is not None else 0.0

    def ends_recording(self, call: str, branch: str, why: str) -> None:
        """The recording ends by itself: "limit", "silence", "key", "gone" or "failed"."""
        if self.recordings.pop((call, branch), None) is not None:
            self.on_recorded(call, branch, why, self.recorded_s)

    async def tap(self, call: str, left: str, right: str, path: str, **more: Any) -> None:
        await asyncio.sleep(0)
        if call in self.taps or not {(call, left), (call, right)} & self.branches.keys():
            raise OurError(f"{call} cannot be recorded")
        self.taps[call] = {"left": left, "right": right, "path": path, "paused": False, "pauses": [], **more}
        self.tapped.append(self.taps[call])

    async def pause_tap(self, call: str, paused: bool) -> bool:
        await asyncio.sleep(0)
        if call not in self.taps:
            return False
        self.taps[call]["paused"] = paused
        self.taps[call]["pauses"].append(paused)
        return True

    async def end_tap(self, call: str) -> float:
        await asyncio.sleep(0)
        return self.recorded_s if self.taps.pop(call, None) is not None else 0.0

    def ends_tap(self, call: str, why: str) -> None:
        """It ends by itself: "limit", "gone" or "failed"."""
        if self.taps.pop(call, None) is not None:
            self.on_tapped(call, why, self.recorded_s)

    async def keys(self, call: str, branch: str, keys: str) -> bool:
        self._known(call, branch)
        self.pressed.append((branch, keys))
        return branch not in self.keyless

    async def part(self, call: str, a: str, b: str) -> None: ...

    async def drop(self, call: str, branch: str) -> None:
        self.branches.pop((call, branch), None)
        self._leaves(call, branch)
        self._ends_soon(call, branch)

    async def delete(self, call: str) -> None:
        self.conferences.pop(call, None)
        for key in [key for key in self.branches if key[0] == call]:
            del self.branches[key]
            self._ends_soon(*key)
        if call in self.taps:
            asyncio.get_running_loop().call_soon(self.ends_tap, call, "gone")

    def _ends_soon(self, call: str, branch: str) -> None:
        """What was being recorded there is told of as gone, later than the request is answered."""
        if (call, branch) in self.recordings:
            asyncio.get_running_loop().call_soon(self.ends_recording, call, branch, "gone")

    async def stats(self, call: str) -> dict[str, Any]:
        return {
            branch: {"kinds": {"audio": {"last_packet_at": at}}} for branch, at in self.last_packet_at.items()
        }


async def _at_once(work: Callable[..., Any], *given: Any, **more: Any) -> Any:
    """What blocks, in tests."""
    return work(*given, **more)


class FakeFlow(Flow):
    def send(self, data: bytes) -> None:
        raise AssertionError("tests send nothing")

    def close(self) -> None:
        self.alive = False
        for callback in tuple(self.on_closed):
            callback(self)


class _Call:
    """What is common to both fakes: state, and exactly one terminal event."""

    on_event: Callable[[sip.CallEvent], None] | None = None
    id = ""
    answered = False
    session_id = "session-0"

    def __init__(self, flow: Flow) -> None:
        self.flow: Any = flow
        self.over: sip.CallEvent | None = None
        self.log: list[str] = []
        self.reason: str | None = None
        self.reinvites: list[bytes] = []
        self.reoffer_answers: list[bytes | int] = []
        self.answered = False
        self.dialog: Any = object()
        self.options: int | None = 200  # what it says when asked whether it is there; None: nothing
        self.asked = 0

    def exchange(self, method: str, on_response: Callable[[Response], None], *more: Any, **named: Any) -> Any:
        if method == "OPTIONS":
            self.asked += 1
            if self.options is not None:
                asyncio.get_running_loop().call_soon(on_response, Response(self.options))

    def tell(self, event: sip.CallEvent) -> None:
        if self.over is None:
            if isinstance(event, sip.Ended | sip.Refused | sip.Cancelled):
                self.over = event
            if self.on_event is not None:
                self.on_event(event)

    def hangup(self, *, reason: str | None = None) -> None:
        if self.over is None and isinstance(self, Caller) and not self.answered:
            self.refuse(603)
        elif self.over is None:
            self.reason = reason
            self.log.append("BYE" if self.answered else "CANCEL")
            self.tell(sip.Ended("us", "") if self.answered else sip.Cancelled(""))

    def reinvite(self, body: bytes) -> None:
        self.reinvites.append(body)

    def answer_reoffer(self, body: bytes | None, status: int = 200, reason: str | None = None) -> None:
        self.reoffer_answers.append(body if body is not None else status)


class Ringing(_Call):
    """A phone of an agent that we ring. What it does is said by the test."""

    def __init__(self, number: int, target: sip.Target, to: str, more: dict[str, Any]) -> None:
        super().__init__(target.flow or FakeFlow("UDP", ("192.0.2.7", 5062), "udp"))
        self.id = f"outgoing-{number}"
        self.target = target
        self.to = to
        self.more = more
        self.on_late: Callable[[int], None] | None = None
        self.on_event = more["on_event"]

    def header(self, name: str) -> str:
        return str(dict(self.more["headers"])[name])

    def ring(self, status: int = 180, body: bytes = b"") -> None:
        self.tell(sip.Progress(status, Request("X", "sip:x").headers, body))

    def pick_up(self, body: bytes = b"answer of the phone") -> None:
        if self.over is not None:
            if self.on_late is not None:
                self.on_late(200)
            return
        self.answered = True
        self.tell(sip.Accepted(body, None))  # type: ignore[arg-type]

    def refuse(self, status: int, reason: str = "") -> None:
        self.tell(sip.Refused(status, reason, False, None))

    def hang_up(self, by: str = "peer") -> None:
        self.tell(sip.Ended(by, ""))


class Caller(_Call, sip.IncomingCall):
    """An INVITE that came."""

    _number = 0

    def __init__(
        self,
        to: str,
        *,
        from_: str = f"sip:somebody@{DOMAIN}",
        flow: Flow | None = None,
        body: bytes = OFFER,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        _Call.__init__(self, flow or FakeFlow("WS", ("192.0.2.1", 1234), "ws"))
        Caller._number += 1
        self.id = f"incoming-{Caller._number}"
        self.request = Request(
            "INVITE", to, [("From", f"<{from_}>;tag=1"), ("To", f"<{to}>"), *headers], body
        )
        self.offer = body
        self.replaces: sip.Call | None = None
        self.session_id = f"session-{Caller._number}"
        self.rung: list[int] = []
        self.early = b""
        self.accepted: bytes | None = None
        self.refused: tuple[int, str | None] | None = None

    def ring(self, status: int = 180, headers: Any = (), body: bytes = b"", **more: Any) -> None:
        self.rung.append(status)
        self.early = body

    def accept(self, body: bytes, headers: Any = ()) -> None:
        self.answered = True
        self.accepted = body
        self.tell(sip.Confirmed(b""))

    def refuse(self, status: int, reason: str | None = None, headers: Any = ()) -> None:
        self.refused = (status, reason)
        self.tell(sip.Refused(status, reason or "", True, None))

    def hang_up(self, by: str = "peer") -> None:
        self.tell(sip.Ended(by, "") if self.answered else sip.Cancelled(""))


class FakeUserAgent:
    """Remembers whom it rang and what it sent; `answer_message` is what phones say to a MESSAGE."""

    def __init__(self) -> None:
        self.rung: list[Ringing] = []
        self.sent: list[tuple[str, str, str, str]] = []  # (to, from, text, target)
        self.answer_message: Callable[[str], int] = lambda target: 200
        self.accepts = ""  # what phones say in OPTIONS that they read
        self.silent_to_options = False

    def invite(self, target: sip.Target, *, to: str, **more: Any) -> Ringing:
        call = Ringing(len(self.rung) + 1, target, to, more)
        self.rung.append(call)
        return call

    async def request(self, method: str, target: sip.Target, **more: Any) -> Response:
        await asyncio.sleep(0)
        if method == "OPTIONS":
            if self.silent_to_options:
                await asyncio.get_running_loop().create_future()
            return Response(200, headers=[("Accept", self.accepts)] if self.accepts else [])
        status = self.answer_message(str(target.uri))
        if status == 200:
            self.sent.append((more["to"], more["from_"], more["body"].decode(), str(target.uri)))
        return Response(status)


class Centre:
    """`again` is the same centre after its process died."""

    recording_keys = Keys()

    def __init__(
        self,
        house: House,
        portal: PortalStore,
        folder: Path | None = None,
        queues: Iterable[QueueSettings] = (),
    ) -> None:
        self.house = house
        self.clock = house.clock
        self.portal = portal
        self.folder = folder
        self.media = FakeMedia()
        self.phone = FakeUserAgent()
        # Settings of queues, where they are not the usual ones.
        self.queues: dict[str, QueueSettings] = {queue.name: queue for queue in queues}
        media: MediaServer = self.media
        user_agent: Any = self.phone
        events, clock, now = house.events, house.clock, house.now
        self.store = PbxStore(house.database)
        self.contacts = OpenContacts(self.store, events, now)
        self.staffing = Staffing(
            house.roster, house.location, house.states, flow_of=lambda token: None, push=house.push
        )
        self.calls = Calls(self.contacts, media, events, clock, now, patience=Patience())
        self.chats = Chats(
            self.contacts,
            self.store,
            self.staffing,
            user_agent,
            media,
            events,
            clock,
            now,
            domain=DOMAIN,
            idle_s=600.0,
        )
        ringer = Ringer(
            user_agent,
            media,
            self.staffing,
            events,
            clock,
            domain=DOMAIN,
            customer_branch=self.calls.branch_of,
            context_url=lambda contact_id: f"https://help.test/context/{contact_id}",
            ring_s=20.0,
            unreachable_s=4.0,
        )
        self.dispatch = Dispatch(
            self.contacts,
            self.staffing,
            house.states,
            events,
            clock,
            now,
            ring=ringer,
            connect={
                Channel.CHAT: self.chats.connect,
                Channel.VOICE: self._join,
                Channel.VIDEO: self._join,
            },
            lease_s=60.0,
            wrap_up_s=10.0,
            policies=Policies(self.queues.values()),
        )
        self.dispatch.has_agent = self.calls.has_agent
        self.rules = Rules(
            self.store, events, now, highest=lambda provider_id: highest_levels(house.roster, provider_id)
        )
        self.dossiers = Dossiers(portal, self.rules, house.roster, now)
        self.app_credentials = AppCredentials(domain=DOMAIN, realm="warmline", now=now)
        self.trunks = TrunkTable(
            [
                TrunkSettings(
                    "carrier",
                    ("192.0.2.50:5070",),
                    dial=("+49",),
                    caller_id="+15550100",
                    username="us",
                    password="x",
                ),
                TrunkSettings("exchange", ("192.0.2.60",), extensions=True),
            ]
        )
        self.destinations = Destinations(
            house.roster,
            self.staffing,
            house.states,
            self.trunks,
            domain=DOMAIN,
            hosts=("127.0.0.1",),
            special=lambda user: user in CODES or self.contacts.known(user) is not None,
        )
        self.calling_back = CallingBack(
            self.contacts, self.calls, self.destinations, ringer, media, clock, domain=DOMAIN
        )
        self.call_backs = CallBacks(
            self.contacts,
            self.calls,
            self.calling_back,
            media,
            self.store,
            events,
            clock,
            now,
            settings=lambda name: self.queues.get(name, QueueSettings(name)),
            customer=self.dossiers.customer,
        )
        self.dispatch.overflow[Overflow.CALL_BACK] = self.call_backs.overflow

        def settings(name: str) -> QueueSettings:
            return self.queues.get(name, QueueSettings(name))

        self.voicemails = Voicemails(
            self.contacts,
            self.calls,
            media,
            self.store,
            events,
            clock,
            now,
            folder=folder or Path("voicemail"),
            in_thread=_at_once,
        )
        self.dispatch.overflow[Overflow.VOICEMAIL] = self.voicemails.take
        self.menu = Menu(
            self.contacts, self.calls, self.call_backs, self.voicemails, events, settings=settings
        )
        self.reception = Reception(self.contacts, self.calls, media, clock)
        self.consents = Consents(self.contacts, self.calls, events, settings=settings)
        self.reception.steps.append(self.consents)
        self.recording_store = RecordingStore(house.database)
        self.recordings = Recordings(
            self.contacts,
            self.calls,
            self.consents,
            media,
            self.recording_store,
            events,
            clock,
            now,
            folder=folder or Path("recordings"),
            keys=self.recording_keys,
            retention=Retention(30),
            pause_s=300.0,
            in_thread=_at_once,
        )
        self.archive = RecordingArchive(
            self.recording_store,
            events,
            now,
            folder=folder or Path("recordings"),
            keys=self.recording_keys,
            retention=Retention(30),
            in_thread=_at_once,
        )
        self.expected_wait = ExpectedWait(
            self.contacts, house.states, self.staffing, house.roster, self.dispatch.floor, now
        )
        self.calls.room.settings = settings
        self.calls.room.standing = lambda contact: Standing(
            self.dispatch.position(contact.id), self.expected_wait.of(contact.id)
        )
        self.desk = FrontDesk(
            self.contacts,
            self.dossiers,
            self.calls,
            self.chats,
            self.dispatch,
            self.staffing,
            self.store,
            events,
            now,
            domain=DOMAIN,
            call_backs=self.call_backs,
            expected_wait=self.expected_wait.of,
            recording=self.recordings.view,
            on_hold=OnHold(self.contacts, self.calls, events),
            supervisor=lambda contact: self.supervisions.told_to_customer(contact.id),
        )
        self.calling_back.has_page = self.desk.has_page
        self.consents.has_page = self.desk.has_page
        self.desk.on_page = self.consents.page_came
        self.calling_back.tell = self.consents.tell_called_back
        self.direct_calls = DirectCalls(
            self.destinations,
            self.staffing,
            house.states,
            user_agent,
            media,
            events,
            clock,
            now,
            agent_changed=self.dispatch.agent_changed,
            ring_s=20.0,
            unreachable_s=4.0,
        )
        self.feature_codes = FeatureCodes(house.states, media, clock, unasked=self.direct_calls.rung)
        by_name = ByName(self.dispatch, self.destinations, ringer, events)
        self.transfers = Transfers(
            self.contacts,
            self.calls,
            self.direct_calls,
            self.dispatch,
            self.destinations,
            by_name,
            media,
            events,
        )
        self.consultations = Consultations(
            self.contacts,
            self.calls,
            self.dispatch,
            self.destinations,
            by_name,
            media,
            events,
            self.transfers.claims,
        )
        self.supervisions = Supervisions(
            self.contacts,
            self.calls,
            self.destinations,
            self.staffing,
            user_agent,
            media,
            events,
            clock,
            domain=DOMAIN,
            ring_s=20.0,
            unreachable_s=4.0,
            announced=False,
            agent_changed=self.dispatch.agent_changed,
        )
        self.consultations.on_conferred = self.supervisions.conferred
        self.wrong_skills: list[tuple[str, str, str]] = []
        self.wrap_ups = WrapUps(
            self.store,
            house.states,
            house.roster,
            events,
            on_wrong_skill=self._wrong_skill,
        )
        self.actions = AgentActions(
            self.contacts,
            self.calls,
            self.chats,
            self.dispatch,
            self.transfers,
            self.consultations,
            ChatTransfers(
                self.contacts,
                self.chats,
                self.dispatch,
                self.staffing,
                by_name,
                events,
                self.transfers.claims,
            ),
            self.destinations,
            self.staffing,
            house.states,
            house.roster,
            self.wrap_ups,
            events,
            queues=("default", "patience"),
        )
        self.menus = InboundMenus((), media, events, clock, folder=folder or Path("menus"))
        self.media.on_gone = self._media_gone
        self.media.on_keys = self._keys_heard
        self.media.on_recorded = self.voicemails.recorded
        self.media.on_tapped = self.recordings.ended_by_itself
        house.location.on_change.append(self._bindings_changed)

    async def _join(self, contact: Contact, taken: Taken) -> bool:
        return await self.call_backs.connect(contact, taken)

    async def _wrong_skill(self, contact: Contact, needed: str, agent_id: str) -> None:
        self.wrong_skills.append((contact.id, needed, agent_id))

    def _keys_heard(self, call: str, branch: str, key: str) -> None:
        if not self.menus.keys_heard(call, branch, key):
            self.calls.keys_heard(call, branch, key)

    def _media_gone(self, call: str, branch: str, why: str) -> None:
        self.menus.media_gone(call, branch, why)
        self.calls.media_gone(call, branch, why)
        self.calling_back.media_gone(call, branch, why)
        self.direct_calls.media_gone(call, branch, why)
        self.consultations.media_gone(call, branch, why)
        self.supervisions.media_gone(call, branch, why)

    def inbound(self, who: str | Challenge = NO_PROOF) -> Inbound:
        """The door, with everybody who comes being `who`."""
        return Inbound(
            self.desk,
            self.contacts,
            self.calls,
            self.feature_codes,
            self.house.roster,
            self.app_credentials,
            lambda request, flow: who,
            self.trunks,
            self.house.events,
            domain=DOMAIN,
            destinations=self.destinations,
            direct_calls=self.direct_calls,
            transfers=self.transfers,
            menus=self.menus,
        )

    async def dials(self, username: str, to: str, **more: Any) -> Caller:
        """A phone that proves to be this user's calls a name or number here, or a whole address."""
        address = to if ":" in to else f"sip:{to}@{DOMAIN}"
        flow = FakeFlow("UDP", ("192.0.2.7", 5062), "udp")
        replaces = more.pop("replaces", None)
        caller = Caller(address, from_=f"sip:{username}@{DOMAIN}", flow=flow, **more)
        caller.replaces = replaces
        self.inbound(username).on_invite(caller)
        await self.settle()
        return caller

    def _bindings_changed(self, aor: str, added: Any, removed: Any) -> None:
        agent_id = self.staffing.agent_of_aor(aor)
        if agent_id is not None:
            self.dispatch.agent_changed(agent_id)
            self.expected_wait.agent_changed(agent_id)
            self.chats.agent_changed(agent_id)

    @classmethod
    async def open(
        cls,
        database: Database | None = None,
        folder: Path | None = None,
        queues: Iterable[QueueSettings] = (),
        providers: Iterable[str] = (),
    ) -> Centre:
        house = House(database, providers=providers)
        portal = PortalStore(house.database)
        centre = cls(house, portal, folder, queues)
        await house.open()
        if database is None:
            await portal.add_provider(Provider("thermea", "thermea", "Thermea"))
            await portal.add_provider(Provider("lumio", "lumio", "Lumio"))
            await portal.add_product(
                Product("boiler", "thermea", "boiler", "Boiler 200", "", "", "", ("heating",))
            )
            await portal.add_product(Product("camera", "lumio", "camera", "Camera S2", "", "", "", ("wifi",)))
            await portal.add_number(ProviderNumber("+15550200", "thermea", "boiler"))
            for name, phone in (
                ("maria", "+15550100001"),
                ("jonas", "+15550100002"),
                ("aiko", "+15550100003"),
            ):
                await portal.add_customer(
                    Customer(name, name.title(), f"{name}@example.org", phone, name != "aiko"), "hash"
                )
                await portal.add_ownership(f"o-{name}", name, "boiler", "", None)
        centre.dispatch.start()
        centre.expected_wait.start()
        return centre

    async def again(self) -> Centre:
        """What a crash leaves: the database as it is stored."""
        await self.settle()
        self.house.states.stop()
        for call in tuple(self.clock.getDelayedCalls()):
            call.cancel()
        house = House(self.house.database, self.clock, self.house.providers)
        centre = Centre(house, PortalStore(house.database), self.folder, self.queues.values())
        await house.open()
        await centre.rules.load()
        await centre.voicemails.resume()
        await centre.recordings.resume()
        await centre.desk.resume()
        await centre.consents.resume()
        centre.dispatch.start()
        centre.expected_wait.start()
        await centre.settle()
        return centre

    async def settle(self) -> None:
        """Let everything happen that can happen now, and be stored."""
        for _ in range(12):
            for _ in range(12):
                await asyncio.sleep(0)
            await self.house.database.write()
            self.clock.advance(0)

    async def passes(self, seconds: float) -> None:
        while seconds > 0:
            self.clock.advance(min(0.5, seconds))
            seconds -= 0.5
            for _ in range(6):
                await asyncio.sleep(0)
        await self.settle()

    # People

    async def agent(self, name: str = "ana", **skills: int) -> Agent:
        """An agent on the roster, with one phone registered, who is ready."""
        agent = await self.house.hire(name, **(skills or {"heating": 3}))
        await self.house.bind(name, contact_uri=f"sip:{name}@192.0.2.7:5062")
        await self.house.states.ready(agent.id)
        await self.settle()
        return agent

    async def asks(self, customer: str = "maria", channel: str = "voice", text: str | None = None) -> Contact:
        contact = await self.desk.request(customer, channel, "boiler", None, None, text)
        await self.settle()
        return contact

    async def calls_in(self, contact: Contact, **more: Any) -> Caller:
        """The page's INVITE to its contact's address."""
        caller = Caller(self.desk.uri(contact), **more)
        await self.calls.arrive(contact, await self.calls.greet(contact.id, contact.channel, caller))
        await self.settle()
        return caller

    def state(self, agent: str = "ana") -> str:
        return self.house.states.of(f"agent-{agent}").state.value

    def kinds(self, contact: Contact) -> list[str]:
        return [
            event.kind.removeprefix("contact.") for event in self.house.told if event.contact == contact.id
        ]

    def events(self, kind: str) -> list[Event]:
        return self.house.kinds(kind)
