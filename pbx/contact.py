"""A Contact: a customer's request for help, from asking to disposition.

A pure machine: frozen facts, one table of moves, no clock and no I/O. Everything that may happen to a contact
is a move in `MOVES`; anything else is a fault of ours and raises.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from config.errors import OurError
from config.queue_settings import DEFAULT
from pbx.skills import Need


class Channel(StrEnum):
    CHAT = "chat"
    VOICE = "voice"
    VIDEO = "video"


class State(StrEnum):
    WAITING = "waiting"
    RINGING = "ringing"
    CONNECTED = "connected"
    ENDED = "ended"


class Move(StrEnum):
    RING = "ring"  # an agent is held for this contact and rung
    BACK = "back"  # that agent is not to be had: waiting again, in the old place
    JOIN = "join"  # the customer hears (or reads) the agent
    TRANSFER = "transfer"  # the customer hears somebody else, to whom the agent has passed them on
    END = "end"


MOVES: dict[tuple[State, Move], State] = {
    (State.WAITING, Move.RING): State.RINGING,
    (State.RINGING, Move.BACK): State.WAITING,
    (State.RINGING, Move.JOIN): State.CONNECTED,
    # A chat that outlived its server; a call whose agent passed it on and left before anybody took it.
    (State.CONNECTED, Move.BACK): State.WAITING,
    (State.CONNECTED, Move.TRANSFER): State.CONNECTED,
    (State.RINGING, Move.TRANSFER): State.CONNECTED,
    (State.WAITING, Move.END): State.ENDED,
    (State.RINGING, Move.END): State.ENDED,
    (State.CONNECTED, Move.END): State.ENDED,
}


class Disposition(StrEnum):
    """How a contact ended, and by that whose doing it was (`whose`)."""

    CUSTOMER_HUNG_UP = "customer_hung_up"
    AGENT_HUNG_UP = "agent_hung_up"
    CUSTOMER_GAVE_UP = "customer_gave_up"  # left before an agent was joined
    CUSTOMER_LOST = "customer_lost"  # their browser or phone vanished and did not come back
    AGENT_LOST = "agent_lost"  # the agent's phone vanished
    OTHER_HUNG_UP = "other_hung_up"  # somebody outside, to whom an agent had passed the customer on
    OTHER_LOST = "other_lost"
    NO_AGENT = "no_agent"  # waited as long as anyone may
    VOICEMAIL = "voicemail"  # left a message instead
    CALL_BACK_FAILED = "call_back_failed"  # could not be reached when it was their turn
    IDLE = "idle"  # a chat in which nobody wrote any more
    MEDIA_FAILED = "media_failed"
    SERVER_STOPPED = "server_stopped"
    SERVER_DIED = "server_died"

    @property
    def whose(self) -> str:
        return _WHOSE[self]


_WHOSE = {
    Disposition.CUSTOMER_HUNG_UP: "customer",
    Disposition.AGENT_HUNG_UP: "agent",
    Disposition.CUSTOMER_GAVE_UP: "customer",
    Disposition.CUSTOMER_LOST: "customer",
    Disposition.AGENT_LOST: "agent",
    Disposition.OTHER_HUNG_UP: "other",
    Disposition.OTHER_LOST: "other",
    Disposition.NO_AGENT: "server",
    Disposition.VOICEMAIL: "customer",
    Disposition.CALL_BACK_FAILED: "customer",
    Disposition.IDLE: "nobody",
    Disposition.MEDIA_FAILED: "server",
    Disposition.SERVER_STOPPED: "server",
    Disposition.SERVER_DIED: "server",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What was so when the contact was asked for, names included: they are shown as they were. Times: epoch seconds."""

    id: str
    channel: Channel
    asked_at: float
    provider_id: str
    provider_name: str
    product_id: str | None = None
    product_name: str = ""
    article_id: str | None = None
    article_title: str = ""
    visit_id: str | None = None
    customer_id: str | None = None  # None: a caller whose number nobody has proved to be theirs
    customer_name: str = ""
    trunk: str | None = None  # the trunk a phone caller came by; None: from the app
    number: str = ""  # a phone caller's number
    language: str | None = None  # what they want to be spoken to in, as `de`; None: any

    @property
    def caller(self) -> str:
        """Who to show an agent. A customer who is known and yet has no name here wants nobody to be told it."""
        unnamed = "Anonymous" if self.customer_id is not None else "Unknown caller"
        return self.customer_name or self.number or unnamed

    @property
    def from_app(self) -> bool:
        return self.trunk is None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An agent did not take a contact: when, by which outcome, and until when they are not asked for it again."""

    at: float
    outcome: str  # declined, no_answer, busy, unreachable, asleep; "left": had it, and went
    until: float


@dataclass(frozen=True, slots=True)
class CallBack:
    """A customer who has hung up waits in their place to be called. Times: epoch seconds."""

    number: str  # E.164, or empty: in the app
    asked_at: float
    attempts: int = 0
    not_before: float = 0.0  # they did not answer, and are tried again then


@dataclass(slots=True)
class Contact:
    """`place_at` is its place in the queue: when it was asked for, whatever became of it since."""

    facts: Facts
    needs: tuple[Need, ...] = ()
    state: State = State.WAITING
    agent_id: str | None = None  # the agent rung or talking now, or the last who talked
    routable: bool = False  # a chat once posted, a call once its INVITE is here (design 4.2)
    connected_at: float | None = None
    ended_at: float | None = None
    disposition: Disposition | None = None
    attempts: int = 0
    refusals: dict[str, Refusal] = field(default_factory=dict)  # by agent, the last of each
    queue: str = DEFAULT
    place_at: float = 0.0
    preferred_agent_id: str | None = None  # who helped this customer last
    call_back: CallBack | None = None
    wrap_up_code: str | None = None
    wrap_up_note: str | None = None
    session: str | None = None  # of all its legs (RFC 7989): the first caller's, a chat's its own
    anonymous: bool = False  # a phone caller who wants nobody to be told who they are (RFC 3323)

    def __post_init__(self) -> None:
        self.place_at = self.place_at or self.facts.asked_at

    @property
    def id(self) -> str:
        return self.facts.id

    @property
    def channel(self) -> Channel:
        return self.facts.channel

    @property
    def open(self) -> bool:
        return self.state is not State.ENDED

    def can(self, move: Move) -> bool:
        return (self.state, move) in MOVES

    def _move(self, move: Move) -> None:
        try:
            self.state = MOVES[self.state, move]
        except KeyError:
            raise OurError(f"contact {self.id} is {self.state}: it cannot {move}") from None

    def ring(self, agent_id: str | None) -> None:
        """None: a number outside is rung."""
        self._move(Move.RING)
        self.agent_id = agent_id
        self.attempts += 1

    def back(self) -> None:
        self._move(Move.BACK)
        self.agent_id = None
        self.connected_at = None

    def refused_by(self, agent_id: str, refusal: Refusal) -> None:
        """The agent rung did not take it; they are not the next one asked."""
        self.back()
        self.refusals.pop(agent_id, None)  # the last in it is the latest
        self.refusals[agent_id] = refusal

    def join(self, now: float) -> None:
        self._move(Move.JOIN)
        self.connected_at = now

    def pass_on(self, agent_id: str | None, now: float) -> None:
        """Whom it was transferred to has it from now on; None: somebody outside."""
        self._move(Move.TRANSFER)
        self.agent_id = agent_id
        if self.connected_at is None:
            self.connected_at = now

    def end(self, disposition: Disposition, now: float) -> None:
        if self.state is State.RINGING:
            self.agent_id = None  # rung, but never theirs
        self._move(Move.END)
        self.disposition = disposition
        self.ended_at = now
        self.routable = False
