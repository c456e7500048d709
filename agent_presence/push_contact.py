"""What a Contact says of how its phone is woken by a push notification, and what the registrar answers (RFC 8599)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sip_trunk.sip.uri import SipUri, parse_uri

if TYPE_CHECKING:
    from agent_presence.location import Binding
    from sip_trunk.sip.message import Request

REFRESH_S = 120
"""How many seconds before it expires a binding is kept alive by a push, at the earliest (RFC 8599 s5.5)."""
SELF_REFRESH_S = 130
"""How many seconds before that a phone that wakes by itself is to register again (RFC 8599 s4.1.4): before we push."""
MIN_EXPIRES_S = 300
MAX_EXPIRES_S = 86400
"""A sleeping phone's binding costs a push each time it runs out, so that it may last longer than others."""

_PRID = re.compile(r"(?i)(\bpn-prid=)[^;?>\s]*")
# RFC 8599 s8.2: sip.pns alone, and not sip.pnsreg or sip.pnspurr.
_PNS = re.compile(r"(?i)\+sip\.pns(?![a-z])")


@dataclass(frozen=True, slots=True)
class PushAddress:
    """Where a phone is woken: its push service, its identifier there (a secret: who has it can wake the phone), and
    what the service needs besides, e.g. the app's topic."""

    provider: str
    prid: str = field(repr=False)
    param: str = ""


def push_address(contact_uri: str) -> PushAddress | None:
    """How this Contact wants to be woken; None: not at all, or it only asks what there is (RFC 8599 s4.1.5)."""
    if "pn-prid" not in contact_uri.lower():
        return None
    uri = parse_uri(contact_uri)
    if not isinstance(uri, SipUri):
        return None
    provider, prid = uri.param("pn-provider"), uri.param("pn-prid")
    return PushAddress(provider, prid, uri.param("pn-param") or "") if provider and prid else None


def without_prid(contact_uri: str) -> str:
    """The URI as it may be shown and written down."""
    return _PRID.sub(r"\1***", contact_uri)


class PushServices:
    """The push services (`pn-provider`) that somebody is woken by; without any nothing is said of pushes at all."""

    def __init__(self, providers: Iterable[str] = ()) -> None:
        self._providers = tuple(dict.fromkeys(providers))

    def __bool__(self) -> bool:
        return bool(self._providers)

    def wake(self, binding: Binding) -> bool:
        """Whether the phone of this binding can be woken. Customers' pages are open when they wait for a call: only
        agents' phones are woken."""
        return binding.device_id is not None and self.reach(binding.contact_uri)

    def reach(self, contact_uri: str) -> bool:
        """Whether this Contact can be woken by one of these services."""
        address = push_address(contact_uri) if self._providers else None
        return address is not None and address.provider in self._providers

    def refuses(self, uri: SipUri, request: Request) -> bool:
        """Whether this Contact names a service that nobody on its way reaches (RFC 8599 s5.6.1.1: 555)."""
        provider = uri.param("pn-provider")
        if not provider or not self._providers or self._left_to_a_proxy(request):
            return False
        return provider not in self._providers

    def told(self, request: Request) -> list[tuple[str, str]]:
        """The headers of a 200 that say what the phones may count on, for each of the request's lasting Contacts."""
        if not self._providers or self._left_to_a_proxy(request):
            return []
        services: dict[str, str] = {}
        for contact in request.contacts:
            uri = contact.uri
            lasting = (contact.expires if contact.expires is not None else request.expires) != 0
            provider = uri.param("pn-provider") if isinstance(uri, SipUri) and lasting else None
            if provider is None:
                continue
            # s4.1.5: without a value it asks which services there are.
            for service in (provider,) if provider else self._providers:
                by_itself = contact.param("+sip.pnsreg") is not None
                services[service] = f';+sip.pnsreg="{SELF_REFRESH_S}"' if by_itself else ""
        return [
            ("Feature-Caps", f'*;+sip.pns="{service}"{more}')
            for service, more in services.items()
            if service in self._providers
        ]

    @staticmethod
    def _left_to_a_proxy(request: Request) -> bool:
        """RFC 8599 s5.6.1.1: a proxy nearer to the phone has said that it wakes it."""
        return any(_PNS.search(value) for value in request.headers.all("Feature-Caps"))
