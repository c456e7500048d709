"""The media process.

python -m media --control-fd 3 --ports 30000-30999 --host 127.0.0.1 --public 127.0.0.1 --prompts DIR
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from config.errors import OurError, TheirError, WarmlineError
from media.control import Framed
from media.prompts import Prompts
from media.relay import Relay
from media.server import Profile


class Control(Framed):
    """The one connection to the server; when it ends, so does everything here."""

    def __init__(self, ended: Callable[[], None]) -> None:
        super().__init__()
        self._ended = ended
        self._methods: dict[str, Callable[..., Any]] = {}

    def serve(self, relay: Relay) -> None:
        self._methods = {
            "answer": relay.answer,
            "answer_joined": relay.answer_joined,
            "offer": lambda call, branch, profile, like, kinds: relay.offer(
                call, branch, profile=Profile(profile), like=like, kinds=kinds
            ),
            "accept": relay.accept,
            "compatible": relay.compatible,
            "play": relay.play,
            "stop": relay.stop,
            "keys": relay.keys,
            "join": relay.join,
            "part": relay.part,
            "drop": relay.drop,
            "delete": relay.delete,
            "stats": relay.stats,
        }
        self.say([0, "ready"])

    def message(self, message: list[Any]) -> None:
        number, method, arguments, keywords = message
        try:
            result = self._methods[method](*arguments, **keywords)
        except TheirError as error:
            self.say([number, "their", error.reason, error.status])
        except WarmlineError as error:
            self.say([number, "our", error.reason, error.status])
        except Exception:  # a defect in one request must not end the calls of all the others
            traceback.print_exc()
            self.say([number, "our", "The media server failed", 500])
        else:
            self.say([number, "ok", result])

    def gone(self, call: str, branch: str, why: str) -> None:
        self.say([0, "gone", call, branch, why])

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m media", description=__doc__)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--ports", required=True, help="FIRST-LAST; the first serves all browsers")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--public", default="", help="the address to announce")
    parser.add_argument("--prompts", type=Path, required=True)
    return parser.parse_args(argv)


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
            public=socket.gethostbyname(options.public or options.host),
            ports=(int(first), int(last)),
            prompts=prompts,
            on_gone=control.gone,
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
        gc.set_threshold(10_000)
        await over.wait()
    relay.close()


def main() -> None:
    # The server decides when calls end; it is told first and closes the connection when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
