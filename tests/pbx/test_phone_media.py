"""What a phone is offered, what it is offered next when it refuses that, and where its packets are looked for."""

from __future__ import annotations

import pytest

from media.server import Profile
from pbx.contact import Channel, Contact, State
from pbx.phone_media import Terms, behind_nat, has_video, holds, is_encrypted, is_ipv6, next_terms
from sip_trunk import user_agent as sip
from sip_trunk.user_agent import ReinviteAnswered, ReinviteRefused, Reoffered, Target
from tests.pbx.centre import Centre, FakeFlow, Ringing

UDP = Target("sip:ana@192.0.2.7:5062", (), FakeFlow("UDP", ("192.0.2.7", 5062), "u"))
TLS = Target("sip:ana@192.0.2.7;transport=tls", (), FakeFlow("TLS", ("192.0.2.7", 5061), "t"))


def all_terms(target: Target, best: Profile) -> list[tuple[str, bool]]:
    tried = [Terms(best)]
    while (terms := next_terms(target, tried)) is not None:
        tried.append(terms)
    return [(terms.profile.value, terms.wide) for terms in tried]


def test_what_is_offered_one_after_the_other() -> None:
    assert all_terms(UDP, Profile.RTP) == [("rtp", False), ("rtp", True), ("dtls", True)]
    assert all_terms(TLS, Profile.RTP) == [
        ("rtp", False), ("sdes", False), ("rtp", True), ("sdes", True), ("dtls", True),
    ]  # fmt: skip
    assert all_terms(TLS, Profile.SDES) == [("sdes", False), ("sdes", True), ("rtp", True), ("dtls", True)]
    assert all_terms(UDP, Profile.DTLS) == [("dtls", False), ("dtls", True), ("rtp", True)]
    assert all_terms(UDP, Profile.WEBRTC) == [("webrtc", False), ("webrtc", True)]


@pytest.mark.parametrize(
    ("uri", "encrypted", "six"),
    [
        ("sip:a@192.0.2.7", False, False),
        ("sip:a@192.0.2.7;transport=tls", True, False),
        ("sips:a@[2001:db8::1]", True, True),
        ("nonsense", False, False),
    ],
)
def test_the_contact_tells_where_there_is_no_flow(uri: str, encrypted: bool, six: bool) -> None:
    assert (is_encrypted(Target(uri)), is_ipv6(Target(uri))) == (encrypted, six)


async def rung(centre: Centre) -> tuple[Ringing, Contact]:
    await centre.agent()
    contact = await centre.asks()
    await centre.calls_in(contact)
    return centre.phone.rung[-1], contact


async def test_a_phone_that_refuses_the_offer_gets_another_and_it_is_remembered() -> None:
    centre = await Centre.open()
    phone, contact = await rung(centre)
    for _ in range(2):
        phone.refuse(488)
        await centre.settle()
        phone = centre.phone.rung[-1]
    offers = [(o["profile"], o["wide"]) for o in centre.media.offers]
    assert offers == [(Profile.RTP, False), (Profile.RTP, True), (Profile.DTLS, True)]
    assert len(centre.media.branches) == 2, "the customer's and one of the phone's"
    phone.pick_up()
    await centre.settle()
    assert contact.state is State.CONNECTED
    (device,) = centre.house.roster.devices_of("agent-ana")
    assert device.learnt == {"sdes": False, "dtls": True}
    (again,) = centre.staffing.phones("agent-ana", Channel.VOICE)
    assert again.profile is Profile.DTLS


async def test_a_phone_that_refuses_everything_is_unreachable() -> None:
    centre = await Centre.open()
    _, contact = await rung(centre)
    for expected in (2, 3):
        centre.phone.rung[-1].refuse(488)
        await centre.settle()
        assert len(centre.phone.rung) == expected
    centre.phone.rung[-1].refuse(606)
    await centre.settle()
    assert len(centre.phone.rung) == 3
    assert "unreachable" in centre.kinds(contact)


async def test_a_caller_who_refuses_the_agents_codec_is_transcoded_and_not_lost() -> None:
    centre = await Centre.open()
    centre.media.different = True
    await centre.agent()
    contact = await centre.asks()
    caller = await centre.calls_in(contact)
    centre.phone.rung[0].pick_up()
    await centre.settle()
    assert caller.reinvites == [b"offer of ours"], "asked first"
    caller.tell(ReinviteRefused(488))
    await centre.settle()
    assert contact.state is State.CONNECTED
    assert centre.media.joined == [(contact.id, "customer-1", "agent-1-1")]


