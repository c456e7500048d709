"""What a caller is asked before anybody is looked for: "For the Boiler 200, press 1."

    heard -> a key of one of the choices     that is what it is about
          -> another key, or none in time    heard again, at most `rounds` times; then the default
          -> hung up, lost, media gone, or the server stops: nobody has asked for anything

Keys come as RFC 4733 events or by INFO, and count while it is still being heard.
"""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import Awaitable, Callable, Container, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from config.errors import OurError, WarmlineError
from config.events import EventLog
from config.menu_settings import Choice, MenuSettings
from media.server import MediaServer
from pbx.calls import Greeting
from pbx.leg import Gone, Leg, LegEvent
from pbx.skills import Need

log = Logger()

WRONG = "menu-wrong"
WEIGHT = 100.0
"""Of a skill that a caller has said they need, against what else is known of them."""
_MAKING_S = 30.0
_AGAIN = "*"


@dataclass(frozen=True, slots=True)
class Chosen:
    """`choice` None: as the number says by itself. `by`: "key", or "default"."""

    choice: Choice | None
    by: str

    def needs(self, inferred: tuple[Need, ...], known: Container[str]) -> tuple[Need, ...]:
        """What was chosen, before what was inferred. `known`: the skills that somebody has; nobody waits for others."""
        if self.choice is None or not self.choice.skills:
            return inferred
        skills = self.choice.skills
        reason = f"pressed {self.choice.key} for {self.choice.say}"
        chosen = (Need(skill, WEIGHT, skill in known, (reason,)) for skill in skills)
        # It is still good to know, and keeps nobody from taking a call about something else.
        others = (replace(need, required=False) for need in inferred if need.skill not in skills)
        return (*chosen, *others)


@dataclass(slots=True, eq=False)
class _Asking:
    call: str
    leg: Leg
    gone: bool = False
    pressed: asyncio.Future[str] | None = field(default=None)

    def tell(self, key: str) -> None:
        """Empty: none came."""
        if self.pressed is not None and not self.pressed.done():
            self.pressed.set_result(key)

    def leaves(self) -> None:
        self.gone = True
        self.tell("")


