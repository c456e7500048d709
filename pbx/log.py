"""The log of a running server: one line an event, warnings and worse with their traceback, on one stream.

A line about a contact or call ends with `contact=…` and `session=…` where the event names them, so that one word finds
it in the log, in the event log (`warmline events --session`) and in SIP (`Session-ID`, RFC 7989).
"""

from __future__ import annotations

import logging
import re
from typing import TextIO

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEventAsClassicLogText,
    globalLogBeginner,
)

CORRELATION = ("contact", "session")
# What a stranger sent may be quoted in a line; a terminal that shows the log must not obey it.
_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def start_logging(stream: TextIO) -> None:
    """From now on, Twisted's log and the standard library's warnings go to `stream`."""
    quiet = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
    # Twisted tells of every port and factory it starts; the start-up text says it once and better.
    for namespace in ("twisted", "autobahn", "klein", "log_legacy"):
        quiet.setLogLevelForNamespace(namespace, LogLevel.warn)
    observer = FilteringLogObserver(FileLogObserver(stream, line_of), [quiet])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    logging.basicConfig(stream=stream, level=logging.WARNING, format="%(asctime)s [%(name)s] %(message)s")


def line_of(event: LogEvent) -> str | None:
    """The text of a log event, with what it belongs to at the end of its first line; None when it has none."""
    text = formatEventAsClassicLogText(event)
    if text is None:
        return None
    text = _UNFIT.sub(_escaped, text)
    marks = "".join(
        f" {name}={_UNFIT.sub(_escaped, str(event[name])[:100])}"
        for name in CORRELATION
        if event.get(name) and f"{event[name]}" not in text
    )
    if not marks:
        return text
    first, end, rest = text.partition("\n")
    return f"{first}{marks}{end}{rest}"


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
