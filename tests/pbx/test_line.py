"""What the event log says of a caller's offer."""

from __future__ import annotations

import pytest

from pbx.phone_media import has_video

HEAD = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=m=video 9\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
AUDIO = b"m=audio 4000 RTP/AVP 0\r\n"


@pytest.mark.parametrize(
    ("media", "video"),
    [
        (AUDIO, False),
        (AUDIO + b"m=video 4002 RTP/AVP 96\r\n", True),
        (b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" + AUDIO, True),
        (AUDIO + b"m=video 4002/2 RTP/AVP 96\r\n", True),
        (AUDIO + b"m=video 0 RTP/AVP 96\r\n", False),
        (b"m=video 0 RTP/AVP 96\r\nm=video 4002 RTP/AVP 96\r\n", True),
        (AUDIO + b"a=m=video 4002 RTP/AVP 96\r\n", False),
    ],
)
def test_an_offer_is_for_pictures_where_one_of_its_media_is_and_is_not_refused(
    media: bytes, video: bool
) -> None:
    assert has_video(HEAD + media) is video


def test_no_offer_is_for_no_pictures() -> None:
    assert not has_video(b"")
