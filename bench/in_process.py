"""What the SIP part costs by itself: the real parts over a socket that is none, measured or profiled in this process.

    python -m bench.in_process [--only register|call] [--profile] [--count 3000] [--runs 5]

It takes the least of several runs, so that it can be read on a machine that is busy with other things: a REGISTER's
two halves (the challenge, the proof), and a call through a bare B2BUA (INVITE, 180, 200, ACK, BYE on both legs).
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import pstats
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent_presence.location import Location
from agent_presence.registrar import Registrar
from agent_presence.roster import Roster
from agent_presence.store import PresenceStore
from config.database import Database
from config.events import EventLog
from sip_trunk.authentication import Authenticator, Challenge
from sip_trunk.call_events import Accepted, CallEvent, Ended, Progress
from sip_trunk.flow import Flow
from sip_trunk.guard import Guard
from sip_trunk.incoming_call import IncomingCall
from sip_trunk.sip.digest import Nonces, answer, parse_challenge
from sip_trunk.sip.message import Request, Response
from sip_trunk.sip.parser import parse
from sip_trunk.transactions import TransactionLayer
from sip_trunk.transport import Transports
from sip_trunk.udp import UdpPort
from sip_trunk.user_agent import Target, UserAgent

PHONES = 50
CALLER = ("127.0.0.1", 6001)
CALLEE = ("127.0.0.1", 6002)
SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


class Server:
    """The parts as `pbx.service` puts them together, without what stands above SIP."""

    def __init__(self, folder: Path, reactor: Any) -> None:
        now = time.time
        self.profile: cProfile.Profile | None = None
        self.database = Database.open(f"sqlite:///{folder}/bench.sqlite3")
        self.events = EventLog(self.database, now)
        self.transports = Transports(reactor, public_host="127.0.0.1")
        self.transactions = TransactionLayer(self.transports, reactor)
        self.agent = UserAgent(self.transactions, self.transports, clock=reactor, domain_names={"127.0.0.1"})
        self.guard = Guard(now)
        self.transports.admits = self.guard.admits
        store = PresenceStore(self.database)
        self.roster = Roster(store, realm="warmline")
        nonces = Nonces(secrets.token_bytes(32))
        self.authenticator = Authenticator("warmline", nonces, self.roster.credentials_of, now)
        self.location = Location(
            store, self.events, self.roster, domain="127.0.0.1", clock=reactor, now=now,
            flow_alive=lambda token: True,
        )  # fmt: skip
        registrar = Registrar(self.authenticate, self.location, self.roster, domains={"127.0.0.1"}, now=now)
        self.agent.extensions |= {"path", "outbound"}
        self.agent.methods["REGISTER"] = registrar.on_register
        self.transactions.challenges["REGISTER"] = registrar.challenge
        self.agent.on_invite = self.bridge
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        # What a UDP socket would do with it is measured by the figures that have real ones.
        sock = SimpleNamespace(sendto=lambda data, peer: self.sent.append((data, peer)))
        self.port = UdpPort(self.transports, "127.0.0.1", sock, 5060)
        self.transports.add_udp(self.port)

    async def start(self) -> None:
        await self.database.create_all()
        agent = await self.roster.add_agent("Ana", "ana", "!", skills={})
        for number in range(PHONES):
            await self.roster.add_device(agent.id, "Phone", f"ana{number}", f"ana{number}")
        await self.location.load()

    async def stop(self) -> None:
        await self.location.stop()
        self.transactions.stop()
        await self.database.close()

    def authenticate(self, request: Request, flow: Flow) -> str | Challenge:
        who = self.authenticator.check(request)
        if isinstance(who, str):
            self.guard.proved(flow, time.time())
        return who

    def take(self) -> list[tuple[bytes, tuple[str, int]]]:
        sent, self.sent[:] = list(self.sent), []
        return sent

    def bridge(self, inbound: IncomingCall) -> None:
        """The least that joins two legs."""

        def callee(event: CallEvent) -> None:
            match event:
                case Progress(180):
                    inbound.ring()
                case Accepted(body=body):
                    inbound.accept(body)
                case Ended("peer"):
                    inbound.hangup()

        def caller(event: CallEvent) -> None:
            if isinstance(event, Ended) and event.by == "peer":
                outbound.hangup()

        outbound = self.agent.invite(
            Target(f"sip:phone@{CALLEE[0]}:{CALLEE[1]}"),
            from_="<sip:caller@127.0.0.1>",
            to="<sip:phone@127.0.0.1>",
            body=inbound.request.body,
            on_event=callee,
        )
        inbound.on_event = caller


def register(number: int, cseq: int, proof: str = "") -> bytes:
    user = f"ana{number % PHONES}"
    return (
        "REGISTER sip:127.0.0.1:5060 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.1:6001;branch=z9hG4bK-{number}-{cseq}-{secrets.token_hex(4)}\r\n"
        f"From: <sip:{user}@127.0.0.1>;tag={number}r{secrets.token_hex(3)}\r\n"
        f"To: <sip:{user}@127.0.0.1>\r\n"
        f"Call-ID: {number}-{secrets.token_hex(6)}@127.0.0.1\r\n"
        f"CSeq: {cseq} REGISTER\r\n"
        f"Contact: <sip:{user}@127.0.0.1:6001>;audio;video\r\n"
        "Expires: 300\r\nMax-Forwards: 70\r\n"
        f"{proof}Content-Length: 0\r\n\r\n"
    ).encode()


async def fed(server: Server, messages: list[tuple[bytes, tuple[str, int]]]) -> float:
    """CPU seconds to deal with them, the loop having its turns."""
    if server.profile is not None:
        server.profile.enable()
    before = time.process_time()
    for start in range(0, len(messages), 10):
        for data, peer in messages[start : start + 10]:
            server.port.received(data, peer)
        await asyncio.sleep(0)
    used = time.process_time() - before
    if server.profile is not None:
        server.profile.disable()
    return used


async def registers(server: Server, count: int) -> dict[str, float]:
    challenged = await fed(server, [(register(number, 1), CALLER) for number in range(count)])
    proofs = []
    for number, (data, _) in enumerate(server.take()):
        response = parse(data)
        challenge = parse_challenge(response.headers.first("www-authenticate") or "")
        assert isinstance(response, Response)
        assert response.status == 401
        assert challenge is not None
        user = f"ana{number % PHONES}"
        proof = answer(challenge, user, user, "REGISTER", "sip:127.0.0.1:5060")
        proofs.append((register(number, 2, f"Authorization: {proof}\r\n"), CALLER))
    proved = await fed(server, proofs)
    await asyncio.sleep(0.1)
    answers = server.take()
    assert len(answers) == count
    assert all(data.startswith(b"SIP/2.0 200") for data, _ in answers)
    return {"challenge": challenged / count, "proof": proved / count}


def _once(messages: Iterable[bytes]) -> list[bytes]:
    """Without those sent again, as may happen when others keep the machine busy for half a second."""
    return list(dict.fromkeys(messages))


def _answer(request: bytes, status: str, body: str = "", tag: str = "") -> bytes:
    lines = request.decode().split("\r\n")
    kept = [
        line for line in lines if line.startswith(("Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"))
    ]
    to = next(line for line in lines if line.startswith("To:")) + tag
    more = ["Contact: <sip:phone@127.0.0.1:6002>", *(["Content-Type: application/sdp"] if body else [])]
    head = [f"SIP/2.0 {status}", *kept, to, *more, f"Content-Length: {len(body)}", "", ""]
    return ("\r\n".join(head) + body).encode()


def _caller(method: str, number: int, run: str, to: str, uri: str, cseq: int, body: str = "") -> bytes:
    return (
        f"{method} {uri} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.1:6001;branch=z9hG4bK-{run}-{number}-{method}\r\n"
        f"From: <sip:+15550177@carrier.example>;tag={number}f{run}\r\nTo: {to}\r\n"
        f"Call-ID: {number}-{run}@127.0.0.1\r\nCSeq: {cseq} {method}\r\n"
        "Contact: <sip:+15550177@127.0.0.1:6001>\r\nMax-Forwards: 70\r\n"
        + ("Content-Type: application/sdp\r\n" if body else "")
        + f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def calls(server: Server, count: int) -> dict[str, float]:
    """Some at a time, so that nothing has to be sent again meanwhile."""
    used = 0.0
    for _ in range(0, count, 20):
        used += await some_calls(server, 20)
    return {"call": used / count}


async def some_calls(server: Server, count: int) -> float:
    run = secrets.token_hex(4)
    used = 0.0

    async def step(messages: list[tuple[bytes, tuple[str, int]]]) -> list[tuple[bytes, tuple[str, int]]]:
        nonlocal used
        used += await fed(server, messages)
        await asyncio.sleep(0)
        return server.take()

    uri = "sip:phone@127.0.0.1:5060"
    sent = await step([(_caller("INVITE", n, run, f"<{uri}>", uri, 1, SDP), CALLER) for n in range(count)])
    invites = _once(data for data, peer in sent if peer == CALLEE and data.startswith(b"INVITE"))
    assert len(invites) == count
    await step([(_answer(data, "180 Ringing", tag=";tag=x"), CALLEE) for data in invites])
    sent = await step([(_answer(data, "200 OK", SDP, ";tag=x"), CALLEE) for data in invites])
    answers = [
        parse(data)
        for data in _once(data for data, peer in sent if peer == CALLER and data.startswith(b"SIP/2.0 200"))
    ]
    assert len(answers) == count
    where = [(answer.headers.first("to") or "", str(answer.contacts[0].uri)) for answer in answers]
    await step([(_caller("ACK", n, run, to, target, 1), CALLER) for n, (to, target) in enumerate(where)])
    sent = await step(
        [(_caller("BYE", n, run, to, target, 2), CALLER) for n, (to, target) in enumerate(where)]
    )
    byes = _once(data for data, peer in sent if peer == CALLEE and data.startswith(b"BYE"))
    assert len(byes) == count
    await step([(_answer(data, "200 OK"), CALLEE) for data in byes])
    assert not server.agent.calls
    return used


SUBJECTS: dict[str, Callable[[Server, int], Any]] = {"register": registers, "call": calls}


async def measure(reactor: Any, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="warmline-bench-") as folder:
        server = Server(Path(folder), reactor)
        await server.start()
        gc.collect()
        gc.freeze()  # as the server itself does
        for name, run in SUBJECTS.items():
            if options.only not in (None, name):
                continue
            await run(server, 200)
            if options.profile:
                server.profile = cProfile.Profile()
                await run(server, options.count)
                pstats.Stats(server.profile).sort_stats("tottime").print_stats(45)
                continue
            found = [await run(server, options.count) for _ in range(options.runs)]
            for part in found[0]:
                print(f"{name + '.' + part:20} {min(each[part] for each in found) * 1e6:8.1f} µs CPU")
        await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.in_process", description=__doc__)
    parser.add_argument("--only", choices=list(SUBJECTS))
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()

    from pbx.cli import _install_reactor

    _install_reactor()
    from twisted.internet import reactor

    from config.bridge import as_deferred

    done = as_deferred(measure(reactor, options))
    done.addErrback(lambda failure: failure.printTraceback(sys.stderr))
    done.addBoth(lambda _: reactor.stop())
    reactor.run()


if __name__ == "__main__":
    main()
