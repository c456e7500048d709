"""What the robot agent shows and says: a moving test picture and a voice, made once and then sent as RTP packets."""

from __future__ import annotations

import secrets
import socket
import struct
import subprocess
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy
from numpy.typing import NDArray
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from media.rtp import is_rtcp
from media.sdp import Payload

log = Logger()

Samples = NDArray[numpy.int16]
Picture = NDArray[numpy.uint8]

WORDS = (
    "Hello, this is the Warmline test agent. I am a computer program, and I answer by myself, "
    "so that you can see and hear that everything works. What you see is a moving test picture."
)
WIDTH, HEIGHT = 320, 240
LOOP_S = 5.0
TICK_S = 0.02  # one audio packet
TICKS_PER_PICTURE = 4  # 12.5 pictures a second
PICTURES_PER_S = Fraction(25, 2)
VIDEO_CLOCK = 90_000
VOICE_RATE = 48_000
PAUSE_S = 1.5
# A payload that fits every path once IP, UDP, RTP and a tunnel or SRTP have added theirs.
LARGEST_PAYLOAD = 1100
# Two key frame requests closer together than this are about the same lost picture.
RESTART_S = 0.5

_RTP = struct.Struct("!BBHII")
_BARS = (
    (235, 235, 235),
    (235, 235, 16),
    (16, 235, 235),
    (16, 235, 16),
    (235, 16, 235),
    (235, 16, 16),
    (16, 16, 235),
)


@dataclass(frozen=True, slots=True)
class Show:
    """Everything there is to send: 20 ms of sound to an item, encoded; pictures, the first of them a key frame."""

    opus: tuple[bytes, ...]
    pcmu: tuple[bytes, ...]
    vp8: tuple[bytes, ...]

    def sound(self, codec: str) -> tuple[bytes, ...]:
        return self.opus if codec.lower() == "opus" else self.pcmu


def make_show() -> Show:
    """Speak, draw and encode. Takes about a second, so it belongs in a thread."""
    voice = speech()
    if voice is None:
        voice = melody()
    voice = numpy.concatenate([voice, numpy.zeros(int(VOICE_RATE * PAUSE_S), numpy.int16)])
    return Show(opus=encode_opus(voice), pcmu=encode_pcmu(voice), vp8=encode_pictures("libvpx"))


# Sound