class InboundMenus:
    """`folder` is where media has its prompts, and `prepare` puts more; `in_thread` does what blocks."""

    def __init__(
        self,
        menus: Iterable[MenuSettings],
        media: MediaServer,
        events: EventLog,
        clock: IReactorTime,
        *,
        folder: Path,
        in_thread: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self._settings = tuple(menus)
        self._media = media
        self._events = events
        self._clock = clock
        self._folder = folder
        self._in_thread = in_thread
        self._menus: dict[str, tuple[MenuSettings, str]] = {}  # by number, with the prompt there is of it
        self._asking: dict[str, _Asking] = {}  # by media call
        self._stopped = False

    async def prepare(self) -> None:
        """Have what is to be said made into sound. A menu of which that fails is as if it were not there."""
        for menu in self._settings:
            try:
                prompt = _prompt(menu)
                await self._in_thread(_make, self._folder, prompt, menu.spoken, menu.file)
            except (OurError, OSError) as error:
                log.error(
                    "Callers of {number} are not asked anything: {error}", number=menu.number, error=error
                )
            else:
                self._menus[menu.number] = menu, prompt

    def of(self, number: str) -> MenuSettings | None:
        found = self._menus.get(number)
        return found[0] if found is not None else None

    async def ask(self, call: str, greeting: Greeting, menu: MenuSettings) -> Chosen | None:
        """Answer a caller and ask them. None: they have gone, or must go."""
        leg = greeting.leg
        if self._stopped:
            leg.end("the server stops")
        asking = self._asking[call] = _Asking(call, leg)
        leg.on_keys = lambda keys: asking.tell(keys[:1])
        leg.on_event = lambda event: self._heard(asking, event)
        try:
            if not leg.alive:
                return None
            leg.answer(greeting.session, offered=greeting.offered)
            self._events.write("menu.asked", contact=call, number=menu.number, call_id=leg.call.id)
            chosen, rounds = await self._rounds(asking, menu)
            self._tell(call, menu, chosen, rounds)
            return chosen
        finally:
            del self._asking[call]
            leg.on_event = leg.on_keys = None

    async def _rounds(self, asking: _Asking, menu: MenuSettings) -> tuple[Chosen | None, int]:
        heard = (self._menus[menu.number][1],)
        prompts: tuple[str, ...] = heard
        for number in range(1, menu.rounds + 1):
            try:
                key = await self._key(asking, prompts, menu.timeout_s)
            except WarmlineError as error:
                # Nobody is turned away because they could not be asked.
                log.warn("A caller of {number} is not asked: {error}", number=menu.number, error=error.reason)
                return (None if asking.gone else Chosen(menu.choice(menu.default), "default")), number
            if asking.gone:
                return None, number
            choice = menu.choice(key)
            if choice is not None:
                return Chosen(choice, "key"), number
            prompts = (WRONG, *heard) if key and key != _AGAIN else heard
        return Chosen(menu.choice(menu.default), "default"), menu.rounds

    async def _key(self, asking: _Asking, prompts: tuple[str, ...], timeout_s: float) -> str:
        """The key they press; empty: none in time, or they have gone. Raises WarmlineError."""
        asking.pressed = asyncio.get_running_loop().create_future()
        if asking.gone:
            return ""
        length_s = await self._media.play(asking.call, asking.leg.branch, prompts)
        limit = self._clock.callLater(length_s + timeout_s, asking.tell, "")
        try:
            return await asking.pressed
        finally:
            if limit.active():
                limit.cancel()

    # What happens meanwhile

    def keys_heard(self, call: str, branch: str, key: str) -> bool:
        """MediaServer: a key was pressed. False: not by somebody who is being asked."""
        asking = self._asking.get(call)
        if asking is None or asking.leg.branch != branch:
            return False
        asking.tell(key)
        return True

    def media_gone(self, call: str, branch: str, why: str) -> None:
        """MediaServer: nothing comes from this branch any more."""
        asking = self._asking.get(call)
        if asking is not None and asking.leg.branch == branch:
            self._let_go(asking, "nothing is heard")

    def media_died(self) -> None:
        """All packets stopped."""
        for asking in tuple(self._asking.values()):
            self._let_go(asking, "the media process ended")

    def stop(self) -> None:
        """The server stops."""
        self._stopped = True
        for asking in tuple(self._asking.values()):
            self._let_go(asking, "the server stops")

    def _let_go(self, asking: _Asking, reason: str) -> None:
        asking.leg.on_event = None
        asking.leg.end(reason)
        asking.leaves()

    @staticmethod
    def _heard(asking: _Asking, event: LegEvent) -> None:
        if isinstance(event, Gone):
            asking.leaves()

    def _tell(self, call: str, menu: MenuSettings, chosen: Chosen | None, rounds: int) -> None:
        choice = chosen.choice if chosen is not None else None
        self._events.write(
            "menu.chosen" if chosen is not None else "menu.left",
            contact=call,
            number=menu.number,
            key=choice.key if choice is not None else None,
            said=choice.say if choice is not None else None,
            product=choice.product or None if choice is not None else None,
            skills=list(choice.skills) if choice is not None else [],
            by=chosen.by if chosen is not None else None,
            rounds=rounds,
        )


def _prompt(menu: MenuSettings) -> str:
    """Another text is another prompt; so is another state of the file it is made of. Raises OSError."""
    text = f"{menu.file} {Path(menu.file).stat().st_mtime_ns}" if menu.file else menu.spoken
    return f"menu-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _make(folder: Path, prompt: str, text: str, file: str) -> None:
    """In a process of its own: codecs and numpy are nothing for this one. Raises OurError."""
    if (folder / f"{prompt}.wav").exists():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "media.spoken", str(folder), prompt, *((file,) if file else ())],
            input=text.encode(),
            capture_output=True,
            check=True,
            timeout=_MAKING_S,
        )
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OurError(f"{file or text!r} could not be made: {last[-1] if last else ''}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OurError(f"{file or text!r} could not be made: {error}") from None
