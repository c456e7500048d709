"""What an agent is doing, as one atomic thing: the table of moves, and `AgentStates`, which drives and stores it.

Readiness is an explicit act of the agent. It is kept apart from the state, so that a "not ready" said during a contact
holds when the contact ends, and so that a phone that loses its registration for a moment does not cost the agent's
word.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from agent_presence.location import log_failure
from config.bridge import spawn
from config.errors import OurError, TheirError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_presence.location import Binding, Location
    from agent_presence.roster import Roster
    from agent_presence.store import PresenceStore
    from config.events import EventLog
    from config.shared_state import SharedState

log = Logger()

CHATS = 2
SHORT_ABSENCE_S = 300.0


class AgentState(Enum):
    """The states; their values are what the event log and the database say."""

    OFFLINE = "Offline"
    NOT_READY = "NotReady"
    READY = "Ready"
    RESERVED = "Reserved"
    TALKING = "Talking"
    WRAP_UP = "WrapUp"


class Move(Enum):
    """What can happen to an agent."""

    ARRIVED = "a phone registered; readiness must be said anew"
    RETURNED = "a phone registered after a short absence of an agent who had been ready"
    LEFT = "the last phone's registration is gone"
    READY = "said ready"
    NOT_READY = "said not ready"
    RESERVED = "held for a contact"
    ACCEPTED = "answered"
    HELD = "the last contact ended while another is being offered"
    WRAPPING = "the last contact ended, and there is something to write up"
    FREED = "nothing left to do, and ready"
    FREED_AWAY = "nothing left to do, and not ready was said meanwhile"
    FREED_GONE = "nothing left to do, and no phone is registered any more"


MOVES: dict[tuple[AgentState, Move], AgentState] = {
    (AgentState.OFFLINE, Move.ARRIVED): AgentState.NOT_READY,
    (AgentState.OFFLINE, Move.RETURNED): AgentState.READY,
    (AgentState.NOT_READY, Move.READY): AgentState.READY,
    (AgentState.NOT_READY, Move.RESERVED): AgentState.RESERVED,  # by name: a colleague passes a contact on
    (AgentState.NOT_READY, Move.LEFT): AgentState.OFFLINE,
    (AgentState.READY, Move.NOT_READY): AgentState.NOT_READY,
    (AgentState.READY, Move.RESERVED): AgentState.RESERVED,
    (AgentState.READY, Move.LEFT): AgentState.OFFLINE,
    (AgentState.RESERVED, Move.ACCEPTED): AgentState.TALKING,
    (AgentState.RESERVED, Move.FREED): AgentState.READY,
    (AgentState.RESERVED, Move.FREED_AWAY): AgentState.NOT_READY,
    (AgentState.RESERVED, Move.WRAPPING): AgentState.WRAP_UP,  # they were writing up when asked by name
    (AgentState.RESERVED, Move.FREED_GONE): AgentState.OFFLINE,
    (AgentState.TALKING, Move.RESERVED): AgentState.TALKING,
    (AgentState.TALKING, Move.ACCEPTED): AgentState.TALKING,
    (AgentState.TALKING, Move.HELD): AgentState.RESERVED,
    (AgentState.TALKING, Move.WRAPPING): AgentState.WRAP_UP,
    (AgentState.TALKING, Move.FREED): AgentState.READY,
    (AgentState.TALKING, Move.FREED_AWAY): AgentState.NOT_READY,
    (AgentState.TALKING, Move.FREED_GONE): AgentState.OFFLINE,
    (AgentState.WRAP_UP, Move.READY): AgentState.READY,
    (AgentState.WRAP_UP, Move.NOT_READY): AgentState.NOT_READY,
    (AgentState.WRAP_UP, Move.RESERVED): AgentState.RESERVED,  # by name
    (AgentState.WRAP_UP, Move.FREED): AgentState.READY,
    (AgentState.WRAP_UP, Move.FREED_AWAY): AgentState.NOT_READY,
    (AgentState.WRAP_UP, Move.LEFT): AgentState.OFFLINE,
}

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class AgentStateRecord:
    """All there is to know of an agent's state at one moment. Times are epoch seconds.

    `active` maps every contact that holds the agent to its channel, oldest first; the one being offered, if any, is
    among them and is `reserved_for`. At most one is offered at a time: two prompts would ring over each other.
    """

    agent_id: str
    state: AgentState = AgentState.OFFLINE
    since: float = 0.0
    wants_ready: bool = False
    absent_since: float | None = None
    active: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    reserved_for: str | None = None
    lease_until: float | None = None
    wrap_up_until: float | None = None
    present: bool = False
    offered_at: float = 0.0  # when they were last asked for a contact
    taken: int = 0  # contacts taken since they came on
    missed: int = 0  # offers in a row that came to nothing by their doing
    why: str = ""  # the outcome for which they were made not ready, where it was not they who said so

    @property
    def contact_id(self) -> str | None:
        """The contact being offered, else the latest one being talked to."""
        return self.reserved_for or next(reversed(tuple(self.active)), None)

    @property
    def pending_not_ready(self) -> bool:
        """Not ready was said during a contact, and takes effect when it ends."""
        return self.state in (AgentState.RESERVED, AgentState.TALKING) and not self.wants_ready

    @property
    def free_since(self) -> float:
        """Since when the agent has had no more to do than now: for choosing who has been idle longest."""
        return self.since

    def free_for(self, channel: str, chats: int = CHATS) -> bool:
        """Whether a contact by this channel may be offered now: a chat beside other chats, a call beside nothing."""
        if self.state is AgentState.READY:
            return True
        return (
            channel == "chat"
            and self.state is AgentState.TALKING
            and self.wants_ready
            and self.present
            and self.reserved_for is None
            and len(self.active) < chats
            and all(held == "chat" for held in self.active.values())
        )


def moved(record: AgentStateRecord, move: Move, now: float, **changes: Any) -> AgentStateRecord:
    """The record after a move. Raises OurError for one that the table does not know."""
    state = MOVES.get((record.state, move))
    if state is None:
        raise OurError(f"An agent who is {record.state.value} cannot be moved by {move.name}")
    return replace(record, state=state, since=now if state is not record.state else record.since, **changes)


def _accepted(record: AgentStateRecord, now: float) -> AgentStateRecord:
    return moved(
        record,
        Move.ACCEPTED,
        now,
        reserved_for=None,
        lease_until=None,
        wrap_up_until=None,
        taken=record.taken + 1,
        missed=0,
    )


def settled(record: AgentStateRecord) -> Move:
    """Which move frees an agent whom no contact holds any more."""
    if not record.present:
        return Move.FREED_GONE
    return Move.FREED if record.wants_ready else Move.FREED_AWAY


def _resolved(record: AgentStateRecord, gone_at: float | None, now: float) -> AgentStateRecord:
    """What a record means after the server was away: no dialog outlived it, so nobody is held or talking."""
    if record.present:
        state = AgentState.READY if record.wants_ready else AgentState.NOT_READY
        absent_since = None
    else:
        state = AgentState.OFFLINE
        absent_since = next((at for at in (record.absent_since, gone_at) if at is not None), now)
    return replace(
        record,
        state=state,
        since=record.since if state is record.state else now,
        absent_since=absent_since,
        active=_NOTHING,
        reserved_for=None,
        lease_until=None,
        wrap_up_until=None,
    )


class AgentStates:
    """The state of every agent.

    All checks and changes are made in memory without waiting in between, so within one server they are atomic; a
    reservation is also claimed in the shared state, so that no other server makes it at the same time.

    `on_change` listeners get (agent id, old state, new state) at once and in order. They are also called with
    old = new when only what the agent has capacity for changed: a second chat came or went, readiness was said ahead.
    """

    def __init__(
        self,
        store: PresenceStore,
        events: EventLog,
        shared_state: SharedState,
        roster: Roster,
        location: Location,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        chats: int = CHATS,
    ) -> None:
        self._store = store
        self._events = events
        self._shared = shared_state
        self._roster = roster
        self._location = location
        self._clock = clock
        self._now = now
        self._chats = chats
        self._records: dict[str, AgentStateRecord] = {}
        self._stored: set[str] = set()
        self._held: set[str] = set()  # agents whom some contact holds
        self._unclaiming: dict[str, asyncio.Task[bool]] = {}  # by agent, until the shared state knows
        # One timer for every lease and wrap-up: the earliest deadline; outdated entries are dropped when they come up.
        self._deadlines: list[tuple[float, str]] = []
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0
        self.on_change: list[Callable[[str, AgentState, AgentState], None]] = []
        location.on_change.append(self._bindings_changed)

    async def load(self) -> None:
        """Take up the stored states, once the roster and the location are loaded; what cannot be true is resolved."""
        now = self._now()
        stored = await self._store.agent_states()
        self._stored = set(stored)
        for agent in self._roster.agents():
            present, gone_at = self._whereabouts(agent.id)
            before = stored.get(agent.id)
            if before is None:
                if not present:
                    continue
                before = AgentStateRecord(agent.id)
            record = _resolved(replace(before, present=present), gone_at, now)
            self._records[agent.id] = record
            if record != replace(before, present=present):
                log_failure(self._keep(record, patient=True))
            if record.state is not before.state:
                self._say(before.state, record, "the server started again")

    def stop(self) -> None:
        """Stop the timer; states stay as they are stored."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def of(self, agent_id: str) -> AgentStateRecord:
        """The record of an agent; one never seen before is Offline."""
        return self._records.get(agent_id) or AgentStateRecord(agent_id)

    def held(self) -> list[AgentStateRecord]:
        """The records of all whom some contact holds: Reserved or Talking."""
        return [self._records[agent_id] for agent_id in self._held]

    def free_for(self, agent_id: str, channel: str) -> bool:
        """Whether `reserve` would succeed now."""
        return self.of(agent_id).free_for(channel, self.chats_of(agent_id))

    def chats_of(self, agent_id: str) -> int:
        """How many chats this agent has at a time."""
        agent = self._roster.agent(agent_id)
        return self._chats if agent is None or agent.chats is None else agent.chats

    async def ready(self, agent_id: str, why: str = "said so") -> AgentStateRecord:
        """The agent is ready, or will be when the contact ends. Stored when this returns.

        Raises TheirError 404 for nobody's id, 409 when none of the agent's phones is registered.
        """
        self._known(agent_id)
        record = self.of(agent_id)
        match record.state:
            case AgentState.OFFLINE:
                raise TheirError("None of your phones is registered, so nobody could ring you.", 409)
            case AgentState.NOT_READY | AgentState.WRAP_UP:
                changed = moved(record, Move.READY, self._now(), wants_ready=True, wrap_up_until=None)
            case _:
                changed = replace(record, wants_ready=True, wrap_up_until=None)
        written = self._change(record, replace(changed, missed=0, why=""), why, promised=True)
        if written is not None:
            await written
        return self.of(agent_id)

    async def not_ready(self, agent_id: str, why: str = "said so") -> AgentStateRecord:
        """The agent takes a break, or will when the contact ends. Stored when this returns. Raises TheirError 404."""
        self._known(agent_id)
        record = self.of(agent_id)
        match record.state:
            case AgentState.READY | AgentState.WRAP_UP:
                changed = moved(record, Move.NOT_READY, self._now(), wants_ready=False, wrap_up_until=None)
            case _:
                changed = replace(record, wants_ready=False, wrap_up_until=None)
        written = self._change(record, replace(changed, missed=0, why=""), why, promised=True)
        if written is not None:
            await written
        return self.of(agent_id)

    def missed(self, agent_id: str, contact_id: str, outcome: str, limit: int) -> bool:
        """An offer came to nothing by the agent's doing. True: it was the `limit`-th in a row or a later one, and they
        are not ready from now on, or from when they are let go of. A limit of 0 is never reached, and counts nothing.
        """
        record = self.of(agent_id)
        if limit == 0:
            return False
        changed = replace(record, missed=record.missed + 1)
        made = changed.missed >= limit and record.wants_ready
        if made:
            changed = replace(changed, wants_ready=False, missed=0, why=outcome)
            if record.state is AgentState.READY:
                changed = moved(changed, Move.NOT_READY, self._now())
        log_failure(
            self._change(record, changed, f"{outcome} {record.missed + 1} times in a row", contact_id)
        )
        return made

    async def reserve(
        self, agent_id: str, contact_id: str, *, channel: str, lease_s: float, named: bool = False
    ) -> bool:
        """Hold an agent for a contact for at most `lease_s` seconds; False when someone else was quicker.

        `named`: a colleague asks for this very agent, who may then be on a break or writing up.
        """
        record = self.of(agent_id)
        may = record.free_for(channel, self.chats_of(agent_id))
        if named and record.state in (AgentState.NOT_READY, AgentState.WRAP_UP):
            may = record.present
        if contact_id in record.active or not may:
            return False
        now = self._now()
        held = moved(
            record,
            Move.RESERVED,
            now,
            active=MappingProxyType({**record.active, contact_id: channel}),
            reserved_for=contact_id,
            lease_until=now + lease_s,
            offered_at=now,
        )
        # A conversation that a crash cuts is resolved by `load`, whatever was stored of it: nobody waits for the disk.
        # Held in memory before the shared state is asked: whoever comes while we wait there finds the agent taken.
        log_failure(self._change(record, held, "reserved", contact_id))
        self._due(now + lease_s, agent_id)
        try:
            if (before := self._unclaiming.get(agent_id)) is not None:
                await asyncio.wait([before])  # what we ourselves held must not be in our way
            claimed = await self._shared.claim(_claim(agent_id), contact_id, lease_s)
        except BaseException:
            # Whoever asked holds nothing by which to release the agent again.
            record = self.of(agent_id)
            if record.reserved_for == contact_id:
                free = self._without(record, contact_id, 0.0)
                log_failure(self._change(record, free, "the reservation could not be claimed", contact_id))
            raise
        if not claimed:
            self.release(agent_id, contact_id, reason="reserved by another server")
            return False
        if self.of(agent_id).reserved_for != contact_id:  # the phone or the contact went away while we waited
            await self._shared.release(_claim(agent_id), contact_id)
            return False
        return True

    def accepted(self, agent_id: str, contact_id: str) -> bool:
        """The agent answered. False when the reservation is no longer theirs, and the phone must be hung up on."""
        record = self.of(agent_id)
        if record.reserved_for != contact_id:
            return False
        talking = _accepted(record, self._now())
        log_failure(self._change(record, talking, "accepted", contact_id))
        # The claim covers the race to reserve; who is talking only this server, which has the dialogs, can say.
        self._unclaim(agent_id, contact_id)
        return True

    def hand_over(self, contact_id: str, giver: str | None, taker: str, *, wrap_up_s: float) -> bool:
        """The taker, held for the contact, talks, and the giver is let go of: both at once.

        False, and nothing is changed, when the taker is no longer held for it.
        """
        record = self.of(taker)
        if record.reserved_for != contact_id:
            return False
        talking = _accepted(record, self._now())
        log_failure(self._change(record, talking, "taken over", contact_id))
        self._unclaim(taker, contact_id)
        if giver is not None and contact_id in (before := self.of(giver)).active:
            free = self._without(before, contact_id, wrap_up_s)
            log_failure(self._change(before, free, "handed over", contact_id))
        return True

    def release(
        self, agent_id: str, contact_id: str, *, wrap_up_s: float = 0.0, reason: str = "released"
    ) -> bool:
        """Let go of an agent, however they were held; harmless when they are not (False).

        `wrap_up_s` counts only after a conversation, when nothing else holds the agent and a phone is still there.
        """
        record = self.of(agent_id)
        if contact_id not in record.active:
            return False
        was_offered = record.reserved_for == contact_id
        log_failure(self._change(record, self._without(record, contact_id, wrap_up_s), reason, contact_id))
        if was_offered:
            self._unclaim(agent_id, contact_id)
        return True

    def _without(self, record: AgentStateRecord, contact_id: str, wrap_up_s: float) -> AgentStateRecord:
        now = self._now()
        talked = record.state is AgentState.TALKING and record.reserved_for != contact_id
        active = MappingProxyType({held: by for held, by in record.active.items() if held != contact_id})
        record = replace(record, active=active)
        if record.reserved_for == contact_id:
            record = replace(record, reserved_for=None, lease_until=None)
        if active:
            only_offered = tuple(active) == (record.reserved_for,)
            if record.state is AgentState.TALKING and only_offered:
                return moved(record, Move.HELD, now)
            return record
        if talked and wrap_up_s > 0 and record.present:
            self._due(now + wrap_up_s, record.agent_id)
            return moved(record, Move.WRAPPING, now, wrap_up_until=now + wrap_up_s)
        if record.wrap_up_until is not None and now < record.wrap_up_until and record.present:
            return moved(record, Move.WRAPPING, now)  # to what a colleague who asked by name has interrupted
        return moved(record, settled(record), now, wrap_up_until=None)

    def _bindings_changed(self, aor: str, added: Sequence[Binding], removed: Sequence[Binding]) -> None:
        username = self._location.username(aor)
        agent = None if username is None else self._roster.agent_of_username(username)
        if agent is None:
            return
        record = self.of(agent.id)
        present, _ = self._whereabouts(agent.id)
        if present == record.present:
            return
        if present:
            log_failure(self._change(record, self._arrived(record), "a phone registered"))
        else:
            log_failure(self._change(record, self._left(record), "no phone is registered"))

    def _arrived(self, record: AgentStateRecord) -> AgentStateRecord:
        now = self._now()
        short = record.absent_since is not None and now - record.absent_since <= SHORT_ABSENCE_S
        record = replace(record, present=True, absent_since=None)
        if record.state is not AgentState.OFFLINE:
            return record
        if record.wants_ready and short:
            return moved(record, Move.RETURNED, now)
        return moved(record, Move.ARRIVED, now, wants_ready=False, taken=0, missed=0)

    def _left(self, record: AgentStateRecord) -> AgentStateRecord:
        now = self._now()
        record = replace(record, present=False, absent_since=now)
        if record.active or record.state is AgentState.OFFLINE:
            # A call may well outlive its registration, and a phone that changes its network registers anew while it
            # rings: the end of what holds the agent frees them.
            return record
        return moved(record, Move.LEFT, now, wrap_up_until=None)

    def _whereabouts(self, agent_id: str) -> tuple[bool, float | None]:
        """Whether a phone of the agent can be reached, and if none can, since when as far as that is known."""
        aors = [self._location.aor(device.username) for device in self._roster.devices_of(agent_id)]
        if any(self._location.bindings(aor) for aor in aors):
            return True, None
        return False, max(
            (at for aor in aors if (at := self._location.gone_at(aor)) is not None), default=None
        )

    def _known(self, agent_id: str) -> None:
        if self._roster.agent(agent_id) is None:
            raise TheirError("There is no such agent.", 404)

    def _change(
        self,
        before: AgentStateRecord,
        after: AgentStateRecord,
        reason: str,
        contact_id: str | None = None,
        *,
        promised: bool = False,
    ) -> asyncio.Future[None] | None:
        if after == before:
            return None
        self._records[after.agent_id] = after
        if after.active:
            self._held.add(after.agent_id)
        else:
            self._held.discard(after.agent_id)
        # Only what an agent has said is waited for: what a contact does to them is resolved by `load` after a crash.
        written = self._keep(after, patient=not promised)
        if after.state is not before.state or after.pending_not_ready is not before.pending_not_ready:
            self._say(before.state, after, reason, contact_id)
        for listener in tuple(self.on_change):
            try:
                listener(after.agent_id, before.state, after.state)
            except Exception:
                log.failure("A listener to agent states failed")
        return written

    def _keep(self, record: AgentStateRecord, *, patient: bool) -> asyncio.Future[None]:
        is_new = record.agent_id not in self._stored
        self._stored.add(record.agent_id)
        return self._store.keep_agent_state(record, is_new=is_new, patient=patient)

    def _say(
        self, old: AgentState, record: AgentStateRecord, reason: str, contact_id: str | None = None
    ) -> None:
        facts: dict[str, Any] = {"old": old.value, "new": record.state.value, "reason": reason}
        if record.pending_not_ready:
            facts["pending"] = AgentState.NOT_READY.value
        log_failure(
            self._events.write("agent.state_changed", agent=record.agent_id, contact=contact_id, **facts)
        )

    def _unclaim(self, agent_id: str, contact_id: str) -> None:
        def done(task: asyncio.Task[bool]) -> None:
            if self._unclaiming.get(agent_id) is task:
                del self._unclaiming[agent_id]

        task = spawn(self._shared.release(_claim(agent_id), contact_id), "releasing an agent's reservation")
        self._unclaiming[agent_id] = task
        task.add_done_callback(done)

    def _due(self, at: float, agent_id: str) -> None:
        heapq.heappush(self._deadlines, (at, agent_id))
        if self._timer is None or at < self._timer_at:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._deadlines:
            self._timer_at = self._deadlines[0][0]
            delay = max(0.0, self._timer_at - self._now())
            self._timer = self._clock.callLater(delay, self._deadline_came)

    def _deadline_came(self) -> None:
        self._timer = None
        now = self._now()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, agent_id = heapq.heappop(self._deadlines)
            record = self.of(agent_id)
            if (
                record.lease_until is not None
                and record.lease_until <= now
                and record.reserved_for is not None
            ):
                lapsed = self._without(record, record.reserved_for, 0.0)
                log_failure(
                    self._change(record, lapsed, "the reservation's lease ended", record.reserved_for)
                )
                self._unclaim(agent_id, record.reserved_for)
            elif (
                record.state is AgentState.WRAP_UP
                and record.wrap_up_until is not None
                and record.wrap_up_until <= now
            ):
                over = moved(record, settled(record), now, wrap_up_until=None)
                log_failure(self._change(record, over, "wrap-up ended"))
        # Nearly every lease is over long before its time: to be woken for each would cost more than to look now.
        while self._deadlines and not self._stands(*self._deadlines[0]):
            heapq.heappop(self._deadlines)
        self._arm()

    def _stands(self, at: float, agent_id: str) -> bool:
        """Whether a lease or a wrap-up of theirs still ends then."""
        record = self.of(agent_id)
        return at in (record.lease_until, record.wrap_up_until)


def _claim(agent_id: str) -> str:
    return f"reservation/{agent_id}"