def speech() -> Samples | None:
    """The words, spoken by espeak-ng at 48 kHz; None where it is not installed."""
    try:
        spoken = subprocess.run(
            ["espeak-ng", "-v", "en", "-s", "150", "--stdout", WORDS],
            capture_output=True,
            timeout=20,
            check=True,
        ).stdout
        # A WAV that was written to a pipe does not know its length; the header is 44 octets long.
        with wave.open(BytesIO(spoken[:44])) as header:
            rate, channels, width = header.getframerate(), header.getnchannels(), header.getsampwidth()
    except (OSError, subprocess.SubprocessError, wave.Error, EOFError) as error:
        log.info("The robot agent plays a melody, for it cannot speak: {error}", error=error)
        return None
    if channels != 1 or width != 2:
        return None
    samples = numpy.frombuffer(spoken[44 : len(spoken) // 2 * 2], dtype="<i2")
    at = numpy.arange(int(len(samples) * VOICE_RATE / rate)) * (rate / VOICE_RATE)
    resampled: Samples = numpy.interp(at, numpy.arange(len(samples)), samples).astype(numpy.int16)
    return resampled


def melody() -> Samples:
    """Eight notes up and down, for where nobody can speak."""
    notes = []
    length = int(VOICE_RATE * 0.4)
    time = numpy.arange(length) / VOICE_RATE
    for half_tones in (0, 4, 7, 12, 12, 7, 4, 0):
        tone = numpy.sin(2 * numpy.pi * 440.0 * 2 ** (half_tones / 12) * time)
        notes.append(tone * numpy.minimum(1.0, 20 * (0.4 - time)) * 9000)
    return numpy.concatenate(notes).astype(numpy.int16)


def encode_opus(samples: Samples) -> tuple[bytes, ...]:
    """One packet for each 20 ms."""
    codec: Any = av.CodecContext.create("libopus", "w")
    codec.sample_rate = VOICE_RATE
    codec.layout = "mono"
    codec.format = "s16"
    codec.bit_rate = 24_000
    codec.options = {"application": "voip", "frame_duration": "20"}
    codec.open()
    packets: list[bytes] = []
    size = VOICE_RATE // 50
    for start in range(0, len(samples) - size + 1, size):
        frame: Any = av.AudioFrame.from_ndarray(samples[start : start + size].reshape(1, -1), "s16", "mono")
        frame.sample_rate = VOICE_RATE
        frame.pts = start
        packets += [bytes(packet) for packet in codec.encode(frame)]
    packets += [bytes(packet) for packet in codec.encode(None)]
    return tuple(packets)


def encode_pcmu(samples: Samples) -> tuple[bytes, ...]:
    """One packet for each 20 ms, at 8 kHz (ITU-T G.711)."""
    coarse = samples[: len(samples) // 6 * 6].reshape(-1, 6).mean(axis=1)
    magnitude = numpy.minimum(numpy.abs(coarse), 32_635).astype(numpy.int32) + 132
    segment = numpy.floor(numpy.log2(magnitude)).astype(numpy.int32) - 7
    mantissa = (magnitude >> (segment + 3)) & 0x0F
    law = ~(numpy.where(coarse < 0, 0x80, 0) | (segment << 4) | mantissa) & 0xFF
    octets = law.astype(numpy.uint8).tobytes()
    return tuple(octets[start : start + 160] for start in range(0, len(octets) - 159, 160))


# Pictures


def draw(number: int, of: int) -> Picture:
    """One picture of the loop: colour bars, a ball that goes round, a bar that grows."""
    picture = numpy.zeros((HEIGHT, WIDTH, 3), numpy.uint8)
    for index, colour in enumerate(_BARS):
        picture[:, index * WIDTH // len(_BARS) : (index + 1) * WIDTH // len(_BARS)] = colour
    angle = 2 * numpy.pi * number / of
    centre_x = WIDTH / 2 + numpy.sin(angle) * WIDTH / 3
    centre_y = HEIGHT / 2 - numpy.cos(angle) * HEIGHT / 4
    y, x = numpy.ogrid[:HEIGHT, :WIDTH]
    distance = (x - centre_x) ** 2 + (y - centre_y) ** 2
    picture[distance < 34**2] = (16, 16, 16)
    picture[distance < 28**2] = (250, 140, 20)
    picture[HEIGHT - 14 :, :] = (16, 16, 16)
    picture[HEIGHT - 11 : HEIGHT - 3, : max(1, WIDTH * (number + 1) // of)] = (250, 250, 250)
    return picture


def encode_pictures(encoder: str) -> tuple[bytes, ...]:
    """The loop, encoded: a key frame, then only what changes. `encoder` is libvpx or libx264."""
    codec: Any = av.CodecContext.create(encoder, "w")
    codec.width, codec.height = WIDTH, HEIGHT
    codec.pix_fmt = "yuv420p"
    codec.framerate = PICTURES_PER_S
    codec.time_base = 1 / PICTURES_PER_S
    codec.bit_rate = 300_000
    count = int(LOOP_S * PICTURES_PER_S)
    codec.gop_size = count + 1
    codec.thread_count = 1
    if encoder == "libvpx":
        codec.options = {"deadline": "realtime", "cpu-used": "6", "lag-in-frames": "0", "auto-alt-ref": "0"}
    else:
        # Slices that fit a packet, so that packetization-mode 0 can carry them too.
        codec.options = {
            "profile": "baseline",
            "level": "31",
            "preset": "veryfast",
            "tune": "zerolatency",
            "x264-params": f"slice-max-size={LARGEST_PAYLOAD}:scenecut=0:sliced-threads=0",
        }
    encoded: list[bytes] = []
    for number in range(count):
        frame: Any = av.VideoFrame.from_ndarray(draw(number, count), format="rgb24").reformat(
            format="yuv420p"
        )
        frame.pts = number
        frame.time_base = codec.time_base
        encoded += [bytes(packet) for packet in codec.encode(frame)]
    encoded += [bytes(packet) for packet in codec.encode(None)]
    return tuple(encoded)


def packetise_vp8(frame: bytes, picture_id: int) -> list[bytes]:
    """RTP payloads of one picture, each with its descriptor and a 15-bit PictureID (RFC 7741 s4.2)."""
    identity = struct.pack("!BH", 0x80, 0x8000 | (picture_id & 0x7FFF))
    payloads = []
    for start in range(0, len(frame), LARGEST_PAYLOAD):
        begins = 0x10 if start == 0 else 0
        payloads.append(bytes([0x80 | begins]) + identity + frame[start : start + LARGEST_PAYLOAD])
    return payloads


def packetise_h264(frame: bytes) -> list[bytes]:
    """RTP payloads of one picture, one NAL unit each (RFC 6184 s5.6, which every packetization-mode allows)."""
    units = []
    # Annex B: units begin after 00 00 01, before which a further zero may stand.
    for unit in frame.split(b"\x00\x00\x01")[1:]:
        stripped = unit.rstrip(b"\x00")
        if stripped:
            units.append(stripped)
    return units


def wants_key_frame(packet: bytes) -> bool:
    """Whether an RTCP packet asks for a key frame: PLI (RFC 4585 s6.3.1) or FIR (RFC 5104 s4.3.1)."""
    at = 0
    while at + 4 <= len(packet):
        first, kind, words = struct.unpack_from("!BBH", packet, at)
        if first >> 6 != 2:
            return False
        if kind == 206 and first & 0x1F in (1, 4):
            return True
        at += 4 * (words + 1)
    return False


# Sending


class Port(DatagramProtocol):
    """One UDP port: counts what comes, hands RTCP on."""

    noisy = False

    def __init__(self, on_rtcp: Callable[[bytes], None]) -> None:
        self.received = 0
        self._on_rtcp = on_rtcp

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if len(datagram) >= 8 and is_rtcp(datagram[1]):
            self._on_rtcp(datagram)
        elif len(datagram) >= 12:
            self.received += 1


class Track:
    """One medium of one call: a port pair of ours (RTP, and RTCP above it), the peer's, and the packets sent there."""

    def __init__(self, reactor: Any, host: str, kind: str, on_key_frame_wanted: Callable[[], None]) -> None:
        self.kind = kind
        self._on_key_frame_wanted = on_key_frame_wanted
        self._rtp = Port(self._rtcp_came)
        self._rtcp = Port(self._rtcp_came)
        self._listening, self.port = _listen_pair(reactor, host, self._rtp, self._rtcp)
        self.peer: tuple[str, int] | None = None
        self.payload = Payload(0, "PCMU", 8000)
        self.sent = 0
        self._ssrc = secrets.randbits(32)
        self._sequence = secrets.randbits(15)
        self.timestamp = secrets.randbits(31)

    @property
    def received(self) -> int:
        """RTP packets that came."""
        return self._rtp.received

    def send(self, payloads: Sequence[bytes], *, marker: bool) -> None:
        """Send packets of one moment; `marker` is set on the last."""
        if self.peer is None or self._rtp.transport is None:
            return
        last = len(payloads) - 1
        for index, payload in enumerate(payloads):
            mark = 0x80 if marker and index == last else 0
            header = _RTP.pack(
                0x80, mark | self.payload.number, self._sequence, self.timestamp & 0xFFFFFFFF, self._ssrc
            )
            self._sequence = (self._sequence + 1) & 0xFFFF
            self._rtp.transport.write(header + payload, self.peer)
            self.sent += 1

    def close(self) -> None:
        for port in self._listening:
            port.stopListening()

    def _rtcp_came(self, packet: bytes) -> None:
        if wants_key_frame(packet):
            self._on_key_frame_wanted()


def _listen_pair(reactor: Any, host: str, rtp: Port, rtcp: Port) -> tuple[list[Any], int]:
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1]) & ~1
        try:
            first = reactor.listenUDP(port, rtp, interface=host, maxPacketSize=2048)
        except OSError:
            continue
        try:
            # RFC 3550 s11: RTP on the even port, RTCP on the next.
            return [first, reactor.listenUDP(port + 1, rtcp, interface=host, maxPacketSize=2048)], port
        except OSError:
            first.stopListening()
    raise OSError("No free pair of ports")


class Performance:
    """The show, sent on the tracks of one call by one timer."""

    def __init__(self, clock: IReactorTime, show: Show, audio: Track | None, video: Track | None) -> None:
        self._clock = clock
        self._show = show
        self._audio = audio
        self._video = video
        self._pictures = show.vp8
        self._picture_id = secrets.randbits(15)
        self._tick = 0
        self._sound_at = 0
        self._picture_at = 0
        self._restarted_at = 0.0
        self._began = 0.0
        self._timer: IDelayedCall | None = None

    @property
    def playing(self) -> bool:
        return self._timer is not None

    def play(self, pictures: Sequence[bytes] | None = None) -> None:
        """Begin; `pictures` stand in for the VP8 ones."""
        if pictures is not None:
            self._pictures = tuple(pictures)
        if self._timer is None:
            self._began = self._clock.seconds() - self._tick * TICK_S
            self._timer = self._clock.callLater(0, self._next)

    def stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def restart_pictures(self) -> None:
        """Go back to the key frame."""
        now = self._clock.seconds()
        if now - self._restarted_at >= RESTART_S:
            self._restarted_at = now
            self._picture_at = 0

    def _next(self) -> None:
        if self._audio is not None:
            self._send_sound(self._audio)
        if self._video is not None and self._tick % TICKS_PER_PICTURE == 0:
            self._send_picture(self._video)
        self._tick += 1
        # Counted from the beginning, so that a late tick does not make all later ones late.
        late = self._clock.seconds() - (self._began + self._tick * TICK_S)
        if late > 1.0:
            self._began += late
        self._timer = self._clock.callLater(max(0.0, -late), self._next)

    def _send_sound(self, track: Track) -> None:
        sound = self._show.sound(track.payload.name)
        # RFC 3551 s4.1: the first packet of a talkspurt is marked.
        track.send([sound[self._sound_at]], marker=self._sound_at == 0)
        track.timestamp += round(track.payload.clock * TICK_S)
        self._sound_at = (self._sound_at + 1) % len(sound)

    def _send_picture(self, track: Track) -> None:
        picture = self._pictures[self._picture_at]
        if track.payload.name.lower() == "h264":
            payloads = packetise_h264(picture)
        else:
            payloads = packetise_vp8(picture, self._picture_id)
            self._picture_id = (self._picture_id + 1) & 0x7FFF
        track.send(payloads, marker=True)
        track.timestamp += round(VIDEO_CLOCK * TICK_S * TICKS_PER_PICTURE)
        self._picture_at = (self._picture_at + 1) % len(self._pictures)
