"""The media process.

python -m media --control-fd 3 --ports 30000-30999 --host 127.0.0.1 --public 127.0.0.1 --prompts DIR
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from config.errors import OurError, TheirError, WarmlineError
from media.conferences import MIXER
from media.control import Framed
from media.prompts import NAMES, Prompts
from media.relay import Relay
from media.server import SILENCE_S, Profile

# By then whoever starts a server has seen it work, and those it was started for are not yet many.
REST_S = 30.0


class Control(Framed):
    """The one connection to the server; when it ends, so does everything here."""

    def __init__(self, ended: Callable[[], None]) -> None:
        super().__init__()
        self._ended = ended
        self._methods: dict[str, Callable[..., Any]] = {}
        self._under_way: set[asyncio.Task[Any]] = set()
        self._held: list[list[Any]] | None = None
        self._take_packets: Callable[[], None] = lambda: None

    def serve(self, relay: Relay) -> None:
        self._take_packets = relay.take_packets
        self._methods = {
            "answer": relay.answer,
            "answer_joined": relay.answer_joined,
            "offer": lambda call, branch, profile, **wishes: relay.offer(
                call, branch, profile=Profile(profile), **wishes
            ),
            "accept": relay.accept,
            "seen_at": relay.seen_at,
            "compatible": relay.compatible,
            "play": relay.play,
            "stop": relay.stop,
            "keys": relay.keys,
            "join": relay.join,
            "join_alike": relay.join_alike,
            "confer": relay.confer,
            "record": relay.record,
            "stop_recording": relay.stop_recording,
            "tap": relay.tap,
            "pause_tap": relay.pause_tap,
            "end_tap": relay.end_tap,
            "part": relay.part,
            "drop": relay.drop,
            "delete": relay.delete,
            "stats": relay.stats,
            "behind": relay.behind,
        }
        self.say([0, "ready"])

    def message(self, message: list[Any]) -> None:
        if self._held is not None:
            self._held.append(message)
            return
        number, method, arguments, keywords = message
        if method == "confer" and MIXER not in sys.modules:
            # Codecs take a while to load, and only packets need not wait for them.
            self._held = [message]
            loop = asyncio.get_running_loop()
            loop.run_in_executor(None, importlib.import_module, MIXER).add_done_callback(self._loaded)
            return
        try:
            result = self._methods[method](*arguments, **keywords)
        except Exception as error:
            self._failed(number, error)
        else:
            if isinstance(result, Coroutine):
                work = asyncio.get_running_loop().create_task(result)
                self._under_way.add(work)
                work.add_done_callback(partial(self._done, number))
            else:
                self.say([number, "ok", result])
        self._take_packets()

    def _loaded(self, loading: asyncio.Future[Any]) -> None:
        """What was asked meanwhile is done in the order it came."""
        held, self._held = self._held or [], None
        if error := loading.exception():
            self._failed(held.pop(0)[0], error)
        for message in held:
            self.message(message)

    def _done(self, number: int, work: asyncio.Task[Any]) -> None:
        self._under_way.discard(work)
        if work.cancelled():
            return
        error = work.exception()
        if error is not None:
            self._failed(number, error)
        else:
            self.say([number, "ok", work.result()])

    def _failed(self, number: int, error: BaseException) -> None:
        if isinstance(error, WarmlineError):
            family = "their" if isinstance(error, TheirError) else "our"
            self.say([number, family, error.reason, error.status])
        else:  # a defect in one request must not end the calls of all the others
            traceback.print_exception(error)
            self.say([number, "our", "The media server failed", 500])

    def gone(self, call: str, branch: str, why: str) -> None:
        self.say([0, "gone", call, branch, why])

    def keys(self, call: str, branch: str, key: str) -> None:
        self.say([0, "keys", call, branch, key])

    def recorded(self, call: str, branch: str, why: str, seconds: float) -> None:
        self.say([0, "recorded", call, branch, why, seconds])

    def tapped(self, call: str, why: str, seconds: float) -> None:
        self.say([0, "tapped", call, why, seconds])

    def transcoding(self, call: str, branch: str, other: str) -> None:
        self.say([0, "transcoding", call, branch, other], patient=True)

    def quality(self, call: str, branch: str, what: str, qualities: dict[str, Any]) -> None:
        self.say([0, "quality", call, branch, what, qualities], patient=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m media", description=__doc__)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--ports", required=True, help="FIRST-LAST; the first serves all browsers")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument(
        "--public", default="", help="the address to announce, or one of each family after a comma"
    )
    parser.add_argument("--silence", type=float, default=SILENCE_S, help="seconds; 0 = for ever")
    parser.add_argument("--prompts", type=Path, required=True)
    return parser.parse_args(argv)


def make_rest(prompts: Prompts) -> None:
    """Those prompts that nobody has wanted yet, so that nobody waits for them later."""
    try:
        prompts.make(NAMES, gently=True)
    except OurError as error:
        if not prompts.closed:
            sys.stderr.write(f"media: {error}\n")


def _address(name: str) -> str:
    return name if ":" in name else socket.gethostbyname(name)


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    first, _, last = options.ports.partition("-")
    control = Control(over.set)
    prompts = Prompts(options.prompts)
    prompts.make()
    try:
        relay = Relay(
            loop,
            host=options.host,
            # ICE candidates and c= lines are addresses, whatever the settings call the machine.
            public=",".join(map(_address, (options.public or options.host).split(","))),
            ports=(int(first), int(last)),
            prompts=prompts,
            on_gone=control.gone,
            on_keys=control.keys,
            on_recorded=control.recorded,
            on_tapped=control.tapped,
            on_quality=control.quality,
            on_transcoding=control.transcoding,
            silence_s=options.silence,
        )
    except OSError as error:
        raise OurError(
            f"UDP port {first} (of WARMLINE_RTP_PORTS) cannot be used: {error.strerror}. Is another copy running? "
            "Each needs ports of its own: WARMLINE_HTTP_PORT, WARMLINE_HTTPS_PORT, WARMLINE_SIP_PORT, "
            "WARMLINE_SIPS_PORT, WARMLINE_RTP_PORTS",
            503,
        ) from None
    with socket.socket(fileno=options.control_fd) as sock:
        sock.setblocking(False)
        await loop.create_unix_connection(lambda: control, sock=sock)
        control.serve(relay)
        # What is there now stays: collections that walk it over and over would delay packets for nothing.
        gc.collect()
        gc.freeze()
        # What is new is looked at in small portions: packets wait meanwhile. Calls leave no rings for it to find.
        gc.set_threshold(2_000, 5, 200)
        rest = loop.call_later(REST_S, loop.run_in_executor, None, make_rest, prompts)
        await over.wait()
    rest.cancel()
    prompts.close()
    await relay.finish_recordings()
    relay.close()


def main() -> None:
    # The server decides when calls end, and closes the connection when it is done or dead. A terminal's ^C, and the end
    # of a service, are told to all of its processes at once.
    for signal_of_others in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_of_others, signal.SIG_IGN)
    options = arguments(sys.argv[1:])
    try:
        with contextlib.suppress(ImportError):
            import uvloop

            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(serve(options))
    except (OurError, OSError) as error:
        sys.exit(f"media: {error}")


if __name__ == "__main__":
    main()
