"""The robot agent: what it sends, and how it behaves as a phone against a server on the loopback."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import av
import numpy
import pytest
from twisted.internet import reactor as installed
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock

from media import sdp
from media.sdp import Payload
from pbx import robot as robot_module
from pbx import robot_media
from pbx.robot import Robot
from pbx.robot_media import (
    LARGEST_PAYLOAD,
    Performance,
    Show,
    encode_opus,
    encode_pcmu,
    encode_pictures,
    melody,
    packetise_h264,
    packetise_vp8,
    wants_key_frame,
)
from sip_trunk.transactions import TransactionLayer
from sip_trunk.transport import Transports
from sip_trunk.user_agent import (
    Accepted,
    CallEvent,
    Ended,
    IncomingCall,
    IncomingRequest,
    OutgoingCall,
    Refused,
    ReinviteAnswered,
    Target,
    UserAgent,
)

reactor: Any = installed

PLI = struct.pack("!BBHII", 0x81, 206, 2, 1, 2)
FIR = struct.pack("!BBHIIII", 0x84, 206, 4, 1, 0, 2, 0)
NACK = struct.pack("!BBHIII", 0x81, 205, 3, 1, 2, 0)
RECEIVER_REPORT = struct.pack("!BBHI", 0x80, 201, 1, 1)


@pytest.mark.parametrize(("encoder", "decoder"), [("libvpx", "vp8"), ("libx264", "h264")])
def test_the_loop_is_a_key_frame_and_then_moving_pictures(encoder: str, decoder: str) -> None:
    context: Any = av.CodecContext.create(decoder, "r")
    pictures: list[Any] = []
    keys: list[bool] = []
    for frame in (*encode_pictures(encoder), None):
        decoded = context.decode(None if frame is None else av.Packet(frame))
        pictures += [picture.to_ndarray(format="rgb24").astype(int) for picture in decoded]
        keys += [bool(picture.key_frame) for picture in decoded]
    assert keys == [True] + [False] * 61
    assert pictures[0].shape == (240, 320, 3)
    assert all(numpy.abs(after - before).mean() > 0.2 for before, after in pairwise(pictures))


def test_vp8_pictures_are_cut_to_packets_that_can_be_put_together_again() -> None:
    frame = bytes(range(256)) * 20
    payloads = packetise_vp8(frame, 0x12345)
    assert [payload[0] for payload in payloads] == [0x90] + [0x80] * (len(payloads) - 1)
    assert {payload[1:4] for payload in payloads} == {bytes([0x80, 0x80 | 0x23, 0x45])}
    assert b"".join(payload[4:] for payload in payloads) == frame
    assert max(map(len, payloads)) <= LARGEST_PAYLOAD + 4


def test_h264_pictures_are_single_units_that_fit_a_packet() -> None:
    for picture in encode_pictures("libx264")[:10]:
        units = packetise_h264(picture)
        assert units
        assert max(map(len, units)) <= LARGEST_PAYLOAD
        assert all(1 <= unit[0] & 0x1F <= 23 for unit in units)


def test_sound_is_cut_to_20_ms_in_both_codecs() -> None:
    tune = melody()
    length_s = len(tune) / 48_000
    assert {len(packet) for packet in encode_pcmu(tune)} == {160}
    assert len(encode_pcmu(tune)) == int(length_s * 50)
    assert abs(len(encode_opus(tune)) - length_s * 50) <= 2


def test_pcmu_sounds_as_it_should() -> None:
    tune = melody()
    context: Any = av.CodecContext.create("pcm_mulaw", "r")
    context.sample_rate, context.layout = 8000, "mono"
    (frame,) = context.decode(av.Packet(b"".join(encode_pcmu(tune))))
    heard = frame.to_ndarray().reshape(-1).astype(float)
    meant = tune[: len(heard) * 6].reshape(-1, 6).mean(axis=1)
    assert numpy.corrcoef(heard, meant)[0, 1] > 0.99


@pytest.mark.parametrize(
    ("packet", "wants"),
    [
        (PLI, True),
        (FIR, True),
        (RECEIVER_REPORT + PLI, True),
        (NACK, False),
        (RECEIVER_REPORT, False),
        (b"", False),
        (b"\x81", False),
        (b"junk junk", False),
        (RECEIVER_REPORT + b"\x00" * 8, False),
    ],
)
def test_only_pli_and_fir_ask_for_a_key_frame(packet: bytes, wants: bool) -> None:
    assert wants_key_frame(packet) is wants


class Listened:
    """A track that keeps what is sent."""

    def __init__(self, name: str, clock: int) -> None:
        self.payload = Payload(96, name, clock)
        self.timestamp = 0
        self.packets: list[tuple[int, bytes, bool]] = []

    def send(self, payloads: list[bytes], *, marker: bool) -> None:
        self.packets += [(self.timestamp, payload, marker) for payload in payloads]


SHOW = Show(
    opus=tuple(bytes([n]) * 20 for n in range(100)),
    pcmu=(b"\xff" * 160,) * 100,
    vp8=(b"KEY", b"two", b"three"),
)


def performed(clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds * 1000)):
        clock.advance(0.001)


def test_a_second_is_50_packets_of_sound_and_12_or_13_pictures() -> None:
    clock, audio, video = Clock(), Listened("opus", 48_000), Listened("VP8", 90_000)
    tracks: Any = (audio, video)
    performance = Performance(clock, SHOW, *tracks)
    performance.play()
    performed(clock, 1.0)
    assert 49 <= len(audio.packets) <= 51
    assert 12 <= len(video.packets) <= 13
    assert [stamp for stamp, _, _ in audio.packets[:3]] == [0, 960, 1920]
    assert [stamp for stamp, _, _ in video.packets[:3]] == [0, 7200, 14400]
    assert [payload[4:] for _, payload, _ in video.packets[:4]] == [b"KEY", b"two", b"three", b"KEY"]
    performance.stop()
    sent = len(audio.packets)
    performed(clock, 1.0)
    assert len(audio.packets) == sent
    assert clock.getDelayedCalls() == []


def test_a_request_for_a_key_frame_restarts_the_pictures_but_not_again_and_again() -> None:
    clock, video = Clock(), Listened("VP8", 90_000)
    show = Show((), (), (b"KEY", *(b"%d" % n for n in range(60))))
    track: Any = video
    performance = Performance(clock, show, None, track)
    performance.play()
    performed(clock, 1.0)
    for _ in range(3):
        performance.restart_pictures()
        performed(clock, 0.1)
    sent = [payload[4:] for _, payload, _ in video.packets]
    assert sent.count(b"KEY") == 2
    performed(clock, 0.5)
    performance.restart_pictures()
    performed(clock, 0.1)
    assert [payload[4:] for _, payload, _ in video.packets].count(b"KEY") == 3
    performance.stop()


def test_a_late_timer_does_not_make_all_later_packets_late() -> None:
    clock, audio = Clock(), Listened("opus", 48_000)
    track: Any = audio
    Performance(clock, SHOW, track, None).play()
    clock.advance(0.5)
    performed(clock, 0.5)
    assert 49 <= len(audio.packets) <= 52


# As a phone


class Ear(DatagramProtocol):
    """A port of the other side."""

    noisy = False

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.sources: set[Any] = set()
        self.heard = asyncio.Event()
        self.listening = reactor.listenUDP(0, self, interface="127.0.0.1")
        self.port: int = self.listening.getHost().port

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.packets.append(datagram)
        self.sources.add(addr)
        self.heard.set()


class Server:
    """What the robot registers with: takes any password, notes everything."""

    def __init__(self) -> None:
        self.transports = Transports(reactor, public_host="127.0.0.1")
        self.layer = TransactionLayer(self.transports, reactor)
        self.agent = UserAgent(self.layer, self.transports, clock=reactor, domain_names=set())
        self.agent.methods["REGISTER"] = self.register
        self.agent.methods["MESSAGE"] = self.message
        self.agent.on_invite = self.invited
        self.registered: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self.dialled: asyncio.Queue[str] = asyncio.Queue()
        self.messages: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.events: asyncio.Queue[CallEvent] = asyncio.Queue()
        self.refuse_codes = 0
        self.contact = ""
        self.port = self.transports.listen_udp("127.0.0.1", 0)
        self.ears = {"audio": Ear(), "video": Ear()}

    def register(self, request: IncomingRequest) -> None:
        (contact,) = request.message.contacts
        self.contact = str(contact.uri)
        self.registered.put_nowait((request.message.expires or 0, " ".join(sorted(contact.features()))))
        request.respond(200, headers=[("Contact", f"{contact};expires=60")])

    def invited(self, call: IncomingCall) -> None:
        self.dialled.put_nowait(call.request.uri.user or "")
        if self.refuse_codes:
            self.refuse_codes -= 1
            call.refuse(480)
            return
        offer = sdp.parse(call.request.body)
        assert offer.has_audio
        call.on_event = lambda event: None if isinstance(event, Ended) else call.hangup()
        call.accept(self.offer("audio"))

    def message(self, request: IncomingRequest) -> None:
        self.messages.put_nowait((request.message.uri_text, request.message.body.decode()))
        request.respond(200)

    def offer(self, *kinds: str, codecs: str = "VP8") -> bytes:
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0"]
        if "audio" in kinds:
            lines += [f"m=audio {self.ears['audio'].port} RTP/AVP 111 0 101", "a=rtpmap:111 opus/48000/2"]
            lines += ["a=rtpmap:0 PCMU/8000", "a=rtpmap:101 telephone-event/8000"]
        if "video" in kinds:
            lines += [f"m=video {self.ears['video'].port} RTP/AVP 97 96", f"a=rtpmap:96 {codecs}/90000"]
            lines += ["a=rtpmap:97 H264/90000", "a=fmtp:97 packetization-mode=1;profile-level-id=42e01f"]
        return ("\r\n".join(lines) + "\r\n").encode()

    def call(self, body: bytes, *, subject: str = "Video: Boiler 200") -> OutgoingCall:
        return self.agent.invite(
            Target(self.contact),
            from_='"Maria" <sip:c_1@127.0.0.1>',
            to="sip:robin@127.0.0.1",
            body=body,
            headers=[("Subject", subject)],
            on_event=self.events.put_nowait,
        )

    async def event(self, kind: type[Any]) -> Any:
        while not isinstance(event := await asyncio.wait_for(self.events.get(), 10), kind):
            pass
        return event

    async def stop(self) -> None:
        for ear in self.ears.values():
            await asyncio.wait_for(ear.listening.stopListening().asFuture(asyncio.get_running_loop()), 5)
        self.layer.stop()
        await self.transports.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robot_module, "make_show", lambda: SHOW)
    monkeypatch.setattr(robot_module, "RETRY_S", (0.01,))
    monkeypatch.setattr(robot_module, "ECHO_AFTER_S", 0.0)
    monkeypatch.setattr(robot_module, "encode_pictures", lambda encoder: (b"\x00\x00\x01\x65key",))


@asynccontextmanager
async def at_work(ready: bool = True) -> AsyncIterator[tuple[Server, Robot]]:
    server = Server()
    robot = Robot(
        reactor,
        server_host="127.0.0.1",
        port=server.port,
        username="robin",
        password="secret",
        domain="127.0.0.1",
        ring_s=0.0,
    )
    try:
        await robot.start()
        if ready:
            assert await asyncio.wait_for(server.dialled.get(), 10) == "*71"
        yield server, robot
    finally:
        await robot.stop()
        await server.stop()


async def until(true: Callable[[], bool]) -> None:
    async def look() -> None:
        while not true():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), 10)


@pytest.mark.usefixtures("quick")
async def test_it_registers_with_what_it_can_do_says_ready_and_leaves_politely() -> None:
    async with at_work() as (server, robot):
        assert await server.registered.get() == (60, "audio video")
        await robot.stop()
        assert await asyncio.wait_for(server.registered.get(), 10) == (0, "audio video")


@pytest.mark.usefixtures("quick")
async def test_it_says_ready_again_until_it_is_heard() -> None:
    async with at_work(ready=False) as (server, _):
        server.refuse_codes = 2
        for _ in range(3):
            assert await asyncio.wait_for(server.dialled.get(), 10) == "*71"


@pytest.mark.usefixtures("quick")
async def test_a_phone_that_is_not_known_says_so() -> None:
    async with at_work(ready=False) as (server, robot):
        server.agent.methods["REGISTER"] = lambda request: request.respond(403)
        await robot.stop()
        again = Robot(
            reactor,
            server_host="127.0.0.1",
            port=server.port,
            username="robin",
            password="old",
            domain="127.0.0.1",
        )
        await again.start()
        await asyncio.wait_for(again.unwelcome.wait(), 10)
        await again.stop()


@pytest.mark.usefixtures("quick")
async def test_it_answers_a_video_call_and_both_media_come() -> None:
    async with at_work() as (server, robot):
        call = server.call(server.offer("audio", "video"))
        answer = sdp.parse((await server.event(Accepted)).body)
        assert [(media.kind, media.payloads[0].name) for media in answer.media] == [
            ("audio", "opus"),
            ("video", "VP8"),
        ]
        for media, ear in zip(answer.media, server.ears.values(), strict=True):
            await asyncio.wait_for(ear.heard.wait(), 10)
            assert ear.sources == {("127.0.0.1", media.port)}
            assert media.port % 2 == 0
            assert ear.packets[0][1] & 0x7F == media.payloads[0].number
        call.hangup()
        await until(lambda: not robot.calls)


@pytest.mark.usefixtures("quick")
async def test_a_key_frame_is_sent_when_one_is_asked_for() -> None:
    async with at_work() as (server, robot):
        call = server.call(server.offer("audio", "video"))
        answer = sdp.parse((await server.event(Accepted)).body)
        video = server.ears["video"]
        await asyncio.wait_for(video.heard.wait(), 10)
        (playing,) = robot.calls
        assert playing._performance is not None
        restarts: list[bool] = []
        playing._performance.restart_pictures = lambda: restarts.append(True)  # type: ignore[method-assign]
        transport: Any = video.transport
        transport.write(PLI, ("127.0.0.1", answer.media[1].port + 1))
        transport.write(FIR, ("127.0.0.1", answer.media[1].port))
        await until(lambda: len(restarts) == 2)
        call.hangup()


@pytest.mark.usefixtures("quick")
async def test_h264_where_vp8_is_not_offered() -> None:
    async with at_work() as (server, _):
        server.call(server.offer("audio", "video", codecs="theora"))
        answer = sdp.parse((await server.event(Accepted)).body)
        assert answer.media[1].payloads[0].name == "H264"
        video = server.ears["video"]
        await asyncio.wait_for(video.heard.wait(), 10)
        assert video.packets[0][12:] == b"\x65key"


@pytest.mark.usefixtures("quick")
async def test_video_can_be_added_and_taken_away_during_a_call() -> None:
    async with at_work() as (server, _):
        call = server.call(server.offer("audio"))
        answer = sdp.parse((await server.event(Accepted)).body)
        assert not answer.has_video
        call.reinvite(server.offer("audio", "video"))
        again = sdp.parse((await server.event(ReinviteAnswered)).body)
        assert again.has_video
        assert again.media[0].port == answer.media[0].port
        assert again.origin.version == answer.origin.version + 1
        await asyncio.wait_for(server.ears["video"].heard.wait(), 10)
        call.hangup()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("body", "status"),
    [(b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 9\r\n", 488), (b"junk", 400)],
)
async def test_an_offer_it_cannot_take_is_refused(body: bytes, status: int) -> None:
    async with at_work() as (server, robot):
        server.call(body)
        assert (await server.event(Refused)).status == status
        assert not robot.calls


@pytest.mark.usefixtures("quick")
async def test_a_call_given_up_while_it_rings_leaves_nothing_behind() -> None:
    async with at_work() as (server, robot):
        robot.ring_s = 60.0
        call = server.call(server.offer("audio", "video"))
        await until(lambda: bool(robot.calls))
        call.hangup()
        await until(lambda: not robot.calls)


@pytest.mark.usefixtures("quick")
async def test_a_line_is_echoed_to_the_conversation_it_came_from() -> None:
    async with at_work() as (server, _):
        for contact, line in (
            ("c_1", "Grüß Gott"),
            ("c_2", "second"),
            ("c_1", "[The customer has ended this chat.]"),
        ):
            response = await server.agent.request(
                "MESSAGE",
                Target(server.contact),
                from_=f'"Maria" <sip:{contact}@127.0.0.1>',
                to="sip:robin@127.0.0.1",
                body=line.encode(),
                content_type="text/plain;charset=UTF-8",
            )
            assert response.status == 200
        echoed = dict([await asyncio.wait_for(server.messages.get(), 10) for _ in range(2)])
        assert "Grüß Gott" in echoed["sip:c_1@127.0.0.1"]
        assert "second" in echoed["sip:c_2@127.0.0.1"]
        await asyncio.sleep(0.05)
        assert server.messages.empty()


@pytest.mark.usefixtures("quick")
async def test_whoever_is_not_its_server_is_refused() -> None:
    async with at_work() as (server, _):
        stranger = Server()
        stranger.contact = server.contact
        stranger.call(stranger.offer("audio"))
        assert (await stranger.event(Refused)).status == 403
        await stranger.stop()


def test_without_a_voice_it_plays_a_melody(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("espeak-ng")

    monkeypatch.setattr("subprocess.run", missing)
    monkeypatch.setattr(robot_media, "encode_pictures", lambda encoder: (b"key",))
    show = robot_media.make_show()
    assert len(show.pcmu) > 150
    assert len(show.opus) > 150
