"""Who may call what, and what everybody else is told."""

from __future__ import annotations

import pytest

from pbx.contact import Disposition, State
from pbx.inbound import Inbound
from sip_trunk.authentication import Challenge
from sip_trunk.sip.message import Request
from tests.agent_presence.house import DOMAIN
from tests.pbx.centre import NO_PROOF, Caller, Centre, FakeFlow

CARRIER = ("192.0.2.50", 5070)


async def called(centre: Centre, caller: Caller, who: str | Challenge = NO_PROOF) -> Caller:
    centre.inbound(who).on_invite(caller)
    await centre.settle()
    return caller


def from_trunk(number: str = "+15550200", caller: str = "+15550100001", body: bytes = b"offer") -> Caller:
    flow = FakeFlow("UDP", CARRIER, "udp")
    return Caller(f"sip:{number}@{DOMAIN}", from_=f"sip:{caller}@carrier.example", flow=flow, body=body)


async def test_a_call_from_a_trunk_becomes_a_contact_of_whoever_has_proved_the_number() -> None:
    centre = await Centre.open()
    await centre.agent()
    caller = await called(centre, from_trunk())
    assert caller.accepted is not None
    contact = centre.desk.current("maria")
    assert contact is not None
    assert (contact.facts.trunk, contact.facts.number, contact.facts.product_name) == (
        "carrier",
        "+15550100001",
        "Boiler 200",
    )
    assert {need.skill for need in contact.needs if need.required} == {"heating"}
    assert centre.phone.rung[0].more["from_"].startswith('"Maria (Boiler 200)"')
    assert centre.kinds(contact)[:4] == ["requested", "skills_inferred", "invited", "queued"]
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED


@pytest.mark.parametrize("number", ["+15550100003", "+15559999999", "anonymous"])
async def test_a_caller_who_has_proved_nothing_is_helped_without_a_name(number: str) -> None:
    centre = await Centre.open()
    await centre.agent()
    caller = await called(centre, from_trunk(caller=number))
    assert caller.accepted is not None
    (contact,) = centre.contacts
    assert contact.facts.customer_id is None


async def test_a_caller_who_wants_privacy_is_known_to_us_and_shown_to_nobody() -> None:
    centre = await Centre.open()
    await centre.agent()
    caller = from_trunk(caller="anonymous")
    caller.request.headers.set("From", '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1')
    caller.request.headers.add("P-Asserted-Identity", '"Maria" <sip:+15550100001@carrier.example>')
    caller.request.headers.add("Privacy", "id")
    assert (await called(centre, caller)).accepted is not None
    (contact,) = centre.contacts
    assert contact.facts.customer_id == "maria"
    shown = centre.phone.rung[0].more["from_"]
    assert shown.startswith('"Anonymous (Boiler 200)" <sip:c_')
    assert "15550100001" not in shown + centre.phone.rung[0].header("Subject")
    assert "15550100001" not in str([event.facts for event in centre.house.told])


async def test_who_sent_the_call_on_is_noted() -> None:
    centre = await Centre.open()
    caller = from_trunk()
    caller.request.headers.add("Diversion", "<sip:+15550999@carrier.example>;reason=no-answer")
    await called(centre, caller)
    facts = centre.events("contact.requested")[0].facts
    assert (facts["diverted_from"], facts["session"]) == ("+15550999", caller.session_id)


async def test_one_session_is_on_all_legs_and_in_all_events_of_a_contact() -> None:
    centre = await Centre.open()
    await centre.agent()
    caller = await called(centre, from_trunk())
    phone = centre.phone.rung[0]
    assert phone.more["session_id"] == caller.session_id
    phone.ring()
    phone.pick_up()
    await centre.settle()
    caller.hang_up()
    await centre.settle()
    for kind in ("requested", "invited", "prompted", "ringing", "connected", "ended"):
        assert centre.events(f"contact.{kind}")[0].facts["session"] == caller.session_id, kind


