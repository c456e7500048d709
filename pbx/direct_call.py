"""What is known of one direct call, and of the two in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pbx.leg import Leg
from pbx.prompt import Prompt


@dataclass(slots=True, eq=False)
class Party:
    """One side of a direct call. `shown` is its address as events tell it, `from_` as a phone is shown it; `agent_id`
    None: somebody outside, who was called through `trunk`, or called."""

    shown: str
    from_: str
    agent_id: str | None = None
    trunk: str | None = None
    leg: Leg | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and as whom the callee's phone shows them."""

    shown: str
    from_: str
    agent_id: str | None = None
    trunk: str | None = None


@dataclass(slots=True, eq=False)
class DirectCall:
    id: str
    media_call: str
    session: str | None
    caller: Party
    callee: Party
    offer: bytes = b""  # the caller's; empty: they left it to us to offer
    prompt: Prompt | None = None
    answer: bytes = b""
    their_answer: bytes = b""  # the callee's latest
    answering: asyncio.Future[bytes] | None = None  # what we make of it for the caller
    rang: bool = False
    heard_early: bool = False  # the caller has our answer already, and hears what the callee's side plays
    connected_at: float | None = None
    over: bool = False
    branches: int = 0
    leaving: Party | None = None  # who passes the other party on, and may go before that is settled
    arranged_by: str | None = (
        None  # the agent who left it last: theirs to answer for when nobody else of us is in it
    )

    @property
    def parties(self) -> tuple[Party, Party]:
        return self.caller, self.callee

    def other(self, party: Party) -> Party:
        return self.callee if party is self.caller else self.caller

    def side(self, party: Party) -> str:
        return "caller" if party is self.caller else "callee"

    def put(self, new: Party, leaving: Party) -> None:
        """The one in the other's place."""
        if leaving is self.caller:
            self.caller = new
        else:
            self.callee = new

    def next_branch(self) -> str:
        self.branches += 1
        return f"{self.id}-{self.branches}"