HOME = b"v=0\r\nc=IN IP4 192.168.1.20\r\nm=audio 4000 RTP/AVP 0\r\n"


@pytest.mark.parametrize(
    ("body", "here", "found"),
    [
        (HOME, "203.0.113.9", "203.0.113.9"),
        (HOME, "192.168.1.20", None),
        (HOME.replace(b"192.168.1.20", b"198.51.100.7"), "198.51.100.8", None),
        (HOME.replace(b"192.168.1.20", b"media.example"), "203.0.113.9", None),
        (HOME.replace(b"192.168.1.20", b"127.0.0.1"), "203.0.113.9", "203.0.113.9"),
        (HOME.replace(b"192.168.1.20", b"127.0.0.1"), "127.0.0.1", "127.0.0.1"),
        (HOME.replace(b"IP4 192.168.1.20", b"IP6 ::ffff:169.254.1.2"), "169.254.1.2", "169.254.1.2"),
        (HOME.replace(b"IP4 192.168.1.20", b"IP6 fe80::1"), "fe80::1%eth0", "fe80::1%eth0"),
        (HOME.replace(b"192.168.1.20", b"0.0.0.0"), "203.0.113.9", None),
        (b"", "203.0.113.9", None),
    ],
)
def test_a_private_address_is_a_nats_and_one_of_this_machine_no_peers(
    body: bytes, here: str, found: str | None
) -> None:
    # 198.51.100.0/24 stands for a public network; Python counts it among the private ones.
    if b"198.51.100" in body:
        body = body.replace(b"198.51.100.7", b"8.8.8.8")
    assert behind_nat(body, FakeFlow("UDP", (here, 5060), "u")) == found
    assert behind_nat(body, None) is None


async def test_media_is_told_where_a_phone_behind_a_nat_is() -> None:
    centre = await Centre.open()
    phone, _ = await rung(centre)
    phone.flow = FakeFlow("UDP", ("203.0.113.9", 4444), "u")
    phone.pick_up(HOME)
    await centre.settle()
    assert centre.media.seen == [("agent-1-1", "203.0.113.9")]


VIDEO = b"m=audio 4000 RTP/AVP 0\r\nm=video 4002 RTP/AVP 96\r\n"


def test_a_refused_video_is_none() -> None:
    assert has_video(VIDEO)
    assert not has_video(VIDEO.replace(b"4002", b"0"))


async def test_pictures_that_one_adds_are_offered_to_the_other() -> None:
    centre = await Centre.open()
    await centre.agent("ana")
    await centre.agent("bo")
    caller = await centre.dials("ana", "bo")
    phone = centre.phone.rung[-1]
    callee = centre.media.offers[-1]["branch"]
    phone.pick_up()
    await centre.settle()
    phone.tell(Reoffered(VIDEO))
    await centre.settle()
    assert phone.reoffer_answers == [b"answer to " + VIDEO]
    assert caller.reinvites == [b"offer of ours"]
    assert (centre.media.offers[-1]["adding"], centre.media.offers[-1]["like"]) == (True, callee)
    caller.tell(ReinviteAnswered(VIDEO))
    await centre.settle()
    # A hold changes nothing of what there is: nobody else hears of it.
    phone.tell(Reoffered(VIDEO + b"a=sendonly\r\n"))
    await centre.settle()
    assert len(caller.reinvites) == 1
    phone.tell(Reoffered(VIDEO.replace(b"4002", b"0")))
    await centre.settle()
    assert len(caller.reinvites) == 2, "and dropped"
    caller.tell(sip.ReinviteRefused(488))
    await centre.settle()
    assert caller.over is None
    assert phone.over is None


@pytest.mark.parametrize(
    ("body", "held"),
    [
        (b"v=0\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\n", True),
        (b"v=0\r\na=inactive\r\nm=audio 4000 RTP/AVP 0\r\n", True),
        (b"v=0\r\na=inactive\r\nm=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n", False),
        (b"v=0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n", True),
        (b"v=0\r\nm=audio 4000 RTP/AVP 0\r\nm=video 4002 RTP/AVP 96\r\na=inactive\r\n", False),
        (b"v=0\r\nm=audio 4000 RTP/AVP 0\r\na=recvonly\r\n", False),
        (b"nonsense", False),
    ],
)
def test_a_phone_that_does_not_listen_holds(body: bytes, held: bool) -> None:
    assert holds(body) is held