async def test_a_trunk_replaces_nobodys_call() -> None:
    centre = await Centre.open()
    caller = from_trunk()
    caller.replaces = from_trunk()
    assert (await called(centre, caller)).refused == (403, "Only Agents Replace Calls")


async def test_who_speaks_in_a_phones_call_from_another_host_proves_a_password_and_a_trunk_need_not() -> None:
    centre = await Centre.open()
    phone, elsewhere = (FakeFlow("TLS", (host, 40000), host) for host in ("198.51.100.7", "203.0.113.9"))
    call, bye = Caller(f"sip:1001@{DOMAIN}", flow=phone), Request("BYE", f"sip:1001@{DOMAIN}")
    assert centre.inbound(NO_PROOF).vouch(call, bye, elsewhere) is NO_PROOF
    assert centre.inbound("ana.desk").vouch(call, bye, elsewhere) is None
    assert centre.inbound(NO_PROOF).vouch(call, bye, FakeFlow("TLS", CARRIER, "c")) is None
    assert centre.inbound(NO_PROOF).vouch(from_trunk(), bye, elsewhere) is None


async def test_a_carrier_may_leave_out_the_plus() -> None:
    centre = await Centre.open()
    assert (await called(centre, from_trunk("15550200"))).accepted is not None


async def test_a_phone_caller_with_a_contact_open_in_the_app_is_helped_too() -> None:
    centre = await Centre.open()
    chat = await centre.asks("maria", "chat", "Hello")
    caller = await called(centre, from_trunk())
    assert caller.accepted is not None
    assert centre.desk.current("maria") is chat
    assert len(centre.contacts) == 2


async def test_a_phone_caller_who_hangs_up_in_the_queue_has_given_up() -> None:
    centre = await Centre.open()
    caller = await called(centre, from_trunk())
    (contact,) = centre.contacts
    caller.hang_up()
    await centre.settle()
    assert contact.disposition is Disposition.CUSTOMER_GAVE_UP


async def test_an_invite_without_an_offer_gets_ours() -> None:
    centre = await Centre.open()
    caller = await called(centre, from_trunk(body=b""))
    assert caller.accepted == b"offer of ours"


async def test_refusals_of_the_phone_network() -> None:
    centre = await Centre.open()
    assert (await called(centre, from_trunk("+19990000"))).refused == (404, "Not One Of Our Numbers")
    assert (await called(centre, from_trunk(body=b"nothing in common"))).refused == (488, "No common codec")
    stranger = Caller(
        f"sip:+15550200@{DOMAIN}",
        from_="sip:+15550100001@elsewhere.example",
        flow=FakeFlow("UDP", ("198.51.100.9", 5060), "udp"),
    )
    assert (await called(centre, stranger)).refused == (403, "Not From A Known Trunk")
    assert [event.facts["status"] for event in centre.events("call.refused")] == [404, 488, 403]
    assert len(centre.contacts) == 0


async def test_a_stranger_who_says_a_number_of_our_domain_is_no_less_a_stranger() -> None:
    centre = await Centre.open()
    stranger = Caller(
        f"sip:+15550200@{DOMAIN}",
        from_=f"sip:+15550100001@{DOMAIN}",
        flow=FakeFlow("UDP", ("198.51.100.9", 5060), "udp"),
    )
    assert (await called(centre, stranger)).refused == (403, "Not From A Known Trunk")


async def test_one_who_says_to_be_ours_is_asked_for_proof() -> None:
    centre = await Centre.open()
    caller = Caller(f"sip:*71@{DOMAIN}", flow=FakeFlow("UDP", ("198.51.100.9", 5060), "udp"))
    assert (await called(centre, caller)).refused == (401, "Unauthorized")


