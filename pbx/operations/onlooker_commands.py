"""`warmline sip trace` and `warmline guard`: asked of a running server through the socket in its data folder."""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from config.settings import Settings
from pbx.operations.moments import EXAMPLES, typed
from pbx.operations.onlooker_socket import socket_path

CONNECT_S = 5.0


class NotRunning(Exception):
    """Nobody answers in the data folder."""


def add_commands(commands: Any) -> None:
    """Say to argparse what there is."""
    sip = commands.add_parser("sip", help="look at SIP as it happens").add_subparsers(
        dest="sip_command", required=True, metavar="command"
    )
    trace = sip.add_parser("trace", help="a ladder of live messages; secrets are masked")
    whose = trace.add_mutually_exclusive_group()
    whose.add_argument("--contact", metavar="ID", help="only this contact's, all its legs")
    whose.add_argument("--call", metavar="CALL-ID", help="only this call's, and what belongs to it")
    whose.add_argument("--number", metavar="NUMBER", help="only calls from or to this number")
    whose.add_argument("--user", metavar="NAME", help="only what this user's phones send and get")
    trace.add_argument("--raw", action="store_true", help="whole messages")
    trace.add_argument("--texts", action="store_true", help="show what people write and dial in a call, too")
    trace.add_argument(
        "--since", metavar="WHEN", type=typed, help=f"begin with what was, as far as kept: {EXAMPLES}"
    )
    trace.add_argument("--no-follow", action="store_true", help="end after what was")
    guard = commands.add_parser("guard", help="who is being dropped, and why")
    guard.add_argument(
        "forgive", nargs="?", choices=["forgive"], help="forget what a source or an account has done"
    )
    guard.add_argument("who", nargs="?", metavar="ADDRESS", help="the address, or the account")


def trace(settings: Settings, options: argparse.Namespace) -> int:
    """Draw messages until Ctrl-C, or until the server ends."""
    from pbx.operations.ladder import ASCII, Ladder, Strokes

    since_s = max(0.0, time.time() - options.since) if options.since is not None else 0.0
    asked = {
        "command": "trace", "contact": options.contact, "call": options.call, "number": options.number,
        "user": options.user, "since": since_s, "texts": options.texts, "follow": not options.no_follow,
    }  # fmt: skip
    terminal = sys.stdout.isatty()
    ladder = Ladder(
        width=shutil.get_terminal_size((100, 24)).columns,
        colours=terminal,
        strokes=Strokes() if _takes(Strokes().right) else ASCII,
        raw=options.raw,
    )
    try:
        with answers(settings, asked) as lines:
            if terminal:
                _print("Looking on; Ctrl-C ends it.")
            for answer in lines:
                for line in ladder.lines(answer):
                    _print(line)
    except KeyboardInterrupt:
        return 0
    if options.no_follow:
        return 0
    return _complain("the server has ended, or this reader was too slow for it")


def guard(settings: Settings, options: argparse.Namespace) -> int:
    """List who is being dropped, or forgive one."""
    from pbx.operations.ladder import clean

    if options.forgive:
        if not options.who:
            return _complain("who is to be forgiven? warmline guard forgive ADDRESS")
        with answers(settings, {"command": "forgive", "who": options.who}) as lines:
            forgiven = any(answer.get("forgiven") for answer in lines)
        _print(f"{clean(options.who)}: {'forgiven' if forgiven else 'nothing to forgive'}")
        return 0 if forgiven else 1
    with answers(settings, {"command": "guard"}) as lines:
        found = list(lines)
    if not found:
        _print("Nobody is being dropped.")
    for each in found:
        why = ", ".join(f"{count} {reason}" for reason, count in each["why"].items())
        account = f"  account {each['account']}" if each["account"] else ""
        times = f"for {each['for_s']:.0f} s, last {each['last_s']:.0f} s ago"
        _print(clean(f"{each['source']:40}  {times}: {why}{account}"))
    return 0


@contextmanager
def answers(settings: Settings, asked: dict[str, Any]) -> Iterator[Iterator[dict[str, Any]]]:
    """Ask a running server; its answers, one after the other. NotRunning when there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        try:
            with socket_path(settings.data) as path:
                door.settimeout(CONNECT_S)
                door.connect(path)
        except PermissionError as error:
            raise NotRunning(
                f"{settings.data} is another user's: ask as the user the server runs as"
            ) from error
        except OSError as error:
            raise NotRunning(f"no server is running with the data folder {settings.data}") from error
        door.settimeout(None)
        door.sendall(json.dumps(asked).encode("ascii") + b"\n")
        with door.makefile("rb") as lines:
            yield _read(lines)


def _read(lines: Any) -> Iterator[dict[str, Any]]:
    for line in lines:
        answer = json.loads(line)
        if "error" in answer:
            raise NotRunning(str(answer["error"]))
        yield answer


def _takes(character: str) -> bool:
    try:
        character.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _print(line: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def _complain(why: str) -> int:
    sys.stderr.write(f"warmline: {why}\n")
    return 1
