"""baresip 1.0, driven over its ctrl_tcp socket: the agent's softphone."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy

from tests.peers.process import PeerFailed, Process, free_port, free_sip_port, until

MODULES = (
    "opus",
    "g711",
    "g722",
    "aubridge",
    "ausine",
    "avcodec",
    "vp8",
    "fakevideo",
    "account",
    "contact",
    "menu",
    "ctrl_tcp",
    "sndfile",
    "snapshot",
    "uuid",
)


TRACED = re.compile(
    rb"\x1b\[36;1m#\n(?P<transport>\w+) (?P<source>\S+) -> (?P<target>\S+)\n(?P<head>.*?)\r\n\r\n(?P<body>.*?)\x1b\[;m",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Traced:
    """One SIP message that the phone wrote to its trace."""

    received: bool
    head: str
    body: str

    @property
    def start(self) -> str:
        return self.head.split("\r\n", 1)[0]

    def header(self, name: str) -> str:
        """The value of the first header of that name, or ''."""
        found = re.search(rf"(?im)^{re.escape(name)}\s*:\s*(.*?)\s*$", self.head)
        return found.group(1) if found else ""


class Baresip:
    """One phone with one account. `tone` is the frequency (Hz) that it sends when in a call.

    `answer` is baresip's own answermode: "manual" leaves the choice to the test, "auto" picks up at once.
    `authority` is what a server's certificate is checked with, if `transport` is "tls". `sip_port` is where it listens
    and, by UDP, sends from: what a trunk is known by. `encryption` is its mediaenc: "srtp-mand", "dtls_srtp", …
    """

    def __init__(
        self,
        folder: Path,
        *,
        user: str,
        password: str,
        domain: str,
        registrar_port: int,
        transport: str = "udp",
        answer: str = "manual",
        audio_codecs: str = "opus/48000/2,pcmu/8000/1",
        video_codecs: str = "vp8,h264",
        video: bool = True,
        tone: int = 880,
        register: bool = True,
        authority: Path | None = None,
        sip_port: int | None = None,
        encryption: str = "",
    ) -> None:
        self.folder = folder / f"baresip-{user}-{free_port()}"
        self.user = user
        self.address = f"sip:{user}@{domain}"
        self.events: list[dict[str, Any]] = []
        self._sip_port = sip_port or free_sip_port()
        self._registrar_port = registrar_port
        self._port = free_port()
        self._token = 0
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._reader_task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._register = register
        self.folder.mkdir(parents=True)
        self._write_config(tone, video, authority, encryption)
        parameters = {
            "auth_user": user,
            "auth_pass": password,
            "outbound": f'"sip:127.0.0.1:{registrar_port};transport={transport}"',
            "regint": "60" if register else "0",
            "answermode": answer,
            "audio_codecs": audio_codecs,
            "mwi": "no",
        }
        if video:
            parameters["video_codecs"] = video_codecs
        if encryption:
            parameters["mediaenc"] = encryption
        account = ";".join(f"{name}={value}" for name, value in parameters.items())
        (self.folder / "accounts").write_text(f"<{self.address};transport={transport}>;{account}\n")
        (self.folder / "contacts").write_text("")
        self.process = Process("baresip", ["baresip", "-f", str(self.folder), "-v", "-s"], folder=self.folder)

    def _write_config(self, tone: int, video: bool, authority: Path | None, encryption: str) -> None:
        modules = [
            name for name in MODULES if video or name not in {"avcodec", "vp8", "fakevideo", "snapshot"}
        ]
        if encryption:
            modules.append("dtls_srtp" if encryption == "dtls_srtp" else "srtp")
        lines = [
            "module_path /usr/lib/baresip/modules",
            f"sip_listen 127.0.0.1:{self._sip_port}",
            "net_interface 127.0.0.1",
            "poll_method epoll",
            "call_local_timeout 120",
            "call_max_calls 4",
            f"audio_source ausine,{tone}",
            f"audio_player aubridge,player-{self.user}",
            f"audio_alert aubridge,alert-{self.user}",
            "audio_level no",
            # ausine makes 48 kHz stereo only; with that said here it is resampled for PCMU.
            "ausrc_srate 48000",
            "ausrc_channels 2",
            "auplay_channels 2",
            "auplay_srate 48000",
            "video_size 320x240",
            "video_bitrate 300000",
            "video_fps 15",
            "rtp_ports 31000-32700",
            "rtp_stats yes",
            "snd_path .",  # baresip knows no path of more than 99 bytes
            f"ctrl_tcp_listen 127.0.0.1:{self._port}",
        ]
        if video:
            lines += ["video_source fakevideo,nil", "video_display fakevideo,nil"]
        if authority is not None:
            lines += [f"sip_cafile {authority}", "sip_verify_server yes"]
        for module in modules:
            kind = "module_app" if module in {"account", "contact", "menu", "ctrl_tcp"} else "module"
            lines.append(f"{kind} {module}.so")
        (self.folder / "config").write_text("\n".join(lines) + "\n")

    async def __aenter__(self) -> Self:
        await self.process.start()
        await until(self._connect, f"{self.user}'s control socket", seconds=10)
        if self._register:
            # Not the event: the phone is often registered before its control socket is connected.
            await until(self._registered, f"{self.user}'s phone to be registered", seconds=10)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._reader_task is not None:
            self._reader_task.cancel()
        await self.process.stop()

    def _registered(self) -> bool:
        return any(
            message.received
            and message.start.startswith("SIP/2.0 200")
            and message.header("CSeq").endswith("REGISTER")
            for message in self.trace()
        )

    async def _connect(self) -> bool:
        if not self.process.running:
            raise PeerFailed(f"baresip ended:\n{self.process.output()[-3000:]}")
        try:
            reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        self._reader_task = asyncio.create_task(self._read(reader))
        return True

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                length = int((await reader.readuntil(b":"))[:-1])
                body = await reader.readexactly(length)
                await reader.readexactly(1)
                item = json.loads(body.decode(errors="replace"), strict=False)
                if item.get("response"):
                    waiting = self._answers.pop(str(item.get("token", "")), None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(item)
                else:
                    self.events.append(item)
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    async def command(self, name: str, parameters: str = "") -> str:
        """Run one of baresip's commands and give what it printed."""
        self._token += 1
        token = str(self._token)
        body = json.dumps({"command": name, "params": parameters, "token": token}).encode()
        self._answers[token] = asyncio.get_running_loop().create_future()
        if self._writer is None:
            raise PeerFailed("baresip is not connected")
        self._writer.write(b"%d:%s," % (len(body), body))
        answer = await asyncio.wait_for(self._answers[token], 5)
        return str(answer.get("data", ""))

    def seen(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("type") == kind]

    async def event(self, kind: str, *, count: int = 1, seconds: float = 15.0) -> dict[str, Any]:
        """The `count`th event of a kind (REGISTER_OK, CALL_INCOMING, CALL_ESTABLISHED, CALL_CLOSED …)."""
        await until(
            lambda: len(self.seen(kind)) >= count,
            f"{self.user}'s phone to report {kind} (it said {[e.get('type') for e in self.events][-12:]})",
            seconds=seconds,
        )
        return self.seen(kind)[count - 1]

    async def accept(self) -> None:
        await self.command("accept")

    async def hang_up(self) -> None:
        await self.command("hangup")

    async def reject(self) -> None:
        """The reject key, after what a hand needs to reach it: a 486 sooner than that is the phone's own."""
        await asyncio.sleep(0.5)
        await self.hang_up()

    async def dial(self, target: str) -> None:
        await self.command("dial", target)

    async def send_message(self, to: str, text: str) -> None:
        """baresip sends to its "current contact", which is the first one of the file that the module has loaded."""
        await self.command("rmmod", "contact.so")
        (self.folder / "current_contact").unlink(missing_ok=True)
        (self.folder / "contacts").write_text(f'"other" <{to}>;access=allow\n')
        await self.command("insmod", "contact.so")
        answered = self._messages_answered()
        await self.command("message", text)
        # The module takes the answer: unloaded before it, for the next message, it would take baresip down with it.
        await until(lambda: self._messages_answered() > answered, f"the answer to {text!r}")

    def _messages_answered(self) -> int:
        return sum(
            message.received
            and message.header("CSeq").endswith(" MESSAGE")
            and message.start.startswith("SIP/2.0 ")
            and not message.start.startswith(("SIP/2.0 1", "SIP/2.0 401"))
            for message in self.trace()
        )

    def trace(self) -> list[Traced]:
        """Every SIP message so far, in the order in which the phone saw them."""
        return [
            Traced(
                # By a connection the phone opened, it sends from a port of the moment.
                received=not found["source"].endswith(b":%d" % self._sip_port)
                and not found["target"].endswith(b":%d" % self._registrar_port),
                head=found["head"].decode(errors="replace"),
                body=found["body"].decode(errors="replace"),
            )
            for found in TRACED.finditer(self.process.log.read_bytes())
        ]

    def invites(self) -> list[Traced]:
        """The INVITEs that reached the phone, retransmissions and re-INVITEs left out."""
        seen: dict[str, Traced] = {}
        for message in self.trace():
            if message.received and message.start.startswith("INVITE "):
                seen.setdefault(message.header("Call-ID"), message)
        return list(seen.values())

    def open_calls(self) -> set[str]:
        """The Call-IDs of what has been begun, by either side, and not ended; retransmissions count for nothing."""
        begun: set[str] = set()
        answered: set[str] = set()
        over: set[str] = set()
        for message in self.trace():
            call, what = message.header("Call-ID"), message.start
            to_invite = message.header("CSeq").endswith(" INVITE")
            if what.startswith("INVITE "):
                begun.add(call)
            elif what.startswith("BYE "):
                over.add(call)
            elif to_invite and what.startswith("SIP/2.0 2"):
                answered.add(call)
            elif to_invite and re.match(r"SIP/2.0 (?!401|407)[3-6]", what) and call not in answered:
                over.add(call)  # a re-INVITE that is refused would end nothing
        return begun - over

    def texts(self) -> list[tuple[str, str]]:
        """(From header, text) of each MESSAGE received, retransmissions left out."""
        seen: dict[str, tuple[str, str]] = {}
        for message in self.trace():
            if message.received and message.start.startswith("MESSAGE "):
                key = message.header("Call-ID") + message.header("CSeq")
                seen.setdefault(key, (message.header("From"), message.body))
        return list(seen.values())

    def heard(self) -> Path | None:
        """The WAV file with what the phone has played in its last call."""
        files = sorted(self.folder.glob("dump-*-dec.wav"), key=lambda path: path.stat().st_mtime)
        return files[-1] if files else None

    async def picture(self) -> Path:
        """A PNG of the picture that the phone shows now."""
        path = self.folder / f"picture-{len(list(self.folder.glob('picture-*')))}"
        await self.command("snapshot_recv", str(path))

        def written() -> Path | None:
            return next(
                (found for found in self.folder.glob(f"{path.name}*") if found.stat().st_size > 0), None
            )

        return await until(written, "a snapshot of the received video", seconds=5)


