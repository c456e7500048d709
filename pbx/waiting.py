"""What a customer hears who waits: how things stand, music, and now and then a word.

    please-wait -> position, expected wait -> music -(comfort_s)-> a comforting word, or a better position -> music …

What to say when is decided by `Patter`, which is pure; `WaitingRoom` plays it, all on one branch and so in one stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from config.bridge import spawn
from config.errors import WarmlineError
from config.queue_settings import DEFAULT, QueueSettings
from media.server import MediaServer
from pbx.contact import Contact
from pbx.leg import Leg
from sip_trunk.deadlines import Deadline, Deadlines

HIGHEST_NUMBER = 60
"""Of the prompts `number-1` to `number-60`."""
LONG_S = 180.0
"""Who has longer than this to wait is told at once what else they could do."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand for one who waits: `position` 1 is the next; `expected_s` in seconds. None: not known."""

    position: int | None = None
    expected_s: float | None = None


class Patter:
    """What has been said to one who waits, and what comes next; all as names of prompts.

    A position that got worse is never told: somebody with a head start came, and it helps nobody to hear of it.
    """

    __slots__ = ("_told", "offered")

    def __init__(self) -> None:
        self.offered = False  # they have heard which keys they may press
        self._told: int | None = None

    def welcome(self, standing: Standing, offers: Sequence[str], *, comforts: bool) -> tuple[str, ...]:
        """Before the first music; () where nothing is known. `comforts`: there will be more to say later."""
        if standing.position is None:
            return ()
        words = self._standing(standing) if self._told is None or standing.position <= self._told else ()
        long = standing.expected_s is not None and standing.expected_s > LONG_S
        return (*words, *self._offer(offers if long or not comforts else ()))

    def comfort(self, standing: Standing, offers: Sequence[str]) -> tuple[str, ...]:
        """After some music."""
        words: tuple[str, ...] = ()
        if standing.position is not None and (self._told is None or standing.position < self._told):
            words = self._standing(standing)
        return (*(words or ("comfort",)), *self._offer(offers))

    def _standing(self, standing: Standing) -> tuple[str, ...]:
        assert standing.position is not None
        self._told = standing.position
        return (*position_words(standing.position), *wait_words(standing.expected_s))

    def _offer(self, offers: Sequence[str]) -> Sequence[str]:
        self.offered = self.offered or bool(offers)
        return offers


def position_words(position: int) -> tuple[str, ...]:
    if position <= 1:
        return ("queue-next",)
    if position <= HIGHEST_NUMBER:
        return ("queue-position", f"number-{position}", "queue-in-line")
    # It says that more than sixty are ahead: not so of the first who has no number.
    return ("queue-many",) if position > HIGHEST_NUMBER + 1 else ()


def wait_words(expected_s: float | None) -> tuple[str, ...]:
    """Whole minutes, rounded up; of more than ten only every fifth: more than that nobody knows."""
    if expected_s is None:
        return ()
    if expected_s < 60.0:
        return ("wait-under-minute",)
    if expected_s > 3600.0:
        return ("wait-over-hour",)
    minutes = ceil(expected_s / 60.0)
    if minutes > 10:
        minutes = 5 * ceil(minutes / 5)
    return (
        ("wait-about", "wait-minute") if minutes == 1 else ("wait-about", f"number-{minutes}", "wait-minutes")
    )


@dataclass(slots=True)
class _Seat:
    """One stay of one leg in the room; with the next one it is over."""

    contact: Contact
    leg: Leg
    queued: bool  # False: they are held by an agent, and hear nothing but music
    timer: Deadline | None = None


