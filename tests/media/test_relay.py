from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
from itertools import pairwise

import pytest

from config.errors import OurError, TheirError
from media import rtcp, stun, webrtc
from media.arrivals import Arrivals
from media.plain import PlainEndpoint, PortRange
from media.rtp import Packet, Stream
from media.sdp import parse
from media.server import AUDIO_ONLY, SILENCE_S, Profile
from tests.media.descriptions import CHROMIUM, plain
from tests.media.relay_house import HOST, Browser, House, video, with_video
from tests.peers.process import free_range, until


async def test_two_phones_hear_each_other_once_joined(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    a.say(b"too early")
    assert await b.silent()
    house.relay.join("c", "a", "b")
    a.say(b"hello b")
    b.say(b"hello a")
    assert await b.hears() == b"hello b"
    assert await a.hears() == b"hello a"
    house.relay.part("c", "a", "b")
    a.say(b"too late")
    assert await b.silent()


async def test_a_browser_and_a_phone_hear_each_other(house: House) -> None:
    a, b = await house.browser("a"), house.called("b")
    house.relay.join("c", "a", "b")
    a.say(b"from the browser")
    assert await b.hears() == b"from the browser"
    b.say(b"from the phone")
    assert await a.hears() == b"from the phone"
    assert house.relay.stats("c")["a"]["ready"]


async def test_a_browser_that_we_call_is_the_dtls_client_of_our_offer(house: House) -> None:
    caller = house.called("a")
    offer = parse(house.relay.offer("c", "b", profile=Profile.WEBRTC, like="a"))
    assert (offer.media[0].setup, offer.media[0].protocol) == ("actpass", "UDP/TLS/RTP/SAVPF")
    browser = Browser(house.loop)
    house.phones.append(browser)
    house.relay.accept("c", "b", browser.offer().replace(b"actpass", b"active"))
    await browser.connect(offer.media[0])
    house.relay.join("c", "a", "b")
    caller.say(b"ring")
    assert await browser.hears() == b"ring"


async def test_checks_that_are_not_signed_for_us_get_no_answer(house: House) -> None:
    browser = await house.browser("a")
    assert browser.media is not None
    stranger = house.phone()
    for username, password in ((f"{browser.media.ice_ufrag}:abcd", "wrong" * 5), ("nobody:abcd", "x" * 22)):
        stranger.sock.sendto(stun.request(username, password, bytes(12)), (HOST, house.ports[0]))
    assert await stranger.silent()


async def test_nobody_takes_over_the_address_of_a_browser_that_is_there(house: House) -> None:
    first, second = await house.browser("a"), await house.browser("b")
    house.relay.join("c", "a", "b")
    assert second.media is not None
    # As if the second browser's signed check came from the first one's address.
    forged = stun.request(f"{second.media.ice_ufrag}:abcd", second.media.ice_pwd, bytes(12))
    first.sock.sendto(forged, first.to)
    await first.hear()
    first.say(b"still me")
    assert await second.hears() == b"still me"


async def test_sending_stops_when_consent_ends_and_starts_with_the_next_check(house: House) -> None:
    browser, phone = await house.browser("a"), house.called("b")
    house.relay.join("c", "a", "b")
    house.later = webrtc.CONSENT_S + 1
    house.relay._sweep()
    assert house.gone == [("c", "a", "ICE consent was lost")]
    phone.say(b"nobody hears")
    assert await browser.silent()
    browser.check()
    assert (await browser.hear())[:2] == b"\x01\x01"
    phone.say(b"back again")
    assert await browser.hears() == b"back again"


async def test_a_browser_that_never_checks_is_reported(house: House) -> None:
    house.relay.answer("c", "a", CHROMIUM)
    house.later = webrtc.CONSENT_S + 1
    house.relay._sweep()
    house.relay._sweep()
    assert house.gone == [("c", "a", "no ICE check came")]


async def test_a_browser_that_closes_is_reported_at_once(house: House) -> None:
    browser = await house.browser("a")
    browser.dtls.close()
    for _ in range(100):
        if house.gone:
            break
        await asyncio.sleep(0.01)
    assert house.gone == [("c", "a", "DTLS: closed by the peer")]


async def test_a_phone_that_falls_silent_is_reported_but_not_while_on_hold(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    for phone, other in ((a, b), (b, a)):
        phone.say(b"here")
        await other.hears()
    house.relay.answer("c", "b", plain(b.port, direction="inactive"))
    house.later = SILENCE_S + 1
    house.relay._sweep()
    assert house.gone == [("c", "a", "nothing was received for 60 s")]


async def test_a_phone_that_resumes_after_a_long_hold_is_not_taken_for_gone(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    b.say(b"here")
    await a.hears()
    house.relay.answer("c", "b", plain(b.port, direction="inactive"))
    house.later = SILENCE_S + 1
    house.relay.answer("c", "b", plain(b.port))
    house.relay._sweep()
    assert house.gone == []
    house.later += SILENCE_S + 1
    house.relay._sweep()
    assert [branch for _, branch, _ in house.gone] == ["a", "b"], "nothing passes either way any more"


async def test_one_who_was_never_heard_is_gone_only_when_the_other_is_silent_too(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    for _ in range(3):
        house.later += SILENCE_S / 2
        b.say(b"can you hear me?")
        await a.hears()
        house.relay._sweep()
    assert house.gone == []
    house.relay.answer("c", "b", plain(b.port, direction="inactive"))
    house.later += SILENCE_S + 1
    house.relay._sweep()
    assert house.gone == [], "on hold"
    house.relay.answer("c", "b", plain(b.port))
    house.later += SILENCE_S + 1
    house.relay._sweep()
    assert [branch for _, branch, _ in house.gone] == ["a", "b"]


async def test_a_phone_behind_a_nat_is_heard_from_where_its_signalling_comes(house: House) -> None:
    """It names the address it has at home; the one we see is 127.0.0.1, which only counts here because we say so."""
    a, b = house.phone(), house.called("b")
    a.heard_answer(house.relay.answer("c", "a", plain(4000, address="192.168.1.20")))
    for endpoint in house.relay._calls["c"]["a"].endpoints.values():
        endpoint._local = False
    house.relay.join("c", "a", "b")
    a.say(b"from nowhere")
    assert await b.silent()
    house.relay.seen_at("c", "a", HOST)
    a.say(b"from home")
    assert await b.hears() == b"from home"
    b.say(b"to home")
    assert await a.hears() == b"to home"
    thief = house.phone()
    thief.to = a.to
    thief.say(b"stolen")
    assert await b.silent(), "the first port was the one"


async def test_one_who_was_gone_came_back_and_goes_again_is_reported_again(house: House) -> None:
    phone = house.called("a")
    phone.say(b"here")
    await asyncio.sleep(0.05)
    for times in (1, 2):
        house.later += SILENCE_S + 1
        house.relay._sweep()
        assert len(house.gone) == times
        house.relay.answer("c", "a", plain(phone.port))


async def test_a_third_party_is_not_heard_and_does_not_get_the_media(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    a.say(b"first")
    assert await b.hears() == b"first"
    thief = house.phone()
    thief.to = a.to
    thief.say(b"stolen")
    assert await b.silent()
    b.say(b"for a")
    assert await a.hears() == b"for a"
    assert await thief.silent()


async def test_behind_a_nat_the_first_port_of_the_signalled_address_counts(house: House) -> None:
    phone, other = house.phone(), house.called("b")
    phone.heard_answer(house.relay.answer("c", "a", plain(9)))  # its own idea of its port is wrong
    house.relay.join("c", "a", "b")
    phone.say(b"from another port")
    assert await other.hears() == b"from another port"
    second = house.phone()
    second.to = phone.to
    second.say(b"too late")
    assert await other.silent()
    other.say(b"back")
    assert await phone.hears() == b"back"


async def test_after_a_hold_the_phone_may_come_by_another_port_of_its_nat(house: House) -> None:
    """Its description is the same: of what the NAT does it knows nothing."""
    phone, other = house.phone(), house.called("b")
    phone.heard_answer(house.relay.answer("c", "a", plain(9)))
    house.relay.join("c", "a", "b")
    phone.say(b"before")
    assert await other.hears() == b"before"
    house.relay.answer("c", "a", plain(9, direction="inactive"))
    house.relay.answer("c", "a", plain(9))
    other.say(b"nobody else is known yet")
    assert await phone.hears() == b"nobody else is known yet"
    again, late = house.phone(), house.phone()
    again.to = late.to = phone.to
    again.say(b"by another port")
    assert await other.hears() == b"by another port"
    other.say(b"found you")
    assert await again.hears() == b"found you"
    late.say(b"too late")
    assert await other.silent()


async def test_a_new_description_lets_a_phone_move(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    a.say(b"old place")
    assert await b.hears() == b"old place"
    moved = house.phone()
    assert moved.heard_answer(house.relay.answer("c", "a", plain(moved.port))).port == a.to[1]
    moved.say(b"new place")
    assert await b.hears() == b"new place"
    b.say(b"found you")
    assert await moved.hears() == b"found you"


async def test_whoever_is_on_hold_gets_nothing_until_it_resumes(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    house.relay.answer("c", "a", plain(a.port, direction="inactive"))
    b.say(b"unheard")
    assert await a.silent()
    house.relay.answer("c", "a", plain(a.port))
    b.say(b"heard")
    assert await a.hears() == b"heard"


async def test_music_goes_on_round_and_round_and_gives_way_to_the_agent_in_one_stream(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    assert house.relay.play("c", "a", ["music"], repeat=True) == 0.06
    heard = [await a.hear() for _ in range(8)]
    house.relay.join("c", "a", "b")
    b.say(b"agent")
    while (last := await a.hear())[12:] != b"agent":
        heard.append(last)
    heard.append(last)
    headers = [struct.unpack_from("!BBHII", packet) for packet in heard]
    seqs = [seq for _, _, seq, _, _ in headers]
    assert [(s - seqs[0]) & 0xFFFF for s in seqs] == list(range(len(seqs)))
    assert len({ssrc for *_, ssrc in headers}) == 1
    times = [t for _, _, _, t, _ in headers]
    assert {(t2 - t1) & 0xFFFFFFFF for t1, t2 in pairwise(times[:-1])} == {160}
    assert await a.silent()


async def test_an_announcement_is_heard_once(house: House) -> None:
    a = house.called("a")
    house.relay.play("c", "a", ["goodbye"])
    for _ in range(3):
        assert await a.hears() == b"m" * 160
    assert await a.silent()


async def test_a_prompt_that_fails_ends_nobody_elses_music(house: House) -> None:
    house.loop.set_exception_handler(lambda loop, context: None)
    a, b = house.called("a"), house.called("b")
    house.relay.play("c", "a", ["music"], repeat=True)
    house.relay.play("c", "b", ["music"], repeat=True)
    await a.hear()
    playing = house.relay._leg("c", "a").playing
    assert playing is not None
    playing.frames = object()  # type: ignore[assignment]
    for _ in range(5):
        assert (await b.hears())[:1] == b"m"
    assert house.relay._leg("c", "a").playing is None


async def test_what_is_played_to_a_browser_waits_until_it_is_reachable(house: House) -> None:
    browser = Browser(house.loop)
    house.phones.append(browser)
    answer = house.relay.answer("c", "a", browser.offer())
    house.relay.play("c", "a", ["goodbye"])
    await asyncio.sleep(0.1)
    await browser.connect(parse(answer).media[0])
    assert [await browser.hears() for _ in range(3)] == [b"m" * 160] * 3


async def test_payload_types_of_the_two_sides_may_differ(house: House) -> None:
    a = house.phone()
    a.heard_answer(house.relay.answer("c", "a", opus(a.port, 111)))
    b = house.phone()
    b.heard_answer(house.relay.offer("c", "b", profile=Profile.RTP, like="a"))
    house.relay.accept("c", "b", opus(b.port, 97))
    house.relay.join("c", "a", "b")
    a.say(b"x", kind=111)
    assert (await b.hear())[1] & 0x7F == 97
    b.say(b"y", kind=111)
    assert (await a.hear())[1] & 0x7F == 111


def opus(port: int, number: int) -> bytes:
    text = plain(port, codecs=str(number)).decode()
    return f"{text}a=rtpmap:{number} opus/48000/2\r\n".encode()


async def test_a_caller_is_offered_again_where_codecs_differ(house: House) -> None:
    a = house.called("a", codecs="8 0")
    b = house.phone()
    b.heard_answer(house.relay.offer("c", "b", profile=Profile.RTP, like="a"))
    house.relay.accept("c", "b", plain(b.port, codecs="0"))
    assert not house.relay.compatible("c", "a", "b")
    again = parse(house.relay.offer("c", "a", profile=Profile.RTP, like="b"))
    assert again.media[0].formats == ("0",)
    assert again.media[0].port == a.to[1]
    assert again.origin.version == 2
    house.relay.accept("c", "a", plain(a.port, codecs="0"))
    assert house.relay.compatible("c", "a", "b")


async def test_a_caller_is_answered_in_what_the_callee_took(house: House) -> None:
    a = house.called("a", codecs="8 0")
    b = house.phone()
    b.heard_answer(house.relay.offer("c", "b", profile=Profile.RTP, like="a"))
    house.relay.accept("c", "b", plain(b.port, codecs="0"))
    answer = parse(house.relay.answer("c", "a", plain(a.port, codecs="8 0"), like="b"))
    assert answer.media[0].formats == ("0",)
    assert answer.media[0].port == a.to[1]
    assert house.relay.compatible("c", "a", "b")
    other = parse(house.relay.answer("c", "a", plain(a.port, codecs="8"), like="b"))
    assert other.media[0].formats == ("8",), "what they do not share can be transcoded"
    assert not house.relay.compatible("c", "a", "b")


async def test_a_callee_answers_and_all_that_follows_is_done_in_one_step(house: House) -> None:
    a = house.called("a", codecs="8 0")
    b = house.phone()
    b.heard_answer(house.relay.offer("c", "b", profile=Profile.RTP, like="a"))
    offer, answer = plain(a.port, codecs="8 0"), plain(b.port, codecs="0")
    ours = parse(house.relay.answer_joined("c", "a", offer, peer="b", answer=answer))
    assert ours.media[0].formats == ("0",)
    a.say(b"x")
    assert (await b.hear())[-1:] == b"x"
    b.say(b"y")
    assert (await a.hear())[-1:] == b"y"


async def test_joining_asks_both_sides_for_a_key_frame(house: House) -> None:
    phones = []
    for branch in "ab":
        phone = house.phone()
        phone.heard_answer(house.relay.answer("c", branch, video(phone.port)))
        phone.say(b"picture", kind=96)
        phones.append(phone)
    await asyncio.sleep(0.05)
    house.relay.join("c", "a", "b")
    for phone in phones:
        kind, count, body = rtcp.packets(await phone.hear())[-1]
        assert (kind, count) == (rtcp.PSFB, rtcp.PLI)
        assert body[4:] == struct.pack("!I", phone.ssrc)


async def test_resuming_asks_the_other_side_for_a_key_frame(house: House) -> None:
    phones = {}
    for branch in "ab":
        phone = phones[branch] = house.phone()
        phone.heard_answer(house.relay.answer("c", branch, video(phone.port)))
        phone.say(b"picture", kind=96)
    await asyncio.sleep(0.05)
    house.relay.join("c", "a", "b")
    house.relay.answer("c", "a", video(phones["a"].port, "inactive"))
    while not await phones["b"].silent():
        pass
    house.relay.answer("c", "a", video(phones["a"].port))
    kind, count, body = rtcp.packets(await phones["b"].hear())[-1]
    assert (kind, count) == (rtcp.PSFB, rtcp.PLI)
    assert body[4:] == struct.pack("!I", phones["b"].ssrc)


async def test_ports_are_even_come_back_and_running_out_is_503(house: House) -> None:
    taken = [house.called(str(number), call="many").to[1] for number in range(15)]
    with pytest.raises(OurError, match="No media ports") as caught:
        house.called("one more", call="many")
    assert caught.value.status == 503
    assert len(set(taken)) == 15
    assert all(port % 2 == 0 for port in taken)
    house.relay.delete("many")
    assert len(house.relay._ports) == 15
    house.called("again")


async def test_a_refused_offer_leaves_nothing_behind(house: House) -> None:
    for offer in (plain(4000, codecs="18"), plain(4000, address="example.org"), b"nonsense"):
        with pytest.raises(TheirError):
            house.relay.answer("c", "a", offer)
    assert len(house.relay._ports) == 15
    with pytest.raises(OurError):
        house.relay.stats("c")


async def test_a_refused_reoffer_changes_nothing(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    with pytest.raises(TheirError):
        house.relay.answer("c", "a", plain(a.port, codecs="18"))
    b.say(b"as before")
    assert await a.hears() == b"as before"


async def test_dropping_one_branch_leaves_the_others(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.called("late")
    house.relay.join("c", "a", "b")
    house.relay.drop("c", "late")
    house.relay.drop("c", "late")
    a.say(b"on")
    assert await b.hears() == b"on"
    house.relay.drop("c", "b")
    a.say(b"off")
    assert house.relay.stats("c").keys() == {"a"}


async def test_a_defect_that_one_leg_shows_leaves_the_others_watched(house: House) -> None:
    a = house.called("a")
    house.called("b", call="d")
    failed: list[object] = []
    house.loop.set_exception_handler(lambda loop, context: failed.append(context["exception"]))
    a.say(b"here")
    leg, other = house.relay._leg("c", "a"), house.relay._leg("d", "b")
    await until(lambda: leg.carried[0].packets_in, "the packet")
    other.lines = (None,)  # type: ignore[assignment]
    house.relay._calls = {"d": house.relay._calls["d"], "c": house.relay._calls["c"]}
    house.later += SILENCE_S + 1
    house.relay._sweep()
    assert [news[:2] for news in house.gone] == [("c", "a")]
    assert len(failed) == 1
    other.lines = ()


async def test_video_of_an_offer_can_be_left_out(house: House) -> None:
    media = parse(house.relay.answer("c", "a", CHROMIUM, kinds=AUDIO_ONLY)).media
    assert [m.port for m in media] == [house.ports[0], 0]


async def test_only_the_signalled_host_is_believed_and_here_its_loopback_too(house: House) -> None:
    house.called("a")
    (endpoint,) = house.relay._leg("c", "a").endpoints.values()
    assert isinstance(endpoint, PlainEndpoint)
    endpoint.reach(("192.0.2.2", 4000), None, mux=False)
    assert not endpoint._believed(("203.0.113.9", 4000), 1.0)
    assert endpoint._believed(("127.0.0.1", 4000), 1.0), "a phone on this machine that names its LAN address"
    assert not endpoint._believed(("192.0.2.2", 4444), 1.0), "the first port was taken"


async def test_deleted_calls_leave_nothing_behind(house: House) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        browser = await house.browser("a", call=str(number))
        house.called("b", call=str(number))
        house.relay.play(str(number), "a", ["music"], repeat=True)
        house.relay.delete(str(number))
        for phone in house.phones:
            phone.close()
        assert browser.media is not None
    assert len(os.listdir("/proc/self/fd")) <= before  # those of earlier tests may end meanwhile
    assert not house.relay._calls
    assert not house.relay._player.playing
    assert not house.relay._browsers.by_ufrag
    assert not house.relay._browsers.by_address
    assert len(house.relay._ports) == 15


@pytest.mark.parametrize("work", ["a look after all calls", "music for all who wait"])
async def test_packets_do_not_wait_for_work_that_is_for_many_calls(house: House, work: str) -> None:
    a, b = house.called("a"), house.called("b")
    house.called("waiting", call="other")
    house.relay.play("other", "waiting", ["music"], repeat=True)
    house.relay.join("c", "a", "b")
    a.say(b"first")
    await b.hears()
    a.say(b"meanwhile")
    house.later += 1
    if work.startswith("music"):
        house.relay._player._frame()
    else:
        house.relay._sweep()
    assert b.sock.recv(2048)[12:] == b"meanwhile", "before the loop had a turn"


@pytest.mark.parametrize(("announced", "connected"), [(HOST, True), ("127.0.0.2", False)])
async def test_a_socket_on_every_address_hears_what_comes_to_the_announced_one(
    announced: str, connected: bool
) -> None:
    """It is not connected where it would then only hear what comes to 127.0.0.1, as peers on this machine do."""
    heard: list[int] = []

    class Heard(Stream):
        def arrived(self, size: int, at: float) -> None:
            heard.append(size)

    loop, packet = asyncio.get_running_loop(), Packet()
    ports = PortRange("0.0.0.0", *free_range(4), [announced])
    arrivals = Arrivals(loop, loop.time)
    stream = Heard("audio", packet)
    endpoint = PlainEndpoint(arrivals, ports, packet, stream, lambda stream, data: None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((HOST, 0))
        endpoint.reach((HOST, peer.getsockname()[1]), None, mux=False)
        for sent in range(1, 4):
            peer.sendto(b"\x80\x00" + bytes(20), (announced, endpoint.port))
            await until(lambda: len(heard) >= sent, f"packet {sent}", seconds=2)  # noqa: B023
        assert endpoint._connected is connected
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as neighbour:  # behind the same NAT
            neighbour.bind((HOST, 0))
            neighbour.sendto(b"\x80\x00" + bytes(30), (announced, endpoint.port))
            peer.sendto(b"\x80\x00" + bytes(20), (announced, endpoint.port))
            neighbour.sendto(b"\x80\x00" + bytes(30), (announced, endpoint.port))
            peer.sendto(b"\x80\x00" + bytes(21), (announced, endpoint.port))
            await until(lambda: 23 in heard, "the last", seconds=2)
            assert 32 not in heard
            neighbour.sendto(b"\x80\x00" + bytes(30), (announced, endpoint.port))
        stream.send(22)
        assert await asyncio.to_thread(peer.recv, 100) == bytes(packet.view[:22])
    endpoint.close()
    arrivals.close()


async def test_video_is_added_to_a_call_and_dropped_again(house: House) -> None:
    a, b, pictures, shown = house.called("a"), house.called("b"), house.phone(), house.phone()
    house.relay.join("c", "a", "b")
    answer = parse(house.relay.answer("c", "a", with_video(plain(a.port), pictures.port)))
    pictures.to = (HOST, answer.media[1].port)
    offer = parse(house.relay.offer("c", "b", profile=Profile.RTP, like="a", adding=True))
    assert [(m.kind, m.formats) for m in offer.media] == [("audio", ("0",)), ("video", ("96",))]
    assert offer.media[0].port == b.to[1], "what there was stays where it is"
    shown.to = (HOST, offer.media[1].port)
    house.relay.accept("c", "b", with_video(plain(b.port), shown.port))
    for _ in range(3):
        pictures.say(b"picture", kind=96)
        assert await shown.hears() == b"picture"
    a.say(b"sound")
    assert await b.hears() == b"sound"
    house.relay.answer("c", "a", with_video(plain(a.port), 0))
    again = parse(house.relay.offer("c", "b", profile=Profile.RTP, like="a", adding=True))
    assert [m.port > 0 for m in again.media] == [True, False]


async def test_video_that_is_offered_in_addition_and_refused_leaves_nothing(house: House) -> None:
    a, b = house.called("a"), house.called("b")
    house.relay.join("c", "a", "b")
    free = len(house.relay._ports)
    house.relay.answer("c", "a", with_video(plain(a.port), 4002))
    house.relay.offer("c", "b", profile=Profile.RTP, like="a", adding=True)
    # The other refuses the whole re-INVITE, and comes with an offer of its own later.
    assert len(parse(house.relay.answer("c", "b", plain(b.port))).media) == 1
    assert len(house.relay._ports) == free - 1
    house.relay.offer("c", "b", profile=Profile.RTP, like="a", adding=True)
    house.relay.accept("c", "b", with_video(plain(b.port), 0))
    assert len(house.relay._ports) == free - 1
    a.say(b"sound")
    assert await b.hears() == b"sound"


async def test_a_browser_is_offered_video_in_addition_in_its_bundle(house: House) -> None:
    await house.browser("a")
    b = house.called("b")
    house.relay.join("c", "a", "b")
    house.relay.answer("c", "b", with_video(plain(b.port), 4002))
    offer = parse(house.relay.offer("c", "a", profile=Profile.WEBRTC, like="b", adding=True))
    assert offer.bundle == ("0", "1")
    assert [(m.kind, m.mid, m.rtcp_mux) for m in offer.media] == [("audio", "0", True), ("video", "1", True)]
    assert "nack" in offer.media[1].payloads[0].feedback
