"""The registrar: REGISTER, step by step as RFC 3261 s10.3 has it, with RFC 5626's instances, RFC 3327's Path, and what
RFC 8599 s5.6.1 has the proxy say of pushes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard

from twisted.logger import Logger

from agent_presence import push_contact
from agent_presence.capability import from_options, tells_enough
from agent_presence.location import Binding
from agent_presence.push_contact import PushServices
from sip_trunk.locate import is_numeric
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.header_values import NameAddr
from sip_trunk.sip.option_tags import names, supports
from sip_trunk.sip.uri import SipUri, Uri, parse_uri

if TYPE_CHECKING:
    from agent_presence.location import Location
    from agent_presence.roster import Roster
    from sip_trunk.authentication import Challenge
    from sip_trunk.flow import Flow
    from sip_trunk.sip.message import Request, Response
    from sip_trunk.user_agent import IncomingRequest

log = Logger()

MIN_EXPIRES_S = 60
DEFAULT_EXPIRES_S = 300
MAX_EXPIRES_S = 3600
MAX_BINDINGS = 10
FLOW_TIMER_S = {True: 120, False: 30}
"""How often a phone is asked to show that its flow is alive (RFC 5626 s4.4): by a connection, by UDP. NATs forget a UDP
flow much sooner."""
_SUPPORTED = frozenset({"path", "outbound", "gruu"})
_STORED = frozenset({"call-id", "contact", "path"})

Headers = list[tuple[str, str]]


class Refusal(Exception):
    """A REGISTER that is answered with something else than 200."""

    def __init__(
        self, status: int, reason: str | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = headers


class Registrar:
    """Answers REGISTER for the users of `domains`; hand `on_register` to the user agent.

    `authenticate` says whose password a request proves, or what to refuse it with. `domains` are names in lower case;
    numeric addresses are ours without saying so. `probe` asks a phone by OPTIONS what it can do, and gives the answer
    to `learn`; it is called once for every new binding of a device whose tags do not tell, after the 200 has gone out.
    `push` are the services that agents' phones are woken by. `on_registered` listeners get each binding that was added
    or refreshed, after its 200.
    """

    def __init__(
        self,
        authenticate: Callable[[Request, Flow], str | Challenge],
        location: Location,
        roster: Roster,
        *,
        domains: Container[str],
        now: Callable[[], float],
        probe: Callable[[Binding], None] | None = None,
        push: PushServices | None = None,
    ) -> None:
        self._authenticate = authenticate
        self._location = location
        self._roster = roster
        self._domains = domains
        self._now = now
        self.probe = probe
        self._push = push or PushServices()
        self.on_registered: list[Callable[[Binding], None]] = []

    def on_register(self, incoming: IncomingRequest) -> None:
        """Answer one REGISTER."""
        try:
            self._register(incoming)
        except Refusal as refusal:
            incoming.respond(refusal.status, refusal.reason, headers=refusal.headers)
        except BadMessage as error:
            incoming.respond(error.status, error.reason)

    def challenge(self, request: Request, flow: Flow) -> Sequence[tuple[str, str]] | None:
        """What a REGISTER that brings no proof is asked with, for `TransactionLayer.challenges`; None where it is to
        come to `on_register`, which says what else is wrong with it first."""
        keys = request.headers.keys
        if "require" in keys or "replaces" in keys or request.body or not self._is_ours(request.uri):
            return None
        who = self._authenticate(request, flow)
        return None if isinstance(who, str) or who.status != 401 else who.headers

    async def learn(self, device_id: str, response: Response) -> None:
        """Note what a phone's answer to OPTIONS says of it; a refusal or no answer says nothing."""
        learnt = from_options(response)
        if learnt and self._roster.device(device_id) is not None:
            await self._roster.learn(device_id, learnt)

    def _register(self, incoming: IncomingRequest) -> None:
        request = incoming.message
        self._check_ours(request)  # steps 1 and 2
        who = self._authenticate(request, incoming.flow)  # step 3
        if not isinstance(who, str):
            raise Refusal(who.status, headers=who.headers)
        to = request.to.uri
        if not isinstance(to, SipUri):
            raise Refusal(400, "To is no address of record")  # RFC 4475 s3.3.4
        if not self._is_ours(to):
            raise Refusal(404)  # step 5
        if to.user != who:
            raise Refusal(403, "That is not your address")  # step 4
        _check_text(request)
        outbound = _by_outbound(request)
        aor = self._location.aor(who)

        added: list[Binding] = []
        refreshed: list[Binding] = []
        if request.contact_star:
            removed = self._all_out(request, aor)  # step 6
        else:
            added, removed, refreshed = self._changes(incoming, aor, who)  # step 7
        written = None
        if added or removed:
            written = self._location.change(aor, added, removed, "registered" if added else "unregistered")
        # What an earlier REGISTER was answered 500 for is in memory, and so looks like a refresh, or like gone already.
        written = self._location.store_again(aor) or written
        if written is None:
            self._answer(incoming, aor, outbound)
            self._registered(refreshed)
            return
        if incoming.flow.reliable:
            incoming.flow.on_closed.add(self._flow_closed)
        written.add_done_callback(lambda done: self._stored(done, incoming, aor, outbound, added, refreshed))

    def _flow_closed(self, flow: Flow) -> None:
        self._location.flow_closed(flow.token)

    def _is_ours(self, uri: Uri) -> TypeGuard[SipUri]:
        # Phones are often set up with whatever address reached us; digest says who they are, not the domain.
        if not isinstance(uri, SipUri):
            return False
        host = uri.host.lower()
        return host in self._domains or host == "localhost" or is_numeric(host)

    def _check_ours(self, request: Request) -> None:
        if not self._is_ours(request.uri):
            raise Refusal(404, "Not a domain of ours")
        if "require" in request.headers.keys:
            unknown = [tag for tag in request.headers.all("Require") if tag.lower() not in _SUPPORTED]
            if unknown:
                raise Refusal(420, headers=[("Unsupported", ", ".join(unknown))])

    def _all_out(self, request: Request, aor: str) -> list[Binding]:
        if request.expires != 0:
            raise Refusal(400, "Contact * goes with Expires 0")
        known = list(self._location.all_bindings(aor).values())
        for binding in known:
            _check_order(binding, request)
        return known

    def _changes(
        self, incoming: IncomingRequest, aor: str, username: str
    ) -> tuple[list[Binding], list[Binding], list[Binding]]:
        """What is new, what goes, what is refreshed. That is done when this returns, but only if nothing is refused."""
        contacts = incoming.message.contacts
        known = self._location.all_bindings(aor)
        added: list[Binding] = []
        removed: list[Binding] = []
        refreshed: list[tuple[Binding, int]] = []
        services = self._services_of(username)
        for contact in contacts:
            uri = contact.uri
            if not isinstance(uri, SipUri):
                raise Refusal(400, "A Contact must be a SIP address")
            expires = _expires(contact, incoming.message, services.reach(str(uri)))
            if expires > 0 and services.refuses(uri, incoming.message):
                raise Refusal(555, "Push Notification Service Not Supported")
            key = _key(uri, contact.instance, _reg_id(contact), known)
            old = known.get(key)
            if old is not None:
                _check_order(old, incoming.message)
                if expires == 0:
                    removed.append(old)
                elif _is_refresh(old, contact, incoming):
                    refreshed.append((old, expires))
                else:
                    added.append(self._binding(incoming, aor, username, contact, key, expires))
            elif expires > 0:
                binding = self._binding(incoming, aor, username, contact, key, expires)
                added.append(binding)
                removed += _twins(binding, known.values()) if len(contacts) == 1 else []
        if added:
            removed += _crowded_out(known, added, [binding for binding, _ in refreshed], removed)
        request, now = incoming.message, self._now()
        for binding, expires in refreshed:
            self._location.refresh(binding, now + expires, request.call_id, request.cseq.number)
        return added, removed, [binding for binding, _ in refreshed]

    def _services_of(self, username: str | None) -> PushServices:
        known = username is not None and self._roster.device_by_username(username) is not None
        return self._push if known else PushServices()

    def _binding(
        self,
        incoming: IncomingRequest,
        aor: str,
        username: str,
        contact: NameAddr,
        key: str,
        expires: int,
    ) -> Binding:
        request, flow = incoming.message, incoming.flow
        device = self._roster.device_by_username(username)
        now = self._now()
        return Binding(
            aor=aor,
            key=key,
            contact_uri=str(contact.uri),
            flow_token=flow.token,
            transport=flow.transport,
            source_ip=flow.peer[0],
            source_port=flow.peer[1],
            expires_at=now + expires,
            registered_at=now,
            call_id=request.call_id,
            cseq=request.cseq.number,
            q=contact.q,
            path=_path(request),
            instance=contact.instance,
            reg_id=_reg_id(contact),
            user_agent=_user_agent(request),
            features=contact.features(),
            device_id=None if device is None else device.id,
        )

    def _stored(
        self,
        done: asyncio.Future[None],
        incoming: IncomingRequest,
        aor: str,
        outbound: bool,
        added: Sequence[Binding],
        refreshed: Sequence[Binding],
    ) -> None:
        if done.cancelled() or (error := done.exception()) is not None:
            # In memory the phone can be rung all the same; told 500, it registers again soon and is stored then.
            log.error("A registration was not stored: {error}", error=None if done.cancelled() else error)
            incoming.respond(500)
            return
        self._answer(incoming, aor, outbound)
        for binding in added:
            if (
                self.probe is not None
                and binding.device_id is not None
                and not tells_enough(binding.features)
            ):
                self.probe(binding)
        self._registered((*added, *refreshed))

    def _registered(self, bindings: Iterable[Binding]) -> None:
        for listener in tuple(self.on_registered):
            for binding in bindings:
                listener(binding)

    def _answer(self, incoming: IncomingRequest, aor: str, outbound: bool) -> None:
        # Step 8: every binding there is, each with the time it has left.
        now = self._now()
        bindings = self._location.bindings(aor, now)
        headers: Headers = [("Contact", _listed(binding, now)) for binding in bindings]
        path = _path(incoming.message)
        headers += [("Path", each) for each in path]  # RFC 3327 s5.3: what was recorded is said
        headers += self._services_of(self._location.username(aor)).told(incoming.message)
        if outbound:
            headers.append(("Require", "outbound"))  # RFC 5626 s6
            if not path:
                headers.append(("Flow-Timer", str(FLOW_TIMER_S[incoming.flow.reliable])))
        incoming.respond(200, headers=headers)


