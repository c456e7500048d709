"""The phone that answers by itself: `warmline robot-agent`, so that someone alone with a browser sees the whole job.

It is a process of its own and a SIP phone like any other: it registers, dials *71 to become ready, rings a moment,
answers, shows a moving test picture and speaks, and echoes chat lines. It knows nothing of the server but its address.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from twisted.internet import asyncioreactor
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from config.bridge import as_future, spawn
from config.errors import TheirError, WarmlineError
from media import sdp
from media.offer_answer import Line, Local, read_offer, write
from media.sdp import Media, Origin
from media.server import ALL_KINDS, Profile
from pbx.robot_media import Performance, Show, Track, encode_pictures, make_show
from sip_trunk.flow import Flow
from sip_trunk.locate import is_numeric
from sip_trunk.sip.uri import bracketed
from sip_trunk.transactions import TransactionLayer
from sip_trunk.transport import Transports
from sip_trunk.user_agent import (
    CallEvent,
    Cancelled,
    Confirmed,
    Ended,
    IncomingCall,
    IncomingRequest,
    Refused,
    Reoffered,
    Target,
    UserAgent,
)

log = Logger()

READY_CODE = "*71"
RING_S = 1.5
_CODECS = {"audio": ("opus", "pcmu"), "video": ("vp8", "h264")}
EXPIRES_S = 60
RETRY_S = (1.0, 2.0, 4.0, 8.0, 15.0)
ECHO_AFTER_S = 0.7
# How long leaving may take: a server that is gone does not answer.
LEAVE_S = 2.0
# The announcement that follows *71 is hung up by the server; if that is lost, the robot does.
ANNOUNCEMENT_S = 20.0


class Robot:
    """One phone. `start` returns when it can be rung or is trying to get there; `stop` hangs up and unregisters.

    `unwelcome` is set when the server knows no such phone or another password, and trying on is of no use.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        server_host: str,
        port: int,
        username: str,
        password: str,
        domain: str,
        ring_s: float = RING_S,
    ) -> None:
        self.reactor = reactor
        self.ring_s = ring_s
        self.host = "127.0.0.1"
        self.calls: set[RobotCall] = set()
        self.unwelcome = asyncio.Event()
        self._server = (server_host, port)
        self._username = username
        self._credentials = (username, password)
        self._domain = bracketed(domain)
        self._address = f"sip:{username}@{self._domain}"
        self._instance = uuid.uuid4()
        self._show: asyncio.Future[Show] | None = None
        self._h264: asyncio.Future[tuple[bytes, ...]] | None = None
        self._transports: Transports | None = None
        self._transactions: TransactionLayer | None = None
        self._agent: UserAgent | None = None
        self._flow: Flow | None = None
        self._staying: asyncio.Task[None] | None = None
        self._echoes: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Make the show, find the server, and keep registered from then on. Raises OSError for a host that is none."""
        self._show = asyncio.ensure_future(asyncio.to_thread(make_show))
        found = await asyncio.get_running_loop().getaddrinfo(
            *self._server, family=socket.AF_INET, type=socket.SOCK_DGRAM
        )
        address: tuple[str, int] = (str(found[0][4][0]), self._server[1])
        self.host = _own_address(address)
        self._transports = Transports(self.reactor, public_host=self.host)
        self._transactions = TransactionLayer(self._transports, self.reactor)
        agent = UserAgent(
            self._transactions,
            self._transports,
            clock=self.reactor,
            domain_names=set(),
            product="Warmline robot agent",
        )
        agent.on_invite = self._on_invite
        agent.methods["MESSAGE"] = self._on_message
        # A phone of one server: whoever else finds this port is not its business.
        agent.screen = lambda request, flow: None if flow.peer == address else (403, "Not My Server")
        self._agent = agent
        self._transports.listen_udp(self.host, 0)
        self._flow = self._transports.flow_to_address("UDP", *address)
        await self._show
        self._staying = spawn(self._stay_registered(), "staying registered")

    async def stop(self) -> None:
        """Hang up, unregister as far as the server still listens, and close everything."""
        if self._staying is not None:
            self._staying.cancel()
        for echo in self._echoes.values():
            echo.cancel()
        if self._agent is not None:
            for call in list(self._agent.calls):
                call.hangup()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._register(0), LEAVE_S)
            self._agent = None
        for playing in list(self.calls):
            playing.close()
        if self._transactions is not None:
            self._transactions.stop()
        if self._transports is not None:
            await self._transports.stop()

    async def show(self) -> Show:
        """Everything there is to send."""
        assert self._show is not None
        return await self._show

    async def h264(self) -> tuple[bytes, ...]:
        """The picture for those who cannot take VP8, made when it is first asked for."""
        if self._h264 is None:
            self._h264 = asyncio.ensure_future(asyncio.to_thread(encode_pictures, "libx264"))
        return await self._h264

    # Being there

    async def _stay_registered(self) -> None:
        """Register and refresh; say ready whenever the server may have forgotten, until it has heard it."""
        failures, ready = 0, False
        while True:
            try:
                ready = await self._be_ready(ready)
            except Exception:
                # A phone that nobody looks after must try again, whatever it was.
                log.failure("The robot agent could not make itself ready")
                ready = False
            if ready:
                failures = 0
                # Half of it, so that one lost refresh takes nothing away.
                wait_s = EXPIRES_S / 2
            else:
                wait_s = RETRY_S[min(failures, len(RETRY_S) - 1)]
                failures += 1
            await as_future(deferLater(self.reactor, wait_s))

    async def _be_ready(self, ready: bool) -> bool:
        status = await self._register(EXPIRES_S)
        if status != 200:
            log.info("The robot agent could not register: {status}", status=status)
            if status in (401, 403, 407):
                self.unwelcome.set()
            return False
        return ready or await self._say_ready()

    async def _register(self, expires_s: int) -> int:
        assert self._agent is not None
        assert self._flow is not None
        contact = f"<{self._agent.contact(self._flow, self._username)}>"
        response = await self._agent.request(
            "REGISTER",
            Target(f"sip:{self._domain}", flow=self._flow),
            from_=self._address,
            to=self._address,
            headers=[
                ("Contact", f'{contact};audio;video;+sip.instance="<urn:uuid:{self._instance}>";reg-id=1'),
                ("Expires", str(expires_s)),
                *self._agent.capabilities(),
            ],
            credentials=self._credentials,
        )
        return response.status

    async def _say_ready(self) -> bool:
        """Dial the feature code and hear the announcement out; whether it was answered."""
        assert self._agent is not None
        answered = asyncio.get_running_loop().create_future()
        track = Track(self.reactor, self.host, "audio", _nothing)

        def on_event(event: CallEvent) -> None:
            if isinstance(event, Refused | Cancelled | Ended) and not answered.done():
                answered.set_result(event)

        target = f"sip:{READY_CODE}@{self._domain}"
        call = self._agent.invite(
            Target(target, flow=self._flow),
            from_=self._address,
            to=target,
            body=_sound_offer(self.host, track.port),
            on_event=on_event,
            credentials=self._credentials,
        )
        timer = self.reactor.callLater(ANNOUNCEMENT_S, call.hangup)
        try:
            event = await answered
        finally:
            track.close()
            if timer.active():
                timer.cancel()
            call.hangup()
        if isinstance(event, Ended):
            log.info("The robot agent is ready")
            return True
        log.info("The robot agent could not say ready: {event}", event=event)
        return False

    # Calls

    def _on_invite(self, call: IncomingCall) -> None:
        try:
            RobotCall(self, call).ring()
        except WarmlineError as error:
            call.refuse(error.status, error.reason)
        except OSError as error:
            log.warn("The robot agent has no ports for a call: {error}", error=error)
            call.refuse(503)

    # Chat

    def _on_message(self, request: IncomingRequest) -> None:
        message = request.message
        if message.content_type not in (None, "text/plain"):
            request.respond(415, headers=[("Accept", "text/plain")])
            return
        text = message.body.decode("utf-8", "replace").strip()
        request.respond(200)
        # What the server itself says, such as that the chat has ended, stands in brackets and wants no answer.
        if not text or (text.startswith("[") and text.endswith("]")):
            return
        contact = str(message.from_.uri)
        before = self._echoes.get(contact)
        echo = spawn(self._echo(contact, text, before), "the robot agent's echo")
        self._echoes[contact] = echo
        echo.add_done_callback(lambda done: self._echoed(contact, done))

    async def _echo(self, contact: str, text: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        await as_future(deferLater(self.reactor, ECHO_AFTER_S))
        assert self._agent is not None
        response = await self._agent.request(
            "MESSAGE",
            Target(contact, flow=self._flow),
            from_=self._address,
            to=contact,
            body=f"This is the test agent, a computer program. You wrote: “{text}”".encode(),
            content_type="text/plain;charset=UTF-8",
            credentials=self._credentials,
        )
        if response.status >= 300:
            log.info("The robot agent's line was not taken: {status}", status=response.status)

    def _echoed(self, contact: str, echo: asyncio.Task[None]) -> None:
        if self._echoes.get(contact) is echo:
            del self._echoes[contact]


class RobotCall:
    """A call that was made to the robot: rings, answers, performs until somebody hangs up."""

    def __init__(self, robot: Robot, call: IncomingCall) -> None:
        self._robot = robot
        self._call = call
        self._origin = Origin("robot", int(time.time()), 0, robot.host)
        self._tracks: dict[str, Track] = {}
        self._lines: tuple[Line, ...] = ()
        self._performance: Performance | None = None
        self._timer: IDelayedCall | None = None
        self._closed = False
        # Whatever is taken must be given back, so nothing is taken before we hear of the end.
        call.on_event = self._on_event
        robot.calls.add(self)
        try:
            self._take(call.request.body)
        except Exception:
            self.close()
            raise

    def ring(self) -> None:
        self._call.ring()
        self._timer = self._robot.reactor.callLater(self._robot.ring_s, self._answer)

    def close(self) -> None:
        """Give everything back."""
        if self._closed:
            return
        self._closed = True
        self._robot.calls.discard(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._performance is not None:
            self._performance.stop()
        for track in self._tracks.values():
            track.close()
            log.info(
                "The robot agent's {kind}: {sent} packets sent, {received} received",
                kind=track.kind,
                sent=track.sent,
                received=track.received,
            )

    def _answer(self) -> None:
        self._call.accept(self._session())

    def _on_event(self, event: CallEvent) -> None:
        match event:
            case Confirmed():
                self._spawn(self._perform())
            case Reoffered():
                self._reoffered(event.body)
            case Refused() | Cancelled() | Ended():
                self.close()
            case _:
                pass

    def _reoffered(self, body: bytes) -> None:
        try:
            if body:
                self._take(body)
        except (WarmlineError, OSError) as error:
            log.info("The robot agent refused a new offer: {error}", error=error)
            self._call.answer_reoffer(None, 488)
            return
        self._origin = replace(self._origin, version=self._origin.version + 1)
        self._call.answer_reoffer(self._session())
        if self._performance is not None and self._performance.playing:
            self._spawn(self._perform())

    def _take(self, offer: bytes) -> None:
        """Agree on one codec for each medium. Raises TheirError for an offer that is malformed or has none of ours."""
        description = sdp.parse(offer)
        profile, lines = read_offer(description, ALL_KINDS)
        if profile is not Profile.RTP:
            raise TheirError("Only plain RTP is spoken here", 488)
        agreed = [_one_codec(line) for line in lines]
        if not any(line.accepted for line in agreed):
            raise TheirError("No common codec", 488)
        seen: set[str] = set()
        for index, line in enumerate(agreed):
            if line.accepted and line.kind in seen:
                agreed[index] = replace(line, accepted=False)
            elif line.accepted:
                seen.add(line.kind)
                self._aim(line, description.media[index])
        for kind, track in self._tracks.items():
            if kind not in seen:
                track.peer = None
        self._lines = tuple(agreed)

    def _aim(self, line: Line, media: Media) -> None:
        track = self._tracks.get(line.kind)
        if track is None:
            track = self._tracks[line.kind] = Track(
                self._robot.reactor, self._robot.host, line.kind, self._key_frame_wanted
            )
        track.payload = line.theirs[0]
        track.peer = (media.address, media.port) if line.they_receive and is_numeric(media.address) else None

    def _session(self) -> bytes:
        where = [
            Local(self._robot.host, self._tracks[line.kind].port) if line.accepted else None
            for line in self._lines
        ]
        return write(self._origin, Profile.RTP, self._lines, where, answering=True).to_bytes()

    async def _perform(self) -> None:
        show = await self._robot.show()
        audio, video = self._tracks.get("audio"), self._tracks.get("video")
        pictures = await self._robot.h264() if _is_h264(video) else show.vp8
        if self._closed:
            return
        if self._performance is not None:
            self._performance.stop()
        self._performance = Performance(self._robot.reactor, show, audio, video)
        self._performance.play(pictures)

    def _key_frame_wanted(self) -> None:
        if self._performance is not None:
            self._performance.restart_pictures()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        spawn(work, "the robot agent's performance")


def _one_codec(line: Line) -> Line:
    """The line with the one codec we send and take: the first that we can, but VP8 before H.264."""
    names = [codec.name.lower() for codec in line.ours]
    usable = (
        [index for index, name in enumerate(names) if name in _CODECS[line.kind]] if line.accepted else []
    )
    if not usable:
        return replace(line, accepted=False)
    choice = next((index for index in usable if names[index] == "vp8"), usable[0])
    ours, theirs = line.ours[choice], line.theirs[choice]
    return replace(line, ours=(ours,), theirs=(theirs,), formats=(str(ours.number),))


def _is_h264(track: Track | None) -> bool:
    return track is not None and track.payload.name.lower() == "h264"


def _sound_offer(host: str, port: int) -> bytes:
    return (
        f"v=0\r\no=robot {int(time.time())} 0 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=recvonly\r\n"
    ).encode()


def _own_address(server: tuple[str, int]) -> str:
    """Our address as that server sees it; connecting a UDP socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(server)
        return str(probe.getsockname()[0])