class WaitingRoom:
    """`deaf` is told of a customer to whom nothing can be played, and why.

    `standing`, `settings` (of a queue, by its name) and `offers` (prompts that tell which keys may be pressed) are set
    by whoever knows.
    """

    def __init__(
        self, media: MediaServer, deadlines: Deadlines, *, deaf: Callable[[Contact, Leg, str], None]
    ) -> None:
        self._media = media
        self._deadlines = deadlines
        self._deaf = deaf
        self._seats: dict[str, _Seat] = {}
        self._patter: dict[str, Patter] = {}  # by contact, until it ends
        self.standing: Callable[[Contact], Standing] = lambda contact: Standing()
        self.settings: Callable[[str], QueueSettings] = lambda queue: QueueSettings(DEFAULT)
        self.offers: Callable[[Contact], Sequence[str]] = lambda contact: ()

    async def welcome(self, contact: Contact, leg: Leg) -> None:
        """The customer has come."""
        await self._hear(self._sit(contact, leg, queued=True), "please-wait", self._how_things_stand)

    async def back(self, contact: Contact, leg: Leg) -> None:
        """The customer waits again, for whatever reason."""
        await self._music(self._sit(contact, leg, queued=True))

    async def hold(self, contact: Contact, leg: Leg) -> None:
        """Music and nothing else: for somebody whom an agent has put on hold, or is passing on."""
        await self._music(self._sit(contact, leg, queued=False))

    def leave(self, contact_id: str) -> None:
        """Nothing more is played; what plays is ended by what is heard instead."""
        seat = self._seats.pop(contact_id, None)
        if seat is not None:
            _stop(seat)

    def forget(self, contact_id: str) -> None:
        """The contact has ended."""
        self.leave(contact_id)
        self._patter.pop(contact_id, None)

    def offered(self, contact_id: str) -> bool:
        """Whether they have been told which keys they may press."""
        patter = self._patter.get(contact_id)
        return patter is not None and patter.offered

    def stay(self, contact_id: str) -> object | None:
        """What is the same for as long as they wait without talking to anybody in between."""
        return self._seats.get(contact_id)

    def _sit(self, contact: Contact, leg: Leg, *, queued: bool) -> _Seat:
        self.leave(contact.id)
        seat = self._seats[contact.id] = _Seat(contact, leg, queued)
        if queued:
            self._patter.setdefault(contact.id, Patter())
        return seat

    def _here(self, seat: _Seat) -> bool:
        return self._seats.get(seat.contact.id) is seat and seat.leg.alive

    async def _hear(
        self,
        seat: _Seat,
        prompts: str | Sequence[str],
        then: Callable[[_Seat], None] | None,
        *,
        for_s: float | None = None,
    ) -> None:
        """Play it, and do what comes `then`: after one round, or `for_s` seconds of rounds without end."""
        try:
            length_s = await self._media.play(
                seat.contact.id, seat.leg.branch, prompts, repeat=prompts == "music"
            )
        except WarmlineError as error:
            if self._here(seat):
                self._deaf(seat.contact, seat.leg, error.reason)
            return
        if then is not None and self._here(seat):
            after_s = length_s if for_s is None else for_s
            seat.timer = self._deadlines.after(after_s, lambda: self._next(seat, then))

    def _next(self, seat: _Seat, then: Callable[[_Seat], None]) -> None:
        seat.timer = None
        # Who will be called back is told goodbye, and nothing else.
        if self._here(seat) and not (seat.queued and seat.contact.call_back is not None):
            then(seat)

    def _how_things_stand(self, seat: _Seat) -> None:
        contact = seat.contact
        comforts = self.settings(contact.queue).comfort_s > 0
        words = self._patter[contact.id].welcome(
            self.standing(contact), self.offers(contact), comforts=comforts
        )
        self._say(seat, words)

    def _comfort(self, seat: _Seat) -> None:
        contact = seat.contact
        self._say(seat, self._patter[contact.id].comfort(self.standing(contact), self.offers(contact)))

    def _say(self, seat: _Seat, words: Sequence[str]) -> None:
        what = self._hear(seat, words, self._music_again) if words else self._music(seat)
        spawn(what, f"what {seat.contact.id} hears")

    def _music_again(self, seat: _Seat) -> None:
        spawn(self._music(seat), f"music for {seat.contact.id}")

    async def _music(self, seat: _Seat) -> None:
        comfort_s = self.settings(seat.contact.queue).comfort_s if seat.queued else 0.0
        await self._hear(seat, "music", self._comfort if comfort_s > 0 else None, for_s=comfort_s)


def _stop(seat: _Seat) -> None:
    if seat.timer is not None:
        seat.timer.cancel()
    seat.timer = None
