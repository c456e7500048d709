from __future__ import annotations

import pytest

from agent_presence.capability import (
    device_can,
    from_options,
    from_session,
    may_carry,
    tells_enough,
)
from agent_presence.roster import CHANNELS, Device
from sip_trunk.sip.digest import Credentials
from sip_trunk.sip.message import Response
from tests.agent_presence.house import binding_of

AUDIO = b"v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
VIDEO = AUDIO + b"m=video 4002 RTP/AVP 97\r\na=rtpmap:97 VP8/90000\r\n"
REFUSED = AUDIO + b"m=video 0 RTP/AVP 97\r\n"


def device(override: dict[str, bool] | None = None, learnt: dict[str, bool] | None = None) -> Device:
    return Device(
        "d", "a", "Phone", "ana", Credentials.of("ana", "warmline", "secret"), override or {}, learnt or {}
    )


@pytest.mark.parametrize(
    ("override", "features", "learnt", "can"),
    [
        ({}, {}, {}, None),
        ({}, {"audio": "TRUE"}, {}, None),
        ({}, {"video": "TRUE"}, {}, True),
        ({}, {"video": "FALSE"}, {"video": True}, False),
        ({}, {}, {"video": True}, True),
        ({}, {}, {"video": False}, False),
        ({"video": False}, {"video": "TRUE"}, {"video": True}, False),
        ({"video": True}, {"video": "FALSE"}, {"video": False}, True),
    ],
)
def test_somebodys_word_goes_before_the_tag_and_the_tag_before_what_was_learnt(
    override: dict[str, bool], features: dict[str, str], learnt: dict[str, bool], can: bool | None
) -> None:
    assert device_can(device(override, learnt), [binding_of(features=features)], "video") is can


def test_one_phone_of_several_that_can_is_enough() -> None:
    can, cannot, silent = ({"video": "TRUE"}, {"video": "FALSE"}, dict[str, str]())
    assert device_can(device(), [binding_of(features=f) for f in (cannot, can)], "video") is True
    assert device_can(device(), [binding_of(features=f) for f in (cannot, silent)], "video") is None


@pytest.mark.parametrize(
    ("can", "channel", "may"),
    [
        (True, "video", True),
        (None, "video", False),
        (False, "video", False),
        (None, "voice", True),
        (None, "chat", True),
        (False, "voice", False),
        (False, "chat", False),
    ],
)
def test_video_needs_a_yes_and_the_others_only_no_no(can: bool | None, channel: str, may: bool) -> None:
    assert may_carry(can, channel) is may


def test_a_silent_phone_may_be_rung_for_voice_and_chat() -> None:
    silent = {channel: device_can(device(), [binding_of()], channel) for channel in CHANNELS}
    assert {channel for channel, can in silent.items() if may_carry(can, channel)} == {"voice", "chat"}


@pytest.mark.parametrize(
    ("body", "learnt"),
    [
        (VIDEO, {"voice": True, "video": True}),
        (AUDIO, {"voice": True, "video": False}),
        (REFUSED, {"voice": True, "video": False}),
        (b"", {}),
        (b"\x00junk", {}),
        (b"m=\r\nm=video\r\n", {}),
    ],
)
def test_what_a_session_description_tells(body: bytes, learnt: dict[str, bool]) -> None:
    assert from_session(body) == learnt


def test_an_answer_to_options_tells_by_body_tags_and_methods() -> None:
    answer = Response(
        200, headers=[("Allow", "INVITE, ACK, MESSAGE"), ("Contact", "<sip:a@b>;audio")], body=VIDEO
    )
    assert from_options(answer) == {"chat": True, "voice": True, "video": True}
    assert from_options(Response(200, headers=[("Allow", "INVITE,ACK")])) == {"chat": False}
    assert (
        from_options(Response(200, headers=[("Contact", '<sip:a@b>;video="FALSE"')], body=VIDEO))["video"]
        is False
    )


@pytest.mark.parametrize("status", [404, 408, 486, 503])
def test_a_refusal_tells_nothing(status: int) -> None:
    assert from_options(Response(status, headers=[("Allow", "INVITE")], body=VIDEO)) == {}


def test_a_bad_contact_does_not_hide_what_the_body_tells() -> None:
    assert from_options(Response(200, headers=[("Contact", "<<<")], body=VIDEO))["video"] is True


def test_a_phone_that_tags_both_media_need_not_be_asked() -> None:
    assert tells_enough({"audio": "TRUE", "video": "FALSE"})
    assert not tells_enough({"audio": "TRUE"})