async def test_a_page_may_call_its_own_open_contact_and_nothing_else() -> None:
    centre = await Centre.open()
    contact = await centre.asks("maria")
    chat = await centre.asks("jonas", "chat", "Hello")
    maria = centre.app_credentials.issue("maria").username
    jonas = centre.app_credentials.issue("jonas").username
    uri = centre.desk.uri(contact)
    assert (await called(centre, Caller(uri), jonas)).refused == (403, "Not Your Contact")
    assert (await called(centre, Caller(f"sip:c_nobody@{DOMAIN}"), maria)).refused == (404, "No Such Contact")
    assert (await called(centre, Caller(centre.desk.uri(chat)), jonas)).refused == (
        488,
        "This Contact Is A Chat",
    )
    assert (await called(centre, Caller(uri, body=b"nothing in common"), maria)).refused == (
        488,
        "No common codec",
    )
    assert contact.state is State.WAITING
    assert (await called(centre, Caller(uri), maria)).accepted is not None
    await centre.desk.end(contact.id, "customer")
    assert (await called(centre, Caller(uri), maria)).refused == (410, "This Contact Has Ended")


async def test_credentials_of_the_app_are_good_for_ten_minutes() -> None:
    centre = await Centre.open()
    issued = centre.app_credentials.issue("maria")
    credentials = centre.app_credentials.credentials_of(issued.username)
    assert credentials is not None
    assert issued.password not in repr(issued)
    centre.clock.advance(599)
    assert centre.app_credentials.customer_of(issued.username) == "maria"
    centre.clock.advance(1)
    assert centre.app_credentials.customer_of(issued.username) is None
    assert centre.app_credentials.credentials_of(issued.username) is None


async def test_an_agent_says_ready_and_not_ready_by_dialling() -> None:
    centre = await Centre.open()
    await centre.agent()
    off = await called(centre, Caller(f"sip:*72@{DOMAIN}"), "ana")
    assert off.accepted is not None
    assert centre.state() == "NotReady"
    assert list(centre.media.playing.values()) == ["not-ready"]
    await centre.passes(4)
    assert off.log == ["BYE"]
    await called(centre, Caller(f"sip:*71@{DOMAIN}"), "ana")
    assert centre.state() == "Ready"
    await centre.passes(4)
    assert centre.media.branches == {}


@pytest.mark.parametrize("hangs_up", [False, True], ids=["hears it out", "hangs up at once"])
async def test_who_waits_rings_the_phone_that_said_ready_when_its_call_is_over(hangs_up: bool) -> None:
    centre = await Centre.open()
    await centre.agent()
    await called(centre, Caller(f"sip:*72@{DOMAIN}"), "ana")
    await centre.passes(4)
    contact = await centre.asks("maria", "chat", "Hello")
    caller = await called(centre, Caller(f"sip:*71@{DOMAIN}"), "ana")
    assert caller.accepted is not None
    assert (centre.state(), contact.state) == ("Ready", State.WAITING)
    if hangs_up:
        caller.hang_up()
        await centre.passes(0)
    else:
        await centre.passes(4)
        assert caller.log == ["BYE"]
    assert (centre.state(), contact.state) == ("Reserved", State.RINGING)


async def test_what_an_agent_dials_and_is_no_code_is_refused() -> None:
    centre = await Centre.open()
    await centre.agent()
    assert (await called(centre, Caller(f"sip:*99@{DOMAIN}"), "ana")).refused == (
        404,
        "Nobody Here Has That Name",
    )


async def test_an_unregistered_phone_cannot_make_its_agent_ready() -> None:
    centre = await Centre.open()
    await centre.house.hire("ana", heating=1)
    refused = (await called(centre, Caller(f"sip:*71@{DOMAIN}"), "ana")).refused
    assert refused is not None
    assert refused[0] == 409
    assert centre.state() == "Offline"


async def test_while_the_server_stops_nobody_is_let_in() -> None:
    centre = await Centre.open()
    await centre.desk.drain()
    assert (await called(centre, from_trunk())).refused == (503, "The Server Is Stopping")


def test_a_request_with_proof_is_checked_whatever_its_from_says() -> None:
    request = Request(
        "INVITE", "sip:x@y", [("From", "<sip:a@b.example>;tag=1"), ("Authorization", "Digest x")]
    )
    made = Inbound.__new__(Inbound)
    made._domain = DOMAIN
    assert made._says_ours(request)