def loudest_tone(path: Path, *, last_seconds: float = 1.0) -> tuple[float, float]:
    """(frequency in Hz, share of the energy within 5 % of it) of the end of a WAV file."""
    spectrum, frequencies = _spectrum(path, last_seconds)
    total = float(spectrum.sum())
    if total == 0:
        return 0.0, 0.0
    peak = float(frequencies[int(spectrum.argmax())])
    near = numpy.abs(frequencies - peak) <= 0.05 * peak
    return peak, float(spectrum[near].sum()) / total


def tones_in(path: Path, *among: int, last_seconds: float = 1.0) -> set[int]:
    """Which of these frequencies (Hz) have a tenth of the energy or more, each within 5 %, in the end of a WAV file."""
    spectrum, frequencies = _spectrum(path, last_seconds)
    total = float(spectrum.sum())
    return {
        tone
        for tone in among
        if total > 0 and float(spectrum[numpy.abs(frequencies - tone) <= 0.05 * tone].sum()) / total > 0.1
    }


def _spectrum(path: Path, last_seconds: float) -> tuple[Any, Any]:
    """Power by frequency. The file may still be written: its header tells no length before it is closed, so the samples
    are counted instead."""
    content = path.read_bytes()
    if len(content) < 48:
        return numpy.zeros(1), numpy.zeros(1)
    channels, rate = struct.unpack_from("<HI", content, 22)
    start = content.find(b"data") + 8
    samples = numpy.frombuffer(content[start : len(content) - (len(content) - start) % 2], dtype="<i2")
    mono = samples[::channels].astype(float)[-int(rate * last_seconds) :]
    if len(mono) < rate // 4:
        return numpy.zeros(1), numpy.zeros(1)
    spectrum = numpy.abs(numpy.fft.rfft(mono * numpy.hanning(len(mono)))) ** 2
    spectrum[:5] = 0
    return spectrum, numpy.fft.rfftfreq(len(mono), 1 / rate)
