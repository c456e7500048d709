"""Which phones of an agent are rung, and by which way."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from media.server import Profile
from pbx.contact import Channel
from pbx.profile import profile_of_call
from pbx.queue import Group
from pbx.staffing import Staffing
from tests.agent_presence.house import House
from tests.pbx.centre import FakeFlow


async def phones(*bindings: dict[str, Any]) -> list[tuple[str, str, Profile]]:
    house = await House().open()
    house.live_flows.add("ws-1")
    agent = await house.hire("ana", heating=1)
    for binding in bindings:
        await house.bind("ana", **binding)

    def flow_of(token: str) -> FakeFlow:
        return FakeFlow("WS" if token.startswith("ws") else "UDP", ("192.0.2.7", 5062), token)

    staffing = Staffing(house.roster, house.location, house.states, flow_of=flow_of)
    return [
        (str(phone.target.uri), phone.target.flow.token if phone.target.flow else "", phone.profile)
        for phone in staffing.phones(agent.id, Channel.VOICE)
    ]


@pytest.mark.parametrize(
    ("contact", "more", "way"),
    [
        ("sip:ana@192.0.2.7:5999", {}, ""),  # no NAT: it listens on another port than it sends from
        ("sip:ana@10.0.0.5:5060", {}, "udp:192.0.2.7:5062"),  # an address of its own network
        ("sip:ana@192.0.2.7:5999", {"instance": "urn:uuid:1", "reg_id": 1}, "udp:192.0.2.7:5062"),
    ],
)
async def test_a_phone_is_rung_where_it_can_be_reached(contact: str, more: dict[str, Any], way: str) -> None:
    assert await phones({"contact_uri": contact, **more}) == [(contact, way, Profile.RTP)]


async def test_a_phone_in_a_browser_is_rung_by_its_connection_and_in_webrtc() -> None:
    contact = "sip:ana@x.invalid;transport=ws"
    found = await phones({"contact_uri": contact, "transport": "WS", "flow_token": "ws-1"})
    assert found == [(contact, "ws-1", Profile.WEBRTC)]


async def test_a_browser_behind_a_proxy_is_rung_in_webrtc_though_the_proxy_speaks_udp() -> None:
    found = await phones({"contact_uri": "sip:ana@x.invalid;transport=ws", "path": ("<sip:192.0.2.1;lr>",)})
    assert [profile for _, _, profile in found] == [Profile.WEBRTC]


@pytest.mark.parametrize(
    ("transport", "offer", "profile"),
    [
        ("WSS", b"", Profile.WEBRTC),
        ("UDP", b"", Profile.RTP),
        ("UDP", b"a=ice-ufrag:x\r\na=fingerprint:sha-256 00\r\n", Profile.WEBRTC),
        ("UDP", b"a=ice-ufrag:x\r\n", Profile.RTP),  # a phone with ICE and plain RTP
    ],
)
def test_a_callers_offer_says_how_its_packets_travel(transport: str, offer: bytes, profile: Profile) -> None:
    call = SimpleNamespace(flow=SimpleNamespace(transport=transport), offer=offer)
    assert profile_of_call(call) is profile  # type: ignore[arg-type]


async def test_two_flows_of_one_phone_ring_it_once() -> None:
    one = {"contact_uri": "sip:ana@10.0.0.5:5060", "instance": "urn:uuid:1", "reg_id": 1, "key": "1"}
    found = await phones(one, {**one, "reg_id": 2, "key": "2"})
    assert len(found) == 1


async def test_what_phones_can_carry_is_looked_at_anew_when_they_change() -> None:
    house = await House().open()
    agent = await house.hire("ana", heating=3)
    staffing = Staffing(house.roster, house.location, house.states, flow_of=lambda token: None)
    voice = Group("thermea", "voice", frozenset({("heating", 3)}))
    assert not staffing.could_serve(agent.id, voice)
    version = staffing.phones_version(agent.id)
    await house.bind("ana")
    assert staffing.could_serve(agent.id, voice)
    assert staffing.phones_version(agent.id) > version
    video = replace(voice, channel="video")
    assert not staffing.could_serve(agent.id, video)
    await house.roster.set_capability("device-ana", "video", True)
    assert staffing.could_serve(agent.id, video)
    house.drop()
    assert not staffing.could_serve(agent.id, voice)


async def test_who_could_serve_what() -> None:
    house = await House().open()
    await house.roster.add_agent(
        "Ana",
        "ana",
        "hash",
        skills={"heating": 3},
        languages=("de",),
        provider_ids=("thermea",),
        agent_id="a",
    )
    await house.roster.add_device("a", "Phone", "ana", "secret", device_id="device-ana")
    await house.bind("ana")
    staffing = Staffing(house.roster, house.location, house.states, flow_of=lambda token: None)
    group = Group("thermea", "voice", frozenset({("heating", 3)}), "de")
    assert staffing.could_serve("a", group)
    assert not staffing.could_serve("a", replace(group, provider_id="lumio"))
    assert not staffing.could_serve("a", replace(group, language="fr"))
    assert not staffing.could_serve("a", replace(group, required=frozenset({("heating", 4)})))
    assert not staffing.could_serve("nobody", group)


@pytest.mark.parametrize(
    ("contact", "wakes"),
    [
        ("sip:ana@192.0.2.7:5062", False),
        ("sip:ana@192.0.2.7:5062;pn-provider", False),  # it only asks whether pushes are known here
        ("sip:ana@192.0.2.7:5062;pn-provider=apns;pn-prid=1", True),
    ],
)
async def test_which_phones_can_be_woken(contact: str, wakes: bool) -> None:
    house = await House().open()
    agent = await house.hire("ana", heating=3)
    await house.bind("ana", contact_uri=contact)
    staffing = Staffing(house.roster, house.location, house.states, flow_of=lambda token: None)
    assert [phone.push is not None for phone in staffing.phones(agent.id, Channel.VOICE)] == [wakes]
