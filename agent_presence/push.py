"""Waking a sleeping softphone (RFC 8599): the part that the RFC gives to the proxy in front of the phone.

    somebody wants the phone -> push -> its REGISTER, answered -> it can be reached, where it is now
                                     -> none in time, or no push: it sleeps

    a binding runs out soon  -> push -> its REGISTER

A wait for a phone has these endings, and no other: it came back; it did not in `wait_s`; the gateway refused, or did
not answer; its push service has forgotten it; its binding has gone; it was pushed too often; nobody waits any more
(`Waking.cancel`); the server stops.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from agent_presence.location import log_failure
from agent_presence.push_contact import REFRESH_S, PushAddress, PushServices
from config.bridge import spawn
from config.errors import WarmlineError
from config.rate_limit import RateLimit
from sip_trunk.deadlines import Deadline, Deadlines

if TYPE_CHECKING:
    from agent_presence.location import Binding, Location
    from agent_presence.roster import Roster
    from config.events import EventLog

log = Logger()

REFRESH_SPREAD_S = 60.0
"""Phones that have registered together, after a restart say, are not all woken together."""
AGAIN_S = 5.0
"""A push that was sent so many seconds ago is still on its way: no second one is."""
BURST, EVERY_S = 10, 15.0
"""So many pushes a device gets at once, and then one in so many seconds."""
MOST_RATED = 100_000
"""Devices whose pushes are counted."""
MOST_AT_ONCE = 100
"""Requests that wait for the gateway."""


class Gateway(Protocol):
    """Who has pushes sent."""

    async def send(self, to: PushAddress, why: str, good_for_s: float) -> bool:
        """`why` is "call", "message" or "refresh". False: that phone is known no more. Raises OurError."""

    async def close(self) -> None: ...


Ended = Callable[["Binding | None", str], None]
"""Gets the phone's binding as it is now, or None and why there is none; never before `Push.wake` has returned."""


class Waking:
    """Somebody waits for a phone. After `cancel` they hear nothing more."""

    __slots__ = ("_of", "deadline", "ended")

    def __init__(self, of: _Sleeper, ended: Ended) -> None:
        self._of = of
        self.ended: Ended | None = ended
        self.deadline: Deadline | None = None

    def cancel(self) -> None:
        self.ended = None
        self.end(None, "")

    def end(self, binding: Binding | None, why: str) -> None:
        ended, self.ended = self.ended, None
        if self.deadline is not None:
            self.deadline.cancel()
        self._of.waiting.discard(self)
        if not self._of.waiting:
            self._of.unwanted(self._of)
        if ended is not None:
            try:
                ended(binding, why)
            except Exception:
                log.failure("Somebody who waited for a phone could not go on")


class _Sleeper:
    """A phone that somebody waits for, and when it was pushed last."""

    def __init__(self, binding: Binding, address: PushAddress, unwanted: Callable[[_Sleeper], None]) -> None:
        self.binding = binding
        self.address = address
        self.unwanted = unwanted
        self.waiting: set[Waking] = set()
        self.pushed_at: float | None = None

    def is_it(self, binding: Binding) -> bool:
        """Whether this is the phone, wherever it is now (RFC 8599 s5.6.2: known by what it is woken by)."""
        if binding.key == self.binding.key or binding.push == self.address:
            return True
        return binding.instance is not None and binding.instance == self.binding.instance


