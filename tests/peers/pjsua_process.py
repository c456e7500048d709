"""One pjsua2 phone in a process of its own: `python -m tests.peers.pjsua_process SETTINGS`, told what to do over TCP.

Lines of JSON both ways: {"do": name, "token": n, …} in; {"token": n, "ok": …} or {"token": n, "error": …} and
{"event": name, …} out. When the connection ends, so does the phone. A process of its own, because pjsua2 aborts where
it fails, may be started but once, and polls.
"""

from __future__ import annotations

import ctypes
import functools
import json
import selectors
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

import pjsua2 as pj

TRANSPORTS = {
    "udp": pj.PJSIP_TRANSPORT_UDP,
    "tcp": pj.PJSIP_TRANSPORT_TCP,
    "tls": pj.PJSIP_TRANSPORT_TLS,
}
PRACK = {
    "never": pj.PJSUA_100REL_NOT_USED,
    "optional": pj.PJSUA_100REL_OPTIONAL,
    "required": pj.PJSUA_100REL_MANDATORY,
}
TIMER = {
    "never": pj.PJSUA_SIP_TIMER_INACTIVE,
    "optional": pj.PJSUA_SIP_TIMER_OPTIONAL,
    "required": pj.PJSUA_SIP_TIMER_REQUIRED,
    "always": pj.PJSUA_SIP_TIMER_ALWAYS,
}
SRTP = {
    "never": pj.PJMEDIA_SRTP_DISABLED,
    "optional": pj.PJMEDIA_SRTP_OPTIONAL,
    "required": pj.PJMEDIA_SRTP_MANDATORY,
}
HOLD = {
    pj.PJSUA_CALL_MEDIA_ACTIVE: "active",
    pj.PJSUA_CALL_MEDIA_LOCAL_HOLD: "held",
    pj.PJSUA_CALL_MEDIA_REMOTE_HOLD: "held by them",
}


def told(callback: Any) -> Any:
    """What goes wrong in a callback would be lost in the library: the test hears of it as event "failed"."""

    @functools.wraps(callback)
    def safely(self: Any, prm: Any) -> None:
        try:
            callback(self, prm)
        except Exception:
            self.phone.say("failed", why=traceback.format_exc())

    return safely


class PhoneCall(pj.Call):  # type: ignore[misc]
    def __init__(self, phone: Phone, account: pj.Account, call_id: int = pj.PJSUA_INVALID_ID) -> None:
        super().__init__(account, call_id)
        self.phone = phone
        self.number = 0
        self.recorder: pj.AudioMediaRecorder | None = None

    @told
    def onCallState(self, prm: Any) -> None:
        info = self.getInfo()
        self.phone.say(
            "call",
            call=self.number,
            state=info.stateText,
            status=int(info.lastStatusCode),
            why=info.lastReason,
        )
        if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.recorder = None
            self.phone.over.append(self.number)

    @told
    def onCallMediaState(self, prm: Any) -> None:
        info = self.getInfo()  # kept: what it holds goes with it
        for index, media in enumerate(info.media):
            if media.type != pj.PJMEDIA_TYPE_AUDIO:
                continue
            if media.status in (pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD):
                sound = self.getAudioMedia(index)
                self.phone.tone.startTransmit(sound)
                if self.recorder is None:
                    self.recorder = pj.AudioMediaRecorder()
                    self.recorder.createRecorder(str(self.phone.folder / f"heard-{self.number}.wav"))
                sound.startTransmit(self.recorder)
            self.phone.say("media", call=self.number, state=HOLD.get(media.status, "none"))

    @told
    def onDtmfDigit(self, prm: Any) -> None:
        self.phone.say("dtmf", call=self.number, digit=prm.digit)

    @told
    def onCallTransferStatus(self, prm: Any) -> None:
        self.phone.say(
            "transfer",
            call=self.number,
            status=int(prm.statusCode),
            why=prm.reason,
            final=bool(prm.finalNotify),
        )

    @told
    def onCallReplaced(self, prm: Any) -> None:
        self.phone.say("replaced", call=self.number, by=prm.newCallId)

    @told
    def onInstantMessage(self, prm: Any) -> None:
        self.phone.say("text", from_=prm.fromUri, text=prm.msgBody, type=prm.contentType)


