"""A contact as its customer is shown it: by the API, the event stream, and so the Help dock."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pbx.call_back import CallBacks, masked
from pbx.contact import Channel, Contact, State
from pbx.dispatch import Dispatch
from pbx.leg import Leg
from pbx.other_channel import OtherChannel
from pbx.staffing import Staffing


class CustomerView:
    """`expected_wait` tells how many seconds a contact may yet wait, None: nobody can say; `uri` its address;
    `on_hold` whether they hear music instead of their agent, `supervisor` the name of who has joined them, or "",
    `agent_leg` that of whom they talk to."""

    def __init__(
        self,
        dispatch: Dispatch,
        staffing: Staffing,
        call_backs: CallBacks,
        expected_wait: Callable[[str], float | None],
        *,
        uri: Callable[[Contact], str],
        recording: Callable[[Contact], dict[str, Any] | None] = lambda contact: None,
        on_hold: Callable[[Contact], bool] = lambda contact: False,
        supervisor: Callable[[Contact], str] = lambda contact: "",
        agent_leg: Callable[[Contact], Leg | None] = lambda contact: None,
    ) -> None:
        self._dispatch = dispatch
        self._staffing = staffing
        self._call_backs = call_backs
        self._expected_wait = expected_wait
        self._uri = uri
        self._recording = recording
        self._on_hold = on_hold
        self._supervisor = supervisor
        self._agent_leg = agent_leg

    def __call__(self, contact: Contact) -> dict[str, Any]:
        facts = contact.facts
        joined = contact.connected_at is not None
        name = self._staffing.agent_name(contact.agent_id) if joined else None
        supervisor = self._supervisor(contact)
        return {
            "id": contact.id,
            "channel": facts.channel.value,
            "state": contact.state.value,
            "agent": {"name": name} if name is not None else None,
            "on_hold": self._on_hold(contact),
            "supervisor": {"name": supervisor} if supervisor else None,
            "agent_video": self._agent_video(contact),
            "provider": facts.provider_name,
            "product": facts.product_name,
            "product_id": facts.product_id,
            "uri": self._uri(contact),
            "asked_at": facts.asked_at,
            "connected_at": contact.connected_at,
            "ended_at": contact.ended_at,
            "disposition": contact.disposition.value if contact.disposition is not None else None,
            "recording": self._recording(contact),
            **self._waiting(contact),
        }

    def _agent_video(self, contact: Contact) -> bool | None:
        """Whether whoever they talk to has a phone for pictures; None: nobody knows, so it may be tried."""
        leg = self._agent_leg(contact)
        if leg is None or contact.state is not State.CONNECTED or contact.agent_id is None:
            return None
        if leg.has_pictures:
            return True
        return self._staffing.carries(contact.agent_id, leg.device_id, Channel.VIDEO)

    def _waiting(self, contact: Contact) -> dict[str, Any]:
        call_backs = self._call_backs
        number = call_backs.number_of(contact) if contact.state is State.WAITING else None
        return {
            "position": self._dispatch.position(contact.id),
            "expected_wait_s": about(self._expected_wait(contact.id)) if contact.open else None,
            "by_phone": call_backs.is_by_phone(contact),
            "call_back": call_backs.view(contact),
            "can_call_back": {
                "app": call_backs.may_ask(contact),
                "phone": masked(number) if number and call_backs.may_ask(contact, number) else None,
            },
            "channels": OtherChannel.choices(contact),
        }


def about(seconds: float | None) -> float | None:
    """As exact as it is honest to be, and as it is worth telling a page anew: half a minute, then whole minutes."""
    if seconds is None:
        return None
    return 30.0 if seconds <= 30 else 60.0 * math.ceil(seconds / 60)