def _nothing() -> None:
    return None


async def main(server_host: str, port: int, username: str, password: str, domain: str) -> int:
    """Be the robot agent until SIGTERM or SIGINT (0), or until the server does not take the password (1).

    The running loop must be that of Twisted's asyncio reactor. Raises OSError for a host that is none.
    """
    from twisted.internet import reactor

    leaving = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leaving.set)
    robot = Robot(
        reactor, server_host=server_host, port=port, username=username, password=password, domain=domain
    )
    try:
        await robot.start()
        told = asyncio.ensure_future(leaving.wait())
        refused = asyncio.ensure_future(robot.unwelcome.wait())
        await asyncio.wait((told, refused), return_when=asyncio.FIRST_COMPLETED)
        for waiting in (told, refused):
            waiting.cancel()
        if leaving.is_set():
            return 0
        log.warn("The server does not take the robot agent's password")
        return 1
    finally:
        await robot.stop()


def run(server_host: str, port: int, username: str, password: str, domain: str) -> int:
    """A whole process: install the reactor, be the robot agent, return the exit status.

    0 when told to leave, 1 when that failed or the password is not taken: whoever starts it again may know a newer one.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)
    from twisted.internet import reactor as installed

    reactor: Any = installed

    status = 1

    def begin() -> None:
        work = spawn(main(server_host, port, username, password, domain), "the robot agent")
        work.add_done_callback(finish)

    def finish(work: asyncio.Task[int]) -> None:
        nonlocal status
        if not work.cancelled() and work.exception() is None:
            status = work.result()
        reactor.stop()

    reactor.callLater(0, begin)
    # Signals are main's own: Twisted's handlers would stop the reactor before the phone has said goodbye.
    reactor.run(installSignalHandlers=False)
    return status
