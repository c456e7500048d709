"""Whom a phone may call or be transferred to: an agent by name, or a number through a trunk. Nobody else.

Everything that could be dialled to make somebody else pay, or to get at what is not the caller's, ends here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from agent_presence.agent_state import AgentState, AgentStates
from agent_presence.roster import Agent, Roster
from config.errors import TheirError
from media.server import Profile
from pbx.contact import Channel
from pbx.staffing import Phone, Staffing
from sip_trunk.sip.header_values import quote_string
from sip_trunk.sip.uri import OtherUri, SipUri, Uri, bracketed
from sip_trunk.trunk import Trunk, TrunkTable, number_of


@dataclass(frozen=True, slots=True)
class Destination:
    """An agent, or a number and the trunk it is reached by. `shown` is what events call it, `from_` what a phone is
    shown of it."""

    shown: str
    from_: str
    agent: Agent | None = None
    number: str | None = None
    trunk: Trunk | None = None

    @property
    def agent_id(self) -> str | None:
        return self.agent.id if self.agent is not None else None

    @property
    def trunk_name(self) -> str | None:
        return self.trunk.name if self.trunk is not None else None


class Destinations:
    """`hosts` are the names of this server in addresses; `special` says of a user part that it is none to be called."""

    def __init__(
        self,
        roster: Roster,
        staffing: Staffing,
        states: AgentStates,
        trunks: TrunkTable,
        *,
        domain: str,
        hosts: Collection[str],
        special: Callable[[str], bool],
    ) -> None:
        self._roster = roster
        self._staffing = staffing
        self._states = states
        self._trunks = trunks
        self._domain = domain
        self._hosts = frozenset(host.lower() for host in (domain, *hosts))
        self._special = special

    def agent_named(self, user: str | None) -> Agent | None:
        """The agent one of whose phones, or who, has this name."""
        if not user:
            return None
        return self._roster.agent_of_username(user) or self._roster.by_login(user)

    def agent(self, agent_id: str | None) -> Agent | None:
        return self._roster.agent(agent_id) if agent_id is not None else None

    def colleague(self, agent: Agent) -> Destination:
        """This agent, by any of their phones."""
        user = next((device.username for device in self._roster.devices_of(agent.id)), agent.login)
        address = f"sip:{user}@{self._domain}"
        return Destination(address, f"{quote_string(agent.name)} <{address}>", agent)

    def find(self, uri: Uri, *, numbers: bool) -> Destination:
        """Who is meant; `numbers`: whether whoever asks may call out. TheirError 403, 404 or 416 for anybody else."""
        if isinstance(uri, OtherUri):
            raise TheirError("Only SIP And Telephone Addresses", 416)
        if isinstance(uri, SipUri):
            if uri.host.lower() not in self._hosts:
                # An open relay would be found by the next morning.
                raise TheirError("Not An Address Of This Server", 403)
            agent = self.agent_named(uri.user)
            if agent is not None:
                address = f"sip:{uri.user}@{self._domain}"
                return Destination(address, f"{quote_string(agent.name)} <{address}>", agent)
            if self._special(uri.user or ""):
                raise TheirError("Not To Be Called By Phones", 403)
        number = number_of(uri)
        if number is None or not number.startswith("+"):
            raise TheirError("Nobody Here Has That Name", 404)
        if not numbers:
            raise TheirError("No Calls Out From Here", 403)
        trunk = self._trunks.for_number(number)
        if trunk is None:
            raise TheirError("No Trunk For That Number", 403)
        return Destination(number, f"<sip:{number}@{self._domain}>", number=number, trunk=trunk)

    def phones(self, destination: Destination, asking: str | None) -> list[Phone]:
        """What to ring. TheirError 480 when no phone is registered, 486 when the agent is busy, or asks themself."""
        if destination.agent is None:
            assert destination.number is not None
            assert destination.trunk is not None
            trunk = destination.trunk
            target = trunk.target(destination.number)
            host = target.uri.host if isinstance(target.uri, SipUri) else self._domain
            aor = f"sip:{destination.number}@{host}"
            return [Phone(f"trunk:{trunk.name}", trunk.name, aor, target, Profile.RTP, trunk.credentials)]
        agent_id = destination.agent.id
        if agent_id == asking:
            raise TheirError("That Is Yourself", 486)
        state = self._states.of(agent_id).state
        if state in (AgentState.TALKING, AgentState.RESERVED) or self._staffing.direct_calls(agent_id):
            raise TheirError("Busy Here", 486)
        phones = self._staffing.phones(agent_id, Channel.VOICE)
        if not phones:
            raise TheirError("No Phone Is Registered", 480)
        return phones

    def calling_card(self, trunk: Trunk) -> tuple[str, tuple[tuple[str, str], ...]]:
        """From and further headers of a call out: the trunk's number, whoever of us calls (RFC 3325 s9.1)."""
        # A carrier that we register with looks in From for the account it knows.
        account = trunk.account.address if trunk.account is not None else None
        if trunk.caller_id is None:
            return f"<{account or f'sip:warmline@{self._domain}'}>", ()
        address = f"<sip:{trunk.caller_id}@{bracketed(account.host) if account else self._domain}>"
        return address, (("P-Asserted-Identity", address),)
