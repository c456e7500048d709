"""A softphone that is a browser: JsSIP in Chromium, registered over a web socket (RFC 7118) as an agent's device."""

from __future__ import annotations

from typing import Any, Self

from tests.peers.browser import Customer
from tests.peers.process import until
from tests.peers.warmline import ROOT, Warmline

JSSIP = ROOT / "kb_portal" / "static" / "vendor" / "jssip.js"

START = """
([socket, uri, user, password]) => {
  JsSIP.debug.disable();
  const phone = window.phone = {registered: false, session: null, subject: '', from: '', video: false, ended: []};
  phone.ua = new JsSIP.UA({
    sockets: [new JsSIP.WebSocketInterface(socket)], uri, password, authorization_user: user,
    register: true, session_timers: false, connection_recovery_min_interval: 1,
  });
  phone.ua.on('registered', () => { phone.registered = true; });
  phone.ua.on('registrationFailed', ({cause}) => { phone.ended.push('not registered: ' + cause); });
  phone.ua.on('newRTCSession', ({originator, session, request}) => {
    if (originator !== 'remote') return;
    phone.session = session;
    phone.subject = request.getHeader('Subject') || '';
    phone.from = request.from.display_name || '';
    phone.video = /^m=video [1-9]/m.test(request.body || '');
    session.on('failed', ({cause}) => { phone.session = null; phone.ended.push(cause); });
    session.on('ended', ({cause}) => { phone.session = null; phone.ended.push(cause); });
  });
  // RFC 3840: what this phone can do, as it says itself with its registration.
  phone.ua.registrator().setExtraContactParams({audio: null, video: null});
  phone.ua.start();
}
"""
ANSWER = """
async (video) => {
  const media = await navigator.mediaDevices.getUserMedia({audio: true, video: video && {width: 320, height: 240}});
  const session = window.phone.session;
  session.on('peerconnection', ({peerconnection}) => {
    peerconnection.addEventListener('track', ({track}) => {  // Chromium decodes only what something plays
      const player = document.createElement(track.kind);
      player.autoplay = true;
      player.id = 'remote-' + track.kind;
      player.srcObject = new MediaStream([track]);
      document.body.append(player);
    });
  });
  session.answer({mediaStream: media, pcConfig: {iceServers: []}});
}
"""


class BrowserPhone(Customer):
    """One device of an agent. `tone` (Hz) is what its microphone hears; the camera shows Chromium's test picture."""

    def __init__(
        self, server: Warmline, *, user: str, password: str, tone: int = 1000, **options: Any
    ) -> None:
        super().__init__(server.folder, server.portal, tone=tone, **options)
        self._account = [
            server.portal.replace("http", "ws", 1) + "/sip",
            f"sip:{user}@127.0.0.1",
            user,
            password,
        ]

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            # Any page of the portal will do: its origin lets the socket in and makes the microphone available.
            await self.page.goto(f"{self.portal}/login")
            await self.page.evaluate(f"{JSSIP.read_text('utf-8')}\nwindow.JsSIP = JsSIP;")
            await self.page.evaluate(START, self._account)
            await until(lambda: self.page.evaluate("window.phone.registered"), "the browser to be registered")
        except BaseException:
            await super().__aexit__()
            raise
        return self

    async def rings(self, seconds: float = 15.0) -> None:
        await until(
            lambda: self.page.evaluate("window.phone.session !== null"),
            f"the browser phone to ring (console: {self.console[-8:]})",
            seconds=seconds,
        )

    async def prompt(self) -> dict[str, Any]:
        """What the INVITE said: subject, from, and whether it offers video."""
        said: dict[str, Any] = await self.page.evaluate(
            "({subject: window.phone.subject, from: window.phone.from, video: window.phone.video})"
        )
        return said

    async def answer(self, *, video: bool = True) -> None:
        await self.page.evaluate(ANSWER, video)

    async def hang_up(self) -> None:
        await self.page.evaluate("window.phone.session.terminate()")

    async def is_over(self, seconds: float = 10.0) -> None:
        await until(
            lambda: self.page.evaluate("window.phone.session === null"),
            "the call to be over",
            seconds=seconds,
        )