def _expires(contact: NameAddr, request: Request, pushed: bool) -> int:
    expires = contact.expires
    if expires is None:
        expires = request.expires
    if expires is None:
        expires = DEFAULT_EXPIRES_S
    # RFC 8599 s5.6.1.1: one that a push keeps alive must last long enough for that.
    least = push_contact.MIN_EXPIRES_S if pushed else MIN_EXPIRES_S
    if 0 < expires < least:
        raise Refusal(423, headers=[("Min-Expires", str(least))])
    return min(expires, push_contact.MAX_EXPIRES_S if pushed else MAX_EXPIRES_S)


def _reg_id(contact: NameAddr) -> int | None:
    text = contact.param("reg-id")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 0 < int(text) < 2**31):
        raise Refusal(400, "Bad reg-id")
    return int(text)


def _by_outbound(request: Request) -> bool:
    """Whether it registers a flow, as RFC 5626 s6 has it; Refusal where it insists on that and cannot have it.

    Who only supports outbound is registered without it where its first hop does not. The RFC would have that refused,
    439, too: but many a phone that is refused so does not register at all.
    """
    if not supports(request, "outbound"):
        return False
    lasting = [each for each in request.contacts if each.expires != 0]
    if not any(each.instance is not None and each.param("reg-id") for each in lasting):
        return False
    if len(lasting) > 1:
        raise Refusal(400, "One flow at a time")
    uris = [each.uri for each in request.addresses("Path")]
    if any(uri.param("ob") is not None for uri in uris) or (not uris and len(request.vias) == 1):
        return True
    if "outbound" in names(request, "require"):
        raise Refusal(439)
    return False


