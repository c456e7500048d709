"""Softphones of different makers with the same verbs, so that one story can be told of all of them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from tests.peers.baresip import Baresip
from tests.peers.browser_phone import BrowserPhone
from tests.peers.people import phone_hears
from tests.peers.pjsua import Pjsua
from tests.peers.process import PeerFailed, until

TONE = 880
"""What a phone here sends, in Hz. The caller echoes, so it is also what it hears."""


class Softphone(ABC):
    """One phone with one account, registered while its block is entered; one call at a time unless told otherwise."""

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(self, *_: object) -> None: ...

    @abstractmethod
    async def dial(self, number: str) -> None:
        """Call, and return once that was answered."""

    @abstractmethod
    async def rings(self, seconds: float = 15.0) -> None: ...

    @abstractmethod
    async def answer(self) -> None: ...

    @abstractmethod
    async def hears_tone(self) -> bool:
        """Whether its own tone comes back to it now."""

    @abstractmethod
    async def hold(self) -> None:
        """Return once the other side has agreed."""

    @abstractmethod
    async def resume(self) -> None: ...

    @abstractmethod
    async def sound_arrives(self) -> bool:
        """Whether RTP comes in at the moment, be it a tone or silence."""

    @abstractmethod
    async def hang_up(self) -> None: ...

    @abstractmethod
    async def is_over(self, seconds: float = 10.0) -> None:
        """Return once no call is left, as the phone sees it."""

    @abstractmethod
    async def end_all(self) -> None:
        """Hang up whatever there is."""

    @abstractmethod
    async def transfer(self, number: str) -> None:
        """Blind (RFC 5589 §6)."""

    @abstractmethod
    async def was_told_of_success(self) -> bool:
        """Whether the phone knows that its transfer came about (RFC 3515 §2.4.5)."""

    async def consult(self, number: str) -> None:
        """Call that user beside the call on hold, and return once they answered."""
        raise PeerFailed(f"{type(self).__name__} cannot do that")

    async def join(self, number: str) -> None:
        """Attended transfer (RFC 5589 §7): the other party of the first call takes our place in the second."""
        raise PeerFailed(f"{type(self).__name__} cannot do that")

    @abstractmethod
    async def write(self, to: str, text: str) -> None:
        """A MESSAGE; return once it was taken."""

    @abstractmethod
    async def texts(self) -> list[tuple[str, str]]:
        """(From, text) of each MESSAGE received."""


class BaresipPhone(Softphone):
    def __init__(self, folder: Path, user: str, transport: str, port: int, authority: Path) -> None:
        self.device = Baresip(
            folder, user=user, password=f"{user}-phone", domain="127.0.0.1", registrar_port=port,
            transport=transport, audio_codecs="pcmu/8000/1", video=False, tone=TONE,
            authority=authority if transport == "tls" else None,
        )  # fmt: skip
        self._calls = 0

    async def __aenter__(self) -> Self:
        await self.device.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.device.__aexit__()

    async def dial(self, number: str) -> None:
        established = len(self.device.seen("CALL_ESTABLISHED"))
        await self.device.dial(number)
        await self.device.event("CALL_ESTABLISHED", count=established + 1)

    async def rings(self, seconds: float = 15.0) -> None:
        self._calls += 1
        await self.device.event("CALL_INCOMING", count=self._calls, seconds=seconds)

    async def answer(self) -> None:
        established = len(self.device.seen("CALL_ESTABLISHED"))
        await self.device.accept()
        await self.device.event("CALL_ESTABLISHED", count=established + 1)

    async def hears_tone(self) -> bool:
        return phone_hears(self.device, TONE)

    async def hold(self) -> None:
        await self._reoffer("hold")

    async def resume(self) -> None:
        await self._reoffer("resume")

    async def _reoffer(self, command: str) -> None:
        before = self._reoffers_agreed()
        await self.device.command(command)
        await until(lambda: self._reoffers_agreed() > before, f"the {command} to be agreed")

    def _reoffers_agreed(self) -> int:
        call = self.device.invites()[-1].header("Call-ID")
        return sum(
            message.received
            and message.start.startswith("SIP/2.0 200")
            and message.header("Call-ID") == call
            and message.header("CSeq").endswith(" INVITE")
            for message in self.device.trace()
        )

    async def sound_arrives(self) -> bool:
        # Its WAV file is of no use after a hold: baresip 1.0 writes no more to it, whoever the other side is.
        said = re.findall(r"audio=\d+/(\d+)", self.device.process.output()[-2000:])
        return bool(said) and int(said[-1]) > 5000

    async def hang_up(self) -> None:
        await self.device.hang_up()

    async def is_over(self, seconds: float = 10.0) -> None:
        # By its trace: it reports no CALL_CLOSED for a call that it has passed on.
        await until(
            lambda: not self.device.open_calls(),
            f"baresip's calls to be over, in {[e.get('type') for e in self.device.events][-10:]}",
            seconds=seconds,
        )

    async def end_all(self) -> None:
        for _ in range(4):
            await self.device.hang_up()

    async def transfer(self, number: str) -> None:
        await self.device.command("transfer", f"sip:{number}@127.0.0.1")

    async def was_told_of_success(self) -> bool:
        return any(
            message.received and message.start.startswith("NOTIFY ") and "SIP/2.0 200" in message.body
            for message in self.device.trace()
        )

    async def write(self, to: str, text: str) -> None:
        await self.device.send_message(to, text)

    async def texts(self) -> list[tuple[str, str]]:
        return self.device.texts()


class PjsuaPhone(Softphone):
    def __init__(self, folder: Path, user: str, transport: str, port: int, authority: Path) -> None:
        self.device = Pjsua(
            folder, user=user, password=f"{user}-phone", domain="127.0.0.1", registrar_port=port,
            transport=transport, tone=TONE, authority=authority,
        )  # fmt: skip
        self._incoming = 0
        self._call = 0
        self._consultation = 0

    async def __aenter__(self) -> Self:
        await self.device.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.device.__aexit__()

    async def dial(self, number: str) -> None:
        self._call = await self.device.dial(number)
        await self.device.event("call", call=self._call, state="CONFIRMED")

    async def rings(self, seconds: float = 15.0) -> None:
        self._incoming += 1
        self._call = (await self.device.event("incoming", count=self._incoming, seconds=seconds))["call"]

    async def answer(self) -> None:
        await self.device.do("answer", call=self._call)
        await self.device.event("call", call=self._call, state="CONFIRMED")

    async def hears_tone(self) -> bool:
        return self.device.hears_tone(self._call, TONE)

    async def hold(self) -> None:
        await self._media("hold", "held")

    async def resume(self) -> None:
        await self._media("resume", "active")

    async def _media(self, command: str, state: str) -> None:
        before = len(self.device.seen("media", call=self._call, state=state))
        await self.device.do(command, call=self._call)
        await self.device.event("media", call=self._call, count=before + 1, state=state)

    async def sound_arrives(self) -> bool:
        before: int = await self.device.do("received", call=self._call)

        async def more() -> bool:
            return int(await self.device.do("received", call=self._call)) > before + 10

        try:
            return await until(more, "more RTP", seconds=1)
        except PeerFailed:
            return False

    async def hang_up(self) -> None:
        await self.device.do("hang_up", call=self._call)

    async def is_over(self, seconds: float = 10.0) -> None:
        def left() -> set[int]:
            begun = {event["call"] for event in self.device.seen("call")}
            return begun - {event["call"] for event in self.device.seen("call", state="DISCONNECTED")}

        await until(lambda: not left(), f"pjsua's calls to be over, not {left()}", seconds=seconds)

    async def end_all(self) -> None:
        await self.device.do("hang_up_all")

    async def transfer(self, number: str) -> None:
        await self.device.do("transfer", call=self._call, to=f"sip:{number}@127.0.0.1")

    async def was_told_of_success(self) -> bool:
        return bool(self.device.seen("transfer", call=self._call, status=200, final=True))

    async def consult(self, number: str) -> None:
        self._consultation = await self.device.dial(number)
        await self.device.event("call", call=self._consultation, state="CONFIRMED")

    async def join(self, number: str) -> None:
        await self.device.do("join", call=self._call, other=self._consultation)

    async def write(self, to: str, text: str) -> None:
        await self.device.do("text", to=to, text=text)
        sent = await self.device.event("sent", text=text)
        if sent["status"] // 100 != 2:
            raise PeerFailed(f"{text!r} was refused: {sent}")

    async def texts(self) -> list[tuple[str, str]]:
        return [(event["from"], event["text"]) for event in self.device.seen("text")]


class JsSipPhone(Softphone):
    def __init__(self, device: BrowserPhone) -> None:
        self.device = device
        self._told = 0

    async def __aenter__(self) -> Self:
        await self.device.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.device.__aexit__()

    async def dial(self, number: str) -> None:
        await self.device.dial(number)
        await until(self.device.talks, f"{number} to answer JsSIP")

    async def rings(self, seconds: float = 15.0) -> None:
        await self.device.rings(seconds)

    async def answer(self) -> None:
        await self.device.answer(video=False)
        await until(self.device.talks, "the call to be established in JsSIP")

    async def hears_tone(self) -> bool:
        return await self.device.hears_tone(TONE)

    async def hold(self) -> None:
        await self.device.hold()

    async def resume(self) -> None:
        await self.device.resume()

    async def sound_arrives(self) -> bool:
        before = (await self.device.statistics())["audioIn"]

        async def more() -> bool:
            return bool((await self.device.statistics())["audioIn"] > before + 10)

        try:
            return await until(more, "more RTP", seconds=1)
        except PeerFailed:
            return False

    async def hang_up(self) -> None:
        await self.device.hang_up()

    async def is_over(self, seconds: float = 10.0) -> None:
        await self.device.is_over(seconds)

    async def end_all(self) -> None:
        await self.device.page.evaluate("window.phone.ua.terminateSessions()")

    async def transfer(self, number: str) -> None:
        self._told = len(await self.device.transfers())
        await self.device.transfer(number)

    async def was_told_of_success(self) -> bool:
        return ["accepted", 200] in (await self.device.transfers())[self._told :]

    async def consult(self, number: str) -> None:
        await self.device.dial(number, consultation=True)

        async def answered() -> bool:
            return await self.device.talks(consultation=True)

        await until(answered, f"{number} to answer JsSIP")

    async def join(self, number: str) -> None:
        self._told = len(await self.device.transfers())
        await self.device.transfer(number, attended=True)

    async def write(self, to: str, text: str) -> None:
        await self.device.write(to, text)

    async def texts(self) -> list[tuple[str, str]]:
        return await self.device.texts()
