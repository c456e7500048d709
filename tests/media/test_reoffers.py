"""What may change from one offer to the next (RFC 3264 section 8), and what that does to packets on their way."""

from __future__ import annotations

from media import offer_answer as oa
from media.sdp import Origin, parse
from media.server import Profile
from tests.media.descriptions import plain
from tests.media.relay_house import HOST, House, with_video
from tests.media.test_offer_answer import answer_to, take


async def test_a_place_may_become_one_of_another_kind(house: House) -> None:
    """RFC 3264 section 8.3.3."""
    free = len(house.relay._ports)
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    house.relay.answer("c", "a", with_video(plain(a.port), 4002))
    third = b"m=audio 4004 RTP/AVP 8\r\n"
    answer = parse(house.relay.answer("c", "a", plain(a.port) + third))
    assert [m.kind for m in answer.media] == ["audio", "audio"]
    assert all(m.port for m in answer.media)
    leg = house.relay._leg("c", "a")
    assert [stream.kind for stream in leg.carried] == ["audio", "audio"]
    assert len(house.relay._ports) == free - 3, "the port of what was there before is free"
    a.say(b"sound")
    assert await b.hears() == b"sound"


async def test_a_place_that_was_given_up_is_used_again_for_another_kind(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    offer = plain(a.port) + b"m=application 5070 UDP/BFCP *\r\n"
    assert [m.port > 0 for m in parse(house.relay.answer("c", "a", offer)).media] == [True, False]
    pictures = house.phone()
    answer = parse(house.relay.answer("c", "a", with_video(plain(a.port), pictures.port)))
    assert [(m.kind, m.port > 0) for m in answer.media] == [("audio", True), ("video", True)]
    pictures.to = (HOST, answer.media[1].port)
    offered = parse(house.relay.offer("c", "b", profile=Profile.RTP, like="a", adding=True))
    shown = house.phone()
    shown.to = (HOST, offered.media[1].port)
    house.relay.accept("c", "b", with_video(plain(b.port), shown.port))
    pictures.say(b"picture", kind=96)
    assert await shown.hears() == b"picture"


async def test_an_offer_with_fewer_media_than_before_leaves_no_port_behind(house: House) -> None:
    """It may not be made; somebody does."""
    a = house.called("a")
    free = len(house.relay._ports)
    house.relay.answer("c", "a", with_video(plain(a.port), 4002))
    assert len(house.relay._ports) == free - 1
    house.relay.answer("c", "a", plain(a.port))
    assert len(house.relay._ports) == free


H264 = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 4000 RTP/AVP 99\r\n"
    b"a=rtpmap:99 H264/90000\r\na=fmtp:99 profile-level-id=42e01f; packetization-mode=1; "
    b"sprop-parameter-sets=Z0LgH9oBQBbo,aM4G4g==\r\n"
)


def test_nobody_is_told_their_own_parameter_sets_as_ours() -> None:
    """RFC 6184 section 8.2.2: a decoder that believes them shows nothing until ours come in the stream."""
    answered = answer_to(H264).media[0].payloads[0]
    assert oa.parameters(answered) == {"profile-level-id": "42e01f", "packetization-mode": "1"}
    lines = oa.offer_lines(Profile.RTP, take(H264), None)
    where = [oa.Local(HOST, 30000)]
    offer = parse(oa.write(Origin(), Profile.RTP, lines, where, answering=False).to_bytes())
    assert "sprop-parameter-sets" in oa.parameters(offer.media[0].payloads[0]), "the other may use those"
