from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from agent_presence.location import Binding
from agent_presence.registrar import Registrar
from sip_trunk.authentication import Challenge
from sip_trunk.flow import Flow
from sip_trunk.sip.message import Request, Response
from sip_trunk.sip.parser import parse
from tests.agent_presence.house import DOMAIN, House
from tests.conftest import run

AOR = f"sip:ana@{DOMAIN}"
HERE = "<sip:ana@192.0.2.7:5062>"


class Line(Flow):
    """A flow that goes nowhere."""

    def send(self, data: bytes) -> None:
        raise AssertionError("the registrar answers through the transaction")

    def ended(self) -> None:
        self.alive = False
        for callback in tuple(self.on_closed):
            callback(self)


UDP = Line("UDP", ("192.0.2.7", 5062), "udp|1")


class Asked:
    """A REGISTER and what was answered to it."""

    def __init__(self, message: Request, flow: Flow) -> None:
        self.message = message
        self.flow = flow
        self.answers: list[Response] = []

    def respond(
        self, status: int, reason: str | None = None, *, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.answers.append(self.message.response(status, reason, to_tag="t", headers=headers))


def believe(request: Request, flow: Flow) -> str | Challenge:
    """Believes the X-User header; without one it challenges."""
    return request.headers.get("X-User") or Challenge(
        401, "Unauthorized", (("WWW-Authenticate", 'Digest realm="warmline", nonce="n", qop="auth"'),)
    )


class Desk:
    """A registrar in a house."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.probed: list[Binding] = []
        self.cseq = 0
        self.registrar = Registrar(
            believe,
            house.location,
            house.roster,
            domains={DOMAIN},
            now=house.now,
            probe=self.probed.append,
            push=house.services,
        )
        self.registered: list[Binding] = []
        self.registrar.on_registered += [house.push.registered, self.registered.append]

    async def register(
        self,
        contact: str | None = HERE,
        *more: str,
        user: str | None = "ana",
        to: str = AOR,
        uri: str = f"sip:{DOMAIN}",
        call_id: str = "call-1",
        cseq: int | None = None,
        flow: Flow = UDP,
    ) -> Response:
        self.cseq += 1
        lines = [
            f"REGISTER {uri} SIP/2.0",
            "Via: SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK1",
            f"From: <{to}>;tag=1",
            f"To: <{to}>",
            f"Call-ID: {call_id}",
            f"CSeq: {cseq or self.cseq} REGISTER",
            *([f"X-User: {user}"] if user else []),
            *([f"Contact: {contact}"] if contact else []),
            *more,
            "Content-Length: 0",
            "",
            "",
        ]
        message = parse("\r\n".join(lines).encode("utf-8", "surrogateescape"))
        assert isinstance(message, Request)
        asked: Any = Asked(message, flow)
        if flow.reliable:
            self.house.live_flows.add(flow.token)
        self.registrar.on_register(asked)
        await self.house.settle()
        assert len(asked.answers) == 1
        answer: Response = asked.answers[0]
        return answer

    def uris(self) -> list[str]:
        return [binding.contact_uri for binding in self.house.location.bindings(AOR)]


@pytest.fixture
def desk() -> Desk:
    async def opened() -> Desk:
        house = await House().open()
        await house.hire("ana")
        await house.hire("bo")
        return Desk(house)

    return run(opened())


def expires(answer: Response) -> list[int | None]:
    return [contact.expires for contact in answer.contacts]


async def test_a_phone_registers_and_is_told_for_how_long(desk: Desk) -> None:
    answer = await desk.register(HERE, "Expires: 120", "User-Agent: desk phone")
    assert answer.status == 200
    assert expires(answer) == [120]
    (binding,) = desk.house.location.bindings(AOR)
    assert (binding.contact_uri, binding.device_id) == ("sip:ana@192.0.2.7:5062", "device-ana")
    assert (binding.source_ip, binding.transport, binding.user_agent) == ("192.0.2.7", "UDP", "desk phone")
    registered = desk.house.kinds("device.registered")
    assert [(event.agent, event.facts["device"]) for event in registered] == [("agent-ana", "device-ana")]


async def test_without_credentials_a_phone_is_challenged_and_nothing_is_kept(desk: Desk) -> None:
    answer = await desk.register(user=None)
    assert answer.status == 401
    assert "WWW-Authenticate" in answer.headers
    assert desk.uris() == []


async def test_nobody_registers_for_somebody_else(desk: Desk) -> None:
    assert (await desk.register(user="bo")).status == 403
    assert desk.uris() == []


@pytest.mark.parametrize("where", [{"uri": "sip:elsewhere.test"}, {"to": "sip:ana@elsewhere.test"}])
async def test_other_domains_are_not_ours(desk: Desk, where: dict[str, Any]) -> None:
    assert (await desk.register(**where)).status == 404


@pytest.mark.parametrize("to", ["tel:+1234", "isbn:2983792873"])
async def test_a_to_that_is_no_address_of_record_is_a_fault_of_the_phone(desk: Desk, to: str) -> None:
    assert (await desk.register(to=to)).status == 400


async def test_a_phone_may_name_us_by_any_address_and_is_found_under_one(desk: Desk) -> None:
    assert (await desk.register(uri="sip:127.0.0.1", to="sip:ana@127.0.0.1")).status == 200
    assert desk.uris() == ["sip:ana@192.0.2.7:5062"]


async def test_what_must_be_understood_and_is_not_is_refused_by_name(desk: Desk) -> None:
    answer = await desk.register(HERE, "Require: path, wizardry")
    assert (answer.status, answer.headers.get("Unsupported")) == (420, "wizardry")


@pytest.mark.parametrize(
    ("asked", "status", "got"),
    [
        ("59", 423, []),
        ("60", 200, [60]),
        ("3600", 200, [3600]),
        ("9999999999999", 200, [3600]),
        (None, 200, [300]),
    ],
)
async def test_the_bounds_of_expires(desk: Desk, asked: str | None, status: int, got: list[int]) -> None:
    answer = await desk.register(HERE, *([f"Expires: {asked}"] if asked else []))
    assert (answer.status, expires(answer)) == (status, got)
    assert answer.headers.get("Min-Expires") == ("60" if status == 423 else None)


async def test_the_contacts_own_expires_goes_before_the_header(desk: Desk) -> None:
    assert expires(await desk.register(f"{HERE};expires=90", "Expires: 600")) == [90]


async def test_a_refresh_moves_the_expiry_and_is_no_news(desk: Desk) -> None:
    await desk.register(HERE, "Expires: 100")
    desk.house.advance(50)
    answer = await desk.register(HERE, "Expires: 100")
    assert expires(answer) == [100]
    desk.house.advance(80)
    assert desk.uris() == ["sip:ana@192.0.2.7:5062"]
    assert len(desk.house.kinds("device.registered")) == 1
    assert len(desk.probed) == 1


async def test_a_register_without_contacts_asks_what_there_is(desk: Desk) -> None:
    await desk.register(f"{HERE};q=0.5", "Expires: 100")
    desk.house.advance(40)
    answer = await desk.register(None)
    assert expires(answer) == [60]
    assert answer.contacts[0].q == 0.5


async def test_zero_takes_one_binding_out_and_a_star_takes_all(desk: Desk) -> None:
    await desk.register()
    await desk.register("<sip:ana@198.51.100.1>", call_id="call-2")
    answer = await desk.register(f"{HERE};expires=0")
    assert [str(contact.uri) for contact in answer.contacts] == ["sip:ana@198.51.100.1"]
    answer = await desk.register("*", "Expires: 0", call_id="call-3")
    assert (answer.status, answer.contacts, desk.uris()) == (200, [], [])
    assert [event.facts["reason"] for event in desk.house.kinds("device.unregistered")] == [
        "unregistered"
    ] * 2


@pytest.mark.parametrize(
    ("contact", "more"),
    [("*", ["Expires: 60"]), ("*", []), ("tel:+1234", [])],
)
async def test_contacts_that_make_no_sense_are_refused(desk: Desk, contact: str, more: list[str]) -> None:
    assert (await desk.register(contact, *more)).status == 400
    assert desk.uris() == []


async def test_a_register_that_was_overtaken_changes_nothing(desk: Desk) -> None:
    await desk.register(cseq=5)
    assert (await desk.register(f"{HERE};expires=0", cseq=4)).status == 500
    assert (await desk.register("*", "Expires: 0", cseq=5)).status == 500
    assert len(desk.uris()) == 1
    assert (await desk.register(f"{HERE};expires=0", call_id="after a reboot", cseq=1)).status == 200
    assert desk.uris() == []


async def test_one_refused_contact_refuses_all(desk: Desk) -> None:
    await desk.register(cseq=5)
    answer = await desk.register(f"<sip:ana@198.51.100.1>, {HERE};expires=0", cseq=5)
    assert answer.status == 500
    assert len(desk.uris()) == 1


async def test_the_same_instance_from_another_network_takes_its_own_place(desk: Desk) -> None:
    instance = '+sip.instance="<urn:uuid:0001>";reg-id=1'
    await desk.register(f"{HERE};{instance}")
    away = Line("UDP", ("198.51.100.9", 40000), "udp|2")
    answer = await desk.register(f"<sip:ana@10.0.0.9:5062>;{instance}", call_id="call-2", flow=away)
    assert desk.uris() == ["sip:ana@10.0.0.9:5062"]
    assert answer.contacts[0].instance == "urn:uuid:0001"
    assert answer.contacts[0].param("reg-id") == "1"
    assert desk.house.kinds("device.unregistered") == []


async def test_two_flows_of_one_instance_are_two_bindings(desk: Desk) -> None:
    instance = '+sip.instance="<urn:uuid:0001>"'
    await desk.register(f"{HERE};{instance};reg-id=1")
    await desk.register(f"{HERE};{instance};reg-id=2", call_id="call-2")
    assert len(desk.uris()) == 2


FLOW = f'{HERE};+sip.instance="<urn:uuid:0001>";reg-id=1'
BY_OUTBOUND = "Supported: path, outbound"
ANOTHER_HOP = "Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK0"


@pytest.mark.parametrize(
    ("contact", "more", "promised"),
    [
        (FLOW, [BY_OUTBOUND], True),
        (FLOW, [], False),
        (HERE, [BY_OUTBOUND], False),
        (f"{HERE};reg-id=1", [BY_OUTBOUND], False),
        (f"{FLOW};expires=0", [BY_OUTBOUND], False),
        (FLOW, [BY_OUTBOUND, ANOTHER_HOP], False),
        (FLOW, [BY_OUTBOUND, ANOTHER_HOP, "Path: <sip:edge.test;lr>"], False),
        (FLOW, [BY_OUTBOUND, ANOTHER_HOP, "Path: <sip:edge.test;lr;ob>"], True),
        (FLOW, ["Require: outbound", "Path: <sip:core.test;lr>, <sip:edge.test;lr;ob>"], True),
    ],
)
async def test_a_flow_is_promised_to_whom_it_can_be(
    desk: Desk, contact: str, more: list[str], promised: bool
) -> None:
    for _ in range(2):  # at first, and when it is refreshed
        answer = await desk.register(contact, *more)
        assert answer.status == 200
        assert (answer.headers.get("Require") == "outbound") is promised


@pytest.mark.parametrize(("flow", "seconds"), [(UDP, "30"), (Line("TCP", ("192.0.2.7", 1), "tcp-1"), "120")])
async def test_a_phone_is_told_how_often_to_show_that_its_flow_is_alive(
    desk: Desk, flow: Flow, seconds: str
) -> None:
    assert (await desk.register(FLOW, BY_OUTBOUND, flow=flow)).headers.get("Flow-Timer") == seconds
    # The flow of a phone behind an edge proxy is the proxy's to watch.
    behind = await desk.register(FLOW, BY_OUTBOUND, "Path: <sip:edge.test;lr;ob>", flow=flow)
    assert "Flow-Timer" not in behind.headers


@pytest.mark.parametrize("path", [[], ["Path: <sip:edge.test;lr>"]])
async def test_who_insists_on_a_flow_its_first_hop_does_not_keep_is_refused(
    desk: Desk, path: list[str]
) -> None:
    answer = await desk.register(FLOW, "Require: outbound", ANOTHER_HOP, *path)
    assert (answer.status, answer.reason) == (439, "First Hop Lacks Outbound Support")
    assert desk.uris() == []


async def test_two_flows_at_a_time_are_refused(desk: Desk) -> None:
    answer = await desk.register(f"{FLOW}, <sip:ana@192.0.2.8>", BY_OUTBOUND)
    assert (answer.status, desk.uris()) == (400, [])


async def test_a_phone_without_an_instance_leaves_no_twin_either(desk: Desk) -> None:
    await desk.register()
    await desk.register("<sip:ana@10.0.0.9:5062>")
    assert desk.uris() == ["sip:ana@10.0.0.9:5062"]
    await desk.register("<sip:ana@192.0.2.8>", call_id="another phone")
    assert len(desk.uris()) == 2


async def test_addresses_that_mean_the_same_are_one_binding(desk: Desk) -> None:
    await desk.register("<sip:ana@Phone.Example:5062;ob>", call_id="call-1")
    await desk.register("<sip:ana@phone.example:5062>", call_id="call-2")
    assert desk.uris() == ["sip:ana@phone.example:5062"]


async def test_feature_tags_and_path_are_kept(desk: Desk) -> None:
    path = "<sip:edge.test;lr;ob>"
    answer = await desk.register(f'{HERE};audio;video="FALSE";methods="INVITE,MESSAGE"', f"Path: {path}")
    (binding,) = desk.house.location.bindings(AOR)
    assert dict(binding.features) == {"audio": "TRUE", "video": "FALSE", "methods": "INVITE,MESSAGE"}
    assert binding.path == (path,)
    assert answer.headers.get("Path") == path


async def test_a_phone_that_tells_is_not_asked_and_a_silent_one_is(desk: Desk) -> None:
    await desk.register(f"{HERE};audio;video")
    assert desk.probed == []
    await desk.register("<sip:ana@198.51.100.1>;audio", call_id="call-2")
    assert [binding.contact_uri for binding in desk.probed] == ["sip:ana@198.51.100.1"]


async def test_what_a_phone_answers_is_learnt_and_survives_a_restart(desk: Desk) -> None:
    body = b"v=0\r\nm=audio 4000 RTP/AVP 0\r\nm=video 4002 RTP/AVP 97\r\n"
    await desk.registrar.learn("device-ana", Response(200, body=body))
    await desk.registrar.learn("device-ana", Response(503))
    await desk.registrar.learn("device-nobody", Response(200, body=body))
    assert desk.house.device("ana").learnt == {"voice": True, "video": True}
    assert (await desk.house.again()).device("ana").learnt == {"voice": True, "video": True}


async def test_a_binding_ends_with_its_connection(desk: Desk) -> None:
    flow = Line("TCP", ("192.0.2.7", 40000), "tcp-1")
    await desk.register(flow=flow)
    flow.ended()
    assert desk.house.location.all_bindings(AOR) == {}
    assert desk.house.kinds("device.unregistered")[0].facts["reason"] == "the connection ended"


async def test_a_phone_that_reconnects_is_not_taken_out_by_the_end_of_its_old_connection(desk: Desk) -> None:
    contact = f'{HERE};+sip.instance="<urn:uuid:1>";reg-id=1'
    old, new = (Line("TCP", ("192.0.2.7", port), f"tcp-{port}") for port in (40000, 40001))
    await desk.register(contact, flow=old)
    await desk.register(contact, flow=new)
    old.ended()
    assert [binding.flow_token for binding in desk.house.location.bindings(AOR)] == ["tcp-40001"]


async def test_one_phone_too_many_takes_the_place_of_the_one_that_would_be_gone_first(desk: Desk) -> None:
    for number in range(10):
        answer = await desk.register(
            f"<sip:ana@192.0.2.{number}>", f"Expires: {1000 - number}", call_id=f"call-{number}"
        )
        assert answer.status == 200
    assert (await desk.register("<sip:ana@192.0.2.99>", call_id="one more")).status == 200
    uris = desk.uris()
    assert len(uris) == 10
    assert "sip:ana@192.0.2.99" in uris
    assert "sip:ana@192.0.2.9" not in uris
    assert (await desk.register("<sip:ana@192.0.2.1>", call_id="call-1", cseq=99)).status == 200
    assert len(desk.uris()) == 10


async def test_more_contacts_than_anybody_has_phones_are_refused(desk: Desk) -> None:
    contacts = ", ".join(f"<sip:ana@192.0.2.{number}>" for number in range(11))
    assert (await desk.register(contacts)).status == 403
    assert desk.uris() == []


@pytest.mark.parametrize("reg_id", ["0", "x", "2147483648", "00000000001" + "9" * 5000])
async def test_a_reg_id_that_is_no_31_bit_number_is_refused(desk: Desk, reg_id: str) -> None:
    answer = await desk.register(f'{HERE};+sip.instance="<urn:uuid:1>";reg-id={reg_id}')
    assert (answer.status, desk.uris()) == (400, [])


async def test_what_is_not_utf_8_is_refused_before_it_can_spoil_a_write(desk: Desk) -> None:
    assert (await desk.register("<sip:an\udce4@192.0.2.7>")).status == 400
    assert (await desk.register(call_id="\udce4")).status == 400
    assert (await desk.register(HERE, "User-Agent: T\udce9l\udce9phone Zoë")).status == 200
    (binding,) = desk.house.location.bindings(AOR)
    assert binding.user_agent == "T?l?phone Zoë"
    assert [stored.user_agent for stored in await desk.house.store.bindings()] == ["T?l?phone Zoë"]


async def test_a_customers_browser_registers_too_and_is_no_device(desk: Desk) -> None:
    answer = await desk.register(
        "<sip:cust-1@abc.invalid;transport=ws>", user="cust-1", to=f"sip:cust-1@{DOMAIN}"
    )
    assert answer.status == 200
    (binding,) = desk.house.location.bindings(f"sip:cust-1@{DOMAIN}")
    assert binding.device_id is None
    assert desk.house.kinds("device.registered") == []
    assert desk.probed == []


async def test_when_a_customers_address_went_is_not_remembered(desk: Desk) -> None:
    for user in ("cust-1", "ana"):
        aor = f"sip:{user}@{DOMAIN}"
        await desk.register(f"<sip:{user}@192.0.2.7>", user=user, to=aor)
        await desk.register("*", "Expires: 0", user=user, to=aor)
    assert desk.house.location.gone_at(f"sip:cust-1@{DOMAIN}") is None
    assert desk.house.location.gone_at(AOR) is not None


async def test_a_registration_that_cannot_be_stored_is_not_confirmed(desk: Desk) -> None:
    await desk.house.database.close()
    desk.house.store.change_bindings = _fails  # type: ignore[method-assign]
    message = parse(
        f"REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <{AOR}>;tag=1\r\nTo: <{AOR}>\r\n"
        f"Call-ID: c\r\nCSeq: 1 REGISTER\r\nX-User: ana\r\nContact: {HERE}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    asked: Any = Asked(message, UDP)  # type: ignore[arg-type]
    desk.house.events.write = _fails  # type: ignore[method-assign]
    desk.house.store.keep_agent_state = _fails  # type: ignore[method-assign]
    desk.registrar.on_register(asked)

    await asyncio.sleep(0)
    assert [answer.status for answer in asked.answers] == [500]


def _fails(*_: Any, **__: Any) -> Any:

    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    failed.set_exception(OSError("disk full"))
    return failed


def plain(*more: str, uri: str = f"sip:{DOMAIN}", body: str = "") -> Request:
    lines = [
        f"REGISTER {uri} SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK1",
        f"From: <{AOR}>;tag=1",
        f"To: <{AOR}>",
        "Call-ID: c",
        "CSeq: 1 REGISTER",
        *more,
        f"Content-Length: {len(body)}",
        "",
        body,
    ]
    message = parse("\r\n".join(lines).encode())
    assert isinstance(message, Request)
    return message


def test_who_brings_no_proof_is_asked_at_once_as_on_register_would_ask(desk: Desk) -> None:
    headers = desk.registrar.challenge(plain(), UDP)
    assert headers is not None
    asked: Any = Asked(plain(), UDP)
    desk.registrar.on_register(asked)
    assert asked.answers[0].status == 401
    assert [("WWW-Authenticate", asked.answers[0].headers.get("WWW-Authenticate"))] == list(headers)


@pytest.mark.parametrize(
    "request_",
    [
        plain(uri="sip:elsewhere.example"),
        plain("Require: teleport"),
        plain("Replaces: a;to-tag=b;from-tag=c"),
        plain("Content-Encoding: gzip", body="x"),
    ],
)
def test_what_is_to_be_refused_for_something_else_is_not_challenged(desk: Desk, request_: Request) -> None:
    assert desk.registrar.challenge(request_, UDP) is None
