"""What a player asks for of a recording, and what it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from media.recorded import PlainFile
from pbx.api.site import WarmlineSite, build_root
from pbx.pages import sound as sound_module
from pbx.pages.sound import part_of, send
from pbx.pages.staff import StaffPages, staff_app
from tests.pbx.web import Browser, CookieLogins

BODY = bytes(range(65, 91)) * 10  # 260 bytes


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-", (0, 260)),
        ("bytes=0-0", (0, 1)),
        ("Bytes = 5 - 9", (5, 5)),
        ("bytes=250-9999", (250, 10)),
        ("bytes=-10", (250, 10)),
        ("bytes=-9999", (0, 260)),
        ("bytes=260-", (260, 0)),
        ("bytes=-0", (260, 0)),
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("bytes=0-1,5-9", None),
        ("pages=0-1", None),
        ("bytes=" + "9" * 40 + "-", None),
    ],
)
def test_what_a_range_means(header: str | None, part: tuple[int, int] | None) -> None:
    assert part_of(header, 260) == part


@given(st.text(max_size=40), st.integers(0, 10**9))
def test_no_range_reaches_outside_the_file(header: str, size: int) -> None:
    part = part_of(f"bytes={header}", size)
    if part is not None and part[1]:
        assert 0 <= part[0] < size
        assert part[0] + part[1] <= size


class OneSound(StaffPages):
    app = staff_app()

    def __init__(self, path: Path, clock: Clock) -> None:
        logins: Any = CookieLogins()
        super().__init__(None, logins, clock)  # type: ignore[arg-type]
        self.path = path
        self.open: list[PlainFile] = []

    @app.route("/agent/sound", methods=["GET"])
    def sound(self, request: Any) -> Any:
        async def work() -> Any:
            self.open.append(PlainFile(self.path))
            return await send(request, self.open[-1], "audio/webm", "r_1")

        return self._settle(request, work)


class Rig:
    def __init__(self, path: Path) -> None:
        path.write_bytes(BODY)
        clock = Clock()
        self.pages = OneSound(path, clock)
        root = build_root(api=Resource(), pages=self.pages.resource(), portal=Resource(), sip=None)
        self.browser = Browser(WarmlineSite(root, clock, access_log=lambda line: None))


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(sound_module, "PIECE", 100)  # so that it takes several
    rig = Rig(tmp_path / "r_1.mka")
    yield rig
    for file in rig.pages.open:
        with pytest.raises(OSError, match="Bad file descriptor"):
            file.read(0, 1)


async def test_all_of_it_comes_with_its_length_and_kind(rig: Rig) -> None:
    reply = await rig.browser.get("/agent/sound")
    assert (reply.status, reply.body.encode()) == (200, BODY)
    assert reply.headers["content-length"] == "260"
    assert reply.headers["content-type"] == "audio/webm"
    assert reply.headers["accept-ranges"] == "bytes"


async def test_a_part_of_it_says_which(rig: Rig) -> None:
    reply = await rig.browser.ask("GET", "/agent/sound", headers={"Range": "bytes=50-199"})
    assert (reply.status, reply.body.encode()) == (206, BODY[50:200])
    assert reply.headers["content-range"] == "bytes 50-199/260"
    assert reply.headers["content-length"] == "150"


async def test_what_is_not_there_is_416_and_how_long_it_is(rig: Rig) -> None:
    reply = await rig.browser.ask("GET", "/agent/sound", headers={"Range": "bytes=260-"})
    assert (reply.status, reply.headers["content-range"]) == (416, "bytes */260")


async def test_a_part_of_something_else_is_not_mixed_with_this(rig: Rig) -> None:
    headers = {"Range": "bytes=0-9", "If-Range": '"r_0"'}
    assert (await rig.browser.ask("GET", "/agent/sound", headers=headers)).status == 200
    headers["If-Range"] = '"r_1"'
    assert (await rig.browser.ask("GET", "/agent/sound", headers=headers)).status == 206


async def test_head_has_no_body(rig: Rig) -> None:
    reply = await rig.browser.ask("HEAD", "/agent/sound")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, "", "260")


async def test_a_file_that_is_shorter_than_promised_breaks_the_connection(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainFile, "read", lambda self, start, length: b"" if start else BODY[:100])
    stream = await rig.browser.follow("/agent/sound")
    for _ in range(200):
        if stream.wire.aborted:
            break
        await asyncio.sleep(0.01)
    assert stream.wire.aborted
    monkeypatch.undo()
