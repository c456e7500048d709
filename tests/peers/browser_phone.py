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
  const play = ({track}) => {  // Chromium decodes only what something plays
    document.querySelector('#remote-' + track.kind)?.remove();
    const player = document.createElement(track.kind);
    player.autoplay = true;
    player.id = 'remote-' + track.kind;
    player.srcObject = new MediaStream([track]);
    document.body.append(player);
  };
  const phone = window.phone = {
    plays: ({peerconnection}) => peerconnection.addEventListener('track', play),
    registered: false, session: null, consultation: null, subject: '', from: '', video: false, ended: [], texts: [],
    transfers: [],
  };
  phone.ua = new JsSIP.UA({
    sockets: [new JsSIP.WebSocketInterface(socket)], uri, password, authorization_user: user,
    register: true, session_timers: false, connection_recovery_min_interval: 1,
  });
  phone.ua.on('registered', () => { phone.registered = true; });
  phone.ua.on('registrationFailed', ({cause}) => { phone.ended.push('not registered: ' + cause); });
  phone.ua.on('newMessage', ({originator, request}) => {
    if (originator === 'remote') phone.texts.push([String(request.from), request.body]);
  });
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
  session.on('peerconnection', window.phone.plays);
  session.answer({mediaStream: media, pcConfig: {iceServers: []}});
}
"""
# A call of its own: the only one, or the one before a transfer, in which somebody is asked whether they will take it.
CALL = """
async ([name, to]) => {
  const media = await navigator.mediaDevices.getUserMedia({audio: true});
  const phone = window.phone;
  phone[name] = phone.ua.call(to, {
    mediaStream: media, mediaConstraints: {audio: true, video: false}, pcConfig: {iceServers: []},
    eventHandlers: {peerconnection: phone.plays},
  });
  for (const over of ['failed', 'ended']) {
    phone[name].on(over, ({cause}) => { phone[name] = null; phone.ended.push(cause); });
  }
}
"""
# JsSIP answers to hold() at once when it is not the time for it, and later when it is agreed or refused.
HOLD = """
(held) => new Promise((done, failed) => {
  const session = window.phone.session;
  const begun = held ? session.hold({}, () => done(true)) : session.unhold({}, () => done(true));
  if (!begun) failed(new Error('JsSIP will not hold now'));
})
"""
# Of a medium that is stopped, the description says so with port 0 (RFC 8829 s5.2.2).
VIDEO = """
async (wanted) => {
  const {session} = window.phone;
  const {connection} = session;
  if (wanted) {
    const media = await navigator.mediaDevices.getUserMedia({video: {width: 320, height: 240}});
    connection.addTrack(media.getVideoTracks()[0], media);
  } else {
    for (const each of connection.getTransceivers()) {
      if (each.receiver.track.kind === 'video' && !each.stopped) each.stop();
    }
  }
  await new Promise((done, failed) => {
    if (!session.renegotiate({}, () => done(true))) failed(new Error('JsSIP will not offer anew now'));
  });
}
"""
REFER = """
([to, attended]) => {
  const phone = window.phone;
  const tell = (what) => (event) => phone.transfers.push([what, event && event.status_line
    ? event.status_line.status_code : 0]);
  phone.session.refer(to, {
    replaces: attended ? phone.consultation : undefined,
    eventHandlers: {
      requestSucceeded: tell('taken'), requestFailed: tell('refused'), trying: tell('trying'),
      progress: tell('progress'), accepted: tell('accepted'), failed: tell('failed'),
    },
  });
}
"""


class BrowserPhone(Customer):
    """One device of an agent. `tone` (Hz) is what its microphone hears; the camera shows Chromium's test picture.

    `socket` is the URL of the web socket: the server's own unless there is a proxy before it.
    """

    def __init__(
        self,
        server: Warmline,
        *,
        user: str,
        password: str,
        tone: int = 1000,
        socket: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(server.folder, server.portal, tone=tone, **options)
        self._account = [
            socket or server.portal.replace("http", "ws", 1) + "/sip",
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

    async def dial(self, number: str, *, consultation: bool = False) -> None:
        """Call a user of the server's; as a `consultation` beside the call that is on hold."""
        name = "consultation" if consultation else "session"
        await self.page.evaluate(CALL, [name, f"sip:{number}@127.0.0.1"])

    async def talks(self, *, consultation: bool = False) -> bool:
        name = "consultation" if consultation else "session"
        return bool(
            await self.page.evaluate(f"window.phone.{name} !== null && window.phone.{name}.isEstablished()")
        )

    async def hold(self) -> None:
        """Done when the other side has agreed."""
        await self.page.evaluate(HOLD, True)

    async def resume(self) -> None:
        await self.page.evaluate(HOLD, False)

    async def add_video(self) -> None:
        """Show the camera in a call that goes on. Done when the other side has answered the re-INVITE."""
        await self.page.evaluate(VIDEO, True)

    async def drop_video(self) -> None:
        """Neither show nor see anything any more."""
        await self.page.evaluate(VIDEO, False)

    async def transfer(self, number: str, *, attended: bool = False) -> None:
        """REFER; with Replaces for the consultation if `attended`. What comes of it: `transfers`."""
        await self.page.evaluate(REFER, [f"sip:{number}@127.0.0.1", attended])

    async def transfers(self) -> list[list[Any]]:
        """What was said of transfers: taken, refused, trying, progress, accepted or failed, each with its status."""
        said: list[list[Any]] = await self.page.evaluate("window.phone.transfers")
        return said

    async def write(self, to: str, text: str) -> None:
        """A MESSAGE; when this returns it was taken. playwright's Error if it was refused."""
        await self.page.evaluate(
            """([to, text]) => new Promise((done, failed) => window.phone.ua.sendMessage(to, text, {
                 eventHandlers: {succeeded: () => done(true), failed: ({cause}) => failed(new Error(cause))},
               }))""",
            [to, text],
        )

    async def texts(self) -> list[tuple[str, str]]:
        """(From, text) of each MESSAGE received."""
        return [tuple(text) for text in await self.page.evaluate("window.phone.texts")]
