"""What rtpengine alone does: the shortcut, its own death and the studio's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from config.errors import OurError
from media import engine_watch
from media.rtpengine import Rtpengine
from media.server import SILENCE_S, Profile
from tests.media.descriptions import plain
from tests.media.media_servers import hear_each_other
from tests.media.phone import HOST
from tests.media.reporting_phone import ReportingPhone
from tests.media.tone_phone import TonePhone
from tests.peers import rtpengine
from tests.peers.process import free_port, free_range, until


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


class House:
    def __init__(
        self, engine: rtpengine.Rtpengine, *, hears_keys: bool = True, silence_s: float = SILENCE_S
    ) -> None:
        self.engine = engine
        self.later = 0.0
        self.died = 0
        self.gone: list[tuple[str, str, str]] = []
        loop = asyncio.get_running_loop()
        self.pressed: list[tuple[str, str, str]] = []
        self.qualities: list[tuple[str, str, str, dict[str, Any]]] = []
        keys = engine.keys if hears_keys else None
        self.media = Rtpengine(
            engine.address, now=lambda: loop.time() + self.later, keys=keys, silence_s=silence_s
        )
        self.media.on_keys = lambda *news: self.pressed.append(news)
        self.media.on_quality = lambda *news: self.qualities.append(news)
        self.media.on_gone = lambda *news: self.gone.append(news)
        self.media.on_died = self._died

    def _died(self) -> None:
        self.died += 1

    async def joined(self, a: TonePhone, b: TonePhone) -> None:
        a.start(await self.media.answer("c", "a", a.offer()))
        offer = await self.media.offer("c", "b", profile=Profile.RTP, like="a")
        await self.media.accept("c", "b", b.offer())
        b.start(offer)
        await self.media.join("c", "a", "b")
        await hear_each_other(a, b)

    async def through_studio(self) -> int:
        """How many packets the studio has got of the call by now."""
        found = await self.media.studio.stats("c")
        return sum(int(kind["packets_in"]) for branch in found.values() for kind in branch["kinds"].values())


@contextlib.asynccontextmanager
async def opened(
    folder: Path, prompts: Path, *, hears_keys: bool = True, silence_s: float = SILENCE_S
) -> AsyncIterator[House]:
    async with rtpengine.Rtpengine(folder) as engine:
        house = House(engine, hears_keys=hears_keys, silence_s=silence_s)
        await house.media.start(host=HOST, public=HOST, ports=free_range(64), prompts=prompts)
        try:
            yield house
        finally:
            await house.media.end()


async def test_packets_of_those_who_are_joined_do_not_come_to_the_studio(
    tmp_path: Path, prompts: Path
) -> None:
    async with opened(tmp_path, prompts) as house, TonePhone("opus", 440) as a, TonePhone("opus", 880) as b:
        await house.joined(a, b)
        before = await house.through_studio()
        await asyncio.sleep(0.5)
        assert await house.through_studio() == before
        await house.media.keys("c", "a", "1")
        await hear_each_other(a, b)
        assert await house.through_studio() > before + 20


async def test_where_a_peer_was_seen_costs_nobody_the_shortcut(tmp_path: Path, prompts: Path) -> None:
    async with opened(tmp_path, prompts) as house, TonePhone("opus", 440) as a, TonePhone("opus", 880) as b:
        await house.joined(a, b)
        before = await house.through_studio()
        await house.media.seen_at("c", "a", HOST)
        await hear_each_other(a, b)
        assert await house.through_studio() == before


async def test_a_call_that_rtpengine_has_ended_is_told_of(tmp_path: Path, prompts: Path) -> None:
    async with opened(tmp_path, prompts) as house, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        await house.joined(a, b)
        await house.engine.end_all_calls()
        house.later += engine_watch.LISTEN_S
        await until(lambda: len(house.gone) == 2, "the news", seconds=3 * engine_watch.LOOK_S)
        assert [news[:2] for news in house.gone] == [("c", "a"), ("c", "b")]
        await house.media.delete("c")


async def test_keys_of_those_who_take_the_shortcut_are_not_known_where_nobody_listens_for_them(
    tmp_path: Path, prompts: Path
) -> None:
    async with (
        opened(tmp_path, prompts, hears_keys=False) as house,
        TonePhone("pcmu", 440) as a,
        TonePhone("pcmu", 880) as b,
    ):
        await house.joined(a, b)
        a.press(7)
        await asyncio.sleep(0.5)
        assert house.pressed == []


async def test_a_key_that_is_held_while_the_shortcut_is_taken_is_told_once(
    tmp_path: Path, prompts: Path
) -> None:
    async with opened(tmp_path, prompts) as house, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        await house.joined(a, b)
        await house.media.part("c", "a", "b")
        began = a._timestamp
        for step in range(1, 26):  # half a second
            a._timestamp, spoken = began, a._timestamp
            a._send(
                bytes((9, 0x8A if step == 25 else 0x0A)) + (160 * step).to_bytes(2, "big"),
                101,
                marker=step == 1,
            )
            a._timestamp = spoken
            await asyncio.sleep(0.02)
            if step == 10:
                assert house.pressed == [("c", "a", "9")]
                await house.media.join("c", "a", "b")
        await asyncio.sleep(0.3)
        assert house.pressed == [("c", "a", "9")]


async def test_keys_are_believed_only_of_rtpengine_and_of_its_calls(tmp_path: Path, prompts: Path) -> None:
    async with opened(tmp_path, prompts) as house, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        await house.joined(a, b)

        def said(call: str, tag: str) -> bytes:
            return b'{"callid":"%b","source_tag":"%b","type":"DTMF","event":1,"duration":60}' % (
                call.encode(),
                tag.encode(),
            )

        name = house.media._name("c")
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as same_host,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        ):
            same_host.bind((HOST, 0))
            stranger.bind(("127.0.0.2", 0))
            stranger.sendto(said(name, "a.0"), house.engine.keys)
            for data in (
                said("c", "a.0"),
                said(f"{name}d", "a.0"),
                said(name, "a"),
                said(name, "a.0~"),
                b"",
                b"no JSON",
                b"[" * 9000,
            ):
                same_host.sendto(data, house.engine.keys)
            await asyncio.sleep(0.2)
            assert house.pressed == []
            same_host.sendto(said(name, "b.1"), house.engine.keys)
            await until(lambda: house.pressed == [("c", "b", "1")], "what rtpengine would have said")


@pytest.mark.parametrize("codec", ["pcmu", "opus"])
async def test_jitter_is_in_milliseconds_whatever_the_codec(
    tmp_path: Path, prompts: Path, codec: str
) -> None:
    async with (
        opened(tmp_path, prompts) as house,
        ReportingPhone(codec, 440, jitter_ms=30.0) as a,
        ReportingPhone(codec, 880) as b,
    ):
        await house.joined(a, b)
        await asyncio.sleep(3.0)
        found = await house.media.stats("c")
        assert found["a"]["kinds"]["audio"]["quality"]["jitter_ms"] == pytest.approx(30.0, abs=2)
        assert found["b"]["kinds"]["audio"]["quality"]["jitter_ms"] < 2


async def test_a_voice_that_stays_poor_is_told(tmp_path: Path, prompts: Path) -> None:
    async with (
        opened(tmp_path, prompts) as house,
        ReportingPhone("pcmu", 440) as a,
        ReportingPhone("pcmu", 880) as b,
    ):
        await house.joined(a, b)
        await house.media.stats("c")
        a._loss = 0.5
        for _ in range(3):
            await asyncio.sleep(2 * engine_watch.LOOK_S)
            house.later += engine_watch.LISTEN_S
        await until(lambda: house.qualities, "the news", seconds=2 * engine_watch.LOOK_S)
        (call, branch, what, facts), *others = house.qualities
        assert (call, branch, what, others) == ("c", "b", "poor", [])
        assert facts["audio"]["mos_lately"] < 3.0


async def test_who_sends_no_reports_is_said_nothing_of(tmp_path: Path, prompts: Path) -> None:
    async with opened(tmp_path, prompts) as house, TonePhone("pcmu", 440) as a, TonePhone("pcmu", 880) as b:
        await house.joined(a, b)
        await asyncio.sleep(0.5)
        found = await house.media.stats("c")
        assert set(found["a"]["kinds"]["audio"]["quality"].values()) == {None}
        await house.media.delete("c")
        assert [news[:3] for news in house.qualities] == [("c", "a", "ended"), ("c", "b", "ended")]
        assert house.qualities[0][3]["audio"]["mos"] is None


async def test_where_nobody_answers_the_start_says_so(prompts: Path) -> None:
    media = Rtpengine((HOST, free_port(socket.SOCK_DGRAM)))
    with pytest.raises(OurError) as absent:
        await media.start(host=HOST, public=HOST, ports=free_range(64), prompts=prompts)
    assert absent.value.status == 503
    assert "WARMLINE_RTPENGINE" in absent.value.reason


async def test_without_it_calls_are_refused_and_when_it_is_back_they_are_taken_and_the_old_are_lost(
    tmp_path: Path, prompts: Path
) -> None:
    async with opened(tmp_path, prompts) as house:
        media = house.media
        await media.answer("c", "a", plain(4000))
        await house.engine.kill()
        with pytest.raises(OurError) as refused:
            await media.answer("d", "a", plain(4000))
        assert refused.value.status == 503
        assert not media.serving
        assert house.died == 0, "its calls are lost only if it was started anew, or stays away"
        await house.engine.start()
        await until(lambda: house.died, "the news", seconds=8)
        assert media.serving
        await media.answer("d", "a", plain(4000))
        await media.delete("c")
        with pytest.raises(OurError):
            await media.studio.stats("c")
        assert set(await media.stats("d")) == {"a"}
        assert house.died == 1


async def test_if_it_stays_away_its_calls_are_given_up(tmp_path: Path, prompts: Path) -> None:
    async with opened(tmp_path, prompts) as house:
        await house.media.answer("c", "a", plain(4000))
        await house.engine.kill()
        await until(lambda: not house.media.serving, "the loss", seconds=8)
        await asyncio.sleep(2 * engine_watch.LOOK_S)
        assert house.died == 0
        house.later += SILENCE_S
        await until(lambda: house.died, "the news", seconds=8)
        await asyncio.sleep(engine_watch.LOOK_S)
        assert house.died == 1


async def test_when_the_studio_dies_rtpengine_is_told_and_goes_on_with_the_next(
    tmp_path: Path, prompts: Path
) -> None:
    async with opened(tmp_path, prompts) as house:
        media = house.media
        await media.answer("c", "a", plain(4000))
        assert await house.engine.used_ports() == 4
        assert media.studio._process is not None
        os.kill(media.studio._process.pid, signal.SIGKILL)
        await until(lambda: house.died, "the news")
        await until(lambda: media.serving, "the next studio")

        async def free() -> bool:
            return await house.engine.used_ports() == 0

        await until(free, "its ports to be free")
        await media.answer("c", "a", plain(4000))


async def test_what_is_asked_of_a_call_at_once_is_done_in_its_order(tmp_path: Path, prompts: Path) -> None:
    async with opened(tmp_path, prompts) as house:
        media = house.media
        asked: list[asyncio.Future[Any]] = [
            media.answer("c", "a", plain(4000)),
            media.offer("c", "b", profile=Profile.RTP, like="a"),
            media.accept("c", "b", plain(4002)),
            media.join("c", "a", "b"),
            media.drop("c", "b"),
            media.stats("c"),
        ]
        assert set((await asyncio.gather(*asked))[-1]) == {"a"}
        given_up = media.answer("c", "x", plain(4004))
        given_up.cancel()
        assert set(await media.stats("c")) == {"a", "x"}, "nothing is left half-way"
        await media.delete("c")
        assert not media._turns


async def test_calls_of_an_earlier_start_are_in_nobodys_way(tmp_path: Path, prompts: Path) -> None:
    async with opened(tmp_path, prompts) as house:
        await house.media.answer("c", "a", plain(4000))
        again = Rtpengine(house.engine.address)
        await again.start(host=HOST, public=HOST, ports=free_range(64), prompts=prompts)
        await again.answer("c", "a", plain(4000))
        await again.delete("c")
        assert set(await house.media.stats("c")) == {"a"}
        await again.end()
