"""Where every address of record can be reached now: its Bindings (RFC 3261 s10), agents' and customers' alike.

Bindings live in memory and are stored, so that phones reached over UDP can be rung at once after a restart. One that
came by a connection is good only as long as that connection, unless its phone can be woken by a push: then it is asleep
until it expires.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from agent_presence.push_contact import PushAddress, push_address, without_prid
from sip_trunk.sip.uri import SipUri

if TYPE_CHECKING:
    from agent_presence.roster import Roster
    from agent_presence.store import PresenceStore
    from config.events import EventLog

log = Logger()

SWEEP_S = 1.0

BindingsListener = Callable[[str, Sequence["Binding"], Sequence["Binding"]], None]


@dataclass(slots=True)
class Binding:
    """One address that an address of record stands for now, and the way by which it is reached.

    `key` is what makes a later registration the same binding. `flow_token` names the flow it came by, in words that
    only sip_trunk understands. `features` are the feature tags of its Contact (RFC 3840), "TRUE" for one without a
    value. `device_id` is None for a customer's. Times are epoch seconds. A refresh changes `expires_at`, `call_id` and
    `cseq`; all else stays as it was registered.
    """

    aor: str
    key: str
    contact_uri: str
    flow_token: str
    transport: str
    source_ip: str
    source_port: int
    expires_at: float
    registered_at: float
    call_id: str
    cseq: int
    q: float = 1.0
    path: tuple[str, ...] = ()
    instance: str | None = None
    reg_id: int | None = None
    user_agent: str = ""
    features: Mapping[str, str] = field(default_factory=dict)
    device_id: str | None = None

    @property
    def push(self) -> PushAddress | None:
        """How the phone wants to be woken, None if not at all."""
        return push_address(self.contact_uri)


class Location:
    """The bindings of every address of record.

    `flow_alive` says of a token whether that flow can still be used; it is asked only about connections. `wakes` says
    whether there is a way to wake the phone of a binding.
    `on_change` listeners get (address of record, bindings added, bindings removed), once per change and after it is in
    memory; a binding replaced by its successor is in both. A mere refresh is no change.
    """

    def __init__(
        self,
        store: PresenceStore,
        events: EventLog,
        roster: Roster,
        *,
        domain: str,
        clock: IReactorTime,
        now: Callable[[], float],
        flow_alive: Callable[[str], bool],
        wakes: Callable[[Binding], bool] = lambda binding: False,
    ) -> None:
        self._store = store
        self._events = events
        self._roster = roster
        self._domain = domain.lower()
        self._clock = clock
        self._now = now
        self._flow_alive = flow_alive
        self._wakes = wakes
        self._bindings: dict[str, dict[str, Binding]] = {}
        self._by_flow: dict[str, set[tuple[str, str]]] = {}
        self._gone_at: dict[str, float] = {}
        # One entry a binding: when it comes up and the binding was refreshed meanwhile, it goes back in.
        self._expiries: list[tuple[float, str, str]] = []
        self._expiry_of: dict[tuple[str, str], float] = {}
        self._refreshed: dict[tuple[str, str], Binding] = {}
        self._timer: IDelayedCall | None = None
        self._unstored: set[str] = set()  # addresses of which what is stored is not what is known here
        self.on_change: list[BindingsListener] = []

    def aor(self, username: str) -> str:
        """The address of record of a user of ours."""
        return _aor(username, self._domain)

    async def load(self) -> None:
        """Take up the stored bindings that can still be used, forget the others, and start sweeping."""
        now = self._now()
        lost: list[Binding] = []
        for binding in await self._store.bindings():
            if binding.expires_at <= now or not self._reachable(binding):
                lost.append(binding)
                # A connection died with the server at the latest; when exactly is not known.
                self._gone_at[binding.aor] = max(
                    self._gone_at.get(binding.aor, 0.0), min(now, binding.expires_at)
                )
            else:
                self._put(binding)
        if lost:
            await self._store.change_bindings((), lost)
        self._timer = self._clock.callLater(SWEEP_S, self._sweep)

    async def stop(self) -> None:
        """Stop sweeping, and store what was refreshed."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        written = self._store_refreshed()
        if written is not None:
            await written

    def bindings(self, aor: str, now: float | None = None) -> tuple[Binding, ...]:
        """Bindings that can be used now: the most wanted first (q), then the awake, then the latest registered."""
        known = self._bindings.get(aor)
        if not known:
            return ()
        moment = self._now() if now is None else now
        usable = [each for each in known.values() if each.expires_at > moment and self._reachable(each)]
        if len(usable) > 1:
            usable.sort(key=lambda each: (-each.q, self.asleep(each), -each.registered_at))
        return tuple(usable)

    def all_bindings(self, aor: str) -> Mapping[str, Binding]:
        """Every binding that has not been removed yet, by key: for the registrar."""
        return self._bindings.get(aor, {})

    def asleep(self, binding: Binding) -> bool:
        """Whether its connection is gone, so that the phone is reached by nothing but a push."""
        return binding.transport != "UDP" and not self._flow_alive(binding.flow_token)

    def everything(self) -> Iterator[Binding]:
        """Every binding of everybody."""
        for known in self._bindings.values():
            yield from known.values()

    def gone_at(self, aor: str) -> float | None:
        """When the last binding of an address went, None while there is one or if there never was."""
        return None if aor in self._bindings else self._gone_at.get(aor)

    def bind(self, aor: str, binding: Binding) -> asyncio.Future[None]:
        """Add a binding, or replace the one with the same key. In memory at once; the future resolves when stored."""
        return self.change(aor, (binding,), (), "registered")

    def drop(self, aor: str, key: str, reason: str) -> asyncio.Future[None] | None:
        """Remove a binding; None when there is none."""
        binding = self._bindings.get(aor, {}).get(key)
        return None if binding is None else self.change(aor, (), (binding,), reason)

    def change(
        self, aor: str, added: Sequence[Binding], removed: Sequence[Binding], reason: str
    ) -> asyncio.Future[None]:
        """Add and remove at once, so that nobody sees a phone gone between its old binding and its new one."""
        replaced = [old for new in added if (old := self._bindings.get(aor, {}).get(new.key)) is not None]
        gone = [*removed, *(old for old in replaced if old not in removed)]
        for binding in gone:
            self._take(binding)
        for binding in added:
            self._put(binding)
        if aor not in self._bindings and any(binding.device_id is not None for binding in gone):
            # Customers' addresses are made up anew for each of their pages: nobody asks when one went.
            self._gone_at[aor] = self._now()
        written = self._written(aor, self._store.change_bindings(added, removed))
        self._say(added, gone, reason)
        for listener in tuple(self.on_change):
            try:
                listener(aor, added, gone)
            except Exception:
                log.failure("A listener to bindings failed")
        return written

    def store_again(self, aor: str) -> asyncio.Future[None] | None:
        """Store an address again of which a write has failed; None when there is none to make up for."""
        if aor not in self._unstored:
            return None
        self._unstored.discard(aor)
        known = tuple(self._bindings.get(aor, {}).values())
        return self._written(aor, self._store.replace_bindings(aor, known))

    def _written(self, aor: str, written: asyncio.Future[None]) -> asyncio.Future[None]:
        def look(done: asyncio.Future[None]) -> None:
            if done.cancelled() or done.exception() is not None:
                self._unstored.add(aor)

        written.add_done_callback(look)
        return written

    def refresh(self, binding: Binding, expires_at: float, call_id: str, cseq: int) -> None:
        """Let a binding live on.

        Stored with all others of the same second: a crash before that only makes the binding expire as if this refresh
        had not come, which phones have to live with anyway (RFC 3261 s10.2.4), and costs a disk nothing per REGISTER.
        """
        binding.expires_at, binding.call_id, binding.cseq = expires_at, call_id, cseq
        key = (binding.aor, binding.key)
        if self._expiry_of.get(key, 0.0) > expires_at:
            self._watch(binding)  # a phone may ask for less than before
        self._refreshed[key] = binding

    def flow_closed(self, token: str) -> None:
        """A connection ended, and every binding that came by it (RFC 5626 s5.3), but for phones that can be woken."""
        by_aor: dict[str, list[Binding]] = {}
        for aor, key in self._by_flow.pop(token, ()):
            binding = self._bindings.get(aor, {}).get(key)
            if binding is None or binding.flow_token != token:
                continue
            if self._wakes(binding):
                self._say_of("device.asleep", binding, "the connection ended")
            else:
                by_aor.setdefault(aor, []).append(binding)
        for aor, bindings in by_aor.items():
            log_failure(self.change(aor, (), bindings, "the connection ended"))

    def username(self, aor: str) -> str | None:
        """The user of an address of record of ours, None for a foreign one."""
        user, at, domain = aor.removeprefix("sip:").rpartition("@")
        if not at or domain != self._domain:
            return None
        return unquote(user) if "%" in user else user

    def _reachable(self, binding: Binding) -> bool:
        return not self.asleep(binding) or self._wakes(binding)

    def _put(self, binding: Binding) -> None:
        self._bindings.setdefault(binding.aor, {})[binding.key] = binding
        self._by_flow.setdefault(binding.flow_token, set()).add((binding.aor, binding.key))
        watched = self._expiry_of.get((binding.aor, binding.key))
        if watched is None or watched > binding.expires_at:
            self._watch(binding)

    def _watch(self, binding: Binding) -> None:
        self._expiry_of[binding.aor, binding.key] = binding.expires_at
        heapq.heappush(self._expiries, (binding.expires_at, binding.aor, binding.key))

    def _take(self, binding: Binding) -> None:
        known = self._bindings.get(binding.aor)
        if known is None or known.pop(binding.key, None) is None:
            return
        if not known:
            del self._bindings[binding.aor]
        self._refreshed.pop((binding.aor, binding.key), None)
        by_flow = self._by_flow.get(binding.flow_token)
        if by_flow is not None:
            by_flow.discard((binding.aor, binding.key))
            if not by_flow:
                del self._by_flow[binding.flow_token]

    def _sweep(self) -> None:
        now = self._now()
        expired: dict[str, list[Binding]] = {}
        while self._expiries and self._expiries[0][0] <= now:
            at, aor, key = heapq.heappop(self._expiries)
            if self._expiry_of.get((aor, key)) != at:
                continue
            del self._expiry_of[aor, key]
            binding = self._bindings.get(aor, {}).get(key)
            if binding is None:
                continue
            if binding.expires_at > now:
                self._watch(binding)
            else:
                expired.setdefault(aor, []).append(binding)
        for aor, bindings in expired.items():
            log_failure(self.change(aor, (), bindings, "expired"))
        log_failure(self._store_refreshed())
        self._make_up()
        self._timer = self._clock.callLater(SWEEP_S, self._sweep)

    def _make_up(self, before: asyncio.Future[None] | None = None) -> None:
        """For writes that failed: one at a time, so that a database that refuses is asked once a sweep."""
        if self._unstored and (before is None or (not before.cancelled() and before.exception() is None)):
            written = self.store_again(next(iter(self._unstored)))
            if written is not None:
                log_failure(written)
                written.add_done_callback(self._make_up)

    def _store_refreshed(self) -> asyncio.Future[None] | None:
        if not self._refreshed:
            return None
        bindings = list(self._refreshed.values())
        self._refreshed.clear()
        return self._store.refresh_bindings(bindings)

    def _say(self, added: Sequence[Binding], gone: Sequence[Binding], reason: str) -> None:
        successors = {binding.key for binding in added}
        for kind, bindings in (
            ("device.unregistered", [binding for binding in gone if binding.key not in successors]),
            ("device.registered", added),
        ):
            for binding in bindings:
                self._say_of(kind, binding, reason)

    def _say_of(self, kind: str, binding: Binding, reason: str) -> None:
        device = None if binding.device_id is None else self._roster.device(binding.device_id)
        if device is None:
            return
        facts: dict[str, Any] = {
            "device": device.id,
            "username": device.username,
            "contact_uri": without_prid(binding.contact_uri),
            "transport": binding.transport,
            "source": f"{binding.source_ip}:{binding.source_port}",
            "user_agent": binding.user_agent,
            "features": dict(binding.features),
            "reason": reason,
        }
        log_failure(self._events.write(kind, agent=device.agent_id, **facts))


@lru_cache(maxsize=4096)
def _aor(username: str, domain: str) -> str:
    return SipUri(user=username, host=domain).aor


def log_failure(written: asyncio.Future[None] | None) -> None:
    """Take note of a write that nobody waits for; `None` is one that was not needed."""
    if written is not None:
        written.add_done_callback(_look)


def _look(written: asyncio.Future[None]) -> None:
    if not written.cancelled() and (error := written.exception()) is not None:
        log.error("Presence was not stored: {error}", error=error)
