"""Telephones that come by a trunk, all of them in this process: they call, press keys, speak, and are called."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Self

from sip_trunk.dtmf import relay_body
from sip_trunk.transactions import TransactionLayer
from sip_trunk.transport import Transports
from sip_trunk.user_agent import (
    Accepted,
    Call,
    CallEvent,
    Cancelled,
    Ended,
    IncomingCall,
    InDialog,
    Refused,
    Reoffered,
    Target,
    UserAgent,
)
from tests.peers.process import PeerFailed
from tests.peers.warmline import Warmline

# 20 ms of a tone of 500 Hz in PCMU, square and loud.
TONE = (b"\x10" * 8 + b"\x90" * 8) * 10
ANSWERED_S = 8.0


class Telephone:
    """One call of one telephone. `answered` is set by a 2xx, `over` by whatever ends the call."""

    def __init__(self, number: str) -> None:
        self.number = number
        self.answered = asyncio.Event()
        self.over = asyncio.Event()
        self._call: Call | None = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._media: tuple[str, int] | None = None
        self._sent = 0

    @property
    def sdp(self) -> bytes:
        port = self._socket.getsockname()[1]
        return (
            b"v=0\r\no=phone 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            b"m=audio %d RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n" % port
        )

    def take(self, call: Call) -> None:
        self._call = call

    def heard_of(self, event: CallEvent) -> None:
        match event:
            case Accepted(body, _):
                port = re.search(rb"^m=audio (\d+) ", body, re.MULTILINE)
                if port is not None:
                    self._media = "127.0.0.1", int(port[1])
                self.answered.set()
            case Reoffered() if self._call is not None:
                self._call.answer_reoffer(self.sdp)
            case InDialog(request):
                request.respond(200)
            case Refused() | Cancelled() | Ended():
                self.over.set()
                self._socket.close()
            case _:
                pass

    def presses(self, key: str) -> None:
        if self._call is not None and not self.over.is_set():
            self._call.send("INFO", relay_body(key), "application/dtmf-relay")

    async def speaks(self, seconds: float, *, losing: int = 0) -> None:
        """`losing`: each so-manieth packet does not come."""
        for _ in range(int(seconds * 50)):
            if self._media is None or self.over.is_set():
                return
            sequence = self._sent.to_bytes(2, "big")
            head = b"\x80\x00" + sequence + (self._sent * 160).to_bytes(4, "big") + b"\x00\x00\x00\x07"
            if not losing or self._sent % losing:
                self._socket.sendto(head + TONE, self._media)
            self._sent += 1
            await asyncio.sleep(0.02)

    def hangs_up(self) -> None:
        if self._call is not None:
            self._call.hangup()


class TelephoneNetwork:
    """Calls the server from the port its trunk is known by. Who is called answers, and hangs up after `talk_s`."""

    def __init__(self, server: Warmline, *, talk_s: float = 0.3) -> None:
        self._server = server
        self._talk_s = talk_s
        self._telephones: list[Telephone] = []

    async def __aenter__(self) -> Self:
        from twisted.internet import reactor

        self._transports = Transports(reactor, public_host="127.0.0.1")
        self._layer = TransactionLayer(self._transports, reactor)
        self._agent = UserAgent(
            self._layer, self._transports, clock=reactor, domain_names=set(), product="Telephones"
        )
        self._agent.on_invite = self._called
        self._transports.listen_udp("127.0.0.1", self._server.trunk_port)
        self._flow = self._transports.flow_to_address("UDP", "127.0.0.1", self._server.sip_port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hangs_up()
        self._layer.stop()
        await self._transports.stop()

    async def calls(self, number: str, caller: str) -> Telephone:
        """Returns when the server has answered."""
        telephone = Telephone(caller)
        self._telephones.append(telephone)
        call = self._agent.invite(
            Target(f"sip:{number}@127.0.0.1:{self._server.sip_port}", flow=self._flow),
            from_=f"<sip:{caller}@carrier.example>",
            to=f"<sip:{number}@127.0.0.1>",
            body=telephone.sdp,
            on_event=telephone.heard_of,
        )
        telephone.take(call)
        try:
            await asyncio.wait_for(telephone.answered.wait(), ANSWERED_S)
        except TimeoutError:
            raise PeerFailed(f"{caller} is not answered") from None
        return telephone

    def hangs_up(self) -> None:
        """Every call there is, be the server there to hear it or not."""
        for call in tuple(self._agent.calls):
            call.hangup()

    def _called(self, call: IncomingCall) -> None:
        telephone = Telephone(call.request.uri.user or "")
        telephone.take(call)
        call.on_event = telephone.heard_of
        call.accept(telephone.sdp)
        asyncio.get_running_loop().call_later(self._talk_s, telephone.hangs_up)
