"""What Chromium says and shows, recorded: its own packets, with all that a real sender does to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from media.recorded import content_type, seconds_of
from tests.media.test_browser_through_relay import (
    ANSWERED,
    MICROPHONE,
    OFFER,
    PREPARE,
    chromium,
    media_process,
)
from tests.media.test_tap_process import heard_in, laid_open, pictures, sound
from tests.peers.process import until

KEY = bytes(range(32))
ONLY = """
(name) => {
  const [sender] = window.connection.getTransceivers().filter((each) => each.sender.track.kind === 'video');
  sender.setCodecPreferences(RTCRtpSender.getCapabilities('video').codecs.filter(
    (codec) => codec.mimeType === `video/${name}`));
}
"""


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


@pytest.mark.interop
@pytest.mark.parametrize(
    ("codec", "kind"), [("VP8", "video/webm"), ("H264", "video/x-matroska")], ids=["VP8", "H.264"]
)
async def test_a_browser_is_heard_and_seen_in_the_file(
    tmp_path: Path, prompts: Path, codec: str, kind: str
) -> None:
    path = tmp_path / "call.mkv"
    async with media_process(prompts) as process, chromium(tmp_path, loopback=False) as page:
        media = process.media
        await page.evaluate(PREPARE, True)
        await page.evaluate(ONLY, codec)
        offer = str(await page.evaluate(OFFER)).encode()
        await page.evaluate(ANSWERED, (await media.answer("c", "customer", offer)).decode())

        async def sends() -> bool:
            kinds = (await media.stats("c"))["customer"]["kinds"]
            counted: list[int] = [kinds[each]["packets_in"] for each in ("audio", "video")]
            return min(counted) > 100

        await until(sends, "sound and pictures from the browser", seconds=20)
        await media.tap("c", "customer", "agent", str(path), video=True, key=KEY, limit_s=60)
        start: int = (await media.stats("c"))["customer"]["kinds"]["video"]["packets_in"]

        async def more() -> bool:
            counted: int = (await media.stats("c"))["customer"]["kinds"]["video"]["packets_in"]
            return counted - start > 150

        await until(more, "pictures to be recorded", seconds=20)
        seconds = await media.end_tap("c")
    assert seconds_of(path, KEY) == pytest.approx(seconds, abs=0.001)
    assert content_type(path, KEY) == kind
    opened = laid_open(path, KEY)
    heard, rate = sound(opened)
    assert heard_in(heard[rate:, 0], rate, MICROPHONE)[1] > 500
    assert abs(heard[:, 1]).max() < 30
    seen = pictures(opened, 0)
    assert seen[0][0] < 2.0, "a key frame was asked for when it began"
    assert seen[-1][0] > seconds - 1.5
    assert len(seen) > 15
    assert any((a[1] != b[1]).any() for a, b in zip(seen[-8:], seen[-7:], strict=False)), "they move"
