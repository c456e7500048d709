from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from media.arrivals import BEAT_S, TURN_S, WINDOW_S, Arrivals


class Loop:
    """What an event loop is asked for, and a clock that only moves when told."""

    def __init__(self) -> None:
        self.time = 100.0
        self.reader: Callable[[], None] | None = None
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.errors: list[dict[str, Any]] = []

    def now(self) -> float:
        return self.time

    def add_reader(self, descriptor: int, reader: Callable[[], None]) -> None:
        self.reader = reader

    def remove_reader(self, descriptor: int) -> None:
        self.reader = None

    def call_later(self, delay: float, call: Callable[[], None]) -> Loop:
        self.due.append((delay, call))
        return self

    def call_soon(self, call: Callable[[], None]) -> Loop:
        return self.call_later(0.0, call)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def cancel(self) -> None:
        self.due.clear()


class House:
    def __init__(self) -> None:
        self.loop = Loop()
        self.arrivals = Arrivals(cast(asyncio.AbstractEventLoop, self.loop), self.loop.now)
        self.sockets: list[socket.socket] = []
        self.heard: list[tuple[bytes, float]] = []
        self.takes_s = 0.0

    def line(self) -> tuple[socket.socket, socket.socket]:
        """What is sent into the first is heard at the second."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        far.setblocking(False)
        self.sockets += (near, far)
        return near, far

    def hear(self, far: socket.socket) -> None:
        def read(now: float) -> None:
            self.heard.append((far.recv(100), now))
            self.loop.time += self.takes_s

        self.arrivals.watch(far.fileno(), read)

    def wake(self) -> None:
        assert self.loop.reader is not None
        self.loop.reader()

    def beat(self) -> None:
        [(delay, call)] = self.loop.due
        self.loop.due.clear()
        self.loop.time += delay
        call()

    def become_busy(self, near: socket.socket) -> None:
        while not self.arrivals.beating:
            near.send(b"x")
            self.wake()
            self.loop.time += BEAT_S / 2


@pytest.fixture
def house() -> Iterator[House]:
    opened = House()
    yield opened
    opened.arrivals.close()
    for each in opened.sockets:
        each.close()


def test_as_long_as_packets_are_few_each_is_taken_when_it_comes(house: House) -> None:
    near, far = house.line()
    house.hear(far)
    for number in range(100):
        near.send(b"%d" % number)
        house.wake()
        assert len(house.heard) == number + 1
        house.loop.time += 2 * BEAT_S
    assert not house.arrivals.beating
    assert not house.loop.due


def test_when_they_come_faster_than_the_beat_they_wake_nobody_and_the_beat_takes_them_all(
    house: House,
) -> None:
    lines = [house.line() for _ in range(5)]
    for _, far in lines:
        house.hear(far)
    house.become_busy(lines[0][0])
    assert house.loop.reader is None
    house.heard.clear()
    for near, _ in lines:
        near.send(b"first")
        near.send(b"second")
    house.beat()
    assert sorted(data for data, _ in house.heard) == [b"first"] * 5 + [b"second"] * 5


def test_beats_go_by_the_clock_however_long_their_work_takes(house: House) -> None:
    near, far = house.line()
    house.hear(far)
    house.become_busy(near)
    house.takes_s = BEAT_S / 4
    beats = []
    for _ in range(10):
        near.send(b"x")
        house.beat()
        beats.append(house.heard[-1][1])
    assert beats[-1] - beats[1] == pytest.approx(8 * BEAT_S)


def test_a_packet_of_a_call_alone_wakes_the_loop_again_once_the_others_are_over(house: House) -> None:
    near, far = house.line()
    house.hear(far)
    house.become_busy(near)
    for _ in range(int(WINDOW_S / BEAT_S) + 2):
        if house.arrivals.beating:
            house.beat()
    assert not house.arrivals.beating
    assert not house.loop.due
    house.heard.clear()
    near.send(b"again")
    house.wake()
    assert [data for data, _ in house.heard] == [b"again"]


def test_a_flood_lets_the_loop_have_its_turn(house: House) -> None:
    """Or what is asked of the media server would wait until the flood is over."""
    lines = [house.line() for _ in range(10)]
    for _, far in lines:
        house.hear(far)
    house.become_busy(lines[0][0])
    house.heard.clear()
    house.takes_s = TURN_S / 8
    for _ in range(5):
        for near, _ in lines:
            near.send(b"x")
    house.beat()
    assert len(house.heard) == 10
    assert [delay for delay, _ in house.loop.due] == [0.0], "it goes on after whatever else is waiting"
    for _ in range(4):
        house.beat()
    assert len(house.heard) == 50


def test_a_flood_lets_the_loop_have_its_turn_before_there_is_a_beat(house: House) -> None:
    near, far = house.line()
    house.hear(far)
    house.takes_s = 0.6 * TURN_S
    for _ in range(6):
        near.send(b"x")
    house.wake()
    assert len(house.heard) == 2
    house.wake()
    assert len(house.heard) == 4


def test_other_work_in_pieces_keeps_packets_waiting_for_no_longer_than_one(house: House) -> None:
    near, far = house.line()
    house.hear(far)
    house.become_busy(near)
    house.beat()
    house.heard.clear()
    near.send(b"x")
    house.arrivals.take_due()
    assert not house.heard, "a beat has not passed"
    house.loop.time += 1.1 * BEAT_S
    house.arrivals.take_due()
    assert [data for data, _ in house.heard] == [b"x"]


def test_a_packet_that_shows_a_defect_ends_nothing_for_the_others(house: House) -> None:
    lines = [house.line() for _ in range(2)]
    house.hear(lines[1][1])
    house.become_busy(lines[1][0])
    house.heard.clear()

    def fail(now: float) -> None:
        lines[0][1].recv(100)
        raise ZeroDivisionError

    house.arrivals.watch(lines[0][1].fileno(), fail)
    for _ in range(3):
        for near, _ in lines:
            near.send(b"x")
        house.beat()
    assert len(house.heard) == 3
    assert [type(each["exception"]) for each in house.loop.errors] == [ZeroDivisionError] * 3


def test_who_is_forgotten_by_another_hears_nothing_more_not_even_in_the_same_turn(house: House) -> None:
    lines = [house.line() for _ in range(2)]
    heard = []

    def alone(number: int) -> Callable[[float], None]:
        def read(now: float) -> None:
            lines[number][1].recv(100)
            heard.append(number)
            house.arrivals.forget(lines[1 - number][1].fileno())

        return read

    for number, (near, far) in enumerate(lines):
        house.arrivals.watch(far.fileno(), alone(number))
        near.send(b"x")
    house.wake()
    assert len(heard) == 1


def test_forgetting_what_is_not_watched_or_closed_is_no_matter(house: House) -> None:
    near, far = house.line()
    house.hear(far)
    house.arrivals.forget(near.fileno())
    house.arrivals.forget(near.fileno() + 1000)
    house.arrivals.forget(-1)
    near.send(b"x")
    house.wake()
    assert len(house.heard) == 1
    house.arrivals.forget(far.fileno())
    house.arrivals.forget(far.fileno())
