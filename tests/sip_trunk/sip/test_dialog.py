from __future__ import annotations

import pytest

from sip_trunk.sip.dialog import Dialog, Event, State, next_hop, through
from sip_trunk.sip.errors import BadMessage
from sip_trunk.sip.message import Request, Response


def invite(*extra: tuple[str, str]) -> Request:
    return Request(
        "INVITE",
        "sip:bob@b.example",
        [
            ("Via", "SIP/2.0/UDP a.example;branch=z9hG4bK1"),
            ("From", '"Ana" <sip:ana@a.example>;tag=a1'),
            ("To", "<sip:bob@b.example>"),
            ("Call-ID", "c1"),
            ("CSeq", "7 INVITE"),
            ("Contact", "<sip:ana@10.0.0.1>"),
            *extra,
        ],
    )


def answer(status: int, tag: str = "b1", *extra: tuple[str, str]) -> Response:
    headers = [("Contact", "<sip:bob@10.0.0.2:5080>"), *extra]
    return invite().response(status, to_tag=tag, headers=headers)


def test_the_caller_learns_target_and_reversed_route_set() -> None:
    routes = ("Record-Route", "<sip:p2;lr>, <sip:p1;lr>")
    dialog = Dialog.of_caller(invite(), answer(180, "b1", routes))
    assert dialog.state is State.EARLY
    assert dialog.id == ("c1", "a1", "b1")
    assert dialog.target == "sip:bob@10.0.0.2:5080"
    assert dialog.routes == ("<sip:p1;lr>", "<sip:p2;lr>")
    request = dialog.request("BYE")
    assert request.uri_text == "sip:bob@10.0.0.2:5080"
    assert request.headers.all("Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
    assert request.headers.get("From") == '"Ana" <sip:ana@a.example>;tag=a1'
    assert request.headers.get("To") == "<sip:bob@b.example>;tag=b1"
    assert request.cseq.number == 8
    assert str(dialog.next_hop()) == "sip:p1;lr"


def test_the_callee_mirrors_it_and_keeps_the_route_order() -> None:
    dialog = Dialog.of_callee(invite(("Record-Route", "<sip:p2;lr>"), ("Record-Route", "<sip:p1;lr>")), "b1")
    assert dialog.id == ("c1", "b1", "a1")
    assert dialog.routes == ("<sip:p2;lr>", "<sip:p1;lr>")
    request = dialog.request("BYE")
    assert request.uri_text == "sip:ana@10.0.0.1"
    assert request.headers.get("From") == "<sip:bob@b.example>;tag=b1"
    assert request.cseq.number == 1


def test_the_2xx_has_the_last_word_on_target_and_routes() -> None:
    dialog = Dialog.of_caller(invite(), answer(180, "b1", ("Record-Route", "<sip:p1;lr>")))
    final = answer(200)
    final.headers.set("Contact", "<sip:bob@10.0.0.9>")
    dialog.learn(final)
    assert dialog.state is State.CONFIRMED
    assert dialog.routes == ()
    assert dialog.target == "sip:bob@10.0.0.9"
    dialog.learn(answer(180, "b1", ("Record-Route", "<sip:late;lr>")))
    assert dialog.routes == ()
    assert dialog.state is State.CONFIRMED


def test_an_ack_has_the_number_of_its_invite_and_uses_none_up() -> None:
    dialog = Dialog.of_caller(invite(), answer(200))
    ack = dialog.request("ACK", 7)
    assert str(ack.cseq) == "7 ACK"
    assert dialog.request("INFO").cseq.number == 8


def test_requests_must_come_in_order() -> None:
    dialog = Dialog.of_callee(invite(), "b1")
    assert dialog.in_order(Request("INFO", "sip:x", [("CSeq", "9 INFO")]))
    assert not dialog.in_order(Request("INFO", "sip:x", [("CSeq", "8 INFO")]))
    assert dialog.in_order(Request("INFO", "sip:x", [("CSeq", "9 INFO")]))
    caller = Dialog.of_caller(invite(), answer(200))
    assert caller.in_order(Request("INFO", "sip:x", [("CSeq", "0 INFO")]))


def test_a_strict_router_gets_itself_as_request_uri() -> None:
    uri, routes = through("sip:bob@10.0.0.2", ("<sip:strict.example>", "<sip:p2;lr>"))
    assert uri == "sip:strict.example"
    assert routes == ("<sip:p2;lr>", "<sip:bob@10.0.0.2>")
    assert str(next_hop("sip:bob@10.0.0.2", ("<sip:strict.example>",))) == "sip:strict.example"


def test_a_route_is_its_address_and_not_what_looks_like_one() -> None:
    routes = ('"<sip:elsewhere.example>" <sip:lrouter.example;LR=on>',)
    assert str(next_hop("sip:bob@10.0.0.2", routes)) == "sip:lrouter.example;LR=on"
    assert through("sip:bob@10.0.0.2", routes) == ("sip:bob@10.0.0.2", routes)
    assert through("sip:b@h", ("<sip:p;lrx=1>",)) == ("sip:p;lrx=1", ("<sip:b@h>",))


def test_a_new_contact_moves_the_target_and_a_missing_one_does_not() -> None:
    dialog = Dialog.of_callee(invite(), "b1")
    dialog.refresh(Request("INVITE", "sip:x", [("Contact", "<sip:ana@10.0.0.7>")]))
    assert dialog.target == "sip:ana@10.0.0.7"
    dialog.refresh(Request("UPDATE", "sip:x", []))
    assert dialog.target == "sip:ana@10.0.0.7"


def test_a_broken_contact_is_an_error_in_a_request_and_passed_over_in_an_answer() -> None:
    dialog = Dialog.of_callee(invite(), "b1")
    with pytest.raises(BadMessage):
        dialog.refresh(Request("INVITE", "sip:x", [("Contact", "<nonsense>")]))
    broken = answer(200)
    broken.headers.set("Contact", "<nonsense>")
    assert Dialog.of_caller(invite(), broken).target == "sip:bob@b.example"


def test_a_broken_route_in_the_invite_is_refused_and_in_its_answer_passed_over() -> None:
    with pytest.raises(BadMessage):
        Dialog.of_callee(invite(("Record-Route", "<:;lr>")), "b1")
    assert Dialog.of_caller(invite(), answer(200, "b1", ("Record-Route", "<:;lr>"))).routes == ()


def test_what_is_over_stays_over() -> None:
    dialog = Dialog.of_caller(invite(), answer(180))
    dialog.move(Event.OVER)
    dialog.learn(answer(200))
    dialog.move(Event.SUCCESS)
    assert dialog.state is State.TERMINATED
