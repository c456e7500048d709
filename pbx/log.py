"""The log of a running server: one line an event, warnings and worse with their traceback, on one stream."""

from __future__ import annotations

import logging
from typing import TextIO

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    formatEventAsClassicLogText,
    globalLogBeginner,
)


def start_logging(stream: TextIO, level: LogLevel = LogLevel.info) -> None:
    """From now on, Twisted's log and the standard library's warnings go to `stream`."""
    quiet = LogLevelFilterPredicate(defaultLogLevel=level)
    # Twisted tells of every port and factory it starts; the start-up text says it once and better.
    for namespace in ("twisted", "autobahn", "klein", "log_legacy"):
        quiet.setLogLevelForNamespace(namespace, LogLevel.warn)
    observer = FilteringLogObserver(FileLogObserver(stream, formatEventAsClassicLogText), [quiet])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    logging.basicConfig(stream=stream, level=logging.WARNING, format="%(asctime)s [%(name)s] %(message)s")
