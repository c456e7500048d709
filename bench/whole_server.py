"""What a call costs the whole server, media process and database at work, over a socket that is none.

    python -m bench.whole_server [--queued] [--together 3] [--count 600] [--runs 5] [--profile]

A trunk's caller calls an agent's phone, or with `--queued` a number of ours, and is answered, queued and joined with a
ready agent: INVITE, 180, 200, ACK and BYE on both legs, every event stored. Told is the least of several runs, in CPU
time of the server process and of the media process, so that it can be read on a machine that is busy with other
things. `--together` says how many calls are in step: what comes in one turn of the loop shares its commits and its
requests to media, as on a busy server.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import json
import os
import pstats
import secrets
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.figure import children_of, cpu_seconds
from bench.in_process import CALLEE, CALLER, SDP, _answer, _caller, _once
from bench.queued_call import BOILER_NUMBER, SKILLS
from config.events import Event
from config.settings import Settings
from pbx.cli import _install_reactor, migrate
from sip_trunk.sip.digest import answer, parse_challenge
from sip_trunk.sip.parser import parse
from tests.peers.process import free_port, free_range, free_sip_port

AGENTS = 60
WITH_KEYS = SDP.replace(
    "RTP/AVP 0\r\n", "RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
)
Datagram = tuple[bytes, tuple[str, int]]


class Whole:
    def __init__(self, folder: Path, reactor: Any, *, queued: bool = False) -> None:
        from pbx.service import Service

        self.queued = queued
        low, high = free_range(1000)
        trunk = {
            "name": "exchange",
            "peers": [f"{CALLER[0]}:{CALLER[1]}"],
            "extensions": True,
            "options_s": 0,
        }
        environment = {
            "WARMLINE_DATA": str(folder), "WARMLINE_HTTP_PORT": str(free_port()), "WARMLINE_HTTPS_PORT": "0",
            "WARMLINE_SIP_PORT": str(free_sip_port()), "WARMLINE_SIPS_PORT": "0", "WARMLINE_ROBOT_AGENT": "off",
            "WARMLINE_RTP_PORTS": f"{low}-{high}", "WARMLINE_SAMPLE_DATA": "on" if queued else "off",
            "WARMLINE_WRAP_UP_S": "0", "WARMLINE_TRUNKS": json.dumps([trunk]),
        }  # fmt: skip
        self.settings: Settings = Settings.load(environment)
        migrate(self.settings)
        self.service = Service(self.settings, reactor)
        self.sent: list[Datagram] = []
        self.wanted = 0
        self.enough: asyncio.Future[None] | None = None
        self.used = 0.0
        self.to_join = 0
        self.all_joined: asyncio.Future[None] | None = None
        self.service.events.subscribe(self._happened)

    def _happened(self, event: Event) -> None:
        if event.kind == "contact.connected" and self.all_joined is not None:
            self.to_join -= 1
            if not self.to_join:
                self.all_joined.set_result(None)

    async def start(self) -> None:
        service = self.service
        await service.start()
        self.port = next(iter(service.transports._udp))
        self.port._socket = SimpleNamespace(
            sendto=self._sendto, fileno=self.port._socket.fileno, close=self.port._socket.close
        )
        for number in range(AGENTS):
            skills = SKILLS if self.queued else {}
            agent = await service.roster.add_agent(f"Agent {number}", f"bench{number}", "!", skills=skills)
            await service.roster.add_device(agent.id, "Phone", f"phone{number}", "secret")
            await self.register(f"phone{number}")
            if self.queued:
                await service._states.ready(agent.id)
        gc.collect()
        gc.freeze()
        gc.set_threshold(2_000, 5, 200)  # as `pbx.cli` does

    def _sendto(self, data: bytes, peer: tuple[str, int]) -> None:
        self.sent.append((data, peer))
        if len(self.sent) >= self.wanted and self.enough is not None and not self.enough.done():
            self.enough.set_result(None)

    async def fed(self, data: list[Datagram], wanted: int) -> list[Datagram]:
        """Deal with what comes, until so much has been sent. The CPU time is `used`."""
        self.wanted, self.enough = wanted, asyncio.get_running_loop().create_future()
        before = time.process_time()
        for message, peer in data:
            self.port.received(message, peer)
        if len(self.sent) < wanted:
            await asyncio.wait_for(self.enough, 20)
        await asyncio.sleep(0)
        self.used += time.process_time() - before
        sent, self.sent[:] = list(self.sent), []
        return sent

    async def register(self, user: str) -> None:
        uri, proof = "sip:127.0.0.1", ""
        for cseq in (1, 2):
            text = (
                f"REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLEE[0]}:{CALLEE[1]};branch=z9hG4bK{user}{cseq}\r\n"
                f"From: <sip:{user}@127.0.0.1>;tag=r{user}\r\nTo: <sip:{user}@127.0.0.1>\r\nCall-ID: r{user}\r\n"
                f"CSeq: {cseq} REGISTER\r\nContact: <sip:{user}@{CALLEE[0]}:{CALLEE[1]}>;audio;video\r\n"
                f"Expires: 3600\r\nMax-Forwards: 70\r\n{proof}Content-Length: 0\r\n\r\n"
            )
            response = parse((await self.fed([(text.encode(), CALLEE)], 1))[-1][0])
            if cseq == 1:
                challenge = parse_challenge(response.headers.first("www-authenticate") or "")
                assert challenge is not None
                proof = f"Authorization: {answer(challenge, user, 'secret', 'REGISTER', uri)}\r\n"

    async def calls(self, count: int, together: int) -> tuple[float, float]:
        """CPU seconds of a call here, and in the media process."""
        media = children_of(os.getpid())
        media_before = sum(map(cpu_seconds, media))
        self.used = 0.0
        before = time.process_time()
        begun = self.used
        for start in range(0, count, together):
            if self.queued:
                await self.some_queued(together)
            else:
                await self.some([(start + n) % AGENTS for n in range(together)])
        before = time.process_time()
        await asyncio.sleep(0.2)  # the last events
        self.used += time.process_time() - before
        return (self.used - begun) / count, (sum(map(cpu_seconds, media)) - media_before) / count

    async def some(self, phones: list[int]) -> None:
        run, count = secrets.token_hex(4), len(phones)
        place = f"127.0.0.1:{self.settings.sip_port}"

        def named(n: int) -> str:
            return f"sip:phone{phones[n]}@{place}"

        sent = await self.fed(
            [
                (_caller("INVITE", n, run, f"<{named(n)}>", named(n), 1, WITH_KEYS), CALLER)
                for n in range(count)
            ],
            2 * count,
        )
        invites = _to_callee(sent, b"INVITE", count)
        await self.fed([(_answer(data, "180 Ringing", tag=";tag=x"), CALLEE) for data in invites], count)
        sent = await self.fed(
            [(_answer(data, "200 OK", WITH_KEYS, ";tag=x"), CALLEE) for data in invites], 2 * count
        )
        answered = _answered(sent, count)
        await self.fed([(_caller("ACK", n, run, to, uri, 1), CALLER) for n, to, uri in answered], 0)
        await self.hung_up(run, answered)

    async def some_queued(self, count: int) -> None:
        run, number = secrets.token_hex(4), f"sip:{BOILER_NUMBER}@127.0.0.1:{self.settings.sip_port}"
        sent = await self.fed(
            [(_caller("INVITE", n, run, f"<{number}>", number, 1, WITH_KEYS), CALLER) for n in range(count)],
            3 * count,
        )
        invites, answered = _to_callee(sent, b"INVITE", count), _answered(sent, count)
        await self.fed([(_caller("ACK", n, run, to, uri, 1), CALLER) for n, to, uri in answered], 0)
        await self.fed([(_answer(data, "180 Ringing", tag=";tag=x"), CALLEE) for data in invites], 0)
        self.to_join, self.all_joined = count, asyncio.get_running_loop().create_future()
        await self.fed([(_answer(data, "200 OK", WITH_KEYS, ";tag=x"), CALLEE) for data in invites], count)
        before = time.process_time()
        await asyncio.wait_for(self.all_joined, 20)  # media joins them after our ACK
        self.used += time.process_time() - before
        await self.hung_up(run, answered)

    async def hung_up(self, run: str, answered: list[tuple[int, str, str]]) -> None:
        count = len(answered)
        sent = await self.fed(
            [(_caller("BYE", n, run, to, uri, 2), CALLER) for n, to, uri in answered], 2 * count
        )
        await self.fed([(_answer(data, "200 OK"), CALLEE) for data in _to_callee(sent, b"BYE", count)], 0)


def _to_callee(sent: list[Datagram], method: bytes, count: int) -> list[bytes]:
    found = _once(data for data, peer in sent if peer == CALLEE and data.startswith(method))
    assert len(found) == count, (method, sent)
    return found


def _answered(sent: list[Datagram], count: int) -> list[tuple[int, str, str]]:
    """Of each call that we have answered: its number, its To and where to send what follows."""
    answers = [
        parse(data) for data in _once(d for d, p in sent if p == CALLER and d.startswith(b"SIP/2.0 200"))
    ]
    assert len(answers) == count, sent
    return [
        (int(each.call_id.partition("-")[0]), each.headers.first("to") or "", str(each.contacts[0].uri))
        for each in answers
    ]


async def measure(reactor: Any, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="warmline-bench-") as folder:
        whole = Whole(Path(folder), reactor, queued=options.queued)
        what = "queued call" if options.queued else "direct call"
        await whole.start()
        try:
            await whole.calls(300, options.together)
            if options.profile:
                profile = cProfile.Profile()
                profile.enable()
                await whole.calls(options.count, options.together)
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(60)
                return
            found = [await whole.calls(options.count, options.together) for _ in range(options.runs)]
            print(f"{what}          {min(each[0] for each in found) * 1e6:8.1f} µs CPU")
            print(f"{what}, media   {min(each[1] for each in found) * 1e6:8.1f} µs CPU")
        finally:
            await whole.service.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.whole_server", description=__doc__)
    parser.add_argument("--queued", action="store_true")
    parser.add_argument("--together", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    _install_reactor()
    from twisted.internet import reactor

    from config.bridge import as_deferred

    done = as_deferred(measure(reactor, options))
    done.addErrback(lambda failure: failure.printTraceback(sys.stderr))
    done.addBoth(lambda _: reactor.stop())
    reactor.run()


if __name__ == "__main__":
    main()