def _check_text(request: Request) -> None:
    # What is no UTF-8 cannot be stored, and would keep whatever is stored in one go with it from being stored too.
    if "".join(request.headers.lines).isascii():
        return
    for key, line in zip(request.headers.keys, request.headers.lines, strict=True):
        if key in _STORED and not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError:
                raise Refusal(400, f"{key} is not UTF-8") from None


def _key(uri: SipUri, instance: str | None, reg_id: int | None, known: Mapping[str, Binding]) -> str:
    """What makes two registrations one binding.

    With an instance it is that, with the reg-id (RFC 5626 s6), so that a phone that comes by another network takes its
    own place; otherwise it is the URI, compared as RFC 3261 s19.1.4 says.
    """
    if instance is not None:
        return instance if reg_id is None else f"{instance};{reg_id}"
    text = str(uri)
    if text not in known:
        for old in known.values():
            if old.instance is None and uri.matches(parse_uri(old.contact_uri)):
                return old.key
    return text


def _check_order(old: Binding, request: Request) -> None:
    # Within one Call-ID an older or equal CSeq is a REGISTER that was overtaken: the whole request fails (step 7).
    if old.call_id == request.call_id and request.cseq.number <= old.cseq:
        raise Refusal(500, "Out of order")


def _is_refresh(old: Binding, contact: NameAddr, incoming: IncomingRequest) -> bool:
    request = incoming.message
    return (
        old.contact_uri == str(contact.uri)
        and old.flow_token == incoming.flow.token
        and old.user_agent == _user_agent(request)
        and old.path == _path(request)
        and old.q == contact.q
        and old.features == contact.features()
    )


