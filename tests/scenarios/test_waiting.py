"""What callers of the telephone network hear while they wait, and what their keys do: baresip as their telephone.

Every prompt is a tone of its own here, so that what was said is read from what the telephone heard.
"""

from __future__ import annotations

import json
import math
import wave
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

from media.prompts import NAMES
from tests.peers.agent_page import AgentPage
from tests.peers.baresip import Baresip, loudest_tone
from tests.peers.people import make_ready, phone, phone_hears
from tests.peers.process import free_sip_port, until
from tests.peers.warmline import Warmline

BOILER_NUMBER = "+15550200"
MARIA, JONAS = "+15550100001", "+15550100002"
VOICE = 523
SAID = {
    "music": 400,
    "please-wait": 620,
    "queue-next": 700,
    "queue-position": 780,
    "number-2": 860,
    "queue-in-line": 940,
    "comfort": 1040,
    "callback-offer": 1150,
    "voicemail-offer": 1270,
    "callback-taken": 1400,
    "voicemail-leave": 1550,
    "beep": 1710,
    "voicemail-thanks": 1880,
}


class CentreOfTones(Warmline):
    """Its prompts are tones of 0.6 s, and music is a long one; two callers may come by its trunk at a time."""

    def __init__(self, folder: Path, **queue: Any) -> None:
        self.callers = [free_sip_port(), free_sip_port()]
        trunk = {
            "name": "carrier",
            "peers": [f"127.0.0.1:{port}" for port in self.callers],
            "dial": ["+1555"],
        }
        waiting = {"name": "phones", "channel": "voice", "comfort_s": 2.0, "overflow": "voicemail", **queue}
        super().__init__(folder, trunks=json.dumps([trunk]), queues=json.dumps([waiting]))
        prompts = Path(str(self.settings["data"])) / "prompts"
        prompts.mkdir(parents=True)
        for name in NAMES:
            write_tone(prompts / f"{name}.wav", SAID.get(name, 3000), 10.0 if name == "music" else 0.6)


