from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import OurError
from media import ng as ng_module
from media.ng import Ng, NgRefused, decode, encode
from tests.peers.process import free_port, until

VALUES = st.recursive(
    st.integers(-(10**15), 10**15) | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_is_decoded(value: Any) -> None:
    assert decode(encode(value)) == value


def test_it_is_written_as_rtpengine_reads_it() -> None:
    asked = {"command": "offer", "flags": ("a", "b"), "sdp": b"v=0\r\n", "delete-delay": 0}
    assert encode(asked) == b"d7:command5:offer12:delete-delayi0e5:flagsl1:a1:be3:sdp5:v=0\r\ne"


@given(st.binary(max_size=200))
def test_what_is_no_bencode_is_a_value_error_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"i1",
        b"5:abc",
        b"-1:a",
        b"l" * 100,
        b"d1:a",
        b"d1:ae",
        b"di1ei2ee",
        b"i1ei2e",
        b"i" + b"9" * 5000 + b"e",
    ],
)
def test_what_is_cut_off_or_endless_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)


class Peer:
    """What rtpengine's side gets and says."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.address: tuple[str, int] = self.sock.getsockname()
        self.got: list[bytes] = []
        self.answer: Callable[[bytes, dict[str, Any]], bytes | None] = lambda cookie, asked: None
        asyncio.get_event_loop().add_reader(self.sock, self._read)

    def _read(self) -> None:
        data, whose = self.sock.recvfrom(65536)
        self.got.append(data)
        cookie, _, body = data.partition(b" ")
        answer = self.answer(cookie, decode(body))
        if answer is not None:
            self.sock.sendto(answer, whose)

    def close(self) -> None:
        asyncio.get_event_loop().remove_reader(self.sock)
        self.sock.close()


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    monkeypatch.setattr(ng_module, "AGAIN_S", (0.01, 0.02, 0.04))
    made = Peer()
    yield made
    made.close()


def saying(**reply: Any) -> Callable[[bytes, dict[str, Any]], bytes]:
    return lambda cookie, asked: cookie + b" " + encode(reply)


async def test_each_gets_its_own_answer(peer: Peer) -> None:
    ng = await Ng.to(*peer.address)
    peer.answer = lambda cookie, asked: cookie + b" " + encode({"result": "ok", "is": asked["call-id"]})
    answers = await asyncio.gather(*(ng.ask("query", call_id=str(number)) for number in range(50)))
    assert [answer["is"] for answer in answers] == [str(number).encode() for number in range(50)]
    ng.close()


async def test_an_unanswered_request_is_sent_again_under_its_cookie_and_then_given_up(peer: Peer) -> None:
    ng = await Ng.to(*peer.address)
    with pytest.raises(OurError) as given_up:
        await ng.ask("ping")
    assert given_up.value.status == 503
    assert len(peer.got) == 3
    assert len(set(peer.got)) == 1
    with pytest.raises(OurError):
        await ng.ask("ping")
    assert len(peer.got) == 3, "nobody waits again before it is heard of"
    peer.answer = saying(result="ok")
    await ng.ask(ng_module.ASKED_ALWAYS)
    assert await ng.ask("ping") == {"result": b"ok"}
    ng.close()


async def test_the_second_sending_may_be_the_one_that_is_answered(peer: Peer) -> None:
    ng = await Ng.to(*peer.address)
    peer.answer = lambda cookie, asked: cookie + b" d6:result2:oke" if len(peer.got) > 1 else None
    await ng.ask("ping")
    assert ng.answering
    ng.close()


async def test_a_refusal_says_why_and_whether_it_is_for_want_of_room(peer: Peer) -> None:
    ng = await Ng.to(*peer.address)
    for name, what, why, status in (
        ("error", "error-reason", "Unknown call-id", 500),
        ("error", "error-reason", "Ran out of ports", 503),
        ("load limit", "message", "Parallel session limit reached", 503),
    ):
        peer.answer = saying(**{"result": name, what: why})
        with pytest.raises(NgRefused) as refused:
            await ng.ask("query")
        assert (refused.value.why, refused.value.status) == (why, status)
    ng.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"le",
        b"i1e",
        b"d6:resulti1ee",
        b"d5:otheri1ee",
        b"d12:error-reasoni5e6:result5:errore",
        b"d6:result0:e",
    ],
)
async def test_nonsense_fails_what_it_answers_and_nothing_else(peer: Peer, body: bytes) -> None:
    ng = await Ng.to(*peer.address)
    peer.answer = lambda cookie, asked: cookie + b" " + body
    with pytest.raises(OurError):
        await ng.ask("ping")
    peer.answer = saying(result="ok")
    await ng.ask("ping")
    ng.close()


async def test_answers_to_nothing_are_passed_over(peer: Peer) -> None:
    ng = await Ng.to(*peer.address)
    for data in (b"", b"x", b"stranger d6:result2:oke", bytes(range(256))):
        ng.datagram_received(data, peer.address)
    peer.answer = saying(result="ok")
    await ng.ask("ping")
    ng.close()


async def test_there_is_a_limit_to_what_is_under_way(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ng_module, "MOST_UNDER_WAY", 3)
    ng = await Ng.to(*peer.address)
    waiting = [ng.ask("ping") for _ in range(3)]
    with pytest.raises(OurError):
        await ng.ask("ping")
    for each in waiting:
        each.cancel()
    await asyncio.sleep(0)
    assert not ng._under_way, "whoever does not wait any more leaves nothing"
    ng.close()


async def test_a_port_that_nobody_listens_on_is_known_at_once() -> None:
    ng = await Ng.to("127.0.0.1", free_port(socket.SOCK_DGRAM))
    asked = ng.ask("ping")
    await until(asked.done, "the refusal", seconds=0.15, every=0.01)
    with pytest.raises(OurError):
        await asked
    assert not ng.answering
    ng.close()


async def test_what_is_too_long_for_a_datagram_is_refused_and_harms_nobody_else(peer: Peer) -> None:
    """A peer's description may be as long as SIP over TCP carries."""
    ng = await Ng.to(*peer.address)
    waiting = ng.ask("query")
    with pytest.raises(NgRefused):
        await ng.ask("offer", sdp=bytes(65600))
    assert ng.answering
    for _ in range(2):  # nor does a network that takes no datagram just now
        ng.error_received(OSError(105, "No buffer space available"))
    peer.answer = saying(result="ok")
    await waiting
    ng.close()


async def test_after_the_end_nothing_is_asked(peer: Peer) -> None:
    ng = await Ng.to(*peer.address)
    waiting = ng.ask("ping")
    ng.close()
    for each in (waiting, ng.ask("ping")):
        with pytest.raises(OurError):
            await each