def _user_agent(request: Request) -> str:
    name = (request.headers.first("user-agent") or "")[:200]
    return name if name.isascii() else name.encode("utf-8", "replace").decode()


def _path(request: Request) -> tuple[str, ...]:
    return tuple(request.headers.all("Path")) if "path" in request.headers.keys else ()


def _twins(new: Binding, known: Collection[Binding]) -> list[Binding]:
    """What a phone without an instance has left behind where it was before.

    It keeps its Call-ID while it runs (RFC 3261 s10.2) and registers one Contact at a time, so the same user part at
    another address is itself, from the network it has left. So is what is woken by the same push (RFC 8599 s5.6.2),
    but for the flows of one instance.
    """
    push = new.push
    woken = []
    if push is not None:
        woken = [
            old
            for old in known
            if old.push == push and (new.instance is None or old.instance != new.instance)
        ]
    if new.instance is not None:
        return woken
    user = new.contact_uri.partition("@")[0]
    return woken + [
        old
        for old in known
        if old.instance is None
        and old.call_id == new.call_id
        and old.contact_uri.partition("@")[0] == user
        and old not in woken
    ]


def _crowded_out(
    known: Mapping[str, Binding],
    added: Sequence[Binding],
    refreshed: Sequence[Binding],
    removed: Sequence[Binding],
) -> list[Binding]:
    """What has to go so that no more than MAX_BINDINGS are left: those that would be gone soonest anyway.

    A phone that names another Contact each time it starts leaves one behind each time; to refuse it the eleventh time
    would keep its agent offline until the first has expired.
    """
    named = {binding.key for binding in (*added, *refreshed)}
    gone = {binding.key for binding in removed}
    others = [binding for key, binding in known.items() if key not in named and key not in gone]
    excess = len(named) + len(others) - MAX_BINDINGS
    if excess > len(others):
        raise Refusal(403, "Too Many Contacts")
    return sorted(others, key=lambda binding: binding.expires_at)[:excess] if excess > 0 else []


def _listed(binding: Binding, now: float) -> str:
    text = f"<{binding.contact_uri}>;expires={max(1, math.ceil(binding.expires_at - now))}"
    if binding.q != 1.0:
        text += f";q={binding.q:g}"
    if binding.instance is not None:
        text += f';+sip.instance="<{binding.instance}>"'
        if binding.reg_id is not None:
            text += f";reg-id={binding.reg_id}"
    return text
