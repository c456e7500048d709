"""Nobody says hello to silence: media pass both ways as soon as the agent has answered."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from pathlib import Path

from sip_trunk.user_agent import CallEvent, IncomingCall
from tests.peers.people import make_ready_by_page
from tests.peers.process import PeerFailed
from tests.peers.telephone_network import TelephoneNetwork
from tests.peers.text_phone import TextPhone
from tests.peers.warmline import Warmline
from tests.scenarios.test_waiting import BOILER_NUMBER

CALLS = 20
BOTH_WAYS_S = 0.15
EVERY_S = 0.005
LONGEST_S = 5.0
CALLER, AGENT = b"c" * 160, b"a" * 160


class Voice:
    """Says one thing all the time, and knows whether it hears another."""

    def __init__(self, sock: socket.socket, says: bytes, listens_for: bytes) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._says = says
        self._listens_for = listens_for
        self._sent = 0
        self.heard = False

    def speak(self, to: tuple[str, int]) -> None:
        self._sent += 1
        self._sock.sendto(struct.pack("!BBHII", 0x80, 0, self._sent, self._sent * 160, 5) + self._says, to)

    def listen(self) -> None:
        while True:
            try:
                packet = self._sock.recv(2048)
            except BlockingIOError:
                return
            self.heard = self.heard or packet[12:] == self._listens_for


class VoicePhone(TextPhone):
    """An agent's phone that picks up at once."""

    def __init__(self, server: Warmline, user: str) -> None:
        super().__init__(server, user)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.answered_at = 0.0
        self.media = ("", 0)
        self.answered = asyncio.Event()

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        self.sock.close()

    def _on_invite(self, call: IncomingCall) -> None:
        def ignore(event: CallEvent) -> None: ...

        call.on_event = ignore
        port = re.search(rb"^m=audio (\d+) ", call.request.body, re.MULTILINE)
        assert port is not None
        self.media = "127.0.0.1", int(port[1])
        call.accept(
            b"v=0\r\no=phone 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            b"m=audio %d RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n" % self.sock.getsockname()[1]
        )
        self.answered_at = asyncio.get_running_loop().time()
        self.answered.set()


async def test_media_pass_both_ways_at_once_when_the_agent_has_answered(tmp_path: Path) -> None:
    took = []
    async with (
        Warmline(tmp_path, wrap_up_s=0) as server,
        VoicePhone(server, "ana") as ana,
        TelephoneNetwork(server) as network,
    ):
        await make_ready_by_page(server, "ana")
        for number in range(CALLS):
            ana.answered.clear()
            caller = await network.calls(BOILER_NUMBER, f"+1555010{number:04}")
            await asyncio.wait_for(ana.answered.wait(), 10)
            assert caller._media is not None
            at_caller = Voice(caller._socket, CALLER, AGENT)
            at_agent = Voice(ana.sock, AGENT, CALLER)
            loop = asyncio.get_running_loop()
            while not (at_caller.heard and at_agent.heard):
                if loop.time() - ana.answered_at > LONGEST_S:
                    raise PeerFailed(f"call {number}: {at_caller.heard=} {at_agent.heard=}")
                at_caller.speak(caller._media)
                at_agent.speak(ana.media)
                await asyncio.sleep(EVERY_S)
                at_caller.listen()
                at_agent.listen()
            took.append(loop.time() - ana.answered_at)
            caller.hangs_up()
            await server.agent_is("agent-ana", "Ready")
    took.sort()
    assert took[CALLS * 95 // 100 - 1] < BOTH_WAYS_S, took
