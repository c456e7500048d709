"""Of whom plain RTP and RTCP are believed, and that nobody who comes later takes a call over."""

from __future__ import annotations

import asyncio
import struct

from media import rtcp
from media.plain import LEARN_S
from tests.media.descriptions import plain
from tests.media.relay_house import HOST, House, Phone


def at(phone: Phone, port: int) -> Phone:
    phone.to = (HOST, port)
    return phone


async def behind_nat(house: House, signalled: int) -> tuple[Phone, Phone]:
    """Two who are joined; the first says that it is at that port, and is at another."""
    phone, other = house.phone(), house.called("b")
    phone.heard_answer(house.relay.answer("c", "a", plain(signalled)))
    house.relay.join("c", "a", "b")
    phone.say(b"by the nat")
    assert await other.hears() == b"by the nat"
    return phone, other


async def test_who_was_believed_for_a_while_is_not_replaced_by_who_comes_from_the_signalled_port(
    house: House,
) -> None:
    late = house.phone()
    phone, other = await behind_nat(house, late.port)
    house.later += LEARN_S + 0.1
    at(late, phone.to[1]).say(b"too late")
    assert await other.silent()
    other.say(b"for the first")
    assert await phone.hears() == b"for the first"
    assert await late.silent()


async def test_what_was_left_of_a_call_before_keeps_nobody_out_of_the_port_they_named(house: House) -> None:
    named = house.phone()
    left, other = await behind_nat(house, named.port)
    at(named, left.to[1]).say(b"the one who was meant")
    assert await other.hears() == b"the one who was meant"
    other.say(b"found you")
    assert await named.hears() == b"found you"
    left.say(b"of the call before")
    assert await other.silent()


async def test_who_knows_the_source_of_a_stream_is_not_heard_by_that(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    a.say(b"first")
    assert await b.hears() == b"first"
    thief = at(house.phone(), a.to[1])
    thief.ssrc, thief.seq = a.ssrc, a.seq
    thief.say(b"the same source")
    assert await b.silent()
    a.say(b"second")
    assert await b.hears() == b"second"


def report(phone: Phone) -> bytes:
    return rtcp.write(rtcp.SR, 0, struct.pack("!7I", phone.ssrc, 1, 2, 3, 4, 5, 0)[:24])


async def rtcp_of(house: House, branch: str, phone: Phone, control: Phone) -> None:
    """A new offer of that phone, with its RTCP at a socket of its own."""
    offer = plain(phone.port) + b"a=rtcp:%d\r\n" % control.port
    media = phone.heard_answer(house.relay.answer("c", branch, offer))
    control.to = (HOST, media.port + 1)


async def test_the_rtcp_port_cannot_be_stolen(house: House) -> None:
    a, b, at_a, at_b, thief = (house.phone() for _ in range(5))
    await rtcp_of(house, "a", a, at_a)
    await rtcp_of(house, "b", b, at_b)
    house.relay.join("c", "a", "b")
    for one, other in ((a, b), (b, a)):
        one.say(b"sound")
        assert await other.hears() == b"sound"
    for one, control, other in ((a, at_a, at_b), (b, at_b, at_a)):
        control.sock.sendto(report(one), control.to)
        assert rtcp.packets(await other.hear())[0][0] == rtcp.SR
    thief.ssrc = a.ssrc
    at(thief, at_a.to[1])
    thief.sock.sendto(report(thief), thief.to)
    assert await at_b.silent(), "another's report is not passed on"
    at_b.sock.sendto(report(b), at_b.to)
    assert rtcp.packets(await at_a.hear())[0][0] == rtcp.SR
    assert await thief.silent()


async def test_rtp_to_the_rtcp_port_and_rtcp_to_the_rtp_port_do_nothing(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    a.say(b"sound")
    assert await b.hears() == b"sound"
    a.sock.sendto(report(a), a.to)
    rtp = a.to
    at(a, rtp[1] + 1).say(b"in the wrong place")
    assert await b.silent()
    at(a, rtp[1]).say(b"sound")
    assert await b.hears() == b"sound"


async def test_rtcp_to_nowhere_goes_beside_the_media_and_not_to_this_machine(house: House) -> None:
    """`a=rtcp:9 IN IP4 0.0.0.0` is a browser's placeholder; to the kernel it names this machine."""
    a, victim = house.phone(), house.phone()
    offer = plain(a.port) + b"a=rtcp:%d IN IP4 0.0.0.0\r\n" % victim.port
    a.heard_answer(house.relay.answer("c", "a", offer))
    (endpoint,) = house.relay._leg("c", "a").endpoints.values()
    assert endpoint._rtcp_target == (HOST, victim.port)  # type: ignore[union-attr]


async def test_a_port_is_good_again_at_once(house: House) -> None:
    """All of them are taken, and each that is given back is the next call's, whatever still comes for the last one."""
    taken = [house.called(str(number), call="many") for number in range(15)]
    for number in range(5):
        house.relay.drop("many", str(number))
        taken[number].say(b"of the call before")
        again = house.called(f"again {number}", call="many")
        assert again.to == taken[number].to
        assert again.to[1] % 2 == 0
        again.say(b"of this call")
        await asyncio.sleep(0.02)
        stats = house.relay.stats("many")[f"again {number}"]
        assert stats["kinds"]["audio"]["packets_in"] >= 1
