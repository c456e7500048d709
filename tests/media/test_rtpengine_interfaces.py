"""An rtpengine with an address for peers and another for the studio."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import OurError
from config.settings import Settings, SettingsError
from media.rtpengine import Rtpengine
from media.sdp import parse
from media.server import Profile
from tests.media.media_servers import deafen, hear_each_other
from tests.media.phone import HOST
from tests.media.tone_phone import TonePhone
from tests.peers import rtpengine
from tests.peers.process import free_range, until


class FarPhone(TonePhone):
    """It sends to the address that it is told."""

    def start(self, answer: bytes) -> None:
        self.told = parse(answer).media[0].address
        super().start(answer)
        self._to = (self.told, self._to[1])


@pytest.mark.parametrize(
    ("peers", "told"),
    [("peers/127.0.0.2", "127.0.0.2"), (f"peers/{HOST}!127.0.0.2", "127.0.0.2")],
    ids=["two addresses", "an address behind a NAT"],
)
async def test_peers_and_the_studio_each_get_the_address_that_is_for_them(
    tmp_path: Path, made_prompts: Path, peers: str, told: str
) -> None:
    async with (
        rtpengine.Rtpengine(tmp_path, interfaces=(peers, f"near/{HOST}")) as engine,
        FarPhone("pcmu", 440) as a,
        FarPhone("pcmu", 880) as b,
    ):
        media = Rtpengine(engine.address, interfaces=("peers", "near"))
        # What the server is told to announce is far away, too: nothing comes from there.
        await media.start(host="0.0.0.0", public="192.0.2.1", ports=free_range(64), prompts=made_prompts)
        try:
            answer = await media.answer("c", "a", a.offer())
            offer = await media.offer("c", "b", profile=Profile.RTP, like="a")
            await media.accept("c", "b", b.offer())
            for phone, description in ((a, answer), (b, offer)):
                phone.start(description)
                assert phone.told == told
                if "!" in peers:
                    phone._to = (HOST, phone._to[1])  # its NAT brings it there
            await media.play("c", "a", "music", repeat=True)
            await until(lambda: a.headers, "the music")
            for _ in range(2):
                await media.join("c", "a", "b")
                assert media._calls["c"].branches["a"].direct
                await hear_each_other(a, b)
                await media.play("c", "a", "music", repeat=True)
                deafen(a)
                await until(lambda: a.headers, "the music again")
            await media.join("c", "a", "b")
            again = await media.answer("c", "a", a.offer())
            assert parse(again).media[0].address == told
            assert parse(again).media[0].port == parse(answer).media[0].port
            await hear_each_other(a, b)
            reply = await media._ng.ask("query", call_id=media._name("c"))
            streams = {tag: found["medias"][0]["streams"][0] for tag, found in reply["tags"].items()}
            assert {stream["endpoint"]["address"] for stream in streams.values()} == {HOST.encode()}
            near = {stream["local address"] for tag, stream in streams.items() if tag.endswith("~")}
            assert near == {HOST.encode()}
        finally:
            await media.end()


@pytest.mark.parametrize(
    ("peers", "here"),
    [(f"peers/{HOST}", True), (f"peers/{HOST}!192.0.2.1", False), (f"peers/{HOST}!127.0.0.2", True)],
)
async def test_what_peers_are_told_says_whether_all_of_them_are_on_this_machine(
    tmp_path: Path, made_prompts: Path, peers: str, here: bool
) -> None:
    async with rtpengine.Rtpengine(tmp_path, interfaces=(peers, f"near/{HOST}")) as engine:
        media = Rtpengine(engine.address, interfaces=("peers", "near"))
        await media.start(host=HOST, public=HOST, ports=free_range(16), prompts=made_prompts)
        try:
            assert media._all_here is here
            assert HOST in media._own, "where it listens"
            assert await engine.used_ports() == 0, "nothing is left of the asking"
        finally:
            await media.end()


async def test_an_interface_that_rtpengine_does_not_have_is_said_at_the_start(
    tmp_path: Path, made_prompts: Path
) -> None:
    async with rtpengine.Rtpengine(tmp_path) as engine:
        media = Rtpengine(engine.address, interfaces=("public", "default"))
        with pytest.raises(OurError) as refused:
            await media.start(host=HOST, public=HOST, ports=free_range(64), prompts=made_prompts)
    assert "'public'" in refused.value.reason
    assert "names default" in refused.value.reason


def test_the_setting_names_two_or_none() -> None:
    assert Settings.load({}).rtpengine_interface_names is None
    told = Settings.load({"WARMLINE_RTPENGINE_INTERFACES": " public ,studio"})
    assert told.rtpengine_interface_names == ("public", "studio")
    for wrong in ("public", "a,b,c", "public,", "public/192.0.2.1, studio"):
        with pytest.raises(SettingsError):
            Settings.load({"WARMLINE_RTPENGINE_INTERFACES": wrong})