def write_tone(path: Path, hertz: int, seconds: float) -> None:
    rate = 16000
    samples = (int(9000 * math.sin(2 * math.pi * hertz * n / rate)) for n in range(int(seconds * rate)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(array("h", samples).tobytes())


def telephone(folder: Path, server: CentreOfTones, number: str, line: int = 0) -> Baresip:
    return Baresip(
        folder,
        user=number,
        password="",
        domain="127.0.0.1",
        registrar_port=server.sip_port,
        audio_codecs="pcmu/8000/1",
        video=False,
        tone=VOICE,
        register=False,
        sip_port=server.callers[line],
    )


async def calls(server: CentreOfTones, caller: Baresip) -> str:
    """The contact that becomes of the call."""
    before = len(server.events())
    await caller.dial(f"sip:{BOILER_NUMBER}@127.0.0.1")

    def invited() -> list[str]:
        return [row["contact_id"] for row in server.events()[before:] if row["kind"] == "contact.invited"]

    return str((await until(invited, "the caller's contact"))[0])


def heard(caller: Baresip) -> list[str]:
    """What was said to this telephone, in order: the prompts by name."""
    path = caller.heard()
    if path is None:
        return []
    content = path.read_bytes()
    channels, rate = int.from_bytes(content[22:24], "little"), int.from_bytes(content[24:28], "little")
    start = content.find(b"data") + 8
    samples = numpy.frombuffer(content[start : len(content) - (len(content) - start) % 2], dtype="<i2")
    mono = samples[::channels].astype(float)
    size = rate // 10
    words: list[str] = []
    for place in range(0, len(mono) - size, size):
        piece = mono[place : place + size]
        if numpy.abs(piece).max() < 500:
            continue
        spectrum = numpy.abs(numpy.fft.rfft(piece * numpy.hanning(size)))
        hertz = float(numpy.fft.rfftfreq(size, 1 / rate)[int(spectrum.argmax())])
        name = min(SAID, key=lambda each: abs(SAID[each] - hertz))
        if abs(SAID[name] - hertz) <= 25 and (not words or words[-1] != name):
            words.append(name)
    return words


async def hears(caller: Baresip, *words: str, seconds: float = 20.0) -> None:
    """These, one after the other, are among what was said up to now."""

    def so() -> bool:
        said = heard(caller)
        return any(said[place : place + len(words)] == list(words) for place in range(len(said)))

    try:
        await until(so, f"{' '.join(words)} to be heard", seconds=seconds)
    except Exception as error:
        raise AssertionError(f"{words} not in {heard(caller)}") from error


async def presses(caller: Baresip, key: str) -> None:
    """As a telephone event (RFC 4733)."""
    await caller.command("sndcode", key)


def message_of(server: Warmline, contact: str) -> dict[str, Any]:
    (row,) = server.rows("SELECT * FROM voicemail WHERE contact_id = ?", contact)
    return row


def is_voice(path: str) -> bool:
    hertz, share = loudest_tone(Path(path))
    return abs(hertz - VOICE) < 20 and share > 0.5


def spoken(path: str, seconds: float) -> bool:
    """So much of the caller's voice is on the disk."""
    return Path(path).exists() and Path(path).stat().st_size > 44 + seconds * 2 * 8000 and is_voice(path)


def ended(server: Warmline, contact: str) -> Sequence[str]:
    return [row["facts"]["disposition"] for row in server.events(contact) if row["kind"] == "contact.ended"]


async def says_ready(server: Warmline, agent: str) -> None:
    """Whoever waits is offered at once, so that "Ready" itself is hardly ever seen."""
    page = AgentPage(server.portal)
    await page.log_in(agent, f"{agent}-agent")
    await page.set_state("ready")


async def test_a_caller_hears_the_position_and_a_better_one_and_is_called_back_at_a_key(
    tmp_path: Path,
) -> None:
    async with (
        CentreOfTones(tmp_path) as server,
        telephone(tmp_path, server, JONAS) as first,
        telephone(tmp_path, server, MARIA, 1) as second,
    ):
        await calls(server, first)
        contact = await calls(server, second)
        await hears(second, "please-wait", "queue-position", "number-2", "queue-in-line", "music")
        await hears(second, "music", "comfort", "callback-offer", "voicemail-offer", "music")
        await first.hang_up()
        await hears(second, "music", "queue-next", "callback-offer", "voicemail-offer", "music")
        await hears(second, "music", "comfort")
        await presses(second, "1")
        await server.event("contact.call_back_asked", contact_id=contact)
        await second.event("CALL_CLOSED")
        await hears(second, "callback-taken")
        assert ended(server, contact) == []


async def test_an_agent_who_answers_ends_all_that(tmp_path: Path) -> None:
    async with (
        CentreOfTones(tmp_path, comfort_s=1.0) as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1") as ana,
        telephone(tmp_path, server, MARIA) as caller,
    ):
        contact = await calls(server, caller)
        await hears(caller, "comfort")
        await says_ready(server, "ana")
        await ana.event("CALL_INCOMING")
        await ana.accept()
        await server.event("contact.connected", contact_id=contact)
        await until(lambda: phone_hears(caller, 880), "the agent's tone")
        await until(lambda: phone_hears(ana, VOICE), "the caller's tone")
        said = len(heard(caller))
        await presses(caller, "2")
        await until(lambda: phone_hears(caller, 880), "the agent's tone still")
        assert "voicemail-leave" not in heard(caller)[said:]
        assert "contact.key_pressed" not in server.kinds(contact)


async def test_a_message_is_left_and_its_words_are_in_the_file(tmp_path: Path) -> None:
    async with CentreOfTones(tmp_path) as server, telephone(tmp_path, server, MARIA) as caller:
        contact = await calls(server, caller)
        await hears(caller, "voicemail-offer")
        await presses(caller, "2")
        await hears(caller, "voicemail-leave", "beep")
        row = message_of(server, contact)
        assert row["seconds"] is None
        await until(lambda: spoken(row["path"], 1.5), "the voice in the file")
        await presses(caller, "#")
        await hears(caller, "voicemail-thanks")
        await caller.event("CALL_CLOSED")
        await until(lambda: ended(server, contact), "the end")
        assert ended(server, contact) == ["voicemail"]
        row = message_of(server, contact)
        assert row["seconds"] >= 1.0
        assert is_voice(row["path"])
        left = await server.event("contact.voicemail_left", contact_id=contact)
        assert left["facts"]["seconds"] == row["seconds"]


async def test_who_has_waited_too_long_may_leave_one_and_hang_up(tmp_path: Path) -> None:
    async with (
        CentreOfTones(tmp_path, max_wait_s=2.0) as server,
        telephone(tmp_path, server, MARIA) as caller,
    ):
        contact = await calls(server, caller)
        await hears(caller, "voicemail-leave", "beep")
        row = message_of(server, contact)
        await until(lambda: spoken(row["path"], 1.5), "the voice in the file")
        await caller.hang_up()
        await until(lambda: ended(server, contact), "the end")
        assert ended(server, contact) == ["voicemail"]
        assert message_of(server, contact)["seconds"] >= 1.0


async def test_a_server_killed_in_the_middle_of_a_message_has_what_was_said(tmp_path: Path) -> None:
    async with (
        CentreOfTones(tmp_path, max_wait_s=2.0) as server,
        telephone(tmp_path, server, MARIA) as caller,
    ):
        contact = await calls(server, caller)
        await hears(caller, "voicemail-leave", "beep")
        path = message_of(server, contact)["path"]
        await until(lambda: spoken(path, 2.0), "two seconds of a message", seconds=15)
        await server.kill()
        await server.start()
        row = message_of(server, contact)
        assert row["seconds"] >= 2.0
        assert is_voice(row["path"])
        assert ended(server, contact) == ["voicemail"]


async def test_agents_on_the_line_are_ready_for_a_call_as_before(tmp_path: Path) -> None:
    """With somebody ready a caller is rung through at once, and told no position."""
    async with (
        CentreOfTones(tmp_path) as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1") as ana,
        telephone(tmp_path, server, MARIA) as caller,
    ):
        await make_ready(server, ana)
        await calls(server, caller)
        await ana.event("CALL_INCOMING")
        await hears(caller, "please-wait", "music")
        await ana.accept()
        await until(lambda: phone_hears(caller, 880), "the agent's tone")
        assert "queue-next" not in heard(caller)