class Push:
    """Wakes the phones that `services` reach, by the gateway. `location` tells what goes; `registered` is to be called
    with each binding whose REGISTER was answered 200. Times in seconds; `now` is epoch seconds."""

    def __init__(
        self,
        gateway: Gateway,
        services: PushServices,
        location: Location,
        roster: Roster,
        events: EventLog,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        wait_s: float,
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._gateway = gateway
        self.wakes = services.wake
        self._location = location
        self._roster = roster
        self._events = events
        self._now = now
        self._wait_s = wait_s
        self._spread = spread
        self._deadlines = Deadlines(clock)
        self._sleepers: dict[str, list[_Sleeper]] = {}  # by address of record, while somebody waits
        self._refreshes: dict[tuple[str, str], Deadline] = {}  # by address of record and key
        self._rate = RateLimit(BURST, 1.0 / EVERY_S, now, remembered=MOST_RATED)  # by device
        self._sending: set[asyncio.Task[None]] = set()
        self._stopped = False
        location.on_change.append(self._bindings_changed)

    def start(self) -> None:
        """Keep alive what the location has loaded."""
        for binding in self._location.everything():
            self._plan(binding)

    async def stop(self) -> None:
        """No more pushes; whoever waits is told."""
        self._stopped = True
        for sleepers in tuple(self._sleepers.values()):
            for sleeper in tuple(sleepers):
                self._end(sleeper, None, "the server stops")
        for task in tuple(self._sending):
            task.cancel()
        self._deadlines.stop()
        self._refreshes.clear()
        await self._gateway.close()

    def wake(self, binding: Binding, why: str, ended: Ended) -> Waking:
        """Push, and tell `ended` when the phone is back or will not be, within `wait_s` at the latest.

        `why` is "call" or "message". Who waits for a phone that was pushed just now gets no push of their own.
        """
        address = binding.push
        sleeper = self._sleeper(binding, address or PushAddress("", ""))
        waking = Waking(sleeper, ended)
        sleeper.waiting.add(waking)
        fault = ""
        if address is None or not self.wakes(binding):
            fault = "it cannot be woken"
        elif self._stopped:
            fault = "the server stops"
        elif sleeper.pushed_at is None or self._now() - sleeper.pushed_at >= AGAIN_S:
            fault = self._push(sleeper.binding, address, why, sleeper)
        wait_s = self._wait_s if not fault else 0.0
        said = fault or f"it did not come back within {self._wait_s:g} s of a push"
        waking.deadline = self._deadlines.after(wait_s, lambda: waking.end(None, said))
        return waking

    def registered(self, binding: Binding) -> None:
        """Its REGISTER was answered 200: the phone is awake, and reached by this."""
        for sleeper in tuple(self._sleepers.get(binding.aor, ())):
            if sleeper.is_it(binding):
                self._end(sleeper, binding, "")
        self._plan(binding)

    # Who waits for which phone

    def _sleeper(self, binding: Binding, address: PushAddress) -> _Sleeper:
        sleepers = self._sleepers.setdefault(binding.aor, [])
        found = next((each for each in sleepers if each.address == address), None)
        if found is None:
            found = _Sleeper(binding, address, self._forget)
            sleepers.append(found)
        return found

    def _end(self, sleeper: _Sleeper, binding: Binding | None, why: str) -> None:
        self._forget(sleeper)
        for waking in tuple(sleeper.waiting):
            waking.end(binding, why)

    def _forget(self, sleeper: _Sleeper) -> None:
        aor = sleeper.binding.aor
        left = [each for each in self._sleepers.get(aor, ()) if each is not sleeper]
        if left:
            self._sleepers[aor] = left
        else:
            self._sleepers.pop(aor, None)

    def _bindings_changed(self, aor: str, added: Sequence[Binding], removed: Sequence[Binding]) -> None:
        known = self._location.all_bindings(aor)
        for binding in removed:
            if binding.key in known:
                continue
            planned = self._refreshes.pop((aor, binding.key), None)
            if planned is not None:
                planned.cancel()
            for sleeper in tuple(self._sleepers.get(aor, ())):
                if sleeper.binding is binding and not any(sleeper.is_it(each) for each in known.values()):
                    self._end(sleeper, None, "its registration is gone")

    # Keeping bindings alive (RFC 8599 s5.5)

    def _plan(self, binding: Binding) -> None:
        key = (binding.aor, binding.key)
        planned = self._refreshes.pop(key, None)
        if planned is not None:
            planned.cancel()
        if self._stopped or not self.wakes(binding):
            return
        lead_s = self._spread(REFRESH_S - REFRESH_SPREAD_S, REFRESH_S)
        wait_s = max(0.0, binding.expires_at - lead_s - self._now())
        self._refreshes[key] = self._deadlines.after(wait_s, lambda: self._refresh(key))

    def _refresh(self, key: tuple[str, str]) -> None:
        self._refreshes.pop(key, None)
        aor, binding_key = key
        binding = self._location.all_bindings(aor).get(binding_key)
        if binding is None or (address := binding.push) is None:
            return
        self._push(binding, address, "refresh", None)

    # Sending

    def _push(self, binding: Binding, address: PushAddress, why: str, sleeper: _Sleeper | None) -> str:
        """Send one, if that may be; else why not."""
        if len(self._sending) >= MOST_AT_ONCE:
            fault = "too many pushes are under way"
        elif not self._rate.allows(binding.device_id or binding.aor):
            fault = "it was pushed too often"
        else:
            if sleeper is not None:
                sleeper.pushed_at = self._now()
            task = spawn(self._post(binding, address, why, sleeper), f"a push to {binding.aor}")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            return ""
        self._say("device.push_failed", binding, why, reason=fault)
        return fault

    async def _post(self, binding: Binding, address: PushAddress, why: str, sleeper: _Sleeper | None) -> None:
        good_for_s = self._wait_s if sleeper is not None else max(0.0, binding.expires_at - self._now())
        try:
            known = await self._gateway.send(address, why, good_for_s)
        except WarmlineError as error:
            self._failed(binding, why, sleeper, error.reason)
            return
        except Exception:
            self._failed(binding, why, sleeper, "a fault of ours")
            raise
        if known:
            self._say("device.pushed", binding, why)
            return
        self._failed(binding, why, sleeper, "its push service has forgotten it")
        # Nothing will ever wake it there: who is reached by nothing else must not be offered anything.
        known_as = self._location.all_bindings(binding.aor).get(binding.key)
        if known_as is binding and self._location.asleep(binding):
            log_failure(self._location.drop(binding.aor, binding.key, "its push service has forgotten it"))

    def _failed(self, binding: Binding, why: str, sleeper: _Sleeper | None, fault: str) -> None:
        self._say("device.push_failed", binding, why, reason=fault)
        if sleeper is not None:
            self._end(sleeper, None, fault)

    def _say(self, kind: str, binding: Binding, why: str, **facts: str) -> None:
        device = None if binding.device_id is None else self._roster.device(binding.device_id)
        address = binding.push
        if device is None or address is None:
            return
        log_failure(
            self._events.write(
                kind, agent=device.agent_id, device=device.id, provider=address.provider, why=why, **facts
            )
        )
