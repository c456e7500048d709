"""A thousand calls of all kinds, however they end, leave nothing behind."""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from pathlib import Path

import pytest

from config.errors import TheirError
from media.relay import DISK_THREADS
from media.server import Profile
from tests.media.descriptions import BARESIP_ANSWER, CHROMIUM, SIPP, plain
from tests.media.relay_house import House, Phone
from tests.peers.process import until

CALLS = 1000
# What was read and written of descriptions is kept for those who say the same again; those tables have limits.
REMEMBERED = ("media.sdp", "media.offer_answer", "media.sdes")


@pytest.fixture
def port_count() -> int:
    return 64


class Calls:
    """Calls from the same few phones, one after the other."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        self.relay = house.relay
        self.folder = folder
        self.a, self.b, self.x = house.phone(), house.phone(), house.phone()
        self.count = 0
        self.call = ""

    async def make(self) -> None:
        kinds = (
            self.talk,
            self.hang_up_one_by_one,
            self.ring_three_devices,
            self.refuse,
            self.listen_to_music,
            self.press_keys,
            self.hold_and_resume,
            self.give_up_browser,
            self.add_and_drop_video,
            self.vanish_while_recorded,
        )
        self.count += 1
        self.call = f"call-{self.count}"
        if self.count % 25 == 0:
            await self.talk_to_browser()
        elif self.count % 50 == 1:
            await self.confer()
        else:
            await kinds[self.count % len(kinds)]()
        self.relay.delete(self.call)

    def answered(self, branch: str, phone: Phone) -> None:
        phone.heard_answer(self.relay.answer(self.call, branch, plain(phone.port)))

    async def talk(self) -> None:
        self.answered("a", self.a)
        self.answered("b", self.b)
        self.relay.join(self.call, "a", "b")
        for one, other in ((self.a, self.b), (self.b, self.a)):
            text = b"%d" % self.count
            one.say(text)
            while await other.hears() != text:
                pass  # the last sound of a call before

    async def hang_up_one_by_one(self) -> None:
        await self.talk()
        self.relay.part(self.call, "a", "b")
        self.relay.drop(self.call, "b")
        self.relay.drop(self.call, "a")

    async def ring_three_devices(self) -> None:
        self.answered("a", self.a)
        for device in ("one", "two", "three"):
            self.relay.offer(self.call, device, profile=Profile.RTP, like="a")
        self.relay.accept(self.call, "two", plain(self.b.port))
        self.relay.join(self.call, "a", "two")
        for device in ("one", "three"):
            self.relay.drop(self.call, device)

    async def refuse(self) -> None:
        for branch, offer in (("a", b"v=0\r\nnonsense"), ("b", SIPP.replace(b"127.0.0.1", b"224.0.0.1"))):
            with pytest.raises(TheirError):
                self.relay.answer(self.call, branch, offer)

    async def listen_to_music(self) -> None:
        self.answered("a", self.a)
        self.relay.play(self.call, "a", ["music"], repeat=True)
        await self.a.hear()

    async def press_keys(self) -> None:
        self.relay.answer(self.call, "a", SIPP)
        self.relay.keys(self.call, "a", "123")

    async def hold_and_resume(self) -> None:
        await self.talk()
        self.relay.answer(self.call, "b", plain(self.b.port, direction="inactive"))
        self.relay.answer(self.call, "b", plain(self.x.port))

    async def give_up_browser(self) -> None:
        self.relay.answer(self.call, "a", CHROMIUM)
        self.relay.offer(self.call, "b", profile=Profile.RTP, like="a")

    async def add_and_drop_video(self) -> None:
        whole = BARESIP_ANSWER
        refused = whole.replace(b"m=video 28002", b"m=video 0")
        for offer in (refused, whole, refused, whole):
            self.relay.answer(self.call, "a", offer)

    async def vanish_while_recorded(self) -> None:
        self.answered("a", self.a)
        path = self.folder / f"{self.call}.wav"
        self.relay.record(self.call, "a", str(path), limit_s=60, silence_s=60)
        self.relay.drop(self.call, "a")
        await until(lambda: any(news[0] == self.call for news in self.house.recorded), "its end", every=0.001)

    async def confer(self) -> None:
        for branch, phone in (("a", self.a), ("b", self.b), ("x", self.x)):
            self.answered(branch, phone)
        self.relay.confer(self.call, ["a", "b", "x"])
        await self.a.hear()

    async def talk_to_browser(self) -> None:
        browser = await self.house.browser("a", call=self.call)
        self.answered("b", self.b)
        self.relay.join(self.call, "a", "b")
        browser.say(b"hello")
        while await self.b.hears() != b"hello":
            pass
        browser.close()
        self.house.phones.remove(browser)


def held(house: House) -> Counter[str]:
    relay = house.relay
    found = Counter(
        {
            "free ports": len(relay._ports),
            "open files": len(os.listdir("/proc/self/fd")),
            "threads": threading.active_count(),
            "calls": len(relay._calls),
            "ufrags": len(relay._browsers.by_ufrag),
            "addresses": len(relay._browsers.by_address),
            "watched": sum(reader is not None for reader in relay._arrivals._readers),
            "playing": len(relay._player.playing),
            "conferences": len(relay._conferences.all),
        }
    )
    gc.collect()
    for each in gc.get_objects():
        module = str(type(each).__module__)
        if module.startswith("media.") and module not in REMEMBERED:
            found[f"{module}.{type(each).__qualname__}"] += 1
    return found


async def test_after_a_thousand_calls_ports_files_threads_and_tables_are_as_before(
    house: House, tmp_path: Path
) -> None:
    calls = Calls(house, tmp_path)
    together = threading.Barrier(DISK_THREADS)  # so that all of those threads there will ever be are there
    for started in [house.relay._threads.submit(together.wait, 10) for _ in range(DISK_THREADS)]:
        started.result()
    for _ in range(60):
        await calls.make()
    before = held(house)
    assert before["calls"] == 0
    assert before["watched"] == 1, "the browsers' port"
    for _ in range(CALLS):
        await calls.make()
        house.recorded.clear()
    after = held(house)
    for name in ("threads", "open files"):  # those of earlier tests may end meanwhile
        before[name] = min(before[name], after[name])
    assert {name: (before[name], count) for name, count in after.items() if count != before[name]} == {}