class PhoneAccount(pj.Account):  # type: ignore[misc]
    def __init__(self, phone: Phone) -> None:
        super().__init__()
        self.phone = phone

    @told
    def onRegState(self, prm: Any) -> None:
        self.phone.say("registered", status=int(prm.code), why=prm.reason, expires=prm.expiration)

    @told
    def onIncomingCall(self, prm: Any) -> None:
        call = PhoneCall(self.phone, self, prm.callId)
        number = self.phone.keep(call)
        self.phone.say("incoming", call=number, message=prm.rdata.wholeMsg)
        if self.phone.settings["answer"] == "auto":
            self.phone.answer(number)
        else:
            self.phone.answer(number, 180)

    @told
    def onInstantMessage(self, prm: Any) -> None:
        self.phone.say("text", from_=prm.fromUri, text=prm.msgBody, type=prm.contentType)

    @told
    def onInstantMessageStatus(self, prm: Any) -> None:
        self.phone.say("sent", text=prm.msgBody, status=int(prm.code), why=prm.reason)


class Phone:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.folder = Path(settings["folder"])
        self.calls: dict[int, PhoneCall] = {}
        self.over: list[int] = []
        self._last = 0
        self._socket = socket.create_connection(("127.0.0.1", settings["control_port"]))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._buffer = b""
        self._leaving = False
        self.endpoint = pj.Endpoint()
        self.account = PhoneAccount(self)
        self._buddies: dict[str, pj.Buddy] = {}

    def say(self, event: str, **facts: object) -> None:
        self._write({"event": event, **{name.rstrip("_"): value for name, value in facts.items()}})

    def _write(self, item: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(item).encode() + b"\n")

    def keep(self, call: PhoneCall) -> int:
        self._last += 1
        call.number = self._last
        self.calls[call.number] = call
        return call.number

    # What can be done

    def call(self, to: str) -> int:
        call = PhoneCall(self, self.account)
        number = self.keep(call)
        call.makeCall(to, pj.CallOpParam(True))
        return number

    def answer(self, call: int, status: int = 200) -> None:
        parameters = pj.CallOpParam(True)
        parameters.statusCode = status
        self.calls[call].answer(parameters)

    def hang_up(self, call: int, status: int = 0) -> None:
        parameters = pj.CallOpParam(True)
        parameters.statusCode = status
        self.calls[call].hangup(parameters)

    def hang_up_all(self) -> None:
        self.endpoint.hangupAllCalls()

    def hold(self, call: int) -> None:
        self.calls[call].setHold(pj.CallOpParam(True))

    def resume(self, call: int) -> None:
        parameters = pj.CallOpParam(True)
        parameters.opt.flag = pj.PJSUA_CALL_UNHOLD
        self.calls[call].reinvite(parameters)

    def update(self, call: int) -> None:
        self.calls[call].update(pj.CallOpParam(True))

    def transfer(self, call: int, to: str) -> None:
        self.calls[call].xfer(to, pj.CallOpParam(True))

    def join(self, call: int, other: int) -> None:
        """Attended transfer: the party of `call` takes the place of ours in `other`."""
        self.calls[call].xferReplaces(self.calls[other], pj.CallOpParam(True))

    def text(self, to: str, text: str) -> None:
        buddy = self._buddies.get(to)
        if buddy is None:
            config = pj.BuddyConfig()
            config.uri = to
            config.subscribe = False
            buddy = self._buddies[to] = pj.Buddy()
            buddy.create(self.account, config)
        parameters = pj.SendInstantMessageParam()
        parameters.content = text
        parameters.contentType = "text/plain"
        buddy.sendInstantMessage(parameters)

    def digits(self, call: int, digits: str, info: bool = False) -> None:
        if info:
            parameters = pj.CallSendDtmfParam()
            parameters.method = pj.PJSUA_DTMF_METHOD_SIP_INFO
            parameters.digits = digits
            self.calls[call].sendDtmf(parameters)
        else:
            self.calls[call].dialDtmf(digits)

    def received(self, call: int) -> int:
        """RTP packets that have come in this call, as its stream counts them."""
        return int(self.calls[call].getStreamStat(0).rtcp.rxStat.pkt)

    def leave(self) -> None:
        self._leaving = True

    # Its life

    def run(self) -> None:
        self._open()
        libc = ctypes.CDLL(None)
        while not self._leaving:
            self.endpoint.libHandleEvents(10)
            libc.fflush(None)  # its log is read while it is written
            for number in self.over:  # not within the callback that said so: it is the call's own
                self.calls.pop(number, None)
            self.over.clear()
            if self._selector.select(0) and not self._read():
                break
        self.calls.clear()
        self._buddies.clear()
        self.account.shutdown()
        # Whatever of the library's is left when Python takes itself down would abort the process.
        del self.tone, self.account
        self.endpoint.libDestroy()

    def _open(self) -> None:
        s = self.settings
        self.endpoint.libCreate()
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.maxCalls = 4
        config.uaConfig.userAgent = "pjsua2"
        config.logConfig.level = 5
        config.logConfig.consoleLevel = 0
        config.logConfig.filename = str(self.folder / "sip.log")
        config.medConfig.noVad = True
        self.endpoint.libInit(config)
        transport = pj.TransportConfig()
        transport.boundAddress = "127.0.0.1"
        transport.port = s["port"]
        if s["transport"] == "tls":
            transport.tlsConfig.CaListFile = s["authority"]
            transport.tlsConfig.verifyServer = True
        self.endpoint.transportCreate(TRANSPORTS[s["transport"]], transport)
        self.endpoint.audDevManager().setNullDev()
        self.endpoint.libStart()
        for codec in self.endpoint.codecEnum2():
            self.endpoint.codecSetPriority(codec.codecId, 200 if codec.codecId in s["codecs"] else 0)
        self.tone = pj.ToneGenerator()
        self.tone.createToneGenerator()
        sine = pj.ToneDesc()
        sine.freq1, sine.freq2, sine.on_msec, sine.off_msec = s["tone"], 0, 1000, 0
        tones = pj.ToneDescVector()
        tones.append(sine)
        self.tone.play(tones, True)
        self.account.create(self._account_config())

    def _account_config(self) -> pj.AccountConfig:
        s = self.settings
        account = pj.AccountConfig()
        account.idUri = s["address"]
        account.regConfig.registrarUri = s["server"]
        account.regConfig.timeoutSec = 120
        account.regConfig.registerOnAdd = s["register"]
        if s["push"]:
            account.regConfig.contactUriParams = f";{s['push']}"
        account.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", s["user"], 0, s["password"]))
        account.sipConfig.proxies.append(f"{s['server']};lr")
        account.callConfig.prackUse = PRACK[s["prack"]]
        account.callConfig.timerUse = TIMER[s["timer"]]
        account.callConfig.timerSessExpiresSec = s["session_expires"]
        account.mediaConfig.srtpUse = SRTP[s["srtp"]]
        account.mediaConfig.srtpSecureSignaling = int(s["transport"] == "tls")
        account.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
        account.mediaConfig.transportConfig.port = s["rtp_port"]
        account.mediaConfig.transportConfig.portRange = 98
        return account

    def _read(self) -> bool:
        data = self._socket.recv(65536)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._do(json.loads(line))
        return bool(data)

    def _do(self, item: dict[str, Any]) -> None:
        token, name = item.pop("token"), item.pop("do")
        try:
            self._write({"token": token, "ok": getattr(self, name)(**item)})
        except pj.Error as error:
            self._write({"token": token, "error": f"{error.status} {error.reason}"})
        except KeyError as error:
            self._write({"token": token, "error": f"there is no call {error}"})


if __name__ == "__main__":
    Phone(json.loads(Path(sys.argv[1]).read_text())).run()
