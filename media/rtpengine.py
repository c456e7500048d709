"""Rtpengine: a MediaServer whose packets rtpengine carries, told what to do by NG.

Every branch is a dialogue in rtpengine between its peer and the *studio*, which is the embedded MediaServer:

    peer <- whatever it speaks -> rtpengine <- plain RTP -> studio

So the studio agrees on codecs, plays, records and mixes as ever, and knows neither ICE nor SRTP. Two branches that are
joined take the shortcut: rtpengine is told that their peers have agreed with each other, and no packet of theirs comes
to the studio until something is wanted there again. The peers are not told; their ports and keys stay.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from twisted.logger import Logger

from config.bridge import spawn
from config.errors import OurError, TheirError, WarmlineError
from media import offer_answer, sdp
from media.client import RemoteMedia
from media.engine_calls import Branch, Call
from media.engine_dialogue import Dialogue, Interfaces, kinds_in
from media.engine_keys import KeyLog, Pressed
from media.engine_quality import Told
from media.engine_watch import Watch
from media.ng import Ng
from media.peer_address import is_loopback
from media.server import ALL_KINDS, SILENCE_S, Profile
from media.shortcut import Agreed, for_rtpengine, from_peer, shortcut, with_protocols, with_roles
from media.watched import WatchedMedia

log = Logger()

STOP_S = 3.0
_ANY = ("", "0.0.0.0", "::")  # noqa: S104
_ANY_OFFER = b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"
_COUNTED = ("packets_in", "bytes_in")
# What the studio can do while packets pass it by.
_ANYWHERE = frozenset(("compatible", "stop", "stop_recording", "pause_tap", "end_tap"))


class Rtpengine(RemoteMedia):
    """See `MediaServer`. Keys pressed by those who take the shortcut reach the other, and are told of when they are let
    go, where rtpengine's --dtmf-log-dest is `keys`, an address of ours. Of their quality see `media.engine_quality`.

    While rtpengine does not answer, requests fail with OurError(503). `on_died` is called when it, or the studio, has
    been started anew: every call is lost. `silence_s`: see `WatchedMedia`, but of browsers `media.engine_watch`.
    `interfaces` of rtpengine's, if it has more than one: that for peers, and that for the studio, which then is told
    to it by the address that we speak to it from.
    """

    def __init__(
        self,
        address: tuple[str, int],
        now: Callable[[], float] = time.monotonic,
        *,
        keys: tuple[str, int] | None = None,
        silence_s: float = SILENCE_S,
        interfaces: Interfaces | None = None,
    ) -> None:
        super().__init__()
        self.on_died: Callable[[], None] = lambda: None
        self.studio = WatchedMedia(silence_s=silence_s)
        self._silence_s = silence_s
        self._interfaces = interfaces
        self._address = address
        self._keys_at = keys
        self._key_log: KeyLog | None = None
        self._ending: dict[tuple[str, str], Told] = {}
        self._now = now
        self._ng = Ng()
        self._looking: asyncio.Task[None] | None = None
        self._calls: dict[str, Call] = {}
        self._turns: dict[str, asyncio.Task[Any]] = {}
        # rtpengine may still have calls of an earlier start of ours, under the same names.
        self._prefix = secrets.token_hex(4)
        self._tags = itertools.count()
        self._all_here = False  # peers are told a loopback address
        self._own: frozenset[str] = frozenset()
        self._told: WeakKeyDictionary[Branch, frozenset[int]] = WeakKeyDictionary()
        self._methods: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            "answer": self._answer,
            "offer": self._offer,
            "accept": self._accept,
            "answer_joined": self._answer_joined,
            "play": self._play,
            "join": self._join,
            "join_alike": self._join_alike,
            "part": self._part,
            "drop": self._drop,
            "delete": self._delete,
            "stats": self._stats,
        }

    @property
    def serving(self) -> bool:
        """False while rtpengine does not answer, or a new studio is on its way."""
        return self.studio.serving and self._ng.answering

    async def start(self, *, host: str, public: str, ports: tuple[int, int], prompts: Path) -> None:
        """Returns when both serve; the options are the studio's. Raises OurError(503)."""
        for name in [each for each in vars(self.studio) if each.startswith("on_")]:
            setattr(self.studio, name, partial(self._news, name))
        self.studio.on_gone = self._gone
        self.studio.on_quality = self._quality
        self.studio.on_died = self._lost
        try:
            self._ng = await Ng.to(*self._address)
            watch = self._watch(self._ng)
            found = await watch.begin()
        except (OSError, OurError) as error:
            self._ng.close()
            raise OurError(
                f"rtpengine does not answer at {self._address[0]}:{self._address[1]} (WARMLINE_RTPENGINE): {error}. "
                "Does it run, with --listen-ng there?",
                503,
            ) from None
        for each in self._interfaces or ():
            if each not in found:  # rtpengine would take another one without a word
                self._ng.close()
                raise OurError(
                    f"rtpengine has no interface {each!r} (WARMLINE_RTPENGINE_INTERFACES): its --interface names "
                    f"{', '.join(found) or 'none'}",
                    503,
                )
        await self._look_where_peers_are()
        if self._keys_at is not None:
            try:
                self._key_log = await KeyLog.at(self._keys_at, self._ng.host, self._pressed, self._now)
            except OurError:
                self._ng.close()
                raise
        # Where peers reach rtpengine is of no use to the studio then, which is reached by rtpengine alone.
        near = public if self._interfaces is None else host if host not in _ANY else self._ng.own_host
        await self.studio.start(host=host, public=near, ports=ports, prompts=prompts)
        self._looking = spawn(watch.go_on(), "looking after rtpengine")

    async def end(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        deleted = [self.delete(call) for call in self._calls]
        if deleted:
            await asyncio.wait(deleted, timeout=STOP_S)
        if self._key_log is not None:
            self._key_log.close()
        self._ng.close()
        await self.studio.end()

    # What is asked

    def seen_at(self, call: str, branch: str, address: str) -> asyncio.Future[None]:
        """Nothing to be done: rtpengine finds out by itself where the packets of a peer come from."""
        known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        known.set_result(None)
        return known

    def _ask(self, method: str, *arguments: Any, **keywords: Any) -> asyncio.Future[Any]:
        """What is asked of a call is done in the order it was asked, each to its end, whoever still waits for it."""
        call = arguments[0]
        work = self._methods.get(method)
        doing = work(*arguments, **keywords) if work else self._elsewhere(method, *arguments, **keywords)
        turn = asyncio.get_running_loop().create_task(_after(self._turns.get(call), doing))
        self._turns[call] = turn
        turn.add_done_callback(partial(self._turn_over, call))
        return asyncio.shield(turn)

    def _turn_over(self, call: str, turn: asyncio.Task[Any]) -> None:
        if self._turns.get(call) is turn:
            del self._turns[call]

    async def _elsewhere(self, method: str, call: str, *arguments: Any, **keywords: Any) -> Any:
        """For the studio. What is begun there may last, so this call takes no shortcut any more."""
        if method not in _ANYWHERE and call in self._calls:
            self._calls[call].shortcuts = False
            for branch in self._branches(call):
                await self._through_studio(call, branch)
        return await self.studio._ask(method, call, *arguments, **keywords)

    async def _answer(
        self,
        call: str,
        branch: str,
        offer: bytes,
        *,
        kinds: frozenset[str] = ALL_KINDS,
        like: str | None = None,
    ) -> bytes:
        description = sdp.parse(offer)
        profile, _ = offer_answer.read_offer(description, kinds)
        theirs = self._from_peer(description, profile)
        each, new = self._branch(call, branch)
        if each.agreed is not None and each.agreed.profile is not profile:
            raise TheirError("A call cannot change between plain RTP, SRTP and WebRTC", 488)
        try:
            await self._through_studio(call, each)
            inner = await each.dialogue.peer_offers(theirs.to_bytes())
            answer = await self.studio.answer(call, branch, inner, kinds=kinds, like=like)
            ours = for_rtpengine(sdp.parse(answer))
            outer = await each.dialogue.answer_peer(ours.to_bytes(), profile)
            self._told[each] = _ports_in(outer)
        except WarmlineError:
            await self._take_back(call, each, new=new)
            raise
        await self._settle(call, each, Agreed(profile, True, with_roles(theirs, outer), ours))
        return with_protocols(outer, [m.protocol for m in description.media])

    async def _offer(
        self, call: str, branch: str, *, profile: str, like: str | None = None, **wishes: Any
    ) -> bytes:
        each, new = self._branch(call, branch)
        # RFC 3264 section 8: a re-offer keeps the transport.
        wanted = each.agreed.profile if each.agreed is not None else Profile(profile)
        try:
            await self._through_studio(call, each)
            offer = await self.studio.offer(call, branch, profile=Profile.RTP, like=like, **wishes)
            ours = for_rtpengine(sdp.parse(offer))
            outer = await each.dialogue.offer_peer(ours.to_bytes(), wanted)
            self._told[each] = _ports_in(outer)
        except WarmlineError:
            await self._take_back(call, each, new=new)
            raise
        each.offered = wanted, ours
        protocols = [
            offer_answer.PROTOCOL[wanted] if "RTP/" in m.protocol else m.protocol for m in ours.media
        ]
        return with_protocols(outer, protocols)

    async def _accept(self, call: str, branch: str, answer: bytes) -> None:
        each = self._known(call, branch)
        if each is None or each.offered is None:
            await self.studio.accept(call, branch, answer)  # it says what is wrong
            return
        profile, ours = each.offered
        theirs = self._from_peer(sdp.parse(answer), profile)
        try:
            inner = await each.dialogue.peer_answers(theirs.to_bytes())
            await self.studio.accept(call, branch, inner)
        except WarmlineError:
            await self._take_back(call, each, new=False)
            raise
        await self._settle(call, each, Agreed(profile, False, theirs, ours))

    async def _answer_joined(
        self, call: str, branch: str, offer: bytes, *, peer: str, answer: bytes
    ) -> bytes:
        await self._accept(call, peer, answer)
        ours = await self._answer(call, branch, offer, like=peer)
        await self._join(call, branch, peer)
        return ours

    async def _play(self, call: str, branch: str, prompts: list[str], *, repeat: bool = False) -> float:
        await self._unpair(call, self._known(call, branch))
        return await self.studio.play(call, branch, prompts, repeat=repeat)

    async def _join(self, call: str, a: str, b: str) -> None:
        first, second = self._known(call, a), self._known(call, b)
        if first is not None and second is not None and first is not second:
            if first.peer is not second:
                await self._unpair(call, first)
                await self._unpair(call, second)
                first.peer, second.peer = second, first
            await self._take_shortcut(call, first)
        try:
            # It asks for key frames too, on the way that they will take.
            await self.studio.join(call, a, b)
        except WarmlineError:
            await self._unpair(call, first)
            raise

    async def _join_alike(self, call: str, a: str, b: str) -> bool:
        alike = await self.studio.compatible(call, a, b)
        if alike:
            await self._join(call, a, b)
        return alike

    async def _part(self, call: str, a: str, b: str) -> None:
        first, second = self._known(call, a), self._known(call, b)
        if first is not None and first.peer is second:
            await self._unpair(call, first)
        await self.studio.part(call, a, b)

    async def _drop(self, call: str, branch: str) -> None:
        each = self._known(call, branch)
        if each is not None:
            other = each.peer
            del self._calls[call].branches[branch]
            if not self._calls[call].branches:
                del self._calls[call]
            reply = await self._forget(each.dialogue.end())
            if other is not None:
                each.looked(reply, self._now())
                each.peer = other.peer = None
                each.direct = False
                await self._forget(self._through_studio(call, other))
        await self._ended(call, [each] if each is not None else [], self.studio.drop(call, branch))

    async def _delete(self, call: str) -> None:
        branches = self._branches(call)
        if self._calls.pop(call, None) is not None:
            reply = await self._forget(self._ng.ask("delete", call_id=self._name(call), delete_delay=0))
            for each in branches:
                each.looked(reply, self._now())
        await self._ended(call, branches, self.studio.delete(call))

    async def _ended(self, call: str, branches: Iterable[Branch], ending: Awaitable[None]) -> None:
        """The studio tells of the quality of those that it has heard before it says that it is done."""
        self._ending.update({(call, each.name): each.told for each in branches})
        try:
            await ending
        finally:
            for each in branches:
                self._tell_ended(call, each.name, {})

    async def _stats(self, call: str) -> dict[str, Any]:
        """What came, rtpengine has counted; of what went out, the studio knows what did not take the shortcut."""
        found = await self.studio.stats(call)
        reply = await self._ng.ask("query", call_id=self._name(call))
        came = {each.name: kinds_in(reply, each.dialogue.peer) for each in self._branches(call)}
        for branch in self._branches(call):
            branch.looked(reply, self._now())
            if branch.name in found:
                for name, facts in found[branch.name]["kinds"].items():
                    facts["quality"] = branch.told.facts(name, facts["quality"], facts["packets_in"])
        heard_last = {each.name: each.heard_last for each in self._branches(call)}
        passed_by = {
            (name, kind): {what: counted[what] - found[name]["kinds"][kind][what] for what in _COUNTED}
            for name, kinds in came.items()
            for kind, counted in kinds.items()
            if name in found and kind in found[name]["kinds"]
        }
        for name, kind in passed_by:
            ours, theirs = found[name]["kinds"][kind], came[name][kind]
            ours.update(theirs)
            heard = passed_by.get((heard_last[name], kind), {})
            ours["packets_out"] += heard.get("packets_in", 0)
            ours["bytes_out"] += heard.get("bytes_in", 0)
        return found

    # Where peers are

    async def _look_where_peers_are(self) -> None:
        """By what it tells them, which behind a NAT is not where it listens: as if one were offered to."""
        asked = Dialogue(self._ng, self._name(""), "peer", self._interfaces)
        try:
            told = sdp.parse(await asked.offer_peer(_ANY_OFFER, Profile.RTP)).media[0].address
            await asked.end()
            found = (await self._ng.ask("statistics"))["statistics"].get("interfaces", ())
            self._own = frozenset((told, *(str(each["address"], "utf-8", "replace") for each in found)))
        except (WarmlineError, LookupError, TypeError) as error:
            log.warn("Where rtpengine's peers are is not known: {error}", error=error)
        else:
            self._all_here = is_loopback(told)

    def _from_peer(self, description: sdp.SessionDescription, profile: Profile) -> sdp.SessionDescription:
        """As rtpengine is told of it. Raises TheirError(488) where nothing may be sent."""
        theirs = from_peer(description, profile, all_here=self._all_here)
        named = {(each.address, each.port) for each in theirs.media}
        named |= {(each.rtcp_address or each.address, each.rtcp_port or 0) for each in theirs.media}
        here = {port for address, port in named if address in self._own}
        if here and any(here & ports for ports in self._told.values()):
            # A call of ours that came back to us with nobody's media between, or a circle of packets to be.
            raise TheirError("The media address is one of this server's own", 488)
        return for_rtpengine(theirs)

    # Ways

    async def _settle(self, call: str, each: Branch, agreed: Agreed) -> None:
        """Offer and answer are both known."""
        if each.agreed is None:
            # What is played must not begin before ICE and DTLS are done, of which we are not told.
            waits = agreed.profile in (Profile.WEBRTC, Profile.DTLS)
            await self.studio._ask("behind", call, each.name, waits=waits)
        each.agreed, each.offered = agreed, None
        each.begins_to_be_heard(self._now())
        await self._take_shortcut(call, each)

    async def _take_shortcut(self, call: str, a: Branch) -> None:
        b = a.peer
        if b is None or a.direct or a.agreed is None or b.agreed is None:
            return
        if call not in self._calls or not self._calls[call].shortcuts or a.is_tired_of(b) or b.is_tired_of(a):
            return
        words = shortcut(a.agreed, b.agreed)
        if words is None:
            return
        a.direct = b.direct = True
        for one, other in ((a, b), (b, a)):
            one.direct_since = self._now()
            one.begins_to_be_heard(one.direct_since)
            one.told.begins(one.direct_since, time.time(), again=other.name in one.heard)
            one.heard.add(other.name)
            one.heard_last = other.name
        try:
            await a.dialogue.connect(words[0], a.agreed.profile, b.dialogue, words[1], b.agreed.profile)
        except WarmlineError as error:
            log.warn("{call} goes through the studio: {error}", call=call, error=error.reason)
            await self._through_studio(call, a)

    async def _through_studio(self, call: str, each: Branch) -> None:
        """The way back from the shortcut."""
        for one in (each, each.peer):
            if one is not None and one.direct:
                one.direct = False
                if one.agreed is not None:
                    await one.dialogue.restore(one.agreed)
                    await self.studio._ask("behind", call, one.name, waits=False)

    async def _unpair(self, call: str, each: Branch | None) -> None:
        if each is not None and each.peer is not None:
            await self._through_studio(call, each)
            each.peer.peer = None
            each.peer = None

    async def _take_back(self, call: str, each: Branch, *, new: bool) -> None:
        """What was begun has failed: a new branch is not there, another is as it was."""
        if new:
            await self._drop(call, each.name)
        elif each.agreed is not None:
            await self._forget(each.dialogue.restore(each.agreed))
            await self._take_shortcut(call, each)

    async def _forget(self, work: Awaitable[Any]) -> Any:
        """Undo something, where it is still there; what was said to that."""
        try:
            return await work
        except WarmlineError as error:
            log.info("What is over could not be told: {error}", error=error.reason)
            return None

    def _name(self, call: str) -> str:
        return f"{self._prefix}-{call}"

    def _branches(self, call: str) -> tuple[Branch, ...]:
        return tuple(self._calls[call].branches.values()) if call in self._calls else ()

    def _known(self, call: str, branch: str) -> Branch | None:
        return self._calls[call].branches.get(branch) if call in self._calls else None

    def _branch(self, call: str, branch: str) -> tuple[Branch, bool]:
        """That branch, and whether it is new."""
        known = self._known(call, branch)
        if known is not None:
            return known, False
        tag = f"{branch}.{next(self._tags)}"  # a name that was deleted is not given again
        each = Branch(branch, Dialogue(self._ng, self._name(call), tag, self._interfaces))
        self._calls.setdefault(call, Call()).branches[branch] = each
        return each, True

    # What comes by itself

    def _news(self, name: str, *facts: Any) -> None:
        getattr(self, name)(*facts)

    def _gone(self, call: str, branch: str, why: str) -> None:
        each = self._known(call, branch)
        # The studio hears nothing of those who take the shortcut.
        if each is None or not each.direct:
            self.on_gone(call, branch, why)

    def _quality(self, call: str, branch: str, what: str, qualities: dict[str, Any]) -> None:
        """The studio's news of what it hears."""
        if what == "ended":
            self._tell_ended(call, branch, qualities)
            return
        each = self._known(call, branch)
        if each is not None and what == "silent":
            if each.direct:
                return  # to the studio alone
        elif each is not None:
            each.told.judge.poor = what == "poor"
        self.on_quality(call, branch, what, qualities)

    def _tell_ended(self, call: str, branch: str, studios: dict[str, Any]) -> None:
        told = self._ending.pop((call, branch), None)
        qualities = told.kept(studios) if told is not None else studios
        if qualities:
            self.on_quality(call, branch, "ended", qualities)

    def _pressed(self, pressed: Pressed) -> None:
        prefix, _, call = pressed.call.partition("-")
        if prefix != self._prefix:
            return
        for each in self._branches(call):
            # What is heard by the studio, the studio tells.
            if each.direct and each.dialogue.peer == pressed.tag:
                if each.presses.is_new(pressed, self._now(), each.direct_since):
                    self.on_keys(call, each.name, pressed.key)
                return

    def _watch(self, ng: Ng) -> Watch:
        return Watch(
            ng,
            self._calls,
            self._name,
            self._now,
            silence_s=self._silence_s,
            on_lost=self._lost,
            on_gone=self._tell_gone,
            on_quality=partial(self._news, "on_quality"),
        )

    def _lost(self) -> None:
        """rtpengine or the studio knows no call any more; the other one forgets them too."""
        calls = list(self._calls)
        self._calls.clear()
        for call in calls:
            spawn(self._end_call(call), f"forgetting {call}")
        # Whatever becomes of that, we go on looking.
        asyncio.get_running_loop().call_soon(self.on_died)

    async def _end_call(self, call: str) -> None:
        await self._forget(self._ng.ask("delete", call_id=self._name(call), delete_delay=0))
        await self._forget(self.studio.delete(call))

    def _tell_gone(self, call: str, branch: str, why: str) -> None:
        asyncio.get_running_loop().call_soon(self.on_gone, call, branch, why)


def _ports_in(description: bytes) -> frozenset[int]:
    media = [each for each in sdp.parse(description).media if not each.refused]
    return frozenset(port for each in media for port in (each.port, each.rtcp_port or each.port + 1))


async def _after(previous: asyncio.Task[Any] | None, work: Coroutine[Any, Any, Any]) -> Any:
    if previous is not None:
        await asyncio.wait((previous,))
    return await work
